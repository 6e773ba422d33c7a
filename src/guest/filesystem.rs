//! File systems and other contents, by their magic numbers. The first match from the top counts: old signatures survive a new format.
//!
//! Sources: util-linux's libblkid, and what the mkfs programs of Debian 12 write. Offsets are from the partition's first byte:
//!
//! | what              | offset            | bytes                                    | size stated at                          |
//! |-------------------|------------------:|------------------------------------------|-----------------------------------------|
//! | LVM               | 0, 512, 1024, 1536 | `LABELONE`, `LVM2 001` at 24             |                                         |
//! | Linux RAID        | 0, 4,096, the end | `FC 4E 2B A9`                            |                                         |
//! | LUKS              |                 0 | `LUKS` `BA BE`, version at 6             |                                         |
//! | BitLocker         |                 3 | `-FVE-FS-`, or `MSWIN4.1` and its GUID   |                                         |
//! | NTFS              |                 3 | `NTFS    `                               | 40: sectors of the bytes at 11, and one |
//! | exFAT             |                 3 | `EXFAT   `                               | 72: sectors, shift at 108               |
//! | ReFS              |                 3 | `ReFS`                                   |                                         |
//! | FAT               |                   | see `fat.rs`                             |                                         |
//! | XFS               |                 0 | `XFSB`                                   | 4 × 8, big-endian                       |
//! | ext2, ext3, ext4  |             1,080 | `53 EF`                                  | 1,028, 1,360; unit 1,024 << 1,048       |
//! | F2FS              |             1,024 | `10 20 F5 F2`                            |                                         |
//! | squashfs          |                 0 | `hsqs`                                   | 40                                      |
//! | swap              | page − 10         | `SWAPSPACE2`; of a hibernated one others | 1,028: last page                        |
//! | HFS+              |             1,024 | `H+`, `HX`                               | 1,064 × 1,068, big-endian               |
//! | APFS              |                32 | `NXSB`                                   | 36 × 40                                 |
//! | Btrfs             |            65,600 | `_BHRfS_M`                               | 65,536 + 209, of one device             |
//! | ZFS               |            16,384 | a list of names with `pool_guid`         |                                         |
//! | VMFS              | 1 MiB, 2 MiB      | `0D D0 01 C0`, `5E F1 AB 2F`             |                                         |
//! | bcache, bcachefs  |             4,120 | their UUIDs                              |                                         |
//! | UDF, ISO 9660     |            32,769 | `BEA01` then `NSR0`; `CD001`             |                                         |

use super::bytes::{Bytes, int};
use super::fat;

/// What a partition, or a disk without partitions, holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// The word of `--json`.
    pub word: &'static str,
    /// For people.
    pub title: &'static str,
    /// Its name, where one was given.
    pub label: Option<String>,
    /// Its length in bytes, where it states that.
    pub len: Option<u64>,
    /// What stands there cannot be told from noise.
    pub encrypted: bool,
    /// A system sleeps in it.
    pub hibernated: bool,
    /// Its journal holds what its other structures do not have yet.
    pub needs_recovery: bool,
}

impl FileSystem {
    /// One of which nothing else is known.
    pub fn new(word: &'static str, title: &'static str) -> FileSystem {
        FileSystem { word, title, label: None, len: None, encrypted: false, hibernated: false, needs_recovery: false }
    }
}

/// A label: bytes up to a zero, without padding; none where that leaves nothing.
pub fn text(bytes: &[u8], at: usize, len: usize) -> Option<String> {
    let raw = bytes.get(at..at.checked_add(len)?)?;
    let raw = raw.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(raw).trim().to_string();
    (!text.is_empty()).then_some(text)
}

/// A stretch of the disk that may hold a file system.
struct Room<'a, B: Bytes> {
    bytes: &'a mut B,
    start: u64,
    len: u64,
}

impl<B: Bytes> Room<'_, B> {
    fn read(&mut self, at: u64, len: usize) -> Vec<u8> {
        let room = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        match self.start.checked_add(at) {
            Some(at) => self.bytes.read(at, len.min(room)),
            None => Vec::new(),
        }
    }
}

/// What lies in `len` bytes from byte `start` of the disk on; `None` where nothing is recognised.
pub fn look(bytes: &mut impl Bytes, start: u64, len: u64) -> Option<FileSystem> {
    let mut room = Room { bytes, start, len };
    let head = room.read(0, 8192);
    // What holds volumes comes first: of a mirror whose own data lies at its end, the file system inside begins where the member begins,
    // and one that was there before shows through in front of it.
    volumes(&mut room, &head)
        .or_else(|| encrypted(&head))
        .or_else(|| of_windows(&head))
        .or_else(|| of_linux(&head))
        .or_else(|| swap(&mut room, &head))
        .or_else(|| of_apple(&head))
        .or_else(|| further_in(&mut room, &head))
        .or_else(|| optical(&mut room))
}

/// The boot sector of a file system, which is no partition table although it ends like one.
pub fn boot_sector(head: &[u8]) -> Option<FileSystem> {
    encrypted(head).or_else(|| of_windows(head))
}

