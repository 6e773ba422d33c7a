//! ISO images: recognised, described, whole or refused; and back again from a machine's disk.

mod common;

use std::fs;
use std::process::Command;

use common::expect::{folder, reads, refused, warns};
use common::iso::{hybrid, iso};
use common::{fixture, has_program, has_programs, names, run, scratch, shared_file};

#[test]
fn info_tells_the_volume_what_boots_and_whether_it_is_a_hybrid() {
    let ran = run(&fixture("iso"), ["info", "xorriso-hybrid.iso"]).succeeds();
    for text in
        ["ISO image", "volume id = FIXTURE", "ISO 9660, Joliet", "El Torito: BIOS", "hybrid = yes", "(102400 bytes)"]
    {
        assert!(ran.out.contains(text), "no {text} in\n{}", ran.out);
    }
    let f = folder(&[("a.img", &iso(30))]);
    let ran = run(f.path(), ["info", "a.img"]).succeeds();
    for text in ["volume id = A VOLUME\n", "El Torito: BIOS, EFI", "hybrid = no"] {
        assert!(ran.out.contains(text), "no {text} in\n{}", ran.out);
    }
}

#[test]
fn a_disc_goes_into_machines_disks_and_back_and_one_that_will_not_boot_is_told() {
    let mut image = iso(100);
    for is_hybrid in [false, true] {
        if is_hybrid {
            hybrid(&mut image);
        }
        let f = folder(&[("a.iso", &image)]);
        for output in ["o.vmdk", "o.vhd"] {
            let ran = run(f.path(), ["a.iso", output]);
            assert_eq!(ran.status, Some(0), "{}", ran.err);
            assert_eq!(ran.err.contains("attach the ISO as a CD"), !is_hybrid, "{}", ran.err);
            run(f.path(), [output, "back.iso", "--force"]).succeeds();
            assert!(fs::read(f.path().join("back.iso")).unwrap() == image);
        }
        reads(f.path(), "a.iso", &image);
    }
}

#[test]
fn an_image_shorter_than_its_volume_is_refused_and_one_without_its_padding_warned_about() {
    let image = iso(1000);
    let f = folder(&[("a.iso", &image[..(1000 - 151) * 2048])]);
    refused(
        f.path(),
        "a.iso",
        &["a.iso: at byte 1738752: ", "truncated", "found 1738752 bytes, expected 2048000", "fetch it again"],
    );
    fs::write(f.path().join("a.iso"), &image[..(1000 - 150) * 2048]).unwrap();
    warns(f.path(), "a.iso", &image[..850 * 2048], &["ends within its padding", "expected 2048000"]);
    // Longer is what tools make, all of it the disk's.
    let longer = [image.clone(), vec![7; 3 * 512]].concat();
    fs::write(f.path().join("a.iso"), &longer).unwrap();
    reads(f.path(), "a.iso", &longer);
    // A hybrid's GPT whose backup would lie behind the end, one that is damaged, one that says what cannot be.
    let mut gpt = image.clone();
    hybrid(&mut gpt);
    let header = |gpt: &mut Vec<u8>, alternate: u64| {
        gpt[512..520].copy_from_slice(b"EFI PART");
        gpt[524..528].copy_from_slice(&92u32.to_le_bytes());
        gpt[528..532].fill(0);
        gpt[544..552].copy_from_slice(&alternate.to_le_bytes());
        let sum = crc32fast::hash(&gpt[512..604]);
        gpt[528..532].copy_from_slice(&sum.to_le_bytes());
    };
    header(&mut gpt, 3999);
    fs::write(f.path().join("a.iso"), &gpt).unwrap();
    reads(f.path(), "a.iso", &gpt);
    header(&mut gpt, 4999);
    fs::write(f.path().join("a.iso"), &gpt).unwrap();
    refused(f.path(), "a.iso", &["truncated", "expected 2560000"]);
    for change in [true, false] {
        header(&mut gpt, if change { 3999 } else { 1 << 63 });
        gpt[560] ^= u8::from(change);
        fs::write(f.path().join("a.iso"), &gpt).unwrap();
        warns(f.path(), "a.iso", &gpt, &["at byte 512: ", "GPT header of the hybrid image is damaged"]);
    }
    // What is no disc, said to be one.
    fs::write(f.path().join("a.img"), vec![1; 40_960]).unwrap();
    run(f.path(), ["a.img", "o.raw", "-f", "iso"]).fails(1, &["a.img: at byte 32768: no ISO 9660 or UDF"]);
    // The corpus' UDF volume, whose partition says where it ends.
    let Some(archive) = shared_file("corpus/iso-udf-plain.tar.xz") else { return };
    if !has_programs(&["tar", "xz"]) {
        return;
    }
    let folder = scratch();
    assert!(Command::new("tar").arg("-xJf").arg(archive).arg("-C").arg(folder.path()).status().unwrap().success());
    let udf = folder.path().join("iso-udf-plain");
    let whole = fs::read(udf.join("udf-plain.iso")).unwrap();
    let ran = run(&udf, ["info", "udf-plain.iso"]).succeeds();
    assert!(ran.out.contains("file systems = UDF (NSR03)"), "{}", ran.out);
    for (len, text) in [(whole.len() / 2, "truncated"), (40_960, "is the image cut short?"), (525_000, "truncated")] {
        fs::write(udf.join("cut.iso"), &whole[..len]).unwrap();
        refused(&udf, "cut.iso", &[text, "hint: "]);
    }
}

