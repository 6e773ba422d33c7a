//! Writes a raw disk: what is zero stays a hole.

use crate::fault::Fault;
use crate::format::Wish;
use crate::format::flat::{self, FlatPlacer};
use crate::image::{Encoder, Facts, Placer, Plan, Writer};

/// A writer for a disk of these facts.
pub fn writer(facts: &Facts, wish: &Wish) -> Result<Box<dyn Writer>, Fault> {
    Ok(Box::new(RawWriter { plan: flat::in_one_file(facts, wish, facts.virtual_size) }))
}

struct RawWriter {
    plan: Plan,
}

impl Writer for RawWriter {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn placer(&self) -> Box<dyn Placer> {
        Box::new(FlatPlacer::whole(0, self.plan.virtual_size))
    }

    fn encoder(&self) -> Option<Box<dyn Encoder>> {
        None
    }
}
