//! What an EFI system partition holds: the loaders that firmware finds by their names alone.
//!
//! Any other loader is found through an entry in the machine's own memory, which no disk carries.
//!
//! Sources: UEFI specification, "Removable Media Boot Behavior"; "FAT: General Overview of On-Disk Format" 1.03. An entry of a directory
//! has 32 bytes: a name of 8 and 3 (the first byte 0: the directory ends; E5: it was deleted), attributes at 11, the first cluster at 20
//! (its upper half) and 26. With attributes 0F it holds 13 units of the long name of the next entry, the last part first.

use byteorder::{ByteOrder, LittleEndian};

use super::bytes::{Bytes, int};
use super::fat::{Kind, Shape};

/// Bytes that are read of one partition.
const MOST: usize = 512 << 10;
const BOOT_SECTOR: usize = 512;
/// Bytes of a directory that are read at once.
const CHUNK: usize = 16 << 10;

/// Names of loaders, and the machines that they are for.
const LOADERS: [(&str, &str); 5] = [
    ("BOOTX64.EFI", "x64"),
    ("BOOTAA64.EFI", "ARM64"),
    ("BOOTIA32.EFI", "32-bit x86"),
    ("BOOTARM.EFI", "32-bit ARM"),
    ("BOOTRISCV64.EFI", "RISC-V"),
];

/// The loaders of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loaders {
    /// The machines for which there is one in `EFI/BOOT`.
    pub fallback: Vec<&'static str>,
    /// Windows' boot manager stands in its own folder.
    pub windows: bool,
}

/// The loaders of the FAT file system at byte `start`; `None` where it cannot be read to the end of what is looked for.
pub fn look(bytes: &mut impl Bytes, start: u64) -> Option<Loaders> {
    let boot = bytes.read(start, BOOT_SECTOR);
    let shape = Shape::of(&boot).filter(|_| boot.len() == BOOT_SECTOR)?;
    let mut volume = Volume { bytes, start, left: MOST - BOOT_SECTOR, shape };
    let root = match shape.kind {
        Kind::Fat32 => Folder::From(shape.root_cluster),
        Kind::Fat12 | Kind::Fat16 => Folder::Root,
    };
    let Some(efi) = volume.find(root, "EFI")? else { return Some(Loaders::default()) };
    let mut loaders = Loaders::default();
    if let Some(boot) = volume.find(efi, "BOOT")? {
        let names = volume.list(boot)?;
        let has = |name: &str| names.iter().any(|entry| entry.is(name) && !entry.is_folder);
        loaders.fallback = LOADERS.iter().filter(|(name, _)| has(name)).map(|(_, machine)| *machine).collect();
    }
    if let Some(microsoft) = volume.find(efi, "Microsoft")?
        && let Some(boot) = volume.find(microsoft, "Boot")?
    {
        loaders.windows = volume.list(boot)?.iter().any(|entry| entry.is("bootmgfw.efi") && !entry.is_folder);
    }
    Some(loaders)
}

/// Where a directory begins.
#[derive(Debug, Clone, Copy)]
enum Folder {
    /// The root of FAT12 and FAT16, which lies behind the tables.
    Root,
    /// In this cluster.
    From(u64),
}

/// An entry of a directory.
struct Entry {
    short: String,
    long: String,
    is_folder: bool,
    cluster: u64,
}

impl Entry {
    fn is(&self, name: &str) -> bool {
        self.short.eq_ignore_ascii_case(name) || self.long.eq_ignore_ascii_case(name)
    }
}

struct Volume<'a, B: Bytes> {
    bytes: &'a mut B,
    start: u64,
    /// Bytes that may still be read.
    left: usize,
    shape: Shape,
}

