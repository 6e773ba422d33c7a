//! Differencing VHDs: sector by sector from the child or from the parent, and the parents that are found, missing or wrong.

mod common;

use std::fs;

use common::expect::{folder, reads, refused, to_raw, warns};
use common::vhd::{Vhd, locator};
use common::{pattern, run, scratch};
use tempfile::TempDir;

const SECTORS: u64 = 12_291;

fn base_guest() -> Vec<u8> {
    pattern(SECTORS, |n| (4096..8192).contains(&n))
}

/// `guest` with other bytes in the sectors that `own` picks.
fn changed(guest: &[u8], fill: u8, own: impl Fn(u64) -> bool) -> Vec<u8> {
    let mut guest = guest.to_vec();
    for (n, sector) in guest.chunks_mut(512).enumerate().filter(|(n, _)| own(*n as u64)) {
        sector.fill(fill.wrapping_add(n as u8));
    }
    guest
}

fn base() -> Vhd {
    Vhd { unique_id: *b"the base of them", ..Vhd::dynamic_of(&base_guest(), 2 << 20) }
}

/// Base, child and grandchild of different block sizes, with single bits set, and what the youngest must read.
fn chain(child_names: &str, grandchild_names: &str) -> (TempDir, Vec<u8>) {
    let base = base();
    let own = |n: u64| n % 7 == 3 || (5000..5300).contains(&n);
    let guest = changed(&base_guest(), 0x31, own);
    let mut child = Vhd::child_of(&base, &guest, 512 << 10, own);
    child.unique_id = *b"the child of one";
    child.locators = vec![locator(b"W2ru", child_names)];
    let mine = |n: u64| n == 0 || n % 1000 == 1 || n == SECTORS - 1;
    let want = changed(&guest, 0, mine);
    let mut grandchild = Vhd::child_of(&child, &want, 2 << 20, mine);
    grandchild.unique_id = *b"child of a child";
    grandchild.locators = vec![locator(b"W2ru", grandchild_names)];
    let folder = folder(&[("base.vhd", &base.build()), ("one.vhd", &child.build()), ("two.avhd", &grandchild.build())]);
    (folder, want)
}

#[test]
fn a_chain_of_three_gives_each_sector_from_the_youngest_that_has_it() {
    let (f, want) = chain(".\\base.vhd", ".\\one.vhd");
    reads(f.path(), "two.avhd", &want);
    for jobs in ["1", "3"] {
        run(f.path(), ["two.avhd", "o.vmdk", "-j", jobs, "--force"]).succeeds();
        assert!(common::vmdk::read(&f.path().join("o.vmdk")).guest == want);
    }
    let ran = run(f.path(), ["info", "two.avhd"]).succeeds();
    for text in ["VHD differencing", "parent        one.vhd", "parent        base.vhd", "parent unique id = 74686520-"]
    {
        assert!(ran.out.contains(text), "no {text} in\n{}", ran.out);
    }
    // The output is never one of the parents; the bits of a child are not ignored, whatever is.
    run(f.path(), ["two.avhd", "base.vhd", "-O", "raw", "--force"]).fails(2, &["the output is the input"]);
    run(f.path(), ["two.avhd", "o.raw", "--ignore-bitmaps"]).succeeds();
    assert!(fs::read(f.path().join("o.raw")).unwrap() == want);
}

