//! VHDs that vdconv writes, held against the rules of the strictest readers; deltas on top of a base; sizes.

mod common;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use common::expect::folder;
use common::vhd::{Strict, Vhd, strict};
use common::vmdk::Sparse;
use common::{Ran, pattern, run, scratch, vdconv, vmdk};

fn read(folder: &Path, name: &str, parent: Option<&[u8]>) -> Strict {
    strict(&fs::read(folder.join(name)).unwrap(), parent)
}

#[test]
fn round_trips_give_every_size_back_exactly() {
    for sectors in [1, 3, 2048, 10_243, 82_047] {
        let guest = pattern(sectors, |n| n % 900 > 500 || (9000..14_000).contains(&n));
        let folder = scratch();
        fs::write(folder.path().join("a.raw"), &guest).unwrap();
        for options in [&["-s", "dynamic"][..], &["-s", "fixed"], &["--contiguous"]] {
            run(folder.path(), [&["a.raw", "o.vhd", "--force"], options].concat()).succeeds();
            assert!(read(folder.path(), "o.vhd", None).guest == guest, "{sectors} {options:?}");
            run(folder.path(), ["o.vhd", "o.vmdk", "--force"]).succeeds();
            assert!(vmdk::read(&folder.path().join("o.vmdk")).guest == guest);
            run(folder.path(), ["o.vmdk", "p.vhd", "--force"]).succeeds();
            assert!(read(folder.path(), "p.vhd", None).guest == guest);
            run(folder.path(), ["p.vhd", "p.raw", "--force"]).succeeds();
            assert!(fs::read(folder.path().join("p.raw")).unwrap() == guest);
        }
    }
}

#[test]
fn blocks_lie_on_4_kib_unless_asked_otherwise_and_zero_ones_are_left_out() {
    let guest = pattern(20_000, |n| (4096..12_288).contains(&n));
    let f = folder(&[("a.raw", &guest)]);
    run(f.path(), ["a.raw", "o.vhd"]).succeeds();
    let vhd = read(f.path(), "o.vhd", None);
    assert_eq!(vhd.data_at.len(), 3, "five blocks, two of them zero");
    assert!(vhd.data_at.iter().all(|at| at % 4096 == 0), "{:?}", vhd.data_at);
    run(f.path(), ["a.raw", "c.vhd", "--contiguous"]).succeeds();
    let vhd = read(f.path(), "c.vhd", None);
    assert!(vhd.data_at.windows(2).all(|pair| pair[1] - pair[0] == 512 + (2 << 20)), "{:?}", vhd.data_at);
    assert_eq!(vhd.data_at[0], 2048 + 512);
}

#[test]
fn peers_17_and_18_one_vhd_of_1_gib_suits_azure_and_xen_with_the_exact_size() {
    let f = scratch();
    let mut image = fs::File::create(f.path().join("a.raw")).unwrap();
    image.set_len(1 << 30).unwrap();
    image.seek(SeekFrom::Start((1 << 30) - 512)).unwrap();
    image.write_all(b"the last sector").unwrap();
    for kind in ["dynamic", "fixed"] {
        run(f.path(), ["a.raw", "o.vhd", "-s", kind, "--force"]).succeeds();
        let file = fs::read(f.path().join("o.vhd")).unwrap();
        // The strict reader holds Xen's rules: geometry not above the computed one, as many entries as blocks, equal footers.
        let vhd = strict(&file, None);
        assert_eq!(vhd.guest.len(), 1 << 30);
        assert_eq!(&vhd.guest[(1 << 30) - 512..][..15], b"the last sector");
        // Azure: a whole number of MiB; a fixed one is that and its footer.
        assert_eq!(vhd.guest.len() % (1 << 20), 0);
        if kind == "fixed" {
            assert_eq!(file.len() % (1 << 20), 512);
        }
    }
}

#[test]
fn size_and_align_grow_the_disk_with_zeroes_and_never_shrink_it() {
    let guest = pattern(2051, |_| false);
    let f = folder(&[("a.vhd", &Vhd::dynamic_of(&guest, 1 << 16).build())]);
    for (options, want) in [
        (&["--align", "1M"][..], 2 << 20),
        (&["--size", "3M"], 3 << 20),
        (&["--size", "1050112"], 1_050_112),
        (&["--size", "1051648", "--align", "4096"], 1_052_672),
        (&["--align", "1024"], 1_050_624),
    ] {
        let mut grown = guest.clone();
        grown.resize(want, 0);
        for output in ["o.vhd", "o.vmdk", "o.raw"] {
            run(f.path(), [&["a.vhd", output, "--force"], options].concat()).succeeds();
            let got = match output {
                "o.vhd" => read(f.path(), output, None).guest,
                "o.vmdk" => vmdk::read(&f.path().join(output)).guest,
                _ => fs::read(f.path().join(output)).unwrap(),
            };
            assert!(got == grown, "{options:?} {output}: {}", got.len());
        }
    }
    run(f.path(), ["a.vhd", "s.vhd", "--size", "1M"]).fails(2, &["never shrunk", "found 1048576", "at least 1050112"]);
}

