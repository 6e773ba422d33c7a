//! FAT, by the rule that drivers follow: the count of its clusters, not the text in its boot sector.
//!
//! Source: "FAT: General Overview of On-Disk Format" 1.03; util-linux's libblkid (vfat.c). All little-endian, in the boot sector:
//!
//! | offset | bytes | field                                                                            |
//! |-------:|------:|----------------------------------------------------------------------------------|
//! |     11 |     2 | bytes of a sector                                                                |
//! |     13 |     1 | sectors of a cluster                                                             |
//! |     14 |     2 | sectors in front of the tables                                                   |
//! |     16 |     1 | tables                                                                           |
//! |     17 |     2 | entries of the root directory                                                    |
//! |     19 |     2 | sectors; 0: at 32, 4 bytes                                                       |
//! |     21 |     1 | medium: 240, or from 248 on                                                      |
//! |     22 |     2 | sectors of a table; 0: at 36, 4 bytes, and it is FAT32                           |
//! |     44 |     4 | FAT32: first cluster of the root directory                                       |
//! |     43 |    11 | label, behind a byte of 41 at 38; of FAT32 at 71 and 66                          |

use super::bytes::int;
use super::filesystem::{FileSystem, text};

/// The kinds of FAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Entries of 12 bits.
    Fat12,
    /// Of 16 bits.
    Fat16,
    /// Of 32 bits, the highest four without a meaning.
    Fat32,
}

/// What a boot sector says. None of it is larger than 32 bits, and counts of sectors by their size fit 64.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub kind: Kind,
    /// Bytes of a sector.
    pub sector: u64,
    /// Sectors of a cluster.
    pub cluster: u64,
    /// Sectors in front of the tables.
    pub reserved: u64,
    /// Sectors of all tables.
    pub tables: u64,
    /// Sectors of the root directory, which has no clusters in FAT12 and FAT16.
    pub root: u64,
    /// Sectors in all.
    pub total: u64,
    /// Clusters.
    pub clusters: u64,
    /// FAT32: first cluster of the root directory.
    pub root_cluster: u64,
}

impl Shape {
    /// Of this boot sector, if it is one.
    pub fn of(boot: &[u8]) -> Option<Shape> {
        let byte = |at: usize| int::le::<1>(boot, at);
        let (sector, cluster, reserved, tables) = (int::le::<2>(boot, 11), byte(13), int::le::<2>(boot, 14), byte(16));
        let is_one = matches!(byte(0), 0xEB | 0xE9)
            && (512..=4096).contains(&sector)
            && sector.is_power_of_two()
            && cluster.is_power_of_two()
            && reserved > 0
            && tables > 0
            && (byte(21) == 0xF0 || byte(21) >= 0xF8)
            && int::is(boot, 510, &[0x55, 0xAA])
            && !int::is(boot, 54, b"JFS     ")
            && !int::is(boot, 54, b"HPFS    ");
        if !is_one {
            return None;
        }
        let either = |short: usize, long: usize| match int::le::<2>(boot, short) {
            0 => int::le::<4>(boot, long),
            count => count,
        };
        let (total, tables) = (either(19, 32), tables * either(22, 36));
        let root = (int::le::<2>(boot, 17) * 32).div_ceil(sector);
        let clusters = total.checked_sub(reserved + tables + root)? / cluster;
        let kind = match int::le::<2>(boot, 22) {
            0 => Kind::Fat32,
            _ if clusters <= 0xFF4 => Kind::Fat12,
            _ => Kind::Fat16,
        };
        let root_cluster = int::le::<4>(boot, 44);
        Some(Shape { kind, sector, cluster, reserved, tables, root, total, clusters, root_cluster })
    }
}

/// The file system whose boot sector this is.
pub fn look(boot: &[u8]) -> Option<FileSystem> {
    let shape = Shape::of(boot)?;
    let (word, title, signature, label) = match shape.kind {
        Kind::Fat32 => ("fat32", "FAT32", 66, 71),
        Kind::Fat12 => ("fat12", "FAT12", 38, 43),
        Kind::Fat16 => ("fat16", "FAT16", 38, 43),
    };
    let label = match int::le::<1>(boot, signature) {
        0x29 => text(boot, label, 11).filter(|label| label != "NO NAME"),
        _ => None,
    };
    Some(FileSystem { label, len: Some(shape.total * shape.sector), ..FileSystem::new(word, title) })
}
