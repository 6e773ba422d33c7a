//! A final name never holds a partial file, and after any end nothing is left that was not asked for.

mod common;

use std::fs;

use common::vhd::Vhd;
use common::{names, pattern, run, scratch, vmdk};
use tempfile::TempDir;

const KINDS: [&str; 2] = ["monolithicSparse", "monolithicFlat"];

/// A folder with `in.vhd`, 8 sectors that carry their numbers.
fn with_source() -> TempDir {
    let folder = scratch();
    fs::write(folder.path().join("in.vhd"), Vhd::dynamic_of(&pattern(8, |_| false), 4096).build()).unwrap();
    folder
}

/// A folder with `bad.vhd`, whose second block lies outside the file.
fn with_damaged_source() -> TempDir {
    let folder = scratch();
    let mut image = Vhd::dynamic_of(&pattern(16, |_| false), 4096).build();
    image[1540..1544].copy_from_slice(&0x0077_7777u32.to_be_bytes());
    fs::write(folder.path().join("bad.vhd"), image).unwrap();
    folder
}

fn files_of(kind: &str) -> Vec<&'static str> {
    if kind == "monolithicFlat" { vec!["o-flat.vmdk", "o.vmdk"] } else { vec!["o.vmdk"] }
}

#[test]
fn r15_an_existing_output_is_refused_and_each_file_of_a_set_counts() {
    for kind in KINDS {
        for existing in files_of(kind) {
            let folder = with_source();
            fs::write(folder.path().join(existing), "precious").unwrap();
            run(folder.path(), ["in.vhd", "o.vmdk", "-s", kind]).fails(1, &[existing, "exists", "hint: --force"]);
            assert_eq!(fs::read(folder.path().join(existing)).unwrap(), b"precious");
            assert_eq!(names(folder.path()), ["in.vhd", existing]);
        }
    }
}

#[test]
fn r15_force_replaces_each_file_of_the_set() {
    for kind in KINDS {
        let folder = with_source();
        for existing in files_of(kind) {
            fs::write(folder.path().join(existing), "old").unwrap();
        }
        run(folder.path(), ["in.vhd", "o.vmdk", "-s", kind, "--force"]).succeeds();
        assert!(vmdk::read(&folder.path().join("o.vmdk")).guest == pattern(8, |_| false));
        assert_eq!(names(folder.path()), [vec!["in.vhd"], files_of(kind)].concat());
    }
}

#[test]
fn r15_under_force_the_old_output_is_untouched_when_the_new_one_fails() {
    for kind in KINDS {
        let folder = with_damaged_source();
        for existing in files_of(kind) {
            fs::write(folder.path().join(existing), existing).unwrap();
        }
        run(folder.path(), ["bad.vhd", "o.vmdk", "-s", kind, "--force"]).fails(1, &["at byte 1540"]);
        for existing in files_of(kind) {
            assert_eq!(fs::read(folder.path().join(existing)).unwrap(), existing.as_bytes());
        }
        assert_eq!(names(folder.path()), [vec!["bad.vhd"], files_of(kind)].concat());
    }
}

#[test]
fn r17_after_an_error_no_file_is_left() {
    for output in ["o.vmdk", "o.raw"] {
        let folder = with_damaged_source();
        run(folder.path(), ["bad.vhd", output]).fails(1, &["bad.vhd: at byte 1540"]);
        assert_eq!(names(folder.path()), ["bad.vhd"]);
    }
}

#[test]
fn r16_the_input_is_never_the_output_by_whatever_name() {
    let folder = scratch();
    let image = Vhd::fixed_of(&pattern(8, |_| false)).build();
    fs::write(folder.path().join("a-flat.vmdk"), &image).unwrap();
    fs::hard_link(folder.path().join("a-flat.vmdk"), folder.path().join("hard.raw")).unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("a-flat.vmdk", folder.path().join("link.raw")).unwrap();
    let cases = [
        vec!["a-flat.vmdk", "hard.raw"],
        vec!["a-flat.vmdk", "sub/../a-flat.vmdk"],
        vec!["a-flat.vmdk", "a.vmdk", "-s", "flat"],
        vec!["hard.raw", "a-flat.vmdk"],
        vec!["a-flat.vmdk", "link.raw"],
        vec!["link.raw", "a-flat.vmdk"],
    ];
    let cases = &cases[..if cfg!(unix) { 6 } else { 4 }];
    let before = names(folder.path());
    for case in cases {
        for force in [None, Some("--force")] {
            let ran = run(folder.path(), case.iter().copied().chain(force));
            ran.fails(2, &["the output is the input"]);
            assert_eq!(fs::read(folder.path().join("a-flat.vmdk")).unwrap(), image);
            assert_eq!(names(folder.path()), before);
        }
    }
}

