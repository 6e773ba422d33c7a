//! Snapshots and what they lie on: the parents that are found, those that are not, and those that are not what the snapshot was made on.

mod common;

use std::fs;

#[cfg(unix)]
use common::Ran;
use common::expect::{folder, reads, refused, warns};
use common::packed::{Stream, cowd, sesparse};
use common::vmdk::{Sparse, descriptor};
use common::{pattern, run};
use tempfile::TempDir;

/// Five grains and three sectors; the third grain is zero.
fn guest() -> Vec<u8> {
    pattern(5 * 128 + 3, |n| (256..384).contains(&n))
}

/// A base, a child and a grandchild: files `base.vmdk`, `one.vmdk`, `two.vmdk`, and what the youngest must read.
fn chain() -> (TempDir, Vec<u8>) {
    let base = guest();
    let mut want = base.clone();
    let child = |cid: u32, parent: (u32, &str), changes: &[(usize, Option<u8>)], want: &mut [u8]| {
        let text = descriptor("monolithicSparse", cid, Some(parent), "RW 643 SPARSE \"x\"");
        let mut image = Sparse { descriptor: text, flags: 7, version: 1, ..Sparse::of(&vec![0; 643 * 512]) };
        for (grain, fill) in changes {
            image.grains[*grain] = Some(fill.map_or(vec![], |byte| vec![byte; 65_536]));
            let end = (*grain * 65_536 + 65_536).min(want.len());
            want[*grain * 65_536..end].fill(fill.unwrap_or(0));
        }
        image.build()
    };
    // Grains changed, zeroed by an entry of 1, and zeroed by stored zeroes.
    let one = child(2, (0x1234_5678, "base.vmdk"), &[(0, Some(0x11)), (1, None), (4, Some(0))], &mut want);
    let two = child(3, (2, "one.vmdk"), &[(2, Some(0x22)), (5, Some(0x23))], &mut want);
    (folder(&[("base.vmdk", &Sparse::of(&base).build()), ("one.vmdk", &one), ("two.vmdk", &two)]), want)
}

#[test]
fn a_chain_of_three_gives_each_grain_from_the_youngest_that_has_it() {
    let (f, want) = chain();
    reads(f.path(), "two.vmdk", &want);
    let ran = run(f.path(), ["info", "two.vmdk"]).succeeds();
    for text in [
        "VMDK monolithicSparse",
        "content id    00000003",
        "parent        one.vmdk",
        "parent        base.vmdk",
        "adapter       lsilogic",
    ] {
        assert!(ran.out.contains(text), "{}", ran.out);
    }
    // The output is never one of the parents.
    run(f.path(), ["two.vmdk", "base.vmdk", "--force"]).fails(2, &["the output is the input"]);
}

#[test]
fn peers_11_and_33_a_parent_far_down_missing_or_changed_is_seen() {
    let (f, want) = chain();
    // The hint behind 140 lines of comments, and as Windows wrote it.
    let mut text = descriptor("monolithicSparse", 3, Some((2, "C:\\vm\\one.vmdk")), "RW 643 SPARSE \"x\"");
    text = text.replacen(
        '\n',
        &format!("\n{}", "# comment comment comment comment comment comment comment comment comment\n".repeat(140)),
        1,
    );
    assert!(text.len() > 10_240);
    let mut image = fs::read(f.path().join("two.vmdk")).unwrap();
    image[512..512 + 9000].copy_from_slice(&[b' '; 9000]);
    // As a text with the same extent.
    fs::write(f.path().join("two-s001.vmdk"), {
        image[512..512 + 20 * 512].fill(0);
        image.clone()
    })
    .unwrap();
    fs::write(f.path().join("three.vmdk"), text.replace("\"x\"", "\"two-s001.vmdk\"")).unwrap();
    reads(f.path(), "three.vmdk", &want);

    fs::rename(f.path().join("one.vmdk"), f.path().join("moved.vmdk")).unwrap();
    refused(f.path(), "two.vmdk", &["two.vmdk: at byte ", "parent of this snapshot is not there", "one.vmdk"]);
    let mut other = fs::read(f.path().join("moved.vmdk")).unwrap();
    let at = other.windows(12).position(|w| w == b"CID=00000002").unwrap();
    other[at + 4..at + 12].copy_from_slice(b"deadbeef");
    fs::write(f.path().join("one.vmdk"), other).unwrap();
    refused(
        f.path(),
        "two.vmdk",
        &["two.vmdk: at byte ", "CID deadbeef in one.vmdk", "expected parentCID 00000002", "--ignore-cid"],
    );
    run(f.path(), ["two.vmdk", "o.raw", "--ignore-cid"]).succeeds();
    assert!(fs::read(f.path().join("o.raw")).unwrap() == want);
}

