//! The partition table of a BIOS, with the logical partitions inside an extended one.
//!
//! Source: as fdisk, Windows and Linux read it; loop guards as in util-linux's libblkid (dos.c). All little-endian:
//!
//! | offset | bytes | field          | reading                                                         |
//! |-------:|------:|----------------|-----------------------------------------------------------------|
//! |      0 |   440 | boot code      | all zero: a BIOS cannot boot from it                            |
//! |    440 |     4 | disk signature | by which Windows knows the disk                                 |
//! |    446 |  4×16 | entries        | 0: status (128 active, 0 not), 4: type, 8: first, 12: sectors   |
//! |    510 |     2 | signature      | `55 AA`, in sectors of 4,096 bytes too                          |
//!
//! An extended partition begins with a sector like this one: its first entry is a logical partition, counted from that sector; its second
//! leads to the next such sector, counted from the extended partition's first.

use super::bytes::{Bytes, int};

const CODE: usize = 440;
const DISK_ID: usize = 440;
const ENTRIES: usize = 446;
const ENTRY: usize = 16;
const SIGNATURE: usize = 510;
/// Logical partitions that are followed.
const MOST_LOGICAL: usize = 128;
/// Links that are followed: tools leave one without a partition now and then.
const MOST_LINKS: usize = 256;

/// The type of the entry that guards a GPT.
pub const PROTECTIVE: u8 = 0xEE;
/// The type of an EFI system partition.
pub const EFI_SYSTEM: u8 = 0xEF;
/// The type of a disk, or partition, of Windows' Logical Disk Manager.
pub const DYNAMIC: u8 = 0x42;

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mbr {
    /// There is boot code.
    pub has_code: bool,
    /// The boot code is that of GRUB.
    pub is_grub: bool,
    /// The disk signature.
    pub disk_id: u32,
    /// The entries that are not empty.
    pub entries: Vec<Entry>,
}

/// A partition, in sectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// 1 to 4; logical ones from 5 on.
    pub number: u32,
    /// Marked as the one to boot from.
    pub active: bool,
    /// What it is for.
    pub kind: u8,
    /// Its first sector on the disk.
    pub first: u64,
    /// How many it has.
    pub count: u64,
}

impl Entry {
    /// Does it hold logical partitions?
    pub fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0F | 0x85)
    }
}

impl Mbr {
    /// Does it guard a GPT?
    pub fn is_protective(&self) -> bool {
        self.entries.iter().any(|entry| entry.kind == PROTECTIVE)
    }

    /// What it lists beside the entry that guards a GPT.
    pub fn without_guard(&self) -> Mbr {
        let entries = self.entries.iter().filter(|entry| entry.kind != PROTECTIVE).cloned().collect();
        Mbr { entries, ..self.clone() }
    }

    /// Does a partition begin where an optical disc does, or where its descriptors stand, so that the disc is in it?
    pub fn lists_the_disc(&self) -> bool {
        self.entries.iter().any(|entry| entry.first <= 64)
    }

    /// Could partitioning programs have written it onto a disk of so many sectors: does it list partitions that lie on the disk, behind
    /// their table, and not in each other? One that guards a GPT may end anywhere, since it stops counting at 32 bits.
    pub fn fits(&self, sectors: u64) -> bool {
        let end = |entry: &Entry| entry.first.saturating_add(entry.count);
        let apart = |a: &Entry, b: &Entry| a.number == b.number || end(a) <= b.first || end(b) <= a.first;
        let lies = |entry: &Entry| entry.first > 0 && (end(entry) <= sectors || entry.kind == PROTECTIVE);
        !self.entries.is_empty() && self.entries.iter().all(|a| lies(a) && self.entries.iter().all(|b| apart(a, b)))
    }
}

/// The table in the first sector; `None` where the sector is none.
pub fn parse(sector: &[u8]) -> Option<Mbr> {
    let code = sector.get(..CODE)?;
    let entries = entries(sector)?;
    Some(Mbr {
        has_code: code.iter().any(|byte| *byte != 0),
        is_grub: code.windows(4).any(|word| word == b"GRUB"),
        disk_id: u32::try_from(int::le::<4>(sector, DISK_ID)).unwrap_or_default(),
        entries: entries.into_iter().filter(|entry| entry.count > 0).collect(),
    })
}