#[test]
fn parents_are_found_by_every_name_that_products_write() {
    let guest = changed(&base_guest(), 0x41, |n| n == 77);
    let utf8 = |text: &str| (*b"MacX", text.as_bytes().to_vec());
    for (locators, name, file) in [
        (vec![locator(b"W2ru", ".\\base.vhd")], "", "base.vhd"),
        (vec![locator(b"W2ru", "base.vhd")], "", "base.vhd"),
        (vec![locator(b"W2ru", ".\\sub\\..\\Gr\u{fc}n \u{4e2d}.vhd")], "", "Gr\u{fc}n \u{4e2d}.vhd"),
        (vec![locator(b"W2ru", "sub\\base.vhd")], "", "sub/base.vhd"),
        // Absolute names lead to their last part, here.
        (vec![locator(b"W2ku", "C:\\Users\\a b\\base.vhd")], "", "base.vhd"),
        (vec![locator(b"W2ku", "\\\\server\\share\\base.vhd")], "", "base.vhd"),
        (vec![locator(b"W2ku", "sub\\base.vhd")], "", "sub/base.vhd"),
        (vec![(*b"Wi2r", b".\\d\xFC.vhd".to_vec())], "", "d\u{fc}.vhd"),
        (vec![utf8("file://./base.vhd")], "", "base.vhd"),
        (vec![utf8("file:///Users/x/b%20ase.vhd")], "", "b ase.vhd"),
        (vec![], "base.vhd", "base.vhd"),
        (vec![], "D:\\vm\\base.vhd", "base.vhd"),
        // In another case, as on the systems where that does not matter.
        (vec![locator(b"W2ru", ".\\Base.VHD")], "", "base.vhd"),
        // The first of them leads nowhere, the last one does.
        (vec![locator(b"W2ru", ".\\gone.vhd"), locator(b"W2ku", "C:\\gone.vhd")], "base.vhd", "base.vhd"),
    ] {
        let mut child = Vhd::child_of(&base(), &guest, 2 << 20, |n| n == 77);
        (child.locators, child.parent_name) = (locators.clone(), name.into());
        let f = folder(&[("child.vhd", &child.build())]);
        fs::create_dir(f.path().join("sub")).unwrap();
        fs::write(f.path().join(file), base().build()).unwrap();
        let (ran, out) = to_raw(f.path(), "child.vhd");
        assert_eq!(ran.status, Some(0), "{locators:?} {name}: {}", ran.err);
        assert!(out.unwrap() == guest, "{locators:?} {name}");
    }
}

#[test]
fn r2_parents_outside_the_folder_are_followed_where_that_is_allowed() {
    let outer = scratch();
    let at = |name: &str| outer.path().join(name);
    fs::create_dir_all(at("vm")).unwrap();
    fs::write(at("base.vhd"), base().build()).unwrap();
    let guest = changed(&base_guest(), 0x41, |n| n == 77);
    let absolute = format!("file://{}", at("base.vhd").display());
    for names in [locator(b"W2ru", "..\\base.vhd"), (*b"MacX", absolute.into_bytes())] {
        let mut child = Vhd::child_of(&base(), &guest, 2 << 20, |n| n == 77);
        child.locators = vec![names];
        fs::write(at("vm/child.vhd"), child.build()).unwrap();
        refused(&at("vm"), "child.vhd", &["child.vhd: a name in the image", "--allow-outside"]);
        run(&at("vm"), ["child.vhd", "o.raw", "--allow-outside"]).succeeds();
        assert!(fs::read(at("vm/o.raw")).unwrap() == guest);
        fs::remove_file(at("vm/o.raw")).unwrap();
    }
}

#[test]
fn r9_parents_that_are_missing_wrong_of_another_size_or_themselves_are_named() {
    let (f, want) = chain(".\\base.vhd", ".\\one.vhd");
    let at = |name: &str| f.path().join(name);
    // Missing: named by what the child says; given, it may lie anywhere.
    fs::rename(at("one.vhd"), at("moved.bin")).unwrap();
    refused(f.path(), "two.avhd", &["two.avhd: at byte 576: ", "is not there", ".\\one.vhd", "--parent"]);
    run(f.path(), ["two.avhd", "o.raw", "--parent", "moved.bin"]).succeeds();
    assert!(fs::read(at("o.raw")).unwrap() == want);
    run(f.path(), ["two.avhd", "p.raw", "--parent", "moved.bin", "--parent", "base.vhd"]).succeeds();
    run(f.path(), ["info", "two.avhd"]).fails(1, &["two.avhd: at byte 576: ", "is not there"]);
    // Another disk.
    fs::write(at("one.vhd"), base().build()).unwrap();
    refused(f.path(), "two.avhd", &["two.avhd: at byte 552: ", "not the disk that", "in one.vhd", "--ignore-cid"]);
    run(f.path(), ["two.avhd", "q.raw", "--parent", "base.vhd"]).fails(1, &["in base.vhd", "--ignore-cid"]);
    run(f.path(), ["two.avhd", "q.raw", "--ignore-cid"]).succeeds();
    fs::write(at("one.vhd"), vec![7; 8 << 20]).unwrap();
    refused(f.path(), "two.avhd", &["two.avhd: at byte 552: ", "no VHD in one.vhd"]);
    // Itself, and each other.
    let mut looped = base();
    (looped.disk_type, looped.parent_id) = (4, looped.unique_id);
    looped.locators = vec![locator(b"W2ru", ".\\loop.vhd")];
    fs::write(at("loop.vhd"), looped.build()).unwrap();
    refused(f.path(), "loop.vhd", &["loop.vhd", "leads back to this file"]);
    // A parent that is smaller reads as zero behind its end, a larger one is cut; both are told.
    for sectors in [4000, 20_000] {
        let guest = pattern(sectors, |_| false);
        let parent = Vhd { unique_id: *b"of another size!", ..Vhd::dynamic_of(&guest, 2 << 20) };
        let mut child = Vhd::child_of(&parent, &base_guest(), 2 << 20, |n| n == 9000);
        child.locators = vec![locator(b"W2ru", ".\\p.vhd")];
        let f = folder(&[("c.vhd", &child.build()), ("p.vhd", &parent.build())]);
        let mut want = guest;
        want.resize(SECTORS as usize * 512, 0);
        want[9000 * 512..][..512].copy_from_slice(&base_guest()[9000 * 512..][..512]);
        warns(f.path(), "c.vhd", &want, &["c.vhd: parent and child differ in size"]);
    }
}

