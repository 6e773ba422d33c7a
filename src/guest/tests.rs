use std::cell::Cell;

use proptest::prelude::*;

use super::*;

mod two_answers;

/// Its word, its label, its length, and its bytes in hex by their offset.
type Made = (&'static str, Option<&'static str>, Option<u64>, &'static [(usize, &'static str)]);

/// What mkfs programs of Debian 12 wrote: the bytes that are looked at, by their offset. Made with `truncate -s SIZE f`, then
/// mkfs.ext4 -L rootfs (64 MiB), mkfs.xfs -L data (320 MiB), mkfs.vfat -F 32 -n EFIBOOT (64 MiB), mkfs.vfat -F 16 -n SIXTEEN (16 MiB),
/// mkfs.ntfs -F -Q (16 MiB), mkfs.exfat (16 MiB), mkfs.btrfs -L pool (128 MiB), mkswap -L swp (16 MiB), pvcreate (32 MiB),
/// cryptsetup luksFormat --type luks2 --label secret, and --type luks1 (32 MiB).
const MADE: &[Made] = &[
    (
        "ext4",
        Some("rootfs"),
        Some(64 << 20),
        &[(
            1024,
            "0040000000000100cc0c0000d7da0000f53f000001000000000000000000000000200000002000000008000000000000cccc026b0000ffff53ef010001000000cccc026b000000000000000001000000000000000b000000000100003c000000c20200006b040000e70ef0cc2e3e4702be5ae3bc8f5e252e726f6f746673000000000000000000000000000000000000",
        )],
    ),
    (
        "xfs",
        Some("data"),
        Some(320 << 20),
        &[(
            0,
            "584653420000100000000000000140000000000000000000000000000000000084409b41fbd94638ae7964e12f65542800000000000100060000000000000080000000000000008100000000000000820000000100005000000000040000000000004000b4a5020002000008646174610000000000000000",
        )],
    ),
    (
        "fat32",
        Some("EFIBOOT"),
        Some(64 << 20),
        &[
            (
                0,
                "eb58906d6b66732e66617400020120000200000000f80000200008000000000000000200f10300000000000002000000010006000000000000000000000000008000293b99c1cc454649424f4f54202020204641543332202020",
            ),
            (510, "55aa"),
        ],
    ),
    (
        "fat16",
        Some("SIXTEEN"),
        Some(16 << 20),
        &[
            (
                0,
                "eb3c906d6b66732e66617400020404000200020080f8200020000200000000000000000080002927afc1cc5349585445454e202020204641543136202020",
            ),
            (510, "55aa"),
        ],
    ),
    (
        "ntfs",
        None,
        Some(16 << 20),
        &[
            (
                0,
                "eb52904e5446532020202000020800000000000000f8000000000000000000000000000080008000ff7f0000000000000400000000000000ff07000000000000f600000001000000fdf0ce6f59f6fc7e",
            ),
            (510, "55aa"),
        ],
    ),
    (
        "exfat",
        None,
        Some(16 << 20),
        &[(
            0,
            "eb76904558464154202020000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000080000000000000000800002000000000100000000e000005000000cccc976f00010000090301800000000000000000",
        )],
    ),
    (
        "btrfs",
        Some("pool"),
        Some(128 << 20),
        &[
            (65600, "5f42485266535f4d"),
            (65737, "010000000000000000000008000000000000800500000000"),
            (65835, "706f6f6c00000000"),
        ],
    ),
    (
        "swap",
        Some("swp"),
        Some(16 << 20),
        &[
            (1024, "01000000ff0f000000000000f1d65107754848128147fefff60097f9737770000000000000000000"),
            (4086, "53574150535041434532"),
        ],
    ),
    ("lvm", None, None, &[(512, "4c4142454c4f4e450100000000000000c5cf703f200000004c564d3220303031")]),
    (
        "luks",
        Some("secret"),
        None,
        &[(0, "4c554b53babe000200000000000040000000000000000003736563726574000000000000000000000000000000000000")],
    ),
    ("luks", None, None, &[(0, "4c554b53babe00016165730000000000")]),
];

const LEN: usize = 1 << 20;