/// All four entries; `None`: the signature is missing, or a status is none.
fn entries(sector: &[u8]) -> Option<Vec<Entry>> {
    if !int::is(sector, SIGNATURE, &[0x55, 0xAA]) {
        return None;
    }
    let table = sector.get(ENTRIES..SIGNATURE)?;
    let entries = (1..).zip(table.chunks_exact(ENTRY)).map(|(number, raw)| match raw.first() {
        Some(status @ (0 | 0x80)) => Some(Entry {
            number,
            active: *status != 0,
            kind: raw.get(4).copied().unwrap_or_default(),
            first: int::le::<4>(raw, 8),
            count: int::le::<4>(raw, 12),
        }),
        _ => None,
    });
    entries.collect()
}

/// The logical partitions of an extended one, and what is wrong with the chain that lists them.
pub fn logicals(bytes: &mut impl Bytes, extended: &Entry, sector_size: u64) -> (Vec<Entry>, Option<&'static str>) {
    // Partitioning programs link in the order that partitions were made in, so a link may lead to a lower sector: only one that was
    // followed before closes a circle.
    let (mut found, mut followed, mut link) = (Vec::new(), Vec::new(), 0);
    let end = extended.first.saturating_add(extended.count);
    loop {
        let at = extended.first.saturating_add(link);
        let Some(table) = at.checked_mul(sector_size).and_then(|at| entries(&bytes.read(at, 512))) else {
            // One that was never filled in holds nothing.
            let what = (link > 0).then_some("the chain of logical partitions leads to what is no partition table");
            return (found, what);
        };
        let logical = table.first().filter(|entry| entry.count > 0 && !entry.is_extended());
        if let Some(entry) = logical {
            let number = 5 + u32::try_from(found.len()).unwrap_or(u32::MAX - 5);
            found.push(Entry { number, first: at.saturating_add(entry.first), ..entry.clone() });
        }
        followed.push(link);
        let next = table.iter().take(2).find(|entry| entry.count > 0 && entry.is_extended()).map(|entry| entry.first);
        match next {
            None => return (found, None),
            Some(next) if followed.contains(&next) || extended.first.saturating_add(next) >= end => {
                return (found, Some("the chain of logical partitions leads back, or out of the extended partition"));
            }
            Some(_) if found.len() >= MOST_LOGICAL || followed.len() >= MOST_LINKS => {
                return (found, Some("more logical partitions than are listed"));
            }
            Some(next) => link = next,
        }
    }
}