#[cfg(unix)]
#[test]
fn preallocate_leaves_no_hole() {
    use std::os::unix::fs::MetadataExt;
    let guest = pattern(20_000, |n| n > 100);
    let f = folder(&[("a.raw", &guest)]);
    for (output, file, options) in
        [("o.vhd", "o.vhd", &["-s", "fixed"][..]), ("o.vmdk", "o-flat.vmdk", &["-s", "flat"]), ("o.raw", "o.raw", &[])]
    {
        let blocks = |more: &[&str]| {
            run(f.path(), [&["a.raw", output, "--force"], options, more].concat()).succeeds();
            fs::metadata(f.path().join(file)).unwrap().blocks() * 512
        };
        let (sparse, whole) = (blocks(&[]), blocks(&["--preallocate"]));
        assert!(sparse < 1 << 20 && whole >= 20_000 * 512, "{output}: {sparse} {whole}");
        let bytes = fs::read(f.path().join(file)).unwrap();
        assert!(bytes[..guest.len()] == guest);
    }
}

/// A base in every way that a delta can lie on, and a source with changes in some of its blocks: bytes and zeroes.
fn base_and_changed() -> (Vec<u8>, Vec<u8>) {
    let base = pattern(60_000, |n| (20_000..30_000).contains(&n));
    let mut changed = base.clone();
    for sector in [0, 1, 7, 4095, 4096, 25_000, 59_999] {
        changed[sector * 512..][..512].fill(0xF7);
    }
    // Zeroes over data, half a grain and three whole ones.
    changed[12_000 * 512..12_064 * 512].fill(0);
    changed[40_064 * 512..40_512 * 512].fill(0);
    (base, changed)
}

#[test]
fn a_differencing_vhd_stores_what_differs_and_nothing_else() {
    let (base, changed) = base_and_changed();
    let f = folder(&[("base.raw", &base), ("new.raw", &changed)]);
    for kind in ["dynamic", "fixed"] {
        run(f.path(), ["base.raw", "base.vhd", "-s", kind, "--force"]).succeeds();
        for jobs in ["1", "4"] {
            run(f.path(), ["new.raw", "delta.vhd", "--base", "base.vhd", "-j", jobs, "--force"]).succeeds();
            let parent = read(f.path(), "base.vhd", None);
            let delta = read(f.path(), "delta.vhd", Some(&base));
            assert!(delta.guest == changed);
            assert_eq!((delta.disk_type, delta.parent_id), (4, parent.unique_id));
            assert_ne!(delta.unique_id, parent.unique_id);
            let differ: Vec<u64> = (0..60_000)
                .filter(|n| base[*n as usize * 512..][..512] != changed[*n as usize * 512..][..512])
                .collect();
            assert_eq!(delta.stored, differ, "a bit is set where a sector differs, and nowhere else");
            assert_eq!(delta.parent_name, "base.vhd");
            assert_eq!(delta.locators, [(*b"W2ru", ".\\base.vhd".to_string()), (*b"W2ku", ".\\base.vhd".to_string())]);
            // Read back through its parent.
            run(f.path(), ["delta.vhd", "back.raw", "--force"]).succeeds();
            assert!(fs::read(f.path().join("back.raw")).unwrap() == changed);
        }
    }
    // A delta of a delta; and one of nothing.
    run(f.path(), ["base.raw", "again.vhd", "--base", "delta.vhd"]).succeeds();
    run(f.path(), ["again.vhd", "back.raw", "--force"]).succeeds();
    assert!(fs::read(f.path().join("back.raw")).unwrap() == base);
    run(f.path(), ["base.vhd", "same.vhd", "--base", "base.vhd"]).succeeds();
    assert!(read(f.path(), "same.vhd", Some(&base)).stored.is_empty());
}

