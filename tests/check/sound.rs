//! Sound images have no finding but notes that are true of them, each listed here: what others made, and what vdconv writes.

use super::common::{fixture, names, pattern, run, scratch};
use super::vhd;

/// What is true of the fixtures: QEMU's force_size records the largest geometry whatever the size, which Xen's tools refuse; QEMU and
/// VirtualBox put data right behind the bitmaps, whose every bit they set.
const OF_FIXTURES: [(&str, &[&str]); 4] = [
    ("ext2-dynamic.vhd", &["VHD-ALIGNMENT note"]),
    ("qemu-dynamic.vhd", &["VHD-ALIGNMENT note", "VHD-BITMAP-BEHIND-END note", "VHD-GEOMETRY warning"]),
    ("qemu-fixed.vhd", &["VHD-GEOMETRY warning"]),
    ("vbox-dynamic.vhd", &["VHD-ALIGNMENT note", "VHD-BITMAP-BEHIND-END note"]),
];

/// Sound, with exactly these findings in the order of the file.
fn has(ran: &super::common::Ran, wanted: &[&str]) {
    let lines: Vec<_> = ran.out.lines().collect();
    let fits = lines.len() == wanted.len() + 1
        && lines.iter().zip(wanted).all(|(line, wanted)| line.starts_with(wanted))
        && lines.last().is_some_and(|line| line.contains(": sound ("));
    assert!(fits && ran.status == Some(0) && ran.err.is_empty(), "{wanted:?}: {}{}", ran.out, ran.err);
}

fn listed<'a>(list: &[(&str, &'a [&'a str])], name: &str) -> &'a [&'a str] {
    list.iter().find(|(known, _)| *known == name).map_or(&[], |(_, wanted)| wanted)
}

#[test]
fn sound_fixtures_have_no_finding_but_what_is_listed() {
    for folder in ["vhd", "vmdk", "iso"] {
        for file in names(&fixture(folder)).into_iter().filter(|name| !name.ends_with("-s001.vmdk")) {
            has(&run(&fixture(folder), ["check", &file]), listed(&OF_FIXTURES, &file));
        }
    }
}

/// What is true of what vdconv writes: without gaps, data is not aligned; blocks of 1 MiB are at the user's word.
const OF_OURS: [(&str, &[&str]); 2] = [("c.vhd", &["VHD-ALIGNMENT note"]), ("m.vhd", &["VHD-BLOCK-SIZE note"])];

#[test]
fn what_vdconv_writes_has_no_finding_but_what_is_listed() {
    let folder = scratch();
    let disk = pattern(9000, |n| n % 3000 > 400 && n != 8999);
    std::fs::write(folder.path().join("in.raw"), &disk).unwrap();
    let mut changed = disk;
    changed[700_000..1_900_000].fill(0x5A);
    std::fs::write(folder.path().join("new.raw"), &changed).unwrap();
    let mut kinds: Vec<(&str, Vec<&str>)> = vec![
        ("d.vhd", vec![]),
        ("c.vhd", vec!["--contiguous"]),
        ("b.vhd", vec!["--block-size", "512K"]),
        ("m.vhd", vec!["--block-size", "1M"]),
        ("x.vhd", vec!["-s", "fixed"]),
        ("child.vhd", vec!["-s", "differencing", "--base", "d.vhd"]),
        ("g.vmdk", vec!["--block-size", "8K"]),
        ("s-child.vmdk", vec!["--base", "monolithicSparse.vmdk"]),
    ];
    let vmdk: Vec<_> = super::common::vmdk::KINDS.iter().map(|kind| (format!("{kind}.vmdk"), *kind)).collect();
    kinds.splice(0..0, vmdk.iter().map(|(name, kind)| (name.as_str(), vec!["-s", *kind])));
    for (name, args) in &kinds {
        let input = if name.contains("child") { "new.raw" } else { "in.raw" };
        run(folder.path(), [input, *name].iter().chain(args)).succeeds();
    }
    // The base is the parent of a snapshot by now: what it says is checked in front of that.
    for (name, _) in kinds.iter().rev() {
        has(&run(folder.path(), ["check", name]), listed(&OF_OURS, name));
        if name.contains("child") {
            std::fs::remove_file(folder.path().join(name)).unwrap();
        }
    }
}

#[test]
fn a_sound_batmap_has_no_finding() {
    use super::common::vhd::Vhd;
    let folder = scratch();
    let tap = Vhd {
        creator: *b"tap\0",
        creator_version: 0x0001_0003,
        align: 4096,
        ..Vhd::dynamic_of(&pattern(2048, |n| n >= 1024), 512 << 10)
    };
    std::fs::write(folder.path().join("a.vhd"), vhd::with_batmap(&tap, 0x80)).unwrap();
    let ran = run(folder.path(), ["check", "a.vhd"]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(0), "a.vhd: sound (VHD)\n"), "{}", ran.err);
}

