//! Media with bad sectors: exactly what they hold is lost, of data and of tables, whatever the format.
#![allow(clippy::single_range_in_vec_init)] // lists of ranges, of which one is usual

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use common::packed::{Stream, cowd, marker, sesparse, tables_in_front};
use common::vhd::Vhd;
use common::vmdk::{Sparse, descriptor};
use common::{pattern, scratch};
use proptest::prelude::*;
use vdconv::engine::{self, Control, MapFeed, Sources};
use vdconv::fault::{Fault, Kind};
use vdconv::format::{self, OpenOptions, Wish};
use vdconv::image::{Disk, Identifiers, Losses};
use vdconv::io::{Gate, Lease, OutputFile, OutputOptions, Outputs, Target};

const GRAIN: u64 = 65_536;

/// Files with bad sectors; the first is the image.
#[derive(Clone, Default)]
struct Media(Vec<(String, Vec<u8>, Vec<Range<u64>>)>);

impl Media {
    fn of(name: &str, bytes: Vec<u8>, bad: &[Range<u64>]) -> Media {
        Media::default().with(name, bytes, bad)
    }

    fn with(mut self, name: &str, bytes: Vec<u8>, bad: &[Range<u64>]) -> Media {
        self.0.push((format!("/media/{name}"), bytes, bad.to_vec()));
        self
    }

    fn open(&self, format: Option<&str>) -> Result<Disk, Fault> {
        let mut gate = Gate::new();
        for (name, bytes, bad) in &self.0 {
            gate.lay_over_unreadable(name, bytes.clone(), bad);
        }
        let options = OpenOptions { format: format.and_then(format::by_name), ..OpenOptions::default() };
        format::open(&mut gate, Path::new(&self.0[0].0), &options)
    }

    /// Converts to a raw disk: its bytes, what was lost, and the warnings.
    fn salvaged(&self, format: Option<&str>, jobs: usize, salvage: bool) -> Result<Salvaged, Fault> {
        let disk = self.open(format)?;
        let folder = scratch();
        let path = folder.path().join("o.raw");
        let wanted = [OutputFile { path: path.clone(), len: Some(disk.facts.virtual_size) }];
        let options = OutputOptions { force: false, sync: false, holes: true };
        let (lease, _) = Lease::take(&Target::resolve(&path).unwrap(), &[]).unwrap();
        let outputs = Outputs::create(lease, &wanted, Vec::new(), options).unwrap();
        let raw = format::by_name("raw").unwrap().subformats[0].writer;
        let writer = raw(&disk.facts, &Wish::new(PathBuf::from("o.raw"), "o.raw".into(), Identifiers::random()))?;
        let losses = Losses::default();
        let control = Control {
            jobs,
            stop: &false.into(),
            progress: &|_| (),
            salvage: salvage.then_some(&losses),
            digest: false,
        };
        let mut feed = MapFeed::new(&disk, writer.plan().test_unit);
        engine::convert(Sources::whole(&disk), &mut feed, writer.as_ref(), &outputs, control)?;
        outputs.publish().unwrap();
        Ok(Salvaged {
            guest: fs::read(&path).unwrap(),
            lost: losses.iter().map(|lost| (lost.guest, lost.fault)).collect(),
            warnings: disk.ledger.drain().iter().map(|warning| warning.to_string()).collect(),
        })
    }

    /// Exactly these ranges are lost for the medium's reason, all else is right; without salvage the medium's error ends the run.
    #[track_caller]
    fn loses(&self, format: Option<&str>, guest: &[u8], want: &[Range<u64>]) -> Vec<String> {
        let mut warnings = Vec::new();
        for jobs in [1, 4] {
            let got = self.salvaged(format, jobs, true).unwrap();
            let ranges: Vec<_> = got.lost.iter().map(|(range, _)| range.clone()).collect();
            assert_eq!(ranges, want, "-j {jobs}");
            for (_, fault) in &got.lost {
                assert!(fault.kind() == Kind::Io && fault.message().contains("cannot read"), "{fault}");
            }
            let mut expected = guest.to_vec();
            want.iter().for_each(|lost| expected[lost.start as usize..lost.end as usize].fill(0));
            assert!(got.guest == expected, "-j {jobs}: another byte is wrong");
            warnings = got.warnings;
        }
        match self.salvaged(format, 2, false) {
            Ok(_) => assert!(want.is_empty(), "the run went on over a bad sector"),
            Err(fault) => {
                assert!(!want.is_empty() && fault.kind() == Kind::Io, "{fault}");
                assert!(fault.message().contains("cannot read") && fault.hint().contains("--salvage"), "{fault}");
            }
        }
        warnings
    }
}

