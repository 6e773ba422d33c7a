//! Writes fixed VHDs: the guest's bytes in a row, and the footer.

use std::ops::Range;

use super::footer::{self, DiskType, NewFooter};
use crate::fault::Fault;
use crate::format::Wish;
use crate::format::flat::{self, FlatPlacer};
use crate::image::{Encoder, Facts, Placer, Plan, Seen, Writer, Writes};

/// The one file.
const FILE: usize = 0;

/// A writer for a disk of these facts.
pub fn writer(facts: &Facts, wish: &Wish) -> Result<Box<dyn Writer>, Fault> {
    super::refuse_what_cannot_be_held(facts, &wish.output)?;
    let footer = NewFooter {
        data_offset: u64::MAX,
        time_stamp: footer::time_stamp(wish.time),
        size: facts.virtual_size,
        disk_type: DiskType::Fixed,
        unique_id: wish.identifiers.uuid,
    };
    Ok(Box::new(Fixed {
        plan: flat::in_one_file(facts, wish, facts.virtual_size + footer::LEN as u64),
        footer: footer.to_bytes(),
    }))
}

struct Fixed {
    plan: Plan,
    footer: [u8; footer::LEN],
}

impl Writer for Fixed {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn placer(&self) -> Box<dyn Placer> {
        let data = FlatPlacer::whole(FILE, self.plan.virtual_size);
        Box::new(WithFooter { data, footer: self.footer })
    }

    fn encoder(&self) -> Option<Box<dyn Encoder>> {
        None
    }
}

struct WithFooter {
    data: FlatPlacer,
    footer: [u8; footer::LEN],
}

impl Placer for WithFooter {
    fn begin(&mut self, out: &mut Writes) -> Result<(), Fault> {
        self.data.begin(out)
    }

    fn place(&mut self, guest: Range<u64>, seen: Seen<'_>, out: &mut Writes) -> Result<(), Fault> {
        self.data.place(guest, seen, out)
    }

    fn finish(&mut self, out: &mut Writes) -> Result<(), Fault> {
        self.data.finish(out)?;
        out.seal(FILE, self.data.virtual_size, self.footer.to_vec());
        Ok(())
    }
}
