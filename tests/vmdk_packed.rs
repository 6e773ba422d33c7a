//! streamOptimized, COWD and seSparse: built here by the specification, right or refused with file and byte.

mod common;

use std::fs;

use common::packed::{Stream, cowd, deflate, deflate_at, inflates_to, marker, sesparse, tables_in_front};
use common::vmdk::{Sparse, descriptor};
use common::{names, pattern, run, scratch, vdconv};

/// Five grains and three sectors; the third grain is zero.
fn guest() -> Vec<u8> {
    pattern(5 * 128 + 3, |n| (256..384).contains(&n))
}

/// Converts an image to raw: how it ended, and what came out.
fn to_raw(files: &[(&str, &[u8])]) -> (common::Ran, Option<Vec<u8>>) {
    let folder = scratch();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    let ran = run(folder.path(), [files[0].0, "out.raw"]);
    let out = fs::read(folder.path().join("out.raw")).ok();
    assert_eq!(names(folder.path()).len(), files.len() + usize::from(out.is_some()));
    assert_eq!(out.is_some(), ran.status == Some(0), "{}", ran.err);
    (ran, out)
}

#[track_caller]
fn reads(files: &[(&str, &[u8])], want: &[u8]) {
    let (ran, out) = to_raw(files);
    ran.succeeds();
    assert!(out.unwrap() == want);
}

#[track_caller]
fn refused(files: &[(&str, &[u8])], texts: &[&str]) {
    to_raw(files).0.fails(1, texts);
}

#[test]
fn streams_of_every_size_are_read_whole_and_short_last_grains_too() {
    for sectors in [1, 3, 128, 129, 643, 5000] {
        for short_last in [false, true] {
            let guest = pattern(sectors, |n| n % 700 > 500);
            let stream = Stream { short_last, ..Stream::of(&guest) };
            reads(&[("a.vmdk", &stream.build())], &guest);
        }
    }
}

#[test]
fn a_stream_with_tables_in_front_is_read() {
    reads(&[("a.vmdk", &tables_in_front(&guest(), marker))], &guest());
}

#[test]
fn flags_and_algorithm_that_contradict_each_other_are_decided_by_the_first_grain() {
    let fronts: [fn(u64, u32) -> Vec<u8>; 3] = [marker, |_, size| size.to_le_bytes().to_vec(), |_, _| Vec::new()];
    for front in fronts {
        let file = tables_in_front(&guest(), front);
        // Compressed without markers; compressed by an algorithm of 0; an algorithm without the flag.
        for (flags, algorithm) in [(0x1_0003u32, 1), (0x3_0003, 0), (0x3, 1)] {
            let mut file = file.clone();
            file[8..12].copy_from_slice(&flags.to_le_bytes());
            file[77] = algorithm;
            let (ran, out) = to_raw(&[("a.vmdk", &file)]);
            ran.warns(&["a.vmdk: at byte 8", "contradict", "the first grain decides"]);
            assert!(out.unwrap() == guest(), "{flags:#x} {algorithm}");
        }
    }
    // Grains that are stored as they are, under an algorithm that nobody used; and where nothing can be made of them.
    let mut plain = Sparse::of(&guest()).build();
    plain[77] = 1;
    let (ran, out) = to_raw(&[("a.vmdk", &plain)]);
    ran.warns(&["contradict"]);
    assert!(out.unwrap() == guest());
    for (flags, algorithm) in [(0x1_0003u32, 0), (0x2_0003, 0), (0x3, 2)] {
        plain[8..12].copy_from_slice(&flags.to_le_bytes());
        plain[77] = algorithm;
        refused(&[("a.vmdk", &plain)], &["a.vmdk: at byte 8", "contradict"]);
    }
    // A grain that is another's is damage also where the marker is a guess.
    let mut file = tables_in_front(&guest(), |lba, size| marker(lba ^ 128, size));
    file[8..12].copy_from_slice(&0x1_0003u32.to_le_bytes());
    refused(&[("a.vmdk", &file)], &["another grain's"]);
}

#[test]
fn r8_packed_grains_without_markers_have_places_of_their_own() {
    let fronts: [fn(u64, u32) -> Vec<u8>; 2] = [|_, size| size.to_le_bytes().to_vec(), |_, _| Vec::new()];
    for front in fronts {
        let mut file = tables_in_front(&guest(), front);
        file[8..12].copy_from_slice(&0x1_0003u32.to_le_bytes());
        let image = Sparse::of(&guest());
        for directory in [image.rgd(), image.gd()] {
            let first = image.entry_at(directory, 0);
            file.copy_within(first..first + 4, image.entry_at(directory, 3));
        }
        let byte = image.entry_at(image.gd(), 3);
        refused(&[("a.vmdk", &file)], &[&format!("at byte {byte}: "), "lies where another grain lies"]);
    }
}

