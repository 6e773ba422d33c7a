//! VMDKs as the strictest readers want them, read back by a reader of our tests' own.

mod common;

use std::fs;
use std::path::Path;
use std::time::Instant;

use common::vhd::Vhd;
use common::{Ran, pattern, run, scratch, vdconv, vmdk};

/// Converts `source` with these options and reads the result.
fn convert(folder: &Path, source: &str, options: &[&str]) -> vmdk::Vmdk {
    run(folder, [&[source, "o.vmdk", "--force"], options].concat()).succeeds();
    vmdk::read(&folder.join("o.vmdk"))
}

#[test]
fn every_size_comes_out_exact_in_both_kinds_and_from_both_sources() {
    // 512 bytes, 3 sectors, one grain, one grain and a sector, 5 MiB + 3 sectors, a table and a bit, 40 MiB + 64 KiB - 512.
    for sectors in [1, 3, 128, 129, 10_243, 65_537, 82_047] {
        let guest = pattern(sectors, |n| n % 1000 >= 300 && n + 1 != sectors);
        let folder = scratch();
        fs::write(folder.path().join("a.vhd"), Vhd::dynamic_of(&guest, 1 << 21).build()).unwrap();
        fs::write(folder.path().join("a.raw"), &guest).unwrap();
        for source in ["a.vhd", "a.raw"] {
            let sparse = convert(folder.path(), source, &[]);
            assert!(sparse.guest == guest, "{source} {sectors} sparse");
            let stored: Vec<u64> =
                guest.chunks(65_536).zip(0..).filter(|(g, _)| g.iter().any(|b| *b != 0)).map(|(_, n)| n).collect();
            assert_eq!(sparse.grains, stored, "all-zero grains are not stored, the others are");
            assert!(convert(folder.path(), source, &["-s", "flat"]).guest == guest, "{source} {sectors} flat");
        }
    }
}

#[test]
fn r23_the_bytes_do_not_depend_on_the_number_of_workers() {
    let guest = pattern(60_000, |n| n % 900 < 400);
    let folder = scratch();
    fs::write(folder.path().join("a.vhd"), Vhd::dynamic_of(&guest, 1 << 19).build()).unwrap();
    for (output, kind) in [("o.vmdk", vec![]), ("o.vmdk", vec!["-s", "flat"]), ("o.raw", vec![])] {
        let mut first = None;
        for jobs in ["1", "2", "7"] {
            let mut command = vdconv();
            command.env("SOURCE_DATE_EPOCH", "1600000000").current_dir(folder.path());
            Ran::of(command.args(["a.vhd", output, "-j", jobs, "--force"]).args(&kind)).succeeds();
            let bytes = ["o.vmdk", "o-flat.vmdk", "o.raw"].map(|f| fs::read(folder.path().join(f)).unwrap_or_default());
            assert!(*first.get_or_insert(bytes.clone()) == bytes, "{output} {kind:?} -j {jobs}");
        }
    }
}

