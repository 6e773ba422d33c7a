//! `compare`: the same guest in any kind is the same; what differs is counted to the sector, wherever it is and however it is kept.

mod common;

use std::fs;
use std::path::Path;

use common::kinds::sources;
use common::packed::Stream;
use common::vhd::Vhd;
use common::vmdk::{Sparse, descriptor};
use common::{Ran, pattern, run, scratch};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The report of a comparison, which ended as it must and says the same for any number of workers.
#[track_caller]
fn compared(folder: &Path, args: &[&str]) -> Value {
    let reports = ["1", "2", "7"].map(|jobs| {
        let ran = run(folder, [&["compare", "--json", "-q", "-j", jobs], args].concat());
        let mut report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err));
        let status = if report["same"] == true { 0 } else { 1 };
        assert_eq!((ran.status, ran.err.as_str()), (Some(status), ""), "{args:?}");
        report["seconds"] = Value::Null;
        report
    });
    assert!(reports.windows(2).all(|pair| pair[0] == pair[1]), "{args:?}: {reports:?}");
    reports.into_iter().next().unwrap()
}

/// First difference and number of sectors that differ, by comparing the bytes here.
fn by_hand(a: &[u8], b: &[u8]) -> (Option<u64>, u64) {
    let len = a.len().max(b.len());
    let at = |bytes: &[u8], n: usize| bytes.get(n).copied().unwrap_or(0);
    let first = (0..len).find(|n| at(a, *n) != at(b, *n)).map(|n| n as u64);
    let differs = |sector: usize| (sector * 512..(sector + 1) * 512).any(|n| at(a, n) != at(b, n));
    (first, (0..len.div_ceil(512)).filter(|sector| differs(*sector)).count() as u64)
}

#[track_caller]
fn answer(report: &Value) -> (Option<u64>, u64) {
    (report["first_difference"]["offset"].as_u64(), report["differing_sectors"].as_u64().unwrap())
}

#[test]
fn one_guest_in_every_kind_is_the_same_as_in_every_other() {
    for sectors in [1, 700, 5000] {
        let guest = pattern(sectors, |n| n > 0 && n % 300 > 200);
        let folder = scratch();
        let kinds = sources(folder.path(), &guest);
        for (n, a) in kinds.iter().enumerate() {
            // A kind with itself too: the same file twice.
            for b in &kinds[n..] {
                let ran = run(folder.path(), ["compare", a, b]);
                assert_eq!(ran.status, Some(0), "{a} {b}: {}", ran.err);
                let len = guest.len();
                assert!(
                    ran.out.starts_with("the same: ") && ran.out.contains(&format!("({len} bytes)")),
                    "{}",
                    ran.out
                );
                // Descriptors whose extent is another of the images, or the same one.
                let on_the_raw_disk = |name: &str| ["s.raw", "vmfs.vmdk", "flat.vmdk"].contains(&name);
                let warned = on_the_raw_disk(a) && on_the_raw_disk(b) && a != b;
                assert_eq!((ran.out.lines().count(), ran.err.is_empty()), (1, !warned), "{a} {b}: {}", ran.err);
            }
        }
    }
}

#[test]
fn one_byte_is_found_in_every_kind_wherever_it_is() {
    // Sector 0, inside data, beside a hole, inside one, borders of a grain, of a piece, of a block, the last of a unit that is cut.
    let guest = pattern(5001, |n| n > 0 && n % 300 > 200);
    for sector in [0, 100, 201, 250, 127, 128, 2047, 2048, 4095, 4096, 5000] {
        let mut other = guest.clone();
        let byte = sector * 512 + [0, 511, 77][sector % 3];
        other[byte] ^= 0x40;
        let (folder, theirs) = (scratch(), scratch());
        fs::write(folder.path().join("one.raw"), &other).unwrap();
        let args = |name: &str| theirs.path().join(name).to_str().unwrap().to_string();
        for a in sources(folder.path(), &guest) {
            for (a, b) in [(a, "one.raw"), ("one.raw", a)] {
                let report = compared(folder.path(), &[a, b]);
                assert_eq!(answer(&report), (Some(byte as u64), 1), "sector {sector}: {a} {b}");
            }
        }
        // Both of one kind: both packed, both in a chain.
        for kind in sources(theirs.path(), &other) {
            let ran = run(folder.path(), ["compare", kind, &args(kind)]);
            assert_eq!(ran.status, Some(1), "{kind}: {}", ran.err);
            let line = format!("different: the first at byte {byte} (sector {sector}), 1 of 5001 sectors in all\n");
            assert_eq!((ran.out, ran.err.as_str()), (line, ""), "{kind}");
        }
    }
}