fn put(disk: &mut [u8], at: usize, hex: &str) {
    for (n, pair) in hex.as_bytes().chunks(2).enumerate() {
        disk[at + n] = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    }
}

fn with(parts: &[(usize, &str)]) -> Vec<u8> {
    let mut disk = vec![0; LEN];
    parts.iter().for_each(|(at, hex)| put(&mut disk, *at, hex));
    disk
}

fn facts() -> Facts {
    Facts::new("raw", "raw disk", LEN as u64)
}

#[test]
fn file_systems_are_known_by_what_their_makers_write() {
    for (word, label, len, parts) in MADE {
        let mut disk = with(parts);
        let found = filesystem::look(&mut disk, 0, LEN as u64).unwrap_or_else(|| panic!("{word}"));
        assert_eq!((found.word, found.label.as_deref()), (*word, *label));
        assert_eq!(found.len, *len, "{word}");
        assert_eq!(found.encrypted, *word == "luks");
        // The same further in, as a partition.
        let mut shifted = vec![0; 70_000];
        shifted.extend(&disk);
        let again = filesystem::look(&mut shifted, 70_000, LEN as u64);
        assert_eq!(again.as_ref(), Some(&found));
        // What states its length is longer than this disk: it was cut.
        let guest = probe(&mut disk, &facts());
        assert_eq!(
            guest.advice.iter().any(|line| line.contains("cut short")),
            len.is_some(),
            "{word}: {:?}",
            guest.advice
        );
        assert_eq!(guest.table.kind, TableKind::None, "{word}");
    }
    assert_eq!(filesystem::look(&mut vec![0; LEN], 0, LEN as u64), None);
}

#[test]
fn a_magic_number_counts_in_its_place_alone() {
    for (word, _, _, parts) in MADE {
        let disk = with(parts);
        let mut shifted = vec![0; 8];
        shifted.extend(&disk);
        assert_eq!(filesystem::look(&mut shifted, 0, LEN as u64 + 8), None, "{word}");
    }
}

#[test]
fn sleeping_and_unclean_systems_are_told() {
    let mut swap = with(MADE[7].3);
    swap[4086..4096].copy_from_slice(b"S1SUSPEND\0");
    let advice = probe(&mut swap, &facts()).advice;
    assert!(advice.iter().any(|line| line.contains("sleeps")), "{advice:?}");
    let mut ext = with(MADE[0].3);
    ext[0x45C] = 4; // a journal
    ext[0x460] = 0x44; // extents, and recovery needed
    let guest = probe(&mut ext, &facts());
    assert!(guest.file_system.as_ref().unwrap().word == "ext4" && guest.advice.iter().any(|l| l.contains("journal")));
    ext[0x460..0x468].fill(0); // nothing that ext4 alone has
    ext[0x460] = 4;
    assert_eq!(probe(&mut ext, &facts()).file_system.unwrap().word, "ext3");
    ext[0x45C] = 0;
    assert_eq!(probe(&mut ext, &facts()).file_system.unwrap().word, "ext2");
}

