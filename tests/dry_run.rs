//! `--dry-run`: all that can be known before the first byte, and nothing written.

mod common;

use std::fs;
use std::path::Path;

use common::vhd::Vhd;
use common::{Ran, names, noise, pattern, run, scratch, sha256};
use serde_json::Value;
use tempfile::TempDir;

/// Everything that can be written: OUTPUT and options.
const OUTPUTS: [(&str, &[&str]); 13] = [
    ("o.raw", &[]),
    ("o.raw", &["--preallocate"]),
    ("o.vhd", &[]),
    ("o.vhd", &["-s", "fixed"]),
    ("o.vhd", &["--block-size", "512K", "--contiguous"]),
    ("o.vmdk", &[]),
    ("o.vmdk", &["--block-size", "8K"]),
    ("o.vmdk", &["-s", "flat"]),
    ("o.vmdk", &["-s", "twoGbMaxExtentSparse"]),
    ("o.vmdk", &["-s", "twoGbMaxExtentFlat"]),
    ("o.vmdk", &["-s", "stream"]),
    ("o.vmdk", &["-s", "vmfs"]),
    ("o.vmdk", &["-s", "vmfsThin"]),
];

fn with_source(guest: &[u8]) -> TempDir {
    let folder = scratch();
    fs::write(folder.path().join("in.vhd"), Vhd::dynamic_of(guest, 512 << 10).build()).unwrap();
    folder
}

fn dry(folder: &Path, args: &[&str]) -> (Ran, Value) {
    let before = names(folder);
    let ran = run(folder, [args, &["--dry-run", "--json"]].concat());
    assert_eq!(names(folder), before, "a dry run writes nothing");
    let report = serde_json::from_str(&ran.out).unwrap();
    (ran, report)
}

#[test]
fn what_is_told_is_what_is_written_at_most() {
    let full = noise(5 << 20);
    let mut half = full.clone();
    half[1 << 20..4 << 20].fill(0);
    for guest in [full, half, pattern(77, |n| n % 2 == 0)] {
        let folder = with_source(&guest);
        for (output, options) in OUTPUTS {
            let args = [&["in.vhd", output], options].concat();
            let (ran, report) = dry(folder.path(), &args);
            assert_eq!(ran.status, Some(0), "{}", ran.err);
            let files = report["files"].as_array().unwrap();
            run(folder.path(), args).succeeds();
            assert_eq!(names(folder.path()).len(), 1 + files.len(), "{output} {options:?}");
            for file in files {
                let path = folder.path().join(file["file"].as_str().unwrap());
                let (is, most) = (fs::metadata(&path).unwrap().len(), file["size_at_most"].as_u64().unwrap());
                assert!(is <= most, "{path:?} {options:?}: {is} bytes, and {most} were told");
                // What cannot be deflated, and blocks that hold data, are told exactly; a descriptor always is.
                let stream = options.contains(&"stream");
                let exact = guest.len() == 5 << 20 && sha256(&guest) == sha256(&noise(5 << 20));
                assert!(is == most || stream || !exact, "{path:?} {options:?}: {is} bytes, and {most} were told");
                assert!(!stream || !exact || most < is + is / 50, "{is} {most}");
                fs::remove_file(path).unwrap();
            }
        }
    }
}

#[test]
fn a_pipe_is_not_emptied_for_it_and_what_its_data_decides_is_said_to_be_so() {
    let folder = scratch();
    fs::write(folder.path().join("in.raw"), pattern(4096, |_| false)).unwrap();
    for (options, known) in [(&["--input-size", "2M"][..], true), (&[], false)] {
        let mut command = common::vdconv();
        command.current_dir(folder.path()).args(["-f", "raw", "-", "o.raw", "--dry-run", "--json"]).args(options);
        let ran = Ran::of(command.stdin(fs::File::open(folder.path().join("in.raw")).unwrap()));
        assert_eq!(ran.status, Some(0), "{}", ran.err);
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        let size = report["files"][0]["size_at_most"].as_u64();
        assert_eq!(size, known.then_some(2 << 20));
    }
    // For people it is said on stderr: standard output would be the disk.
    let ran = run(folder.path(), ["in.raw", "-", "-O", "raw", "--dry-run"]).succeeds();
    assert!(ran.out.is_empty() && ran.err.contains("at most 2097152 bytes (2.0 MiB)"), "{}", ran.err);
    assert_eq!(names(folder.path()), ["in.raw"]);
}

