//! Disks that go through pipes: the same bytes as in a file, in order, and never a run that does not end.
#![cfg(unix)]

mod common;

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::expect::folder;
use common::vhd::{Vhd, strict};
use common::{Ran, pattern, run, vdconv, vmdk};
use rustix::process::{Pid, Signal, kill_process};

/// The kinds that need no seeking, by `-O` and `-s`, and the name of a file of theirs.
const KINDS: [(&[&str], &str); 3] = [
    (&["-O", "vmdk", "-s", "stream"], "in.vmdk"),
    (&["-O", "vhd", "-s", "fixed"], "in.vhd"),
    (&["-O", "raw"], "in.raw"),
];

fn guest() -> Vec<u8> {
    pattern(200_003, |n| n % 9000 > 3000)
}

#[test]
fn the_bytes_of_a_pipe_are_those_of_a_file_whatever_the_workers() {
    let f = folder(&[("in.img", &Vhd::dynamic_of(&guest(), 2 << 20).build())]);
    for (kind, name) in KINDS {
        let made = |output: &str, jobs: &str| {
            let mut command = vdconv();
            command.current_dir(f.path()).env("SOURCE_DATE_EPOCH", "7").args(["in.img", output, "-j", jobs]).args(kind);
            let ran = command.output().unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
            ran.stdout
        };
        made(name, "2");
        let file = fs::read(f.path().join(name)).unwrap();
        for jobs in ["1", "2", "5"] {
            assert!(made("-", jobs) == file, "{kind:?} -j {jobs}");
        }
        let got = match name {
            "in.vmdk" => vmdk::read(&f.path().join(name)).guest,
            "in.vhd" => strict(&file, None).guest,
            _ => file,
        };
        assert!(got == guest(), "{kind:?}");
    }
}

#[test]
fn a_receiver_that_goes_away_ends_the_run_with_its_reason() {
    let f = folder(&[("in.img", &Vhd::fixed_of(&guest()).build())]);
    for (kind, _) in KINDS {
        let mut child = vdconv()
            .current_dir(f.path())
            .args(["in.img", "-"])
            .args(kind)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut few = [0; 700];
        child.stdout.take().unwrap().read_exact(&mut few).unwrap();
        let end = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&end.stderr);
        assert_eq!(end.status.code(), Some(1), "{err}");
        assert!(
            err.contains("standard output: at byte ") && err.contains("Broken pipe") && !err.contains("panic"),
            "{err}"
        );
    }
}

#[test]
fn r17_a_receiver_that_does_not_read_keeps_no_signal_from_being_answered() {
    let f = folder(&[("in.img", &Vhd::fixed_of(&guest()).build())]);
    for (signal, number) in [(Signal::INT, 2), (Signal::TERM, 15)] {
        for (kind, _) in KINDS {
            let mut child = vdconv()
                .current_dir(f.path())
                .args(["in.img", "-"])
                .args(kind)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // Long enough for the pipe to be full.
            std::thread::sleep(Duration::from_millis(300));
            let asked = Instant::now();
            kill_process(Pid::from_child(&child), signal).unwrap();
            let status = child.wait().unwrap();
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(number), "{kind:?}");
        }
    }
    // A FIFO that nobody reads is waited for, and no longer than a signal allows.
    assert!(Command::new("mkfifo").arg(f.path().join("fifo.raw")).status().unwrap().success());
    let mut child = vdconv().current_dir(f.path()).args(["in.img", "fifo.raw"]).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let asked = Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(!child.wait().unwrap().success() && asked.elapsed() < Duration::from_secs(1));
}

#[test]
fn what_cannot_go_into_a_pipe_is_refused_with_what_can() {
    let f = folder(&[("in.img", &Vhd::fixed_of(&pattern(40, |_| false)).build())]);
    for args in [&["-O", "vmdk"][..], &["-O", "vhd"], &["-O", "vmdk", "-s", "flat"], &["-O", "vmdk", "-s", "vmfs"]] {
        let ran = run(f.path(), [&["in.img", "-"], args].concat());
        ran.fails(2, &["standard output cannot seek", "one of VHD fixed, VMDK streamOptimized, raw disk"]);
    }
    run(f.path(), ["in.img", "-", "-O", "raw", "--json"]).fails(2, &["--json: standard output is the disk"]);
    // A full device says so.
    let mut full = Command::new("sh");
    let script = "\"$0\" in.img - -O raw > /dev/full";
    let ran = Ran::of(full.current_dir(f.path()).args(["-c", script, env!("CARGO_BIN_EXE_vdconv")]));
    ran.fails(1, &["standard output: at byte 0: cannot write: No space left on device"]);
}