#[test]
fn r26_and_r21_identifiers_are_fresh_derived_or_given() {
    let folder = scratch();
    let guest = pattern(8, |_| false);
    fs::write(folder.path().join("a.vhd"), Vhd::dynamic_of(&guest, 4096).build()).unwrap();
    let mut other = Vhd::dynamic_of(&guest, 4096);
    other.unique_id[0] ^= 1;
    fs::write(folder.path().join("b.vhd"), other.build()).unwrap();
    fs::write(folder.path().join("c.raw"), &guest).unwrap();
    fs::write(folder.path().join("d.raw"), pattern(8, |n| n == 7)).unwrap();
    let ids = |source: &str, epoch: Option<&str>, options: &[&str]| {
        let mut command = vdconv();
        command.current_dir(folder.path()).args([source, "o.vmdk", "--force"]).args(options);
        if let Some(epoch) = epoch {
            command.env("SOURCE_DATE_EPOCH", epoch);
        }
        Ran::of(&mut command).succeeds();
        let keys = vmdk::read(&folder.path().join("o.vmdk")).keys;
        ["CID", "ddb.longContentID", "ddb.uuid", "ddb.uuid.image"].map(|k| keys[k].clone())
    };
    let different = |a: &[String; 4], b: &[String; 4]| a.iter().zip(b).all(|(a, b)| a != b);
    assert!(different(&ids("a.vhd", None, &[]), &ids("a.vhd", None, &[])));
    let one = ids("a.vhd", Some("1"), &[]);
    assert_eq!(one, ids("a.vhd", Some("1"), &[]));
    for other in [
        ids("a.vhd", Some("2"), &[]),
        ids("b.vhd", Some("1"), &[]),
        ids("a.vhd", Some("1"), &["-s", "flat"]),
        ids("a.vhd", Some("1"), &["--adapter", "lsilogic"]),
    ] {
        assert!(different(&one, &other));
    }
    assert!(different(&ids("c.raw", Some("1"), &[]), &ids("d.raw", Some("1"), &[])));
    // A nil id is none: the content decides.
    for (name, sectors) in [("e.vhd", 8), ("f.vhd", 7)] {
        let mut vhd = Vhd::dynamic_of(&pattern(8, |n| n == sectors), 4096);
        vhd.unique_id = [0; 16];
        fs::write(folder.path().join(name), vhd.build()).unwrap();
    }
    assert!(different(&ids("e.vhd", Some("1"), &[]), &ids("f.vhd", Some("1"), &[])));
    // What is read differently is another disk.
    assert!(different(&one, &ids("a.vhd", Some("1"), &["--ignore-bitmaps"])));
    let given = ids("a.vhd", Some("1"), &["--uuid", "00112233-4455-6677-8899-AABBCCDDEEFF", "--cid", "C0FFEE"]);
    assert_eq!((given[0].as_str(), given[3].as_str()), ("00c0ffee", "00112233-4455-6677-8899-aabbccddeeff"));
    for bad in ["x", "-1", "+1", "1.5", "", "4294967296", "9223372036854775808", "18446744073709551616"] {
        let mut command = vdconv();
        command.current_dir(folder.path()).env("SOURCE_DATE_EPOCH", bad).args(["a.vhd", "p.vmdk"]);
        Ran::of(&mut command).fails(2, &["SOURCE_DATE_EPOCH"]);
    }
}

#[test]
fn the_adapter_is_the_users_else_what_the_sources_machines_boot_from() {
    let folder = scratch();
    let guest = pattern(5_000_000 / 512, |n| n > 3);
    fs::write(folder.path().join("a.vhd"), Vhd::dynamic_of(&guest, 1 << 21).build()).unwrap();
    fs::write(folder.path().join("a.raw"), &guest).unwrap();
    for kind in ["monolithicSparse", "MONOLITHICFLAT"] {
        assert_eq!(convert(folder.path(), "a.vhd", &["-s", kind]).keys["ddb.adapterType"], "ide");
        assert_eq!(convert(folder.path(), "a.raw", &["-s", kind]).keys["ddb.adapterType"], "lsilogic");
        for adapter in ["ide", "buslogic", "lsilogic", "lsisas1068", "pvscsi", "legacyESX"] {
            let keys = convert(folder.path(), "a.vhd", &["-s", kind, "--adapter", adapter]).keys;
            assert_eq!(keys["ddb.adapterType"], adapter);
            // 9765 sectors: 9765 / 1008 and 9765 / 2048.
            let want = if adapter == "ide" { ["9", "16", "63"] } else { ["4", "64", "32"] };
            assert_eq!(["cylinders", "heads", "sectors"].map(|k| keys[&format!("ddb.geometry.{k}")].as_str()), want);
        }
    }
}

