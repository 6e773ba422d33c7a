//! The partition table of EFI: a header and an array of entries, and a copy of both at the disk's end.
//!
//! Source: UEFI specification, chapter 5. An entry, all little-endian:
//!
//! | offset | bytes | field        | reading                                                  |
//! |-------:|------:|--------------|----------------------------------------------------------|
//! |      0 |    16 | type         | all zero: not used                                       |
//! |     32 |     8 | first sector |                                                          |
//! |     40 |     8 | last sector  | itself a part of it                                      |
//! |     48 |     8 | attributes   | bit 2: a BIOS may boot from it                           |
//! |     56 |    72 | name         | UTF-16, up to a zero                                     |

use uuid::Uuid;

use super::bytes::{Bytes, int};
use crate::image::{GptHeader, GptLook};

/// Bytes of an array that are read: both copies leave half of what a look into a guest may read to all else. The usual array has 16 KiB;
/// sgdisk gives it as many entries as it is told to. Of a larger one the checksum stays unknown.
const MOST_READ: u64 = 512 << 10;
/// The sizes that a sector has.
const SECTOR_SIZES: [u64; 2] = [512, 4096];

/// How one of the two copies is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copy {
    /// Header and entries are what their checksums say.
    Sound,
    /// One of them is not.
    Damaged,
    /// There is no header where it should be.
    Missing,
    /// The disk ends in front of it.
    Outside,
    /// Its header is what its checksum says; its entries are more than are read, so theirs was not taken.
    Unchecked,
}

impl Copy {
    /// One word for reports.
    pub fn word(self) -> &'static str {
        match self {
            Copy::Sound => "sound",
            Copy::Damaged => "damaged",
            Copy::Missing => "missing",
            Copy::Outside => "outside",
            Copy::Unchecked => "unchecked",
        }
    }
}

/// A table, by the copy that is sound; the primary where both are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt {
    /// The sector size that it was made for.
    pub sector_size: u64,
    /// The disk's GUID.
    pub disk_id: Uuid,
    /// The copy at the disk's beginning.
    pub primary: Copy,
    /// The copy at the disk's end.
    pub backup: Copy,
    /// Bytes of the disk that it was made for.
    pub made_for: u64,
    /// The partitions in the table's order.
    pub entries: Vec<Entry>,
    /// Where the array was not read to its end: the entries that were looked at, and those that it has room for.
    pub cut: Option<(u64, u64)>,
}

/// A partition, in sectors of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the table, from 1 on.
    pub number: u32,
    /// What it is for.
    pub kind: Uuid,
    /// Its first sector.
    pub first: u64,
    /// Its last sector.
    pub last: u64,
    /// A BIOS may boot from it.
    pub legacy_boot: bool,
    /// Its name.
    pub name: String,
}

/// A copy that was looked at.
enum Found {
    None,
    Damaged,
    Whole(Whole),
}

/// A copy in which nothing is wrong, as far as it was read.
struct Whole {
    header: GptHeader,
    entries: Vec<Entry>,
    /// As in [`Gpt`].
    cut: Option<(u64, u64)>,
}

impl Whole {
    fn copy(&self) -> Copy {
        if self.cut.is_none() { Copy::Sound } else { Copy::Unchecked }
    }
}

/// Looks for a table on a disk of `len` bytes.
pub fn find(bytes: &mut impl Bytes, len: u64) -> Option<Gpt> {
    let mut damaged = None;
    for size in SECTOR_SIZES {
        match copy(bytes, 1, size) {
            Found::Whole(primary) => return Some(with_backup(bytes, len, size, primary)),
            Found::Damaged => damaged = Some(size),
            Found::None => {}
        }
    }
    // The primary is lost: the copy in the last sector speaks for it.
    for size in SECTOR_SIZES.into_iter().filter(|size| damaged.is_none_or(|seen| seen == *size)) {
        let Some(last) = (len / size).checked_sub(1) else { continue };
        if let Found::Whole(backup) = copy(bytes, last, size) {
            return Some(Gpt {
                sector_size: size,
                disk_id: backup.header.disk_id,
                primary: if damaged.is_some() { Copy::Damaged } else { Copy::Missing },
                backup: backup.copy(),
                made_for: backup.header.end(size).unwrap_or(len),
                entries: backup.entries,
                cut: backup.cut,
            });
        }
    }
    None
}

