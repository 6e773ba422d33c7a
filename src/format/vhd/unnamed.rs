//! Room for blocks in the file that no entry of the table names.
//!
//! The table has neither checksum nor copy: an entry that became "not allocated" reads as zeroes, or as the parent. Writers put blocks one
//! behind the other, so that the block itself is left as a stretch of the file that nothing accounts for, with data in it.

use std::ops::Range;

use crate::image::{SECTOR, between};

/// Blocks whose places are kept: 8 TiB of blocks of 2 MiB.
pub const MOST: usize = 4 << 20;

/// The stretches in front of `end` that have room for `unit` bytes, and that neither blocks of that length at `sectors` nor other
/// structures take up.
pub fn stretches<'a>(
    mut sectors: Vec<u32>,
    unit: u64,
    other: impl Iterator<Item = &'a Range<u64>>,
    end: u64,
) -> Vec<Range<u64>> {
    sectors.sort_unstable();
    // Structures are padded to whole sectors, the table with ones. A parent locator may say that it ends anywhere.
    let padded = |span: &Range<u64>| span.start..span.end.min(end).next_multiple_of(SECTOR);
    let mut other: Vec<_> = other.filter(|span| span.start < end).map(padded).collect();
    other.sort_unstable_by_key(|span| span.start);
    let blocks = sectors.into_iter().map(|sector| u64::from(sector) * SECTOR).map(|at| at..at + unit);
    between(blocks, other.into_iter(), unit, end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_a_whole_block_between_structures_blocks_and_the_end_is_found() {
        let other = [2048..3000, 0..1536];
        let found = |sectors: &[u32], end| {
            let found = stretches(sectors.to_vec(), 1024, other.iter(), end).into_iter();
            found.map(|room| (room.start, room.end)).collect::<Vec<_>>()
        };
        assert_eq!(found(&[], 3072), []);
        assert_eq!(found(&[], 4095), []);
        assert_eq!(found(&[], 4096), [(3072, 4096)]);
        // A gap of a sector is alignment; one of two is a block's.
        assert_eq!(found(&[7, 10], 6656), []);
        assert_eq!(found(&[11, 6], 8192), [(4096, 5632), (6656, 8192)]);
        // A structure that says it ends where no file does.
        let far = [2048..3000, u64::MAX - 1..u64::MAX, 4096..u64::MAX];
        assert_eq!(stretches(Vec::new(), 1024, far.iter(), 4096), [0..2048, 3072..4096]);
        // Blocks that overlap, that lie behind the end, and on other structures.
        assert_eq!(found(&[6, 7, 1, 90], 5632), [(4608, 5632)]);
    }
}