#[test]
fn a_missing_folder_and_a_name_that_is_a_folders_are_told() {
    let folder = with_source();
    run(folder.path(), ["in.vhd", "no/such/o.vmdk"]).fails(1, &["no/such", "folder"]);
    run(folder.path(), ["in.vhd", "sub/", "-O", "raw"]).fails(1, &["sub/", "folder"]);
    run(folder.path(), ["in.vhd", "o.vmdk/."]).fails(1, &["o.vmdk/.", "folder"]);
    run(folder.path(), ["in.vhd", "..", "-O", "raw"]).fails(1, &["folder"]);
    run(folder.path(), ["in.vhd", "in.vhd/o.vmdk"]).fails(1, &["in.vhd"]);
    assert_eq!(names(folder.path()), ["in.vhd"]);
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use rustix::process::{Signal, kill_process};

    use super::common::process::{end, stopped_in_the_middle};
    use super::common::{Ran, fixture, vdconv};
    use super::*;

    /// Runs a script with the program as `$V`.
    fn sh(folder: &Path, script: &str) -> Ran {
        Ran::of(Command::new("sh").current_dir(folder).arg("-c").arg(script).env("V", env!("CARGO_BIN_EXE_vdconv")))
    }

    fn fifo(path: &Path) {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[test]
    fn r27_an_output_that_is_no_regular_file_is_refused_by_name_where_it_cannot_be_written_in_order() {
        let folder = with_source();
        fifo(&folder.path().join("pipe.vmdk"));
        fs::create_dir(folder.path().join("folder.vmdk")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket.vmdk")).unwrap();
        symlink("/dev/null", folder.path().join("null.vmdk")).unwrap();
        let before = names(folder.path());
        for (name, status, what) in [
            ("pipe", 2, "a named pipe cannot seek"),
            ("folder", 1, "a folder"),
            ("socket", 1, "a socket"),
            ("null", 2, "a character device cannot seek"),
        ] {
            for force in [None, Some("--force")] {
                let output = format!("{name}.vmdk");
                run(folder.path(), ["in.vhd", &output].into_iter().chain(force)).fails(status, &[what]);
            }
        }
        // A piece of a set counts too.
        fs::rename(folder.path().join("pipe.vmdk"), folder.path().join("o-flat.vmdk")).unwrap();
        run(folder.path(), ["in.vhd", "o.vmdk", "-s", "flat", "--force"]).fails(1, &["o-flat.vmdk", "a named pipe"]);
        fs::rename(folder.path().join("o-flat.vmdk"), folder.path().join("pipe.vmdk")).unwrap();
        assert_eq!(names(folder.path()), before);
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }

    #[test]
    fn r3_what_is_no_file_is_refused_as_input_and_never_waited_for() {
        let folder = scratch();
        fifo(&folder.path().join("pipe.vhd"));
        fs::create_dir(folder.path().join("folder.vhd")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket.vhd")).unwrap();
        let start = Instant::now();
        for (name, what) in [
            ("pipe.vhd", "a named pipe"),
            ("folder.vhd", "a folder"),
            ("socket.vhd", "a socket"),
            ("/dev/null", "a character device"),
        ] {
            run(folder.path(), [name, "o.vmdk"]).fails(1, &[name, what]);
            run(folder.path(), ["info", name]).fails(1, &[name, what]);
        }
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_link_as_output_stays_and_its_target_is_replaced() {
        let folder = with_source();
        fs::create_dir(folder.path().join("sub")).unwrap();
        symlink("sub/real.vmdk", folder.path().join("link.vmdk")).unwrap();
        // It leads nowhere yet: the target is made.
        run(folder.path(), ["in.vhd", "link.vmdk"]).succeeds();
        assert!(fs::symlink_metadata(folder.path().join("link.vmdk")).unwrap().is_symlink());
        assert!(vmdk::read(&folder.path().join("sub/real.vmdk")).guest == pattern(8, |_| false));
        run(folder.path(), ["in.vhd", "link.vmdk"]).fails(1, &["exists"]);
        fs::write(folder.path().join("sub/real.vmdk"), "old").unwrap();
        run(folder.path(), ["in.vhd", "link.vmdk", "--force"]).succeeds();
        assert!(fs::symlink_metadata(folder.path().join("link.vmdk")).unwrap().is_symlink());
        assert!(vmdk::read(&folder.path().join("sub/real.vmdk")).descriptor.contains("SPARSE \"real.vmdk\""));
        symlink("nothing/", folder.path().join("dangling.vmdk")).unwrap();
        run(folder.path(), ["in.vhd", "dangling.vmdk"]).fails(1, &["dangling.vmdk", "the name of a folder"]);
        symlink("loop.vmdk", folder.path().join("loop.vmdk")).unwrap();
        run(folder.path(), ["in.vhd", "loop.vmdk"]).fails(1, &["loop.vmdk"]);
    }

    #[test]
    fn r22_permissions_follow_the_umask() {
        for (umask, mode) in [("022", 0o644), ("077", 0o600), ("002", 0o664)] {
            let folder = with_source();
            sh(folder.path(), &format!("umask {umask}; $V in.vhd o.vmdk -s flat")).succeeds();
            for name in ["o.vmdk", "o-flat.vmdk"] {
                assert_eq!(fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777, mode);
            }
        }
    }

    #[test]
    fn r19_a_size_limit_is_an_error_with_the_systems_reason() {
        for (output, option) in [("o.vmdk", ""), ("o.vmdk", "-s flat"), ("o.raw", "")] {
            let folder = with_source();
            let guest = pattern(20_000, |_| false);
            fs::write(folder.path().join("in.vhd"), Vhd::fixed_of(&guest).build()).unwrap();
            fs::write(folder.path().join(output), "old").unwrap();
            // 4000 blocks of 512 bytes (or 1 KiB, as the shell has it): less than the data needs.
            let ran = sh(folder.path(), &format!("ulimit -f 4000; $V in.vhd {output} {option} --force"));
            ran.fails(1, &["File too large", "vdconv: o"]);
            assert_eq!(fs::read(folder.path().join(output)).unwrap(), b"old");
            assert_eq!(names(folder.path()), ["in.vhd", output]);
        }
    }

    #[test]
    fn r19_a_folder_that_takes_no_file_is_an_error_with_the_systems_reason() {
        let folder = with_source();
        run(folder.path(), ["in.vhd", "/sys/o.vmdk"]).fails(1, &["/sys/o.vmdk", "cannot make a file"]);
    }

    #[test]
    fn r19_a_full_disk_is_an_error_and_leaves_nothing() {
        let folder = with_source();
        let guest = pattern(40_000, |_| false);
        fs::write(folder.path().join("in.vhd"), Vhd::fixed_of(&guest).build()).unwrap();
        let small = folder.path().join("small");
        fs::create_dir(&small).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(&small)
            .stderr(Stdio::null())
            .status();
        if !mount.is_ok_and(|status| status.success()) {
            return super::common::skipped("no right to mount a small disk");
        }
        let ran: Vec<_> =
            ["small/o.vmdk", "small/o.raw"].map(|o| run(folder.path(), ["in.vhd", o])).into_iter().collect();
        let left = names(&small);
        assert!(Command::new("umount").arg(&small).status().unwrap().success());
        for ran in ran {
            ran.fails(1, &["No space left on device", "small/o.", "warning: ", "free"]);
        }
        assert_eq!(left, Vec::<String>::new());
    }

    #[test]
    fn r24_few_handles_closed_streams_and_no_terminal_are_enough() {
        for script in [
            "ulimit -n 20; $V in.vhd o.vmdk",
            "$V in.vhd o.vmdk <&-",
            "$V in.vhd o.vmdk >&-",
            "$V in.vhd o.vmdk 2>&-",
            "$V in.vhd o.vmdk <&- >&- 2>&-",
            "$V --json in.vhd o.vmdk 2>/dev/full",
        ] {
            let folder = with_source();
            let ran = sh(folder.path(), script);
            assert_eq!(ran.status, Some(0), "{script}: {}", ran.err);
            assert!(vmdk::read(&folder.path().join("o.vmdk")).guest == pattern(8, |_| false));
        }
        let folder = with_source();
        for script in ["$V info in.vhd in.vhd | true", "$V --help | true", "$V info --json in.vhd | true"] {
            assert!(!sh(folder.path(), script).err.contains("panic"));
        }
        // What the system reaches through a descriptor is no name to give a file.
        sh(folder.path(), "$V in.vhd x.raw -q; $V in.vhd /dev/stdout -O raw -q | cmp - x.raw && rm x.raw").succeeds();
        // Standard output is written to, by whatever name; a file that it leads to is not exchanged for another.
        let script =
            "echo kept > log; $V in.vhd /dev/stdout -O raw -q --force >> log; head -c 5 log; wc -c < log; rm log";
        assert_eq!(sh(folder.path(), script).succeeds().out.split_whitespace().collect::<Vec<_>>(), ["kept", "4101"]);
        // A closed one loses nothing silently, and one that leads into the source is refused before a byte is written.
        sh(folder.path(), "$V in.vhd - -O raw >&-").fails(1, &["standard output", "Bad file descriptor"]);
        let before = fs::read(folder.path().join("in.vhd")).unwrap();
        for redirection in ["1<>in.vhd", ">>in.vhd"] {
            sh(folder.path(), &format!("$V in.vhd - -O raw {redirection}")).fails(2, &["standard output is the input"]);
        }
        assert!(fs::read(folder.path().join("in.vhd")).unwrap() == before);
        assert_eq!(names(folder.path()), ["in.vhd"]);
        let ran = sh(folder.path(), "$V in.vhd o.vmdk --json >/dev/full")
            .fails(1, &["standard output", "the output is complete"]);
        assert_eq!(ran.err.matches("vdconv: ").count(), 1, "{}", ran.err);
        sh(folder.path(), "$V info in.vhd >/dev/full").fails(1, &["standard output"]);
        sh(folder.path(), "$V info --json in.vhd >/dev/full").fails(1, &["standard output"]);
    }

    #[test]
    fn r25_odd_names_work_or_are_refused_before_a_byte_is_written() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let long = "x".repeat(250) + ".vmdk";
        for name in [
            b"-dash.vmdk".as_slice(),
            b"n\xFFon\xC3.vmdk",
            b"q\"uote.vmdk",
            b"new\nline.vmdk",
            "d\u{fc}sk \u{65e5}.vmdk".as_bytes(),
            long.as_bytes(),
        ] {
            let folder = with_source();
            let name = OsStr::from_bytes(name);
            let source = fs::read(folder.path().join("in.vhd")).unwrap();
            // As an output, and as an input of the same odd name in another folder.
            run(folder.path(), [OsStr::new("--"), OsStr::new("in.vhd"), name]).succeeds();
            assert!(vmdk::read(&folder.path().join(name)).guest == pattern(8, |_| false));
            fs::write(folder.path().join(name), source).unwrap();
            run(folder.path(), ["-O", "raw", "--"].map(OsStr::new).into_iter().chain([name, OsStr::new("o.raw")]))
                .succeeds();

            let folder = with_source();
            let ran = run(folder.path(), ["-s", "flat", "--", "in.vhd"].map(OsStr::new).into_iter().chain([name]));
            match name.to_str().is_some_and(|n| !n.contains(['"', '\n'])) {
                true if name.len() < 250 => {
                    ran.succeeds();
                    assert!(vmdk::read(&folder.path().join(name)).guest == pattern(8, |_| false));
                }
                // Its second file's name would be longer than a name can be: the system's word.
                true => drop(ran.fails(1, &["File name too long"])),
                false => drop(ran.fails(2, &["a descriptor cannot hold this name", "hint: "])),
            }
            assert!(!names(folder.path()).iter().any(|n| n.starts_with(".vdconv-")));
        }
    }

    /// A source that takes a moment: 96 MiB of data.
    fn with_big_source() -> TempDir {
        let folder = scratch();
        let mut guest = vec![0x42; 96 << 20];
        guest[5] = 1;
        fs::write(folder.path().join("in.vhd"), Vhd::fixed_of(&guest).build()).unwrap();
        folder
    }

    #[test]
    fn r14_while_it_runs_only_a_temporary_name_is_there() {
        let folder = with_big_source();
        let (child, pid) = stopped_in_the_middle(
            vdconv().current_dir(folder.path()).args(["in.vhd", "o.vmdk", "-s", "flat"]),
            folder.path(),
        );
        let there = names(folder.path());
        let temporary = |name: &&String| name.starts_with(".vdconv-") && !name.ends_with(".list");
        let header: Vec<PathBuf> = there.iter().filter(temporary).map(|n| folder.path().join(n)).collect();
        // The source, the list, and a file each for the data and the descriptor.
        assert_eq!((there.len(), header.len()), (4, 2), "{there:?}");
        // The descriptor is a seal: it stays empty until the data is there.
        assert!(header.iter().any(|f| fs::metadata(f).unwrap().len() == 0));
        assert!(end(child, pid).0.success());
        assert_eq!(names(folder.path()), ["in.vhd", "o-flat.vmdk", "o.vmdk"]);
    }

    #[test]
    fn peers_15_what_a_kill_leaves_bears_no_final_name_and_is_no_image() {
        for kind in KINDS {
            let folder = with_big_source();
            let mut command = vdconv();
            command.current_dir(folder.path()).args(["in.vhd", "o.vmdk", "-s", kind]);
            let (child, pid) = stopped_in_the_middle(&mut command, folder.path());
            kill_process(pid, Signal::KILL).unwrap();
            assert_eq!(end(child, pid).0.signal(), Some(9));
            for name in names(folder.path()).iter().filter(|name| *name != "in.vhd") {
                assert!(name.starts_with(".vdconv-"), "{name}");
                if name.ends_with(".list") {
                    continue;
                }
                let head = fs::read(folder.path().join(name)).unwrap();
                assert!(!head.starts_with(b"KDMV") && !head.starts_with(b"# Disk"), "{name} can be taken for an image");
            }
        }
    }

    #[test]
    fn r17_signals_leave_nothing_and_end_the_program_as_they_would_have() {
        for (signal, number) in [(Signal::INT, 2), (Signal::TERM, 15), (Signal::HUP, 1)] {
            for kind in KINDS {
                let folder = with_big_source();
                fs::write(folder.path().join("o.vmdk"), "old").unwrap();
                let mut command = vdconv();
                command.current_dir(folder.path()).args(["in.vhd", "o.vmdk", "-s", kind, "--force"]);
                let (child, pid) = stopped_in_the_middle(&mut command, folder.path());
                kill_process(pid, signal).unwrap();
                let (status, err) = end(child, pid);
                assert_eq!(status.signal(), Some(number), "{err}");
                assert!(err.starts_with("vdconv: interrupted"), "{err}");
                assert_eq!(names(folder.path()), ["in.vhd", "o.vmdk"]);
                assert_eq!(fs::read(folder.path().join("o.vmdk")).unwrap(), b"old");
            }
        }
    }

    #[test]
    fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
        let folder = with_big_source();
        let mut command = Command::new("sh");
        command.current_dir(folder.path()).args([
            "-c",
            "trap '' HUP; exec \"$0\" in.vhd o.vmdk",
            env!("CARGO_BIN_EXE_vdconv"),
        ]);
        let (child, pid) = stopped_in_the_middle(command.arg0("sh"), folder.path());
        kill_process(pid, Signal::HUP).unwrap();
        assert!(end(child, pid).0.success());
        assert_eq!(names(folder.path()), ["in.vhd", "o.vmdk"]);
    }

    #[test]
    fn workers_that_cannot_be_started_are_done_without() {
        let folder = with_source();
        // As a user who may have one thread. Where the test may not become one, it has nothing to show.
        let script = "chmod 777 . && setpriv --reuid=65533 --regid=65533 --clear-groups prlimit --nproc=1 $V -j 64 in.vhd o.vmdk";
        let ran = sh(folder.path(), script);
        if ran.err.contains("setpriv") {
            return super::common::skipped("no right to become another user");
        }
        ran.succeeds();
        assert!(vmdk::read(&folder.path().join("o.vmdk")).guest == pattern(8, |_| false));
    }

    #[test]
    fn r4_a_source_that_changes_while_it_is_read_is_an_error() {
        for change in ["touch", "append", "cut early", "cut late"] {
            let folder = with_big_source();
            let source = folder.path().join("in.vhd");
            let (child, pid) =
                stopped_in_the_middle(vdconv().current_dir(folder.path()).args(["in.vhd", "o.vmdk"]), folder.path());
            let file = fs::OpenOptions::new().append(true).open(&source).unwrap();
            match change {
                "touch" => file.set_modified(std::time::SystemTime::now() + Duration::from_secs(5)).unwrap(),
                "append" => file.set_len((96 << 20) + 4096).unwrap(),
                "cut early" => file.set_len(1 << 20).unwrap(),
                _ => file.set_len(90 << 20).unwrap(),
            }
            let (status, err) = end(child, pid);
            assert_eq!(status.code(), Some(1), "{change}: {err}");
            assert!(err.contains("in.vhd: ") && err.contains("while it was read"), "{change}: {err}");
            assert_eq!(names(folder.path()), ["in.vhd"]);
        }
    }

    #[test]
    fn a_read_only_source_in_a_read_only_folder_is_read() {
        let folder = scratch();
        let source = folder.path().join("ro");
        fs::create_dir(&source).unwrap();
        fs::copy(fixture("vhd/ext2-dynamic.vhd"), source.join("a.vhd")).unwrap();
        fs::set_permissions(source.join("a.vhd"), fs::Permissions::from_mode(0o444)).unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o555)).unwrap();
        run(folder.path(), ["ro/a.vhd", "o.vmdk"]).succeeds();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(names(&source), ["a.vhd"]);
    }
}