impl<B: Bytes> Volume<'_, B> {
    /// All of `len` bytes from byte `at` of the volume.
    fn read(&mut self, at: u64, len: usize) -> Option<Vec<u8>> {
        self.left = self.left.checked_sub(len)?;
        let read = self.bytes.read(self.start.checked_add(at)?, len);
        (read.len() == len).then_some(read)
    }

    /// The folder of this name in `folder`.
    fn find(&mut self, folder: Folder, name: &str) -> Option<Option<Folder>> {
        let entries = self.list(folder)?;
        Some(entries.iter().find(|entry| entry.is_folder && entry.is(name)).map(|entry| Folder::From(entry.cluster)))
    }

    fn list(&mut self, folder: Folder) -> Option<Vec<Entry>> {
        let shape = self.shape;
        let mut list = Listing::default();
        let root = (shape.reserved + shape.tables) * shape.sector;
        let mut cluster = match folder {
            Folder::Root => {
                self.list_at(root, shape.root * shape.sector, &mut list)?;
                return Some(list.entries);
            }
            Folder::From(cluster) => cluster,
        };
        let len = shape.cluster * shape.sector;
        // What a loop reads is spent at last.
        while !list.ended && (2..shape.clusters.saturating_add(2)).contains(&cluster) {
            let at = (cluster - 2).checked_mul(len)?.checked_add(root + shape.root * shape.sector)?;
            self.list_at(at, len, &mut list)?;
            if !list.ended {
                cluster = self.next(cluster)?;
            }
        }
        // A chain ends with a mark; what leads nowhere may hide the rest.
        (list.ended || cluster > shape.clusters.saturating_add(1)).then_some(list.entries)
    }

    fn list_at(&mut self, at: u64, len: u64, list: &mut Listing) -> Option<()> {
        let mut done = 0;
        while done < len && !list.ended {
            let chunk = usize::try_from(len - done).unwrap_or(CHUNK).min(CHUNK);
            let read = self.read(at.checked_add(done)?, chunk)?;
            read.chunks_exact(32).for_each(|raw| list.add(raw));
            done += chunk as u64;
        }
        Some(())
    }

    /// The cluster behind this one.
    fn next(&mut self, cluster: u64) -> Option<u64> {
        let shape = self.shape;
        let table = shape.reserved * shape.sector;
        let (at, len) = match shape.kind {
            Kind::Fat12 => (cluster + cluster / 2, 2),
            Kind::Fat16 => (cluster * 2, 2),
            Kind::Fat32 => (cluster * 4, 4),
        };
        let entry = int::le::<4>(&[self.read(table.checked_add(at)?, len)?, vec![0; 2]].concat(), 0);
        Some(match shape.kind {
            Kind::Fat12 if cluster % 2 == 1 => entry >> 4,
            Kind::Fat12 => entry & 0xFFF,
            Kind::Fat16 => entry,
            Kind::Fat32 => entry & 0x0FFF_FFFF,
        })
    }
}

/// A directory as far as it was read.
#[derive(Default)]
struct Listing {
    entries: Vec<Entry>,
    /// Of the long name that the next entry has.
    units: Vec<u16>,
    ended: bool,
}