fn encrypted(head: &[u8]) -> Option<FileSystem> {
    let of = |word, title| Some(FileSystem { encrypted: true, ..FileSystem::new(word, title) });
    if int::is(head, 0, b"LUKS\xBA\xBE") {
        return match int::be::<2>(head, 6) {
            1 => of("luks", "LUKS 1, encrypted"),
            _ => Some(FileSystem { label: text(head, 24, 48), ..of("luks", "LUKS 2, encrypted")? }),
        };
    }
    // The GUID 4967D63B-2E29-4AD8-8399-F6A339E3D001, of a drive "to go".
    const TO_GO: &[u8] = b"\x3B\xD6\x67\x49\x29\x2E\xD8\x4A\x83\x99\xF6\xA3\x39\xE3\xD0\x01";
    let to_go = int::is(head, 3, b"MSWIN4.1") && int::is(head, 0x1A8, TO_GO);
    match int::is(head, 3, b"-FVE-FS-") || to_go {
        true => of("bitlocker", "BitLocker, encrypted"),
        false => None,
    }
}

fn of_windows(head: &[u8]) -> Option<FileSystem> {
    if int::is(head, 3, b"NTFS    ") {
        // The last sector, with a copy of the first, is not counted.
        let len = int::le::<8>(head, 40).checked_add(1).and_then(|n| n.checked_mul(int::le::<2>(head, 11)));
        return Some(FileSystem { len, ..FileSystem::new("ntfs", "NTFS") });
    }
    if int::is(head, 3, b"EXFAT   ") {
        let len = int::le::<8>(head, 72).checked_mul(1 << int::le::<1>(head, 108).min(12));
        return Some(FileSystem { len, ..FileSystem::new("exfat", "exFAT") });
    }
    if int::is(head, 0, b"\0\0\0ReFS\0") {
        return Some(FileSystem::new("refs", "ReFS"));
    }
    fat::look(head)
}

fn of_linux(head: &[u8]) -> Option<FileSystem> {
    if int::is(head, 0, b"XFSB") {
        let len = int::be::<4>(head, 4).checked_mul(int::be::<8>(head, 8));
        return Some(FileSystem { label: text(head, 108, 12), len, ..FileSystem::new("xfs", "XFS") });
    }
    if int::is(head, 1080, b"\x53\xEF") {
        return Some(ext(head));
    }
    if int::is(head, 1024, b"\x10\x20\xF5\xF2") {
        return Some(FileSystem::new("f2fs", "F2FS"));
    }
    let of_version_4 = int::is(head, 0, b"hsqs") && int::le::<2>(head, 28) == 4;
    of_version_4.then(|| FileSystem { len: Some(int::le::<8>(head, 40)), ..FileSystem::new("squashfs", "squashfs") })
}

/// Bits of ext's features.
mod feature {
    pub const JOURNAL: u64 = 0x4;
    pub const NEEDS_RECOVERY: u64 = 0x4;
    pub const IS_64_BIT: u64 = 0x80;
    /// Extents, 64 bits, flexible groups: of ext4 alone.
    pub const INCOMPATIBLE_OF_EXT4: u64 = 0x40 | 0x80 | 0x200;
    /// Huge files, checksums, link counts, inode sizes: the same.
    pub const READ_ONLY_OF_EXT4: u64 = 0x08 | 0x10 | 0x20 | 0x40 | 0x400;
}

fn ext(head: &[u8]) -> FileSystem {
    let (compatible, incompatible, read_only) =
        (int::le::<4>(head, 0x45C), int::le::<4>(head, 0x460), int::le::<4>(head, 0x464));
    let of_ext4 = incompatible & feature::INCOMPATIBLE_OF_EXT4 != 0 || read_only & feature::READ_ONLY_OF_EXT4 != 0;
    let (word, title) = match (of_ext4, compatible & feature::JOURNAL != 0) {
        (true, _) => ("ext4", "ext4"),
        (false, true) => ("ext3", "ext3"),
        (false, false) => ("ext2", "ext2"),
    };
    let high = if incompatible & feature::IS_64_BIT != 0 { int::le::<4>(head, 0x550) } else { 0 };
    let blocks = high << 32 | int::le::<4>(head, 0x404);
    let len = blocks.checked_mul(1024 << int::le::<4>(head, 0x418).min(6));
    let needs_recovery = incompatible & feature::NEEDS_RECOVERY != 0;
    FileSystem { label: text(head, 0x478, 16), len, needs_recovery, ..FileSystem::new(word, title) }
}