fn with_backup(bytes: &mut impl Bytes, len: u64, size: u64, primary: Whole) -> Gpt {
    let made_for = primary.header.end(size);
    let backup = match made_for.filter(|end| *end <= len) {
        None => Copy::Outside,
        Some(_) => match copy(bytes, primary.header.other, size) {
            Found::Whole(backup) => backup.copy(),
            Found::Damaged => Copy::Damaged,
            Found::None => Copy::Missing,
        },
    };
    Gpt {
        sector_size: size,
        disk_id: primary.header.disk_id,
        primary: primary.copy(),
        backup,
        made_for: made_for.unwrap_or(u64::MAX),
        entries: primary.entries,
        cut: primary.cut,
    }
}

/// The copy whose header is in this sector.
fn copy(bytes: &mut impl Bytes, sector: u64, size: u64) -> Found {
    let Some(at) = sector.checked_mul(size) else { return Found::None };
    let raw = bytes.read(at, usize::try_from(size).unwrap_or_default());
    let header = match GptHeader::look(&raw) {
        GptLook::None => return Found::None,
        GptLook::Sound(header) if header.here == sector && header.is_possible(size) => header,
        GptLook::Sound(_) | GptLook::Damaged => return Found::Damaged,
    };
    let Some(start) = header.entries_at.checked_mul(size) else { return Found::Damaged };
    let whole = header.entries_len();
    let most = whole.min(MOST_READ);
    let Some(array) = array(bytes, start, most) else { return Found::Damaged };
    if most == whole && crc32fast::hash(&array) != header.entries_crc {
        return Found::Damaged;
    }
    let len = usize::try_from(header.entry_len).unwrap_or(usize::MAX);
    let looked_at = (array.len() / len) as u64;
    let cut = (most < whole).then_some((looked_at, u64::from(header.entry_count)));
    let entries = (1..).zip(array.chunks_exact(len)).filter_map(|(number, raw)| entry(number, raw)).collect();
    Found::Whole(Whole { header, entries, cut })
}

/// That many bytes of an array, a read's worth at a time; `None` where they cannot be had.
fn array(bytes: &mut impl Bytes, start: u64, most: u64) -> Option<Vec<u8>> {
    let mut array = Vec::new();
    while (array.len() as u64) < most {
        let want = usize::try_from(most - array.len() as u64).ok()?;
        let part = bytes.read(start.saturating_add(array.len() as u64), want);
        if part.is_empty() {
            return None;
        }
        array.extend(part);
    }
    Some(array)
}

fn entry(number: u32, raw: &[u8]) -> Option<Entry> {
    let kind = Uuid::from_bytes_le(*raw.first_chunk::<16>()?);
    let (first, last) = (int::le::<8>(raw, 32), int::le::<8>(raw, 40));
    if kind.is_nil() || last < first {
        return None;
    }
    let units = raw.get(56..128)?.chunks_exact(2).map(|pair| int::le::<2>(pair, 0));
    let units: Vec<u16> = units.take_while(|unit| *unit != 0).filter_map(|unit| u16::try_from(unit).ok()).collect();
    let legacy_boot = int::le::<8>(raw, 48) & 4 != 0;
    Some(Entry { number, kind, first, last, legacy_boot, name: String::from_utf16_lossy(&units) })
}

/// The types that decide how a machine boots, or what stands in the way.
pub mod kind {
    use uuid::{Uuid, uuid};

    pub const EFI_SYSTEM: Uuid = uuid!("C12A7328-F81F-11D2-BA4B-00A0C93EC93B");
    pub const BIOS_BOOT: Uuid = uuid!("21686148-6449-6E6F-744E-656564454649");
    pub const FREEBSD_BOOT: Uuid = uuid!("83BD6B9D-7F41-11DC-BE0B-001560B84F0F");
    pub const MICROSOFT_RESERVED: Uuid = uuid!("E3C9E316-0B5C-4DB8-817D-F92DF00215AE");
    pub const WINDOWS_RECOVERY: Uuid = uuid!("DE94BBA4-06D1-4D40-A16A-BFD50179D6AC");
    pub const LDM_METADATA: Uuid = uuid!("5808C8AA-7E8F-42E0-85D2-E1E90434CFB3");
    pub const LDM_DATA: Uuid = uuid!("AF9B60A0-1431-4F62-BC68-3311714A69AD");
    pub const STORAGE_SPACES: Uuid = uuid!("E75CAF8F-F680-4CEE-AFA3-B001E56EFC2D");

