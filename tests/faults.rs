//! The system says no: a full disk, a quota, errors while reading, writing, syncing, renaming. Each is told, nothing is left, and what was
//! there before is as it was.
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::process::{may_trace, traced, with_fault};
use common::vhd::Vhd;
use common::{Ran, names, noise, pattern, run, scratch, skipped, vmdk};
use tempfile::TempDir;

/// Every writer: OUTPUT, options, the files of the set.
const WRITERS: [(&str, &[&str], &[&str]); 10] = [
    ("o.raw", &[], &["o.raw"]),
    ("o.vhd", &[], &["o.vhd"]),
    ("o.vhd", &["-s", "fixed"], &["o.vhd"]),
    ("o.vmdk", &[], &["o.vmdk"]),
    ("o.vmdk", &["-s", "flat"], &["o-flat.vmdk", "o.vmdk"]),
    ("o.vmdk", &["-s", "twoGbMaxExtentSparse"], &["o-s001.vmdk", "o.vmdk"]),
    ("o.vmdk", &["-s", "twoGbMaxExtentFlat"], &["o-f001.vmdk", "o.vmdk"]),
    ("o.vmdk", &["-s", "stream"], &["o.vmdk"]),
    ("o.vmdk", &["-s", "vmfs"], &["o-flat.vmdk", "o.vmdk"]),
    ("o.vmdk", &["-s", "vmfsThin"], &["o-flat.vmdk", "o.vmdk"]),
];

/// A folder with `in.vhd`, of so many bytes.
fn with_source(len: usize) -> TempDir {
    let folder = scratch();
    fs::write(folder.path().join("in.vhd"), Vhd::fixed_of(&noise(len)).build()).unwrap();
    folder
}

/// A small disk of its own in a folder, for as long as this lives.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(at: &'a Path, size: &str) -> Option<Mounted<'a>> {
        fs::create_dir(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).stderr(Stdio::null());
        match mount.status().is_ok_and(|status| status.success()) {
            true => Some(Mounted(at)),
            false => {
                skipped("no right to mount a small disk");
                None
            }
        }
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn r19_a_disk_that_is_full_in_the_middle_of_each_writer() {
    let folder = with_source(20 << 20);
    let small = folder.path().join("small");
    let Some(_mounted) = Mounted::new(&small, "8m") else { return };
    for (output, options, set) in WRITERS {
        for force in [false, true] {
            let old = |name: &str| format!("old {name}");
            if force {
                set.iter().for_each(|name| fs::write(small.join(name), old(name)).unwrap());
            }
            let target = format!("small/{output}");
            let args = [&["in.vhd", target.as_str()][..], options, if force { &["--force"] } else { &[] }].concat();
            let ran = run(folder.path(), args.clone());
            // What must be allocated is refused before the first byte, what may be needed is warned of; the message names the disk.
            ran.fails(1, &["vdconv: small", "small/o", "No space left on device", "free"]);
            let left = names(&small);
            if force {
                assert_eq!(left, set, "{args:?}");
                set.iter().for_each(|name| assert_eq!(fs::read_to_string(small.join(name)).unwrap(), old(name)));
                set.iter().for_each(|name| fs::remove_file(small.join(name)).unwrap());
            } else {
                assert!(left.is_empty(), "{args:?}: {left:?}");
            }
        }
        // What is preallocated is known not to fit.
        let target = format!("small/{output}");
        let ran = run(folder.path(), [&["in.vhd", &target, "--preallocate"], options].concat());
        if ran.status == Some(1) {
            ran.fails(1, &["small: the output does not fit (found 8.0 MiB free, it takes 20.0 MiB)"]);
        }
        assert!(names(&small).is_empty());
    }
}