#[test]
fn a_stream_is_found_in_front_of_the_zeroes_that_it_was_padded_with() {
    let file = Stream::of(&guest()).build();
    let padded = [file.as_slice(), &vec![0; (3 << 20) + 100]].concat();
    let (ran, out) = to_raw(&[("a.vmdk", &padded)]);
    ran.warns(&["does not end behind its footer"]);
    assert!(out.unwrap() == guest());
    // Preallocated: the zeroes are a hole, and cost nothing.
    let folder = scratch();
    let path = folder.path().join("a.vmdk");
    fs::write(&path, &file).unwrap();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(8 << 30).unwrap();
    run(folder.path(), ["a.vmdk", "out.raw"]).warns(&["does not end behind its footer"]);
    assert!(fs::read(folder.path().join("out.raw")).unwrap() == guest());
    // Behind more stored zeroes than that it may lie anywhere: refused, not searched for.
    fs::write(&path, [file.as_slice(), &vec![0; 66 << 20]].concat()).unwrap();
    run(folder.path(), ["a.vmdk", "o.raw"])
        .fails(1, &["has no footer", "the last 64 MiB are zeroes", "hint: if they are padding"]);
}

#[test]
fn a_fault_of_the_footer_names_the_footers_byte() {
    let mut file = Stream::of(&guest()).build();
    let footer = file.len() - 1024;
    file[footer + 20] = 3;
    refused(&[("a.vmdk", &file)], &[&format!("at byte {}: VMDK grain size", footer + 20)]);
}

#[test]
fn peers_22_what_is_odd_behind_the_footer_is_told() {
    for behind in [vec![], vec![0; 1024], vec![0; 612], vec![0; 10_240], vec![9; 700]] {
        let (ran, out) = to_raw(&[("a.vmdk", &Stream { behind, ..Stream::of(&guest()) }.build())]);
        ran.warns(&["does not end behind its footer"]);
        assert!(out.unwrap() == guest());
    }
}

#[test]
fn peers_23_a_stream_that_was_cut_is_refused_wherever() {
    let file = Stream::of(&guest()).build();
    // Without the last sector the stream has no end, and all of its data.
    for cut in (1024..file.len() - 512).step_by(509) {
        refused(&[("a.vmdk", &file[..cut])], &["a.vmdk: at byte ", "VMDK"]);
    }
}

#[test]
fn r11_and_peers_12_grains_must_be_their_own_and_inflate_to_exactly_a_grain() {
    type Change = fn(u64, &mut Vec<u8>, &mut u64, &mut u32);
    let cases: [(Change, &str); 8] = [
        (
            |n, _, lba, _| {
                if n == 1 {
                    *lba = 0
                }
            },
            "another grain's",
        ),
        (
            |n, _, lba, _| {
                if n == 1 {
                    *lba = u64::MAX
                }
            },
            "another grain's",
        ),
        (
            |n, packed, _, _| {
                if n == 1 {
                    packed[9] ^= 0x55
                }
            },
            "does not inflate",
        ),
        (
            |n, packed, _, _| {
                if n == 1 {
                    *packed.last_mut().unwrap() ^= 1
                }
            },
            "does not inflate",
        ),
        (
            |n, _, _, size| {
                if n == 1 {
                    *size = 0
                }
            },
            "marker size",
        ),
        (
            |n, _, _, size| {
                if n == 1 {
                    *size = 0xFFFF_FFFF
                }
            },
            "marker size",
        ),
        (
            |n, packed, _, size| {
                if n == 1 {
                    inflates_to(65_000, packed, size)
                }
            },
            "less than a grain",
        ),
        (
            |n, packed, _, size| {
                if n == 1 {
                    inflates_to(65_537, packed, size)
                }
            },
            "more than a grain",
        ),
    ];
    for (grain, text) in cases {
        refused(&[("a.vmdk", &Stream { grain, ..Stream::of(&guest()) }.build())], &["a.vmdk: at byte ", text]);
    }
    // A grain of 1 GiB is not inflated into memory.
    refused(
        &[("a.vmdk", &Stream { grain_sectors: 1 << 21, ..Stream::of(&guest()) }.build())],
        &["at byte 20: ", "inflated whole"],
    );
    // Entries outside the file, and into the header.
    let file = Stream::of(&guest()).build();
    let table = file.len() - 512 * 6 - 2048 + 512;
    for value in [0x00FF_FFFFu32, 5] {
        let mut file = file.clone();
        assert_ne!(file[table..table + 4], [0; 4]);
        file[table..table + 4].copy_from_slice(&value.to_le_bytes());
        refused(&[("a.vmdk", &file)], &["a.vmdk: at byte ", "cannot be"]);
    }
}

