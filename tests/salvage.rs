//! `--salvage`: for each kind of damage that the readers know, exactly what is lost is listed and zero, and all else is right.
#![cfg(unix)]
#![allow(clippy::single_range_in_vec_init)] // lists of ranges, of which one is usual

mod common;

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use common::expect::folder;
use common::iso::iso;
use common::packed::{Change, Stream, cowd, inflates_to, marker, sesparse, tables_in_front};
use common::vhd::{Vhd, strict};
use common::vmdk::{self, Sparse, descriptor};
use common::{Ran, fed, names, pattern, run};
use serde_json::Value;

/// A disk with known damage.
struct Damaged<'a> {
    /// The files; the first is INPUT.
    files: Vec<(&'a str, Vec<u8>)>,
    /// The first file comes through standard input.
    piped: bool,
    options: Vec<&'a str>,
    /// What the disk held.
    guest: &'a [u8],
    /// What the refusal without `--salvage` says, where that is something else.
    refusal: Option<&'a str>,
    /// What of it is lost, and what the reason must say.
    lost: Vec<(Range<u64>, &'a str)>,
}

impl<'a> Damaged<'a> {
    fn file(name: &'a str, bytes: Vec<u8>, guest: &'a [u8], lost: &[(Range<u64>, &'a str)]) -> Damaged<'a> {
        Damaged {
            files: vec![(name, bytes)],
            piped: false,
            options: Vec::new(),
            guest,
            refusal: None,
            lost: lost.to_vec(),
        }
    }

    fn stream(bytes: Vec<u8>, guest: &'a [u8], lost: &[(Range<u64>, &'a str)]) -> Damaged<'a> {
        Damaged { piped: true, ..Damaged::file("-", bytes, guest, lost) }
    }

    /// The guest with zeroes in place of what is lost.
    fn want(&self) -> Vec<u8> {
        let mut want = self.guest.to_vec();
        self.lost.iter().for_each(|(lost, _)| want[lost.start as usize..lost.end as usize].fill(0));
        want
    }

    fn run(&self, folder: &Path, args: &[&str]) -> Ran {
        let args = [&[self.files[0].0][..], args, &self.options].concat();
        match self.piped {
            true => fed(folder, &args, &self.files[0].1),
            false => run(folder, &args),
        }
    }

    fn folder(&self) -> tempfile::TempDir {
        let files = self.files.iter().skip(usize::from(self.piped));
        folder(&files.map(|(name, bytes)| (*name, bytes.as_slice())).collect::<Vec<_>>())
    }

    /// Without `--salvage`: an error, and no output. With it: the list and the zeroes are exactly the damage, for any -j.
    #[track_caller]
    fn salvages(&self) {
        let f = self.folder();
        let before = names(f.path());
        let refused = self.run(f.path(), &["o.raw"]).fails(1, &["vdconv: "]);
        let text = self.refusal.unwrap_or(self.lost[0].1);
        assert!(refused.err.contains(text), "no {text:?} in {}", refused.err);
        assert_eq!(names(f.path()), before);
        for jobs in ["1", "4"] {
            let ran = self.run(f.path(), &["o.raw", "--salvage", "--json", "-q", "-j", jobs]);
            self.listed(&ran);
            assert!(fs::read(f.path().join("o.raw")).unwrap() == self.want(), "-j {jobs}: another byte is wrong");
            fs::remove_file(f.path().join("o.raw")).unwrap();
        }
        assert_eq!(names(f.path()), before);
    }

    /// Status 3, and the list in the report and in words.
    #[track_caller]
    fn listed(&self, ran: &Ran) {
        assert_eq!(ran.status, Some(3), "{}", ran.err);
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        let lost = report["lost"].as_array().unwrap();
        let ranges: Vec<_> = lost.iter().map(|l| l["start"].as_u64().unwrap()..end_of(l)).collect();
        assert_eq!(ranges, self.lost.iter().map(|(range, _)| range.clone()).collect::<Vec<_>>(), "{}", ran.err);
        assert_eq!(report["lost_bytes"], self.lost.iter().map(|(range, _)| range.end - range.start).sum::<u64>());
        for (lost, (range, text)) in lost.iter().zip(&self.lost) {
            let message = lost["message"].as_str().unwrap();
            assert!(message.contains(text), "no {text:?} in {message:?}");
            let line = format!(
                "vdconv: lost: bytes {} to {} ({} bytes, zero in the output): {}: {message}",
                range.start,
                range.end - 1,
                range.end - range.start,
                lost["file"].as_str().unwrap()
            );
            assert!(ran.err.lines().any(|l| l == line), "no {line:?} in\n{}", ran.err);
        }
        let lines = ran.err.lines().filter(|line| line.starts_with("vdconv: lost: ")).count();
        assert_eq!(lines, lost.len(), "{}", ran.err);
    }
}

fn end_of(lost: &Value) -> u64 {
    lost["start"].as_u64().unwrap() + lost["length"].as_u64().unwrap()
}

fn put(bytes: &mut [u8], at: usize, with: &[u8]) {
    bytes[at..at + with.len()].copy_from_slice(with);
}

const BLOCK: u64 = 8192;
const GRAIN: u64 = 65_536;

/// Four blocks of a VHD.
fn small() -> Vec<u8> {
    pattern(64, |_| false)
}

/// Five grains and three sectors.
fn guest() -> Vec<u8> {
    pattern(5 * 128 + 3, |_| false)
}

fn vhd() -> (Vhd, Vec<u8>) {
    let vhd = Vhd::dynamic_of(&small(), BLOCK as u32);
    let file = vhd.build();
    (vhd, file)
}

#[test]
fn vhd_blocks_whose_entries_cannot_be() {
    let (vhd, file) = vhd();
    let first = (vhd.block_at(0) / 512) as u32;
    for (block, sector, text) in
        [(1u64, 0x00FF_FFFFu32, "outside the file"), (1, 1, "another structure"), (0, 0, "another structure")]
    {
        let mut file = file.clone();
        put(&mut file, 1536 + block as usize * 4, &sector.to_be_bytes());
        Damaged::file("a.vhd", file, &small(), &[(block * BLOCK..(block + 1) * BLOCK, text)]).salvages();
    }
    // Of blocks that overlap nobody knows whose the bytes are: whichever entry is wrong, all are lost.
    let second = first + 17;
    for (block, sector, lost) in [
        (2, first, vec![0..BLOCK, 2 * BLOCK..3 * BLOCK]),
        (0, second + 17, vec![0..BLOCK, 2 * BLOCK..3 * BLOCK]),
        (3, first + 1, vec![0..2 * BLOCK, 3 * BLOCK..4 * BLOCK]),
        (0, second + 16, vec![0..3 * BLOCK]),
    ] {
        let mut file = file.clone();
        put(&mut file, 1536 + block * 4, &sector.to_be_bytes());
        let lost: Vec<_> = lost.into_iter().map(|range| (range, "where another block lies")).collect();
        Damaged::file("a.vhd", file, &small(), &lost).salvages();
    }
    // Neighbours that are lost for the same reason are one range; others are not.
    let mut file = file.clone();
    put(&mut file, 1536, &[0x7Fu8; 8]);
    put(&mut file, 1544, &1u32.to_be_bytes());
    let lost = [(0..2 * BLOCK, "at byte 1536: VHD block lies outside"), (2 * BLOCK..3 * BLOCK, "another structure")];
    Damaged::file("a.vhd", file, &small(), &lost).salvages();
}

#[test]
fn vhd_blocks_that_are_cut_off_and_bitmaps_that_were_never_written() {
    let (vhd, file) = vhd();
    // Up to the first byte that is missing a block is there.
    for stored in [512u64, 1000, 8191] {
        let cut = file[..vhd.block_at(3) + 512 + stored as usize].to_vec();
        let lost = [(3 * BLOCK + stored..4 * BLOCK, "cut by the end of the file")];
        Damaged::file("a.vhd", cut, &small(), &lost).salvages();
    }
    let cut = file[..vhd.block_at(2) + 100].to_vec();
    Damaged::file("a.vhd", cut, &small(), &[(2 * BLOCK..4 * BLOCK, "outside the file")]).salvages();
    let mut file = file;
    let bitmap = vhd.block_at(1);
    file[bitmap..bitmap + 512].fill(0);
    Damaged::file("a.vhd", file, &small(), &[(BLOCK..2 * BLOCK, "all clear over data")]).salvages();
}

#[test]
fn a_fixed_vhd_that_is_cut_in_front_of_its_footer() {
    let cut = [&small()[..5120], &Vhd::fixed_of(&small()).footer()].concat();
    let damaged = Damaged::file("a.vhd", cut, &[], &[(5120..32_768, "cut short")]);
    Damaged { options: vec!["-f", "vhd"], guest: &small(), ..damaged }.salvages();
}

#[test]
fn what_is_lost_in_a_child_is_never_the_parents_and_the_other_way_round() {
    let parent = Vhd::dynamic_of(&small(), BLOCK as u32);
    let mut child_guest = small();
    child_guest[..2 * BLOCK as usize].iter_mut().for_each(|byte| *byte ^= 0x55);
    // The first two blocks are the child's, wholly and in part.
    let mut child = Vhd::child_of(&parent, &child_guest, BLOCK as u32, |n| n < 20 || (30..32).contains(&n));
    (child.unique_id, child.locators) = (*b"fedcba9876543210", vec![common::vhd::locator(b"W2ru", "parent.vhd")]);
    let mut want = small();
    for sector in (0..20).chain(30..32) {
        want[sector * 512..][..512].copy_from_slice(&child_guest[sector * 512..][..512]);
    }
    let damaged = |child: Vec<u8>, parent: Vec<u8>, lost: &[(Range<u64>, &'static str)]| {
        let files = vec![("child.vhd", child), ("parent.vhd", parent)];
        Damaged { files, ..Damaged::file("", Vec::new(), &want, lost) }.salvages();
    };
    let outside = |mut file: Vec<u8>, block: usize| {
        put(&mut file, 1536 + block * 4, &0x00FF_FFFFu32.to_be_bytes());
        file
    };
    damaged(outside(child.build(), 1), parent.build(), &[(BLOCK..2 * BLOCK, "outside the file")]);
    // Of the parent's second block the child has sectors 16 to 19 and 30 to 31.
    let lost = [(20 * 512..30 * 512, "outside the file")];
    damaged(child.build(), outside(parent.build(), 1), &lost);
    // What the child has all of is not lost in the parent.
    let f = folder(&[("child.vhd", &child.build()), ("parent.vhd", &outside(parent.build(), 0))]);
    let ran = run(f.path(), ["child.vhd", "o.raw", "--salvage", "--json"]);
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    assert!(fs::read(f.path().join("o.raw")).unwrap() == want && ran.out.contains("\"lost\":[]"));
    // A parent that is not there is an error.
    fs::remove_file(f.path().join("parent.vhd")).unwrap();
    run(f.path(), ["child.vhd", "p.raw", "--salvage"]).fails(1, &["--parent"]);
}

/// Of the last block the disk needs a part alone: what it shares with another one is contested, though all of it would reach over the table.
#[test]
fn r8_a_last_block_that_the_disks_end_cuts_shares_no_bytes_with_another() {
    const SMALL: u64 = 4096;
    let mut image = Vhd::dynamic(2 * SMALL + SMALL / 2, SMALL as u32).build();
    let footer = image[..512].to_vec();
    let (first, table) = (4096, 4096 + 512 + SMALL as usize);
    let last = table - 512 - SMALL as usize / 2;
    image.resize(4096, 0);
    image.extend([0xFF; 512]);
    image.extend((0..SMALL).map(|at| at as u8 | 1));
    image[last..last + 512].fill(0xFF);
    image.extend([0xFF; 512]);
    put(&mut image, table, &(first as u32 / 512).to_be_bytes());
    put(&mut image, table + 8, &(last as u32 / 512).to_be_bytes());
    image.extend(footer);
    put(&mut image, 512 + 16, &(table as u64).to_be_bytes());
    common::vhd::seal(&mut image[512..1536], 36);
    let f = folder(&[("a.vhd", &image)]);
    run(f.path(), ["a.vhd", "o.raw"]).fails(1, &["lies where another block lies"]);
    let ran = run(f.path(), ["a.vhd", "o.raw", "--salvage"]);
    ran.fails(3, &["lost: bytes 0 to 4095", "lost: bytes 8192 to 10239"]);
}

#[test]
fn vmdk_grains_whose_entries_cannot_be() {
    let guest = guest();
    let image = Sparse::of(&guest);
    let file = image.build();
    let (first, grain) = (image.overhead() as u32, 128u32);
    let entries = |number: u64, values: [u32; 2]| {
        let mut file = file.clone();
        for (directory, value) in [image.rgd(), image.gd()].into_iter().zip(values) {
            put(&mut file, image.entry_at(directory, number), &value.to_le_bytes());
        }
        file
    };
    for (number, values, text) in [
        (1u64, [0x00FF_FFFF; 2], "entry cannot be"),
        (0, [1, 1], "entry cannot be"),
        (3, [0x00FF_FFFF, 30], "entries cannot be"),
        (1, [first + 2 * grain, first + grain], "its copy differ"),
        (5, [0x00FF_FFFF; 2], "entry cannot be"),
    ] {
        let lost = number * GRAIN..((number + 1) * GRAIN).min(guest.len() as u64);
        Damaged::file("a.vmdk", entries(number, values), &guest, &[(lost, text)]).salvages();
    }
    // Of grains that overlap nobody knows whose the bytes are: whichever entry is wrong, all are lost.
    for (number, sector, lost) in [
        (2, first, vec![0..GRAIN, 2 * GRAIN..3 * GRAIN]),
        (0, first + 2 * grain, vec![0..GRAIN, 2 * GRAIN..3 * GRAIN]),
        (3, first + 1, vec![0..2 * GRAIN, 3 * GRAIN..4 * GRAIN]),
        (1, first + 4 * grain - 1, vec![GRAIN..2 * GRAIN, 3 * GRAIN..5 * GRAIN]),
    ] {
        let lost: Vec<_> = lost.into_iter().map(|range| (range, "where another grain lies")).collect();
        Damaged::file("a.vmdk", entries(number, [sector; 2]), &guest, &lost).salvages();
    }
    // One of two copies is sound: nothing is lost, and a warning says so.
    let f = folder(&[("a.vmdk", &entries(1, [0x00FF_FFFF, first + grain]))]);
    run(f.path(), ["a.vmdk", "o.raw", "--salvage"]).warns(&["differ from their copies"]);
    assert!(fs::read(f.path().join("o.raw")).unwrap() == guest);
}

#[test]
fn vmdk_tables_that_are_nowhere_and_files_that_are_cut() {
    // A table speaks for 32 MiB.
    const TABLE: u64 = 32 << 20;
    let big = pattern((TABLE + 4 * GRAIN) / 512, |n| (1024..65_536).contains(&n));
    let image = Sparse::of(&big);
    let file = image.build();
    for values in [[0u32, 0], [0x00FF_FFFF; 2], [1, 0x00FF_FFFF]] {
        let mut file = file.clone();
        for (directory, value) in [image.rgd(), image.gd()].into_iter().zip(values) {
            put(&mut file, directory as usize * 512, &value.to_le_bytes());
        }
        Damaged::file("a.vmdk", file, &big, &[(0..TABLE, "directory entry cannot be")]).salvages();
    }
    // Two tables in one place: nobody knows whose they are.
    let mut twice = file.clone();
    for directory in [image.rgd(), image.gd()] {
        let at = directory as usize * 512;
        twice.copy_within(at..at + 4, at + 4);
    }
    Damaged::file("a.vmdk", twice, &big, &[(0..TABLE + 4 * GRAIN, "directory entry cannot be")]).salvages();
    let guest = guest();
    let image = Sparse::of(&guest);
    let file = image.build();
    let grains = image.overhead() as usize * 512;
    for (kept, lost) in [
        (GRAIN * 5 + 700, vec![(GRAIN * 5 + 700..GRAIN * 5 + 1536, "cut by the end")]),
        (GRAIN * 4 + 1, vec![(GRAIN * 4 + 1..GRAIN * 5, "cut by the end"), (GRAIN * 5..GRAIN * 5 + 1536, "cannot be")]),
        (GRAIN * 2, vec![(GRAIN * 2..GRAIN * 5 + 1536, "cannot be")]),
    ] {
        let cut = file[..grains + kept as usize].to_vec();
        Damaged::file("a.vmdk", cut, &guest, &lost).salvages();
    }
}

#[test]
fn packed_grains_that_do_not_inflate_in_files_and_through_pipes() {
    let guest = guest();
    let changes: [(Change, &str); 3] = [
        (
            |n, packed, _, _| {
                if n == 2 {
                    packed[20] ^= 0x55
                }
            },
            "does not inflate",
        ),
        (
            |n, packed, _, size| {
                if n == 2 {
                    inflates_to(60_000, packed, size)
                }
            },
            "less than a grain",
        ),
        (
            |n, packed, _, size| {
                if n == 2 {
                    inflates_to(70_000, packed, size)
                }
            },
            "more than a grain",
        ),
    ];
    for (change, text) in changes {
        let stream = Stream { grain: change, ..Stream::of(&guest) }.build();
        let lost = [(2 * GRAIN..3 * GRAIN, text)];
        Damaged::file("a.vmdk", stream.clone(), &guest, &lost).salvages();
        Damaged::stream(stream, &guest, &lost).salvages();
    }
    // The last one, of which the disk has three sectors; and one of tables in front.
    let last: Change = |n, packed, _, _| {
        if n == 5 {
            packed[4] ^= 0x55
        }
    };
    let stream = Stream { grain: last, ..Stream::of(&guest) }.build();
    let lost = [(5 * GRAIN..guest.len() as u64, "inflate")];
    Damaged::file("a.vmdk", stream.clone(), &guest, &lost).salvages();
    Damaged::stream(stream.clone(), &guest, &lost).salvages();
    // What a grown disk has behind it is not lost.
    let mut grown = guest.clone();
    grown.resize(7 * GRAIN as usize, 0);
    let damaged = Damaged::stream(stream, &grown, &lost);
    Damaged { options: vec!["--size", "458752"], ..damaged }.salvages();
    let mut front = tables_in_front(&guest, marker);
    let at = front.windows(12).rposition(|w| w[..8] == 256u64.to_le_bytes() && w[10..12] == [0, 0]).unwrap();
    front[at + 30] ^= 0x55;
    let lost = [(2 * GRAIN..3 * GRAIN, "does not inflate")];
    Damaged::file("a.vmdk", front.clone(), &guest, &lost).salvages();
    Damaged::stream(front, &guest, &lost).salvages();
}

#[test]
fn packed_grains_whose_markers_are_wrong_are_told_one_by_one_in_a_file() {
    let guest = guest();
    let changes: [(Change, &str); 3] = [
        (
            |n, _, lba, _| {
                if n == 1 {
                    *lba = 640
                }
            },
            "another grain's",
        ),
        (
            |n, _, lba, _| {
                if n == 1 {
                    *lba = 7
                }
            },
            "another grain's",
        ),
        (
            |n, _, _, size| {
                if n == 1 {
                    *size = 1 << 20
                }
            },
            "marker size",
        ),
    ];
    for (change, text) in changes {
        let stream = Stream { grain: change, ..Stream::of(&guest) }.build();
        Damaged::file("a.vmdk", stream, &guest, &[(GRAIN..2 * GRAIN, text)]).salvages();
    }
    // A grain that is there and that the table lost.
    let mut stream = Stream::of(&guest).build();
    let is_table = |at: &usize| stream[*at..at + 4] == [128, 0, 0, 0] && stream[at + 4..at + 8] != [0; 4];
    let table = (65_536..stream.len()).step_by(512).find(is_table).unwrap();
    stream[table + 4..table + 8].fill(0);
    let damaged = Damaged::file("a.vmdk", stream, &guest, &[(GRAIN..2 * GRAIN, "no entry for a grain")]);
    damaged.salvages();
}

#[test]
fn a_stream_that_breaks_off_loses_all_behind_its_last_grain() {
    let guest = guest();
    let whole = Stream::of(&guest).build();
    let places: Vec<usize> = (0..6u64)
        .map(|n| {
            let marker = |at: &usize| whole[*at..at + 8] == (n * 128).to_le_bytes() && whole[at + 8..at + 12] != [0; 4];
            (65_536..whole.len()).step_by(512).find(|at| marker(at)).unwrap()
        })
        .collect();
    let end = guest.len() as u64;
    // In the middle of a grain, of a marker, between two; in the table that would confirm them.
    for (cut, came) in [(places[3] + 40, 3u64), (places[3] + 5, 3), (places[3], 3), (places[0] + 1, 0)] {
        let lost = [(came * GRAIN..end, "")];
        Damaged::stream(whole[..cut].to_vec(), &guest, &lost).salvages();
    }
    // Markers that cannot be.
    for (change, came) in [
        (&[0x07u8, 0, 0, 0, 0, 0, 0, 0][..], 3u64),
        (&[0, 0, 0, 0, 1, 0, 0, 0], 3),
        (&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0], 3),
    ] {
        let mut stream = whole.clone();
        put(&mut stream, places[3], change);
        Damaged::stream(stream, &guest, &[(came * GRAIN..end, "VMDK grain marker")]).salvages();
    }
    // With the tables in front.
    let front = tables_in_front(&guest, marker);
    let at = front.windows(12).rposition(|w| w[..8] == 384u64.to_le_bytes() && w[10..12] == [0, 0]).unwrap();
    for cut in [at, at + 12, at + 100] {
        Damaged::stream(front[..cut].to_vec(), &guest, &[(3 * GRAIN..end, "")]).salvages();
    }
    // What is kept of a file that was cut is read as a stream: the message says so.
    let f = folder(&[("a.vmdk", &whole[..places[3] + 40])]);
    run(f.path(), ["a.vmdk", "o.raw", "--salvage"]).fails(1, &["no footer", "vdconv --salvage - OUTPUT < FILE"]);
}

#[test]
fn a_stream_that_contradicts_itself_or_is_damaged_behind_the_disk() {
    let guest = guest();
    let salvage = |stream: &[u8]| {
        let f = folder(&[]);
        let ran = fed(f.path(), &["-", "o.raw", "--salvage"], stream);
        (ran, fs::read(f.path().join("o.raw")).ok())
    };
    // What was handed out may be wrong, and cannot be taken back: no output.
    let changes: [Change; 2] = [
        |n, _, lba, _| {
            if n == 3 {
                *lba = 512
            }
        },
        |n, _, lba, _| {
            if n == 5 {
                *lba = 512
            }
        },
    ];
    for change in changes {
        let stream = Stream { grain: change, ..Stream::of(&guest) }.build();
        let (ran, out) = salvage(&stream);
        ran.fails(1, &["standard input: at byte "]);
        assert!(out.is_none());
    }
    // All of the disk came: nothing is lost, and the damage is a warning.
    let whole = Stream::of(&guest).build();
    let end = whole.len();
    let other = [&whole[..], &[7; 512]].concat();
    for (stream, text) in [
        (&whole[..end - 512], "no end-of-stream sector"),
        (&whole[..end - 1000], "ends too early"),
        (&other, "follows"),
    ] {
        let (ran, out) = salvage(stream);
        ran.warns(&[text]);
        assert!(out.unwrap() == guest, "{text}");
        let f = folder(&[]);
        fed(f.path(), &["-", "o.raw"], stream).fails(1, &[text]);
    }
}

#[test]
fn raw_disks_through_pipes_that_end_too_early() {
    let small = small();
    for came in [0usize, 1, 5000, 32_767] {
        let came = came.max(1);
        let stream = Damaged::stream(small[..came].to_vec(), &small, &[(came as u64..32_768, "ends too early")]);
        Damaged { options: vec!["--input-size", "32768", "-f", "raw"], ..stream }.salvages();
    }
    // Grown, and longer than a piece.
    let mut guest = pattern(5000, |_| false);
    let came = 1_500_000;
    let bytes = guest[..came].to_vec();
    guest.resize(3 << 20, 0);
    let stream = Damaged::stream(bytes, &guest, &[(came as u64..5000 * 512, "ends too early")]);
    Damaged { options: vec!["--input-size", "2560000", "-f", "raw", "--size", "3M"], ..stream }.salvages();
}

/// A redo log over a flat disk, in four files.
fn snapshot<'a>(kind: [&str; 2], sectors: u64, delta: Vec<u8>, base: &[u8]) -> Vec<(&'a str, Vec<u8>)> {
    let parent = descriptor("vmfs", 5, None, &format!("RW {sectors} VMFS \"flat.vmdk\""));
    let line = format!("RW {sectors} {} \"delta.vmdk\"", kind[1]);
    let child = descriptor(kind[0], 6, Some((5, "vm.vmdk")), &line);
    vec![
        ("snap.vmdk", child.into_bytes()),
        ("delta.vmdk", delta),
        ("vm.vmdk", parent.into_bytes()),
        ("flat.vmdk", base.to_vec()),
    ]
}

