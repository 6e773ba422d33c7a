//! VHDs of every kind that vdconv writes, and chains that it reads, as programs with no code in common read them.
//!
//! Slow, and in need of the judges: run with `cargo test --release -- --ignored`.

#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::judge::{judged, sparse_raw, tool, vbox_is_there};
use common::vhd::{Vhd, locator, strict};
use common::{Ran, has_program, pattern, run, scratch, sha256, shared_file};

/// What VirtualBox reads of a chain, the base first; nothing where it is not there.
fn vbox_reads_chain(folder: &Path, images: &[&str]) -> Option<String> {
    let tool = shared_file("tools/vbox-chain").filter(|_| vbox_is_there())?;
    // Its service may not be up in time on a busy machine: that is no answer, and is asked again. An answer is taken as it is.
    for _ in 0..3 {
        let ran = Ran::of(Command::new(&tool).current_dir(folder).args(images));
        if ran.status == Some(0) {
            return Some(ran.out);
        }
        println!("vbox-chain: {}{}", ran.out, ran.err);
    }
    panic!("VirtualBox does not answer");
}

#[test]
#[ignore = "needs the judges"]
fn every_size_in_every_kind_is_read_alike_by_all_judges() {
    let Some(judge) = shared_file("tools/judge") else { return };
    for sectors in [1, 3, 2048, 10_243, 82_047] {
        let folder = scratch();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("a.raw"), pattern(sectors, |n| n % 1500 > 700)).unwrap();
        for options in [&["-s", "dynamic"][..], &["-s", "fixed"], &["--contiguous"]] {
            run(folder.path(), [&["a.raw", "o.vhd", "--force"], options].concat()).succeeds();
            judged(&judge, &at("o.vhd"), &at("a.raw"), &[]);
        }
        // There and back, by way of a VMDK.
        run(folder.path(), ["o.vhd", "o.vmdk"]).succeeds();
        run(folder.path(), ["o.vmdk", "p.vhd"]).succeeds();
        judged(&judge, &at("p.vhd"), &at("a.raw"), &[]);
    }
}

#[test]
#[ignore = "needs the judges, and a minute"]
fn large_sizes_that_are_no_whole_blocks_are_read_alike_by_all_judges() {
    let Some(judge) = shared_file("tools/judge") else { return };
    for size in [(2047u64 << 20) + 77 * 512, (4u64 << 30) + 512] {
        let folder = scratch();
        let at = |name: &str| folder.path().join(name);
        sparse_raw(&at("a.raw"), size, &[0, 1 << 20, 777 << 20, size - 512]);
        for kind in ["dynamic", "fixed"] {
            run(folder.path(), ["a.raw", "o.vhd", "-s", kind, "--force"]).succeeds();
            judged(&judge, &at("o.vhd"), &at("a.raw"), &[]);
        }
        run(folder.path(), ["o.vhd", "o.vmdk"]).succeeds();
        run(folder.path(), ["o.vmdk", "p.vhd"]).succeeds();
        run(folder.path(), ["p.vhd", "p.raw"]).succeeds();
        tool(Command::new("cmp").current_dir(folder.path()).args(["a.raw", "p.raw"]));
    }
}

#[test]
#[ignore = "needs the judges"]
fn peers_17_and_18_a_vhd_of_1_gib_has_the_exact_size_for_every_judge() {
    use std::os::unix::fs::FileExt;
    let Some(judge) = shared_file("tools/judge") else { return };
    let folder = scratch();
    let at = |name: &str| folder.path().join(name);
    let raw = fs::File::create(at("a.raw")).unwrap();
    raw.set_len(1 << 30).unwrap();
    raw.write_all_at(b"the last sector", (1 << 30) - 512).unwrap();
    for kind in ["dynamic", "fixed"] {
        run(folder.path(), ["a.raw", "o.vhd", "-s", kind, "--force"]).succeeds();
        judged(&judge, &at("o.vhd"), &at("a.raw"), &[]);
    }
}