/// What a type is for; empty where it is not known here.
pub fn type_name(kind: u8) -> &'static str {
    match kind {
        0x00 | 0xCD => "hybrid ISO",
        0x01 | 0x04 | 0x06 | 0x0E => "FAT",
        0x05 | 0x0F | 0x85 => "extended",
        0x07 => "NTFS or exFAT",
        0x0B | 0x0C => "FAT32",
        0x11 | 0x14 | 0x16 | 0x17 | 0x1B | 0x1C | 0x1E => "hidden",
        0x27 => "Windows recovery",
        DYNAMIC => "Windows dynamic disk",
        0x82 => "Linux swap",
        0x83 => "Linux",
        0x8E => "Linux LVM",
        0xA5 => "FreeBSD",
        0xA6 => "OpenBSD",
        0xA9 => "NetBSD",
        0xAF => "HFS or HFS+",
        0xBF => "Solaris",
        PROTECTIVE => "GPT protective",
        EFI_SYSTEM => "EFI system",
        0xFB => "VMware VMFS",
        0xFC => "VMware diagnostic",
        0xFD => "Linux RAID",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables that sfdisk 2.38.1 wrote onto 64 MiB of zeroes, from
    /// `label: dos, label-id: 0x12345678; start=2048,size=16384,type=83,bootable; start=18432,size=112640,type=f;
    /// start=20480,size=20480,type=83; start=43008,size=10240,type=82`: the bytes from 440 on of sectors 0, 18432 and 40960.
    const SFDISK: [(usize, &str); 3] = [
        (
            0,
            "78563412000080202100832524010008000000400000002525010f2820080048000000b80100\
             000000000000000000000000000000000000000000000000000000000000000055aa",
        ),
        (
            18432,
            "00000000000000460601838c0a020008000000500000008c0b0205500d030058000000300000\
             000000000000000000000000000000000000000000000000000000000000000055aa",
        ),
        (
            40960,
            "00000000000000ac2b0282500d03000800000028000000000000000000000000000000000000\
             000000000000000000000000000000000000000000000000000000000000000055aa",
        ),
    ];

    fn disk() -> Vec<u8> {
        let mut disk = vec![0; 64 << 20];
        for (sector, hex) in SFDISK {
            for (n, pair) in hex.as_bytes().chunks(2).enumerate() {
                let text = std::str::from_utf8(pair).unwrap();
                disk[sector * 512 + CODE + n] = u8::from_str_radix(text, 16).unwrap();
            }
        }
        disk
    }

    #[test]
    fn primary_and_logical_partitions_are_counted_from_where_they_are_counted() {
        let mut disk = disk();
        let mbr = parse(&disk[..512]).unwrap();
        assert!(!mbr.has_code && mbr.entries.len() == 2 && mbr.entries[0].active && mbr.entries[1].is_extended());
        let (logical, wrong) = logicals(&mut disk, &mbr.entries[1], 512);
        let found: Vec<_> = logical.iter().map(|e| (e.number, e.kind, e.first, e.count)).collect();
        assert_eq!(found, [(5, 0x83, 20480, 20480), (6, 0x82, 43008, 10240)]);
        assert_eq!(wrong, None);
    }

    /// Programs link in the order in which partitions were made.
    #[test]
    fn logical_partitions_are_followed_in_the_order_of_their_links() {
        let mut disk = disk();
        let put = |disk: &mut Vec<u8>, sector: usize, link: Option<u32>| {
            let at = sector * 512 + ENTRIES;
            disk[at..at + 64].fill(0);
            (disk[at + 4], disk[at + 8], disk[at + 13]) = (0x83, 8, 1);
            if let Some(link) = link {
                disk[at + 20] = 5;
                disk[at + 24..at + 28].copy_from_slice(&(link - 18432).to_le_bytes());
                disk[at + 29] = 2;
            }
            disk[sector * 512 + SIGNATURE..][..2].copy_from_slice(&[0x55, 0xAA]);
        };
        put(&mut disk, 18432, Some(60_000));
        put(&mut disk, 60_000, Some(40_000));
        put(&mut disk, 40_000, Some(50_000));
        put(&mut disk, 50_000, None);
        let extended = parse(&disk[..512]).unwrap().entries[1].clone();
        let (logical, wrong) = logicals(&mut disk, &extended, 512);
        let found: Vec<_> = logical.iter().map(|entry| (entry.number, entry.first)).collect();
        assert_eq!((found, wrong), (vec![(5, 18_440), (6, 60_008), (7, 40_008), (8, 50_008)], None));
        // A circle that leaves out the first of them.
        put(&mut disk, 50_000, Some(40_000));
        let (logical, wrong) = logicals(&mut disk, &extended, 512);
        assert!(logical.len() == 4 && wrong.is_some_and(|what| what.contains("leads back")), "{wrong:?}");
    }

    #[test]
    fn a_chain_that_leads_back_or_out_ends_and_is_told() {
        for next in [0u32, 22528, 112_640, u32::MAX] {
            let mut disk = disk();
            let at = 40960 * 512 + ENTRIES + ENTRY;
            disk[at + 4] = 5;
            disk[at + 8..at + 12].copy_from_slice(&next.to_le_bytes());
            disk[at + 12..at + 16].copy_from_slice(&1u32.to_le_bytes());
            let extended = parse(&disk[..512]).unwrap().entries[1].clone();
            let (logical, wrong) = logicals(&mut disk, &extended, 512);
            assert!(logical.len() == 2 && wrong.is_some_and(|what| what.contains("leads back")), "{next}");
        }
    }

    #[test]
    fn a_sector_without_signature_or_with_another_status_is_no_table() {
        let disk = disk();
        let mut sector = disk[..512].to_vec();
        sector[446] = 1;
        assert_eq!(parse(&sector), None);
        sector[446] = 0;
        assert!(parse(&sector).is_some());
        sector[511] = 0;
        assert_eq!(parse(&sector), None);
        assert_eq!(parse(&[]), None);
    }
}