#[test]
fn esxis_redo_logs() {
    let base = pattern(10_000, |_| false);
    let delta = cowd(10_000, &[(0, 0x11), (1, 0x12), (4096, 0x13), (9999, 0x14)], &[]);
    let mut want = base.clone();
    [(0, 0x11), (1, 0x12), (4096, 0x13), (9999, 0x14)]
        .iter()
        .for_each(|(sector, byte): &(usize, u8)| want[sector * 512..][..512].fill(*byte));
    let gde = |n: usize| u32::from_le_bytes(delta[2048 + n * 4..][..4].try_into().unwrap());
    let table = gde(0) as usize * 512;
    let case = |delta: Vec<u8>, lost: &[(Range<u64>, &'static str)]| {
        let files = snapshot(["vmfsSparse", "VMFSSPARSE"], 10_000, delta, &base);
        Damaged { files, ..Damaged::file("", Vec::new(), &want, lost) }.salvages();
    };
    let with = |at: usize, value: u32| {
        let mut delta = delta.clone();
        put(&mut delta, at, &value.to_le_bytes());
        delta
    };
    let entry = |at: usize| u32::from_le_bytes(delta[at..at + 4].try_into().unwrap());
    case(with(table, 0x00FF_FFFF), &[(0..512, "entry cannot be")]);
    case(with(table + 4, entry(table)), &[(0..1024, "where another grain lies")]);
    case(with(table, entry(table + 4)), &[(0..1024, "where another grain lies")]);
    case(with(2048 + 4, 0x00FF_FFFF), &[(4096 * 512..8192 * 512, "directory entry cannot be")]);
    // Of a grain and a table that lie on each other nobody knows whose the place is.
    let second = 4096 * 512..8192 * 512;
    let both = |grains| [(grains, "where another grain lies"), (second.clone(), "directory entry cannot be")];
    case(with(table, gde(1)), &both(0..512));
    case(with(2048 + 4, gde(0) + 32), &both(0..1024));
    // Cut in the last sector stored, and in front of it.
    for (cut, text) in [(100u64, "cut by the end"), (512, "cannot be")] {
        let files = snapshot(["vmfsSparse", "VMFSSPARSE"], 10_000, delta[..delta.len() - cut as usize].to_vec(), &base);
        let lost = [(10_000 * 512 - cut..10_000 * 512, text)];
        let refusal = (cut == 512).then_some("free sector lies behind");
        Damaged { files, refusal, ..Damaged::file("", Vec::new(), &want, &lost) }.salvages();
    }
}

#[test]
fn sesparse_snapshots() {
    let base = pattern(40_000, |_| false);
    let at = |n: u64| 3 << 60 | (n & 0xFFF) << 48 | n >> 12;
    let good = [(0, at(5)), (1, at(6)), (2, 1 << 60), (4999, at(10))];
    let data = [(5, 0x51), (6, 0x61), (10, 0xA1)];
    let mut want = base.clone();
    for (grain, byte) in [(0usize, 0x51), (1, 0x61), (2, 0), (4999, 0xA1)] {
        want[grain * 4096..][..4096].fill(byte);
    }
    let case = |delta: Vec<u8>, lost: &[(Range<u64>, &'static str)]| {
        let files = snapshot(["seSparse", "SESPARSE"], 40_000, delta, &base);
        Damaged { files, ..Damaged::file("", Vec::new(), &want, lost) }.salvages();
    };
    let with = |grain: u64, value: u64| {
        let mut entries = good.to_vec();
        entries.retain(|(n, _)| *n != grain);
        entries.push((grain, value));
        sesparse(&entries, &data, 0)
    };
    case(with(1, at(5)), &[(0..8192, "where another grain lies")]);
    case(
        with(0, at(10)),
        &[(0..4096, "where another grain lies"), (4999 * 4096..5000 * 4096, "where another grain lies")],
    );
    case(with(1, at(1_000_000)), &[(4096..8192, "behind the last one")]);
    case(with(1, 5 << 60), &[(4096..8192, "grain table entry")]);
    case(with(3, 1), &[(3 * 4096..4 * 4096, "grain table entry")]);
    let mut delta = with(1, at(6));
    put(&mut delta, 8 * 512, &[0x77; 8]);
    case(delta, &[(0..4096 * 4096, "directory entry")]);
    let mut delta = with(1, at(6));
    delta.copy_within(8 * 512..8 * 512 + 8, 8 * 512 + 8);
    case(delta, &[(0..40_000 * 512, "lead to one table")]);
    // Cut within the grains: 10 is gone.
    let delta = with(1, at(6));
    case(delta[..(512 + 80) * 512].to_vec(), &[(4999 * 4096..5000 * 4096, "behind the last one")]);
}

#[test]
fn extents_that_are_missing_short_or_not_to_be_had() {
    let guest = pattern(300, |_| false);
    let part = |sectors: Range<usize>| guest[sectors.start * 512..sectors.end * 512].to_vec();
    let text = |lines: &str| descriptor("custom", 1, None, lines).into_bytes();
    let sparse = |sectors: Range<usize>| Sparse { descriptor: String::new(), ..Sparse::of(&part(sectors)) }.build();
    let flats = "RW 100 FLAT \"a-f1.vmdk\" 0\nRW 200 FLAT \"a-f2.vmdk\" 3";
    let second = [vec![0xEE; 1536], part(100..300)].concat();
    let case = |files: Vec<(&'static str, Vec<u8>)>, lost: &[(Range<u64>, &'static str)]| {
        Damaged { files, ..Damaged::file("", Vec::new(), &guest, lost) }.salvages();
    };
    let (first, end) = (51_200u64, 300 * 512);
    case(vec![("a.vmdk", text(flats)), ("a-f1.vmdk", part(0..100))], &[(first..end, "not there")]);
    case(vec![("a.vmdk", text(flats)), ("a-f2.vmdk", second.clone())], &[(0..first, "not there")]);
    for cut in [1usize, 700, 200 * 512] {
        let short = second[..second.len() - cut].to_vec();
        let lost = [(end - cut as u64..end, "cut short")];
        case(vec![("a.vmdk", text(flats)), ("a-f1.vmdk", part(0..100)), ("a-f2.vmdk", short)], &lost);
    }
    let none = "RW 100 FLAT \"a-f1.vmdk\" 0\nNOACCESS 200 FLAT \"a-f2.vmdk\" 3";
    let files = vec![("a.vmdk", text(none)), ("a-f1.vmdk", part(0..100)), ("a-f2.vmdk", second.clone())];
    case(files, &[(first..end, "NOACCESS")]);
    // Sparse pieces: missing, with a header that cannot be, cut within it, shorter than the line says, without its directory.
    let pieces = "RW 128 SPARSE \"a-s1.vmdk\"\nRW 172 SPARSE \"a-s2.vmdk\"";
    let (one, two, first) = (sparse(0..128), sparse(128..300), 128 * 512);
    let mut odd = two.clone();
    odd[20..28].fill(0xFE);
    let mut lost_directory = two.clone();
    lost_directory[48..64].fill(0x7F);
    let case_of = |second: Option<Vec<u8>>, text_of: &'static str| {
        let mut files = vec![("a.vmdk", text(pieces)), ("a-s1.vmdk", one.clone())];
        files.extend(second.map(|second| ("a-s2.vmdk", second)));
        case(files, &[(first..end, text_of)]);
    };
    case_of(None, "not there");
    case_of(Some(odd), "");
    case_of(Some(two[..300].to_vec()), "cut short within its header");
    case_of(Some(lost_directory), "directory lies outside");
    let short = vec![("a.vmdk", text(pieces)), ("a-s1.vmdk", one.clone()), ("a-s2.vmdk", sparse(128..256))];
    case(short, &[(256 * 512..end, "capacity is less")]);
    // A grain of the second piece lies behind the first in the disk.
    let mut damaged = two.clone();
    let image = Sparse { descriptor: String::new(), ..Sparse::of(&part(128..300)) };
    for directory in [image.rgd(), image.gd()] {
        put(&mut damaged, image.entry_at(directory, 1), &0x00FF_FFFFu32.to_le_bytes());
    }
    let files = vec![("a.vmdk", text(pieces)), ("a-s1.vmdk", one.clone()), ("a-s2.vmdk", damaged)];
    case(files, &[(256 * 512..end, "entry cannot be")]);
    // What leads outside is no loss: the user may follow it. Nor is a disk of which nothing is left a disk.
    let outside = "RW 100 FLAT \"a-f1.vmdk\" 0\nRW 200 FLAT \"../a-f2.vmdk\" 0";
    for (text, files, words) in [
        (text(outside), vec![("a-f1.vmdk", part(0..100))], "leads out of its folder"),
        (text(flats), vec![], "not there"),
        (text("NOACCESS 100 FLAT \"a-f1.vmdk\" 0\nRW 200 ZERO"), vec![("a-f1.vmdk", part(0..100))], "NOACCESS"),
        (text(pieces), vec![("a-s1.vmdk", vec![b'K', b'D'])], "cut short within its header"),
    ] {
        let f = folder(&[("a.vmdk", &text)]);
        files.iter().for_each(|(name, bytes)| fs::write(f.path().join(name), bytes).unwrap());
        run(f.path(), ["a.vmdk", "o.raw", "--salvage"]).fails(1, &[words]);
        assert_eq!(names(f.path()).len(), 1 + files.len());
    }
}