#[derive(Debug)]
struct Salvaged {
    guest: Vec<u8>,
    lost: Vec<(Range<u64>, Fault)>,
    warnings: Vec<String>,
}

/// The sectors of `bad`, moved by where the data begins, neighbours joined, cut to the disk.
fn sectors(bad: &[Range<u64>], data_at: u64, size: u64) -> Vec<Range<u64>> {
    let mut lost = BTreeMap::new();
    for bad in bad {
        for sector in bad.start / 512..bad.end.div_ceil(512) {
            if let Some(guest) = (sector * 512).checked_sub(data_at).filter(|guest| *guest < size) {
                lost.insert(guest, guest + 512);
            }
        }
    }
    let mut joined: Vec<Range<u64>> = Vec::new();
    for (start, end) in lost {
        match joined.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => joined.push(start..end),
        }
    }
    joined
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Data in a row: a raw disk, a flat extent behind an offset, a fixed VHD; bad places of any borders, across pieces too.
    #[test]
    fn bad_sectors_of_data_in_a_row_cost_themselves(
        bad in prop::collection::vec((0u64..5000 * 512, 1u64..40_000), 1..5),
        singles in prop::collection::vec(0u64..5000 * 512, 0..20),
    ) {
        let guest = pattern(5000, |n| n % 700 > 600);
        let size = guest.len() as u64;
        let bad: Vec<_> = bad.into_iter().map(|(at, len)| at..(at + len).min(size))
            .chain(singles.into_iter().map(|at| at..at + 1)).collect();
        let want = sectors(&bad, 0, size);
        Media::of("a.raw", guest.clone(), &bad).loses(Some("raw"), &guest, &want);
        let moved: Vec<_> = bad.iter().map(|bad| bad.start + 1536..bad.end + 1536).collect();
        let text = descriptor("monolithicFlat", 1, None, "RW 5000 FLAT \"a-flat.bin\" 3").into_bytes();
        let extent = [vec![0xEE; 1536], guest.clone()].concat();
        Media::of("a.vmdk", text, &[]).with("a-flat.bin", extent, &moved).loses(None, &guest, &want);
        let fixed: Vec<_> = bad.iter().map(|bad| bad.start.max(512)..bad.end.max(513)).collect();
        Media::of("a.vhd", Vhd::fixed_of(&guest).build(), &fixed).loses(Some("vhd"), &guest, &sectors(&fixed, 0, size));
    }
}

#[test]
fn tables_blocks_and_bitmaps_of_a_vhd() {
    let guest = pattern(300 * 16, |_| false);
    let vhd = Vhd::dynamic_of(&guest, 8192);
    let file = vhd.build();
    let lost = |bad: &[Range<u64>], want: &[Range<u64>]| {
        Media::of("a.vhd", file.clone(), bad).loses(None, &guest, want);
    };
    let block = |n: usize| vhd.block_at(n) as u64;
    // The second sector of the table has the entries 128 to 255, and one byte of it is enough.
    lost(&[2048..2560], &[128 * 8192..256 * 8192]);
    lost(&[2100..2101], &[128 * 8192..256 * 8192]);
    lost(&[2559..2561], &[128 * 8192..300 * 8192]);
    lost(&[1536..1537], &[0..128 * 8192]);
    // A bitmap speaks for its block; data for itself.
    lost(&[block(7) + 3..block(7) + 4], &[7 * 8192..8 * 8192]);
    lost(&[block(7) + 512 + 700..block(7) + 512 + 701], &[7 * 8192 + 512..7 * 8192 + 1024]);
    lost(&[block(299) + 300..block(299) + 1100], &[299 * 8192..300 * 8192]);
    // A child's lost entry is not the parent's.
    let mut child = Vhd::child_of(&vhd, &vec![0x44; guest.len()], 8192, |n| n < 16);
    (child.unique_id, child.locators) = (*b"fedcba9876543210", vec![common::vhd::locator(b"W2ru", "a.vhd")]);
    let mut want = guest.clone();
    want[..8192].fill(0x44);
    let media = Media::of("child.vhd", child.build(), &[1536..1600]).with("a.vhd", file.clone(), &[]);
    media.loses(None, &want, &[0..128 * 8192]);
}