#[test]
fn a_vmdk_delta_stores_the_grains_that_differ_and_names_its_parent() {
    let (base, changed) = base_and_changed();
    let f = folder(&[("base.raw", &base), ("new.raw", &changed)]);
    for kind in ["monolithicSparse", "monolithicFlat"] {
        run(f.path(), ["base.raw", "base.vmdk", "-s", kind, "--force"]).succeeds();
        run(f.path(), ["new.raw", "delta.vmdk", "--base", "base.vmdk", "--force"]).succeeds();
        run(f.path(), ["delta.vmdk", "back.raw", "--force"]).succeeds();
        assert!(fs::read(f.path().join("back.raw")).unwrap() == changed);
        let file = fs::read(f.path().join("delta.vmdk")).unwrap();
        let text = String::from_utf8_lossy(&file[512..21 * 512]).into_owned();
        let cid = vmdk::read(&f.path().join("base.vmdk")).keys["CID"].clone();
        assert!(
            text.contains(&format!(
                "\nparentCID={cid}\ncreateType=\"monolithicSparse\"\nparentFileNameHint=\"base.vmdk\"\n"
            )),
            "{text}"
        );
        // Version 1 and no entry of 1: VirtualBox takes no other. The grains that differ, and no others.
        assert_eq!(file[4..12], [1, 0, 0, 0, 3, 0, 0, 0]);
        let plan = Sparse { capacity: 60_000, descriptor: "x".into(), ..Sparse::of(&[0; 512]) };
        let stored: Vec<u64> = (0..60_000u64.div_ceil(128))
            .filter(|grain| {
                let at = plan.entry_at(plan.gd(), *grain);
                u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) > 1
            })
            .collect();
        let differ: Vec<u64> = (0..60_000u64.div_ceil(128))
            .filter(|grain| {
                let range = *grain as usize * 65_536..(*grain as usize * 65_536 + 65_536).min(base.len());
                base[range.clone()] != changed[range]
            })
            .collect();
        assert_eq!(stored, differ);
    }
    // On a base that is touched later the delta is refused.
    run(f.path(), ["new.raw", "base.vmdk", "--force"]).succeeds();
    run(f.path(), ["delta.vmdk", "x.raw"]).fails(1, &["parent was changed", "--ignore-cid"]);
}

#[test]
fn bases_that_cannot_be_are_refused_by_name() {
    let (base, changed) = base_and_changed();
    let f = folder(&[("new.raw", &changed), ("short.raw", &base[..512 * 100])]);
    let esxi = vmdk::descriptor("vmfs", 1, None, "RW 60000 VMFS \"new.raw\"");
    fs::write(f.path().join("esxi.vmdk"), esxi).unwrap();
    fs::write(f.path().join("base.vhd"), Vhd::dynamic_of(&base, 2 << 20).build()).unwrap();
    fs::write(f.path().join("small.vhd"), Vhd::dynamic_of(&base[..1 << 20], 2 << 20).build()).unwrap();
    let mut nil = Vhd::dynamic_of(&base, 2 << 20);
    nil.unique_id = [0; 16];
    fs::write(f.path().join("nil.vhd"), nil.build()).unwrap();
    for (output, base, texts) in [
        ("o.vmdk", "base.vhd", &["base.vhd: --base: a delta is of its base's format", "a VHD", "a VMDK"][..]),
        ("o.vhd", "esxi.vmdk", &["esxi.vmdk: --base: a delta is of its base's format"]),
        ("o.vmdk", "esxi.vmdk", &["esxi.vmdk: --base: a delta can lie on hosted kinds only", "vmfs", "monolithicFlat"]),
        ("o.vhd", "small.vhd", &["small.vhd: --base: the base's disk has another size", "1048576", "30720000"]),
        ("o.vhd", "nil.vhd", &["nil.vhd: --base: a VHD without a unique id"]),
        ("o.vhd", "none.vhd", &["none.vhd: cannot open"]),
    ] {
        run(f.path(), ["new.raw", output, "--base", base]).fails(1, texts);
    }
    // A child that has its parent's id would be its own parent; a backslash would be a path.
    run(f.path(), ["new.raw", "o.vhd", "--base", "base.vhd", "--uuid", "30313233-3435-3637-3839-616263646566"])
        .fails(2, &["--uuid: the base has it"]);
    #[cfg(unix)]
    {
        fs::copy(f.path().join("base.vhd"), f.path().join("a\\b.vhd")).unwrap();
        run(f.path(), ["new.raw", "o.vhd", "--base", "a\\b.vhd"]).fails(1, &["a backslash"]);
        fs::remove_file(f.path().join("a\\b.vhd")).unwrap();
    }
    // Neither the base nor its files can be the output.
    for output in ["base.vhd", "./base.vhd"] {
        run(f.path(), ["new.raw", output, "--base", "base.vhd", "--force"]).fails(2, &["the output is the input"]);
    }
    assert_eq!(common::names(f.path()), ["base.vhd", "esxi.vmdk", "new.raw", "nil.vhd", "short.raw", "small.vhd"]);
}