#[test]
fn a_longer_disk_is_the_same_where_the_rest_of_it_is_zero_and_not_strictly() {
    let guest = pattern(3000, |n| n % 7 == 3);
    let folder = scratch();
    let mut long = guest.clone();
    long.resize(3007 * 512, 0);
    fs::write(folder.path().join("a.vhd"), Vhd::dynamic_of(&guest, 1 << 19).build()).unwrap();
    // One that stores the zeroes, and one that does not.
    fs::write(folder.path().join("stored.raw"), &long).unwrap();
    fs::write(folder.path().join("b.vmdk"), Sparse::of(&long).build()).unwrap();
    for longer in ["stored.raw", "b.vmdk"] {
        for pair in [["a.vhd", longer], [longer, "a.vhd"]] {
            let ran = run(folder.path(), [&["compare"], &pair[..]].concat());
            ran.warns(&[longer, "the disk is longer", "1539584 bytes", "the other has 1536000", "zero"]);
            assert_eq!(run(folder.path(), [&["compare", "-q"], &pair[..]].concat()).succeeds().err, "");
            let report = compared(folder.path(), &pair);
            assert_eq!((answer(&report), report["same"] == true), ((None, 0), true));
            let sizes = if pair[0] == longer { json!([1_539_584, 1_536_000]) } else { json!([1_536_000, 1_539_584]) };
            assert_eq!(report["sizes"], sizes);
            assert!(report["warnings"][0]["message"].as_str().unwrap().contains("the disk is longer"));
            let report = compared(folder.path(), &[&pair[..], &["--strict"]].concat());
            assert_eq!((answer(&report), &report["same"]), ((None, 0), &json!(false)));
            let ran = run(folder.path(), [&["compare", "--strict"], &pair[..]].concat());
            assert!(ran.status == Some(1) && ran.out.starts_with("different: the sizes"), "{}", ran.out);
            assert_eq!((ran.out.lines().count(), ran.err.as_str()), (2, ""));
        }
    }
    // Data behind the shorter one's end is a difference, and both sizes are told.
    long[3004 * 512 + 9] = 1;
    fs::write(folder.path().join("more.raw"), &long).unwrap();
    let report = compared(folder.path(), &["a.vhd", "more.raw"]);
    assert_eq!(answer(&report), (Some(3004 * 512 + 9), 1));
    let ran = run(folder.path(), ["compare", "a.vhd", "more.raw"]);
    assert!(ran.out.ends_with("\nsizes: 1536000 and 1539584 bytes\n"), "{}", ran.out);
}

/// `compare A B && rm A`: where B is read from A, nothing would be left.
#[test]
fn an_image_that_is_read_from_the_other_is_told_before_that_is_removed() {
    let guest = pattern(3000, |n| n % 7 == 3);
    let folder = scratch();
    let inside = folder.path().join("in");
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join("a.raw"), &guest).unwrap();
    for args in [
        &["a.raw", "base.vhd"][..],
        &["a.raw", "child.vhd", "--base", "base.vhd"],
        &["a.raw", "other.vhd", "--base", "base.vhd"],
        &["a.raw", "grandchild.vhd", "--base", "child.vhd"],
    ] {
        run(&inside, args).succeeds();
    }
    let names_raw = descriptor("vmfs", 1, None, "RW 3000 VMFS \"a.raw\"");
    fs::write(inside.join("names.vmdk"), names_raw).unwrap();
    let what = "the image is read from a file of the other, and lost without it";
    for (one, other, needs, needed) in [
        ("base.vhd", "child.vhd", "child.vhd", "base.vhd"),
        ("base.vhd", "grandchild.vhd", "grandchild.vhd", "base.vhd"),
        ("child.vhd", "grandchild.vhd", "grandchild.vhd", "child.vhd"),
        ("a.raw", "names.vmdk", "names.vmdk", "a.raw"),
    ] {
        for (a, b) in [(one, other), (other, one)] {
            // By another name of the same file too, and from another folder.
            let (a, b) = (format!("in/{a}"), format!("in/../in/{b}"));
            let ran = run(folder.path(), ["compare", &a, &b]).warns(&[what, needs, needed]);
            assert_eq!(
                (ran.out.starts_with("the same: "), ran.err.matches("warning").count()),
                (true, 1),
                "{}",
                ran.err
            );
            let report = compared(folder.path(), &[&a, &b]);
            let [warning] = report["warnings"].as_array().unwrap().as_slice() else { panic!("{report}") };
            assert!(warning["file"].as_str().unwrap().ends_with(needs), "{warning}");
            let message = warning["message"].as_str().unwrap();
            assert!(message.starts_with(what) && message.contains(needed), "{warning}");
        }
    }
    // Neither is read from the other: brothers, the same file, another disk. Nor does anybody remove what is different.
    fs::write(inside.join("b.raw"), &guest).unwrap();
    let silent = |args: &[&str], status| {
        let ran = run(&inside, [&["compare"], args].concat());
        assert_eq!((ran.status, ran.err.as_str()), (Some(status), ""), "{args:?}");
    };
    for args in
        [["child.vhd", "other.vhd"], ["child.vhd", "child.vhd"], ["names.vmdk", "names.vmdk"], ["a.raw", "b.raw"]]
    {
        silent(&args, 0);
    }
    fs::write(inside.join("b.raw"), pattern(3000, |n| n % 7 == 4)).unwrap();
    run(&inside, ["b.raw", "differs.vhd", "--base", "base.vhd"]).succeeds();
    silent(&["base.vhd", "differs.vhd"], 1);
}

