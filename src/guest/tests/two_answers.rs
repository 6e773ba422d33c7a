//! Disks that were written over: what was there before still answers, and must not be believed.

use super::*;
use crate::guest::gpt::tests::write as write_gpt;

/// What is found on it, with the advice in one text.
#[track_caller]
fn seen(mut disk: Vec<u8>) -> (Guest, String) {
    let guest = probe(&mut disk, &facts());
    let advice = guest.advice.join("\n");
    (guest, advice)
}

/// The second copy of a GPT alone.
fn put_backup(disk: &mut [u8]) {
    let mut old = vec![0; LEN];
    write_gpt(&mut old, 512, 128, &[1]);
    disk[LEN - 33 * 512..].copy_from_slice(&old[LEN - 33 * 512..]);
}

/// Both copies.
fn put_both(disk: &mut [u8]) {
    let mut old = vec![0; LEN];
    write_gpt(&mut old, 512, 128, &[1]);
    disk[512..34 * 512].copy_from_slice(&old[512..34 * 512]);
    put_backup(disk);
}

const PARTITIONS: [(u8, u8, u32, u32); 2] = [(0x80, 7, 64, 1000), (0, 0x83, 1064, 800)];

#[test]
fn an_mbr_over_an_old_gpt_is_the_table() {
    for (put, place) in
        [(put_backup as fn(&mut [u8]), "the disk's end"), (put_both, "the disk's beginning and its end")]
    {
        let mut disk = mbr(&PARTITIONS, b"");
        put(&mut disk);
        let (guest, advice) = seen(disk);
        let kinds: Vec<_> = guest.partitions.iter().map(|partition| partition.kind.as_str()).collect();
        assert_eq!((guest.table.kind, guest.table.hybrid, kinds), (TableKind::Mbr, false, vec!["07", "83"]));
        assert_eq!(guest.boot.kind, BootKind::Unknown);
        assert!(advice.contains("leftovers of a GPT with 1 partition") && advice.contains(place), "{advice}");
        assert!(!advice.contains("repair it in the machine") && !advice.contains("guard the GPT"), "{advice}");
    }
}

#[test]
fn a_file_system_over_an_old_gpt_is_what_the_disk_holds() {
    for (word, _, _, parts) in MADE {
        let mut disk = with(parts);
        put_backup(&mut disk);
        let (guest, advice) = seen(disk);
        let found = guest.file_system.map(|found| found.word);
        assert_eq!((guest.table.kind, guest.partitions.len(), found), (TableKind::None, 0, Some(*word)));
        assert!(advice.contains("leftovers of a GPT") && !advice.contains("repair it in the machine"), "{advice}");
    }
}

#[test]
fn a_gpt_that_is_guarded_counts_by_either_copy() {
    let mut disk = mbr(&[(0, 0xEE, 1, 2047)], b"");
    put_backup(&mut disk);
    let (guest, advice) = seen(disk);
    assert_eq!((guest.table.kind, guest.partitions.len()), (TableKind::Gpt, 1));
    assert!(advice.contains("repair it in the machine") && !advice.contains("leftovers"), "{advice}");
}

#[test]
fn a_gpt_without_a_guard_speaks_where_it_is_whole_and_alone() {
    let mut disk = vec![0; LEN];
    put_both(&mut disk);
    let (guest, advice) = seen(disk);
    assert_eq!((guest.table.kind, guest.partitions.len()), (TableKind::Gpt, 1));
    assert!(advice.contains("does not guard the GPT"), "{advice}");
    // Of one whose beginning is gone nobody knows whether its partitions are still there.
    let mut disk = vec![0; LEN];
    put_backup(&mut disk);
    let (guest, advice) = seen(disk);
    assert_eq!((guest.table.kind, guest.partitions.len()), (TableKind::None, 0));
    assert!(advice.contains("a GPT with 1 partition stands at the disk's end"), "{advice}");
}

#[test]
fn a_disc_that_is_a_disk_keeps_its_gpt_and_not_that_of_the_disk_it_was_written_to() {
    let disc = |first: u32| {
        let mut disk = mbr(&[(0x80, 0, first, 1800)], b"code");
        disk[0x8001..0x8006].copy_from_slice(b"CD001");
        disk
    };
    for (first, put, kind) in [
        (0, put_both as fn(&mut [u8]), TableKind::Gpt),
        (64, put_both, TableKind::Gpt),
        (0, put_backup, TableKind::Mbr),
        // A disc's descriptors that were not overwritten, in front of a partition.
        (128, put_both, TableKind::Mbr),
    ] {
        let mut disk = disc(first);
        put(&mut disk);
        let (guest, advice) = seen(disk);
        assert_eq!((guest.table.kind, guest.file_system.map(|found| found.word)), (kind, Some("iso9660")), "{first}");
        assert_eq!(advice.contains("leftovers"), kind == TableKind::Mbr, "{advice}");
    }
}