#[test]
fn a_parent_without_an_identity_is_a_raw_disk_as_xen_server_has_it() {
    let mut child = Vhd::child_of(&base(), &changed(&base_guest(), 0x41, |n| n == 77), 2 << 20, |n| n == 77);
    (child.parent_id, child.creator) = ([0; 16], *b"tap\0");
    (child.creator_version, child.locators) = (0x0001_0003, vec![(*b"MacX", b"file://./base".to_vec())]);
    let f = folder(&[("c.vhd", &child.build()), ("base", &base_guest())]);
    reads(f.path(), "c.vhd", &changed(&base_guest(), 0x41, |n| n == 77));
    fs::write(f.path().join("base"), base().build()).unwrap();
    refused(f.path(), "c.vhd", &["expected a raw disk"]);
}

#[test]
fn what_holds_a_disk_is_no_raw_parent_and_a_raw_one_is_padded_not_cut() {
    let mut child = Vhd::child_of(&base(), &changed(&base_guest(), 0x41, |n| n == 77), 2 << 20, |n| n == 77);
    (child.parent_id, child.parent_name) = ([0; 16], "base".into());
    let f = folder(&[("c.vhd", &child.build())]);
    let vmdk = common::vmdk::Sparse::of(&base_guest()).build();
    let mut qcow = vec![0; 70_000];
    qcow[..4].copy_from_slice(b"QFI\xFB");
    for (content, texts) in [
        (vmdk, ["a VHD or a raw disk", "a VMDK"]),
        (qcow, ["QEMU qcow", "hint: "]),
        (b"text\n".repeat(200), ["a text", "hint"]),
    ] {
        fs::write(f.path().join("base"), content).unwrap();
        refused(f.path(), "c.vhd", &texts);
    }
    // 1,000 bytes are two sectors.
    let mut two = Vhd::dynamic(1024, 512 << 10);
    (two.disk_type, two.parent_name) = (4, "base".into());
    let f = folder(&[("c.vhd", &two.build()), ("base", &[0xA2; 1000])]);
    reads(f.path(), "c.vhd", &[vec![0xA2; 1000], vec![0; 24]].concat());
}

#[test]
fn a_parent_that_was_written_to_later_is_told_by_its_time() {
    let guest = changed(&base_guest(), 0x41, |n| n == 77);
    let f = folder(&[("base.raw", &base_guest()), ("new.raw", &guest)]);
    run(f.path(), ["base.raw", "base.vhd"]).succeeds();
    run(f.path(), ["new.raw", "child.vhd", "--base", "base.vhd"]).succeeds();
    reads(f.path(), "child.vhd", &guest);
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    fs::OpenOptions::new().append(true).open(f.path().join("base.vhd")).unwrap().set_modified(later).unwrap();
    warns(
        f.path(),
        "child.vhd",
        &guest,
        &["child.vhd: at byte 568: the parent was written to since", "base.vhd was written"],
    );
}

