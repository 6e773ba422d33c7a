//! The command: exit statuses, -q, what cannot be checked, a file that is called like it.

use std::fs;
use std::path::Path;

use super::common::vhd::Vhd;
use super::common::vmdk::{Sparse, descriptor};
use super::common::{pattern, run, scratch};
use vdconv::format::{self, OpenOptions};
use vdconv::image::Severity;
use vdconv::io::Gate;

fn vhd() -> Vec<u8> {
    Vhd { align: 4096, ..Vhd::dynamic_of(&pattern(2048, |_| false), 512 << 10) }.build()
}

#[test]
fn quiet_prints_the_errors_alone_and_sound_prints_nothing() {
    let folder = scratch();
    let mut bytes = vhd();
    let end = bytes.len() - 512;
    bytes[end..].fill(0);
    fs::write(folder.path().join("w.vhd"), &bytes).unwrap();
    let ran = run(folder.path(), ["check", "-q", "w.vhd"]);
    assert_eq!((ran.status, ran.out.as_str(), ran.err.as_str()), (Some(0), "", ""));
    bytes[1536..1540].fill(0);
    fs::write(folder.path().join("e.vhd"), &bytes).unwrap();
    let ran = run(folder.path(), ["check", "-q", "e.vhd"]);
    let line = "VHD-BAT-MISPLACED error e.vhd: at byte 1536: VHD block lies over another structure (found block 0 at byte 0, the footer copy lies there)\n";
    assert_eq!((ran.status, ran.out.as_str(), ran.err.as_str()), (Some(1), line, ""));
}

#[test]
fn what_cannot_be_checked_is_status_2() {
    let folder = scratch();
    let encrypted = descriptor("monolithicFlat", 7, None, "RW 8 FLAT \"f\" 0")
        .replace("CID=00000007", "encryptionKeys=\"x\"\nCID=7");
    fs::write(folder.path().join("secret.vmdk"), encrypted).unwrap();
    fs::write(folder.path().join("f"), [0; 4096]).unwrap();
    fs::write(folder.path().join("text.txt"), "no image at all").unwrap();
    fs::write(folder.path().join("empty.vhd"), "").unwrap();
    for name in ["secret.vmdk", "text.txt", "empty.vhd", "nowhere.vhd", ".", "-"] {
        run(folder.path(), ["check", name]).fails(2, &[]);
        let ran = run(folder.path(), ["check", "--json", name]).fails(2, &[]);
        assert!(ran.out.contains("{\"vdconv\"") && ran.out.contains("\"error\""), "{}", ran.out);
    }
    run(folder.path(), ["check"]).fails(2, &["IMAGE"]);
    run(folder.path(), ["-q", "check", "a.vhd"]).fails(2, &["the options of check stand behind it"]);
    run(folder.path(), ["check", "a.vhd", "b.vhd"]).fails(2, &["b.vhd"]);
}

#[test]
fn an_input_that_is_called_check_is_converted_all_the_same() {
    let folder = scratch();
    fs::write(folder.path().join("check"), vhd()).unwrap();
    run(folder.path(), ["convert", "check", "o.vmdk"]).succeeds();
    run(folder.path(), ["./check", "p.vmdk"]).succeeds();
    assert_eq!(run(folder.path(), ["check", "check"]).out, "check: sound (VHD)\n");
}

#[test]
fn of_one_id_twenty_are_listed_and_the_rest_is_counted() {
    let folder = scratch();
    let sparse = Sparse::of(&pattern(100 * 128, |_| false));
    let mut bytes = sparse.build();
    for directory in [sparse.gd(), sparse.rgd()] {
        let at = sparse.entry_at(directory, 0);
        bytes[at..at + 200].fill(0xEE);
    }
    fs::write(folder.path().join("a.vmdk"), &bytes).unwrap();
    let ran = run(folder.path(), ["check", "a.vmdk"]);
    assert_eq!(ran.out.lines().filter(|line| line.starts_with("VMDK-GTE error")).count(), 20, "{}", ran.out);
    assert!(ran.out.contains("VMDK-GTE: 30 more\n"), "{}", ran.out);
    assert!(ran.out.ends_with("a.vmdk: not sound (VMDK), 50 errors, 1 warning\n"), "{}", ran.out);
    let offsets: Vec<u64> =
        ran.out.lines().filter_map(|line| line.split("at byte ").nth(1)?.split(':').next()?.parse().ok()).collect();
    assert!(offsets.is_sorted(), "{offsets:?}");
}

#[test]
#[allow(clippy::single_range_in_vec_init)] // a list of one range is meant
fn structures_that_the_medium_does_not_give_are_told() {
    let bytes = vhd();
    let mut gate = Gate::new();
    gate.lay_over_unreadable("a.vhd", bytes, &[1536..1540]);
    let checked = format::check(&mut gate, Path::new("a.vhd"), &OpenOptions::default()).unwrap();
    let errors: Vec<_> =
        checked.findings.list().iter().filter(|f| f.severity == Severity::Error).map(|f| f.id).collect();
    assert_eq!(errors, ["IMAGE-UNREADABLE"]);
}