#[test]
fn a_lock_of_a_running_machine_is_refused_for_any_image_of_the_chain_unless_ignored() {
    let (f, want) = chain();
    for locked in ["two.vmdk", "base.vmdk"] {
        let lock = f.path().join(format!("{locked}.lck"));
        fs::create_dir(&lock).unwrap();
        reads(f.path(), "two.vmdk", &want); // an empty folder is left behind by some versions
        fs::write(lock.join("M12345.lck"), "").unwrap();
        refused(
            f.path(),
            "two.vmdk",
            &[&format!("{locked}: a running machine"), "M12345.lck", "hint: ", "--ignore-lock"],
        );
        run(f.path(), ["two.vmdk", "o.raw", "--ignore-lock", "--force"]).succeeds();
        assert!(fs::read(f.path().join("o.raw")).unwrap() == want);
        run(f.path(), ["info", "--ignore-lock", "two.vmdk"]).succeeds();
        let told = run(f.path(), ["info", "two.vmdk"]).warns(&["a running machine has the disk open"]);
        assert!(
            told.out.contains("  advice        a running machine has the disk open: shut the machine down"),
            "{}",
            told.out
        );
        fs::remove_dir_all(lock).unwrap();
        fs::remove_file(f.path().join("o.raw")).unwrap();
    }
}

#[test]
fn a_zero_extent_of_a_child_hides_the_parent() {
    let (f, _) = chain();
    let text = descriptor("custom", 9, Some((0x1234_5678, "base.vmdk")), "RW 100 ZERO\nRW 543 SPARSE \"s\"");
    fs::write(f.path().join("s"), Sparse { descriptor: String::new(), ..Sparse::of(&vec![0; 543 * 512]) }.build())
        .unwrap();
    fs::write(f.path().join("z.vmdk"), text).unwrap();
    let mut want = guest();
    want[..100 * 512].fill(0);
    reads(f.path(), "z.vmdk", &want);
}

#[test]
fn a_chain_of_thirty_and_extents_beyond_the_handles_are_read() {
    let f = folder(&[("0.vmdk", &Sparse::of(&guest()).build())]);
    let mut want = guest();
    for n in 1..30u32 {
        let parent = if n == 1 { 0x1234_5678 } else { n - 1 };
        let text = descriptor("monolithicSparse", n, Some((parent, &format!("{}.vmdk", n - 1))), "RW 643 SPARSE \"x\"");
        let mut image = Sparse { descriptor: text, ..Sparse::of(&vec![0; 643 * 512]) };
        let grain = n as usize % 5;
        image.grains[grain] = Some(vec![n as u8; 65_536]);
        want[grain * 65_536..][..65_536].fill(n as u8);
        fs::write(f.path().join(format!("{n}.vmdk")), image.build()).unwrap();
    }
    reads(f.path(), "29.vmdk", &want);

    let mut lines = String::new();
    let mut want = Vec::new();
    for n in 0..1500 {
        fs::write(f.path().join(format!("p{n}")), [n as u8 | 1; 1024]).unwrap();
        lines += &format!("RW 2 FLAT \"p{n}\" 0\n");
        want.extend([n as u8 | 1; 1024]);
    }
    fs::write(f.path().join("many.vmdk"), descriptor("custom", 1, None, lines.trim_end())).unwrap();
    #[cfg(unix)]
    {
        let script = format!("ulimit -n 256; exec {} many.vmdk many.raw", env!("CARGO_BIN_EXE_vdconv"));
        Ran::of(std::process::Command::new("sh").current_dir(f.path()).args(["-c", &script])).succeeds();
        assert!(fs::read(f.path().join("many.raw")).unwrap() == want);
        fs::remove_file(f.path().join("many.raw")).unwrap();
    }
    reads(f.path(), "many.vmdk", &want);
}

