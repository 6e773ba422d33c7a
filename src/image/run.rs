//! A run: a stretch of the guest and where one layer keeps it.

use std::ops::Range;

use crate::fault::Fault;
use crate::io::FileId;

/// Where the bytes of a run are.
#[derive(Debug, Clone)]
pub enum Here {
    /// Not in this layer: ask the parent, or zero where there is none.
    Absent,
    /// Zero, whatever the parent holds.
    Zero,
    /// Stored as they are, from byte `at` of `file`.
    Plain {
        /// The file.
        file: FileId,
        /// Byte offset of the run's first byte.
        at: u64,
    },
    /// Inside an encoded unit: decode the unit whose marker stands at `at`, then take what begins `skip` bytes into it.
    Packed {
        /// The file.
        file: FileId,
        /// Byte offset of the unit's marker.
        at: u64,
        /// Length of the decoded unit in bytes.
        unit: u64,
        /// Decoded bytes before the run's first byte.
        skip: u64,
    },
    /// Belongs to this layer and cannot be had. Never falls through to the parent: older data that looks right is worse than none.
    Lost(Fault),
}

/// A stretch of the guest, in bytes, that one layer keeps in one way.
#[derive(Debug, Clone)]
pub struct Run {
    /// The guest bytes.
    pub guest: Range<u64>,
    /// Where they are.
    pub here: Here,
}

impl Run {
    /// A run of `guest` bytes.
    pub fn new(guest: Range<u64>, here: Here) -> Run {
        Run { guest, here }
    }

    /// The part of the run inside `window`, or `None` where they do not meet. The one place where `at` and `skip` move.
    pub fn cut(&self, window: &Range<u64>) -> Option<Run> {
        let start = self.guest.start.max(window.start);
        let end = self.guest.end.min(window.end);
        if start >= end {
            return None;
        }
        let moved = start - self.guest.start;
        let here = match &self.here {
            Here::Plain { file, at } => Here::Plain { file: *file, at: at + moved },
            Here::Packed { file, at, unit, skip } => {
                Here::Packed { file: *file, at: *at, unit: *unit, skip: skip + moved }
            }
            other => other.clone(),
        };
        Some(Run { guest: start..end, here })
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.guest.end - self.guest.start
    }

    /// True for what the contract forbids.
    pub fn is_empty(&self) -> bool {
        self.guest.start >= self.guest.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting_moves_the_place_of_plain_and_the_skip_of_packed() {
        let plain = Run::new(1000..5000, Here::Plain { file: FileId(0), at: 70_000 });
        let part = plain.cut(&(1500..2000)).unwrap();
        assert_eq!(part.guest, 1500..2000);
        assert!(matches!(part.here, Here::Plain { at: 70_500, .. }));
        let packed = Run::new(65_536..131_072, Here::Packed { file: FileId(0), at: 512, unit: 65_536, skip: 0 });
        let part = packed.cut(&(66_048..1 << 40)).unwrap();
        assert_eq!(part.guest, 66_048..131_072);
        assert!(matches!(part.here, Here::Packed { at: 512, unit: 65_536, skip: 512, .. }));
        assert!(plain.cut(&(5000..6000)).is_none());
    }
}
