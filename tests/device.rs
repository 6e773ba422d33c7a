//! A block device as OUTPUT (R27): only with --force, for this program alone, its first bytes last.
#![cfg(unix)]

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::process::{may_trace, with_fault};
use common::vhd::Vhd;
use common::{Ran, names, pattern, run, scratch, skipped, vmdk};
use tempfile::TempDir;

/// Bytes of the device.
const SIZE: usize = 16 << 20;
/// What is on it before.
const OLD: u8 = 0xA5;

/// A loop device over a file, for as long as this lives.
struct Loop {
    folder: TempDir,
    name: String,
}

impl Loop {
    /// `None` after saying that the test is skipped: it takes rights.
    fn new() -> Option<Loop> {
        let folder = scratch();
        let file = folder.path().join("backing");
        fs::write(&file, vec![OLD; SIZE]).unwrap();
        let made = Command::new("losetup").args(["--find", "--show"]).arg(&file).stderr(Stdio::null()).output();
        let name = made.ok().filter(|made| made.status.success()).map(|made| String::from_utf8(made.stdout).unwrap());
        match name {
            Some(name) => Some(Loop { folder, name: name.trim().to_string() }),
            None => {
                skipped("no right to make a loop device");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// All that is on it, as the system gives it.
    fn content(&self) -> Vec<u8> {
        fs::read(&self.name).unwrap()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.name]).status();
    }
}

fn put(folder: &Path, name: &str, guest: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, Vhd::dynamic_of(guest, 512 << 10).build()).unwrap();
    path
}

#[test]
fn r27_a_device_is_overwritten_with_force_alone_and_what_lies_behind_stays() {
    let Some(device) = Loop::new() else { return };
    let guest = pattern(9000, |n| n % 700 < 300);
    put(device.path(), "in.vhd", &guest);
    run(device.path(), ["in.vhd", &device.name, "-O", "raw"]).fails(1, &["a block device", "hint: --force"]);
    assert!(device.content() == vec![OLD; SIZE]);
    run(device.path(), ["in.vhd", &device.name, "-O", "raw", "--force", "--dry-run"]).succeeds();
    assert!(device.content() == vec![OLD; SIZE], "a dry run writes nothing");
    for jobs in ["1", "4"] {
        fs::write(&device.name, vec![OLD; SIZE]).unwrap();
        run(device.path(), ["in.vhd", &device.name, "-O", "raw", "--force", "-j", jobs]).succeeds();
        let content = device.content();
        assert!(content[..guest.len()] == guest, "zeroes are written, too: nothing on a device is a hole");
        assert!(content[guest.len()..].iter().all(|byte| *byte == OLD));
    }
    // A disk of a few sectors touches no more than those.
    fs::write(&device.name, vec![OLD; SIZE]).unwrap();
    put(device.path(), "small.vhd", &pattern(3, |_| false));
    run(device.path(), ["small.vhd", &device.name, "-O", "raw", "--force"]).succeeds();
    assert!(device.content()[..1536] == pattern(3, |_| false) && device.content()[1536..].iter().all(|b| *b == OLD));
    assert_eq!(names(device.path()), ["backing", "in.vhd", "small.vhd"]);
}

#[test]
fn images_of_one_file_are_written_to_devices_and_read_from_them() {
    let Some(device) = Loop::new() else { return };
    let guest = pattern(9000, |n| n % 700 < 300);
    put(device.path(), "in.vhd", &guest);
    for options in [&["-O", "vmdk"][..], &["-O", "vmdk", "-s", "stream"], &["-O", "vhd", "-s", "fixed"]] {
        fs::write(&device.name, vec![OLD; SIZE]).unwrap();
        let ran = run(device.path(), [&["in.vhd", &device.name, "--force"], options].concat());
        assert_eq!(ran.status, Some(0), "{}", ran.err);
        let written = device.content();
        match options {
            ["-O", "vhd", ..] => {
                assert!(written[..guest.len()] == guest && &written[guest.len()..][..8] == b"conectix")
            }
            ["-O", "vmdk"] => {
                // As a file it ends where it ends; the strict reader takes nothing behind.
                run(device.path(), ["in.vhd", "same.vmdk"]).succeeds();
                let len = fs::metadata(device.path().join("same.vmdk")).unwrap().len() as usize;
                fs::write(device.path().join("cut.vmdk"), &written[..len]).unwrap();
                assert!(vmdk::read(&device.path().join("cut.vmdk")).guest == guest);
            }
            _ => assert!(written.starts_with(b"KDMV")),
        }
        // And back, off the device itself.
        if options[1] == "vmdk" && options.len() == 2 {
            // What the device held behind the image is taken for leftovers of it, with a word.
            let back = run(device.path(), [&device.name, "back.raw"]);
            assert_eq!(back.status, Some(0), "{}", back.err);
            assert!(fs::read(device.path().join("back.raw")).unwrap() == guest);
        }
    }
    run(device.path(), ["in.vhd", &device.name, "-O", "vmdk", "-s", "flat", "--force"])
        .fails(2, &["a block device holds one file"]);
}

