//! Each kind that can be read into each kind that can be written, at sizes that are no whole units.

mod common;

use std::fs;
use std::path::Path;

use common::kinds::sources;
use common::vhd::strict;
use common::vmdk::KINDS;
use common::{pattern, run, scratch, vmdk};

/// The guest in an output, by a reader that takes nothing but what the strictest readers take.
fn guest_of(folder: &Path, name: &str) -> Vec<u8> {
    let path = folder.join(name);
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("vmdk") => vmdk::read(&path).guest,
        Some("vhd") => strict(&fs::read(path).unwrap(), None).guest,
        _ => fs::read(path).unwrap(),
    }
}

#[test]
fn every_kind_comes_out_whole_in_every_kind() {
    for sectors in [1, 3, 700, 2048] {
        let guest = pattern(sectors, |n| n > 0 && n % 300 > 200);
        let folder = scratch();
        for source in sources(folder.path(), &guest) {
            let vmdks = KINDS.map(|kind| ("o.vmdk", kind));
            for (output, kind) in vmdks.into_iter().chain([("o.vhd", "dynamic"), ("o.vhd", "fixed"), ("o.raw", "")]) {
                let kind_args: &[&str] = if kind.is_empty() { &[] } else { &["-s", kind] };
                let ran = run(folder.path(), [&[source, output, "--force", "--no-sync"], kind_args].concat());
                assert_eq!(ran.status, Some(0), "{source} to {kind}: {}", ran.err);
                assert!(guest_of(folder.path(), output) == guest, "{source} to {kind} at {sectors} sectors");
                // And back.
                run(folder.path(), [output, "back.raw", "--force", "--no-sync"]).succeeds();
                assert!(fs::read(folder.path().join("back.raw")).unwrap() == guest, "{source} to {kind} and back");
            }
        }
    }
}

#[test]
fn every_grain_and_block_size_that_can_be_asked_for_is_read_back() {
    let guest = pattern(9001, |n| n % 700 > 500);
    let folder = scratch();
    fs::write(folder.path().join("a.raw"), &guest).unwrap();
    for (output, kind, sizes) in [
        ("o.vmdk", "monolithicSparse", ["8K", "16K", "64K"]),
        ("o.vmdk", "twoGbMaxExtentSparse", ["8K", "16K", "32K"]),
        ("o.vhd", "dynamic", ["512K", "1M", "2M"]),
    ] {
        for size in sizes {
            run(folder.path(), ["a.raw", output, "-s", kind, "--block-size", size, "--force"]).succeeds();
            assert!(guest_of(folder.path(), output) == guest, "{kind} {size}");
            run(folder.path(), [output, "back.raw", "--force"]).succeeds();
            assert!(fs::read(folder.path().join("back.raw")).unwrap() == guest, "{kind} {size}");
        }
    }
}