#[test]
fn vmdk_chains_lose_what_the_youngest_that_has_it_lost() {
    let base = guest();
    let mut want = base.clone();
    let text = descriptor("monolithicSparse", 2, Some((0x1234_5678, "base.vmdk")), "RW 643 SPARSE \"x\"");
    let mut child = Sparse { descriptor: text, flags: 7, ..Sparse::of(&vec![0; 643 * 512]) };
    for (grain, byte) in [(0usize, 0x11), (3, 0x13)] {
        child.grains[grain] = Some(vec![byte; 65_536]);
        want[grain * 65_536..][..65_536].fill(byte);
    }
    let image = Sparse::of(&base);
    let damage = |image: &Sparse, grains: &[u64]| {
        let mut file = image.build();
        for (grain, directory) in grains.iter().flat_map(|grain| [(grain, image.rgd()), (grain, image.gd())]) {
            put(&mut file, image.entry_at(directory, *grain), &0x00FF_FFFFu32.to_le_bytes());
        }
        file
    };
    // The child lost its grain 3 and one that it never had; the base grain 0, which the child has, and grain 1.
    let files = vec![("child.vmdk", damage(&child, &[3, 4])), ("base.vmdk", damage(&image, &[0, 1]))];
    let lost = [(GRAIN..2 * GRAIN, "entry cannot be"), (3 * GRAIN..5 * GRAIN, "entry cannot be")];
    Damaged { files, ..Damaged::file("", Vec::new(), &want, &lost) }.salvages();
}

