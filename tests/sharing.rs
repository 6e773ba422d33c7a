//! On a file system that can, an output shares blocks with its source: what is shared is not written, and by flat kinds not even read.
#![cfg(unix)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::process::{may_trace, with_fault};
use common::vhd::Vhd;
use common::vmdk::descriptor;
use common::{Ran, names, pattern, run, scratch, skipped};
use tempfile::TempDir;

/// A file system of its own, in a file.
struct Mounted {
    folder: TempDir,
}

impl Mounted {
    fn xfs() -> Option<Mounted> {
        Mounted::of(1 << 30, &["mkfs.xfs", "-q", "-m", "reflink=1"])
    }

    fn btrfs() -> Option<Mounted> {
        Mounted::of(1 << 30, &["mkfs.btrfs", "-q"])
    }

    fn of(len: u64, make: &[&str]) -> Option<Mounted> {
        let folder = scratch();
        let (image, at) = (folder.path().join("image"), folder.path().join("mounted"));
        fs::create_dir(&at).unwrap();
        fs::File::create(&image).unwrap().set_len(len).unwrap();
        if !quiet(Command::new(make[0]).args(&make[1..]).arg(&image)) {
            skipped(&format!("{} is not installed", make[0]));
            return None;
        }
        if !quiet(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at)) {
            skipped("no right to mount");
            return None;
        }
        Some(Mounted { folder })
    }

    fn at(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }
}

/// Runs a command that says nothing; did it succeed?
fn quiet(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.at()).status();
    }
}

/// A number of the report.
#[track_caller]
fn number(ran: &Ran, key: &str) -> u64 {
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.err));
    report[key].as_u64().unwrap()
}

fn convert(folder: &Path, args: &[&str]) -> Ran {
    let _ = fs::remove_file(folder.join("o.vmdk"));
    run(folder, args.iter().copied().chain(["--json", "--force"])).succeeds()
}

/// The physical blocks of a file's data, as the file system tells, and whether all of them are shared.
fn blocks(folder: &Path, name: &str) -> String {
    let told = Command::new("filefrag").args(["-v", name]).current_dir(folder).output().unwrap();
    String::from_utf8(told.stdout).unwrap()
}

const MIB: u64 = 1 << 20;

/// 100 MiB and a sector, half of it data: in stretches of 10 MiB, and three sectors at the end.
fn guest() -> Vec<u8> {
    let sectors = 100 * MIB / 512 + 1;
    pattern(sectors, |n| n / 20_480 % 2 == 1 && n < sectors - 3)
}

