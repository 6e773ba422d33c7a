//! `hash`, and `--digest` of a conversion: the digest of the raw disk, whatever kind it is kept in and whoever takes it.
//!
//! What is expected is the sha2 crate's digest of the bytes, which the program uses too, and for BLAKE3 the blake3 crate's of all bytes
//! in one; the tests at the end ask sha256sum.

mod common;

use std::fs;
use std::path::Path;

use common::kinds::sources;
use common::packed::Stream;
use common::vhd::Vhd;
use common::{Ran, fed, pattern, run, scratch, sha256, vdconv};
use serde_json::Value;

fn blake3(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_string()
}

#[track_caller]
fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {} {}", ran.out, ran.err))
}

#[test]
fn the_digest_is_that_of_the_raw_disk_for_every_kind_and_any_number_of_workers() {
    // A part of a window, whole windows, a cut last one; zero stretches of all sizes.
    for (sectors, zero) in [(1, 0..0), (700, 100..500), (2048, 0..0), (9001, 2000..7000), (9001, 0..9001)] {
        let guest = pattern(sectors, |n| n % 300 > 200 || zero.contains(&n));
        let folder = scratch();
        for kind in sources(folder.path(), &guest) {
            for (algorithm, want) in [("sha256", sha256(&guest)), ("blake3", blake3(&guest))] {
                for jobs in ["1", "2", "7"] {
                    let ran = run(folder.path(), ["hash", kind, "-j", jobs, "--algorithm", algorithm]).succeeds();
                    assert_eq!((ran.out, ran.err.as_str()), (format!("{want}  {kind}\n"), ""), "{sectors} -j {jobs}");
                }
            }
            assert_eq!(
                run(folder.path(), ["hash", kind, "-q"]).succeeds().out,
                format!("{}  {kind}\n", sha256(&guest))
            );
        }
    }
}

