//! The usual mistakes: a piece instead of the whole, something missing, something else altogether. Each is named, with what was meant.

mod common;

use std::fs;

use common::expect::{folder, reads, refused, warns};
use common::vmdk::{Sparse, descriptor};
use common::{pattern, run};

/// Five grains and three sectors; the third grain is zero.
fn guest() -> Vec<u8> {
    pattern(5 * 128 + 3, |n| (256..384).contains(&n))
}

#[test]
fn what_is_missing_elsewhere_or_not_read_is_named() {
    let f = folder(&[("s-s001.vmdk", &Sparse { descriptor: String::new(), ..Sparse::of(&guest()) }.build())]);
    let text = |extents: &str| descriptor("custom", 1, None, extents);
    for (extents, words) in [
        ("RW 8 FLAT \"none-flat.vmdk\" 0", "none-flat.vmdk"),
        ("RW 8 VMFSSPARSE \"x-delta.vmdk\"", "x-delta.vmdk"),
        ("RW 8 SESPARSE \"x-sesparse.vmdk\"", "x-sesparse.vmdk"),
        ("RW 8 VMFSRDM \"x-rdm.vmdk\"", "raw device mapping"),
        ("RW 8 VSANSPARSE \"vsan://1\"", "vSAN"),
        ("RW 8 VMFS \"vsan://1\"", "vSAN"),
        ("RW 8 FLAT \"/dev/sda\" 0", "absolute"),
        ("RW 8 FLAT", "without a file"),
        ("RW 0 ZERO", "0 sectors"),
        ("RW 18446744073709551615 ZERO", "larger than a disk"),
        ("RW 9007199254740992 ZERO\nRW 9007199254740992 ZERO", "larger than a disk"),
    ] {
        fs::write(f.path().join("d.vmdk"), text(extents)).unwrap();
        refused(f.path(), "d.vmdk", &["d.vmdk: ", words]);
    }
    for (key, words) in [
        ("encryptionKeys=\"vmware:key/list/x\"", "encrypted"),
        ("isNativeSnapshot=\"yes\"", "storage keeps"),
        ("ddb.iofilters = \"vmwarevmcrypt\"", "encrypted"),
        ("ddb.uuid.parent=\"00112233-4455-6677-8899-aabbccddeeff\"", "VirtualBox"),
        ("version=5", "version"),
    ] {
        fs::write(f.path().join("d.vmdk"), format!("{key}\n{}", text("RW 8 ZERO"))).unwrap();
        refused(f.path(), "d.vmdk", &["d.vmdk: at byte ", words]);
    }
    refused(f.path(), "s-s001.vmdk", &["a piece of a VMDK", "hint: give the descriptor"]);
    // Under another name it is read as what it holds, with a warning.
    fs::rename(f.path().join("s-s001.vmdk"), f.path().join("lone.vmdk")).unwrap();
    warns(f.path(), "lone.vmdk", &guest(), &["without a descriptor"]);
}