#[test]
#[ignore = "mounts a file system"]
fn blocks_are_shared_where_the_file_system_can() {
    let Some(xfs) = Mounted::xfs() else { return };
    let (folder, guest) = (xfs.at(), guest());
    fs::write(folder.join("whole.raw"), &guest).unwrap();
    // Its zeroes become holes: what is stored is the data.
    run(&folder, ["whole.raw", "a.raw"]).succeeds();
    let data = 50 * MIB;

    // Flat kinds: nothing of it is read.
    let made = convert(&folder, &["a.raw", "f.vhd", "-s", "fixed"]);
    assert!(number(&made, "bytes_shared") >= data && number(&made, "bytes_read") < 2 * MIB, "{}", made.out);
    assert!(number(&made, "bytes_written") < 8192, "{}", made.out);
    let made = convert(&folder, &["f.vhd", "o.vmdk", "-s", "flat"]);
    assert!(number(&made, "bytes_shared") >= data && number(&made, "bytes_read") < 2 * MIB, "{}", made.out);
    assert_eq!(&fs::read(folder.join("o-flat.vmdk")).unwrap(), &guest);
    assert!(blocks(&folder, "o-flat.vmdk").contains("shared"), "{}", blocks(&folder, "o-flat.vmdk"));

    // Kinds that leave zeroes out: read, because nobody else knows where zeroes are, and not written.
    for (from, to, args) in [
        ("f.vhd", "d.vhd", &[][..]),
        ("d.vhd", "s.vmdk", &[]),
        ("s.vmdk", "t.vmdk", &["-s", "twoGbMaxExtentSparse"]),
        ("t.vmdk", "u.vhd", &["-j", "1"]),
        ("u.vhd", "v.raw", &["--digest", "sha256"]),
    ] {
        let made = convert(&folder, &[&[from, to][..], args].concat());
        assert!(number(&made, "bytes_shared") >= data - 64 * 1024, "{from} -> {to}: {}", made.out);
        assert!(number(&made, "bytes_read") >= data, "{from} -> {to}: {}", made.out);
        run(&folder, ["compare", to, "a.raw"]).succeeds();
    }
    assert!(fs::read(folder.join("v.raw")).unwrap() == guest);

    // Where no block fits, the work is cut into pieces, for all workers.
    let lines = format!("RW {} FLAT \"a.raw\" 1", guest.len() / 512 - 1);
    fs::write(folder.join("shifted.vmdk"), descriptor("monolithicFlat", 1, None, &lines)).unwrap();
    let ran = run(&folder, ["shifted.vmdk", "w.raw", "-v"]).succeeds();
    let counted = |what: &str| ran.err.split(&format!(" {what}")).next()?.rsplit([' ', ';']).next()?.parse().ok();
    assert!(counted("pieces").is_some_and(|n: u64| n >= data / MIB) && !ran.err.contains("shared"), "{}", ran.err);
    assert!(fs::read(folder.join("w.raw")).unwrap() == guest[512..]);

    // Nothing is shared that is to be looked at, or that is to be allocated.
    for (to, option) in [("x.raw", "--salvage"), ("y.raw", "--preallocate")] {
        let made = convert(&folder, &["f.vhd", to, option]);
        assert_eq!(number(&made, "bytes_shared"), 0, "{option}: {}", made.out);
        run(&folder, ["compare", to, "a.raw"]).succeeds();
    }
    // Of blocks with a sector of bitmap in front of each, one in eight lies where the file system could share it.
    fs::write(folder.join("odd.vhd"), Vhd::dynamic_of(&guest, 2 << 20).build()).unwrap();
    for (from, to, args) in [("odd.vhd", "z.raw", &[][..]), ("d.vhd", "c.vhd", &["--contiguous"])] {
        let made = convert(&folder, &[&[from, to][..], args].concat());
        assert!((2 * MIB..data / 4).contains(&number(&made, "bytes_shared")), "{from} -> {to}: {}", made.out);
        run(&folder, ["compare", to, "a.raw"]).succeeds();
    }

    // What is written to the source afterwards is not in the output.
    fs::write(folder.join("f.vhd"), vec![0xEE; guest.len()]).unwrap();
    assert!(fs::read(folder.join("o-flat.vmdk")).unwrap() == guest);
}

#[test]
#[ignore = "mounts a file system"]
fn another_file_system_shares_nothing() {
    let Some(xfs) = Mounted::xfs() else { return };
    let (folder, there) = (xfs.at(), scratch());
    let guest = guest();
    fs::write(there.path().join("a.raw"), &guest).unwrap();
    let from = there.path().join("a.raw").to_str().unwrap().to_string();
    let made = convert(&folder, &[&from, "f.vhd", "-s", "fixed"]);
    assert_eq!(number(&made, "bytes_shared"), 0);
    run(&folder, ["compare", "f.vhd", &from]).succeeds();
}

/// A disk of a machine on Btrfs is often kept without copy on write: such a file shares blocks with none but its kind.
#[test]
#[ignore = "mounts a file system"]
fn what_cannot_be_shared_is_looked_at_and_written_and_is_not_called_shared() {
    let Some(btrfs) = Mounted::btrfs() else { return };
    let (folder, guest) = (btrfs.at(), guest());
    fs::File::create(folder.join("own.raw")).unwrap();
    assert!(quiet(Command::new("chattr").arg("+C").arg(folder.join("own.raw"))));
    for (name, shared) in [("own.raw", false), ("usual.raw", true)] {
        fs::write(folder.join(name), &guest).unwrap();
        for to in ["o.raw", "o.vhd", "o.vmdk"] {
            let made = convert(&folder, &[name, to]);
            let is_shared = number(&made, "bytes_shared") > 0;
            assert_eq!(is_shared, shared, "{name} -> {to}: {}", made.out);
            if !shared {
                assert!(number(&made, "bytes_written") >= 50 * MIB - 64 * 1024, "{name} -> {to}: {}", made.out);
                assert!(number(&made, "bytes_written") < 52 * MIB, "zeroes stay holes: {name} -> {to}: {}", made.out);
            }
            run(&folder, ["compare", name, to]).succeeds();
        }
    }
}

