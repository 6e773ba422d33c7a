//! Blocks that an output shares with an input: they take no room, and no time.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::input::InputFile;
use super::sys;

/// Smaller blocks are taken together: what is left beside them is looked at in such units.
const PAGE: u64 = 4096;

/// That files of one file system can share blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sharing {
    file_system: u64,
    /// Bytes of a block.
    unit: u64,
}

impl Sharing {
    /// Of files in `folder`; `None` where its file system has no such thing.
    pub fn look(folder: &Path) -> Option<Sharing> {
        let file_system = sys::file_system(&std::fs::metadata(folder).ok()?)?;
        Some(Sharing { file_system, unit: sys::share_unit(folder)?.max(PAGE) })
    }

    /// Bytes of a block.
    pub fn unit(self) -> u64 {
        self.unit
    }

    /// May a new file in `folder` share blocks with one of these? Which blocks lie so that they can be is not looked at.
    pub fn may_be(folder: &Path, inputs: &[Arc<InputFile>]) -> bool {
        Sharing::look(folder).is_some_and(|sharing| inputs.iter().any(|input| sharing.is_with(input)))
    }

    /// Can blocks be shared with this one?
    pub fn is_with(self, input: &InputFile) -> bool {
        input.file_system() == Some(self.file_system)
    }

    /// Which of `len` bytes, at byte `from` of one file and at byte `at` of the other, are whole blocks of both.
    pub fn whole(self, from: u64, at: u64, len: u64) -> Option<Range<u64>> {
        if from % self.unit != at % self.unit {
            return None;
        }
        let start = (self.unit - from % self.unit) % self.unit;
        let end = len.checked_sub(from.checked_add(len)? % self.unit)?;
        (start < end).then_some(start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_whole_blocks_of_both_is_shared() {
        let sharing = Sharing { file_system: 1, unit: 4096 };
        assert_eq!(sharing.whole(0, 8192, 4096), Some(0..4096));
        assert_eq!(sharing.whole(0, 8192, 5000), Some(0..4096));
        assert_eq!(sharing.whole(512, 8192 + 512, 3 * 4096), Some(3584..3584 + 2 * 4096));
        assert_eq!(sharing.whole(512, 8192, 3 * 4096), None);
        assert_eq!(sharing.whole(0, 0, 4095), None);
        assert_eq!(sharing.whole(1, 1, 4100), None);
    }
}