#[test]
fn r16_r27_a_device_that_is_too_small_mounted_or_the_input_is_refused_before_a_byte() {
    let Some(device) = Loop::new() else { return };
    put(device.path(), "big.vhd", &pattern(SIZE as u64 / 512 + 1, |_| true));
    run(device.path(), ["big.vhd", &device.name, "-O", "raw", "--force"])
        .fails(1, &["too small for the output", "found 16777216 bytes, expected at least 16777728"]);
    // The file that the device is made of, and the device itself.
    run(device.path(), ["-f", "raw", "backing", &device.name, "-O", "vmdk", "--force"])
        .fails(2, &["the output is the input"]);
    run(device.path(), [&device.name, &device.name, "-O", "vmdk", "--force"]).fails(2, &["the output is the input"]);
    assert!(device.content() == vec![OLD; SIZE]);
    // Mounted.
    assert!(Command::new("mkfs.ext4").args(["-q", &device.name]).status().unwrap().success());
    let there = device.path().join("mounted");
    fs::create_dir(&there).unwrap();
    if !Command::new("mount").arg(&device.name).arg(&there).status().unwrap().success() {
        return skipped("no right to mount");
    }
    put(device.path(), "in.vhd", &pattern(80, |_| false));
    let before = fs::read(device.path().join("backing")).unwrap();
    let ran = run(device.path(), ["in.vhd", &device.name, "-O", "raw", "--force"]);
    let after = fs::read(device.path().join("backing")).unwrap();
    assert!(Command::new("umount").arg(&there).status().unwrap().success());
    ran.fails(1, &["the device is mounted, or another program has it in use"]);
    assert!(before == after);
}