#[test]
fn a_boot_sector_that_lists_partitions_is_shown_with_both() {
    let fat = |entry: (u8, u8, u32, u32)| {
        let mut disk = mbr(&[entry], b"");
        put(&mut disk, 0, MADE[3].3[0].1);
        seen(disk)
    };
    let (guest, advice) = fat((0x80, 0x0C, 64, 1984));
    assert_eq!((guest.table.kind, guest.partitions.len()), (TableKind::Mbr, 1));
    assert_eq!(guest.file_system.map(|found| found.word), Some("fat16"));
    assert!(guest.boot.reason.contains("boot sector") && advice.contains("lists partitions too"), "{advice}");
    // What no program would have made is code.
    for entry in [(0x80, 0x0C, 64, 1985), (0, 0x0C, 0, 100)] {
        let (guest, advice) = fat(entry);
        assert_eq!((guest.table.kind, guest.partitions.len()), (TableKind::None, 0), "{entry:?}");
        assert_eq!(guest.file_system.map(|found| found.word), Some("fat16"));
        assert!(!advice.contains("lists partitions"), "{advice}");
    }
}

#[test]
fn a_member_of_a_raid_is_named_before_the_file_system_that_shows_through() {
    let superblock =
        |sector: u64| [b"\xFC\x4E\x2B\xA9\x01\0\0\0".as_slice(), &[0; 136], &sector.to_le_bytes()].concat();
    let at_end = LEN - 0x2000;
    for (at, bytes) in [
        (4096, superblock(8)),
        (at_end, superblock(at_end as u64 / 512)),
        (LEN - 0x1_0000, b"\xFC\x4E\x2B\xA9".to_vec()),
    ] {
        let mut disk = with(MADE[0].3);
        disk[at..at + bytes.len()].copy_from_slice(&bytes);
        assert_eq!(filesystem::look(&mut disk, 0, LEN as u64).map(|found| found.word), Some("linux_raid"), "at {at}");
    }
}

#[test]
fn what_a_bios_starts_beside_a_gpt_without_boot_partitions_is_told() {
    const GRUB: &[u8] = b"\xEB\x63\x90 GRUB ";
    const CODE: &[u8] = &[0xFA, 0x33, 0xC0];
    const GUARD: (u8, u8, u32, u32) = (0, 0xEE, 1, 2047);
    for (entries, code, kind, reason) in [
        (vec![GUARD], b"".as_slice(), BootKind::Unknown, "a data disk"),
        (vec![GUARD], GRUB, BootKind::Bios, "GRUB"),
        (vec![GUARD], CODE, BootKind::Unknown, "boot code in the MBR"),
        (vec![GUARD, (0, 0x83, 64, 100)], b"", BootKind::Unknown, "hybrid MBR without boot code"),
        (vec![GUARD, (0, 0x83, 64, 100)], CODE, BootKind::Unknown, "hybrid MBR: boot code"),
        (
            vec![GUARD, (0x80, 0x83, 64, 100)],
            CODE,
            BootKind::Bios,
            "hybrid MBR: boot code in the MBR, partition 2 is active",
        ),
        (vec![GUARD, (0, 0xEF, 64, 100)], b"", BootKind::Efi, "hybrid MBR: MBR with an EFI"),
    ] {
        let mut disk = mbr(&entries, code);
        let mut gpt = vec![0; LEN];
        write_gpt(&mut gpt, 512, 128, &[1]);
        // A partition of another type than EFI's, by both copies.
        for (header, array) in [(512, 1024), (LEN - 512, LEN - 33 * 512)] {
            gpt[array] ^= 1;
            let sum = crc32fast::hash(&gpt[array..array + 16_384]);
            gpt[header + 88..header + 92].copy_from_slice(&sum.to_le_bytes());
            gpt[header + 16..header + 20].fill(0);
            let sum = crc32fast::hash(&gpt[header..header + 92]);
            gpt[header + 16..header + 20].copy_from_slice(&sum.to_le_bytes());
        }
        disk[512..].copy_from_slice(&gpt[512..]);
        let (guest, _) = seen(disk);
        assert_eq!((guest.table.kind, guest.boot.kind), (TableKind::Gpt, kind), "{}", guest.boot.reason);
        assert!(guest.boot.reason.contains(reason), "{}", guest.boot.reason);
        assert_eq!(guest.boot.reason.contains("a data disk"), reason == "a data disk");
    }
}