#[test]
fn r15_r19_each_refusal_of_the_system_is_told_and_nothing_is_left_and_what_was_there_stays() {
    if !may_trace() {
        return;
    }
    let folder = with_source(3 << 20);
    for (output, options, set) in WRITERS {
        let old = |name: &str| format!("old {name}");
        set.iter().for_each(|name| fs::write(folder.path().join(name), old(name)).unwrap());
        let mut before = names(folder.path());
        before.sort();
        for (calls, error, when, words, file) in [
            ("pwrite64", "ENOSPC", "2", "No space left on device", "vdconv: o"),
            ("pwrite64", "EDQUOT", "2", "Disk quota exceeded", "vdconv: o"),
            ("pwrite64", "EIO", "1", "Input/output error", "vdconv: o"),
            ("pread64", "EIO", "4+", "Input/output error", "vdconv: in.vhd: at byte "),
            ("fsync", "EIO", "1", "Input/output error", "vdconv: o"),
            ("fsync", "ENOSPC", "2", "No space left on device", "vdconv: o"),
            ("ftruncate", "EFBIG", "2+", "File too large", "vdconv: o"),
            ("fsync", "EIO", "4", "Input/output error", ""),
            ("fsync", "EIO", "5", "Input/output error", ""),
            ("rename", "EACCES", "1", "Permission denied", "vdconv: o"),
            ("rename", "EIO", "2", "Input/output error", "vdconv: o"),
            // Counted for each call: all from this one on, since what fails as "not supported" is tried in other ways.
            ("renameat2", "EIO", "1", "Input/output error", "vdconv: o"),
            ("renameat2", "ENOSPC", "2", "No space left on device", "vdconv: o"),
            ("write", "ENOSPC", "1", "No space left on device", "list of temporary files"),
            ("write", "ENOSPC", "2", "No space left on device", "list of temporary files"),
        ] {
            let args = [&["in.vhd", output, "--force", "-j", "1"], options].concat();
            let fault = format!("error={error}:when={when}");
            let ran = Ran::of(with_fault(folder.path(), calls, &fault).args(&args));
            // A run that makes fewer of these calls ends well; then there is nothing to see.
            if ran.status == Some(0) {
                // What is shared with the source is neither read nor written.
                let must_fail = (["pwrite64", "pread64"].contains(&calls) && !ran.err.contains("blocks of the source"))
                    || (["fsync", "write"].contains(&calls) && when == "1")
                    || (calls, set.len() > 1) == ("renameat2", true);
                assert!(!must_fail, "{calls} {error} {when} {args:?}: {}", ran.err);
                set.iter().for_each(|name| fs::write(folder.path().join(name), old(name)).unwrap());
                continue;
            }
            ran.fails(1, &[words, file]);
            assert_eq!(names(folder.path()), before, "{calls} {error} {when} {args:?}");
            for name in set {
                assert_eq!(
                    fs::read_to_string(folder.path().join(name)).unwrap(),
                    old(name),
                    "{calls} {error} {when} {args:?}"
                );
            }
        }
        set.iter().for_each(|name| fs::remove_file(folder.path().join(name)).unwrap());
    }
}

/// What a run asks of the system, in order: `sync NAME`, `rename NAME`.
fn order(folder: &Path, args: &[&str]) -> Vec<String> {
    let mut command = traced(folder, "fsync,fdatasync,rename,renameat2", "order");
    Ran::of(command.arg("-y").arg(env!("CARGO_BIN_EXE_vdconv")).args(args)).succeeds();
    let text = fs::read_to_string(folder.join("order")).unwrap();
    let line = |line: &str| {
        let sync = line.contains("sync(");
        let path = if sync { line.split(['<', '>']).nth(1) } else { line.split('"').nth(3) }.unwrap();
        let name = Path::new(path).file_name().unwrap().to_str().unwrap();
        let name = match name {
            list if list.ends_with(".list") => "list",
            temporary if temporary.starts_with(".vdconv-") => "temporary",
            folder if folder.starts_with("vdconv-test-") => "folder",
            name => name,
        };
        format!("{} {name}", if sync { "sync" } else { "rename" })
    };
    text.lines().map(line).collect()
}

#[test]
fn r14_r15_all_is_on_stable_storage_before_it_has_a_name_and_folders_are_synced_after_renames() {
    if !may_trace() {
        return;
    }
    let folder = with_source(1 << 20);
    // The body, and then what makes it an image.
    let data = ["sync temporary", "sync temporary"];
    let single = [&data[..], &["rename o.vmdk", "sync folder"]].concat();
    assert_eq!(order(folder.path(), &["in.vhd", "o.vmdk"]), single);
    assert_eq!(order(folder.path(), &["in.vhd", "o.vmdk", "--force"]), single);
    let placed = ["rename p-flat.vmdk", "sync folder", "rename p.vmdk", "sync folder", "sync list"];
    let set = [&data[..], &data[..], &["sync list"], &placed[..]].concat();
    assert_eq!(order(folder.path(), &["in.vhd", "p.vmdk", "-s", "flat"]), set);
    // Old files go aside first, when the list that tells of it is in the folder.
    let aside = ["sync list", "sync folder", "rename temporary", "rename temporary"];
    let replaced = [&data[..], &data[..], &aside[..], &placed[..]].concat();
    assert_eq!(order(folder.path(), &["in.vhd", "p.vmdk", "-s", "flat", "--force"]), replaced);
    let nothing = order(folder.path(), &["in.vhd", "p.vmdk", "-s", "flat", "--force", "--no-sync"]);
    // But for the list, which tells where the only copy of the old files is.
    assert!(nothing.iter().all(|step| step.starts_with("rename") || step == "sync list"), "{nothing:?}");
}