#[test]
fn a_disc_that_carries_its_own_md5_has_no_finding_and_a_change_is_told_with_its_place() {
    let folder = scratch();
    let mut image = super::disc::with_md5(1000);
    std::fs::write(folder.path().join("a.iso"), &image).unwrap();
    let ran = run(folder.path(), ["check", "a.iso"]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(0), "a.iso: sound (ISO image)\n"), "{}", ran.err);
    image[900_000] ^= 1;
    std::fs::write(folder.path().join("a.iso"), &image).unwrap();
    let ran = run(folder.path(), ["check", "--json", "a.iso"]);
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let hint = report["findings"][0]["hint"].as_str().unwrap();
    let numbers: Vec<u64> = hint.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(numbers[0] <= 900_000 && 900_000 < numbers[1] && numbers[1] - numbers[0] < 200_000, "{hint}");
}

#[test]
fn a_grain_that_became_zero_leaves_its_place_and_is_no_finding() {
    use super::common::vmdk::Sparse;
    let folder = scratch();
    let sparse = Sparse { version: 2, flags: 7, ..Sparse::of(&pattern(643, |_| false)) };
    let mut bytes = sparse.build();
    for directory in [sparse.gd(), sparse.rgd()] {
        let at = sparse.entry_at(directory, 2);
        bytes[at..at + 4].copy_from_slice(&[1, 0, 0, 0]);
    }
    std::fs::write(folder.path().join("a.vmdk"), bytes).unwrap();
    let ran = run(folder.path(), ["check", "a.vmdk"]);
    assert_eq!((ran.status, ran.out.as_str()), (Some(0), "a.vmdk: sound (VMDK)\n"), "{}", ran.err);
}

#[test]
fn discs_with_folders_a_udf_volume_or_a_gpt_have_no_finding() {
    use super::common::iso::{block, bridge, directory, hybrid_gpt, iso, record};
    let folder = scratch();
    // A file in two pieces, and one on another disc of the set.
    let mut pieces = iso(50);
    let records = [
        record(b"A;1", 29, 2048, 0x80),
        record(b"A;1", 30, 100, 0),
        [&record(b"B;1", 9000, 1, 0)[..28], &[2, 0, 0, 2, 3], b"B;1"].concat(),
        record(b"FOLDER", 26, 2048, 2),
    ];
    pieces[block::ROOT * 2048..][..2048].copy_from_slice(&directory(25, 25, &records));
    pieces[block::PRIMARY * 2048 + 120..][..4].copy_from_slice(&[2, 0, 0, 2]);
    let mut gpt = bridge(1000);
    hybrid_gpt(&mut gpt);
    // The GPT's copy takes the place of the anchor at the end.
    for (name, image) in
        [("plain.iso", iso(30)), ("pieces.iso", pieces), ("bridge.iso", bridge(1000)), ("gpt.iso", gpt)]
    {
        std::fs::write(folder.path().join(name), image).unwrap();
        let ran = run(folder.path(), ["check", name]);
        assert_eq!((ran.status, ran.out), (Some(0), format!("{name}: sound (ISO image)\n")), "{}", ran.err);
    }
}