#[test]
fn peers_35_a_piece_is_refused_with_its_number_and_the_disk_it_belongs_to() {
    let piece = Sparse { descriptor: String::new(), ..Sparse::of(&guest()) }.build();
    let split = "RW 643 SPARSE \"x-s001.vmdk\"\nRW 643 SPARSE \"x-s002.vmdk\"\nRW 8 ZERO";
    let flat = "RW 643 FLAT \"y-flat.vmdk\" 0";
    let delta = "RW 8 VMFSSPARSE \"z-delta.vmdk\"";
    let se = "RW 8 SESPARSE \"w-sesparse.vmdk\"";
    let text = |extents: &str| descriptor("custom", 1, None, extents).into_bytes();
    let cowd = [b"COWD".as_slice(), &[0; 2044]].concat();
    let sesparse = [0xCAFE_BABEu64.to_le_bytes().as_slice(), &[0; 4088]].concat();
    let f = folder(&[
        ("x.vmdk", &text(split)),
        ("x-s001.vmdk", &piece),
        ("x-s002.vmdk", &piece),
        ("y.vmdk", &text(flat)),
        ("y-flat.vmdk", &guest()),
        ("z.vmdk", &text(delta)),
        ("z-delta.vmdk", &cowd),
        ("w.vmdk", &text(se)),
        ("w-sesparse.vmdk", &sesparse),
    ]);
    for (name, part, whole) in [
        ("x-s002.vmdk", "part 2 of 3 of x.vmdk", "x.vmdk"),
        ("y-flat.vmdk", "part 1 of 1 of y.vmdk", "y.vmdk"),
        ("z-delta.vmdk", "part 1 of 1 of z.vmdk", "z.vmdk"),
        ("w-sesparse.vmdk", "part 1 of 1 of w.vmdk", "w.vmdk"),
    ] {
        refused(f.path(), name, &[&format!("{name}: "), part, &format!("hint: give {whole}")]);
        fs::remove_file(f.path().join(whole)).unwrap();
        refused(f.path(), name, &[&format!("{name}: "), "descriptor", "hint: "]);
    }
    // A flat disk's data is a disk for who says so.
    run(f.path(), ["y-flat.vmdk", "o.raw", "-f", "raw"]).succeeds();
    assert!(fs::read(f.path().join("o.raw")).unwrap() == guest());
    // Whatever its name, a descriptor that names it tells.
    let text = descriptor("custom", 1, None, "RW 643 SPARSE \"data.vmdk\"");
    let f = folder(&[("d.vmdk", text.as_bytes()), ("data.vmdk", &piece)]);
    refused(f.path(), "data.vmdk", &["part 1 of 1 of d.vmdk"]);
    // A namesake in another folder is another file.
    let elsewhere = descriptor("custom", 1, None, "RW 643 SPARSE \"/elsewhere/lone.vmdk\"");
    let g = folder(&[("d.vmdk", elsewhere.as_bytes()), ("lone.vmdk", &piece)]);
    warns(g.path(), "lone.vmdk", &guest(), &["without a descriptor"]);
    reads(f.path(), "d.vmdk", &guest());
}