#[test]
fn a_child_whose_parent_cannot_be_told_is_never_read_as_a_base() {
    let (f, _) = chain();
    let good = descriptor("custom", 3, Some((2, "one.vmdk")), "RW 643 SPARSE \"x\"");
    for (from, to) in [
        ("parentCID=00000002", "parentCID=g0000002"),
        ("parentCID=00000002", "parentCID=0x000002"),
        ("parentCID=00000002", "parentCID=00000002a"),
        ("parentCID=00000002\n", ""),
    ] {
        fs::write(f.path().join("d.vmdk"), good.replace(from, to)).unwrap();
        refused(f.path(), "d.vmdk", &["d.vmdk: at byte ", "parentCID"]);
    }
    let odd = descriptor("custom", 3, None, "RW 643 SPARSE \"s\"")
        .replace("createType", "parentFileNameHint=\"one.vmdk\"\ncreateType");
    fs::write(f.path().join("s"), Sparse { descriptor: String::new(), ..Sparse::of(&guest()) }.build()).unwrap();
    fs::write(f.path().join("d.vmdk"), odd).unwrap();
    warns(f.path(), "d.vmdk", &guest(), &["parentCID says that there is none"]);
}

/// A child that stores grain 1 alone, filled with `fill`, over the parent that these lines of its descriptor name.
fn child(cid: u32, lines: &str, fill: u8) -> Vec<u8> {
    let text = descriptor("monolithicSparse", cid, None, "RW 643 SPARSE \"x\"");
    let text = match lines.contains("parentCID") {
        true => text.replace("parentCID=ffffffff\n", &format!("{lines}\n")),
        false => format!("{text}{lines}\n"),
    };
    let mut image = Sparse { descriptor: text, ..Sparse::of(&vec![0; 643 * 512]) };
    image.grains[1] = Some(vec![fill; 65_536]);
    image.build()
}

/// What such a child reads over `parent`.
fn over(parent: &[u8], fill: u8) -> Vec<u8> {
    let mut want = parent.to_vec();
    want[65_536..131_072].fill(fill);
    want
}

/// The base under this content id.
fn base(cid: u32) -> Vec<u8> {
    let text = descriptor("monolithicSparse", cid, None, "RW 643 SPARSE \"x\"");
    Sparse { descriptor: text, ..Sparse::of(&guest()) }.build()
}

#[track_caller]
fn comes_out(folder: &TempDir, args: &[&str], want: &[u8]) {
    let args = args.iter().copied().chain(["out.raw", "--force"]);
    let ran = run(folder.path(), args);
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    assert!(fs::read(folder.path().join("out.raw")).unwrap() == want);
    fs::remove_file(folder.path().join("out.raw")).unwrap();
}

