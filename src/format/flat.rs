//! The placer of outputs that are the guest's bytes in a row: raw disks, flat extents.

use std::ops::Range;

use crate::fault::Fault;
use crate::format::Wish;
use crate::image::{Facts, Order, Placer, Plan, PlannedFile, Seen, Verdict, Writes};
use crate::io::in_memory;

/// Zeroes are left out in stretches of this many bytes: a page of every file system.
pub const TEST_UNIT: u64 = 4096;

/// The plan of a disk in one file, which with what stands behind the guest's bytes is `len` bytes long.
pub fn in_one_file(facts: &Facts, wish: &Wish, len: u64) -> Plan {
    Plan {
        files: vec![PlannedFile { suffix: None, len: Some(len) }],
        virtual_size: facts.virtual_size,
        place_unit: TEST_UNIT,
        test_unit: TEST_UNIT,
        order: if wish.stream { Order::Stream } else { Order::Free },
        holes: !wish.preallocate && !wish.stream,
        decisions: Vec::new(),
        notes: Vec::new(),
    }
}

/// Places each byte at its own offset in a file, or in one of several as long as each other; keeps no state, so that every thread may
/// have one.
pub struct FlatPlacer {
    /// Index of the first file in the plan; the others follow it.
    pub file: usize,
    /// Size of the disk in bytes.
    pub virtual_size: u64,
    /// Bytes of a file that is not the last; a multiple of the test unit.
    pub piece: u64,
}

impl FlatPlacer {
    /// For a disk in one file.
    pub fn whole(file: usize, virtual_size: u64) -> FlatPlacer {
        FlatPlacer { file, virtual_size, piece: u64::MAX }
    }

    /// File and byte of a guest byte.
    fn place_of(&self, guest: u64) -> (usize, u64) {
        (self.file.saturating_add(in_memory(guest / self.piece)), guest % self.piece)
    }

    fn zero(&self, guest: Range<u64>, out: &mut Writes) {
        let mut start = guest.start;
        while start < guest.end {
            let (file, at) = self.place_of(start);
            let len = (self.piece - at).min(guest.end - start);
            out.zero(file, at, len);
            start += len;
        }
    }
}

impl Placer for FlatPlacer {
    fn begin(&mut self, _out: &mut Writes) -> Result<(), Fault> {
        Ok(())
    }

    fn place(&mut self, guest: Range<u64>, seen: Seen<'_>, out: &mut Writes) -> Result<(), Fault> {
        let verdicts = match seen {
            Seen::Units { verdicts, .. } => verdicts,
            Seen::Gap(Verdict::Zero) => {
                self.zero(guest, out);
                return Ok(());
            }
            Seen::Gap(_) => return Err(Fault::bug("a gap that is not zero in a flat output")),
        };
        let mut start = guest.start;
        for verdict in verdicts {
            let end = (start + TEST_UNIT).min(guest.end).min(self.virtual_size);
            let (file, at) = self.place_of(start);
            match verdict {
                Verdict::Data => out.guest(file, at, start..end),
                Verdict::Zero => out.zero(file, at, end - start),
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
