//! `map`: where data, zeroes and holes lie, and in which image of a chain.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::judge::tool;
use common::vhd::Vhd;
use common::vmdk::{Sparse, descriptor};
use common::{has_program, pattern, run, scratch};
use serde_json::Value;

const GRAIN: u64 = 65_536;

/// The map by `--json`; whatever it says, the stretches follow each other and cover the disk.
fn map(folder: &Path, args: &[&str]) -> (Vec<Value>, Option<i32>) {
    let ran = run(folder, [&["map", "--json"], args].concat());
    let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {}{}", ran.out, ran.err));
    let map = report["map"].as_array().unwrap().clone();
    let mut at = 0;
    for entry in &map {
        assert_eq!(entry["start"], at, "{entry}");
        assert!(entry["length"].as_u64().unwrap() > 0, "{entry}");
        at += entry["length"].as_u64().unwrap();
    }
    let image = serde_json::from_str::<Value>(&run(folder, [&["info", "--json"], args].concat()).out).unwrap();
    assert_eq!(image["images"][0]["virtual_size"], at, "it covers the disk");
    assert_eq!(report["error"].is_null(), ran.status == Some(0));
    (map, ran.status)
}

/// Start and length in grains, kind, depth.
fn stretches(map: &[Value]) -> Vec<(u64, u64, &str, u64)> {
    let number = |value: &Value| value.as_u64().unwrap();
    map.iter()
        .map(|e| (number(&e["start"]), number(&e["length"]), e["kind"].as_str().unwrap(), number(&e["depth"])))
        .collect()
}

