//! Where the structures of a hosted sparse extent lie: the layout of every file that VMware, VirtualBox and QEMU write.
//!
//! `rgd` right behind the descriptor, the redundant tables behind it; then the directory and its tables; then, rounded up to a grain,
//! the grains. Each table is there, so that its place follows from its number.

use crate::image::SECTOR;

/// Sectors in a grain, unless the user asks for another size.
pub const GRAIN_SECTORS: u64 = 128;
/// Bytes in such a grain.
pub const GRAIN: u64 = GRAIN_SECTORS * SECTOR;
/// Entries in a grain table.
pub const GTES_PER_GT: u32 = 512;
/// Sectors in a grain table.
pub const GT_SECTORS: u64 = GTES_PER_GT as u64 * 4 / SECTOR;
/// Sector of the embedded descriptor.
pub const DESCRIPTOR_OFFSET: u64 = 1;
/// Sectors set aside for it.
pub const DESCRIPTOR_SECTORS: u64 = 20;

/// Places in sectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Sectors of the extent.
    pub capacity: u64,
    /// Sectors in a grain.
    pub grain_sectors: u64,
    /// Sectors of the embedded descriptor; 0: none.
    pub descriptor_sectors: u64,
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
    /// For an extent of `capacity` sectors in grains of `grain_sectors`, with or without a descriptor in it.
    pub fn new(capacity: u64, grain_sectors: u64, described: bool) -> Layout {
        let tables = capacity.div_ceil(u64::from(GTES_PER_GT) * grain_sectors);
        let gd_sectors = (tables * 4).div_ceil(SECTOR);
        let descriptor_sectors = if described { DESCRIPTOR_SECTORS } else { 0 };
        let rgd_offset = DESCRIPTOR_OFFSET + descriptor_sectors;
        let gd_offset = rgd_offset + gd_sectors + tables * GT_SECTORS;
        let overhead = (gd_offset + gd_sectors + tables * GT_SECTORS).next_multiple_of(grain_sectors);
        Layout { capacity, grain_sectors, descriptor_sectors, tables, gd_sectors, rgd_offset, gd_offset, overhead }
    }

    /// Bytes in a grain.
    pub fn grain(&self) -> u64 {
        self.grain_sectors * SECTOR
    }

    /// Bytes of the extent that a grain table covers.
    pub fn table_covers(&self) -> u64 {
        u64::from(GTES_PER_GT) * self.grain()
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

    /// Files that Workstation 17 and QEMU wrote: capacity, tables, directory sectors, rgd, gd, overhead; the last one is a piece of a
    /// split disk.
    #[test]
    fn places_are_those_of_vmwares_and_qemus_files() {
        for (capacity, tables, gd_sectors, rgd, gd, overhead) in [
            (204_836, 4, 1, 21, 38, 128),
            (1_048_576, 16, 1, 21, 86, 256),
            (6_442_450_944u64, 98_304, 768, 21, 394_005, 788_096),
            (8_323_072, 127, 1, 1, 510, 1024),
        ] {
            let l = Layout::new(capacity, GRAIN_SECTORS, rgd > 1);
            assert_eq!(
                (l.tables, l.gd_sectors, l.rgd_offset, l.gd_offset, l.overhead),
                (tables, gd_sectors, rgd, gd, overhead)
            );
        }
    }
}
