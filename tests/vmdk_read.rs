//! VMDKs as products write them and as accidents leave them: right, or refused with file and byte. Tests called `peers_N` are cases in
//! which other converters are known to fail.

mod common;

use std::fs;

use common::expect::{folder, reads, refused, to_raw, warns};
use common::vmdk::{Sparse, descriptor};
use common::{pattern, run};

/// Five grains and three sectors; the third grain is zero.
fn guest() -> Vec<u8> {
    pattern(5 * 128 + 3, |n| (256..384).contains(&n))
}

fn set(image: &mut [u8], at: usize, value: u32) {
    image[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn peers_21_a_renamed_file_is_read_itself_whatever_name_its_descriptor_has() {
    let other = Sparse::of(&pattern(643, |_| true)).build();
    let f = folder(&[("renamed.vmdk", &Sparse::of(&guest()).build()), ("named-otherwise.vmdk", &other)]);
    reads(f.path(), "renamed.vmdk", &guest());
}

#[test]
fn any_grain_and_table_size_and_every_version_is_read() {
    for (grain, gtes, version, flags) in
        [(128u64, 512u64, 1u32, 3u32), (8, 128, 1, 3), (16, 4096, 2, 7), (2048, 512, 3, 3), (1, 256, 1, 1)]
    {
        let guest = pattern(5000, |n| n % 500 > 350);
        let mut image = Sparse::of(&guest);
        (image.grain, image.gtes, image.version, image.flags) = (grain, gtes, version, flags);
        image.grains =
            guest.chunks(grain as usize * 512).map(|g| g.iter().any(|b| *b != 0).then(|| g.to_vec())).collect();
        let f = folder(&[("a.vmdk", &image.build())]);
        reads(f.path(), "a.vmdk", &guest);
    }
}

#[test]
fn peers_5_6_and_29_every_extent_counts_whatever_its_kind_and_type() {
    let (a, b) = (pattern(2048, |_| false), pattern(100, |n| n < 50));
    let sparse = Sparse::of(&guest()).build();
    let mut flat = vec![0xEE; 64 * 512];
    flat.extend(&b);
    let f = folder(&[("a b=c", &a), ("s.vmdk", &sparse), ("flat", &flat)]);
    for (create_type, extents) in [
        (
            "custom",
            "RW 2048 FLAT \"a b=c\" 0\nRW 2048 ZERO\nRDONLY 643 SPARSE \"s.vmdk\"\nRW 0 ZERO\nRW 100 FLAT \"flat\" 64\nNOACCESS 5 ZERO",
        ),
        (
            "FullDevice",
            "rw 2048 vmfs \"a b=c\"\nrw 2048 zero \"ignored\" 0\nrdonly 643 sparse \"s.vmdk\"\nrw 100 flat \"flat\" 64 uuid dev\nrw 5 zero",
        ),
    ] {
        fs::write(f.path().join("d.vmdk"), descriptor(create_type, 1, None, extents)).unwrap();
        let want = [a.clone(), vec![0; 2048 * 512], guest(), b.clone(), vec![0; 5 * 512]].concat();
        reads(f.path(), "d.vmdk", &want);
    }
    // Zeroes that name a file which is there.
    fs::write(f.path().join("d.vmdk"), descriptor("custom", 1, None, "RW 2048 ZERO \"a b=c\" 0")).unwrap();
    run(f.path(), ["d.vmdk", "o.raw"]).warns(&["d.vmdk: at byte ", "names a file that is there"]);
    fs::remove_file(f.path().join("o.raw")).unwrap();
    // Two lines for the same bytes of a file.
    for extents in [
        "RW 60 FLAT \"flat\" 4\nRW 100 FLAT \"flat\" 63",
        "RW 64 FLAT \"flat\" 100\nRW 1 FLAT \"flat\" 99\nRW 3 FLAT \"flat\" 98",
        "RW 100 FLAT \"flat\" 64\nRW 164 VMFS \"flat\"",
        "RW 643 SPARSE \"s.vmdk\"\nRW 643 SPARSE \"s.vmdk\"",
    ] {
        fs::write(f.path().join("d.vmdk"), descriptor("custom", 1, None, extents)).unwrap();
        run(f.path(), ["d.vmdk", "o.raw"]).fails(1, &["d.vmdk: at byte ", "have the same bytes of a file"]);
    }
    // A file of data that is longer than its line, where products make it as long; by hand a part may be meant.
    for (create_type, told) in
        [("monolithicFlat", true), ("VMFS", true), ("custom", false), ("partitionedDevice", false)]
    {
        fs::write(f.path().join("d.vmdk"), descriptor(create_type, 1, None, "RW 2000 FLAT \"a b=c\" 0")).unwrap();
        let ran = run(f.path(), ["d.vmdk", "o.raw", "--force"]);
        let warned =
            ran.err.contains("a b=c: at byte 1024000: the file of a VMDK extent is longer than the descriptor says");
        assert!(ran.status == Some(0) && warned == told, "{}", ran.err);
        fs::remove_file(f.path().join("o.raw")).unwrap();
    }
    // What may not be read is a loss, not zeroes and not the data.
    let text = descriptor("custom", 1, None, "RW 643 SPARSE \"s.vmdk\"\nNOACCESS 100 FLAT \"flat\" 64");
    fs::write(f.path().join("d.vmdk"), text).unwrap();
    refused(f.path(), "d.vmdk", &["d.vmdk: at byte ", "NOACCESS"]);
}

#[test]
fn peers_7_a_flat_extent_that_is_cut_short_is_refused() {
    let f = folder(&[
        ("flat", &pattern(2048, |_| false)),
        ("d.vmdk", descriptor("monolithicFlat", 1, None, "RW 4096 FLAT \"flat\" 0").as_bytes()),
    ]);
    refused(f.path(), "d.vmdk", &["flat: at byte 1048576: ", "cut short", "expected 2097152"]);
}

#[test]
fn peers_8_a_sparse_file_that_is_cut_is_refused_or_warned_about() {
    let image = Sparse::of(&guest());
    let file = image.build();
    // The last grain holds three sectors of the disk: what is cut behind them is nobody's loss.
    let f = folder(&[("a.vmdk", &file[..file.len() - 50_000])]);
    warns(f.path(), "a.vmdk", &guest(), &["cut behind the disk's end"]);
    for cut in [65_536 - 1024, 65_536, 100_000, file.len() - 512, file.len() - 100] {
        let f = folder(&[("a.vmdk", &file[..file.len() - cut])]);
        refused(f.path(), "a.vmdk", &["a.vmdk: at byte "]);
    }
}

#[test]
fn peers_9_one_directory_or_table_destroyed_is_read_from_its_copy() {
    let image = Sparse::of(&guest());
    let file = image.build();
    for directory in [image.rgd(), image.gd()] {
        for (at, len) in [(directory as usize * 512, 512), (image.entry_at(directory, 0), 2048)] {
            for fill in [0u8, 0xFF] {
                let mut file = file.clone();
                file[at..at + len].fill(fill);
                let f = folder(&[("a.vmdk", &file)]);
                warns(f.path(), "a.vmdk", &guest(), &["a.vmdk: at byte "]);
            }
        }
    }
    // Both directories: nobody knows where the tables are.
    let mut both = file.clone();
    for directory in [image.rgd(), image.gd()] {
        both[directory as usize * 512..][..512].fill(0);
    }
    let f = folder(&[("a.vmdk", &both)]);
    let gd = image.gd() * 512;
    refused(
        f.path(),
        "a.vmdk",
        &[&format!("at byte {gd}: "), "directory entry cannot be", &format!("at byte {}", image.rgd() * 512)],
    );
}

#[test]
fn a_table_zeroed_in_both_copies_is_told_by_the_grains_that_it_leaves() {
    // Two tables; the second one's five grains are no longer named, and read as nothing.
    let whole = pattern(512 * 128 + 643, |n| n < 511 * 128);
    let image = Sparse::of(&whole);
    let mut file = image.build();
    for directory in [image.rgd(), image.gd()] {
        file[image.entry_at(directory, 512)..][..2048].fill(0);
    }
    let mut want = whole.clone();
    want[512 * 65_536..].fill(0);
    let f = folder(&[("a.vmdk", &file)]);
    warns(f.path(), "a.vmdk", &want, &["none of its tables names", "found 7 grains, 1 named"]);
    // Grains that became zero by an entry of 1 leave their places too, and nothing is wrong.
    let mut zeroed = Sparse { version: 2, flags: 7, ..image.clone() }.build();
    for directory in [image.rgd(), image.gd()] {
        set(&mut zeroed, image.entry_at(directory, 512), 1);
    }
    let mut want = whole.clone();
    want[512 * 65_536..513 * 65_536].fill(0);
    let f = folder(&[("a.vmdk", &zeroed)]);
    reads(f.path(), "a.vmdk", &want);
}

#[test]
fn r8_entries_into_header_descriptor_and_tables_cannot_be() {
    let image = Sparse::of(&guest());
    let file = image.build();
    let inside = [
        (0, "header"),
        (1, "descriptor"),
        (image.rgd(), "directory"),
        (image.gd() + 1, "table"),
        (image.overhead() - 1, "table"),
    ];
    for (sector, what) in inside {
        let mut file = file.clone();
        for directory in [image.rgd(), image.gd()] {
            set(&mut file, image.entry_at(directory, 3), sector as u32);
        }
        let f = folder(&[("a.vmdk", &file)]);
        match sector {
            0 => warns(
                f.path(),
                "a.vmdk",
                &[guest()[..3 * 65_536].to_vec(), vec![0; 65_536], guest()[4 * 65_536..].to_vec()].concat(),
                &["none of its tables names"],
            ),
            _ => refused(f.path(), "a.vmdk", &["entry cannot be", &format!("sector {sector}")]),
        }
        // A table cannot stand there either.
        let mut file = file.clone();
        for directory in [image.rgd(), image.gd()] {
            set(&mut file, directory as usize * 512, sector as u32);
        }
        let f = folder(&[("a.vmdk", &file)]);
        if what != "table" {
            refused(f.path(), "a.vmdk", &["directory entry cannot be"]);
        }
    }
}

#[test]
fn a_damaged_overhead_is_told_and_the_tables_are_read() {
    // With a copy of the tables, and without one that could stand in.
    for flags in [3, 1] {
        let file = Sparse { flags, ..Sparse::of(&guest()) }.build();
        for overhead in [0u64, 1, 1 << 40, u64::MAX] {
            let mut file = file.clone();
            file[64..72].copy_from_slice(&overhead.to_le_bytes());
            let f = folder(&[("a.vmdk", &file)]);
            let (ran, out) = to_raw(f.path(), "a.vmdk");
            let ran = ran.warns(&["at byte 64: ", "overHead"]);
            assert_eq!(ran.err.matches("warning: ").count(), 1, "{}", ran.err);
            assert!(out.unwrap() == guest());
        }
    }
}

#[test]
fn entries_that_differ_are_decided_by_what_can_be() {
    let image = Sparse::of(&guest());
    let file = image.build();
    let [copy, primary] = [image.rgd(), image.gd()].map(|directory| image.entry_at(directory, 1));
    let other = image.overhead() as u32 + 1000 * 128;
    for at in [copy, primary] {
        for (value, differ) in [
            (0, false),
            (1, false),
            (2, false),
            (other, false),
            (u32::MAX, false),
            (image.overhead() as u32 + 64, true),
        ] {
            let mut file = file.clone();
            set(&mut file, at, value);
            let f = folder(&[("a.vmdk", &file)]);
            match differ {
                false => {
                    warns(f.path(), "a.vmdk", &guest(), &["differ from their copies", &format!("at byte {primary}")])
                }
                true => refused(
                    f.path(),
                    "a.vmdk",
                    &["entry and its copy differ", &format!("at byte {primary}: "), &format!("at byte {copy} ")],
                ),
            }
        }
    }
    // Many differences are one warning; -v counts them.
    let mut file = file.clone();
    file[image.entry_at(image.gd(), 0)..][..2048].fill(0);
    let f = folder(&[("a.vmdk", &file)]);
    let ran = run(f.path(), ["a.vmdk", "o.vmdk", "-v"]).warns(&["differ from their copies"]);
    assert_eq!(ran.err.matches("warning").count(), 1);
    assert!(ran.err.contains("5 VMDK grain table or directory entries read round"), "{}", ran.err);
}

#[test]
fn peers_10_an_entry_of_1_is_zero_where_the_header_says_so_and_damage_elsewhere() {
    let mut image = Sparse::of(&guest());
    image.grains[1] = Some(vec![]);
    let mut want = guest();
    want[65_536..131_072].fill(0);
    for (version, flags, good) in [(1, 7, true), (2, 3, true), (2, 7, true), (1, 3, false)] {
        (image.version, image.flags) = (version, flags);
        let f = folder(&[("a.vmdk", &image.build())]);
        match good {
            true => reads(f.path(), "a.vmdk", &want),
            false => refused(f.path(), "a.vmdk", &["entry cannot be", "sector 1"]),
        }
    }
}

#[test]
fn peers_12_two_entries_of_one_grain_are_damage() {
    let image = Sparse::of(&guest());
    let mut file = image.build();
    for directory in [image.rgd(), image.gd()] {
        set(&mut file, image.entry_at(directory, 3), image.overhead() as u32);
    }
    let f = folder(&[("a.vmdk", &file)]);
    refused(
        f.path(),
        "a.vmdk",
        &["lies where another grain lies", &format!("at byte {}: ", image.entry_at(image.gd(), 3))],
    );
}

#[test]
fn peers_30_31_32_and_38_descriptors_as_they_are_found_are_read() {
    let flat = pattern(2048, |_| false);
    let f = folder(&[("f", &flat)]);
    let texts: [&[u8]; 6] = [
        b"# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType = \"monolithicFlat\"\n\nRW 2048 FLAT \"f\" 0\n",
        b"# Disk DescriptorFile\r\nversion=1 \r\nCID=1\r\nparentCID=ffffffff\r\ncreateType=monolithicFlat\r\nRW 2048 VMFS \"f\" 0\r\n",
        b"\xEF\xBB\xBF# Disk DescriptorFile\nversion=1\nparentCID=FFFFFFFF\nCID=1\ncreateType=\"monolithicFlat\"\nrw 2048 flat \"f\" 0\n",
        b"# Description file created by VMDK stream converter\nversion=3\nCREATETYPE=\"custom\"\n\tRW 2048 FLAT f 0\n",
        b"createType=\"x\"\rRW 2048 FLAT \"f\" 0\r",
        b"version=4\nRDONLY 2048 FLAT \"f\" 0",
    ];
    for text in texts {
        fs::write(f.path().join("d.vmdk"), text).unwrap();
        reads(f.path(), "d.vmdk", &flat);
        fs::rename(f.path().join("d.vmdk"), f.path().join("d.img")).unwrap();
        reads(f.path(), "d.img", &flat);
        fs::remove_file(f.path().join("d.img")).unwrap();
    }
}

#[test]
fn peers_36_an_unclean_shutdown_is_warned_about() {
    let mut image = Sparse::of(&guest()).build();
    image[72] = 1;
    let f = folder(&[("a.vmdk", &image)]);
    warns(f.path(), "a.vmdk", &guest(), &["at byte 72: ", "did not come to its end"]);
}

#[test]
fn a_capacity_that_is_rounded_up_does_not_make_the_disk_larger_and_a_smaller_one_is_a_loss() {
    let line = |sectors: u64| descriptor("monolithicSparse", 1, None, &format!("RW {sectors} SPARSE \"x\""));
    let rounded = Sparse { descriptor: line(600), ..Sparse::of(&guest()[..640 * 512]) };
    let f = folder(&[("a.vmdk", &rounded.build())]);
    reads(f.path(), "a.vmdk", &guest()[..600 * 512]);
    // A capacity that is no whole grain was not rounded: one of the two is wrong.
    let mut image = Sparse::of(&guest());
    for sectors in [642, 600, 3] {
        image.descriptor = line(sectors);
        fs::write(f.path().join("a.vmdk"), image.build()).unwrap();
        let texts = ["at byte 12: ", "capacity is more", "found 643 sectors", &format!("says {sectors}")];
        warns(f.path(), "a.vmdk", &guest()[..sectors as usize * 512], &texts);
    }
    image.descriptor = line(700);
    fs::write(f.path().join("a.vmdk"), image.build()).unwrap();
    refused(f.path(), "a.vmdk", &["at byte 12: ", "capacity is less", "expected 700"]);
}

#[test]
fn a_damaged_extent_line_is_never_passed_over() {
    let f = folder(&[("a", &pattern(64, |_| false))]);
    for line in ["SW 16 FLAT \"a\" 16", "RW=16 FLAT \"a\" 16", "RW 1x6 FLAT \"a\" 16", "RW 16 FLOT \"a\" 16"] {
        let text = descriptor("custom", 1, None, &format!("RW 16 FLAT \"a\" 0\n{line}\nRW 32 FLAT \"a\" 32"));
        fs::write(f.path().join("d.vmdk"), text).unwrap();
        refused(f.path(), "d.vmdk", &["d.vmdk: at byte ", line]);
    }
}

#[test]
fn tables_that_lie_in_tables_or_serve_twice_are_damage() {
    let mut image = Sparse::of(&pattern(400 * 128, |n| n > 100 && n < 40_000));
    (image.flags, image.gtes) = (1, 128);
    let file = image.build();
    let gd = image.gd() as usize * 512;
    let first = u32::from_le_bytes(file[gd..gd + 4].try_into().unwrap());
    // Among the grains, into the directory, behind the file.
    for value in [image.overhead() as u32, image.gd() as u32, 1 << 30] {
        let mut file = file.clone();
        set(&mut file, gd + 4, value);
        let f = folder(&[("a.vmdk", &file)]);
        refused(f.path(), "a.vmdk", &[&format!("at byte {}: ", gd + 4), "directory entry cannot be"]);
    }
    // Another's place.
    for value in [first, first + 2] {
        let mut twice = file.clone();
        set(&mut twice, gd + 4, value);
        let f = folder(&[("a.vmdk", &twice)]);
        refused(f.path(), "a.vmdk", &["a.vmdk: at byte ", "cannot be"]);
    }
}

#[test]
fn a_directory_that_leads_into_a_tables_own_copy_is_not_believed() {
    // Tables for 2 MiB; one grain, whose entry the shifted table has 128 grains too early.
    let guest = pattern(16_384, |n| n / 8 != 200);
    let grains = guest.chunks(4096).map(|grain| grain.iter().any(|b| *b != 0).then(|| grain.to_vec())).collect();
    let image = Sparse { grain: 8, grains, ..Sparse::of(&guest) };
    let file = image.build();
    reads(folder(&[("a.vmdk", &file)]).path(), "a.vmdk", &guest);
    for (moved, into) in [(image.gd(), image.rgd()), (image.rgd(), image.gd()), (image.gd(), image.gd())] {
        let table = image.entry_at(into, 0) as u32 / 512;
        for shifted in [table + 1, table + 3] {
            let mut file = file.clone();
            set(&mut file, moved as usize * 512, shifted);
            let f = folder(&[("a.vmdk", &file)]);
            let (ran, raw) = to_raw(f.path(), "a.vmdk");
            // Where the shifted table has nothing for the grain, the other one counts.
            match shifted == table + 1 {
                true => drop(ran.fails(1, &["a.vmdk: at byte "])),
                false => drop(ran.warns(&["a.vmdk: at byte "])),
            }
            assert!(raw.is_none_or(|raw| raw == guest));
        }
    }
}

#[cfg(unix)]
#[test]
fn r10_a_descriptor_of_many_keys_or_many_lines_is_read_in_bounded_memory_and_time() {
    use common::process::measured;
    let keys: String = (0..1_000_000).map(|n| format!("{n:x}=\n")).collect();
    let lines: String = (0..60_000).map(|n| format!("RW 1 FLAT \"a\" {n}\n")).collect();
    let f = folder(&[("a", &[7; 512])]);
    fs::File::options().write(true).open(f.path().join("a")).unwrap().set_len(60_000 * 512).unwrap();
    for text in [format!("RW 1 FLAT \"a\" 0\n{keys}"), lines] {
        fs::write(f.path().join("d.vmdk"), format!("createType=\"custom\"\n{text}")).unwrap();
        let (status, peak, time) =
            measured(common::vdconv().current_dir(f.path()).args(["d.vmdk", "o.raw", "--force"]));
        assert!(status.success() && peak < 128 && time.as_secs() < 10, "{status} {peak} MiB {time:?}");
    }
}