#[test]
fn the_descriptor_is_the_one_that_all_readers_take() {
    let folder = scratch();
    fs::write(folder.path().join("a.vhd"), Vhd::dynamic_of(&pattern(8, |_| false), 4096).build()).unwrap();
    for (kind, extent) in
        [("monolithicSparse", "RW 8 SPARSE \"o.vmdk\""), ("monolithicFlat", "RW 8 FLAT \"o-flat.vmdk\" 0")]
    {
        let disk = convert(
            folder.path(),
            "a.vhd",
            &["-s", kind, "--uuid", "00112233-4455-6677-8899-aabbccddeeff", "--cid", "c0ffee01"],
        );
        // The random parts are taken from what was written; the rest is the text of the format's page.
        let (long, scsi) = (&disk.keys["ddb.longContentID"], &disk.keys["ddb.uuid"]);
        assert!(scsi.starts_with("60 00 c2 9") && scsi.len() == 47 && scsi.as_bytes()[23] == b'-');
        let want = format!(
            "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=c0ffee01\nparentCID=ffffffff\ncreateType=\"{kind}\"\n\n\
             # Extent description\n{extent}\n\n# The Disk Data Base\n#DDB\n\nddb.adapterType = \"ide\"\n\
             ddb.geometry.cylinders = \"1\"\nddb.geometry.heads = \"16\"\nddb.geometry.sectors = \"63\"\n\
             ddb.longContentID = \"{long}\"\nddb.uuid = \"{scsi}\"\n\
             ddb.uuid.image = \"00112233-4455-6677-8899-aabbccddeeff\"\nddb.virtualHWVersion = \"4\"\n"
        );
        assert_eq!(disk.descriptor, want);
    }
}

#[cfg(unix)]
#[test]
fn holes_stay_holes_and_are_not_read() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let folder = scratch();
    // 1 GiB, of which three pages at odd places are data, and one page of stored zeroes.
    let raw = fs::File::create(folder.path().join("a.raw")).unwrap();
    raw.set_len(1 << 30).unwrap();
    for at in [0, 300 << 20, (1 << 30) - 4096] {
        raw.write_all_at(&[7; 4096], at).unwrap();
    }
    raw.write_all_at(&[0; 4096], 500 << 20).unwrap();
    for (output, options) in
        [("o.raw", vec![]), ("p.img", vec!["-v"]), ("o.vmdk", vec!["-s", "flat"]), ("s.vmdk", vec![])]
    {
        let ran = run(folder.path(), [vec!["a.raw", output, "--json"], options].concat());
        let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        // Three pages, and the last MiB once, where a footer was looked for.
        assert!(report["bytes_read"].as_u64().unwrap() < 2 << 20, "{}", ran.out);
    }
    for output in ["o.raw", "o-flat.vmdk"] {
        let meta = fs::metadata(folder.path().join(output)).unwrap();
        assert_eq!(meta.len(), 1 << 30);
        assert!(meta.blocks() * 512 <= 3 * 4096 + 65_536, "{} takes {}", output, meta.blocks() * 512);
        let out = fs::File::open(folder.path().join(output)).unwrap();
        for at in [0, 300 << 20, (1 << 30) - 4096] {
            let mut page = [0; 4096];
            out.read_exact_at(&mut page, at).unwrap();
            assert_eq!(page, [7; 4096]);
        }
    }
    assert!(fs::metadata(folder.path().join("s.vmdk")).unwrap().len() < 1 << 20);
}

#[cfg(unix)]
#[test]
fn r20_what_a_kind_cannot_hold_is_refused_with_the_kind_that_can() {
    let folder = scratch();
    let raw = fs::File::create(folder.path().join("a.raw")).unwrap();
    if raw.set_len(2 << 40).is_err() {
        return common::skipped("this file system holds no file of 2 TiB");
    }
    run(folder.path(), ["a.raw", "o.vmdk"])
        .fails(1, &["monolithicSparse holds less than 2 TiB", "-s monolithicFlat holds it"]);
    let start = Instant::now();
    run(folder.path(), ["a.raw", "o.vmdk", "-s", "flat"]).succeeds();
    assert_eq!(fs::metadata(folder.path().join("o-flat.vmdk")).unwrap().len(), 2 << 40);
    raw.set_len((2 << 40) - 512).unwrap();
    run(folder.path(), ["a.raw", "s.vmdk"]).succeeds();
    assert!(start.elapsed().as_secs() < 20, "time depends on the data, not on the size");
}