/// What no program at hand makes: the bytes that the sources name, and nothing else.
#[test]
fn what_others_make_is_known_by_what_the_sources_say() {
    let uuid = [0xC6, 0x85, 0x73, 0xF6];
    let raid = |sector: u64| [b"\xFC\x4E\x2B\xA9\x01\0\0\0".as_slice(), &[0; 136], &sector.to_le_bytes()].concat();
    let end_1_0 = LEN - 0x2000;
    let mut f2fs = vec![0; 2];
    f2fs.splice(0..0, *b"\x10\x20\xF5\xF2");
    for (word, at, bytes) in [
        ("bitlocker", 0, b"\xEB\x58\x90-FVE-FS-".to_vec()),
        ("bitlocker", 0, b"\xEB\x52\x90-FVE-FS-".to_vec()),
        ("refs", 0, b"\0\0\0ReFS\0".to_vec()),
        ("f2fs", 1024, f2fs),
        ("squashfs", 0, [b"hsqs".as_slice(), &[0; 24], &[4, 0], &[0; 18]].concat()),
        ("linux_raid", 0, raid(0)),
        ("linux_raid", 4096, raid(8)),
        ("linux_raid", end_1_0, raid(end_1_0 as u64 / 512)),
        ("linux_raid", LEN - 0x1_0000, b"\xFC\x4E\x2B\xA9".to_vec()),
        ("hfsplus", 1024, b"H+\0\x04".to_vec()),
        ("hfs", 1024, [b"BD".as_slice(), &[0; 18], &4096u32.to_be_bytes()].concat()),
        ("apfs", 32, b"NXSB".to_vec()),
        ("zfs", 0x4000, b"\x01\x01\0\0version\0 name\0 pool_guid".to_vec()),
        ("bcache", 4120, [uuid.as_slice(), b"\x4E\x1A\x45\xCA"].concat()),
        ("bcachefs", 4120, [uuid.as_slice(), b"\x66\xCE\x90\xA9"].concat()),
        ("iso9660", 0x8001, b"CD001".to_vec()),
    ] {
        let mut disk = vec![0; LEN];
        disk[at..at + bytes.len()].copy_from_slice(&bytes);
        let found = filesystem::look(&mut disk, 0, LEN as u64).map(|found| found.word);
        assert_eq!(found, Some(word), "at {at}");
    }
    let mut udf = vec![0; LEN];
    udf[0x8001..0x8006].copy_from_slice(b"BEA01");
    udf[0x8801..0x8806].copy_from_slice(b"NSR02");
    assert_eq!(filesystem::look(&mut udf, 0, LEN as u64).map(|found| found.word), Some("udf"));
    let mut vmfs = vec![0; 3 << 20];
    vmfs[1 << 20..(1 << 20) + 4].copy_from_slice(b"\x0D\xD0\x01\xC0");
    assert_eq!(filesystem::look(&mut vmfs, 0, 3 << 20).map(|found| found.word), Some("vmfs"));
}

#[test]
fn a_boot_sector_without_entries_is_that_of_the_file_system_behind_it() {
    let mut disk = with(MADE[0].3);
    disk[510..512].copy_from_slice(&[0x55, 0xAA]);
    let guest = probe(&mut disk, &facts());
    assert_eq!((guest.table.kind, guest.boot.kind), (TableKind::None, BootKind::Bios));
    assert_eq!(guest.file_system.map(|found| found.word), Some("ext4"));
}

