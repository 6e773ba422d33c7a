//! `compare` and `hash` beside programs with no code in common with them: qemu-img over fixtures and corpus, sha256sum, b3sum.
//!
//! b3sum is its authors' program over the same crate in an older version: it judges our cutting and merging of the tree, not BLAKE3.
//! Slow, and in need of the shared folder: run with `cargo test --release -- --ignored`.
#![cfg(unix)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::judge::tool;
use common::{Ran, fixture, has_program, noise, run, scratch, shared_file};

/// Images of the fixtures that qemu-img reads as they are; the VHDs by their footers' size, not by their geometry.
/// Not VirtualBox's VMDK, whose size it rounds up to a grain.
const FIXTURES: [(&str, &str); 6] = [
    ("vhd/ext2-dynamic.vhd", "vpc"),
    ("vhd/qemu-dynamic.vhd", "vpc"),
    ("vhd/qemu-fixed.vhd", "vpc"),
    ("vhd/vbox-dynamic.vhd", "vpc"),
    ("vmdk/qemu-sparse.vmdk", "vmdk"),
    ("vmdk/qemu-split.vmdk", "vmdk"),
];

/// qemu-img's name of an image of this format.
fn qemu_name(path: &Path, driver: &str) -> String {
    let path = path.display();
    match driver {
        "vpc" => format!("driver=vpc,force_size_calc=current_size,file.driver=file,file.filename={path}"),
        _ => format!("driver={driver},file.driver=file,file.filename={path}"),
    }
}

/// `image` as qemu-img makes it raw, hashed by sha256sum and b3sum; ours of the image must say the same, and compare too.
#[track_caller]
fn judge(folder: &Path, image: &Path, driver: &str) {
    let raw = folder.join("judged.raw");
    tool(
        Command::new("qemu-img").args(["convert", "--image-opts", "-O", "raw"]).arg(qemu_name(image, driver)).arg(&raw),
    );
    let name = image.to_str().unwrap();
    for (algorithm, program) in [("sha256", "sha256sum"), ("blake3", "b3sum")] {
        if has_program(program) {
            let theirs = tool(Command::new(program).arg(&raw));
            let ours = run(folder, ["hash", "-q", "--algorithm", algorithm, name]);
            assert_eq!(ours.out.split("  ").next(), theirs.split("  ").next(), "{name}: {program}: {}", ours.err);
        }
    }
    let ours = if driver == "vpc" { "vhd" } else { driver };
    for args in [[name, "judged.raw", "-f", ours, "-F", "raw"], ["judged.raw", name, "-f", "raw", "-F", ours]] {
        let ran = run(folder, [&["compare", "-q"], &args[..]].concat());
        assert_eq!((ran.status, ran.err.as_str()), (Some(0), ""), "{name}");
    }
    // The first difference and the sizes as qemu-img sees them.
    let mut bytes = fs::read(&raw).unwrap();
    for at in [0, bytes.len() / 2, bytes.len() - 1] {
        bytes[at] ^= 0x20;
        fs::write(folder.join("other.raw"), &bytes).unwrap();
        bytes[at] ^= 0x20;
        let other = qemu_name(&folder.join("other.raw"), "raw");
        let theirs = Ran::of(
            Command::new("qemu-img").args(["compare", "--image-opts"]).arg(qemu_name(image, driver)).arg(other),
        );
        let ours = run(folder, ["compare", "-q", "--json", "-F", "raw", name, "other.raw"]);
        assert_eq!((theirs.status, ours.status), (Some(1), Some(1)), "{name}: {}{}", theirs.out, ours.err);
        // It tells where what it read in one go begins; ours is the byte.
        let mut place = theirs.out.split_whitespace().filter_map(|word| word.trim_end_matches('!').parse::<u64>().ok());
        let place = place.next_back().unwrap_or_else(|| panic!("{}", theirs.out));
        let report: serde_json::Value = serde_json::from_str(&ours.out).unwrap();
        assert_eq!(
            (&report["first_difference"]["offset"], &report["differing_sectors"]),
            (&(at as u64).into(), &1.into())
        );
        assert!(place <= at as u64 && at as u64 - place < 512, "{name}: {}", theirs.out);
    }
}

