//! What a killed run leaves: told from data, in nobody's way, and taken away by the next run to the same output.
#![cfg(unix)]

mod common;

use std::fs;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::process::{end, may_trace, stopped_in_the_middle, with_fault};
use common::vhd::Vhd;
use common::{Ran, names, pattern, run, scratch, vdconv, vmdk};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Sectors of a disk that takes a moment to convert.
const MANY: u64 = 160_000;

/// A folder with `in.vhd`, which takes a moment, and `small.vhd`, which does not.
fn with_sources() -> TempDir {
    let folder = scratch();
    fs::write(folder.path().join("in.vhd"), Vhd::fixed_of(&pattern(MANY, |_| false)).build()).unwrap();
    fs::write(folder.path().join("small.vhd"), Vhd::fixed_of(&pattern(80, |_| false)).build()).unwrap();
    folder
}

/// The names in a folder but for the sources.
fn made(folder: &Path) -> Vec<String> {
    names(folder).into_iter().filter(|name| name != "in.vhd" && name != "small.vhd").collect()
}

fn killed_in_the_middle(folder: &Path, args: &[&str]) {
    let (child, pid) = stopped_in_the_middle(vdconv().current_dir(folder).args(args), folder);
    kill_process(pid, Signal::KILL).unwrap();
    assert_eq!(end(child, pid).0.signal(), Some(9));
}

#[test]
fn r17_the_next_run_to_the_same_output_takes_away_what_a_killed_one_left() {
    for (output, options, set) in [
        ("o.vmdk", vec![], vec!["o.vmdk"]),
        ("o.raw", vec![], vec!["o.raw"]),
        ("o.vhd", vec!["-s", "fixed"], vec!["o.vhd"]),
        ("o.vmdk", vec!["-s", "flat"], vec!["o-flat.vmdk", "o.vmdk"]),
    ] {
        let folder = with_sources();
        killed_in_the_middle(folder.path(), &[vec!["in.vhd", output], options.clone()].concat());
        let left = made(folder.path());
        assert!(left.len() == 1 + set.len() && left.iter().all(|name| name.starts_with(".vdconv-")), "{left:?}");
        // A run to another output leaves them alone: whose they are it does not know.
        run(folder.path(), ["small.vhd", "other.raw"]).succeeds();
        assert_eq!(made(folder.path()), [left.clone(), vec!["other.raw".into()]].concat());
        fs::remove_file(folder.path().join("other.raw")).unwrap();
        let ran = run(folder.path(), [vec!["small.vhd", output], options].concat());
        assert_eq!(ran.status, Some(0), "{}", ran.err);
        for name in left.iter().filter(|name| !name.ends_with(".list")) {
            assert!(ran.err.contains(&format!("note: removed what a killed run left: {name}")), "{}", ran.err);
        }
        assert_eq!(made(folder.path()), set);
    }
}

#[test]
fn what_the_living_have_is_left_alone_and_a_second_run_is_refused_at_once() {
    for force in [None, Some("--force")] {
        let folder = with_sources();
        let args = ["in.vhd", "o.vmdk", "-s", "flat"];
        let (child, pid) = stopped_in_the_middle(vdconv().current_dir(folder.path()).args(args), folder.path());
        let before = made(folder.path());
        let second = run(folder.path(), ["small.vhd", "o.vmdk", "--json"].into_iter().chain(force));
        let after = made(folder.path());
        let (status, _) = end(child, pid);
        second.fails(1, &["o.vmdk: another run of vdconv is writing this output"]);
        assert_eq!(before, after);
        assert!(status.success());
        assert_eq!(made(folder.path()), ["o-flat.vmdk", "o.vmdk"]);
        assert!(vmdk::read(&folder.path().join("o.vmdk")).guest == pattern(MANY, |_| false));
    }
}

