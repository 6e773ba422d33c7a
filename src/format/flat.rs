//! The placer of outputs that are the guest's bytes in a row: raw disks, flat extents.

use std::ops::Range;

use crate::fault::Fault;
use crate::image::{Placer, Seen, Verdict, Writes};

/// Zeroes are left out in stretches of this many bytes: a page of every file system.
pub const TEST_UNIT: u64 = 4096;

/// Places each byte at its own offset in one file; keeps no state, so that every thread may have one.
pub struct FlatPlacer {
    /// Index of the file in the plan.
    pub file: usize,
    /// Size of the disk in bytes.
    pub virtual_size: u64,
}

impl Placer for FlatPlacer {
    fn begin(&mut self, _out: &mut Writes) -> Result<(), Fault> {
        Ok(())
    }

    fn place(&mut self, guest: Range<u64>, seen: Seen<'_>, out: &mut Writes) -> Result<(), Fault> {
        let verdicts = match seen {
            Seen::Units { verdicts, .. } => verdicts,
            Seen::Gap(Verdict::Zero) => {
                out.zero(self.file, guest.start, guest.end - guest.start);
                return Ok(());
            }
            Seen::Gap(_) => return Err(Fault::bug("a gap that is not zero in a flat output")),
        };
        let mut start = guest.start;
        for verdict in verdicts {
            let end = (start + TEST_UNIT).min(guest.end).min(self.virtual_size);
            match verdict {
                Verdict::Data => out.guest(self.file, start, start..end),
                Verdict::Zero => out.zero(self.file, start, end - start),
                Verdict::Same => return Err(Fault::bug("a flat output has no base")),
            }
            start = end;
        }
        Ok(())
    }

    fn finish(&mut self, _out: &mut Writes) -> Result<(), Fault> {
        Ok(())
    }
}