#[test]
fn r14_a_run_that_fails_leaves_no_disk_on_the_device_and_says_so() {
    let Some(device) = Loop::new() else { return };
    // An old disk with a partition table; the new one is damaged behind its first blocks.
    let mut image = Vhd::dynamic_of(&pattern(20_000, |_| false), 512 << 10).build();
    image[1536 + 4 * 12..][..4].copy_from_slice(&0x0077_7777u32.to_be_bytes());
    fs::write(device.path().join("bad.vhd"), image).unwrap();
    let ran = run(device.path(), ["bad.vhd", &device.name, "-O", "raw", "--force", "-j", "1"]);
    ran.fails(1, &["bad.vhd: at byte 1584", "holds no whole disk now"]);
    let content = device.content();
    assert!(content[..1 << 20].iter().all(|byte| *byte == 0), "neither the old table nor the new one");
    assert!(content[1 << 20..] != vec![OLD; SIZE][1 << 20..]);
    // Damage that is known before anything is written costs nothing.
    fs::write(&device.name, vec![OLD; SIZE]).unwrap();
    fs::write(device.path().join("none.vhd"), "nothing").unwrap();
    run(device.path(), ["none.vhd", &device.name, "-O", "raw", "--force"]).fails(1, &["none.vhd"]);
    assert!(device.content() == vec![OLD; SIZE]);
    // Interrupted: it says what became of the device.
    let mut fed = Command::new(env!("CARGO_BIN_EXE_vdconv"))
        .current_dir(device.path())
        .args(["-f", "raw", "--input-size", "16M", "-", &device.name, "-O", "raw", "--force"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut into = fed.stdin.take().unwrap();
    std::io::Write::write_all(&mut into, &vec![1; 8 << 20]).unwrap();
    let start = std::time::Instant::now();
    while device.content()[3 << 20] == OLD {
        assert!(start.elapsed().as_secs() < 20, "it never wrote anything");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(fed.id() as i32).unwrap(),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    let status = fed.wait().unwrap();
    drop(into);
    let err = Ran::from(fed.wait_with_output().unwrap()).err;
    assert_eq!(status.signal(), Some(15));
    assert!(err.contains("interrupted; the device holds no whole disk now"), "{err}");
    assert!(device.content()[..1 << 20].iter().all(|byte| *byte == 0));
}

#[test]
fn what_lies_behind_a_small_output_stays_whatever_its_kind_and_the_report_counts_it() {
    let Some(device) = Loop::new() else { return };
    put(device.path(), "in.vhd", &pattern(100, |_| false));
    for options in [
        &["-O", "vmdk"][..],
        &["-O", "vmdk", "-s", "stream"],
        &["-O", "vhd", "-s", "fixed"],
        &["-O", "vhd", "--block-size", "512K"],
    ] {
        fs::write(&device.name, vec![OLD; SIZE]).unwrap();
        let args = [&["in.vhd", &device.name, "--force", "--json"], options].concat();
        let ran = run(device.path(), args);
        assert_eq!(ran.status, Some(0), "{}", ran.err);
        let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        let len = report["output"]["file_size"].as_u64().unwrap() as usize;
        assert!(
            len >= 100 * 512 && len <= report["bytes_written"].as_u64().unwrap() as usize + (1 << 20),
            "{}",
            ran.out
        );
        let content = device.content();
        assert!(content[len..].iter().all(|byte| *byte == OLD), "{options:?}: behind {len} bytes");
        assert!(content[len - 512..len] != vec![OLD; 512]);
    }
}

#[test]
fn r16_storage_is_known_by_whatever_node_leads_to_it() {
    let Some(device) = Loop::new() else { return };
    let again = |options: &[&str]| {
        let mut command = Command::new("losetup");
        let made = command.current_dir(device.path()).args(["--find", "--show"]).args(options).output().unwrap();
        String::from_utf8(made.stdout).unwrap().trim().to_string()
    };
    let before = fs::read(device.path().join("backing")).unwrap();
    // The same file, a part of it, and a loop device over the loop device.
    for options in [&["backing"][..], &["--offset", "1048576", "backing"], &[device.name.as_str()]] {
        let other = again(options);
        for dry in [None, Some("--dry-run")] {
            let args = ["-f", "raw", other.as_str(), &device.name, "-O", "vmdk", "--force"];
            let ran = run(device.path(), args.into_iter().chain(dry));
            let back = ["-f", "raw", &device.name, other.as_str(), "-O", "vmdk", "--force"];
            let turned = run(device.path(), back.into_iter().chain(dry));
            if ran.status != Some(2) || turned.status != Some(2) {
                let _ = Command::new("losetup").args(["--detach", &other]).status();
            }
            ran.fails(2, &["the output is the input"]);
            turned.fails(2, &["the output is the input"]);
        }
        assert!(Command::new("losetup").args(["--detach", &other]).status().unwrap().success());
    }
    assert!(fs::read(device.path().join("backing")).unwrap() == before);
}

#[test]
fn a_fixed_vhd_is_known_by_its_last_sector_which_is_written_last_and_never_left_behind() {
    let Some(device) = Loop::new() else { return };
    let guest = pattern(SIZE as u64 / 512 - 1, |_| false);
    put(device.path(), "in.vhd", &guest);
    let args = ["in.vhd", device.name.as_str(), "-O", "vhd", "-s", "fixed", "--force", "-j", "1"];
    run(device.path(), args).succeeds();
    let whole = device.content();
    assert!(whole[..guest.len()] == guest && &whole[guest.len()..][..8] == b"conectix");
    // In front of it a shorter disk would be taken for that VHD.
    put(device.path(), "small.vhd", &pattern(100, |_| false));
    for dry in [None, Some("--dry-run")] {
        let args = ["small.vhd", &device.name, "-O", "raw", "--force"];
        run(device.path(), args.into_iter().chain(dry)).fails(1, &["last sector would stay", "the footer of a VHD"]);
    }
    assert!(device.content() == whole);
    // Killed at any write, it is the old one, untouched, or none.
    if !may_trace() {
        return;
    }
    for n in [1, 2, 3, 9, 16, 17, 18] {
        fs::write(&device.name, &whole).unwrap();
        let killed = format!("signal=KILL:when={n}");
        let ran = with_fault(device.path(), "pwrite64", &killed).args(args).output().unwrap();
        assert!(!ran.status.success(), "not killed at {n}");
        // The first write takes away what the old one is known by.
        let info = run(device.path(), ["info", &device.name, "--json"]);
        let known = info.status == Some(0) && info.out.contains("\"format\":\"vhd\"");
        assert_eq!(known, n == 1, "killed at {n}: {}", info.out);
        assert_eq!(device.content() == whole, n == 1);
    }
}
