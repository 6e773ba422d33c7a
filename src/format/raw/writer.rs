//! Writes a raw disk: what is zero stays a hole.

use crate::fault::Fault;
use crate::format::Wish;
use crate::format::flat::{FlatPlacer, TEST_UNIT};
use crate::image::{Encoder, Facts, Order, Placer, Plan, PlannedFile, Writer};

/// A writer for a disk of these facts.
pub fn writer(facts: &Facts, wish: &Wish) -> Result<Box<dyn Writer>, Fault> {
    Ok(Box::new(RawWriter {
        plan: Plan {
            files: vec![PlannedFile { suffix: None, len: Some(facts.virtual_size) }],
            virtual_size: facts.virtual_size,
            place_unit: TEST_UNIT,
            test_unit: TEST_UNIT,
            order: if wish.stream { Order::Stream } else { Order::Free },
            holes: !wish.preallocate && !wish.stream,
            decisions: Vec::new(),
            notes: Vec::new(),
        },
    }))
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