#[test]
fn every_file_that_is_missing_is_named_and_info_tells_the_rest() {
    let lines = "RW 643 SPARSE \"a-s001.vmdk\"\nRW 8 FLAT \"b-flat.vmdk\" 4\nRW 8 ZERO\nRW 8 FLAT \"c-flat.vmdk\" 0";
    let piece = Sparse { descriptor: String::new(), ..Sparse::of(&guest()) }.build();
    let text = descriptor("custom", 0xabc, Some((7, "gone.vmdk")), lines);
    let f = folder(&[("d.vmdk", text.as_bytes()), ("a-s001.vmdk", &piece)]);
    refused(f.path(), "d.vmdk", &["an extent is not there", "found b-flat.vmdk, nor are c-flat.vmdk"]);
    let ran = run(f.path(), ["info", "d.vmdk"]).fails(1, &["b-flat.vmdk", "c-flat.vmdk", "gone.vmdk"]);
    for line in [
        "format        VMDK custom",
        "content id    00000abc",
        "extents       RW SPARSE, 321.5 KiB \"a-s001.vmdk\"",
        "RW FLAT, 4.0 KiB \"b-flat.vmdk\" from byte 2048",
        "RW ZERO, 4.0 KiB\n",
        "parentCID = 00000007",
        "missing       b-flat.vmdk",
        "gone.vmdk",
    ] {
        assert!(ran.out.contains(line), "no {line:?} in\n{}", ran.out);
    }
    // Once in the report; what to do about it in the message alone, even where nothing of the guest can be read for it.
    assert!(!ran.out.contains("put it beside"), "{}", ran.out);
    let flat = descriptor("monolithicFlat", 1, None, "RW 643 FLAT \"c-flat.vmdk\" 0");
    let h = folder(&[("d.vmdk", flat.as_bytes())]);
    let alone = run(h.path(), ["info", "d.vmdk"]).fails(1, &["c-flat.vmdk", "hint: put it beside"]);
    assert!(alone.out.contains("partitions    cannot be read"), "{}", alone.out);
    let told = alone.out.lines().filter(|line| line.contains("not there") || line.contains("put it beside"));
    assert_eq!((told.count(), alone.err.lines().count()), (0, 2), "{}{}", alone.out, alone.err);
    assert_eq!(alone.out.matches("missing ").count(), 1, "{}", alone.out);
    let ran = run(f.path(), ["info", "--json", "d.vmdk"]).fails(1, &[]);
    let value: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let image = &value["images"][0];
    assert_eq!(image["missing"].as_array().unwrap().len(), 3);
    assert_eq!(image["missing"][2]["kind"], "not_found");
    assert_eq!(image["extent_count"], 4);
    assert_eq!(image["extents"][1]["file"], "b-flat.vmdk");
    assert_eq!((&image["extents"][1]["offset"], &image["extents"][1]["length"]), (&2048.into(), &4096.into()));
    // One file under many lines is missed once; very many lines are no disk.
    let many = "RW 8 FLAT \"no.bin\" 0\n".repeat(3000);
    let g = folder(&[("d.vmdk", descriptor("custom", 1, None, &many).as_bytes())]);
    let ran = run(g.path(), ["info", "d.vmdk"]).fails(1, &["no.bin"]);
    assert_eq!(ran.err.lines().filter(|line| line.starts_with("vdconv: ")).count(), 1, "{}", ran.err);
    fs::write(g.path().join("d.vmdk"), descriptor("custom", 1, None, &"RW 1 ZERO\n".repeat(70_000))).unwrap();
    refused(g.path(), "d.vmdk", &["d.vmdk: at byte ", "too many extents", "65536"]);
    let recorded = image["recorded"].as_array().unwrap();
    assert!(recorded.iter().any(|r| r["name"] == "parentFileNameHint" && r["value"] == "gone.vmdk"));
}

#[test]
fn r2_an_extent_elsewhere_is_named_with_what_lies_beside_and_followed_where_allowed() {
    let outer = common::scratch();
    let at = |name: &str| outer.path().join(name);
    fs::create_dir_all(at("vm")).unwrap();
    fs::write(at("data.bin"), guest()).unwrap();
    for name in [at("data.bin").to_str().unwrap(), "../data.bin"] {
        let text = descriptor("fullDevice", 1, None, &format!("RW 600 FLAT \"{name}\" 43"));
        fs::write(at("vm/d.vmdk"), text).unwrap();
        refused(&at("vm"), "d.vmdk", &["d.vmdk: at byte ", "a name in the image", name, "--allow-outside"]);
        fs::write(at("vm/data.bin"), "x").unwrap();
        refused(&at("vm"), "d.vmdk", &["d.vmdk: at byte ", "hint: data.bin lies beside the descriptor"]);
        fs::remove_file(at("vm/data.bin")).unwrap();
        run(&at("vm"), ["d.vmdk", "o.raw", "--allow-outside", "--force"]).succeeds();
        assert!(fs::read(at("vm/o.raw")).unwrap() == guest()[43 * 512..]);
        fs::remove_file(at("vm/o.raw")).unwrap();
    }
    // A disk that is no file is refused without waiting, allowed or not.
    fs::write(at("vm/d.vmdk"), descriptor("fullDevice", 1, None, "RW 8 FLAT \"/dev/zero\" 0")).unwrap();
    run(&at("vm"), ["d.vmdk", "o.raw", "--allow-outside"]).fails(1, &["/dev/zero", "character device"]);
}