#[test]
fn parents_may_be_given_one_for_each_depth_and_must_still_be_the_right_ones() {
    let (f, want) = chain();
    let elsewhere = common::scratch();
    for (from, to) in [("one.vmdk", "first.vmdk"), ("base.vmdk", "second.vmdk")] {
        fs::rename(f.path().join(from), elsewhere.path().join(to)).unwrap();
    }
    let at = |name: &str| elsewhere.path().join(name).to_str().unwrap().to_string();
    let (first, second) = (at("first.vmdk"), at("second.vmdk"));
    comes_out(&f, &["two.vmdk", "--parent", &first, "--parent", &second], &want);
    // The given one decides for its depth only: its own parent is where it says, or given too.
    run(f.path(), ["two.vmdk", "o.raw", "--parent", &first])
        .fails(1, &["first.vmdk: at byte ", "parent of this snapshot is not there", "base.vmdk", "--parent"]);
    fs::copy(&second, elsewhere.path().join("base.vmdk")).unwrap();
    comes_out(&f, &["two.vmdk", "--parent", &first], &want);
    // Another disk is refused, unless that is asked for; a file that is no VMDK always.
    let swapped = ["two.vmdk", "--parent", &second, "--parent", &first];
    run(f.path(), swapped.iter().chain(&["o.raw"]))
        .fails(1, &["CID 12345678 in ", "second.vmdk", "parentCID 00000002"]);
    run(f.path(), ["two.vmdk", "o.raw", "--parent", &second, "--ignore-cid"]).succeeds();
    fs::write(f.path().join("noise.img"), [0xEB; 70_000]).unwrap();
    for ignore in [&[][..], &["--ignore-cid"]] {
        let args = ["two.vmdk", "p.raw", "--parent", "noise.img"];
        run(f.path(), args.iter().chain(ignore)).fails(1, &["noise.img: ", "the parent of a VMDK must be a VMDK"]);
    }
    // More than there are depths, and parents of what has none, are mistakes.
    run(f.path(), ["two.vmdk", "p.raw", "--parent", &first, "--parent", &second, "--parent", &second])
        .fails(2, &["--parent", "3 given", "two.vmdk has 2"]);
    fs::write(f.path().join("a.raw"), [0; 512]).unwrap();
    run(f.path(), ["a.raw", "p.raw", "--parent", &first]).fails(2, &["--parent", "a.raw has 0"]);
    run(f.path(), ["info", "--parent", &first, "two.vmdk", "a.raw"]).fails(2, &["--parent: of one image only"]);
    run(f.path(), ["info", "--parent", &first, "two.vmdk"]).succeeds();
    run(f.path(), ["info", "--parent", "typo.vmdk", "two.vmdk"]).fails(1, &["typo.vmdk: cannot open"]);
}