#[test]
fn a_snapshots_empty_table_that_another_has_too_is_never_the_parents() {
    // Tables for 2 MiB. The first has nothing, and the entry of the second leads there too; each has a copy of its own.
    let base = pattern(8192, |_| false);
    let text = descriptor("monolithicSparse", 2, Some((0x1234_5678, "base.vmdk")), "RW 8192 SPARSE \"x\"");
    let grains = (0..1024usize).map(|grain| (grain >= 512).then(|| vec![grain as u8 | 1; 4096])).collect();
    let empty = vec![0; 8192 * 512];
    let child = Sparse { descriptor: text, flags: 7, grain: 8, grains, ..Sparse::of(&empty) };
    let mut want = base.clone();
    for (grain, data) in child.grains.iter().enumerate() {
        data.iter().for_each(|data| want[grain * 4096..][..4096].copy_from_slice(data));
    }
    let mut file = child.build();
    let at = child.gd() as usize * 512;
    file.copy_within(at..at + 4, at + 4);
    want[..2 << 20].fill(0);
    let f = folder(&[("child.vmdk", &file), ("base.vmdk", &Sparse::of(&base).build())]);
    for jobs in ["1", "4"] {
        let ran = run(f.path(), ["child.vmdk", "o.raw", "--salvage", "--force", "-j", jobs]);
        assert_eq!(ran.status, Some(3), "{}", ran.err);
        assert!(ran.err.contains("lost: bytes 0 to 2097151 ("), "{}", ran.err);
        assert!(fs::read(f.path().join("o.raw")).unwrap() == want);
    }
}