#[test]
#[ignore = "needs qemu-img"]
fn fixtures_have_the_digest_and_the_content_that_qemu_img_reads() {
    if !has_program("qemu-img") {
        return;
    }
    let folder = scratch();
    for (name, driver) in FIXTURES {
        judge(folder.path(), &fixture(name), driver);
    }
}

/// Every image of the corpus that is to be read: the digest of its row, which other programs agreed on, and qemu-img's where it is one of them.
#[test]
#[ignore = "needs the corpus and qemu-img"]
fn the_corpus_has_the_digests_of_its_rows() {
    if !has_program("qemu-img") {
        return;
    }
    let (mut seen, mut by_qemu) = (0, 0);
    for table in ["corpus/vhd.tsv", "corpus/vmdk.tsv"] {
        let Some(table) = shared_file(table) else { return };
        for row in fs::read_to_string(&table).unwrap().lines().skip(1) {
            let cells: Vec<_> = row.split('\t').collect();
            let [name, archive, format, variant, _, size, digest, expect, _, agreed, ..] = cells[..] else {
                panic!("{row}")
            };
            // What is read with an option or not at all is judged elsewhere; so is what would take minutes.
            if format == "vhdx"
                || expect != "ok"
                || digest.len() != 64
                || size.parse::<u64>().is_ok_and(|size| size > 1 << 30)
            {
                continue;
            }
            let folder = scratch();
            let archive: PathBuf = table.with_file_name(archive);
            tool(Command::new("tar").current_dir(folder.path()).arg("-xf").arg(archive));
            let ran = run(folder.path(), ["hash", "-q", name]);
            assert_eq!(ran.out.split("  ").next(), Some(digest), "{name}: {}", ran.err);
            seen += 1;
            let driver = if format == "vhd" { "vpc" } else { format };
            let plain = !variant.contains("differencing")
                && agreed.starts_with("qemu-img")
                && ["vhd", "vmdk"].contains(&format);
            if plain && !agreed.contains("qemu-img wrong") {
                judge(folder.path(), &folder.path().join(name), driver);
                by_qemu += 1;
            }
        }
    }
    println!("{seen} images, {by_qemu} of them by qemu-img too");
    assert!(seen > 40 && by_qemu > 20, "{seen} {by_qemu}");
}

/// A large disk, half of it holes, by the programs that its digests are named after.
#[test]
#[ignore = "takes half a minute"]
fn large_disks_have_the_digests_of_sha256sum_and_b3sum() {
    use std::os::unix::fs::FileExt;
    let folder = scratch();
    let raw = fs::File::create(folder.path().join("a.raw")).unwrap();
    raw.set_len((700 << 20) + 512).unwrap();
    let data = noise(3 << 20);
    for at in [0u64, (5 << 20) + 4096, (64 << 20) - 512, 300 << 20, 697 << 20] {
        raw.write_all_at(&data, at).unwrap();
    }
    run(folder.path(), ["a.raw", "b.vmdk", "-s", "stream", "--no-sync"]).succeeds();
    for (algorithm, program) in [("sha256", "sha256sum"), ("blake3", "b3sum")] {
        if !has_program(program) {
            continue;
        }
        let theirs = tool(Command::new(program).current_dir(folder.path()).arg("a.raw"));
        for jobs in ["1", "2", "7"] {
            assert_eq!(run(folder.path(), ["hash", "a.raw", "-j", jobs, "--algorithm", algorithm]).out, theirs);
            let ours = run(folder.path(), ["hash", "b.vmdk", "-j", jobs, "--algorithm", algorithm]).out;
            assert_eq!(ours.split("  ").next(), theirs.split("  ").next(), "-j {jobs}");
        }
    }
}