#[test]
#[ignore = "needs xorriso"]
fn what_xorriso_makes_comes_back_byte_for_byte_and_is_refused_when_cut() {
    if !has_program("xorriso") {
        return;
    }
    let f = scratch();
    let at = |name: &str| f.path().join(name);
    fs::create_dir(at("tree")).unwrap();
    fs::write(at("tree/boot.img"), [0xEB; 4096]).unwrap();
    fs::write(at("tree/data"), vec![0x5A; 3_000_000]).unwrap();
    let mbr = "/usr/lib/ISOLINUX/isohdpfx.bin";
    let mut kinds = vec![("torito.iso", vec![]), ("label.iso", vec!["--protective-msdos-label"])];
    if fs::exists(mbr).unwrap() {
        kinds.push(("isohybrid.iso", vec!["-isohybrid-mbr", mbr]));
    }
    for (name, options) in kinds {
        let mut command = Command::new("xorriso");
        command
            .current_dir(f.path())
            .args(["-as", "mkisofs", "-quiet", "-o", name, "-V", "X", "-J", "-R"])
            .args(options);
        let args = ["-b", "boot.img", "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "tree"];
        assert!(command.args(args).status().unwrap().success());
        let image = fs::read(at(name)).unwrap();
        for output in ["o.vmdk", "o.vhd"] {
            assert_eq!(run(f.path(), [name, output, "--force"]).status, Some(0));
            run(f.path(), [output, "back.iso", "--force"]).succeeds();
            assert!(fs::read(at("back.iso")).unwrap() == image, "{name} {output}");
        }
        fs::write(at("cut.iso"), &image[..image.len() * 2 / 3]).unwrap();
        run(f.path(), ["cut.iso", "cut.vmdk"]).fails(1, &["truncated", "hint: "]);
        assert!(!names(f.path()).contains(&"cut.vmdk".to_string()));
    }
}

#[test]
#[ignore = "needs mkudffs"]
fn the_name_of_a_udf_volume_is_told_in_any_block_size_and_script() {
    if !has_program("mkudffs") {
        return;
    }
    let f = scratch();
    for (block, label) in [("512", "UDFDISK"), ("2048", "Диск"), ("4096", "née")] {
        let path = f.path().join("a.iso");
        fs::File::create(&path).unwrap().set_len(16 << 20).unwrap();
        let made = Command::new("mkudffs").args(["--utf8", "-b", block, "-l", label]).arg(&path).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let ran = run(f.path(), ["info", "a.iso"]).succeeds();
        assert!(ran.out.contains(&format!("volume id = {label}\n")), "{block}: {}", ran.out);
        fs::File::options().write(true).open(&path).unwrap().set_len(8 << 20).unwrap();
        refused(f.path(), "a.iso", &["the ISO image is truncated"]);
    }
}