/// An MBR with these entries: status, type, first sector, sectors.
fn mbr(entries: &[(u8, u8, u32, u32)], code: &[u8]) -> Vec<u8> {
    let mut disk = vec![0; LEN];
    disk[..code.len()].copy_from_slice(code);
    for (n, (status, kind, first, count)) in entries.iter().enumerate() {
        let at = 446 + n * 16;
        (disk[at], disk[at + 4]) = (*status, *kind);
        disk[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
        disk[at + 12..at + 16].copy_from_slice(&count.to_le_bytes());
    }
    disk[510..512].copy_from_slice(&[0x55, 0xAA]);
    disk
}

#[test]
fn what_boots_from_an_mbr_follows_from_types_and_boot_code() {
    const CODE: &[u8] = &[0xFA, 0x33, 0xC0];
    for (entries, code, kind) in [
        (vec![(0x80, 7, 64, 1000)], CODE, BootKind::Bios),
        (vec![(0x80, 7, 64, 1000)], b"".as_slice(), BootKind::Unknown),
        (vec![(0, 0x83, 64, 1000)], CODE, BootKind::Unknown),
        (vec![(0, 0x83, 64, 1000)], b"\xEB\x63\x90 GRUB ", BootKind::Bios),
        (vec![(0, 0xEF, 64, 1000)], b"", BootKind::Efi),
        (vec![(0, 0xEF, 64, 1000), (0x80, 0x83, 1064, 100)], CODE, BootKind::Either),
        (vec![], b"", BootKind::Unknown),
    ] {
        let guest = probe(&mut mbr(&entries, code), &facts());
        assert_eq!((guest.table.kind, guest.boot.kind), (TableKind::Mbr, kind), "{entries:?}: {}", guest.boot.reason);
    }
}

#[test]
fn a_guarded_gpt_that_is_gone_a_dynamic_disk_and_a_cut_partition_are_told() {
    let advice = |disk: &mut Vec<u8>| probe(disk, &facts()).advice.join("\n");
    assert!(advice(&mut mbr(&[(0, 0xEE, 1, u32::MAX)], b"")).contains("guards a GPT"));
    assert!(advice(&mut mbr(&[(0, 0x83, 64, 2048)], b"")).contains("ends 32768 bytes behind the disk's end"));
    let mut dynamic = mbr(&[(0, 0x42, 63, 1000)], b"");
    assert!(!advice(&mut dynamic).contains("dynamic disk"), "a type alone is no database");
    dynamic[3072..3080].copy_from_slice(b"PRIVHEAD");
    assert!(advice(&mut dynamic).contains("dynamic disk"));
}

#[test]
fn the_adapter_is_named_where_a_bios_starts_windows_from_a_vhd() {
    let mut disk = mbr(&[(0x80, 7, 64, 1000)], &[0xFA]);
    disk.splice(64 * 512..64 * 512 + 80, with(MADE[4].3)[..80].to_vec());
    let vhd = Facts::new("vhd", "VHD", LEN as u64);
    assert!(probe(&mut disk.clone(), &vhd).advice.iter().any(|line| line.contains("--adapter ide")));
    assert!(!probe(&mut disk, &facts()).advice.iter().any(|line| line.contains("--adapter")));
}

/// Counts what is asked for.
struct Counted(Vec<u8>, Cell<u64>);

impl Bytes for Counted {
    fn read(&mut self, at: u64, len: usize) -> Vec<u8> {
        self.1.set(self.1.get() + 1);
        self.0.read(at, len)
    }
}

/// A disk with an MBR, logical partitions and a GPT: every parser has something to read.
fn busy() -> Vec<u8> {
    let mut disk = mbr(&[(0x80, 7, 64, 100), (0, 5, 200, 1500), (0, 0xEE, 1, 2047)], b"code");
    for (sector, next) in [(200usize, 100u32), (300, 200), (400, 0)] {
        let at = sector * 512 + 446;
        disk[at + 4] = 0x83;
        (disk[at + 8], disk[at + 12]) = (2, 50);
        disk[at + 16 + 4] = 5;
        disk[at + 24..at + 28].copy_from_slice(&next.to_le_bytes());
        disk[at + 28] = u8::from(next > 0);
        disk[sector * 512 + 510..sector * 512 + 512].copy_from_slice(&[0x55, 0xAA]);
    }
    for (n, (_, _, _, parts)) in MADE.iter().enumerate() {
        for (at, hex) in parts.iter().filter(|(at, _)| *at < 8192) {
            put(&mut disk, 600 * 512 + n * 16384 + at, hex);
        }
    }
    disk
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever stands in the tables, nothing panics, and no more is read than the limits allow.
    #[test]
    fn hostile_tables_are_read_in_bounds(
        changes in prop::collection::vec((0usize..LEN, any::<u8>()), 0..40),
        near in prop::collection::vec((prop::sample::select(vec![440usize, 512, 1024, 200 * 512 + 440, 300 * 512 + 440]), 0usize..160, any::<u8>()), 0..40),
        noise in prop::option::of(prop::collection::vec(any::<u8>(), 4096)),
        cut in 0usize..LEN,
    ) {
        let mut disk = busy();
        if let Some(noise) = noise {
            disk[512..512 + noise.len()].copy_from_slice(&noise);
        }
        for (at, value) in changes {
            disk[at] = value;
        }
        for (base, at, value) in near {
            disk[base + at] = value;
        }
        disk.truncate(LEN - cut / 512 * 512);
        let facts = Facts::new("raw", "raw disk", disk.len() as u64);
        let mut counted = Counted(disk, Cell::new(0));
        let guest = probe(&mut counted, &facts);
        prop_assert!(guest.partitions.len() <= MOST_PARTITIONS);
        prop_assert!(counted.1.get() < 4000, "{} reads", counted.1.get());
    }
}