#[test]
fn a_virtualbox_child_needs_its_parent_given_by_uuid() {
    let (a, b) = ("00112233-4455-6677-8899-aabbccddeeff", "10112233-4455-6677-8899-aabbccddee00");
    let image = |own: &str, parent: &str| {
        let lines = format!("ddb.uuid.image=\"{own}\"\nddb.uuid.parent=\"{parent}\"");
        child(7, &lines, 0x31)
    };
    let nil = "00000000-0000-0000-0000-000000000000";
    let root = {
        let text = descriptor("monolithicSparse", 5, None, "RW 643 SPARSE \"x\"");
        let text = format!("{text}ddb.uuid.image=\"{a}\"\nddb.uuid.parent=\"{nil}\"\n");
        Sparse { descriptor: text, ..Sparse::of(&guest()) }.build()
    };
    let f = folder(&[("root.vmdk", &root), ("{b}.vmdk", &image(b, a)), ("c.vmdk", &image(&b.replace("00", "0f"), b))]);
    let want = over(&guest(), 0x31);
    refused(
        f.path(),
        "{b}.vmdk",
        &["{b}.vmdk: at byte ", "differencing VMDK of VirtualBox", a, "hint: --parent root.vmdk has that uuid"],
    );
    comes_out(&f, &["{b}.vmdk", "--parent", "root.vmdk"], &want);
    comes_out(&f, &["c.vmdk", "--parent", "{b}.vmdk", "--parent", "root.vmdk"], &want);
    run(f.path(), ["c.vmdk", "o.raw", "--parent", "root.vmdk"])
        .fails(1, &["c.vmdk: at byte ", "not the disk that the child was made on", a, b, "--ignore-cid"]);
    comes_out(&f, &["c.vmdk", "--parent", "root.vmdk", "--ignore-cid"], &want);
    // A uuid that cannot be read is a sign of a parent all the same; the nil one says that there is none.
    for (key, value) in [("parent", "00112233-4455-6677-8899-aabbccddeef"), ("parentmodification", a)] {
        let lines = format!("ddb.uuid.{key}=\"{value}\"");
        fs::write(f.path().join("d.vmdk"), child(8, &lines, 0x31)).unwrap();
        refused(f.path(), "d.vmdk", &["d.vmdk: at byte ", "a parent whose uuid cannot be read", value]);
    }
    fs::write(f.path().join("d.vmdk"), child(8, &format!("ddb.uuid.parent=\"{nil}\""), 0x31)).unwrap();
    assert_eq!(run(f.path(), ["d.vmdk", "o.raw", "--force"]).status, Some(0));
    fs::remove_file(f.path().join("o.raw")).unwrap();
    fs::remove_file(f.path().join("d.vmdk")).unwrap();
    // From elsewhere the hint still names a file that is there.
    let folder_name = f.path().file_name().unwrap().to_str().unwrap();
    run(f.path().parent().unwrap(), ["info", &format!("{folder_name}/{{b}}.vmdk")])
        .fails(1, &[&format!("hint: --parent {folder_name}/root.vmdk has that uuid")]);
    // The base reads, and it is told that more lies on top.
    warns(f.path(), "root.vmdk", &guest(), &["root.vmdk: ", "the newer state is there", "{b}.vmdk"]);
}

#[test]
fn of_two_candidates_the_one_whose_content_id_fits_is_the_parent() {
    let f = folder(&[
        ("base.vmdk", &base(9)),
        ("child.vmdk", &child(2, "parentCID=9\nparentFileNameHint=\"sub/base.vmdk\"", 0x41)),
    ]);
    fs::create_dir(f.path().join("sub")).unwrap();
    let mut other = Sparse::of(&vec![0x55; 643 * 512]);
    other.descriptor = other.descriptor.replace("CID=12345678", "CID=00000008");
    fs::write(f.path().join("sub/base.vmdk"), other.build()).unwrap();
    reads(f.path(), "child.vmdk", &over(&guest(), 0x41));
    // Whatever else stands under the likelier name: what fits is the parent.
    let likelier = f.path().join("sub/base.vmdk");
    for content in [b"garbage".as_slice(), b"KDMV", &[0x11; 600]] {
        fs::write(&likelier, content).unwrap();
        reads(f.path(), "child.vmdk", &over(&guest(), 0x41));
    }
    fs::remove_file(&likelier).unwrap();
    fs::create_dir(&likelier).unwrap();
    reads(f.path(), "child.vmdk", &over(&guest(), 0x41));
    fs::rename(f.path().join("base.vmdk"), f.path().join("away.vmdk")).unwrap();
    refused(f.path(), "child.vmdk", &["sub/base.vmdk", "a folder"]);
    fs::rename(f.path().join("away.vmdk"), f.path().join("base.vmdk")).unwrap();
    fs::remove_dir(&likelier).unwrap();
    fs::write(&likelier, other.build()).unwrap();
    // Neither fits: the one that the name leads to is told of, and taken where that is asked for.
    fs::write(f.path().join("base.vmdk"), base(10)).unwrap();
    refused(f.path(), "child.vmdk", &["CID 00000008 in sub/base.vmdk", "expected parentCID 00000009"]);
    comes_out(&f, &["child.vmdk", "--ignore-cid"], &over(&vec![0x55; 643 * 512], 0x41));
}

