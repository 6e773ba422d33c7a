//! Writes monolithicFlat: a descriptor, and the guest's bytes in a file beside it.

use std::ops::Range;

use super::descriptor::{Descriptor, name_beside};
use crate::fault::Fault;
use crate::format::Wish;
use crate::format::flat::{FlatPlacer, TEST_UNIT};
use crate::image::{Encoder, Facts, Order, Placer, Plan, PlannedFile, SECTOR, Seen, Writer, Writes};

/// What the extent's file is called: the stem of OUTPUT and this.
const SUFFIX: &str = "-flat.vmdk";
/// Index of the extent in the plan's files.
const EXTENT: usize = 0;
/// Index of the descriptor: the last, as it names the other.
const DESCRIPTOR: usize = 1;

/// A writer for a disk of these facts.
pub fn writer(facts: &Facts, wish: &Wish) -> Result<Box<dyn Writer>, Fault> {
    let capacity = super::capacity(facts, &wish.output)?;
    // The offset is mandatory for FLAT: QEMU refuses the line without it.
    let extent = format!("RW {capacity} FLAT \"{}\" 0", name_beside(wish, SUFFIX)?);
    let descriptor = Descriptor::hosted("monolithicFlat", capacity, extent, facts, wish);
    let plan = Plan {
        files: vec![
            PlannedFile { suffix: Some(SUFFIX.into()), len: Some(capacity * SECTOR) },
            PlannedFile { suffix: None, len: None },
        ],
        virtual_size: facts.virtual_size,
        place_unit: TEST_UNIT,
        test_unit: TEST_UNIT,
        order: Order::Free,
        holes: !wish.preallocate,
        decisions: descriptor.decisions(),
    };
    Ok(Box::new(Flat { plan, descriptor: descriptor.text() }))
}

struct Flat {
    plan: Plan,
    descriptor: String,
}

impl Writer for Flat {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn placer(&self) -> Box<dyn Placer> {
        let extent = FlatPlacer { file: EXTENT, virtual_size: self.plan.virtual_size };
        Box::new(WithDescriptor { extent, descriptor: self.descriptor.clone() })
    }

    fn encoder(&self) -> Option<Box<dyn Encoder>> {
        None
    }
}

struct WithDescriptor {
    extent: FlatPlacer,
    descriptor: String,
}

impl Placer for WithDescriptor {
    fn begin(&mut self, out: &mut Writes) -> Result<(), Fault> {
        self.extent.begin(out)
    }

    fn place(&mut self, guest: Range<u64>, seen: Seen<'_>, out: &mut Writes) -> Result<(), Fault> {
        self.extent.place(guest, seen, out)
    }

    fn finish(&mut self, out: &mut Writes) -> Result<(), Fault> {
        self.extent.finish(out)?;
        out.seal(DESCRIPTOR, 0, self.descriptor.clone().into_bytes());
        Ok(())
    }
}