#[test]
fn peers_14_what_is_no_disk_is_named_with_what_was_meant() {
    let vmx = ".encoding = \"UTF-8\"\nconfig.version = \"8\"\nvirtualHW.version = \"19\"\nscsi0:0.fileName = \"my disk.vmdk\"\nide1:0.fileName = \"cd.iso\"\nsata0:1.fileName=\"two.vmdk\"\n";
    let f = folder(&[
        ("vm.vmx", vmx.as_bytes()),
        ("d.vmdk.gz", b"\x1F\x8B\x08\0"),
        ("vm-ctk.vmdk", b"\xA2\x72\x19\xF6\0\0\0\0"),
    ]);
    refused(f.path(), "vm.vmx", &["a VMware machine (.vmx)", "hint: give its disk: my disk.vmdk, two.vmdk"]);
    refused(f.path(), "d.vmdk.gz", &["packed with gzip", "hint: gzip -dc"]);
    refused(f.path(), "vm-ctk.vmdk", &["changed-block map", "without -ctk"]);
    fs::write(f.path().join("vm-rdm.vmdk"), [0; 4096]).unwrap();
    refused(f.path(), "vm-rdm.vmdk", &["raw device mapping"]);
}

#[test]
fn a_header_of_no_capacity_wraps_a_descriptor_that_names_the_extents() {
    let mut wrapping =
        Sparse { descriptor: descriptor("custom", 3, None, "RW 643 FLAT \"d.bin\" 0"), ..Sparse::of(&guest()) }.build();
    wrapping[12..20].fill(0);
    let f = folder(&[("w.vmdk", &wrapping), ("d.bin", &guest())]);
    // With directories it is a damaged disk of its own, whatever its descriptor names.
    refused(f.path(), "w.vmdk", &["w.vmdk: at byte 12: ", "capacity"]);
    wrapping[48..64].fill(0);
    fs::write(f.path().join("w.vmdk"), &wrapping).unwrap();
    warns(f.path(), "w.vmdk", &guest(), &["w.vmdk: at byte 12: ", "its descriptor names the extents"]);
}

#[test]
fn a_key_that_comes_twice_is_told_and_the_first_counts() {
    let text = descriptor("custom", 3, None, "RW 643 FLAT \"d.bin\" 0");
    let f = folder(&[("d.vmdk", format!("{text}CID=4\n").as_bytes()), ("d.bin", &guest())]);
    warns(f.path(), "d.vmdk", &guest(), &["d.vmdk: at byte ", "another value: the first counts", "CID"]);
    let ran = run(f.path(), ["info", "d.vmdk"]);
    assert!(ran.out.contains("content id    00000003"), "{}", ran.out);
    fs::write(f.path().join("d.vmdk"), text.replace("\"lsilogic\"", "\"floppy\"")).unwrap();
    warns(f.path(), "d.vmdk", &guest(), &["a controller that is not known", "floppy"]);
}

/// Every run names a file, which is looked up: four times the files take four times as long, not sixteen times.
#[test]
#[ignore = "makes 65,536 names, and measures time"]
fn a_disk_of_four_times_the_files_takes_four_times_as_long() {
    let f = folder(&[]);
    let mut last = String::new();
    let mut extents = Vec::new();
    for n in 0..65_536 {
        let name = format!("{n}.bin");
        // File systems bound the names that a file has.
        match n % 16_384 {
            0 => fs::write(f.path().join(&name), [7; 4096]).unwrap(),
            _ => fs::hard_link(f.path().join(&last), f.path().join(&name)).unwrap(),
        }
        extents.push(format!("RW 8 FLAT \"{name}\" 0"));
        last = name;
    }
    let time = |count: usize| {
        fs::write(f.path().join("d.vmdk"), descriptor("custom", 1, None, &extents[..count].join("\n"))).unwrap();
        let once = || {
            let began = std::time::Instant::now();
            assert_eq!(run(f.path(), ["hash", "d.vmdk"]).status, Some(0));
            began.elapsed()
        };
        (0..3).map(|_| once()).min().unwrap()
    };
    let (few, many) = (time(16_384), time(65_536));
    assert!(many < few * 11 / 2, "{few:?}, then {many:?}");
}