#[test]
#[ignore = "needs the judges"]
fn a_base_and_its_delta_are_read_together_by_those_who_read_chains() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name);
    // One percent of the blocks changed, four of 400, zeroes among the changes, in runs that are no whole grains.
    const SECTORS: usize = 400 * 4096;
    let base = pattern(SECTORS as u64, |n| n % 5000 > 1000);
    let mut changed = base.clone();
    for (n, block) in [0usize, 77, 201, 399].into_iter().enumerate() {
        for run in 0..9 {
            let at = (block * 4096 + run * 400 + n) * 512;
            changed[at..at + (run + 1) * 512 * 3].fill(if run % 3 == 0 { 0 } else { 0xC0 + n as u8 });
        }
    }
    fs::write(at("base.raw"), &base).unwrap();
    fs::write(at("new.raw"), &changed).unwrap();
    for kind in ["dynamic", "fixed"] {
        run(folder.path(), ["base.raw", "base.vhd", "-s", kind, "--force"]).succeeds();
        run(folder.path(), ["new.raw", "delta.vhd", "--base", "base.vhd", "--force"]).succeeds();
        let delta = strict(&fs::read(at("delta.vhd")).unwrap(), Some(&base));
        assert!(delta.guest == changed);
        let differ = (0..SECTORS).filter(|n| base[n * 512..][..512] != changed[n * 512..][..512]).count();
        assert_eq!(delta.stored.len(), differ, "no bit is set over an unchanged sector");
        run(folder.path(), ["delta.vhd", "back.raw", "--force"]).succeeds();
        assert!(fs::read(at("back.raw")).unwrap() == changed);
        if has_program("7zz") {
            let out = Command::new("7zz").current_dir(folder.path()).args(["e", "-so", "-tvhd", "delta.vhd"]).output();
            assert!(out.unwrap().stdout == changed, "7-Zip reads the pair, base {kind}");
        }
        if let Some(says) = vbox_reads_chain(folder.path(), &["base.vhd", "delta.vhd"]) {
            assert!(says.contains(&sha256(&changed)), "VirtualBox: {says}");
        }
    }
    run(folder.path(), ["base.raw", "base.vmdk"]).succeeds();
    run(folder.path(), ["new.raw", "delta.vmdk", "--base", "base.vmdk"]).succeeds();
    tool(Command::new("qemu-img").current_dir(folder.path()).args([
        "compare",
        "-f",
        "vmdk",
        "-F",
        "raw",
        "delta.vmdk",
        "new.raw",
    ]));
    run(folder.path(), ["delta.vmdk", "back.raw", "--force"]).succeeds();
    assert!(fs::read(at("back.raw")).unwrap() == changed);
}

#[test]
#[ignore = "needs the judges"]
fn chains_of_three_with_stale_bytes_are_read_as_judges_read_them() {
    for block_sizes in [[2 << 20, 2 << 20], [512 << 10, 2 << 20], [512 << 10, 512 << 10]] {
        let folder = scratch();
        let at = |name: &str| folder.path().join(name);
        let sectors = 12_291;
        let guest = pattern(sectors, |n| (4096..8192).contains(&n));
        let base = Vhd { unique_id: *b"the base of them", ..Vhd::dynamic_of(&guest, 2 << 20) };
        let change = |guest: &[u8], fill: u8, own: &dyn Fn(u64) -> bool| {
            let mut guest = guest.to_vec();
            (0..sectors).filter(|n| own(*n)).for_each(|n| guest[n as usize * 512..][..512].fill(fill));
            guest
        };
        let own = |n: u64| n % 7 == 3 || (5000..5300).contains(&n);
        let one = change(&guest, 0x31, &own);
        let mut child = Vhd::child_of(&base, &one, block_sizes[0], own);
        child.unique_id = *b"the child of one";
        (child.locators, child.parent_name) = (vec![locator(b"W2ru", ".\\base.vhd")], "base.vhd".into());
        let mine = |n: u64| n == 0 || n % 1000 == 1 || n == sectors - 1;
        let two = change(&one, 0x32, &mine);
        let mut grandchild = Vhd::child_of(&child, &two, block_sizes[1], mine);
        grandchild.unique_id = *b"child of a child";
        (grandchild.locators, grandchild.parent_name) = (vec![locator(b"W2ru", ".\\one.vhd")], "one.vhd".into());
        for (name, vhd) in [("base.vhd", &base), ("one.vhd", &child), ("two.vhd", &grandchild)] {
            fs::write(at(name), vhd.build()).unwrap();
        }
        run(folder.path(), ["two.vhd", "two.raw"]).succeeds();
        assert!(fs::read(at("two.raw")).unwrap() == two);
        if has_program("7zz") {
            let out = Command::new("7zz").current_dir(folder.path()).args(["e", "-so", "-tvhd", "two.vhd"]).output();
            assert!(out.unwrap().stdout == two, "7-Zip, {block_sizes:?}");
        }
        if let Some(says) = vbox_reads_chain(folder.path(), &["base.vhd", "one.vhd", "two.vhd"]) {
            assert!(says.contains(&sha256(&two)), "VirtualBox, {block_sizes:?}: {says}");
        }
        if let Some(reader) = shared_file("tools/ref-reader.py") {
            let says = tool(
                Command::new("python3").arg(reader).current_dir(folder.path()).args(["two.vhd", "one.vhd", "base.vhd"]),
            );
            assert!(says.contains(&sha256(&two)), "the reference reader, {block_sizes:?}: {says}");
        }
    }
}