    /// What a type is for; empty where it is not known here.
    pub fn name(kind: Uuid) -> &'static str {
        NAMES.iter().find(|(known, _)| *known == kind).map_or("", |(_, name)| name)
    }

    const NAMES: [(Uuid, &str); 25] = [
        (EFI_SYSTEM, "EFI system"),
        (BIOS_BOOT, "BIOS boot"),
        (FREEBSD_BOOT, "FreeBSD boot"),
        (MICROSOFT_RESERVED, "Microsoft reserved"),
        (WINDOWS_RECOVERY, "Windows recovery"),
        (LDM_METADATA, "Windows dynamic disk metadata"),
        (LDM_DATA, "Windows dynamic disk"),
        (STORAGE_SPACES, "Windows Storage Spaces"),
        (uuid!("EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"), "Microsoft basic data"),
        (uuid!("0FC63DAF-8483-4772-8E79-3D69D8477DE4"), "Linux"),
        (uuid!("4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"), "Linux root"),
        (uuid!("B921B045-1DF0-41C3-AF44-4C6F280D3FAE"), "Linux root"),
        (uuid!("933AC7E1-2EB4-4F13-B844-0E14E2AEF915"), "Linux home"),
        (uuid!("CA7D7CCB-63ED-4C53-861C-1742536059CC"), "Linux LUKS"),
        (uuid!("BC13C2FF-59E6-4262-A352-B275FD6F7172"), "Linux boot"),
        (uuid!("0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"), "Linux swap"),
        (uuid!("E6D6D379-F507-44C2-A23C-238F2A3DF928"), "Linux LVM"),
        (uuid!("A19D880F-05FC-4D3B-A006-743F0F84911E"), "Linux RAID"),
        (uuid!("9E1A2D38-C612-4316-AA26-8B49521E5A8B"), "PowerPC PReP"),
        (uuid!("7C3457EF-0000-11AA-AA11-00306543ECAC"), "Apple APFS"),
        (uuid!("48465300-0000-11AA-AA11-00306543ECAC"), "Apple HFS+"),
        (uuid!("AA31E02A-400F-11DB-9590-000C2911D1B8"), "VMware VMFS"),
        (uuid!("9D275380-40AD-11DB-BF97-000C2911D1B8"), "VMware diagnostic"),
        (uuid!("516E7CB6-6ECF-11D6-8FF8-00022D09712B"), "FreeBSD UFS"),
        (uuid!("516E7CBA-6ECF-11D6-8FF8-00022D09712B"), "FreeBSD ZFS"),
    ];
}

#[cfg(test)]
pub mod tests {
    use super::*;

    const LEN: usize = 64 << 20;

    /// A table as sgdisk writes it: 128 entries, of which the first is an EFI system partition, on 64 MiB.
    fn disk(size: usize) -> Vec<u8> {
        let mut disk = vec![0; LEN];
        write(&mut disk, size, 128, &[1]);
        disk
    }