#[test]
fn bits_of_the_base_count_whatever_is_ignored_in_the_source() {
    // Stale bytes under clear bits are zero to whoever reads the pair.
    let mut base = Vhd::dynamic_of(&vec![0xA1; 4 << 20], 2 << 20);
    let mut bits = vec![0xFF; 512];
    bits[0] = 0x0F;
    base.blocks.get_mut(&0).unwrap().1 = Some(bits);
    let mut source = vec![0xA1; 4 << 20];
    source[3 << 20..].fill(0xA2);
    let f = folder(&[("base.vhd", &base.build()), ("new.raw", &source)]);
    run(f.path(), ["new.raw", "d.vhd", "--base", "base.vhd", "--ignore-bitmaps"]).succeeds();
    run(f.path(), ["d.vhd", "back.raw"]).succeeds();
    assert!(fs::read(f.path().join("back.raw")).unwrap() == source);
}

#[test]
fn a_base_in_another_folder_is_recorded_relative_to_the_output_and_warned_about() {
    let (base, changed) = base_and_changed();
    let outer = scratch();
    let at = |name: &str| outer.path().join(name);
    fs::create_dir_all(at("bases/old")).unwrap();
    fs::create_dir_all(at("out")).unwrap();
    fs::write(at("new.raw"), &changed).unwrap();
    fs::write(at("base.raw"), &base).unwrap();
    for ending in ["vhd", "vmdk"] {
        let (base_name, delta) = (format!("bases/old/b.{ending}"), format!("out/d.{ending}"));
        run(outer.path(), ["base.raw", &base_name]).succeeds();
        let ran = run(outer.path(), ["new.raw", &delta, "--base", &base_name]);
        ran.warns(&["lies outside the output's folder", "../bases/old/b"]);
        run(outer.path(), [&delta, "x.raw"]).fails(1, &["--allow-outside"]);
        run(outer.path(), [&delta, "x.raw", "--allow-outside"]).succeeds();
        assert!(fs::read(at("x.raw")).unwrap() == changed);
        fs::remove_file(at("x.raw")).unwrap();
        // From below it is no way out.
        run(outer.path(), ["new.raw", &format!("d.{ending}"), "--base", &base_name]).succeeds();
        run(outer.path(), [&format!("d.{ending}"), "x.raw"]).succeeds();
        fs::remove_file(at("x.raw")).unwrap();
    }
    let delta = fs::read(at("d.vhd")).unwrap();
    assert_eq!(strict(&delta, Some(&base)).locators[0].1, ".\\bases\\old\\b.vhd");
    let delta = fs::read(at("out/d.vhd")).unwrap();
    assert_eq!(strict(&delta, Some(&base)).locators[0].1, "..\\bases\\old\\b.vhd");
}

#[test]
fn the_same_epoch_gives_the_same_bytes_and_other_disks_other_identifiers() {
    let (base, changed) = base_and_changed();
    let f = folder(&[("base.raw", &base), ("new.raw", &changed)]);
    let made = |input: &str, args: &[&str], out: &str| {
        let mut command = vdconv();
        command.current_dir(f.path()).env("SOURCE_DATE_EPOCH", "1700000000").args([input, out, "--force"]).args(args);
        Ran::of(&mut command).succeeds();
        fs::read(f.path().join(out)).unwrap()
    };
    made("base.raw", &[], "b.vhd");
    made("base.raw", &[], "b.vmdk");
    for (args, out) in [
        (&["-s", "dynamic"][..], "o.vhd"),
        (&["-s", "fixed"], "o.vhd"),
        (&["--base", "b.vhd"], "o.vhd"),
        (&["--contiguous"], "o.vhd"),
        (&[], "o.vmdk"),
        (&["--base", "b.vmdk"], "o.vmdk"),
    ] {
        let one = made("new.raw", args, out);
        assert!(one == made("new.raw", args, out), "{args:?}");
        assert!(one == made("new.raw", &[args, &["-j", "1"]].concat(), out), "{args:?}");
        if out == "o.vhd" {
            let id = |bytes: &[u8]| bytes[bytes.len() - 512 + 68..][..16].to_vec();
            assert_eq!(&one[one.len() - 512 + 24..][..4], (1_700_000_000u32 - 946_684_800).to_be_bytes());
            let mut other = changed.clone();
            other[0] ^= 1;
            fs::write(f.path().join("other.raw"), other).unwrap();
            assert_ne!(id(&one), id(&made("other.raw", args, out)), "{args:?}");
        }
    }
}