#[test]
fn r2_a_parent_elsewhere_is_followed_only_where_that_is_allowed() {
    let outer = common::scratch();
    let at = |name: &str| outer.path().join(name);
    fs::create_dir_all(at("vm-base")).unwrap();
    fs::create_dir_all(at("clone")).unwrap();
    fs::write(at("vm-base/disk.vmdk"), base(9)).unwrap();
    let absolute = at("vm-base/disk.vmdk").to_str().unwrap().to_string();
    for hint in ["../vm-base/disk.vmdk", &absolute, "/vmfs/volumes/4a/vm-base/disk.vmdk", "E:\\vms\\vm-base\\disk.vmdk"]
    {
        // The clone has the same name as its parent: its bare name beside it is the clone itself, and no loop.
        fs::write(at("clone/disk.vmdk"), child(2, &format!("parentCID=9\nparentFileNameHint=\"{hint}\""), 0x41))
            .unwrap();
        let (ran, _) = common::expect::to_raw(&at("clone"), "disk.vmdk");
        ran.fails(1, &["disk.vmdk: a name in the image", "--allow-outside"]);
        run(&at("clone"), ["disk.vmdk", "o.raw", "--allow-outside", "--force"]).succeeds();
        assert!(fs::read(at("clone/o.raw")).unwrap() == over(&guest(), 0x41), "{hint}");
        fs::remove_file(at("clone/o.raw")).unwrap();
    }
}

#[test]
fn names_that_were_recorded_as_urls_are_understood() {
    let hint = |name: &str| format!("parentCID=9\nparentFileNameHint=\"{name}\"");
    let f = folder(&[("the base.vmdk", &base(9)), ("child.vmdk", &child(2, &hint("the%20base.vmdk"), 0x41))]);
    reads(f.path(), "child.vmdk", &over(&guest(), 0x41));
    warns(f.path(), "the base.vmdk", &guest(), &["the newer state is there", "child.vmdk"]);
    // As Windows separates folders.
    fs::create_dir(f.path().join("sub")).unwrap();
    fs::rename(f.path().join("the base.vmdk"), f.path().join("sub/base.vmdk")).unwrap();
    fs::write(f.path().join("child.vmdk"), child(2, &hint("sub\\base.vmdk"), 0x41)).unwrap();
    reads(f.path(), "child.vmdk", &over(&guest(), 0x41));
}

#[test]
fn the_newer_state_is_told_in_a_folder_full_of_pieces_too() {
    let hint = "parentCID=9\nparentFileNameHint=\"base.vmdk\"";
    let f = folder(&[("base.vmdk", &base(9)), ("z.vmdk", &child(2, hint, 0x41))]);
    // More bytes of sparse pieces, which have no descriptor of their own, than are looked at in all.
    let mut piece = fs::read(f.path().join("base.vmdk")).unwrap();
    piece[28..44].fill(0);
    piece.resize(1 << 20, 0x55);
    for n in 1..=70 {
        fs::write(f.path().join(format!("disk-s{n:03}.vmdk")), &piece).unwrap();
    }
    warns(f.path(), "base.vmdk", &guest(), &["the newer state is there", "z.vmdk"]);
}

#[test]
fn a_base_below_a_snapshot_is_read_and_the_newer_state_is_told() {
    let (f, _) = chain();
    warns(
        f.path(),
        "base.vmdk",
        &guest(),
        &["base.vmdk: ", "a snapshot beside it lies on top of this disk", "one.vmdk"],
    );
    let ran = run(f.path(), ["info", "one.vmdk"]);
    let ran = ran.warns(&["one.vmdk: ", "the newer state is there", "two.vmdk"]);
    assert!(ran.out.contains("  advice        a snapshot beside it lies on top of this disk"), "{}", ran.out);
    assert_eq!(ran.err.matches("warning").count(), 1, "parents are named by what was given: {}", ran.err);
    // The youngest has nothing on top.
    run(f.path(), ["info", "two.vmdk"]).succeeds();
    // As a text, far down, under a path of another system.
    let text =
        descriptor("vmfsSparse", 8, Some((0x1234_5678, "D:\\vm\\base.vmdk")), "RW 643 VMFSSPARSE \"x-delta.vmdk\"");
    let f = folder(&[("base.vmdk", &Sparse::of(&guest()).build()), ("z.vmdk", text.as_bytes())]);
    fs::write(f.path().join("unreadable.vmdk"), b"KDMV").unwrap();
    fs::create_dir(f.path().join("folder.vmdk")).unwrap();
    warns(f.path(), "base.vmdk", &guest(), &["z.vmdk"]);
}

