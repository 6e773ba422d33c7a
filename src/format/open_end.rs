//! Writes a disk whose size is known at its end alone.

use super::{MakeWriter, Wish};
use crate::fault::Fault;
use crate::image::{Encoder, Facts, Placer, Plan, Writer};

/// A writer for up to so many bytes, which is made again when they have been counted. For variants whose placers keep no state, and
/// whose places do not depend on the disk's size ([`Takes::OpenEnd`](super::Takes::OpenEnd)).
pub struct OpenEnd<'a> {
    facts: Facts,
    wish: &'a Wish,
    make: MakeWriter,
    inner: Box<dyn Writer>,
    plan: Plan,
}

impl<'a> OpenEnd<'a> {
    /// `facts` have the most that can be written as their size.
    pub fn new(facts: &Facts, wish: &'a Wish, make: MakeWriter) -> Result<OpenEnd<'a>, Fault> {
        let inner = make(facts, wish)?;
        let mut plan = inner.plan().clone();
        plan.files.iter_mut().for_each(|file| file.len = None);
        Ok(OpenEnd { facts: facts.clone(), wish, make, inner, plan })
    }
}

impl Writer for OpenEnd<'_> {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn placer(&self) -> Box<dyn Placer> {
        self.inner.placer()
    }

    fn encoder(&self) -> Option<Box<dyn Encoder>> {
        self.inner.encoder()
    }

    fn has_open_end(&self) -> bool {
        true
    }

    fn settled(&self, size: u64) -> Result<Option<Box<dyn Writer>>, Fault> {
        (self.make)(&Facts { virtual_size: size, ..self.facts.clone() }, self.wish).map(Some)
    }
}
