//! Where the structures of a hosted sparse extent lie: the layout of every file that VMware, VirtualBox and QEMU write.
//!
//! `rgd` right behind the descriptor, the redundant tables behind it; then the directory and its tables; then, rounded up to a grain,
//! the grains. Each table is there, so that its place follows from its number.

use crate::image::SECTOR;

/// Sectors in a grain.
pub const GRAIN_SECTORS: u64 = 128;
/// Bytes in a grain.
pub const GRAIN: u64 = GRAIN_SECTORS * SECTOR;
/// Entries in a grain table.
pub const GTES_PER_GT: u32 = 512;
/// Sectors in a grain table.
pub const GT_SECTORS: u64 = GTES_PER_GT as u64 * 4 / SECTOR;
/// Bytes of the disk that a grain table covers.
pub const GT_COVERS: u64 = GTES_PER_GT as u64 * GRAIN;
/// Sector of the embedded descriptor.
pub const DESCRIPTOR_OFFSET: u64 = 1;
/// Sectors set aside for it.
pub const DESCRIPTOR_SECTORS: u64 = 20;

/// Places in sectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Sectors of the disk.
    pub capacity: u64,
    /// Grain tables.
    pub tables: u64,
    /// Sectors of a grain directory.
    pub gd_sectors: u64,
    /// The redundant grain directory.
    pub rgd_offset: u64,
    /// The grain directory.
    pub gd_offset: u64,
    /// The first grain.
    pub overhead: u64,
}

impl Layout {
    /// For a disk of `capacity` sectors.
    pub fn new(capacity: u64) -> Layout {
        let tables = capacity.div_ceil(GT_COVERS / SECTOR);
        let gd_sectors = (tables * 4).div_ceil(SECTOR);
        let rgd_offset = DESCRIPTOR_OFFSET + DESCRIPTOR_SECTORS;
        let gd_offset = rgd_offset + gd_sectors + tables * GT_SECTORS;
        let overhead = (gd_offset + gd_sectors + tables * GT_SECTORS).next_multiple_of(GRAIN_SECTORS);
        Layout { capacity, tables, gd_sectors, rgd_offset, gd_offset, overhead }
    }

    /// The two directories, the redundant one first.
    pub fn directories(&self) -> [u64; 2] {
        [self.rgd_offset, self.gd_offset]
    }

    /// Sector of table `table` of the directory at sector `directory`.
    pub fn table(&self, directory: u64, table: u64) -> u64 {
        directory + self.gd_sectors + table * GT_SECTORS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files that Workstation 17 and QEMU wrote: capacity, tables, directory sectors, rgd, gd, overhead.
    #[test]
    fn places_are_those_of_vmwares_and_qemus_files() {
        for (capacity, tables, gd_sectors, rgd, gd, overhead) in [
            (204_836, 4, 1, 21, 38, 128),
            (1_048_576, 16, 1, 21, 86, 256),
            (6_442_450_944u64, 98_304, 768, 21, 394_005, 788_096),
        ] {
            let l = Layout::new(capacity);
            assert_eq!(
                (l.tables, l.gd_sectors, l.rgd_offset, l.gd_offset, l.overhead),
                (tables, gd_sectors, rgd, gd, overhead)
            );
        }
    }
}