/// Swap, in pages of any size; a hibernated system has its own signature in the same place.
fn swap<B: Bytes>(room: &mut Room<'_, B>, head: &[u8]) -> Option<FileSystem> {
    for page in [4096u64, 8192, 16_384, 32_768, 65_536] {
        let at = page - 10;
        let mark = match usize::try_from(at).ok().and_then(|at| head.get(at..at + 10)) {
            Some(mark) => mark.to_vec(),
            None => room.read(at, 10),
        };
        let sleeps = [b"S1SUSPEND".as_slice(), b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001"];
        if sleeps.iter().any(|sign| mark.starts_with(sign)) {
            return Some(FileSystem { hibernated: true, ..FileSystem::new("swap", "Linux swap, hibernated") });
        }
        if mark == b"SWAPSPACE2" {
            let len = int::le::<4>(head, 1028).checked_add(1).and_then(|pages| pages.checked_mul(page));
            return Some(FileSystem { label: text(head, 1052, 16), len, ..FileSystem::new("swap", "Linux swap") });
        }
    }
    None
}

/// What holds other volumes.
fn volumes<B: Bytes>(room: &mut Room<'_, B>, head: &[u8]) -> Option<FileSystem> {
    if [0, 512, 1024, 1536].iter().any(|at| int::is(head, *at, b"LABELONE") && int::is(head, at + 24, b"LVM2 001")) {
        return Some(FileSystem::new("lvm", "LVM physical volume"));
    }
    const RAID: &[u8] = b"\xFC\x4E\x2B\xA9";
    let raid = || Some(FileSystem::new("linux_raid", "Linux RAID member"));
    // Its version, and the sector that it says it is in.
    let is_one = |raw: &[u8], sector: u64| {
        int::is(raw, 0, RAID) && int::le::<4>(raw, 4) == 1 && int::le::<8>(raw, 0x90) == sector
    };
    if is_one(head, 0) || is_one(head.get(4096..).unwrap_or_default(), 8) {
        return raid();
    }
    if let Some(end) = (room.len & !0xFFF).checked_sub(0x2000)
        && is_one(&room.read(end, 256), end / 512)
    {
        return raid();
    }
    if let Some(end) = (room.len & !0xFFFF).checked_sub(0x1_0000)
        && int::is(&room.read(end, 4), 0, RAID)
    {
        return raid();
    }
    None
}

fn of_apple(head: &[u8]) -> Option<FileSystem> {
    if int::is(head, 1024, b"H+") || int::is(head, 1024, b"HX") {
        let len = int::be::<4>(head, 1064).checked_mul(int::be::<4>(head, 1068));
        return Some(FileSystem { len, ..FileSystem::new("hfsplus", "HFS+") });
    }
    // Two letters are little: the count of its blocks and their size must make sense too.
    let block = int::be::<4>(head, 1044);
    if int::is(head, 1024, b"BD") && block > 0 && block.is_multiple_of(512) {
        return Some(FileSystem::new("hfs", "HFS"));
    }
    if int::is(head, 32, b"NXSB") {
        let len = int::le::<4>(head, 36).checked_mul(int::le::<8>(head, 40));
        return Some(FileSystem { len, ..FileSystem::new("apfs", "APFS container") });
    }
    None
}

fn further_in<B: Bytes>(room: &mut Room<'_, B>, head: &[u8]) -> Option<FileSystem> {
    const BCACHE: &[u8] = b"\xC6\x85\x73\xF6\x4E\x1A\x45\xCA";
    const BCACHEFS: &[u8] = b"\xC6\x85\x73\xF6\x66\xCE\x90\xA9";
    if int::is(head, 4120, BCACHE) {
        return Some(FileSystem::new("bcache", "bcache"));
    }
    if int::is(head, 4120, BCACHEFS) {
        return Some(FileSystem::new("bcachefs", "bcachefs"));
    }
    let superblock = room.read(0x1_0000, 1024);
    if int::is(&superblock, 0x40, b"_BHRfS_M") {
        // A volume of several devices says here how large this one is.
        let len = Some(int::le::<8>(&superblock, 0xD1)).filter(|len| *len > 0);
        return Some(FileSystem { label: text(&superblock, 0x12B, 256), len, ..FileSystem::new("btrfs", "Btrfs") });
    }
    let names = room.read(0x4000, 1024);
    let holds = |word: &[u8]| names.windows(word.len()).any(|part| part == word);
    if int::le::<1>(&names, 0) == 1 && int::le::<1>(&names, 1) <= 1 && holds(b"version") && holds(b"pool_guid") {
        return Some(FileSystem::new("zfs", "ZFS"));
    }
    for (at, magic) in [(0x10_0000, b"\x0D\xD0\x01\xC0"), (0x20_0000, b"\x5E\xF1\xAB\x2F")] {
        if int::is(&room.read(at, 4), 0, magic) {
            return Some(FileSystem::new("vmfs", "VMFS"));
        }
    }
    None
}

/// ISO 9660, and UDF beside it or alone.
pub fn look_for_disc(bytes: &mut impl Bytes, len: u64) -> Option<FileSystem> {
    optical(&mut Room { bytes, start: 0, len })
}

fn optical<B: Bytes>(room: &mut Room<'_, B>) -> Option<FileSystem> {
    let first = room.read(0x8000, 2048);
    match first.get(1..6) {
        Some(b"CD001") => Some(FileSystem { label: text(&first, 40, 32), ..FileSystem::new("iso9660", "ISO 9660") }),
        Some(b"BEA01") => {
            // The next sector, of the size that the volume has.
            let second = [0x8800, 0x9000].iter().any(|at| int::is(&room.read(*at, 8), 1, b"NSR0"));
            second.then(|| FileSystem::new("udf", "UDF"))
        }
        _ => None,
    }
}