#[test]
fn an_iso_image_that_was_cut_off_lacks_its_end() {
    let image = iso(400);
    for kept in [40_960usize, 100_001, 400 * 2048 - 151 * 2048] {
        let lost = [(kept as u64..400 * 2048, "truncated")];
        Damaged::file("a.iso", image[..kept].to_vec(), &image, &lost).salvages();
    }
}

#[test]
fn every_kind_of_output_has_zeroes_for_what_is_lost() {
    let guest = guest();
    let stream = Stream {
        grain: |n, packed, _, _| {
            if n == 2 {
                packed[20] ^= 0x55
            }
        },
        ..Stream::of(&guest)
    }
    .build();
    let damaged = Damaged::file("a.vmdk", stream, &guest, &[(2 * GRAIN..3 * GRAIN, "does not inflate")]);
    let kinds: [(&str, &[&str]); 7] = [
        ("o.vmdk", &[]),
        ("o.vmdk", &["-s", "stream"]),
        ("o.vmdk", &["-s", "flat"]),
        ("o.vmdk", &["-s", "twoGbMaxExtentSparse"]),
        ("o.vhd", &[]),
        ("o.vhd", &["-s", "fixed"]),
        ("o.raw", &[]),
    ];
    for (output, options) in kinds {
        let mut first: Option<Vec<u8>> = None;
        for jobs in ["1", "4"] {
            let f = damaged.folder();
            let mut command = common::vdconv();
            command.current_dir(f.path()).env("SOURCE_DATE_EPOCH", "1");
            command.args(["a.vmdk", output, "--salvage", "--json", "-j", jobs]).args(options);
            damaged.listed(&Ran::of(&mut command));
            let path = f.path().join(output);
            let got = match output {
                "o.vmdk" => vmdk::read(&path).guest,
                "o.vhd" => strict(&fs::read(&path).unwrap(), None).guest,
                _ => fs::read(&path).unwrap(),
            };
            assert!(got == damaged.want(), "{output} {options:?} -j {jobs}");
            let bytes = fs::read(&path).unwrap();
            assert!(*first.get_or_insert(bytes.clone()) == bytes, "R23: {output} {options:?}");
        }
    }
}

