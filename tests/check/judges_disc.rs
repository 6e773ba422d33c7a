//! Discs that other programs write have no finding; and what isomd5sum's own program refuses, check refuses.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::common::judge::tool;
use super::common::{Ran, has_program, noise, run, scratch, shared_file};

/// A folder with what discs have trouble with: depth, long names, many files, empty ones, and something to boot.
fn tree(folder: &Path) {
    let at = |name: &str| folder.join("tree").join(name);
    fs::create_dir_all(at("1/2/3/4/5/6/7/8/9/10")).unwrap();
    fs::create_dir_all(at("many")).unwrap();
    fs::write(at("1/2/3/4/5/6/7/8/9/10/deep"), "deep").unwrap();
    fs::write(at("a name that is longer than others, with Ümlaute.text"), "text").unwrap();
    for n in 0..300 {
        fs::write(at(&format!("many/file {n}")), n.to_string()).unwrap();
    }
    fs::write(at("empty"), "").unwrap();
    fs::write(at("boot.img"), noise(4096)).unwrap();
    fs::write(at("efi.img"), noise(1 << 20)).unwrap();
    fs::write(at("data"), noise(3_000_000)).unwrap();
}

fn is_sound(folder: &Path, name: &str) {
    let ran = run(folder, ["check", name]);
    assert_eq!((ran.status, ran.out), (Some(0), format!("{name}: sound (ISO image)\n")), "{}", ran.err);
    println!("{name}: sound");
}

fn quietly(command: &mut Command) {
    let ran = Ran::of(command.stdin(Stdio::null()));
    assert_eq!(ran.status, Some(0), "{command:?}: {}{}", ran.out, ran.err);
}

#[test]
#[ignore = "needs xorriso, genisoimage and mkudffs"]
fn discs_of_other_programs_have_no_finding() {
    if !["xorriso", "genisoimage", "mkudffs"].map(has_program).iter().all(|has| *has) {
        return;
    }
    let folder = scratch();
    tree(folder.path());
    let boot = ["-b", "boot.img", "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4"];
    let efi = ["-eltorito-alt-boot", "-e", "efi.img", "-no-emul-boot"];
    let mbr = ["-isohybrid-mbr", "/usr/lib/ISOLINUX/isohdpfx.bin"];
    let appended = [
        "-appended_part_as_gpt",
        "-append_partition",
        "2",
        "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
        "tree/efi.img",
        "-eltorito-alt-boot",
        "-e",
        "--interval:appended_partition_2:all::",
        "-no-emul-boot",
    ];
    let mut kinds: Vec<(&str, &str, Vec<&str>)> = vec![
        ("xorriso.iso", "xorriso", vec!["-J", "-R"]),
        ("xorriso-level4.iso", "xorriso", vec!["-J", "-joliet-long", "-R", "-iso-level", "4"]),
        ("xorriso-boot.iso", "xorriso", [&["-J", "-R", "--protective-msdos-label"][..], &boot].concat()),
        ("xorriso-appended.iso", "xorriso", [&["-J", "-R"][..], &boot, &appended].concat()),
        ("genisoimage.iso", "genisoimage", vec!["-J", "-R"]),
        ("genisoimage-plain.iso", "genisoimage", vec!["-D"]),
        ("genisoimage-level4.iso", "genisoimage", vec!["-iso-level", "4", "-D"]),
        ("genisoimage-udf.iso", "genisoimage", [&["-J", "-R", "-udf"][..], &boot].concat()),
        ("genisoimage-hfs.iso", "genisoimage", vec!["-J", "-R", "-hfs"]),
    ];
    if fs::exists(mbr[1]).unwrap() {
        kinds.push(("isohybrid.iso", "xorriso", [&["-J", "-R"][..], &boot, &mbr].concat()));
        let basdat = ["-isohybrid-gpt-basdat"];
        kinds.push(("isohybrid-efi.iso", "xorriso", [&["-J", "-R"][..], &boot, &mbr, &efi, &basdat].concat()));
    }
    for (name, program, options) in kinds {
        let mut command = Command::new(program);
        if program == "xorriso" {
            command.args(["-as", "mkisofs"]);
        }
        let command = command.current_dir(folder.path()).args(["-quiet", "-V", "X", "-o", name]);
        quietly(command.args(options).arg("tree"));
        is_sound(folder.path(), name);
    }
    // A second session, whose descriptors take the place of the first one's.
    quietly(Command::new("xorriso").current_dir(folder.path()).args([
        "-dev",
        "xorriso.iso",
        "-map",
        "tree/data",
        "/second",
        "-commit",
    ]));
    is_sound(folder.path(), "xorriso.iso");
    for (name, options) in [
        ("udf-2048.iso", vec!["-b", "2048"]),
        ("udf-512.iso", vec!["-b", "512"]),
        ("udf-cdr.iso", vec!["--media-type=cdr", "-r", "1.50"]),
        ("udf-bdr.iso", vec!["--media-type=bdr", "-r", "2.60"]),
        ("udf-dvdram.iso", vec!["--media-type=dvdram"]),
    ] {
        fs::File::create(folder.path().join(name)).unwrap().set_len(16 << 20).unwrap();
        quietly(Command::new("mkudffs").current_dir(folder.path()).args(options).arg(name));
        is_sound(folder.path(), name);
    }
}