#[test]
fn a_2040_gib_vhd_with_a_few_blocks_costs_its_blocks() {
    use std::io::{Seek, SeekFrom, Write};
    let folder = scratch();
    let mut vhd = Vhd::dynamic(2040 << 30, 2 << 20);
    vhd.blocks.insert(0, (vec![1; 4096], None));
    vhd.blocks.insert(700_000, (vec![2; 4096], None));
    vhd.blocks.insert(1_044_479, (vec![3; 2 << 20], None));
    let image = vhd.build();
    let mut file = fs::File::create(folder.path().join("a.vhd")).unwrap();
    file.write_all(&image).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let start = Instant::now();
    run(folder.path(), ["a.vhd", "o.vmdk"]).succeeds();
    run(folder.path(), ["info", "a.vhd"]).succeeds();
    assert!(start.elapsed().as_secs() < 10);
    // Too large to read whole: the last grain by hand. Tables of 32 MiB, directory at the sector that the header names.
    let out = fs::read(folder.path().join("o.vmdk")).unwrap();
    assert!(out.len() < 300 << 20);
    let word = |at: usize| u32::from_le_bytes(out[at..at + 4].try_into().unwrap()) as usize;
    let gd = u64::from_le_bytes(out[56..64].try_into().unwrap()) as usize * 512;
    let last_grain = (2040usize << 30) / 65_536 - 1;
    let table = word(gd + last_grain / 512 * 4) * 512;
    let grain = word(table + last_grain % 512 * 4) * 512;
    assert_eq!(out[grain..grain + 65_536], [3; 65_536]);
    assert_eq!(grain + 65_536, out.len());
}

#[cfg(unix)]
#[test]
fn r24_a_disk_of_three_hundred_pieces_is_written_with_few_handles() {
    use std::os::unix::fs::FileExt;
    let folder = scratch();
    let raw = fs::File::create(folder.path().join("a.raw")).unwrap();
    let size = 300 * 4_192_256 * 512u64 - 512;
    raw.set_len(size).unwrap();
    let places = [0, 4_192_256 * 512 - 512, 4_192_256 * 512, 150 * 4_192_256 * 512, size - 512];
    for place in places {
        raw.write_all_at(&[0xC3; 512], place).unwrap();
    }
    for kind in ["twoGbMaxExtentSparse", "twoGbMaxExtentFlat"] {
        let script = format!("ulimit -n 128; exec \"$0\" a.raw o.vmdk -s {kind} --force --no-sync");
        let mut sh = std::process::Command::new("sh");
        sh.current_dir(folder.path()).args(["-c", &script, env!("CARGO_BIN_EXE_vdconv")]);
        common::Ran::of(&mut sh).succeeds();
        assert_eq!(common::names(folder.path()).len(), 302);
        let script = "ulimit -n 128; exec \"$0\" o.vmdk back.raw --force --no-sync";
        let mut sh = std::process::Command::new("sh");
        sh.current_dir(folder.path()).args(["-c", script, env!("CARGO_BIN_EXE_vdconv")]);
        common::Ran::of(&mut sh).succeeds();
        let back = fs::File::open(folder.path().join("back.raw")).unwrap();
        assert_eq!(back.metadata().unwrap().len(), size);
        let mut sector = [0; 512];
        for place in places {
            back.read_exact_at(&mut sector, place).unwrap();
            assert_eq!(sector, [0xC3; 512], "{kind} {place}");
        }
        for name in common::names(folder.path()).iter().filter(|name| *name != "a.raw") {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
    }
}