/// Runs the program over an old output, with something done to its calls that share.
fn over_an_old_one(folder: &Path, fault: &str, args: &[&str]) -> Ran {
    fs::write(folder.join(args[1]), "old").unwrap();
    Ran::of(with_fault(folder, "ioctl", fault).args(args).args(["--force", "-j", "1"]))
}

#[test]
#[ignore = "mounts a file system"]
fn r17_r19_what_a_call_that_shares_comes_to_is_no_half_output() {
    let Some(xfs) = Mounted::xfs() else { return };
    if !may_trace() {
        return;
    }
    let (folder, guest) = (xfs.at(), guest());
    fs::write(folder.join("a.raw"), &guest).unwrap();
    let at = |name: &str| folder.join(name);
    let runs: [&[&str]; 4] =
        [&["a.raw", "o.raw"], &["a.raw", "o.vhd"], &["a.raw", "o.vmdk", "-s", "flat"], &["a.raw", "o.vmdk"]];
    for args in runs {
        // The first call looks for a terminal, the second whether files can share, the others share: what is refused is written.
        for (error, when, shares) in
            [("EIO", "2+", false), ("ENOSPC", "3+", false), ("EDQUOT", "3", true), ("EIO", "4+", true)]
        {
            let ran = over_an_old_one(&folder, &format!("error={error}:when={when}"), args).succeeds();
            assert_eq!(ran.err.contains("blocks of the source"), shares, "{error} {args:?}: {}", ran.err);
            run(&folder, ["compare", args[1], "a.raw"]).succeeds();
        }
        // An end in the middle: the old output stays, and nothing lies beside it when it was asked for kindly, or at the next run.
        for (signal, status) in [("TERM", 143), ("KILL", 137)] {
            let ran = over_an_old_one(&folder, &format!("signal={signal}:when=4"), args);
            assert!(ran.status.is_none_or(|s| s == status), "{signal} {args:?}: {:?} {}", ran.status, ran.err);
            assert_eq!(fs::read_to_string(at(args[1])).unwrap(), "old", "{signal} {args:?}");
            let left = names(&folder).iter().filter(|name| name.starts_with(".vdconv-")).count();
            assert_eq!(left > 0, signal == "KILL", "{args:?}: {left}");
        }
        run(&folder, [args, &["--force"]].concat()).succeeds();
        assert!(!names(&folder).iter().any(|name| name.starts_with(".vdconv-")));
        run(&folder, ["compare", args[1], "a.raw"]).succeeds();
    }
}

#[test]
#[ignore = "mounts a file system"]
fn r19_that_an_output_may_not_fit_is_told_with_what_it_can_share() {
    let Some(xfs) = Mounted::xfs() else { return };
    let (folder, guest) = (xfs.at(), guest());
    fs::write(folder.join("a.raw"), &guest).unwrap();
    let free = rustix::fs::statvfs(&folder).map(|told| told.f_bavail * told.f_frsize).unwrap();
    let filler = fs::File::create(folder.join("filler")).unwrap();
    rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, free - 40 * MIB).unwrap();
    let (may, shared) = ("the output may not fit", "blocks that it can share with the source take no room");
    let ran = run(&folder, ["a.raw", "o.vmdk"]).warns(&[may]);
    assert!(ran.err.contains(shared), "{}", ran.err);
    let ran = run(&folder, ["a.raw", "p.vmdk", "--salvage"]);
    assert!(ran.err.contains(may) && !ran.err.contains(shared), "{}", ran.err);
    ran.fails(1, &["No space left on device"]);
    let ran = run(&folder, ["a.raw", "p.vmdk", "-s", "stream", "--dry-run"]).warns(&[may]);
    assert!(!ran.err.contains(shared), "{}", ran.err);
    run(&folder, ["a.raw", "p.raw", "--preallocate"]).fails(1, &["the output does not fit"]);
    assert!(!names(&folder).iter().any(|name| name.starts_with("p.") || name.starts_with(".vdconv-")));
}
