//! The contract of [`Layer::run_at`], held to in one place for every reader, in tests and in fuzzing.

use super::{Here, Layer, Run, Unpack};
use crate::fault::Fault;

/// A layer that panics where the layer inside breaks the contract.
pub struct Contract<L>(pub L);

impl<L: Layer> Layer for Contract<L> {
    fn guest_len(&self) -> u64 {
        self.0.guest_len()
    }

    fn run_at(&self, from: u64, limit: u64) -> Result<Run, Fault> {
        assert!(from < limit && limit <= self.0.guest_len(), "asked for {from}..{limit} of {}", self.0.guest_len());
        assert!(self.0.guest_len().is_multiple_of(512), "a layer is whole sectors long");
        let run = self.0.run_at(from, limit)?;
        assert_eq!(run.guest.start, from, "a run begins where it was asked for: {run:?}");
        assert!(!run.is_empty(), "a run is never empty: {run:?}");
        assert!(run.guest.end <= limit, "a run never passes its limit {limit}: {run:?}");
        if let Here::Packed { unit, skip, .. } = run.here {
            assert!(skip + run.len() <= unit, "a packed run lies within its unit: {run:?}");
        }
        Ok(run)
    }

    fn walked(&self) -> Result<(), Fault> {
        self.0.walked()
    }

    fn unpacker(&self) -> Option<Box<dyn Unpack>> {
        self.0.unpacker()
    }
}

impl<L: Layer + ?Sized> Layer for std::sync::Arc<L> {
    fn guest_len(&self) -> u64 {
        (**self).guest_len()
    }

    fn run_at(&self, from: u64, limit: u64) -> Result<Run, Fault> {
        (**self).run_at(from, limit)
    }

    fn walked(&self) -> Result<(), Fault> {
        (**self).walked()
    }

    fn unpacker(&self) -> Option<Box<dyn Unpack>> {
        (**self).unpacker()
    }
}