#[test]
fn a_directory_or_table_in_the_wrong_place_is_never_read_as_nothing() {
    let file = Stream::of(&guest()).build();
    let footer = file.len() - 1024;
    for sector in [128u8, 0, 1, 50, 129] {
        let mut file = file.clone();
        file[footer + 56] = sector;
        refused(&[("a.vmdk", &file)], &["a.vmdk: "]);
    }
    let gde = footer - 512 - 512;
    for flip in [1, 2, 3, 4] {
        let mut file = file.clone();
        file[gde] ^= flip;
        refused(&[("a.vmdk", &file)], &["a.vmdk: at byte ", "directory entry cannot be"]);
    }
}

#[test]
fn capacities_that_differ_are_decided_by_the_extent_line() {
    let file = Stream::of(&guest()).build();
    let footer = file.len() - 1024;
    for (at, good) in [(12, true), (footer + 12, true)] {
        let mut file = file.clone();
        file[at..at + 8].copy_from_slice(&700u64.to_le_bytes());
        let (ran, out) = to_raw(&[("a.vmdk", &file)]);
        ran.warns(&["differ in capacity"]);
        assert!(good && out.unwrap() == guest());
    }
    let mut both = file;
    both[12..20].copy_from_slice(&700u64.to_le_bytes());
    both[footer + 12..footer + 20].copy_from_slice(&701u64.to_le_bytes());
    refused(&[("a.vmdk", &both)], &["differ in capacity"]);
}