#[test]
fn a_delta_stores_zeroes_where_the_base_has_data_and_losses_of_the_base_are_errors() {
    let guest = guest();
    let mut base = guest.clone();
    base[..65_536].fill(0);
    let image = Sparse::of(&guest);
    let mut file = image.build();
    // Of what is lost the base has zeroes (grain 0) and data (grain 2).
    for (grain, directory) in [0, 2].into_iter().flat_map(|grain| [(grain, image.rgd()), (grain, image.gd())]) {
        put(&mut file, image.entry_at(directory, grain), &0x00FF_FFFFu32.to_le_bytes());
    }
    let text = descriptor("monolithicSparse", 9, None, "RW 643 SPARSE \"x\"");
    let files = vec![("a.vmdk", file), ("base.vmdk", Sparse { descriptor: text, ..Sparse::of(&base) }.build())];
    let lost = [(0..GRAIN, "entry cannot be"), (2 * GRAIN..3 * GRAIN, "entry cannot be")];
    let damaged = Damaged { files, ..Damaged::file("", Vec::new(), &guest, &lost) };
    for jobs in ["1", "4"] {
        let f = damaged.folder();
        let args = ["a.vmdk", "o.vmdk", "--salvage", "--json", "--base", "base.vmdk", "-j", jobs];
        damaged.listed(&run(f.path(), args));
        run(f.path(), ["o.vmdk", "back.raw"]).succeeds();
        assert!(fs::read(f.path().join("back.raw")).unwrap() == damaged.want());
        // The other way round: what the base lost is not the output's to lose.
        let args = ["base.vmdk", "p.vmdk", "--salvage", "--base", "a.vmdk"];
        run(f.path(), args).fails(1, &["a.vmdk: at byte ", "entry cannot be"]);
        assert!(!f.path().join("p.vmdk").exists());
    }
    // The same of VHDs.
    let (vhd, mut file) = vhd();
    put(&mut file, 1536, &0x00FF_FFFFu32.to_be_bytes());
    let mut base = Vhd { unique_id: *b"another image id", ..vhd };
    base.blocks.get_mut(&0).unwrap().0.fill(0x77);
    let small = small();
    let files = vec![("a.vhd", file), ("base.vhd", base.build())];
    let damaged = Damaged { files, ..Damaged::file("", Vec::new(), &small, &[(0..BLOCK, "outside the file")]) };
    let f = damaged.folder();
    let args = ["a.vhd", "o.vhd", "--salvage", "--json", "--base", "base.vhd"];
    damaged.listed(&run(f.path(), args));
    run(f.path(), ["o.vhd", "back.raw"]).succeeds();
    assert!(fs::read(f.path().join("back.raw")).unwrap() == damaged.want());
}