#[test]
fn locators_that_are_damaged_are_told_and_the_others_are_tried() {
    let guest = changed(&base_guest(), 0x41, |n| n == 77);
    let mut child = Vhd::child_of(&base(), &guest, 2 << 20, |n| n == 77);
    child.locators = vec![locator(b"W2ru", ".\\gone.vhd"), locator(b"W2ku", "C:\\x\\base.vhd")];
    let good = child.build();
    let entry = 512 + 576;
    // Length 0, length and place behind the file, text that is no text.
    for (at, value) in [(8, 0u32), (8, u32::MAX), (16, u32::MAX)] {
        let mut file = good.clone();
        file[entry + at..entry + at + 4].copy_from_slice(&value.to_be_bytes());
        let mut header = file[512..1536].to_vec();
        common::vhd::seal(&mut header, 36);
        file[512..1536].copy_from_slice(&header);
        let f = folder(&[("c.vhd", &file), ("base.vhd", &base().build())]);
        warns(f.path(), "c.vhd", &guest, &[&format!("c.vhd: at byte {entry}: VHD parent locator")]);
        // Where nothing else leads to the parent, that is the reason.
        fs::remove_file(f.path().join("base.vhd")).unwrap();
        refused(f.path(), "c.vhd", &[&format!("c.vhd: at byte {entry}: VHD parent locator")]);
    }
}

#[test]
fn locators_of_devices_of_odd_lengths_and_in_wrong_encodings_lead_nowhere_else() {
    let guest = changed(&base_guest(), 0x41, |n| n == 77);
    let odd = |code: &[u8; 4], text: &[u8]| (*code, text.to_vec());
    for (locators, texts) in [
        (vec![locator(b"W2ku", "\\\\.\\PhysicalDrive0")], &["is not there", "PhysicalDrive0"][..]),
        (vec![locator(b"W2ru", "CON")], &["is not there", "CON"]),
        (vec![locator(b"W2ru", "..\\..\\etc\\passwd")], &["leads out of its folder"]),
        (vec![odd(b"MacX", b"file:///dev/sda")], &["absolute"]),
        // UTF-8 where UTF-16 belongs, half a pair, no UTF-8 at all.
        (vec![odd(b"W2ru", b".\\base.vhd")], &["c.vhd: at byte "]),
        (vec![odd(b"W2ru", &[0x00, 0xD8, 0x00, 0x00])], &["no UTF-16"]),
        (vec![odd(b"MacX", b"file://./\xFF\xFE")], &["no UTF-8"]),
    ] {
        let mut child = Vhd::child_of(&base(), &guest, 2 << 20, |n| n == 77);
        child.locators = locators;
        let f = folder(&[("c.vhd", &child.build()), ("base.vhd", &base().build())]);
        refused(f.path(), "c.vhd", texts);
    }
    // An odd byte behind a name is passed over.
    let mut child = Vhd::child_of(&base(), &guest, 2 << 20, |n| n == 77);
    let mut name = locator(b"W2ru", ".\\base.vhd");
    name.1.push(0x41);
    child.locators = vec![name];
    let f = folder(&[("c.vhd", &child.build()), ("base.vhd", &base().build())]);
    reads(f.path(), "c.vhd", &guest);
}

#[test]
fn a_chain_of_thirty_is_read() {
    let mut want = pattern(64, |_| false);
    let mut files = vec![("n0.vhd".to_string(), Vhd::dynamic_of(&want, 4096))];
    files[0].1.unique_id = [0xE0; 16];
    for n in 1..30u8 {
        want = changed(&want, n, |sector| sector == u64::from(n));
        let (parent_name, parent) = files.last().unwrap();
        let mut child = Vhd::child_of(parent, &want, 4096, |sector| sector == u64::from(n));
        child.unique_id = [n; 16];
        child.locators = vec![locator(b"W2ru", &format!(".\\{parent_name}"))];
        files.push((format!("n{n}.vhd"), child));
    }
    let built: Vec<_> = files.iter().map(|(name, vhd)| (name.as_str(), vhd.build())).collect();
    let f = folder(&built.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect::<Vec<_>>());
    reads(f.path(), "n29.vhd", &want);
}

/// Under a child the walk may never come to the second of two blocks that overlap: the parent's table is looked through before.
#[test]
fn r8_blocks_of_a_parent_that_overlap_are_found_though_the_child_has_one_of_them() {
    let guest = common::pattern(32, |_| false);
    let mut parent = Vhd::dynamic_of(&guest, 4096).build();
    let second: [u8; 4] = parent[1536..1540].try_into().unwrap();
    parent[1540..1544].copy_from_slice(&second);
    let base = Vhd::dynamic_of(&guest, 4096);
    for own in [0, 1] {
        let mut child = Vhd::child_of(&base, &guest, 4096, |n| n / 8 == own);
        child.parent_name = "parent.vhd".into();
        let f = common::expect::folder(&[("parent.vhd", &parent), ("child.vhd", &child.build())]);
        common::run(f.path(), ["child.vhd", "o.raw"]).fails(1, &["parent.vhd", "lies where another block lies"]);
    }
}