/// A table may be all entries that lead to one place: one stretch of the disk is lost for one reason, and it is told where it begins.
#[test]
fn what_is_lost_for_one_reason_is_one_stretch_wherever_each_entry_stands() {
    let f = scratch();
    let sparse = Sparse::of(&pattern(300 * 128, |_| false));
    let mut image = sparse.build();
    let first = sparse.entry_at(sparse.gd(), 0);
    for directory in [sparse.gd(), sparse.rgd()] {
        for grain in 1..290 {
            let entry = sparse.entry_at(directory, grain);
            let other = sparse.entry_at(directory, 0);
            image.copy_within(other..other + 4, entry);
        }
    }
    assert_ne!(image[first..first + 4], [0; 4]);
    fs::write(f.path().join("a.vmdk"), &image).unwrap();
    let (map, status) = map(f.path(), &["a.vmdk"]);
    let kinds: Vec<_> =
        stretches(&map).into_iter().map(|(start, len, kind, _)| (start / GRAIN, len / GRAIN, kind)).collect();
    assert_eq!((kinds, status), (vec![(0, 1, "data"), (1, 289, "lost"), (290, 10, "data")], Some(1)));
    let table = run(f.path(), ["map", "--table", "a.vmdk"]).out;
    assert_eq!(table.lines().count(), 4, "{table}");
    // A conversion goes over it in long steps, and lists the same.
    let ran = run(f.path(), ["a.vmdk", "o.raw", "--salvage", "--json", "-v"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let [lost] = report["lost"].as_array().unwrap().as_slice() else { panic!("{report}") };
    // There the one that came first is lost too: nobody knows whose the bytes are.
    assert_eq!((&lost["start"], &lost["length"]), (&0.into(), &(290 * GRAIN).into()));
    let gaps = ran.err.split_once(" gaps").and_then(|(front, _)| front.rsplit(' ').next()?.parse::<u64>().ok());
    assert!(gaps.unwrap() < 289 / 32, "{}", ran.err);
}

#[test]
fn each_stretch_tells_the_image_of_the_chain_that_has_it() {
    let f = scratch();
    let child = |name: &str, cid, parent, grains: &[(usize, Option<u8>)]| {
        let text = descriptor("monolithicSparse", cid, Some(parent), "RW 1024 SPARSE \"x\"");
        let mut image = Sparse { descriptor: text, flags: 7, ..Sparse::of(&vec![0; 8 * GRAIN as usize]) };
        for (grain, fill) in grains {
            image.grains[*grain] = Some(fill.map_or(vec![], |byte| vec![byte; GRAIN as usize]));
        }
        fs::write(f.path().join(name), image.build()).unwrap();
    };
    let base = Sparse::of(&pattern(1024, |n| n >= 512)).build();
    fs::write(f.path().join("base.vmdk"), base).unwrap();
    child("one.vmdk", 2, (0x1234_5678, "base.vmdk"), &[(1, Some(1)), (2, None), (5, None)]);
    child("two.vmdk", 3, (2, "one.vmdk"), &[(2, Some(2))]);
    let (entries, status) = map(f.path(), &["two.vmdk"]);
    let want = [
        (0, GRAIN, "data", 2),
        (GRAIN, GRAIN, "data", 1),
        (2 * GRAIN, GRAIN, "data", 0),
        (3 * GRAIN, GRAIN, "data", 2),
        (4 * GRAIN, GRAIN, "hole", 2),
        (5 * GRAIN, GRAIN, "zero", 1),
        (6 * GRAIN, 2 * GRAIN, "hole", 2),
    ];
    assert_eq!((stretches(&entries), status), (want.to_vec(), Some(0)));
    assert_eq!(entries[2]["filename"], "two.vmdk");
    // The bytes at the place that it names are the guest's.
    let at = entries[2]["offset"].as_u64().unwrap() as usize;
    assert!(fs::read(f.path().join("two.vmdk")).unwrap()[at..at + GRAIN as usize] == [2; GRAIN as usize]);
    // Without its parent what the child leaves open is lost, and told.
    fs::remove_file(f.path().join("one.vmdk")).unwrap();
    let (entries, status) = map(f.path(), &["two.vmdk"]);
    let want = [(0, 2 * GRAIN, "lost", 1), (2 * GRAIN, GRAIN, "data", 0), (3 * GRAIN, 5 * GRAIN, "lost", 1)];
    assert_eq!((stretches(&entries), status), (want.to_vec(), Some(1)));
    assert!(entries[0]["message"].as_str().unwrap().contains("one.vmdk"));
}

#[test]
fn packed_grains_are_data_that_is_compressed() {
    let f = scratch();
    fs::write(f.path().join("a.raw"), pattern(1024, |n| n >= 256)).unwrap();
    run(f.path(), ["a.raw", "s.vmdk", "-s", "stream"]).succeeds();
    let (entries, _) = map(f.path(), &["s.vmdk"]);
    assert_eq!(stretches(&entries), [(0, 2 * GRAIN, "packed", 0), (2 * GRAIN, 6 * GRAIN, "hole", 0)]);
    assert!(entries[0]["compressed"] == true && entries[0]["data"] == true);
}

#[test]
fn the_table_has_a_line_for_each_stretch_and_the_reason_of_each_loss() {
    let f = scratch();
    let mut image = Vhd::dynamic_of(&pattern(3 * 4096, |n| (4096..8192).contains(&n)), 2 << 20).build();
    fs::write(f.path().join("a.vhd"), &image).unwrap();
    let ran = run(f.path(), ["map", "a.vhd"]).succeeds();
    let lines: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["start", "length", "kind", "depth", "offset", "file"]);
    assert_eq!(lines[1][..4], ["0", "2097152", "data", "0"]);
    assert_eq!(lines[2], ["2097152", "2097152", "hole", "0"]);
    assert_eq!((lines[3][2], lines[3][5], lines.len()), ("data", "a.vhd", 4));
    image[1536..1540].copy_from_slice(&0x00FF_FFFFu32.to_be_bytes());
    fs::write(f.path().join("b.vhd"), image).unwrap();
    for args in [["map", "b.vhd", "--table"], ["map", "b.vhd", "--picture"]] {
        let ran = run(f.path(), args).fails(1, &["b.vhd: at byte 1536: "]);
        assert_eq!(ran.err.lines().filter(|line| line.contains("1536")).count(), 1, "{}", ran.err);
        assert!(ran.out.contains("data"), "the map is shown all the same: {}", ran.out);
    }
    let ran = run(f.path(), ["map", "b.vhd"]);
    assert!(ran.out.lines().any(|l| l.contains("  lost  ") && l.contains("b.vhd: at byte 1536: ")), "{}", ran.out);
}

#[test]
fn the_picture_shows_data_where_it_is_and_the_partitions() {
    let f = scratch();
    let mut disk = vec![0u8; 64 << 20];
    disk[450] = 0x83;
    disk[454..458].copy_from_slice(&65_536u32.to_le_bytes());
    disk[458..462].copy_from_slice(&65_536u32.to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xAA]);
    disk[48 << 20..56 << 20].fill(0xA5);
    fs::write(f.path().join("a.vhd"), Vhd::dynamic_of(&disk, 2 << 20).build()).unwrap();
    let ran = run(f.path(), ["map", "--picture", "a.vhd"]).succeeds();
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], "a.vhd: VHD dynamic, 64.0 MiB");
    assert!(lines[1].starts_with("   0 bytes ##"), "{}", ran.out);
    assert!(lines.iter().any(|l| l.trim_start().starts_with("1===")), "{}", ran.out);
    assert!(ran.out.contains("\n         1 Linux, 32.0 MiB\n"), "{}", ran.out);
    let cells: String =
        lines.iter().filter(|l| l.get(8..10) == Some("iB") || l.contains("0 bytes ")).map(|l| &l[11..]).collect();
    let cells: String = cells.chars().take_while(|c| "#+-0.!".contains(*c)).collect();
    let data = cells.matches(['#', '+', '-']).count();
    // 10 of 64 MiB, in cells of an eighth of a line and less.
    assert!((cells.len() * 9 / 64..=cells.len() * 12 / 64).contains(&data), "{data} of {}\n{}", cells.len(), ran.out);
    assert!(!ran.out.contains('\x1b') && ran.out.lines().all(|line| line.len() <= 80 && line.is_ascii()));
}