impl Listing {
    fn add(&mut self, raw: &[u8]) {
        const DELETED: u64 = 0xE5;
        let (first, attributes) = (int::le::<1>(raw, 0), int::le::<1>(raw, 11));
        self.ended |= first == 0;
        if self.ended || first == DELETED {
            self.units.clear();
            return;
        }
        if attributes & 0x3F == 0x0F {
            let places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
            let unit = |at: usize| raw.get(at..at + 2).map_or(0, LittleEndian::read_u16);
            let mut units: Vec<u16> = places.into_iter().map(unit).collect();
            // Longer than any name: not a name.
            if self.units.len() < 260 {
                units.append(&mut self.units);
                self.units = units;
            }
            return;
        }
        let units = std::mem::take(&mut self.units);
        let end = units.iter().position(|unit| *unit == 0).unwrap_or(units.len());
        let long = String::from_utf16_lossy(units.get(..end).unwrap_or_default());
        let part = |from: usize, to: usize| {
            String::from_utf8_lossy(raw.get(from..to).unwrap_or_default()).trim_end().to_string()
        };
        let short = match (part(0, 8), part(8, 11)) {
            (name, ending) if ending.is_empty() => name,
            (name, ending) => format!("{name}.{ending}"),
        };
        let is_volume_label = attributes & 0x08 != 0;
        if !is_volume_label {
            let cluster = int::le::<2>(raw, 20) << 16 | int::le::<2>(raw, 26);
            self.entries.push(Entry { short, long, is_folder: attributes & 0x10 != 0, cluster });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Byte of the first cluster, and bytes of each, of [`volume`].
    const FIRST: usize = 4 * 512;
    const CLUSTER: usize = 512;

    fn entry(name: &[u8; 11], attributes: u8, cluster: u16) -> Vec<u8> {
        let mut raw = vec![0; 32];
        raw[..11].copy_from_slice(name);
        raw[11] = attributes;
        raw[26..28].copy_from_slice(&cluster.to_le_bytes());
        raw
    }

    /// FAT12 of a MiB with these clusters, from the second on: one sector reserved, two tables of one sector, a root of one.
    fn volume(root: &[Vec<u8>], clusters: &[(u16, Vec<Vec<u8>>)], links: &[(usize, u16)]) -> Vec<u8> {
        let mut disk = vec![0; 1 << 20];
        disk[..3].copy_from_slice(&[0xEB, 0x3C, 0x90]);
        disk[11..13].copy_from_slice(&512u16.to_le_bytes());
        (disk[13], disk[14], disk[16], disk[17], disk[21], disk[22]) = (1, 1, 2, 16, 0xF8, 1);
        disk[19..21].copy_from_slice(&2048u16.to_le_bytes());
        disk[510..512].copy_from_slice(&[0x55, 0xAA]);
        let mut put = |at: usize, entries: &[Vec<u8>]| {
            let bytes = entries.concat();
            disk[at..at + bytes.len()].copy_from_slice(&bytes);
        };
        put(3 * 512, root);
        clusters.iter().for_each(|(n, entries)| put(FIRST + (usize::from(*n) - 2) * CLUSTER, entries));
        for (cluster, next) in links {
            let at = 512 + cluster + cluster / 2;
            let old = u16::from_le_bytes([disk[at], disk[at + 1]]);
            let new = if cluster % 2 == 1 { old & 0x000F | next << 4 } else { old & 0xF000 | next };
            disk[at..at + 2].copy_from_slice(&new.to_le_bytes());
        }
        disk
    }

    fn efi(links: &[(usize, u16)]) -> Vec<u8> {
        // EFI/BOOT fills one cluster with other files, and goes on in another.
        let other = vec![entry(b"OTHER   EFI", 0x20, 9); 16];
        volume(
            &[entry(b"LABEL      ", 8, 0), entry(b"EFI        ", 0x10, 2)],
            &[
                (2, vec![entry(b"BOOT       ", 0x10, 3)]),
                (3, other),
                (5, vec![entry(b"BOOTAA64EFI", 0x20, 8), entry(b"BOOTX64 EFI", 0x20, 7)]),
            ],
            links,
        )
    }

    #[test]
    fn a_loader_in_the_second_cluster_of_its_folder_is_found() {
        let found = look(&mut efi(&[(2, 0xFFF), (3, 5), (5, 0xFFF)]), 0).unwrap();
        assert_eq!(found, Loaders { fallback: vec!["x64", "ARM64"], windows: false });
    }

    #[test]
    fn what_leads_nowhere_in_a_circle_or_behind_the_end_says_nothing() {
        for link in [3, 0, 1] {
            assert_eq!(look(&mut efi(&[(3, link)]), 0), None, "{link}");
        }
        let mut cut = efi(&[(3, 5)]);
        cut.truncate(FIRST + 2 * CLUSTER);
        assert_eq!(look(&mut cut, 0), None);
        assert_eq!(look(&mut vec![0; 4096], 0), None);
    }

    #[test]
    fn an_empty_partition_has_no_loader() {
        assert_eq!(look(&mut volume(&[], &[], &[]), 0), Some(Loaders::default()));
        // Deleted, or a file.
        let root = [entry(b"\xE5FI        ", 0x10, 2), entry(b"EFI        ", 0x20, 2)];
        assert_eq!(look(&mut volume(&root, &[], &[]), 0), Some(Loaders::default()));
    }

    /// Counts what is read.
    struct Counted(Vec<u8>, usize);

    impl Bytes for Counted {
        fn read(&mut self, at: u64, len: usize) -> Vec<u8> {
            self.1 += len;
            self.0.read(at, len)
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_there_little_is_read(
            changes in prop::collection::vec((0usize..8192, any::<u8>()), 0..40),
            boot in prop::collection::vec((11usize..48, any::<u8>()), 0..3),
        ) {
            let mut disk = efi(&[(2, 0xFFF), (3, 5), (5, 0xFFF)]);
            changes.iter().chain(&boot).for_each(|(at, byte)| disk[*at] = *byte);
            let mut counted = Counted(disk, 0);
            look(&mut counted, 0);
            prop_assert!(counted.1 <= MOST);
        }
    }
}