#[test]
fn what_fails_behind_the_last_rename_is_a_warning() {
    if !may_trace() {
        return;
    }
    let folder = with_source(1 << 20);
    // The third sync is that of the folder.
    let ran = Ran::of(with_fault(folder.path(), "fsync", "error=EIO:when=3").args(["in.vhd", "o.raw"]));
    ran.warns(&["cannot bring the folder to stable storage: Input/output error"]);
    assert!(fs::read(folder.path().join("o.raw")).unwrap() == noise(1 << 20));
    // Locks that the file system does not have keep nobody out, and nobody in.
    let ran = Ran::of(with_fault(folder.path(), "flock", "error=EOPNOTSUPP:when=1+").args(["in.vhd", "p.raw"]));
    ran.succeeds();
    assert_eq!(names(folder.path()), ["in.vhd", "o.raw", "p.raw"]);
}

#[test]
fn r16_the_input_its_pieces_and_its_parents_are_never_the_output() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    let guest = pattern(160, |_| false);
    // A chain: a child over a base, both in pieces.
    let base = Vhd::dynamic_of(&guest, 512 << 10);
    let mut child = Vhd::child_of(&base, &guest, 512 << 10, |n| n % 2 == 0);
    child.parent_name = "base.vhd".into();
    fs::write(path("base.vhd"), base.build()).unwrap();
    fs::write(path("child.vhd"), child.build()).unwrap();
    fs::write(path("a-flat.vmdk"), &guest).unwrap();
    fs::write(path("a.vmdk"), vmdk::descriptor("monolithicFlat", 0x1234_5678, None, "RW 160 FLAT \"a-flat.vmdk\" 0"))
        .unwrap();
    fs::hard_link(path("base.vhd"), path("hard.vhd")).unwrap();
    std::os::unix::fs::symlink("child.vhd", path("soft.vhd")).unwrap();
    fs::create_dir(path("sub")).unwrap();
    std::os::unix::fs::symlink(folder.path(), path("sub/round")).unwrap();
    let absolute = path("child.vhd");
    let before: Vec<_> =
        ["base.vhd", "child.vhd", "a.vmdk", "a-flat.vmdk"].map(|name| fs::read(path(name)).unwrap()).into();
    for args in [
        vec!["child.vhd", "child.vhd"],
        vec!["child.vhd", absolute.to_str().unwrap()],
        vec!["child.vhd", "./sub/../child.vhd"],
        vec!["child.vhd", "sub/round/child.vhd"],
        vec!["child.vhd", "soft.vhd"],
        vec!["soft.vhd", "child.vhd"],
        // Its parent, and a hard link to it.
        vec!["child.vhd", "base.vhd"],
        vec!["child.vhd", "hard.vhd"],
        // A piece of it, as a disk of its own and as a piece of the output.
        vec!["a.vmdk", "a.vmdk"],
        vec!["a.vmdk", "a-flat.vmdk", "-O", "raw"],
        vec!["a.vmdk", "a.vmdk", "-s", "flat"],
        vec!["-f", "raw", "a-flat.vmdk", "a.vmdk", "-s", "flat"],
        // The image that a delta would lie on.
        vec!["child.vhd", "base.vhd", "--base", "base.vhd"],
    ] {
        for force in [None, Some("--force"), Some("--dry-run")] {
            run(folder.path(), args.iter().copied().chain(force))
                .fails(2, &["the output is the input, or a file of it"]);
        }
        let after: Vec<_> =
            ["base.vhd", "child.vhd", "a.vmdk", "a-flat.vmdk"].map(|name| fs::read(path(name)).unwrap()).into();
        assert!(before == after);
        assert!(!names(folder.path()).iter().any(|name| name.starts_with(".vdconv-")));
    }
}

#[test]
fn a_receiver_that_goes_away_ends_the_run_with_the_systems_reason() {
    let folder = with_source(8 << 20);
    for options in ["-O raw", "-O vhd -s fixed", "-O vmdk -s stream"] {
        let script = format!("\"$0\" in.vhd - {options} 2>err | head -c 5000 > /dev/null; cat err >&2");
        let ran =
            Ran::of(Command::new("sh").current_dir(folder.path()).args(["-c", &script, env!("CARGO_BIN_EXE_vdconv")]));
        assert!(
            ran.err.contains("vdconv: standard output: at byte ") && ran.err.contains("Broken pipe"),
            "{}",
            ran.err
        );
    }
}