    /// Both copies of a table with room for `count` entries, with an EFI system partition as each of `used`, all in one place.
    pub fn write(disk: &mut [u8], size: usize, count: usize, used: &[usize]) {
        let last = disk.len() / size - 1;
        let mut array = vec![0; count * 128];
        for number in used {
            let entry = &mut array[(number - 1) * 128..number * 128];
            entry[..16].copy_from_slice(&kind::EFI_SYSTEM.to_bytes_le());
            entry[32..40].copy_from_slice(&2048u64.to_le_bytes());
            entry[40..48].copy_from_slice(&4095u64.to_le_bytes());
            entry[56..60].copy_from_slice(&[b'E', 0, b'\xE9', 0]);
        }
        let (first, second) = (2, last - array.len() / size);
        for (here, other, entries) in [(1, last, first), (last, 1, second)] {
            let mut header = vec![0; 92];
            header[..8].copy_from_slice(b"EFI PART");
            header[10] = 1;
            header[12] = 92;
            header[24..32].copy_from_slice(&(here as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(other as u64).to_le_bytes());
            header[40..48].copy_from_slice(&34u64.to_le_bytes());
            header[48..56].copy_from_slice(&((last - 33) as u64).to_le_bytes());
            header[72..80].copy_from_slice(&(entries as u64).to_le_bytes());
            header[80..88].copy_from_slice(&(count as u64 | 128 << 32).to_le_bytes());
            header[88..92].copy_from_slice(&crc32fast::hash(&array).to_le_bytes());
            let sum = crc32fast::hash(&header);
            header[16..20].copy_from_slice(&sum.to_le_bytes());
            disk[here * size..][..92].copy_from_slice(&header);
            disk[entries * size..][..array.len()].copy_from_slice(&array);
        }
    }

    #[test]
    fn a_large_array_is_read_and_checked_whole() {
        let mut disk = vec![0; LEN];
        write(&mut disk, 512, 4096, &[1, 3000]);
        let numbers = |gpt: &Gpt| gpt.entries.iter().map(|entry| entry.number).collect::<Vec<_>>();
        let gpt = find(&mut disk, LEN as u64).unwrap();
        assert_eq!((gpt.primary, gpt.backup, gpt.cut, numbers(&gpt)), (Copy::Sound, Copy::Sound, None, vec![1, 3000]));
        let backup = LEN - 512 - 4096 * 128;
        for (at, primary, backup) in [(1024, Copy::Damaged, Copy::Sound), (backup, Copy::Sound, Copy::Damaged)]
            .map(|(at, p, b)| (at + 300_000, p, b))
        {
            let mut disk = disk.clone();
            disk[at] ^= 1;
            let gpt = find(&mut disk, LEN as u64).unwrap();
            assert_eq!((gpt.primary, gpt.backup, numbers(&gpt)), (primary, backup, vec![1, 3000]), "byte {at}");
        }
    }

    #[test]
    fn of_an_array_that_is_too_large_it_is_told_that_it_was_not_checked() {
        let mut disk = vec![0; LEN];
        write(&mut disk, 512, 16_384, &[1, 3000, 12_000]);
        let gpt = find(&mut disk, LEN as u64).unwrap();
        assert_eq!((gpt.primary, gpt.backup), (Copy::Unchecked, Copy::Unchecked));
        assert_eq!((gpt.entries.len(), gpt.cut), (2, Some((4096, 16_384))));
    }

    #[test]
    fn both_copies_are_looked_at_for_both_sector_sizes() {
        for size in [512, 4096] {
            let mut disk = disk(size);
            let gpt = find(&mut disk, LEN as u64).unwrap();
            assert_eq!((gpt.sector_size, gpt.primary, gpt.backup), (size as u64, Copy::Sound, Copy::Sound));
            assert_eq!(gpt.made_for, LEN as u64);
            let [Entry { number: 1, kind, first: 2048, last: 4095, legacy_boot: false, name }] = &gpt.entries[..]
            else {
                panic!("{:?}", gpt.entries)
            };
            assert!(*kind == kind::EFI_SYSTEM && name == "Eé" && kind::name(*kind) == "EFI system");
        }
    }

    #[test]
    fn where_one_copy_is_damaged_the_other_speaks() {
        for (at, primary, backup) in [
            (512, Copy::Missing, Copy::Sound),
            (512 + 60, Copy::Damaged, Copy::Sound),
            (1024, Copy::Damaged, Copy::Sound),
            (LEN - 512, Copy::Sound, Copy::Missing),
            (LEN - 512 + 60, Copy::Sound, Copy::Damaged),
            (LEN - 33 * 512, Copy::Sound, Copy::Damaged),
        ] {
            let mut disk = disk(512);
            disk[at] ^= 1;
            let gpt = find(&mut disk, LEN as u64).unwrap();
            assert_eq!((gpt.primary, gpt.backup, gpt.entries.len()), (primary, backup, 1), "byte {at}");
        }
        let mut disk = disk(512);
        (disk[512], disk[LEN - 512]) = (0, 0);
        assert_eq!(find(&mut disk, LEN as u64), None);
    }

    #[test]
    fn a_disk_that_was_cut_or_grown_shows_by_where_the_backup_is() {
        let mut disk = disk(512);
        disk.truncate(LEN - 512);
        let gpt = find(&mut disk, LEN as u64 - 512).unwrap();
        assert_eq!((gpt.backup, gpt.made_for), (Copy::Outside, LEN as u64));
        let mut disk = self::disk(512);
        disk.resize(LEN + 4096, 0);
        let gpt = find(&mut disk, LEN as u64 + 4096).unwrap();
        assert_eq!((gpt.backup, gpt.made_for), (Copy::Sound, LEN as u64));
    }

    #[test]
    fn numbers_that_no_table_has_are_damage_and_take_no_memory() {
        for (at, value) in
            [(80, u32::MAX), (80, 0), (84, 127), (84, 129), (84, u32::MAX), (72, u32::MAX), (12, u32::MAX)]
        {
            let mut disk = disk(512);
            disk[LEN - 512] = 0;
            disk[512 + at..512 + at + 4].copy_from_slice(&value.to_le_bytes());
            disk[512 + 16..512 + 20].fill(0);
            let sum = crc32fast::hash(&disk[512..512 + 92]);
            disk[512 + 16..512 + 20].copy_from_slice(&sum.to_le_bytes());
            assert_eq!(find(&mut disk, LEN as u64), None, "{value} at {at}");
        }
    }
}