#[test]
fn a_bad_grain_table_or_directory_costs_nothing_where_its_copy_is_sound() {
    const TABLE: u64 = 32 << 20;
    let guest = pattern((TABLE + 4 * GRAIN) / 512, |n| (1024..65_536).contains(&n));
    let image = Sparse::of(&guest);
    let file = image.build();
    let (rgd, gd) = (image.rgd() * 512, image.gd() * 512);
    let [copy, table] = [image.rgd(), image.gd()].map(|directory| image.entry_at(directory, 0) as u64);
    let media = |bad: &[Range<u64>]| Media::of("a.vmdk", file.clone(), bad);
    for bad in [gd..gd + 1, rgd..rgd + 512, table..table + 2048, copy + 5..copy + 6, table + 2048..table + 2049] {
        let warnings = media(&[bad]).loses(None, &guest, &[]);
        assert!(warnings.iter().any(|w| w.contains("its copy is used")), "{warnings:?}");
    }
    // Both: the entries of the sectors that are bad in both, and those alone. An entry is for 64 KiB, a sector for 128 of them.
    let both = media(&[table..table + 1024, copy + 512..copy + 2048]);
    both.loses(None, &guest, &[128 * GRAIN..256 * GRAIN]);
    media(&[table + 600..table + 601, copy + 1000..copy + 1001]).loses(None, &guest, &[128 * GRAIN..256 * GRAIN]);
    // A directory's sector is for all tables here.
    let end = guest.len() as u64;
    media(&[gd..gd + 512, rgd + 100..rgd + 101]).loses(None, &guest, &[0..end]);
    // The directory of one and the table of the other.
    media(&[gd..gd + 512, copy..copy + 1]).loses(None, &guest, &[0..128 * GRAIN]);
    // A grain's bad sectors are its own.
    let first = image.overhead() * 512;
    media(&[first + 5000..first + 6000]).loses(None, &guest, &[4608..6144]);
}

#[test]
fn a_packed_grain_that_cannot_be_read_is_lost_whole() {
    let guest = pattern(5 * 128 + 3, |_| false);
    let stream = Stream::of(&guest).build();
    let place = |file: &[u8], n: u64| {
        let is = |at: &usize| file[*at..at + 8] == (n * 128).to_le_bytes() && file[at + 8..at + 12] != [0; 4];
        (0..file.len() - 12).step_by(512).filter(|at| *at >= 65_536).find(is).unwrap() as u64
    };
    let (end, at) = (guest.len() as u64, |n| place(&stream, n));
    let media = |bad: &[Range<u64>]| Media::of("a.vmdk", stream.clone(), bad);
    // Its marker's sector, and one behind it.
    media(&[at(2)..at(2) + 1]).loses(None, &guest, &[2 * GRAIN..3 * GRAIN]);
    media(&[at(2) + 40..at(2) + 41]).loses(None, &guest, &[2 * GRAIN..3 * GRAIN]);
    media(&[at(5)..at(5) + 20]).loses(None, &guest, &[5 * GRAIN..end]);
    media(&[at(0)..at(0) + 1, at(1) + 5..at(1) + 6]).loses(None, &guest, &[0..2 * GRAIN]);
    // Its table and its directory, of which there is one each.
    let is_table = |at: &usize| stream[*at..at + 4] == [128, 0, 0, 0] && stream[at + 4..at + 8] != [0; 4];
    let table = (65_536..stream.len()).step_by(512).find(is_table).unwrap() as u64;
    media(&[table..table + 1]).loses(None, &guest, &[0..end]);
    // Tables in front have copies.
    let front = tables_in_front(&guest, marker);
    let image = Sparse::of(&guest);
    let table = image.entry_at(image.gd(), 0) as u64;
    let media = Media::of("a.vmdk", front.clone(), &[table..table + 512]);
    assert!(media.loses(None, &guest, &[]).iter().any(|warning| warning.contains("its copy is used")));
}