#[test]
fn a_lost_tebibyte_costs_as_little_as_a_gap() {
    let part = pattern(300, |_| false);
    let tib = 1u64 << 31;
    let lines = format!("RW 100 FLAT \"a.bin\" 0\nRW {tib} FLAT \"missing.bin\" 0\nRW 200 FLAT \"a.bin\" 100");
    let f = folder(&[("a.vmdk", descriptor("custom", 1, None, &lines).as_bytes()), ("a.bin", &part)]);
    for output in ["o.vhd", "o.raw"] {
        let started = Instant::now();
        let ran = run(f.path(), ["a.vmdk", output, "--salvage", "--json"]);
        assert!(started.elapsed() < Duration::from_secs(10), "{output}: {:?}", started.elapsed());
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!((report["lost"].as_array().unwrap().len(), &report["lost_bytes"]), (1, &(1u64 << 40).into()));
        assert_eq!(report["lost"][0]["start"], 51_200);
        assert!(
            report["bytes_read"].as_u64().unwrap() < 1 << 20 && report["bytes_written"].as_u64().unwrap() < 32 << 20
        );
        fs::remove_file(f.path().join(output)).unwrap();
    }
}

#[test]
fn r10_as_many_ranges_as_are_listed_take_bounded_memory_and_more_are_refused() {
    // A redo log of which every other sector's entry cannot be; its parent is nothing.
    let delta = |sectors: u64| {
        let mut file = cowd(sectors, &[], &[]);
        let tables = sectors.div_ceil(4096);
        let first = file.len() as u32 / 512;
        for table in 0..tables as usize {
            put(&mut file, 2048 + table * 4, &(first + table as u32 * 32).to_le_bytes());
        }
        for sector in 0..tables * 4096 {
            file.extend(if sector % 2 == 1 { 0x00FF_FFFFu32 } else { 0 }.to_le_bytes());
        }
        let free = file.len() as u32 / 512;
        put(&mut file, 28, &free.to_le_bytes());
        file
    };
    for (sectors, listed) in [(1_999_000u64, true), (2_100_000, false)] {
        let text = descriptor("vmfsSparse", 6, None, &format!("RW {sectors} VMFSSPARSE \"d-delta.vmdk\""));
        let f = folder(&[("d.vmdk", text.as_bytes()), ("d-delta.vmdk", &delta(sectors))]);
        let mut command = common::vdconv();
        let out = fs::File::create(f.path().join("report")).unwrap();
        command.current_dir(f.path()).args(["d.vmdk", "o.raw", "--salvage", "--json", "-j", "4"]).stdout(out);
        let (status, peak, took) = common::process::measured(&mut command);
        assert!(peak < 200, "{peak} MiB");
        assert!(took < Duration::from_secs(60), "{took:?}");
        assert_eq!(status.code(), Some(if listed { 3 } else { 1 }));
        let report: Value = serde_json::from_str(&fs::read_to_string(f.path().join("report")).unwrap()).unwrap();
        match listed {
            true => {
                let lost = report["lost"].as_array().unwrap();
                assert_eq!((lost.len() as u64, &report["lost_bytes"]), (sectors / 2, &(sectors / 2 * 512).into()));
                assert!(lost.iter().zip(0u64..).all(|(l, n)| l["start"] == (2 * n + 1) * 512));
            }
            false => {
                assert_eq!(report["error"]["kind"], "over_limit");
                assert_eq!(names(f.path()), ["d-delta.vmdk", "d.vmdk", "report"]);
            }
        }
    }
}