#[test]
#[cfg(unix)]
fn a_map_of_a_million_stretches_takes_little_memory_and_ends_with_its_reader() {
    let f = scratch();
    // Grains that the image says are zero, and grains that it does not have, in turns.
    let count = 1 << 20;
    let text = descriptor("monolithicSparse", 7, None, &format!("RW {} SPARSE \"x\"", count * 16));
    let grains = (0..count).map(|n| (n % 2 == 0).then(Vec::new)).collect();
    let image = Sparse { capacity: count * 16, version: 1, flags: 7, grain: 16, gtes: 512, descriptor: text, grains };
    fs::write(f.path().join("a.vmdk"), image.build()).unwrap();
    for (option, least) in [("--table", 30_000_000), ("--json", 100_000_000), ("--picture", 500)] {
        let out = f.path().join("out");
        let mut command = common::vdconv();
        command.current_dir(f.path()).args(["map", "a.vmdk", option]).stdout(fs::File::create(&out).unwrap());
        let (status, peak, time) = common::process::measured(&mut command);
        println!("{option}: {peak} MiB, {time:?}, {} bytes", fs::metadata(&out).unwrap().len());
        assert!(status.success() && peak < 64, "{option}: {peak} MiB");
        assert!(fs::metadata(&out).unwrap().len() > least, "{option}");
    }
    let script = format!("{} map a.vmdk --table | head -1", env!("CARGO_BIN_EXE_vdconv"));
    let ran = common::Ran::of(Command::new("sh").current_dir(f.path()).args(["-c", &script]));
    assert!(ran.out.contains("start") && ran.out.lines().count() == 1, "{}{}", ran.out, ran.err);
}

/// What both say of every stretch on whose borders they agree or not: the finest common division.
fn alike(ours: &[Value], theirs: &[Value]) -> Result<usize, String> {
    let number = |value: &Value| value.as_u64().unwrap();
    let (mut i, mut j, mut at, mut steps) = (0, 0, 0, 0);
    while let (Some(a), Some(b)) = (ours.get(i), theirs.get(j)) {
        let place = |e: &Value| e["offset"].as_u64().map(|offset| offset + at - number(&e["start"]));
        let offset = |e: &Value| if e["data"] == true && e["compressed"] != true { place(e) } else { None };
        let said = |e: &Value| (e["data"].clone(), e["zero"].clone(), e["depth"].clone(), offset(e));
        if said(a) != said(b) {
            return Err(format!("at {at}: {a} but qemu-img {b}"));
        }
        let (x, y) = (number(&a["start"]) + number(&a["length"]), number(&b["start"]) + number(&b["length"]));
        at = x.min(y);
        (i, j, steps) = (i + usize::from(x == at), j + usize::from(y == at), steps + 1);
    }
    if i == ours.len() && j == theirs.len() { Ok(steps) } else { Err(format!("they end elsewhere than at {at}")) }
}

#[test]
#[ignore = "needs qemu-img"]
fn the_map_of_a_chain_and_of_packed_grains_is_that_of_qemu_img() {
    if !has_program("qemu-img") {
        return;
    }
    let f = scratch();
    let quiet = |args: &[&str]| drop(tool(Command::new("qemu-img").current_dir(f.path()).args(args)));
    fs::write(f.path().join("a.raw"), pattern(128 * 64, |n| n / 128 % 3 == 0)).unwrap();
    quiet(&["convert", "-O", "vmdk", "a.raw", "base.vmdk"]);
    quiet(&["convert", "-O", "vmdk", "-o", "subformat=streamOptimized", "a.raw", "stream.vmdk"]);
    quiet(&["create", "-f", "vmdk", "-F", "vmdk", "-b", "base.vmdk", "top.vmdk"]);
    tool(Command::new("qemu-io").current_dir(f.path()).args([
        "-c",
        "write -P 7 64k 128k",
        "-c",
        "write -P 8 1M 64k",
        "top.vmdk",
    ]));
    for name in ["base.vmdk", "stream.vmdk", "top.vmdk"] {
        let (ours, _) = map(f.path(), &[name]);
        let out = tool(Command::new("qemu-img").current_dir(f.path()).args(["map", "--output=json", name]));
        let theirs = serde_json::from_str::<Value>(&out).unwrap().as_array().unwrap().clone();
        let steps = alike(&ours, &theirs).unwrap_or_else(|e| panic!("{name}: {e}"));
        println!("{name}: {} stretches, alike in {steps} steps", ours.len());
    }
}