#[test]
fn tables_of_esxis_redo_logs() {
    let base = pattern(10_000, |_| false);
    let delta = cowd(10_000, &[(0, 0x11), (1, 0x12), (4096, 0x13), (9999, 0x14)], &[]);
    let mut want = base.clone();
    for (sector, byte) in [(0usize, 0x11), (1, 0x12), (4096, 0x13), (9999, 0x14)] {
        want[sector * 512..][..512].fill(byte);
    }
    let snapshot = |kind: [&str; 2], sectors: u64, delta: &[u8], bad: &[Range<u64>], base: &[u8]| {
        let parent = descriptor("vmfs", 5, None, &format!("RW {sectors} VMFS \"flat.vmdk\""));
        let line = format!("RW {sectors} {} \"delta.vmdk\"", kind[1]);
        let child = descriptor(kind[0], 6, Some((5, "vm.vmdk")), &line);
        Media::of("snap.vmdk", child.into_bytes(), &[])
            .with("delta.vmdk", delta.to_vec(), bad)
            .with("vm.vmdk", parent.into_bytes(), &[])
            .with("flat.vmdk", base.to_vec(), &[])
    };
    let case = |bad: Range<u64>, lost: Range<u64>| {
        let media = snapshot(["vmfsSparse", "VMFSSPARSE"], 10_000, &delta, std::slice::from_ref(&bad), &base);
        media.loses(None, &want, std::slice::from_ref(&lost));
    };
    let gde = |n: usize| u64::from(u32::from_le_bytes(delta[2048 + n * 4..][..4].try_into().unwrap())) * 512;
    case(gde(0)..gde(0) + 1, 0..128 * 512);
    case(gde(1) + 511..gde(1) + 513, 4096 * 512..4352 * 512);
    // All of the directory is one sector.
    case(2048..2049, 0..10_000 * 512);

    let base = pattern(40_000, |_| false);
    let at = |n: u64| 3 << 60 | (n & 0xFFF) << 48 | n >> 12;
    let delta = sesparse(&[(0, at(5)), (64, at(6)), (4999, at(10))], &[(5, 0x51), (6, 0x61), (10, 0xA1)], 0);
    let mut want = base.clone();
    for (grain, byte) in [(0usize, 0x51), (64, 0x61), (4999, 0xA1)] {
        want[grain * 4096..][..4096].fill(byte);
    }
    let case = |bad: Range<u64>, lost: Range<u64>| {
        let media = snapshot(["seSparse", "SESPARSE"], 40_000, &delta, std::slice::from_ref(&bad), &base);
        media.loses(None, &want, std::slice::from_ref(&lost));
    };
    // A sector of a table has 64 entries; table 1 is that of the first 16 MiB.
    let table = (64 + 64) * 512;
    case(table..table + 1, 0..64 * 4096);
    case(table + 512..table + 513, 64 * 4096..128 * 4096);
    case(table + 511..table + 513, 0..128 * 4096);
    case(8 * 512..9 * 512, 0..40_000 * 512);
    // Grain 5 of the data.
    case((512 + 40) * 512 + 600..(512 + 40) * 512 + 601, 512..1024);
}

#[test]
fn a_header_that_cannot_be_read_stays_an_error() {
    let guest = pattern(300, |_| false);
    // Of a stream that is the footer near its end: one that cannot be read is not one that was cut off.
    let stream = Stream::of(&guest).build();
    let footer = stream.len() as u64 - 1024;
    for (name, bytes, bad) in [
        ("a.vhd", Vhd::dynamic_of(&guest, 8192).build(), 0),
        ("a.vmdk", Sparse::of(&guest).build(), 0),
        ("a.vmdk", stream, footer),
    ] {
        let fault = Media::of(name, bytes, &[bad..bad + 1]).salvaged(None, 1, true).unwrap_err();
        assert_eq!(fault.kind(), Kind::Io, "{fault}");
    }
}