#[test]
fn what_a_conversion_would_be_refused_for_is_told() {
    let folder = with_source(&pattern(80, |_| false));
    let dry = |args: &[&str]| run(folder.path(), [args, &["--dry-run"]].concat());
    dry(&["in.vhd", "in.vhd", "--force"]).fails(2, &["the output is the input"]);
    dry(&["in.vhd", "no/such/o.vmdk"]).fails(1, &["no/such"]);
    fs::write(folder.path().join("o-flat.vmdk"), "old").unwrap();
    dry(&["in.vhd", "o.vmdk", "-s", "flat"]).fails(1, &["o-flat.vmdk", "exists"]);
    dry(&["in.vhd", "o.vmdk", "-s", "flat", "--force"]).succeeds();
    dry(&["none.vhd", "o.vmdk"]).fails(1, &["none.vhd"]);
    // Pieces of the old output that would go.
    fs::remove_file(folder.path().join("o-flat.vmdk")).unwrap();
    run(folder.path(), ["in.vhd", "o.vmdk", "-s", "flat"]).succeeds();
    let before = names(folder.path());
    let ran = dry(&["in.vhd", "o.vmdk", "--force"]).succeeds();
    assert!(ran.err.contains("o-flat.vmdk: would be removed"), "{}", ran.err);
    assert_eq!(names(folder.path()), before);
    // More than any disk has free.
    fs::File::create(folder.path().join("big.raw")).unwrap().set_len(12 << 40).unwrap();
    dry(&["big.raw", "big.vmdk", "-s", "flat", "--preallocate"])
        .fails(1, &["does not fit", "free", "it takes 12.0 TiB"]);
    // Damage in the tables, without a look at the data.
    let mut image = fs::read(folder.path().join("in.vhd")).unwrap();
    image[1536..1540].copy_from_slice(&0x0077_7777u32.to_be_bytes());
    fs::write(folder.path().join("bad.vhd"), image).unwrap();
    dry(&["bad.vhd", "x.vmdk"]).fails(1, &["bad.vhd: at byte 1536", "--salvage"]);
    dry(&["bad.vhd", "x.vmdk", "--salvage"]).fails(3, &["lost: bytes 0 to 40959"]);
    // Of the base nothing may be lost.
    run(folder.path(), ["in.vhd", "base.vhd"]).succeeds();
    let mut image = fs::read(folder.path().join("base.vhd")).unwrap();
    image[1536..1540].copy_from_slice(&0x0077_7777u32.to_be_bytes());
    fs::write(folder.path().join("base.vhd"), image).unwrap();
    for args in
        [&["in.vhd", "x.vhd", "--base", "base.vhd"][..], &["in.vhd", "x.vhd", "--base", "base.vhd", "--salvage"]]
    {
        dry(args).fails(1, &["base.vhd: at byte 1536"]);
        run(folder.path(), args).fails(1, &["base.vhd: at byte 1536"]);
    }
    assert!(!folder.path().join("x.vmdk").exists() && !folder.path().join("x.vhd").exists());
}

#[test]
#[cfg(unix)]
fn a_folder_that_takes_no_file_is_told_as_in_a_conversion() {
    let folder = with_source(&pattern(80, |_| false));
    // As a user who may not write there. Where the test may not become one, it has nothing to show.
    let script = "chmod 755 . && setpriv --reuid=65533 --regid=65533 --clear-groups $V in.vhd o.vmdk";
    for option in ["", " --dry-run"] {
        let mut command = std::process::Command::new("sh");
        command.current_dir(folder.path()).env("V", env!("CARGO_BIN_EXE_vdconv"));
        let ran = Ran::of(command.args(["-c", &format!("{script}{option}")]));
        if ran.err.contains("setpriv") {
            return common::skipped("no right to become another user");
        }
        ran.fails(1, &["o.vmdk: cannot make a file in the output's folder: Permission denied"]);
        assert_eq!(names(folder.path()), ["in.vhd"]);
    }
}

#[test]
fn a_sparse_disk_of_two_tebibytes_is_measured_by_its_tables() {
    let folder = scratch();
    fs::File::create(folder.path().join("big.raw")).unwrap().set_len(2000 << 30).unwrap();
    let start = std::time::Instant::now();
    let (_, report) = dry(folder.path(), &["big.raw", "o.vmdk"]);
    let most = report["files"][0]["size_at_most"].as_u64().unwrap();
    run(folder.path(), ["big.raw", "o.vmdk"]).succeeds();
    assert_eq!(fs::metadata(folder.path().join("o.vmdk")).unwrap().len(), most);
    assert!(start.elapsed().as_secs() < 60);
}