#[test]
fn what_cannot_be_had_has_no_digest() {
    let guest = pattern(3000, |n| n % 300 > 250);
    let folder = scratch();
    let mut vhd = Vhd::dynamic_of(&guest, 1 << 19).build();
    vhd[1540..1544].copy_from_slice(&0x00FF_FFFFu32.to_be_bytes());
    fs::write(folder.path().join("bat.vhd"), vhd).unwrap();
    for (name, text) in [("bat.vhd", "bat.vhd: at byte 1540"), ("no.vhd", "no.vhd")] {
        for algorithm in ["sha256", "blake3"] {
            for jobs in ["1", "2", "7"] {
                let ran = run(folder.path(), ["hash", name, "-j", jobs, "--algorithm", algorithm]).fails(1, &[text]);
                assert!(ran.out.is_empty() && !ran.err.contains("--salvage"), "{}", ran.err);
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn r24_r25_odd_names_are_hashed_and_a_closed_output_is_status_1() {
    use std::os::unix::ffi::OsStrExt;
    let folder = scratch();
    let guest = pattern(4, |_| false);
    let name = std::ffi::OsStr::from_bytes(b"a\xFF\x1b.raw");
    fs::write(folder.path().join(name), &guest).unwrap();
    // Into a pipe by its own bytes: a program reads it.
    let out = vdconv().current_dir(folder.path()).arg("hash").arg(name).output().unwrap().stdout;
    assert_eq!(out, [format!("{}  ", sha256(&guest)).as_bytes(), b"a\xFF\x1b.raw\n"].concat());
    let full = fs::File::create("/dev/full").unwrap();
    let mut command = vdconv();
    command.current_dir(folder.path()).arg("hash").arg(name).stdout(full).stderr(std::process::Stdio::piped());
    Ran::from(command.spawn().unwrap().wait_with_output().unwrap()).fails(1, &["standard output"]);
}

/// What a disk does not store is hashed and not read.
#[cfg(target_os = "linux")]
#[test]
fn holes_are_hashed_without_being_read() {
    use std::os::unix::fs::FileExt;
    let folder = scratch();
    let size = 300u64 << 20;
    let raw = fs::File::create(folder.path().join("a.raw")).unwrap();
    raw.set_len(size).unwrap();
    raw.write_all_at(&[0xA7; 8192], 150 << 20).unwrap();
    let mut guest = vec![0; size as usize];
    guest[150 << 20..][..8192].fill(0xA7);
    run(folder.path(), ["a.raw", "b.vhd", "--no-sync"]).succeeds();
    run(folder.path(), ["a.raw", "c.vmdk", "-s", "stream", "--no-sync"]).succeeds();
    for (algorithm, want) in [("sha256", sha256(&guest)), ("blake3", blake3(&guest))] {
        for name in ["a.raw", "b.vhd", "c.vmdk"] {
            let report = json(&run(folder.path(), ["hash", "--json", "--algorithm", algorithm, name]).succeeds());
            assert_eq!((&report["digest"]["value"], &report["virtual_size"]), (&want.as_str().into(), &size.into()));
            let (stored, read) = (report["stored"].as_u64().unwrap(), report["bytes_read"].as_u64().unwrap());
            // The data, or its grain; tables, and the ends that formats are recognised by.
            assert!((8192..=65_536).contains(&stored) && read < 2 << 20, "{name}: {report}");
        }
    }
}

/// The digest that a conversion told, as text and in its report, which say the same.
#[track_caller]
fn told(folder: &Path, args: &[&str]) -> String {
    let report = json(&run(folder, [args, &["--digest", "sha256", "--json", "--no-sync", "--force"]].concat()));
    assert_eq!(report["digest"]["algorithm"], "sha256", "{args:?}");
    let value = report["digest"]["value"].as_str().unwrap().to_string();
    let ran = run(folder, [args, &["--digest", "sha256", "--no-sync", "--force"]].concat());
    assert!(ran.err.lines().any(|line| line == format!("sha256 of the guest: {value}")), "{}", ran.err);
    assert!(ran.err.lines().last().unwrap().contains(" -> "), "{}", ran.err);
    value
}

#[test]
fn a_conversion_tells_the_digest_of_what_it_read_and_writes_the_same_bytes() {
    let guest = pattern(5003, |n| n > 0 && n % 300 > 200);
    let folder = scratch();
    let outputs: [(&str, &[&str]); 7] = [
        ("o.raw", &[]),
        ("o.vmdk", &[]),
        ("o.vmdk", &["-s", "flat"]),
        ("o.vmdk", &["-s", "stream"]),
        ("o.vmdk", &["-s", "twoGbMaxExtentSparse"]),
        ("o.vhd", &[]),
        ("o.vhd", &["-s", "fixed"]),
    ];
    for kind in sources(folder.path(), &guest) {
        for (output, options) in outputs {
            for jobs in ["1", "2", "7"] {
                let args = [&[kind, output, "-j", jobs], options].concat();
                assert_eq!(told(folder.path(), &args), sha256(&guest), "{args:?}");
            }
            let bytes = |digest: &[&str]| {
                let mut command = vdconv();
                command.current_dir(folder.path()).env("SOURCE_DATE_EPOCH", "1700000000").args([kind, output]);
                Ran::of(command.args(options).args(digest).args(["--no-sync", "--force"])).succeeds();
                fs::read(folder.path().join(output)).unwrap()
            };
            assert!(bytes(&[]) == bytes(&["--digest", "sha256"]), "{kind} {output} {options:?}");
        }
        assert_eq!(json(&run(folder.path(), [kind, "o.raw", "--json", "--force"]))["digest"], Value::Null);
    }
}

#[test]
fn the_digest_is_that_of_the_disk_as_it_was_grown() {
    let mut guest = pattern(3000, |_| false);
    let folder = scratch();
    fs::write(folder.path().join("a.raw"), &guest).unwrap();
    guest.resize(4 << 20, 0);
    assert_eq!(told(folder.path(), &["a.raw", "o.vhd", "--align", "4M"]), sha256(&guest));
    assert_eq!(run(folder.path(), ["hash", "o.vhd"]).succeeds().out, format!("{}  o.vhd\n", sha256(&guest)));
}

#[test]
fn the_digest_of_a_delta_is_that_of_the_whole_guest() {
    let base = pattern(5000, |n| n % 700 > 400);
    let mut guest = base.clone();
    guest[600 * 512..900 * 512].fill(0x3D);
    guest[2000 * 512..2100 * 512].fill(0);
    let folder = scratch();
    fs::write(folder.path().join("base.vhd"), Vhd::dynamic_of(&base, 1 << 19).build()).unwrap();
    fs::write(folder.path().join("a.raw"), &guest).unwrap();
    assert_eq!(told(folder.path(), &["a.raw", "o.vhd", "--base", "base.vhd"]), sha256(&guest));
    assert_eq!(run(folder.path(), ["hash", "o.vhd"]).succeeds().out, format!("{}  o.vhd\n", sha256(&guest)));
    run(folder.path(), ["compare", "o.vhd", "a.raw"]).succeeds();
}

#[test]
fn what_was_salvaged_is_zero_in_the_digest_too() {
    let mut guest = pattern(4000, |n| n % 300 > 250);
    let folder = scratch();
    let mut vhd = Vhd::dynamic_of(&guest, 1 << 19).build();
    vhd[1540..1544].copy_from_slice(&0x00FF_FFFFu32.to_be_bytes());
    fs::write(folder.path().join("a.vhd"), vhd).unwrap();
    guest[1 << 19..1 << 20].fill(0);
    for output in ["o.raw", "o.vmdk", "o.vhd"] {
        for jobs in ["1", "2", "7"] {
            assert_eq!(told(folder.path(), &["a.vhd", output, "--salvage", "-j", jobs]), sha256(&guest));
        }
        assert_eq!(run(folder.path(), ["hash", output]).succeeds().out, format!("{}  {output}\n", sha256(&guest)));
    }
}

#[test]
fn a_stream_has_its_digest_whether_its_length_was_known_or_not() {
    let guest = pattern(5003, |n| n > 0 && n % 300 > 200);
    let folder = scratch();
    let want = format!("sha256 of the guest: {}", sha256(&guest));
    let stream = Stream::of(&guest).build();
    // An odd end is filled up to a sector, in the digest as in the output.
    let (odd, mut filled) = (&guest[..guest.len() - 100], guest.clone());
    let cut = filled.len() - 100;
    filled[cut..].fill(0);
    let want_filled = format!("sha256 of the guest: {}", sha256(&filled));
    let fixed = Vhd::fixed_of(&guest).build();
    let len = guest.len().to_string();
    let cases: [(&[&str], &[u8], &str); 5] = [
        (&["-", "o.vhd"], &stream, &want),
        (&["-", "o.raw", "-f", "raw"], &guest, &want),
        (&["-", "o.vmdk", "--input-size", &len], &guest, &want),
        (&["-", "o.raw", "-f", "raw"], &fixed, &want),
        (&["-", "o.raw", "-f", "raw"], odd, &want_filled),
    ];
    for (args, bytes, want) in cases {
        for jobs in ["1", "2", "7"] {
            let args = [args, &["--digest", "sha256", "--force", "--no-sync", "-j", jobs]].concat();
            let ran = fed(folder.path(), &args, bytes);
            assert_eq!(ran.status, Some(0), "{args:?}: {}", ran.err);
            assert!(ran.err.lines().any(|line| line == want), "{args:?}: {}", ran.err);
        }
    }
    // Into a pipe: the report is on stderr, the disk on stdout.
    let mut command = vdconv();
    command.current_dir(folder.path()).args(["-", "-", "-f", "raw", "-O", "raw", "--digest", "sha256"]);
    let end = common::fed_to(command, &guest);
    assert!(end.status.success() && end.stdout == guest);
    assert!(String::from_utf8_lossy(&end.stderr).lines().any(|line| line == want));
}

#[test]
fn a_digest_that_was_asked_for_is_told_by_a_quiet_conversion_too() {
    let folder = scratch();
    let guest = pattern(700, |_| false);
    fs::write(folder.path().join("a.raw"), &guest).unwrap();
    let args = ["a.raw", "o.vhd", "--digest", "sha256", "--force", "-q"];
    let ran = run(folder.path(), args).succeeds();
    assert_eq!((ran.out.as_str(), ran.err), ("", format!("sha256 of the guest: {}\n", sha256(&guest))));
    // Where the report has it, stderr stays empty.
    let ran = run(folder.path(), [&args[..], &["--json"]].concat()).succeeds();
    assert_eq!((json(&ran)["digest"]["value"].as_str(), ran.err.as_str()), (Some(sha256(&guest).as_str()), ""));
}

#[test]
fn a_raw_file_of_no_whole_sectors_is_not_hashed_in_silence() {
    let folder = scratch();
    let mut guest = pattern(7, |_| false);
    guest.truncate(6 * 512 + 304);
    fs::write(folder.path().join("a.raw"), &guest).unwrap();
    guest.resize(7 * 512, 0);
    for quiet in [&[][..], &["-q"]] {
        let ran = run(folder.path(), [&["hash", "a.raw"], quiet].concat());
        let ran = ran.warns(&["a.raw", "no whole number of sectors", "208 zeroes are added"]);
        assert_eq!(ran.out, format!("{}  a.raw\n", sha256(&guest)));
    }
    fs::write(folder.path().join("a.raw"), &guest).unwrap();
    assert_eq!(run(folder.path(), ["hash", "a.raw", "-q"]).succeeds().err, "");
}

/// R10, R12: each worker holds pieces of the disk.
#[cfg(target_os = "linux")]
#[test]
fn r10_no_more_workers_are_started_than_there_is_memory_for() {
    use common::process::measured;
    let folder = scratch();
    let guest = common::noise(160 << 20);
    fs::write(folder.path().join("a.raw"), &guest).unwrap();
    let line = format!("{}  a.raw\n", sha256(&guest));
    for args in [
        &["hash", "a.raw"][..],
        &["compare", "a.raw", "a.raw"],
        &["a.raw", "/dev/null", "-O", "vmdk", "-s", "stream", "--fast"],
    ] {
        let mut command = vdconv();
        command.current_dir(folder.path()).args(args).args(["-j", "256"]).stdout(std::process::Stdio::null());
        let (status, mib, _) = measured(&mut command);
        assert!(status.success() && mib < 128, "{args:?}: {mib} MiB");
    }
    let ran = run(folder.path(), ["hash", "a.raw", "-j", "256", "-v"]).succeeds();
    assert_eq!(ran.out, line);
    assert!(ran.err.contains("vdconv: 24 workers, not 256: "), "{}", ran.err);
    let report = json(&run(folder.path(), ["hash", "a.raw", "-j", "256", "--json"]).succeeds());
    assert_eq!(report["jobs"], 24);
    // Where the system allows little address space, of which each thread reserves some.
    for limit in [200_000, 262_144, 1 << 20] {
        let script = format!("ulimit -v {limit} && exec \"$0\" hash a.raw -j 64");
        let mut command = std::process::Command::new("sh");
        command.current_dir(folder.path()).args(["-c", &script]).arg(vdconv().get_program());
        let ran = Ran::of(&mut command).succeeds();
        assert_eq!((ran.out, ran.err.as_str()), (line.clone(), ""), "{limit}");
    }
}

/// As another program tells it.
#[cfg(unix)]
#[test]
fn sha256sum_tells_the_same_and_checks_our_line() {
    if !common::has_program("sha256sum") {
        return;
    }
    let folder = scratch();
    fs::write(folder.path().join("a.raw"), pattern(7001, |n| n % 900 > 300)).unwrap();
    let ours = run(folder.path(), ["hash", "a.raw"]).succeeds().out;
    assert_eq!(ours, Ran::of(std::process::Command::new("sha256sum").current_dir(folder.path()).arg("a.raw")).out);
    fs::write(folder.path().join("sums"), ours).unwrap();
    assert_eq!(
        Ran::of(std::process::Command::new("sha256sum").current_dir(folder.path()).args(["-c", "sums"])).out,
        "a.raw: OK\n"
    );
    // Names that a line cannot hold as they are, that a terminal should not see, and that are no text.
    use std::os::unix::ffi::OsStrExt;
    for name in [&b"a\nb.raw"[..], b"a\rb.raw", b"a\\b.raw", b"a\x1b[31m\xE2\x80\xAE\xC2\xAD.raw", b"\xFF\xFE.raw"] {
        let name = std::ffi::OsStr::from_bytes(name);
        fs::write(folder.path().join(name), pattern(9, |_| false)).unwrap();
        let line =
            |command: &mut std::process::Command| command.current_dir(folder.path()).arg(name).output().unwrap().stdout;
        let ours = line(vdconv().arg("hash"));
        assert_eq!(ours, line(&mut std::process::Command::new("sha256sum")), "{name:?}");
        fs::write(folder.path().join("sums"), ours).unwrap();
        Ran::of(std::process::Command::new("sha256sum").current_dir(folder.path()).args(["-c", "sums"])).succeeds();
    }
}