#[test]
fn who_says_that_it_is_a_vhd_has_one_of_its_footers_for_two() {
    let guest = pattern(16 * 20, |_| false);
    let file = Vhd::dynamic_of(&guest, 8192).build();
    let (end, fixed) = (file.len() as u64, Vhd::fixed_of(&guest).build());
    for bad in [0..1, end - 512..end, end - 1..end] {
        let media = Media::of("a.vhd", file.clone(), std::slice::from_ref(&bad));
        let warnings = media.loses(Some("vhd"), &guest, &[]);
        assert!(matches!(warnings.as_slice(), [one] if one.contains("cannot read")), "{warnings:?}");
        let fault = media.salvaged(None, 1, true).unwrap_err();
        assert!(fault.kind() == Kind::Io && fault.hint().contains("-f says it"), "{fault}");
    }
    // A fixed disk has one: whatever its guest begins with.
    let nested = [&file[..1024], &fixed[1024..]].concat();
    let bad = fixed.len() as u64 - 512;
    for (bytes, bad) in [(file, vec![0..512, end - 512..end]), (fixed, vec![bad..bad + 1])] {
        let fault = Media::of("a.vhd", bytes, &bad).salvaged(Some("vhd"), 1, true).unwrap_err();
        assert_eq!(fault.kind(), Kind::Io, "{fault}");
    }
    // That a nested disk is not this one's only witness is for the user to say.
    let fault = Media::of("a.vhd", nested, &[bad..bad + 1]).salvaged(None, 1, true).unwrap_err();
    assert_eq!(fault.kind(), Kind::Io, "{fault}");
}

/// A loop device whose file was cut: the kernel's own EIO.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs root and a loop device"]
fn a_device_with_bad_sectors_is_read_around_them() {
    use std::process::Command;

    use common::{Ran, run, skipped};

    /// Detached at the end, however that comes.
    struct Loop(String);
    impl Drop for Loop {
        fn drop(&mut self) {
            let _ = Command::new("losetup").args(["-d", &self.0]).status();
        }
    }

    let folder = scratch();
    let (file, guest) = (folder.path().join("file"), pattern(8192, |_| false));
    fs::write(&file, &guest).unwrap();
    let attached = Command::new("losetup").args(["-f", "--show"]).arg(&file).output();
    let attached = attached.ok().filter(|output| output.status.success());
    let Some(output) = attached else { return skipped("no loop device can be had") };
    let device = Loop(String::from_utf8(output.stdout).unwrap().trim().to_string());
    // A page is what the system reads at least.
    let kept = 613 * 4096u64;
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(kept).unwrap();
    run(folder.path(), ["-f", "raw", &device.0, "o.raw"]).fails(1, &["cannot read: Input/output error", "--salvage"]);
    for jobs in ["1", "4"] {
        let ran: Ran = run(folder.path(), ["-f", "raw", &device.0, "o.raw", "--salvage", "--json", "-j", jobs]);
        assert_eq!(ran.status, Some(3), "{}", ran.err);
        let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        let lost = report["lost"].as_array().unwrap();
        assert_eq!(lost.len(), 1, "{}", ran.out);
        assert_eq!((&lost[0]["start"], &lost[0]["length"]), (&kept.into(), &((4 << 20) - kept).into()));
        assert_eq!((&lost[0]["kind"], &lost[0]["offset"]), (&"io".into(), &kept.into()));
        let mut want = guest.clone();
        want[kept as usize..].fill(0);
        assert!(fs::read(folder.path().join("o.raw")).unwrap() == want);
        fs::remove_file(folder.path().join("o.raw")).unwrap();
    }
    // Its size is back before it goes, so that nobody waits for what is not there.
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(4 << 20).unwrap();
}