#[test]
fn r10_grains_without_number_that_lie_on_each_other_are_refused_in_bounded_memory() {
    // Redo logs: 16 MiB of entries that lead to one grain, and a seSparse extent of 16 MiB of them.
    let tables = 1024;
    let mut cowd = cowd(tables * 4096, &[], &[]);
    let first = cowd.len() as u32 / 512;
    for table in 0..tables as usize {
        put(&mut cowd, 2048 + table * 4, &(first + table as u32 * 32).to_le_bytes());
    }
    let grain = first + tables as u32 * 32;
    cowd.extend(grain.to_le_bytes().repeat(tables as usize * 4096));
    cowd.extend([0xAA; 512]);
    put(&mut cowd, 28, &(grain + 1).to_le_bytes());
    let (se_tables, mut se) = (512u64, sesparse(&[], &[], 0));
    se.truncate(64 * 512);
    for (at, value) in [(16, se_tables * 4096 * 8), (0x98, se_tables * 64), (0xC0, 64 + se_tables * 64), (0xC8, 8)] {
        put(&mut se, at, &value.to_le_bytes());
    }
    for table in 0..se_tables {
        put(&mut se, 8 * 512 + table as usize * 8, &(0x1000_0000u64 << 32 | table).to_le_bytes());
    }
    se.extend((3u64 << 60).to_le_bytes().repeat(se_tables as usize * 4096));
    se.extend([0x11; 4096]);
    for (kind, word, sectors, delta) in
        [("vmfsSparse", "VMFSSPARSE", tables * 4096, cowd), ("seSparse", "SESPARSE", se_tables * 4096 * 8, se)]
    {
        let text = descriptor(kind, 6, None, &format!("RW {sectors} {word} \"d-delta.vmdk\""));
        for salvage in [false, true] {
            let f = folder(&[("d.vmdk", text.as_bytes()), ("d-delta.vmdk", &delta)]);
            let mut command = common::vdconv();
            let out = fs::File::create(f.path().join("report")).unwrap();
            command.current_dir(f.path()).args(["d.vmdk", "o.raw", "--json", "-q"]).stdout(out);
            command.args(salvage.then_some("--salvage"));
            let (status, peak, took) = common::process::measured(&mut command);
            let report: Value = serde_json::from_str(&fs::read_to_string(f.path().join("report")).unwrap()).unwrap();
            assert!(peak < 128 && took < Duration::from_secs(10), "{kind} {salvage}: {peak} MiB, {took:?}");
            assert_eq!(status.code(), Some(1), "{kind} {salvage}");
            // Who does not go on over losses has the first of them.
            let kind = if salvage { "over_limit" } else { "damaged" };
            assert_eq!(report["error"]["kind"], kind, "{report}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn r10_a_directory_of_nothing_but_entries_that_cannot_be_takes_bounded_memory_and_time() {
    // Two million tables: no entry leads anywhere; each to a table that is there, once.
    let tables = 2_000_000u64;
    let sectors = tables * 512 * 8;
    let gd_sectors = (tables * 4).div_ceil(512);
    let text = common::vmdk::descriptor("monolithicSparse", 7, None, &format!("RW {sectors} SPARSE \"x\""));
    let image = Sparse { flags: 1, ..Sparse::of(&vec![0; 512]) };
    for value in [0u32, 21 + gd_sectors as u32] {
        let mut file = image.build();
        let overhead = 21 + gd_sectors + 4;
        for (at, number) in [(12usize, sectors), (20, 8), (56, 21), (64, overhead)] {
            put(&mut file, at, &number.to_le_bytes());
        }
        put(&mut file, 512, text.as_bytes());
        file.truncate(21 * 512);
        file.extend(value.to_le_bytes().repeat(tables as usize));
        file.resize(overhead as usize * 512, 0);
        let f = folder(&[("a.vmdk", &file)]);
        let started = std::time::Instant::now();
        let script =
            format!("ulimit -v 800000; exec {} --salvage --dry-run -j 1 a.vmdk o.raw", env!("CARGO_BIN_EXE_vdconv"));
        let ran = common::Ran::of(std::process::Command::new("sh").current_dir(f.path()).args(["-c", &script]));
        assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
        assert!(ran.err.contains("directory entry cannot be"), "{:?} {}", ran.status, ran.err);
    }
}

#[test]
fn salvage_is_never_implied_and_says_when_nothing_was_lost() {
    let (_, file) = vhd();
    let mut bad = file.clone();
    put(&mut bad, 1536, &0x00FF_FFFFu32.to_be_bytes());
    let f = folder(&[("good.vhd", &file), ("bad.vhd", &bad)]);
    for args in [vec!["bad.vhd", "o.raw"], vec!["bad.vhd", "o.raw", "--force", "--ignore-bitmaps", "--ignore-cid"]] {
        run(f.path(), args).fails(1, &["hint: --salvage goes on"]);
        assert_eq!(names(f.path()), ["bad.vhd", "good.vhd"]);
    }
    let ran = run(f.path(), ["good.vhd", "o.raw", "--salvage", "--json"]).succeeds();
    assert!(ran.out.contains("\"lost_bytes\":0,\"lost\":[]"), "{}", ran.out);
    let ran = run(f.path(), ["bad.vhd", "o.raw", "--salvage", "--force"]);
    assert_eq!(ran.status, Some(3));
    assert!(ran.err.lines().last().unwrap().ends_with("; 8192 bytes were lost, in 1 range"), "{}", ran.err);
    // A better hint stays.
    let mut clear = file.clone();
    let bitmap = Vhd::dynamic_of(&small(), BLOCK as u32).block_at(1);
    clear[bitmap..bitmap + 512].fill(0);
    fs::write(f.path().join("bad.vhd"), clear).unwrap();
    run(f.path(), ["bad.vhd", "p.raw"]).fails(1, &["hint: --ignore-bitmaps"]);
    // What makes the whole image unreadable is no loss.
    let mut headless = file;
    headless[600] ^= 1;
    fs::write(f.path().join("bad.vhd"), headless).unwrap();
    run(f.path(), ["bad.vhd", "p.raw", "--salvage"]).fails(1, &["header checksum"]);
}