/// A disk of two tables that stores its first grains and five of the second table's.
fn of_two_tables() -> Vec<u8> {
    pattern((512 + 6) * 128, |n| (128..512 * 128).contains(&n))
}

/// A child that stores every grain of the parent's first table.
fn covers_the_first_table() -> Vec<u8> {
    let sectors = (512 + 6) * 128;
    let text =
        descriptor("monolithicSparse", 2, Some((0x1234_5678, "base.vmdk")), &format!("RW {sectors} SPARSE \"x\""));
    let mut image = Sparse { descriptor: text, ..Sparse::of(&vec![0; sectors * 512]) };
    image.grains[..512].fill(Some(vec![0x43; 65_536]));
    image.build()
}

#[test]
fn a_stream_under_a_child_that_has_a_whole_table_still_tells_what_its_tables_lost() {
    let guest = of_two_tables();
    let mut stream = Stream::of(&guest).build();
    let (from, to) = (b"CID=00000007", b"CID=12345678");
    let at = stream.windows(from.len()).position(|bytes| bytes == from).unwrap();
    stream[at..at + to.len()].copy_from_slice(to);
    let f = folder(&[("base.vmdk", &stream), ("child.vmdk", &covers_the_first_table())]);
    let want = [vec![0x43; 512 * 65_536], guest[512 * 65_536..].to_vec()].concat();
    reads(f.path(), "child.vmdk", &want);
    // The second table: one entry, and the directory's for all of them.
    let directory = stream.len() - 4 * 512;
    let table = u32::from_le_bytes(stream[directory + 4..directory + 8].try_into().unwrap()) as usize * 512;
    for (at, text) in [(table + 8, "no entry for a grain whose marker is in the stream"), (directory + 4, "cannot be")]
    {
        let mut damaged = stream.clone();
        assert_ne!(damaged[at..at + 4], [0; 4]);
        damaged[at..at + 4].fill(0);
        fs::write(f.path().join("base.vmdk"), damaged).unwrap();
        refused(f.path(), "child.vmdk", &["base.vmdk: ", &format!("at byte {at}: "), text]);
    }
}

#[test]
fn r8_grains_of_a_parent_that_overlap_are_refused_although_a_child_hides_one_of_them() {
    let guest = of_two_tables();
    let image = Sparse::of(&guest);
    let file = image.build();
    let f = folder(&[("base.vmdk", &file), ("child.vmdk", &covers_the_first_table())]);
    let want = [vec![0x43; 512 * 65_536], guest[512 * 65_536..].to_vec()].concat();
    reads(f.path(), "child.vmdk", &want);
    let mut damaged = file.clone();
    for directory in [image.rgd(), image.gd()] {
        let first = image.entry_at(directory, 0);
        damaged.copy_within(first..first + 4, image.entry_at(directory, 514));
    }
    fs::write(f.path().join("base.vmdk"), damaged).unwrap();
    refused(f.path(), "child.vmdk", &["base.vmdk: at byte ", "lies where another grain lies"]);

    // The same of ESXi's kinds, of which a child over one table has the whole first one.
    let sectors = 40_000u64;
    let (text, child) = (
        |kind: &str, line: &str| descriptor(kind, 5, None, &format!("RW {sectors} {line}")),
        descriptor("custom", 6, Some((5, "base.vmdk")), "RW 32768 ZERO\nRW 7232 VMFSSPARSE \"child-delta.vmdk\""),
    );
    let at = |n: u64| 3 << 60 | (n & 0xFFF) << 48 | n >> 12;
    let redo = {
        let mut redo = cowd(sectors, &[(0, 0x11), (4096 * 8, 0x12)], &[]);
        let table = |n: usize| u32::from_le_bytes(redo[2048 + n * 4..][..4].try_into().unwrap()) as usize * 512;
        let (first, later) = (table(0), table(8));
        redo.copy_within(first..first + 4, later);
        redo
    };
    for (kind, line, extent) in [
        ("vmfsSparse", "VMFSSPARSE \"base-x.vmdk\"", redo),
        ("seSparse", "SESPARSE \"base-x.vmdk\"", sesparse(&[(0, at(5)), (4096, at(5))], &[(5, 0x51)], 0)),
    ] {
        let base = text(kind, line);
        let delta = cowd(7232, &[], &[]);
        let files: [(&str, &[u8]); 4] = [
            ("base.vmdk", base.as_bytes()),
            ("base-x.vmdk", &extent),
            ("child.vmdk", child.as_bytes()),
            ("child-delta.vmdk", &delta),
        ];
        let f = folder(&files);
        refused(f.path(), "child.vmdk", &["base-x.vmdk: at byte ", "where another grain lies"]);
    }
}