#[test]
fn a_redo_log_over_a_flat_disk_gives_each_sector_from_the_youngest() {
    let base = pattern(10_000, |n| n % 900 > 800);
    let delta = cowd(10_000, &[(0, 0x11), (1, 0), (4095, 0x12), (4096, 0x13), (9999, 0x14)], &[7, 4100]);
    let mut want = base.clone();
    for (sector, byte) in [(0, 0x11), (1, 0), (4095, 0x12), (4096, 0x13), (9999, 0x14), (7, 0), (4100, 0)] {
        want[sector * 512..][..512].fill(byte);
    }
    let parent = descriptor("vmfs", 5, None, "RW 10000 VMFS \"vm-flat.vmdk\"");
    let child = descriptor("vmfsSparse", 6, Some((5, "vm.vmdk")), "RW 10000 VMFSSPARSE \"vm-000001-delta.vmdk\"");
    let files: Vec<(&str, &[u8])> = vec![
        ("vm-000001.vmdk", child.as_bytes()),
        ("vm-000001-delta.vmdk", &delta),
        ("vm.vmdk", parent.as_bytes()),
        ("vm-flat.vmdk", &base),
    ];
    // An entry of 1 is zero, and told: no known product writes it.
    let (ran, out) = to_raw(&files);
    assert!(ran.warns(&["vm-000001-delta.vmdk: at byte ", "COWD grain table entry of 1"]).status == Some(0));
    assert!(out.unwrap() == want);
    // Damage: each field, a table and a grain outside the file, a cut.
    for (at, value, text) in [
        (4usize, 9u32, "version"),
        (16, 0, "grain size"),
        (16, 4096, "grain size"),
        (20, 1, "directory lies in the header"),
        (28, 1 << 30, "free sector"),
        (2048, 1 << 30, "cannot be"),
        (24, 0, "directory is too small"),
        (5 * 512 + 3 * 4, 6, "or a table"),
    ] {
        let mut delta = delta.clone();
        delta[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let mut files = files.clone();
        files[1].1 = &delta;
        refused(&files, &["vm-000001-delta.vmdk: at byte ", text]);
    }
    let mut files = files.clone();
    files[1].1 = &delta[..delta.len() - 700];
    refused(&files, &["vm-000001-delta.vmdk: at byte ", "free sector"]);
}

#[test]
fn r8_redo_logs_whose_grains_and_tables_lie_on_each_other_are_refused() {
    // 64 sectors of the first table, all but one of stored zeroes, and one of the second.
    let stored: Vec<_> = (0..64).map(|n| (n, if n == 0 { 0x41 } else { 0 })).chain([(4096, 0x42)]).collect();
    let delta = cowd(8192, &stored, &[]);
    let text = descriptor("vmfsSparse", 6, None, "RW 8192 VMFSSPARSE \"d-delta.vmdk\"");
    let mut want = vec![0; 8192 * 512];
    stored.iter().for_each(|(sector, byte): &(u64, u8)| want[*sector as usize * 512..][..512].fill(*byte));
    reads(&[("d.vmdk", text.as_bytes()), ("d-delta.vmdk", &delta)], &want);
    let gde = |n: usize| u32::from_le_bytes(delta[2048 + n * 4..][..4].try_into().unwrap());
    let table = gde(0) as usize * 512;
    // A grain on the table that comes next, on its last sector, and a table on the grains of the one in front.
    for (at, value) in [(table, gde(1)), (table, gde(1) + 31), (2048 + 4, gde(0) + 32 + 8)] {
        let mut delta = delta.clone();
        delta[at..at + 4].copy_from_slice(&value.to_le_bytes());
        refused(
            &[("d.vmdk", text.as_bytes()), ("d-delta.vmdk", &delta)],
            &["d-delta.vmdk: at byte ", "lies where another grain lies, or a table"],
        );
    }
}

#[test]
fn r5_a_table_cut_within_its_last_sector_loses_the_entries_that_are_missing() {
    // The second table is the last in the file, and nobody but it has its grains; 75 entries of it are cut off.
    let redo = |sectors: u64| {
        let mut delta = cowd(sectors, &[(0, 0x41)], &[4096]);
        delta.truncate(delta.len() - 300);
        let text = descriptor("vmfsSparse", 6, None, &format!("RW {sectors} VMFSSPARSE \"d-delta.vmdk\""));
        (text, delta)
    };
    let (text, delta) = redo(8192);
    let said = ["d-delta.vmdk: at byte ", "VMDK grain table is cut by the end of the file"];
    refused(&[("d.vmdk", text.as_bytes()), ("d-delta.vmdk", &delta)], &said);
    let folder = scratch();
    fs::write(folder.path().join("d.vmdk"), text).unwrap();
    fs::write(folder.path().join("d-delta.vmdk"), &delta).unwrap();
    let ran = run(folder.path(), ["--salvage", "--json", "d.vmdk", "out.raw"]);
    assert_eq!(ran.status, Some(3), "{}", ran.err);
    let lost = format!("\"lost\":[{{\"start\":{},\"length\":{},", (8192 - 75) * 512, 75 * 512);
    assert!(ran.out.contains(&lost), "{}", ran.out);
    let mut want = vec![0; 8192 * 512];
    want[..512].fill(0x41);
    assert!(fs::read(folder.path().join("out.raw")).unwrap() == want);
    let ran = run(folder.path(), ["check", "d.vmdk"]);
    assert_eq!(ran.status, Some(1), "{}", ran.err);
    assert!(ran.out.contains("VMDK-GRAIN-CUT error") && ran.out.contains(said[1]), "{}", ran.out);
    // A disk that ends in front of them needs none of them.
    let (text, delta) = redo(8192 - 75);
    let (_, out) = to_raw(&[("d.vmdk", text.as_bytes()), ("d-delta.vmdk", &delta)]);
    assert!(out.unwrap() == want[..(8192 - 75) * 512]);
    fs::write(folder.path().join("d.vmdk"), text).unwrap();
    fs::write(folder.path().join("d-delta.vmdk"), &delta).unwrap();
    assert_eq!(run(folder.path(), ["check", "d.vmdk"]).status, Some(0));
}

#[test]
fn a_sesparse_snapshot_is_read_by_the_kinds_of_its_entries() {
    let base = pattern(40_000, |_| false);
    // Grain number n: its low 12 bits stand in bits 48 to 59.
    let at = |n: u64| 3 << 60 | (n & 0xFFF) << 48 | n >> 12;
    let entries =
        [(0, at(5)), (1, at(6)), (2, 1 << 60 | 77), (3, 2 << 60), (4095, at(0)), (4096, at(9)), (4999, at(10))];
    let image = sesparse(&entries, &[(5, 0x51), (6, 0x61), (0, 0x01), (9, 0x91), (10, 0xA1)], 0);
    let mut want = base.clone();
    for (grain, byte) in [(0, 0x51), (1, 0x61), (2, 0), (3, 0), (4095, 0x01), (4096, 0x91), (4999, 0xA1)] {
        want[grain * 4096..][..4096].fill(byte);
    }
    let parent = descriptor("vmfs", 5, None, "RW 40000 VMFS \"vm-flat.vmdk\"");
    let child = descriptor("seSparse", 6, Some((5, "vm.vmdk")), "RW 40000 SESPARSE \"vm-000001-sesparse.vmdk\"");
    let with = |image: &[u8], error: Option<&str>| {
        let files: [(&str, &[u8]); 4] = [
            ("vm-000001.vmdk", child.as_bytes()),
            ("vm-000001-sesparse.vmdk", image),
            ("vm.vmdk", parent.as_bytes()),
            ("vm-flat.vmdk", &base),
        ];
        match error {
            None => reads(&files, &want),
            Some(text) => refused(&files, &["vm-000001-sesparse.vmdk: at byte ", text]),
        }
    };
    with(&image, None);
    for (image, text) in [
        (sesparse(&entries, &[], 1), "journal was not replayed"),
        (sesparse(&[(0, at(5)), (1, at(5))], &[], 0), "another grain lies"),
        (sesparse(&[(0, at(1_000_000))], &[], 0), "behind the last one"),
        (sesparse(&[(0, 5 << 60)], &[], 0), "grain table entry"),
        (sesparse(&[(0, 1)], &[], 0), "grain table entry"),
        (image[..1000].to_vec(), "cut short"),
        ([&image[..0x88], &[0; 8], &image[0x90..]].concat(), "directory is too small"),
        ([&image[..8 * 512], &[0x77; 8], &image[8 * 512 + 8..]].concat(), "directory entry"),
        ([&image[..24], &[9], &image[25..]].concat(), "grain size"),
        ([&image[..512], &[0; 8], &image[520..]].concat(), "volatile header magic"),
    ] {
        with(&image, Some(text));
    }
}

#[test]
fn r10_two_tebibytes_of_nothing_cost_no_walk_over_their_tables() {
    // A redo log of which one sector is stored: a million tables that are not there.
    let sectors = (2u64 << 40) / 512 - 1;
    let delta = cowd(sectors, &[(sectors - 1, 0x21)], &[]);
    let text = descriptor("vmfsSparse", 6, None, &format!("RW {sectors} VMFSSPARSE \"d-delta.vmdk\""));
    let folder = scratch();
    fs::write(folder.path().join("d.vmdk"), text).unwrap();
    fs::write(folder.path().join("d-delta.vmdk"), delta).unwrap();
    let started = std::time::Instant::now();
    run(folder.path(), ["d.vmdk", "out.raw"]).succeeds();
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    let out = fs::File::open(folder.path().join("out.raw")).unwrap();
    assert_eq!(out.metadata().unwrap().len(), sectors * 512);
    let mut last = [0; 512];
    std::io::Seek::seek(&mut &out, std::io::SeekFrom::End(-512)).unwrap();
    std::io::Read::read_exact(&mut &out, &mut last).unwrap();
    assert_eq!(last, [0x21; 512]);
}

#[test]
fn a_grain_whose_marker_is_in_the_stream_is_never_read_as_nothing() {
    // Five grains in one table; an entry set to 0, in the only copy there is.
    let file = Stream::of(&guest()).build();
    let table = file.len() - 512 - 512 - 512 - 512 - 512 - 2048;
    for entry in [0, 1, 4] {
        let mut file = file.clone();
        assert_ne!(&file[table + entry * 4..][..4], &[0; 4]);
        file[table + entry * 4..][..4].fill(0);
        let at = format!("at byte {}: ", table + entry * 4);
        refused(&[("a.vmdk", &file)], &[&at, "no entry for a grain whose marker is in the stream"]);
    }
    // An entry of 1: zero, by the header's version, and the grain is there.
    let mut one = file.clone();
    one[table + 4..table + 8].copy_from_slice(&1u32.to_le_bytes());
    let at = format!("at byte {}: ", table + 4);
    refused(&[("a.vmdk", &one)], &[&at, "no entry for a grain whose marker is in the stream", "found sector 1"]);
    // The directory's entry of the table set to 0.
    let mut zeroed = file.clone();
    let directory = file.len() - 512 - 512 - 512 - 512;
    zeroed[directory..directory + 4].fill(0);
    refused(&[("a.vmdk", &zeroed)], &[&format!("at byte {directory}: "), "directory entry cannot be"]);
    // Tables in front tell by the same markers.
    let mut front = tables_in_front(&guest(), marker);
    let image = Sparse::of(&guest());
    for directory in [image.rgd(), image.gd()] {
        let at = image.entry_at(directory, 3);
        front[at..at + 4].fill(0);
    }
    refused(&[("a.vmdk", &front)], &["no entry for a grain whose marker is in the stream"]);
    // A stream that does not begin where its header says tells nothing, and is read by its tables.
    let mut moved = file.clone();
    moved[64..72].copy_from_slice(&21u64.to_le_bytes());
    let (ran, out) = to_raw(&[("a.vmdk", &moved)]);
    assert!(ran.status == Some(0) && out.unwrap() == guest(), "{}", ran.err);
}

#[test]
fn r8_two_entries_for_one_grain_are_refused_although_it_was_inflated_just_before() {
    let file = Stream::of(&guest()).build();
    let table = file.len() - 512 - 512 - 512 - 512 - 512 - 2048;
    // The grain right in front, and one over a hole.
    for (grain, before) in [(4usize, 3), (3, 1)] {
        let mut file = file.clone();
        file.copy_within(table + before * 4..table + before * 4 + 4, table + grain * 4);
        for jobs in ["1", "2"] {
            let folder = scratch();
            fs::write(folder.path().join("a.vmdk"), &file).unwrap();
            run(folder.path(), ["a.vmdk", "out.raw", "-j", jobs]).fails(1, &["grain marker is another grain's"]);
        }
    }
}

#[test]
fn a_header_that_contradicts_its_footer_is_refused() {
    let file = Stream::of(&guest()).build();
    for (at, bytes) in [
        (44usize, 256u32.to_le_bytes()),
        (44, 1024u32.to_le_bytes()),
        (20, 64u32.to_le_bytes()),
        (8, 0x3_0005u32.to_le_bytes()),
    ] {
        let mut file = file.clone();
        file[at..at + 4].copy_from_slice(&bytes);
        if at == 8 {
            file[4] = 1; // version 3 alone says that entries of 1 are zero
        }
        let (ran, out) = to_raw(&[("a.vmdk", &file)]);
        match at {
            8 => assert!(ran.status == Some(0) && out.unwrap() == guest()),
            _ => drop(ran.fails(1, &["footer of the streamOptimized VMDK contradicts its header"])),
        }
    }
    // The algorithm has two bytes.
    let mut odd = file.clone();
    odd[78] = 1;
    refused(&[("a.vmdk", &odd)], &["at byte 8", "contradict", "algorithm 257"]);
    // Without a descriptor nothing says which capacity is right.
    let mut bare = file.clone();
    bare[512..512 + 20 * 512].fill(0);
    let (ran, out) = to_raw(&[("a.vmdk", &bare)]);
    ran.warns(&["without a descriptor"]);
    assert!(out.unwrap() == guest());
    bare[12..20].copy_from_slice(&500u64.to_le_bytes());
    refused(&[("a.vmdk", &bare)], &["differ in capacity", "the header says 500, the descriptor nothing"]);
}

#[test]
fn a_damaged_first_grain_does_not_make_a_stream_plain() {
    let mut file = tables_in_front(&guest(), marker);
    file[8..12].copy_from_slice(&3u32.to_le_bytes());
    let first = Sparse::of(&guest()).overhead() as usize * 512;
    file[first + 100] ^= 0x40;
    refused(&[("a.vmdk", &file)], &["a.vmdk: at byte 65536: VMDK grain "]);
    let mut bare = tables_in_front(&guest(), |_, _| Vec::new());
    bare[8..12].copy_from_slice(&3u32.to_le_bytes());
    bare[first + 100] ^= 0x40;
    refused(&[("a.vmdk", &bare)], &["at byte 8", "contradict"]);
}

#[test]
fn r8_sesparse_regions_that_overlap_are_refused() {
    let good = sesparse(&[(0, 0x3000_0000_0000_0000)], &[(0, 0x31)], 0);
    let text = descriptor("seSparse", 7, None, "RW 40000 SESPARSE \"e-sesparse.vmdk\"");
    reads(&[("e.vmdk", text.as_bytes()), ("e-sesparse.vmdk", &good)], &{
        let mut want = vec![0; 40_000 * 512];
        want[..4096].fill(0x31);
        want
    });
    for (at, sector) in
        [(0xC0usize, 0u64), (0xC0, 8), (0xC0, 64), (0xC0, 191), (0x90, 0), (0x90, 7), (0x90, 8), (0x80, 0), (0x80, 64)]
    {
        let mut file = good.clone();
        file[at..at + 8].copy_from_slice(&sector.to_le_bytes());
        refused(
            &[("e.vmdk", text.as_bytes()), ("e-sesparse.vmdk", &file)],
            &["e-sesparse.vmdk: at byte ", "overlap another region"],
        );
    }
    // A grain behind those that the header counts.
    let mut file = good.clone();
    file[0xC8..0xD0].copy_from_slice(&4u64.to_le_bytes());
    refused(&[("e.vmdk", text.as_bytes()), ("e-sesparse.vmdk", &file)], &["grain lies behind the last one"]);
}

#[test]
fn grains_that_are_deflated_already_go_over_unchanged_where_they_may() {
    // What another deflater made is not what ours makes: unchanged grains are told by their bytes.
    let guest = pattern(5000, |n| (1000..2000).contains(&n));
    let folder = scratch();
    let at = |name: &str| folder.path().join(name);
    let packed_of = |file: &[u8]| {
        let (mut at, mut grains) = (128 * 512, Vec::new());
        loop {
            let lba = u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
            let size = u32::from_le_bytes(file[at + 8..at + 12].try_into().unwrap()) as usize;
            if size == 0 {
                break grains;
            }
            grains.push((lba, file[at + 12..at + 12 + size].to_vec()));
            at = (at + 12 + size).next_multiple_of(512);
        }
    };
    fn weakly(unit: &[u8]) -> Vec<u8> {
        deflate_at(unit, libdeflater::CompressionLvl::new(1).unwrap())
    }
    let other = Stream {
        grain: |_, packed, _, size| {
            let mut unit = vec![0; 65_536];
            libdeflater::Decompressor::new().zlib_decompress(packed, &mut unit).unwrap();
            *packed = weakly(&unit);
            *size = packed.len() as u32;
        },
        ..Stream::of(&guest)
    };
    let source = other.build();
    fs::write(at("in.vmdk"), &source).unwrap();
    let before = packed_of(&source);
    assert!(before.iter().any(|(lba, packed)| {
        let start = *lba as usize * 512;
        let mut unit = guest[start..(start + 65_536).min(guest.len())].to_vec();
        unit.resize(65_536, 0);
        assert_eq!(*packed, weakly(&unit));
        *packed != deflate(&unit)
    }));
    let made = |options: &[&str]| {
        run(folder.path(), [&["in.vmdk", "o.vmdk", "-s", "stream", "--force"], options].concat()).succeeds();
        assert!(common::vmdk::read(&at("o.vmdk")).guest == guest);
        packed_of(&fs::read(at("o.vmdk")).unwrap())
    };
    assert!(made(&[]) == before && made(&["-j", "1"]) == before, "unchanged");
    let ran = run(folder.path(), ["in.vmdk", "o.vmdk", "-s", "stream", "--force", "-v"]);
    assert!(ran.err.contains(&format!("{} packed units went over unchanged", before.len())), "{}", ran.err);
    // Who asks for a level gets it; what is short, followed by something, or damaged is encoded anew or refused.
    assert!(made(&["--level", "9"]) != before && made(&["--level", "5"]) != before);
    let (one, two) = (made(&["--level", "1"]), made(&["--level", "2"]));
    let by_turns: Vec<_> = one.iter().zip(&two).map(|(a, b)| if a.0 / 128 % 3 == 0 { b } else { a }).cloned().collect();
    assert!(one.iter().zip(&two).filter(|(a, b)| a.0 / 128 % 3 == 0 && a != b).count() > 0, "the levels differ");
    assert!(made(&["--fast"]) == by_turns && made(&["--fast", "-j", "1"]) == by_turns);
    let odd = Stream {
        short_last: true,
        grain: |n, packed, _, size| {
            if n == 2 {
                packed.extend([7; 9]);
                *size += 9;
            }
        },
        ..Stream::of(&guest)
    };
    fs::write(at("in.vmdk"), odd.build()).unwrap();
    let after = made(&[]);
    let before = packed_of(&fs::read(at("in.vmdk")).unwrap());
    let differ: Vec<u64> = after.iter().zip(&before).filter(|(a, b)| a != b).map(|(a, _)| a.0 / 128).collect();
    assert_eq!(differ, [2, before.last().unwrap().0 / 128], "the one with something behind, and the short one");
    let bent = Stream {
        grain: |n, packed, _, _| {
            if n == 3 {
                packed[500] ^= 1
            }
        },
        ..Stream::of(&guest)
    };
    fs::write(at("in.vmdk"), bent.build()).unwrap();
    run(folder.path(), ["in.vmdk", "x.vmdk", "-s", "stream"]).fails(1, &["VMDK grain "]);
}

/// Bytes behind `from` that leave the checksum of `unit` as it is.
fn collide(unit: &mut [u8], from: usize) {
    const MODULUS: usize = 65_521;
    let sum = libdeflater::adler32(unit);
    let first = from + 20_000;
    unit[first..first + 257].fill(254);
    unit[first + 257] = 243;
    let weight = (first..first + 258).map(|i| (unit.len() - i) * usize::from(unit[i])).sum::<usize>() % MODULUS;
    // One that moves on by n takes n away, one that moves back adds it; two halves of the way stay in the unit.
    let back = weight > MODULUS / 2;
    let way = if back { MODULUS - weight } else { weight };
    for (from, way) in [(first, way / 2), (first + 1, way - way / 2)] {
        unit[from] -= 1;
        unit[if back { from - way } else { from + way }] += 1;
    }
    assert_eq!(libdeflater::adler32(unit), sum);
}

#[test]
fn grains_that_only_seem_whole_are_deflated_anew_from_files_and_pipes() {
    let mut guest = pattern(2 * 128 + 44, |_| false);
    // Zeroes behind this tail leave its checksum as it is: the sum of its bytes and 1 is none.
    let tail = &mut guest[2 * 65_536..];
    let mut left = 65_521 - (1 + tail.iter().map(|b| usize::from(*b)).sum::<usize>()) % 65_521;
    for byte in tail {
        let more = left.min(usize::from(255 - *byte));
        *byte += more as u8;
        left -= more;
    }
    assert_eq!(left, 0);
    let mut last = guest[2 * 65_536..].to_vec();
    last.resize(65_536, 0);
    let adler = |unit: &[u8]| libdeflater::adler32(unit).to_be_bytes();
    assert_eq!(adler(&last), adler(&last[..44 * 512]));
    let mut hidden = last.clone();
    collide(&mut hidden, 44 * 512);

    let second = &guest[65_536..2 * 65_536];
    let packed = deflate(second);
    let seeming: [(&str, u64, Vec<u8>); 6] = [
        ("nothing", 1, packed.clone()),
        ("garbage and the sum", 1, [&packed[..], b"garbage", &adler(second)].concat()),
        ("the sum again", 1, [&packed[..], &adler(second)].concat()),
        ("twice", 1, [&packed[..], &packed[..]].concat()),
        ("short", 2, deflate(&last[..44 * 512])),
        ("hidden behind the end", 2, deflate(&hidden)),
    ];
    let folder = scratch();
    let at = |name: &str| folder.path().join(name);
    for (what, grain, bytes) in &seeming {
        let mut stream = Stream::of(&guest);
        stream.short_last = *what == "short";
        let change = |n: u64, packed: &mut Vec<u8>, _: &mut u64, size: &mut u32| {
            if n == *grain {
                (*packed, *size) = (bytes.clone(), bytes.len() as u32);
            }
        };
        fs::write(at("in.vmdk"), stream.build_with(change)).unwrap();
        for growth in [&[][..], &["--align", "1M"], &["--size", "196608"]] {
            let ran = run(folder.path(), [&["in.vmdk", "o.vmdk", "-s", "stream", "--force", "-v"], growth].concat());
            let passed = if *what == "nothing" { 3 } else { 2 };
            assert!(ran.err.contains(&format!("{passed} packed units went over")), "{what} {growth:?}: {}", ran.err);
            let by_file = common::vmdk::read(&at("o.vmdk")).guest;
            assert!(by_file[..guest.len()] == guest && by_file[guest.len()..].iter().all(|b| *b == 0), "{what}");
            let mut piped = vdconv();
            piped.current_dir(folder.path()).args(["-", "p.vmdk", "-s", "stream", "--force", "-v"]).args(growth);
            let ran = common::Ran::of(piped.stdin(fs::File::open(at("in.vmdk")).unwrap()));
            assert!(ran.err.contains(&format!("{passed} packed units went over")), "{what} {growth:?}: {}", ran.err);
            assert!(common::vmdk::read(&at("p.vmdk")).guest == by_file, "{what} {growth:?}");
        }
    }
}

#[test]
fn r10_overlaps_that_nobody_can_remember_are_told_as_not_looked_for() {
    // Sectors 2 MiB apart in the file, a page of claims each; more of them than pages may be had.
    let (tables, pages) = (5u32, 16_384 + 10);
    let (first, apart) = (4096, 4096);
    let free = first + (pages + 1) * apart;
    let sectors = u64::from(tables) * 4096;
    let folder = scratch();
    let text = descriptor("vmfsSparse", 6, None, &format!("RW {sectors} VMFSSPARSE \"d-delta.vmdk\""));
    fs::write(folder.path().join("d.vmdk"), text).unwrap();
    let mut head = vec![0; 2048];
    head[..4].copy_from_slice(b"COWD");
    for (at, value) in [(4, 1), (8, 3), (12, sectors as u32), (16, 1), (20, 4), (24, tables), (28, free)] {
        head[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    (0..tables).for_each(|table| head.extend((5 + 32 * table).to_le_bytes()));
    head.resize(5 * 512, 0);
    (0..pages).for_each(|n| head.extend((first + n * apart).to_le_bytes()));
    let file = fs::File::create(folder.path().join("d-delta.vmdk")).unwrap();
    std::io::Write::write_all(&mut &file, &head).unwrap();
    file.set_len(u64::from(free) * 512).unwrap();
    for options in [&["--dry-run"][..], &["--dry-run", "--salvage"]] {
        let args = [&["d.vmdk", "o.raw"], options].concat();
        run(folder.path(), args).warns(&["d-delta.vmdk: ", "too large to look for overlaps to their end"]);
    }
}