/// Disks of which something cannot be had: file, what the message must say.
fn damaged(folder: &TempDir, guest: &[u8]) -> [(&'static str, &'static str); 4] {
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let mut vhd = Vhd::dynamic_of(guest, 1 << 19).build();
    vhd[1536..1540].copy_from_slice(&0x00FF_FFFFu32.to_be_bytes());
    put("bat.vhd", &vhd);
    let mut packed = Stream::of(guest).build();
    let grain = packed.windows(2).position(|two| two == [0x78, 0xDA] || two == [0x78, 0x9C] || two == [0x78, 0x01]);
    packed[grain.expect("a zlib stream") + 40] ^= 0xFF;
    put("packed.vmdk", &packed);
    put("cut.vhd", &vhd[..700]);
    put("none.raw", b"no disk at all, but text");
    [("bat.vhd", "at byte 1536"), ("packed.vmdk", "at byte "), ("cut.vhd", "cut.vhd"), ("gone.raw", "gone.raw")]
}

#[test]
fn what_cannot_be_had_is_status_2_and_never_a_difference() {
    let guest = pattern(2000, |n| n % 300 > 250);
    let folder = scratch();
    fs::write(folder.path().join("a.raw"), &guest).unwrap();
    for (name, text) in damaged(&folder, &guest) {
        for pair in [["a.raw", name], [name, "a.raw"], [name, name]] {
            for jobs in ["1", "2", "7"] {
                let ran = run(folder.path(), [&["compare", "-j", jobs], &pair[..]].concat());
                let ran = ran.fails(2, &[name, text]);
                assert!(ran.out.is_empty() && !ran.err.contains("--salvage"), "{}", ran.err);
            }
            // Said in spite of -q.
            run(folder.path(), [&["compare", "-q"], &pair[..]].concat()).fails(2, &[name]);
        }
    }
    run(folder.path(), ["compare", "a.raw", "a.raw", "-f", "vmdk"]).fails(2, &["a.raw"]);
}

#[test]
fn a_difference_in_front_of_damage_does_not_hide_it() {
    let guest = pattern(4096, |_| false);
    let folder = scratch();
    let mut other = guest.clone();
    other[0] ^= 1;
    fs::write(folder.path().join("a.raw"), other).unwrap();
    let mut vhd = Vhd::dynamic_of(&guest, 1 << 19).build();
    vhd[1548..1552].copy_from_slice(&0x00FF_FFFFu32.to_be_bytes());
    fs::write(folder.path().join("b.vhd"), vhd).unwrap();
    run(folder.path(), ["compare", "a.raw", "b.vhd"]).fails(2, &["b.vhd: at byte 1548"]);
}