#[test]
fn r6_what_is_lost_in_one_copy_of_a_childs_tables_and_missing_in_the_other_is_never_the_parents() {
    let text = descriptor("monolithicSparse", 2, Some((0x1234_5678, "base.vmdk")), "RW 643 SPARSE \"x\"");
    let mut image = Sparse { descriptor: text, ..Sparse::of(&vec![0; 643 * 512]) };
    (image.grains[1], image.grains[3]) = (Some(vec![0x31; 65_536]), Some(vec![0x33; 65_536]));
    let file = image.build();
    let f = folder(&[("base.vmdk", &Sparse::of(&guest()).build()), ("child.vmdk", &file)]);
    let mut want = over(&guest(), 0x31);
    want[3 * 65_536..4 * 65_536].fill(0x33);
    reads(f.path(), "child.vmdk", &want);
    let directories = [image.gd(), image.rgd()];
    let entry = |copy: usize, grain| image.entry_at(directories[copy], grain);
    let salvaged = || {
        run(f.path(), ["child.vmdk", "s.raw", "--salvage", "--force"]);
        fs::read(f.path().join("s.raw")).unwrap()
    };
    for (bad, other) in [(0, 1), (1, 0)] {
        // An entry that cannot be, and the grain in its copy: that is used, and told.
        let mut damaged = file.clone();
        damaged[entry(bad, 1)..][..4].copy_from_slice(&0x00FF_FFFFu32.to_le_bytes());
        fs::write(f.path().join("child.vmdk"), &damaged).unwrap();
        warns(f.path(), "child.vmdk", &want, &["differ from their copies"]);
        // And nothing in its copy.
        damaged[entry(other, 1)..][..4].fill(0);
        fs::write(f.path().join("child.vmdk"), &damaged).unwrap();
        refused(f.path(), "child.vmdk", &["child.vmdk: at byte ", "cannot be, and its copy has nothing"]);
        let mut without = want.clone();
        without[65_536..131_072].fill(0);
        assert!(salvaged() == without);
        // The same of a table: what its copy has is read, and what that does not have is lost.
        let mut damaged = file.clone();
        damaged[directories[bad] as usize * 512..][..4].copy_from_slice(&0x00FF_FFFFu32.to_le_bytes());
        damaged[entry(other, 1)..][..4].fill(0);
        fs::write(f.path().join("child.vmdk"), &damaged).unwrap();
        refused(f.path(), "child.vmdk", &["child.vmdk: at byte ", "the copy of its table has nothing"]);
        let mut without = vec![0; want.len()];
        without[3 * 65_536..4 * 65_536].fill(0x33);
        assert!(salvaged() == without);
    }
}
