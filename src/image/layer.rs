//! One image of a chain, as a map of runs.

use super::Run;
use crate::fault::Fault;
use crate::io::FileId;

/// One image of a chain. No method has a default body: a forgotten one would be wrong data.
pub trait Layer: Send + Sync {
    /// Length of the layer's disk in bytes, a whole number of 512-byte sectors.
    fn guest_len(&self) -> u64;

    /// The run that holds `from`, cut to `from..limit`.
    ///
    /// `from < limit <= guest_len()`. The answer begins at `from`, is not empty and ends at `limit` at the latest. A call looks at
    /// one table (with its copy) at most and reads no guest data. What the tables say wrongly, and what of them
    /// the medium does not give, is a run that is `Lost`; an error is any other refusal of the system's.
    fn run_at(&self, from: u64, limit: u64) -> Result<Run, Fault>;

    /// A walk over the whole disk has come to its end: what only that tells, and nobody who looks at a single place pays for, is told
    /// now. May be called more than once.
    fn walked(&self) -> Result<(), Fault>;

    /// A decoder for a worker of its own; `None` where a layer has no packed runs.
    fn unpacker(&self) -> Option<Box<dyn Unpack>>;
}

/// Decodes packed units. A worker owns one and may keep what it decoded last.
pub trait Unpack: Send {
    /// Decodes the unit whose marker is at byte `at` of `file` into `out`, which is exactly one unit long. `unit_start` is the guest
    /// offset of the unit, which the marker must confirm.
    fn unpack(&mut self, file: FileId, at: u64, unit_start: u64, out: &mut [u8]) -> Result<(), Fault>;

    /// The packed bytes of the unit that was unpacked last, without what stands in front of them.
    fn packed(&self) -> &[u8];
}