#[test]
fn options_of_opening_are_for_both_or_for_one() {
    let guest = pattern(1024, |_| false);
    let (folder, away) = (scratch(), scratch());
    let mut base = Vhd::dynamic_of(&guest, 1 << 19);
    base.unique_id = *b"the parent's id!";
    let mut child = Vhd::child_of(&base, &guest, 1 << 19, |n| n % 5 == 0);
    child.parent_name = "elsewhere.vhd".into();
    fs::write(away.path().join("p.vhd"), base.build()).unwrap();
    for name in ["a.vhd", "b.vhd"] {
        fs::write(folder.path().join(name), child.build()).unwrap();
    }
    let parent = away.path().join("p.vhd");
    let parent = parent.to_str().unwrap();
    run(folder.path(), ["compare", "a.vhd", "b.vhd", "--parent-a", parent]).fails(2, &["b.vhd"]);
    run(folder.path(), ["compare", "a.vhd", "b.vhd", "--parent-b", parent]).fails(2, &["a.vhd"]);
    run(folder.path(), ["compare", "a.vhd", "b.vhd", "--parent-a", parent, "--parent-b", parent]).succeeds();
    // Against its own parent, which holds what it holds.
    run(folder.path(), ["compare", "a.vhd", parent, "--parent-a", parent]).warns(&[
        "a.vhd",
        "lost without it",
        "p.vhd",
    ]);
    // As bytes, the file is what it is; -F says so of B alone.
    fs::write(folder.path().join("fixed"), Vhd::fixed_of(&guest).build()).unwrap();
    run(folder.path(), ["compare", "fixed", "fixed", "-f", "raw"]).succeeds();
    let report = compared(folder.path(), &["fixed", "fixed", "-F", "raw"]);
    assert_eq!((answer(&report), &report["sizes"]), ((Some(1024 * 512), 1), &json!([1024 * 512, 1025 * 512])));
}

#[test]
fn quiet_says_nothing_and_its_status_all() {
    let folder = scratch();
    fs::write(folder.path().join("a.raw"), pattern(20, |_| false)).unwrap();
    fs::write(folder.path().join("b.raw"), pattern(20, |n| n == 19)).unwrap();
    for (b, status) in [("a.raw", 0), ("b.raw", 1)] {
        let Ran { status: is, out, err } = run(folder.path(), ["compare", "-q", "a.raw", b]);
        assert_eq!((is, out.as_str(), err.as_str()), (Some(status), "", ""));
    }
}

#[cfg(unix)]
#[test]
fn r24_a_standard_output_that_takes_nothing_is_status_2() {
    let folder = scratch();
    fs::write(folder.path().join("a.raw"), pattern(20, |_| false)).unwrap();
    for json in [&[][..], &["--json"]] {
        let full = fs::File::create("/dev/full").unwrap();
        let mut command = common::vdconv();
        command.current_dir(folder.path()).args(["compare", "a.raw", "a.raw"]).args(json);
        let child = command.stdout(full).stderr(std::process::Stdio::piped()).spawn().unwrap();
        Ran::from(child.wait_with_output().unwrap()).fails(2, &["standard output", "cannot write"]);
    }
}

/// A raw disk of `size` bytes that stores `stored` alone, where the file system has holes.
#[cfg(target_os = "linux")]
fn sparse(path: &Path, size: u64, stored: &[std::ops::Range<u64>]) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::create(path).unwrap();
    file.set_len(size).unwrap();
    for range in stored {
        file.write_all_at(&vec![0xA7; (range.end - range.start) as usize], range.start).unwrap();
    }
}