#[test]
#[ignore = "needs the corpus"]
fn sound_discs_of_the_corpus_have_no_finding() {
    let sound = ["iso-hybrid-gpt", "iso-joliet", "iso-netbsd-tail", "iso-poweriso", "iso-udf-plain", "iso-xorriso"];
    let folder = scratch();
    for name in sound {
        let Some(archive) = shared_file(&format!("corpus/{name}.tar.xz")) else { return };
        tool(Command::new("tar").arg("-xJf").arg(archive).arg("-C").arg(folder.path()));
        let within = folder.path().join(name);
        for image in super::common::names(&within).iter().filter(|file| file.ends_with(".iso")) {
            is_sound(&within, image);
        }
    }
}

#[test]
#[ignore = "needs genisoimage and isomd5sum"]
fn a_disc_whose_own_md5_checkisomd5_refuses_is_not_sound_and_the_place_is_told() {
    if !["genisoimage", "implantisomd5", "checkisomd5"].map(has_program).iter().all(|has| *has) {
        return;
    }
    let folder = scratch();
    tree(folder.path());
    let options = ["-quiet", "-V", "X", "-J", "-R", "-o", "a.iso", "tree"];
    quietly(Command::new("genisoimage").current_dir(folder.path()).args(options));
    quietly(Command::new("implantisomd5").current_dir(folder.path()).arg("a.iso"));
    let path = folder.path().join("a.iso");
    let whole = fs::read(&path).unwrap();
    let both = || {
        let theirs = Ran::of(Command::new("checkisomd5").arg(&path).stdin(Stdio::null()));
        (theirs.status == Some(0), run(folder.path(), ["check", "--json", "a.iso"]))
    };
    let (theirs, ours) = both();
    assert!(theirs && ours.status == Some(0), "{}", ours.out);
    // Within file contents, so that nothing else is wrong; and in the sectors at the end that are not summed.
    let data = whole.len() - 150 * 2048 - 2_900_000;
    let mut ranges = std::collections::BTreeSet::new();
    for place in (data..whole.len() - 150 * 2048).step_by(331_777).chain([whole.len() - 16 * 2048]) {
        let mut damaged = whole.clone();
        damaged[place] ^= 0x10;
        fs::write(&path, damaged).unwrap();
        let (theirs, ours) = both();
        assert!(!theirs && ours.status == Some(1), "byte {place}: {}", ours.out);
        let report: serde_json::Value = serde_json::from_str(&ours.out).unwrap();
        let finding = &report["findings"][0];
        assert!(finding["id"] == "ISO-MEDIA-MD5" && report["findings"].as_array().unwrap().len() == 1, "{report}");
        let hint = finding["hint"].as_str().unwrap();
        let numbers: Vec<usize> = hint.split(' ').filter_map(|word| word.parse().ok()).collect();
        assert!(numbers[0] <= place && place < numbers[1], "byte {place}: {hint}");
        assert!(numbers[1] - numbers[0] < whole.len() / 20 + 2 * 32_768, "byte {place}: {hint}");
        ranges.insert(numbers[0]);
    }
    assert!(ranges.len() > 5, "{ranges:?}");
    let mut padding = whole.clone();
    let last = padding.len() - 100;
    padding[last] ^= 0x10;
    fs::write(&path, padding).unwrap();
    let (theirs, ours) = both();
    assert!(theirs && ours.status == Some(0), "{}", ours.out);
}
