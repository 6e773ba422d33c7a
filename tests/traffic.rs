//! Bytes that are moved: what is stored is read once, holes and zeroes are not, and nothing is written twice; however many threads there are.

mod common;

use std::fs;
use std::path::Path;

use common::{noise, run, scratch, vdconv};
use serde_json::Value;

const MIB: u64 = 1 << 20;
/// Tables, headers and descriptors of such disks.
const TABLES: u64 = MIB / 2;
/// The end of a file, where a VHD's footer may lie, or a stream's: a mebibyte each is looked at, whatever the file's length.
const END: u64 = 2 * MIB;
/// Of 64 MiB, these MiB are data.
const DATA: [u64; 5] = [0, 7, 8, 31, 63];

/// A raw disk of holes, and data that nothing makes smaller.
fn raw(folder: &Path) {
    let data = noise(MIB as usize);
    let mut whole = vec![0; 64 * MIB as usize];
    for at in DATA {
        whole[(at * MIB) as usize..((at + 1) * MIB) as usize].copy_from_slice(&data);
    }
    fs::write(folder.join("whole.raw"), &whole).unwrap();
    run(folder, ["whole.raw", "a.raw"]).succeeds();
}

fn convert(folder: &Path, from: &str, to: &str, args: &[&str]) -> Value {
    let mut command = vdconv();
    command.current_dir(folder).env("SOURCE_DATE_EPOCH", "1700000000").args([from, to, "--json", "--force"]).args(args);
    let ran = common::Ran::of(&mut command).succeeds();
    serde_json::from_str(&ran.out).unwrap()
}

/// The cells that are measured, and the way back to a raw disk.
const CELLS: [(&str, &str, &[&str]); 11] = [
    ("a.raw", "d.vhd", &[]),
    ("d.vhd", "s.vmdk", &["-s", "sparse"]),
    ("d.vhd", "l.vmdk", &["-s", "flat"]),
    ("d.vhd", "f.vhd", &["-s", "fixed"]),
    ("f.vhd", "g.vmdk", &["-s", "sparse"]),
    ("s.vmdk", "e.vhd", &[]),
    ("d.vhd", "p.vmdk", &["-s", "stream"]),
    ("d.vhd", "q.vmdk", &["-s", "stream", "--fast"]),
    ("p.vmdk", "h.vhd", &[]),
    ("p.vmdk", "r.vmdk", &["-s", "stream"]),
    ("r.vmdk", "b.raw", &[]),
];

#[test]
fn what_is_stored_is_read_once_and_written_once_and_holes_are_not() {
    let folder = scratch();
    raw(folder.path());
    let data = DATA.len() as u64 * MIB;
    for (from, to, args) in CELLS {
        let said = convert(folder.path(), from, to, args);
        for key in ["bytes_read", "bytes_written"] {
            let moved = said[key].as_u64().unwrap();
            let beside = if key == "bytes_read" { TABLES + END } else { TABLES };
            assert!((data..data + beside).contains(&moved), "{from} -> {to}: {key} {moved}, {data} of data");
        }
    }
    assert!(fs::read(folder.path().join("b.raw")).unwrap() == fs::read(folder.path().join("whole.raw")).unwrap());
}

#[test]
fn r23_the_bytes_are_the_same_however_many_threads_there_are() {
    let folder = scratch();
    raw(folder.path());
    for (from, to, args) in CELLS {
        let mut first = None;
        for jobs in ["1", "2", "3", "8"] {
            convert(folder.path(), from, to, &[args, &["-j", jobs]].concat());
            let mut files = vec![fs::read(folder.path().join(to)).unwrap()];
            files.extend(fs::read(folder.path().join("l-flat.vmdk")).ok().filter(|_| to == "l.vmdk"));
            assert!(*first.get_or_insert_with(|| files.clone()) == files, "{from} -> {to} -j {jobs}");
        }
    }
}

/// Tables lie behind each other: a disk of 256 GiB has 8192 of them in each copy, of 2 KiB.
#[cfg(unix)]
#[test]
fn tables_that_lie_behind_each_other_are_read_together() {
    if !common::process::may_trace() {
        return;
    }
    let folder = scratch();
    let data = [MIB, 100 << 30, 200 << 30];
    common::judge::sparse_raw(&folder.path().join("a.raw"), 256 << 30, &data);
    run(folder.path(), ["a.raw", "a.vmdk", "-s", "sparse"]).succeeds();
    let convert = [env!("CARGO_BIN_EXE_vdconv"), "a.vmdk", "b.raw", "--no-sync"];
    let (ran, reads) = common::process::reads(folder.path(), &convert);
    ran.succeeds();
    let count = reads.len();
    assert!((2 * 8192 / 32..2 * 8192 / 32 + 100).contains(&count), "{count} reads");
    run(folder.path(), ["compare", "a.raw", "b.raw"]).succeeds();
}