/// Two disks of 2 TiB that store 64 KiB and less: what neither stores is not read, by the count of the bytes that were.
#[cfg(target_os = "linux")]
#[test]
fn holes_are_not_read_and_two_tebibytes_take_no_time() {
    let folder = scratch();
    let (size, last) = (2040u64 << 30, (2040u64 << 30) - 512);
    sparse(&folder.path().join("a.raw"), size, &[0..65_536, last..size]);
    run(folder.path(), ["a.raw", "b.vhd", "--no-sync"]).succeeds();
    run(folder.path(), ["a.raw", "c.vmdk", "--no-sync"]).succeeds();
    for (a, b) in [("a.raw", "a.raw"), ("a.raw", "b.vhd"), ("b.vhd", "c.vmdk"), ("c.vmdk", "c.vmdk")] {
        let report = compared(folder.path(), &[a, b]);
        assert_eq!(report["same"], true, "{a} {b}");
        // 64 KiB and a sector of each, which a file system and a grain make larger.
        let stored = report["stored"].as_u64().unwrap();
        assert!((2 * 66_048..=2 * 131_072).contains(&stored), "{a} {b}: {stored}");
        // The rest is headers and tables, which grow with the disk: 4 MiB of a VHD, 256 MiB of a VMDK, met twice at most.
        let tables = [a, b].iter().map(|name| if name.ends_with(".vmdk") { 520 << 20 } else { 12 << 20 }).sum::<u64>();
        assert!((stored..stored + tables).contains(&report["bytes_read"].as_u64().unwrap()), "{a} {b}: {report}");
    }
    sparse(&folder.path().join("d.raw"), size, &[0..65_536, last - 512..size]);
    let report = compared(folder.path(), &["d.raw", "b.vhd"]);
    assert_eq!(answer(&report), (Some(last - 512), 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Random disks of random runs, each in a kind of its own, against each other: as comparing the bytes here says.
    #[test]
    fn any_two_disks_are_as_different_as_their_bytes(
        a in prop::collection::vec((0u8..3, 1u64..700), 1..8),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..3, 1u64..300), 0..4),
        grow in 0u64..40,
        kinds in (0usize..5, 0usize..5),
    ) {
        let guest: Vec<u8> = a.iter().flat_map(|(kind, sectors)| vec![[0, 0x11, 0x7F][*kind as usize]; *sectors as usize * 512]).collect();
        let mut other = guest.clone();
        other.resize(guest.len() + grow as usize * 512, 0);
        for (index, kind, len) in edits {
            let start = index.index(other.len());
            let end = (start + len as usize * 100).min(other.len());
            other[start..end].fill([0, 0x11, 0x90][kind as usize]);
        }
        let folder = scratch();
        let make = |name: &str, guest: &[u8], kind: usize| {
            let (ending, bytes) = match kind {
                0 => ("raw", guest.to_vec()),
                1 => ("vhd", Vhd::dynamic_of(guest, 1 << 19).build()),
                2 => ("vhd", Vhd::fixed_of(guest).build()),
                3 => ("vmdk", Sparse::of(guest).build()),
                _ => ("vmdk", Stream::of(guest).build()),
            };
            let name = format!("{name}.{ending}");
            fs::write(folder.path().join(&name), bytes).unwrap();
            name
        };
        let (one, two) = (make("one", &guest, kinds.0), make("two", &other, kinds.1));
        let report = compared(folder.path(), &[&one, &two]);
        prop_assert_eq!(answer(&report), by_hand(&guest, &other));
        let report = compared(folder.path(), &[&two, &one]);
        prop_assert_eq!(answer(&report), by_hand(&guest, &other));
    }
}

/// Starts a run with one worker over `args` and waits for its first line of progress: from then on it reads.
#[cfg(unix)]
fn reading(folder: &Path, args: &[&str]) -> (std::process::Child, std::io::BufReader<std::process::ChildStderr>) {
    use std::io::BufRead;
    use std::process::Stdio;
    let mut command = common::vdconv();
    command.current_dir(folder).args(args).args(["--progress", "json", "-j", "1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = std::io::BufReader::new(child.stderr.take().unwrap());
    err.read_line(&mut String::new()).unwrap();
    (child, err)
}

#[cfg(unix)]
#[test]
fn r4_a_disk_that_changes_while_it_is_read_is_neither_the_same_nor_has_it_a_digest() {
    use std::io::{Read, Write};
    let folder = scratch();
    fs::write(folder.path().join("a.raw"), vec![0xA7; 128 << 20]).unwrap();
    fs::write(folder.path().join("b.raw"), vec![0xA7; 128 << 20]).unwrap();
    for (args, status) in [(&["compare", "b.raw", "a.raw"][..], 2), (&["hash", "a.raw"], 1)] {
        let (mut child, mut err) = reading(folder.path(), args);
        fs::OpenOptions::new().append(true).open(folder.path().join("a.raw")).unwrap().write_all(&[0; 512]).unwrap();
        let (mut text, mut out) = (String::new(), String::new());
        err.read_to_string(&mut text).unwrap();
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        assert_eq!((child.wait().unwrap().code(), out.as_str()), (Some(status), ""), "{text}");
        assert!(text.contains("a.raw: ") && text.contains("chang"), "{text}");
    }
}

/// A signal in the middle: nothing is answered, and the program ends by it. `hash` has the same way out.
#[cfg(unix)]
#[test]
fn r17_signals_end_a_run_that_only_reads() {
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;

    use rustix::process::{Pid, Signal, kill_process};

    let folder = scratch();
    // Enough that the signal, sent when the first line of progress comes, is there before the end.
    fs::write(folder.path().join("a.raw"), vec![0xA7; 128 << 20]).unwrap();
    for args in [&["compare", "a.raw", "a.raw"][..], &["hash", "a.raw"], &["hash", "a.raw", "--algorithm", "blake3"]] {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            let (mut child, mut err) = reading(folder.path(), args);
            kill_process(Pid::from_raw(child.id() as i32).unwrap(), signal).unwrap();
            let (mut text, mut out) = (String::new(), String::new());
            err.read_to_string(&mut text).unwrap();
            child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(signal.as_raw()), "{args:?}: {text}");
            assert!(out.is_empty() && text.lines().last() == Some("vdconv: interrupted"), "{args:?}: {text}");
        }
    }
}