#[test]
fn r18_of_runs_to_one_output_exactly_one_succeeds() {
    for round in 0..20 {
        let folder = with_sources();
        let options: &[&str] = if round % 2 == 0 { &[] } else { &["-s", "flat"] };
        let runs: Vec<_> = (0..2)
            .map(|_| {
                let mut command = vdconv();
                command.current_dir(folder.path()).args(["in.vhd", "o.vmdk"]).args(options);
                command.stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let ends: Vec<_> = runs.into_iter().map(|run| Ran::from(run.wait_with_output().unwrap())).collect();
        let mut codes: Vec<_> = ends.iter().map(|end| end.status).collect();
        codes.sort();
        assert_eq!(codes, [Some(0), Some(1)]);
        let set = if options.is_empty() { vec!["o.vmdk"] } else { vec!["o-flat.vmdk", "o.vmdk"] };
        assert_eq!(made(folder.path()), set);
        assert!(vmdk::read(&folder.path().join("o.vmdk")).guest == pattern(MANY, |_| false));
    }
}

#[test]
fn r17_what_cannot_be_looked_for_in_a_folder_that_its_users_cannot_list_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let other = ["--reuid=65533", "--regid=65533", "--clear-groups"];
    let may = Command::new("setpriv").args(other).arg("true").stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        return common::skipped("no right to become another user");
    }
    let folder = with_sources();
    let letterbox = folder.path().join("letterbox");
    fs::create_dir(&letterbox).unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(folder.path(), 0o755);
    mode(&letterbox, 0o733);
    let convert = |input: &str| {
        let mut command = Command::new("setpriv");
        command.current_dir(&letterbox).args(other).arg(env!("CARGO_BIN_EXE_vdconv")).args([input, "o.raw"]);
        command
    };
    let (child, pid) = stopped_in_the_middle(&mut convert("../in.vhd"), &letterbox);
    kill_process(pid, Signal::KILL).unwrap();
    end(child, pid);
    let left = names(&letterbox).into_iter().find(|name| !name.ends_with(".list")).unwrap();
    let ran = Ran::of(&mut convert("../small.vhd"))
        .warns(&["cannot look for what a run left when it was killed: Permission denied"]);
    let begin = ran.err.split("begin with ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    assert!(left.starts_with(begin), "{left}: {}", ran.err);
}

#[test]
fn the_input_is_never_taken_away_as_a_leftover() {
    let folder = with_sources();
    killed_in_the_middle(folder.path(), &["in.vhd", "o.raw"]);
    let left = made(folder.path());
    let data = left.iter().find(|name| !name.ends_with(".list")).unwrap();
    let ran = run(folder.path(), ["-f", "raw", data, "o.raw", "--force"]);
    ran.fails(2, &["the input is what a run to this output left", "hint: "]);
    assert_eq!(made(folder.path()), left);
    run(folder.path(), ["-f", "raw", data, "other.raw"]).succeeds();
}

#[test]
fn a_list_that_cannot_be_trusted_is_refused_and_nothing_is_removed_for_it() {
    let folder = with_sources();
    killed_in_the_middle(folder.path(), &["in.vhd", "o.raw"]);
    let list = made(folder.path()).into_iter().find(|name| name.ends_with(".list")).unwrap();
    let path = folder.path().join(&list);
    fs::write(folder.path().join("precious"), "mine").unwrap();
    for text in [
        "vdconv list 1\noutput o%2Eraw\nsurplus ..%2Fx 1:1:1\npublish\n".as_bytes(),
        b"vdconv list 1\noutput o%2Eraw\nremove precious\npublish\n",
        b"KDMV\0\0\0",
        b"\xFF\xFE",
        &[b'x'; 3000],
    ] {
        fs::write(&path, text).unwrap();
        run(folder.path(), ["small.vhd", "o.raw"]).fails(1, &[&list, "cannot be trusted", "hint: "]);
        assert!(folder.path().join("precious").exists() && path.exists());
    }
    // Nor where it names a file that is no longer what the list says.
    fs::write(&path, "vdconv list 1\noutput o%2Eraw\nsurplus precious 1:4:1\npublish\n").unwrap();
    run(folder.path(), ["small.vhd", "o.raw"]).succeeds();
    assert_eq!(made(folder.path()), ["o.raw", "precious"]);
    // What a link leads to is never opened as a list.
    fs::remove_file(folder.path().join("o.raw")).unwrap();
    std::os::unix::fs::symlink("precious", &path).unwrap();
    run(folder.path(), ["small.vhd", "o.raw"]).fails(1, &[".list: cannot open the list of another run"]);
    assert_eq!(fs::read(folder.path().join("precious")).unwrap(), b"mine");
}

/// An old set of three files, `o.vmdk`, `o-flat.vmdk` and what a longer set left, as a kind that names them.
fn with_old_set(folder: &Path) {
    run(folder, ["small.vhd", "o.vmdk", "-s", "twoGbMaxExtentFlat"]).succeeds();
    // A second piece, as if the disk were longer.
    let descriptor = fs::read_to_string(folder.join("o.vmdk")).unwrap();
    let line = descriptor.lines().find(|line| line.contains("o-f001")).unwrap().to_string();
    let second = line.replace("o-f001", "o-f002");
    fs::copy(folder.join("o-f001.vmdk"), folder.join("o-f002.vmdk")).unwrap();
    fs::write(folder.join("o.vmdk"), descriptor.replace(&line, &format!("{line}\n{second}"))).unwrap();
}

#[test]
fn r15_pieces_of_the_replaced_set_that_the_new_one_does_not_have_are_removed() {
    for (options, set) in [
        (vec!["-s", "twoGbMaxExtentFlat"], vec!["o-f001.vmdk", "o.vmdk"]),
        (vec!["-s", "flat"], vec!["o-flat.vmdk", "o.vmdk"]),
        (vec![], vec!["o.vmdk"]),
    ] {
        let folder = with_sources();
        with_old_set(folder.path());
        // Called like pieces, but not named by the old descriptor; and named by it, but not called so.
        let bystanders = ["o-f003.vmdk", "o-x.vmdk", "p-f001.vmdk"];
        let descriptor = fs::read_to_string(folder.path().join("o.vmdk")).unwrap();
        let more = "RW 80 FLAT \"o-x.vmdk\" 0\nRW 80 FLAT \"p-f001.vmdk\" 0\n";
        fs::write(folder.path().join("o.vmdk"), descriptor.replace("# The Disk", &format!("{more}# The Disk")))
            .unwrap();
        bystanders.iter().for_each(|name| fs::write(folder.path().join(name), "mine").unwrap());
        let ran = run(folder.path(), [vec!["small.vhd", "o.vmdk", "--force"], options].concat());
        assert_eq!(ran.status, Some(0), "{}", ran.err);
        let mut want: Vec<_> = set.iter().chain(&bystanders).map(|name| name.to_string()).collect();
        want.sort();
        assert_eq!(made(folder.path()), want);
        assert!(vmdk::read(&folder.path().join("o.vmdk")).guest == pattern(80, |_| false));
    }
    // A piece that is the input is not thrown away under it.
    let folder = with_sources();
    run(folder.path(), ["small.vhd", "o.vmdk", "-s", "flat"]).succeeds();
    let before = fs::read(folder.path().join("o-flat.vmdk")).unwrap();
    run(folder.path(), ["-f", "raw", "o-flat.vmdk", "o.vmdk", "--force"]).fails(2, &["the output is the input"]);
    assert!(fs::read(folder.path().join("o-flat.vmdk")).unwrap() == before);
}

/// Kills the program at its `n`-th `call`; false where it had no more of them.
fn killed_at(folder: &Path, call: &str, n: usize, args: &[&str]) -> bool {
    let ran = with_fault(folder, call, &format!("signal=KILL:when={n}")).args(args).output().unwrap();
    // strace ends as the program did.
    let killed = ran.status.signal() == Some(9) || ran.status.code() == Some(137);
    assert!(killed || ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    if killed {
        // Dead is what the kernel has let go of.
        thread::sleep(Duration::from_millis(20));
    }
    killed
}

#[test]
fn r15_r17_a_kill_at_any_rename_leaves_no_descriptor_beside_files_of_another_set_and_the_next_run_makes_it_whole() {
    let calls = ["rename", "renameat2", "unlink"];
    kills_at(&calls, 1..5, &[(true, &["-s", "flat", "--force"])], 6);
}

#[test]
#[ignore = "takes minutes"]
fn r15_r17_a_kill_at_any_call_of_any_kind_of_output() {
    let calls = ["rename", "renameat2", "unlink", "fsync", "ftruncate", "write", "flock"];
    let runs: [(bool, &[&str]); 5] = [
        (false, &["-s", "flat"]),
        (true, &["-s", "flat", "--force"]),
        (true, &["-s", "twoGbMaxExtentFlat", "--force"]),
        (true, &["--force"]),
        (false, &[]),
    ];
    kills_at(&calls, 1..10, &runs, 60);
}

/// Kills at the first, second, ... of each of these calls (strace counts each for itself), in runs over an old set or none.
fn kills_at(calls: &[&str], numbers: Range<usize>, runs: &[(bool, &[&str])], at_least: usize) {
    if !may_trace() {
        return;
    }
    let (new, mut kills) = (pattern(80, |n| n % 3 == 0), 0);
    for (old, options) in runs.iter().copied() {
        for (call, n) in calls.iter().flat_map(|call| numbers.clone().map(move |n| (*call, n))) {
            let folder = with_sources();
            fs::write(folder.path().join("new.vhd"), Vhd::fixed_of(&new).build()).unwrap();
            if old {
                with_old_set(folder.path());
            }
            let descriptor = fs::read(folder.path().join("o.vmdk")).ok();
            // The new output is there, whole; or the old one; or none.
            let whole = |folder: &Path| {
                let found = fs::read(folder.join("o.vmdk")).ok()?;
                let is_old = descriptor.as_ref() == Some(&found);
                if is_old {
                    for piece in ["o-f001.vmdk", "o-f002.vmdk"] {
                        assert!(fs::read(folder.join(piece)).unwrap() == pattern(80, |_| false), "{piece}");
                    }
                } else {
                    assert!(vmdk::read(&folder.join("o.vmdk")).guest == new);
                }
                Some(!is_old)
            };
            if !killed_at(folder.path(), call, n, &[&["new.vhd", "o.vmdk", "-j", "1"], options].concat()) {
                continue;
            }
            kills += 1;
            let there = whole(folder.path());
            // A dry run tells what the next run would be told, and changes nothing.
            let before = names(folder.path());
            let dry = run(folder.path(), ["new.vhd", "o.vmdk", "--dry-run"]);
            assert_eq!(names(folder.path()), before);
            // Another run to the same output.
            fs::write(folder.path().join("other.raw"), [0xA7; 512]).unwrap();
            let ran = run(folder.path(), ["other.raw", "o.vmdk"]);
            assert_eq!(dry.status, ran.status, "{}{}", dry.err, ran.err);
            match (there, old) {
                // The new output was there, or the old one was put back.
                (Some(_), _) | (_, true) => drop(ran.fails(1, &["the output exists"])),
                (None, false) => drop(ran.succeeds()),
            }
            if there.is_some() || old {
                assert_eq!(whole(folder.path()), Some(there == Some(true)), "killed at {call} {n}: {options:?}");
            }
            assert!(
                !names(folder.path()).iter().any(|name| name.starts_with(".vdconv-")),
                "{:?}",
                names(folder.path())
            );
        }
    }
    println!("{kills} kills");
    assert!(kills > at_least);
}

/// What users and other programs do between a kill and the next run must cost nobody a file.
#[test]
fn what_was_edited_since_a_kill_is_not_taken_for_a_leftover() {
    if !may_trace() {
        return;
    }
    let flat = pattern(80, |_| false);
    let content = |folder: &Path, name: &str| fs::read(folder.join(name)).ok();
    // The output is whole, and its descriptor is edited, as a machine that starts does.
    let folder = with_sources();
    assert!(killed_at(folder.path(), "unlink", 1, &["small.vhd", "o.vmdk", "-s", "flat"]));
    let descriptor = fs::read_to_string(folder.path().join("o.vmdk")).unwrap();
    fs::write(folder.path().join("o.vmdk"), descriptor.replace("ide", "buslogic")).unwrap();
    run(folder.path(), ["in.vhd", "o.vmdk"]).fails(1, &["the output exists"]);
    assert!(content(folder.path(), "o-flat.vmdk") == Some(flat.clone()));
    // The same before it was noted that it is there: nobody can tell, and nothing is removed.
    let folder = with_sources();
    assert!(killed_at(folder.path(), "write", 3, &["small.vhd", "o.vmdk", "-s", "flat", "-j", "1"]));
    fs::write(folder.path().join("o.vmdk"), descriptor.replace("ide", "buslogic")).unwrap();
    for force in [None, Some("--force")] {
        run(folder.path(), ["in.vhd", "o.vmdk"].into_iter().chain(force))
            .fails(1, &["files were changed since", "hint: "]);
    }
    assert!(content(folder.path(), "o-flat.vmdk") == Some(flat.clone()));
    // A new piece that was touched stays beside no descriptor but its own: the old one is kept under another name.
    let folder = with_sources();
    run(folder.path(), ["small.vhd", "o.vmdk", "-s", "flat"]).succeeds();
    let old = content(folder.path(), "o.vmdk");
    assert!(killed_at(folder.path(), "renameat2", 2, &["in.vhd", "o.vmdk", "-s", "flat", "--force", "-j", "1"]));
    let piece = fs::File::options().append(true).open(folder.path().join("o-flat.vmdk")).unwrap();
    piece.set_modified(std::time::SystemTime::now() + Duration::from_secs(9)).unwrap();
    let ran = run(folder.path(), ["small.vhd", "p.raw"]).succeeds();
    assert!(!ran.err.contains("o.vmdk"), "that is another output");
    let ran = run(folder.path(), ["small.vhd", "o.vmdk", "-s", "flat"]);
    ran.fails(1, &["o-flat.vmdk", "the output exists", "warning: ", "could not be put back whole", "o.vmdk.old0"]);
    assert!(content(folder.path(), "o.vmdk").is_none() && content(folder.path(), "o.vmdk.old0") == old);
    assert!(content(folder.path(), "o-flat.vmdk.old0") == Some(flat.clone()));
    // The input is a piece of the old output that would be removed.
    let folder = with_sources();
    run(folder.path(), ["small.vhd", "o.vmdk", "-s", "flat"]).succeeds();
    assert!(killed_at(folder.path(), "unlink", 1, &["small.vhd", "o.vmdk", "--force"]));
    for option in ["--force", "--dry-run"] {
        let ran = run(folder.path(), ["-f", "raw", "o-flat.vmdk", "o.vmdk", option]);
        ran.fails(2, &["the input is what a run to this output left"]);
    }
    assert!(content(folder.path(), "o-flat.vmdk") == Some(flat));
}

/// Renames that fail while an old set is put back cost nobody the set.
#[test]
fn an_old_set_that_cannot_be_put_back_is_kept_until_it_can() {
    if !may_trace() {
        return;
    }
    let folder = with_sources();
    run(folder.path(), ["small.vhd", "o.vmdk", "-s", "flat"]).succeeds();
    let before: Vec<_> = ["o.vmdk", "o-flat.vmdk"].map(|name| fs::read(folder.path().join(name)).unwrap()).into();
    let refusing = |error: &str, args: &[&str]| {
        Ran::of(with_fault(folder.path(), "renameat2,linkat", &format!("error={error}")).args(args))
    };
    let old_files = || names(folder.path()).iter().filter(|name| name.starts_with(".vdconv-old-")).count();
    // In the run itself, and in runs that come after it, with and without a kill.
    for _ in 0..3 {
        refusing("ENOSPC", &["in.vhd", "o.vmdk", "-s", "flat", "--force"])
            .fails(1, &["No space left on device", "is kept as"]);
        assert_eq!(old_files(), 2);
    }
    assert!(killed_at(folder.path(), "flock", 1, &["in.vhd", "o.vmdk", "-s", "flat", "--force"]));
    assert_eq!(old_files(), 2);
    let ran = run(folder.path(), ["in.vhd", "o.vmdk"]).fails(1, &["the output exists"]);
    assert_eq!(ran.err.matches("note: put back what a killed run was replacing: ").count(), 2, "{}", ran.err);
    let after: Vec<_> = ["o.vmdk", "o-flat.vmdk"].map(|name| fs::read(folder.path().join(name)).unwrap()).into();
    assert!(before == after && made(folder.path()).len() == 2);
    // File systems that have neither renames that refuse nor links do it by looking first.
    refusing("EINVAL", &["in.vhd", "o.vmdk", "-s", "flat", "--force"]).succeeds();
    refusing("EPERM", &["in.vhd", "q.raw"]).succeeds();
    assert!(vmdk::read(&folder.path().join("o.vmdk")).guest == pattern(MANY, |_| false));
}

#[test]
fn r18_outputs_that_share_a_piece_do_not_take_it_from_each_other() {
    // One after the other: the piece of another disk is neither replaced nor removed.
    let folder = with_sources();
    run(folder.path(), ["small.vhd", "a.vmdk", "-s", "flat"]).succeeds();
    let flat = fs::read(folder.path().join("a-flat.vmdk")).unwrap();
    let other = ["in.vhd", "a.x", "-O", "vmdk", "-s", "flat", "--force"];
    run(folder.path(), other)
        .fails(1, &["a-flat.vmdk: a piece of another disk has this name (found a.vmdk)", "hint: "]);
    fs::copy(folder.path().join("a.vmdk"), folder.path().join("keep.vmdk")).unwrap();
    run(folder.path(), ["in.vhd", "a.vmdk", "-s", "flat", "--force"]).fails(1, &["found keep.vmdk"]);
    run(folder.path(), ["in.vhd", "a.vmdk", "--force"]).succeeds();
    assert!(fs::read(folder.path().join("a-flat.vmdk")).unwrap() == flat, "keep.vmdk has it still");
    // At once: one of them finds at its end what was not there when it began.
    for _ in 0..6 {
        let folder = with_sources();
        let runs: Vec<_> = ["b.vmdk", "b.x"]
            .map(|output| {
                let mut command = vdconv();
                command.current_dir(folder.path()).args(["in.vhd", output, "-O", "vmdk", "-s", "flat", "--force"]);
                command.stderr(Stdio::piped()).spawn().unwrap()
            })
            .into();
        let ends: Vec<_> = runs.into_iter().map(|run| Ran::from(run.wait_with_output().unwrap())).collect();
        assert_eq!(ends.iter().filter(|end| end.status == Some(0)).count(), 1, "{}{}", ends[0].err, ends[1].err);
        assert_eq!(made(folder.path()).len(), 2, "{:?}", made(folder.path()));
    }
}

/// A number that looks random, of a number.
fn mixed(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (n ^ n >> 27).wrapping_mul(0x94D0_49BB_1331_11EB) >> 20
}

/// So many signals, at random moments of runs of which each second one writes several files, and replaces an old output.
fn signals_at_random_moments(wanted: u64, signals: &[Signal]) {
    let folder = with_sources();
    let new = vec!["in.vhd", "o.vmdk", "--force"];
    let start = Instant::now();
    run(folder.path(), new.clone()).succeeds();
    let usual = start.elapsed();
    let (mut ended, mut whole, mut removed, mut rounds) = (0, 0, 0, 0);
    // Those that come too late do not count.
    while ended < wanted && rounds < 20 * wanted {
        let round = rounds;
        rounds += 1;
        let kind = if round % 2 == 0 { vec!["-s", "sparse"] } else { vec!["-s", "flat"] };
        let signal = signals[round as usize / 2 % signals.len()];
        let mut command = vdconv();
        command.current_dir(folder.path()).args([new.clone(), kind].concat()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        thread::sleep(usual.mul_f64((mixed(round) % 1000) as f64 / 1000.0));
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        let _ = kill_process(pid, signal);
        let done = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&done.stderr);
        // The old output or the new one, whole: both hold the same disk, and a partial one would not.
        let disk = folder.path().join("o.vmdk");
        if disk.exists() {
            assert!(vmdk::read(&disk).guest == pattern(MANY, |_| false), "round {round}: {err}");
        } else {
            assert!(signal == Signal::KILL, "round {round}: only a kill may fall between two renames: {err}");
        }
        match done.status.signal() {
            None => assert!(done.status.success(), "round {round}: {err}"),
            Some(number) => {
                ended += 1;
                assert_eq!(number, signal.as_raw());
                if signal != Signal::KILL {
                    // Before the program watches for signals it has made nothing; after the output is there it is done.
                    let told = err.contains("interrupted; no output was made") || err.contains(" -> o.vmdk");
                    assert!(err.is_empty() || told, "{err}");
                }
            }
        }
        let left = made(folder.path()).into_iter().filter(|name| name.starts_with(".vdconv-")).count();
        if signal == Signal::KILL {
            removed += left;
        } else {
            assert_eq!(left, 0, "round {round}: {err}");
        }
        whole += u64::from(disk.exists());
    }
    run(folder.path(), new).succeeds();
    assert!(!made(folder.path()).iter().any(|name| name.starts_with(".vdconv-")));
    println!(
        "{rounds} runs: {ended} ended by the signal, {whole} with a whole output at the final name, {removed} leftovers met and removed"
    );
    assert_eq!(ended, wanted, "the signals came too late");
}

#[test]
fn r14_r17_kills_and_interrupts_at_random_moments_never_leave_a_partial_output() {
    signals_at_random_moments(8, &[Signal::KILL]);
    signals_at_random_moments(12, &[Signal::INT, Signal::TERM, Signal::HUP]);
}

#[test]
#[ignore = "takes a minute"]
fn r14_r17_fifty_kills_and_fifty_interrupts() {
    signals_at_random_moments(50, &[Signal::KILL]);
    signals_at_random_moments(50, &[Signal::INT, Signal::TERM, Signal::HUP]);
}

#[test]
fn a_second_interrupt_ends_at_once_and_what_it_leaves_is_taken_away_later() {
    let folder = with_sources();
    let mut command = vdconv();
    command.current_dir(folder.path()).args(["in.vhd", "o.raw", "-j", "1"]);
    let (child, pid) = stopped_in_the_middle(&mut command, folder.path());
    // Of two that wait the handler of the higher number runs first.
    kill_process(pid, Signal::TERM).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let (status, err) = end(child, pid);
    assert_eq!((status.signal(), err.as_str()), (Some(2), ""), "no time for a message");
    assert_eq!(made(folder.path()).len(), 2, "no time to clean up");
    run(folder.path(), ["small.vhd", "o.raw"]).succeeds();
    assert_eq!(made(folder.path()), ["o.raw"]);
}
