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
//! |     43 |    11 | label, behind a byte of 41 at 38; of FAT32 at 71 and 66                          |

use super::bytes::int;
use super::filesystem::{FileSystem, text};

/// The file system whose boot sector this is.
pub fn look(boot: &[u8]) -> Option<FileSystem> {
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
    let (total, table) = (either(19, 32), either(22, 36));
    let root = (int::le::<2>(boot, 17) * 32).div_ceil(sector);
    let clusters = total.checked_sub(reserved + tables * table + root)? / cluster;
    let (word, title, signature, label) = match int::le::<2>(boot, 22) {
        0 => ("fat32", "FAT32", 66, 71),
        _ if clusters <= 0xFF4 => ("fat12", "FAT12", 38, 43),
        _ => ("fat16", "FAT16", 38, 43),
    };
    let label = match byte(signature) {
        0x29 => text(boot, label, 11).filter(|label| label != "NO NAME"),
        _ => None,
    };
    Some(FileSystem { label, len: Some(total * sector), ..FileSystem::new(word, title) })
}
