//! `map` beside `qemu-img map`, over fixtures and corpus: where the data lies, in which image, file and place.
//!
//! qemu-img differs where it looks less closely, and each difference has a rule of its own in [`Judged::hold`].
//! In need of qemu-img and the shared folder: run with `cargo test --release -- --ignored`.
#![cfg(unix)]

mod common;

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::judge::tool;
use common::{Ran, fixture, has_program, run, scratch, shared_file};
use serde_json::Value;

/// A stretch of either's map.
#[derive(Debug, Clone)]
struct Stretch {
    start: u64,
    end: u64,
    depth: u64,
    present: bool,
    data: bool,
    zero: bool,
    compressed: bool,
    offset: Option<u64>,
    /// Ours alone.
    kind: String,
    file: Option<String>,
}

impl Stretch {
    fn of(entry: &Value) -> Stretch {
        let number = |key: &str| entry[key].as_u64();
        let start = number("start").unwrap();
        let text = |key: &str| entry[key].as_str().map(str::to_string);
        Stretch {
            start,
            end: start + number("length").unwrap(),
            depth: number("depth").unwrap(),
            present: entry["present"] == true,
            data: entry["data"] == true,
            zero: entry["zero"] == true,
            compressed: entry["compressed"] == true,
            offset: number("offset"),
            kind: text("kind").unwrap_or_default(),
            file: text("filename"),
        }
    }

    /// Where the guest byte `at` is kept.
    fn place(&self, at: u64) -> Option<u64> {
        self.offset.map(|offset| offset + at - self.start)
    }
}

/// What `qemu-img map` says of one image file, without its parents where it does not know of them.
struct Judged {
    /// qemu-img's name of it.
    name: String,
    driver: &'static str,
    stretches: Vec<Stretch>,
    /// Start, end, place and file of what is stored as it is.
    files: Vec<(u64, u64, u64, String)>,
    raw: OnceCell<Vec<u8>>,
}

impl Judged {
    /// `None` where qemu-img refuses the image.
    fn of(image: &Path, driver: &'static str) -> Option<Judged> {
        // By the footer's size, not by its geometry.
        let size = if driver == "vpc" { ",force_size_calc=current_size" } else { "" };
        let name = format!("driver={driver}{size},file.driver=file,file.filename={}", image.display());
        let map = |output: &str| Ran::of(Command::new("qemu-img").args(["map", output, "--image-opts", &name]));
        let json = map("--output=json");
        if json.status != Some(0) {
            return None;
        }
        let stretches: Vec<Stretch> =
            serde_json::from_str::<Vec<Value>>(&json.out).unwrap().iter().map(Stretch::of).collect();
        // Its table alone names files; it has none for packed grains.
        let mut files = Vec::new();
        if !stretches.iter().any(|stretch| stretch.compressed) {
            let table = map("--output=human");
            assert_eq!(table.status, Some(0), "{name}: {}", table.err);
            let hex = |cell: &str| u64::from_str_radix(cell.trim_start_matches("0x"), 16).unwrap();
            for line in table.out.lines().skip(1) {
                let (start, rest) = line.split_once(char::is_whitespace).unwrap();
                let (len, rest) = rest.trim_start().split_once(char::is_whitespace).unwrap();
                let (at, file) = rest.trim_start().split_once(char::is_whitespace).unwrap();
                files.push((hex(start), hex(start) + hex(len), hex(at), file.trim_start().to_string()));
            }
        }
        Some(Judged { name, driver, stretches, files, raw: OnceCell::new() })
    }

    fn len(&self) -> u64 {
        self.stretches.last().map_or(0, |last| last.end)
    }

    /// Does qemu-img read zeroes there?
    fn reads_zero(&self, from: u64, to: u64) -> bool {
        let raw = self.raw.get_or_init(|| {
            let folder = scratch();
            let out = folder.path().join("judged.raw");
            tool(Command::new("qemu-img").args(["convert", "--image-opts", "-O", "raw", &self.name]).arg(&out));
            fs::read(out).unwrap()
        });
        raw[from as usize..to as usize].iter().all(|byte| *byte == 0)
    }

    /// Holds one stretch of ours against it from `at` on; how far it was held. `alone`: its map knows of no parents.
    fn hold(&self, ours: &Stretch, at: u64, alone: bool, reads_zero: &dyn Fn(u64, u64) -> bool) -> Result<u64, String> {
        let theirs = self.stretches.iter().find(|s| (s.start..s.end).contains(&at)).ok_or("qemu-img ends before")?;
        let end = ours.end.min(theirs.end);
        let differ = |what: &str| Err(format!("{}..{end}: {what}: {ours:?} but qemu-img {theirs:?}", at));
        if !alone && ours.depth != theirs.depth {
            return differ("the image of the chain");
        }
        match ours.kind.as_str() {
            "packed" if !(theirs.data && theirs.compressed) => return differ("packed"),
            "packed" => {}
            "data" => {
                if !theirs.data || theirs.zero || theirs.compressed || ours.place(at) != theirs.place(at) {
                    return differ("data");
                }
                let file = |name: &str| Path::new(name).file_name().map(OsStr::to_os_string);
                let known = self.files.iter().find(|(start, end, ..)| (*start..*end).contains(&at));
                let known = known.map(|(start, _, place, name)| (place + at - start, file(name)));
                let said = ours.place(at).map(|place| (place, ours.file.as_deref().and_then(file)));
                if known != said {
                    return Err(format!("at {at}: {said:?} but qemu-img {known:?}"));
                }
            }
            "zero" | "hole" => {
                if !ours.zero || ours.data {
                    return differ("its keys");
                }
                // A hole of the file has a place, whether qemu-img has looked for holes there or calls it data.
                if ours.offset.is_some() && ours.place(at) != theirs.place(at) {
                    return differ("the hole's place");
                }
                // It looks at no holes in the blocks of a VHD, and at no sector bitmaps: what it calls data there is zeroes.
                let both_read_zeroes = || self.reads_zero(at, end) && reads_zero(at, end);
                if !theirs.zero && (self.driver != "vpc" || !both_read_zeroes()) {
                    return differ("not zero");
                }
                // A VHD's blocks that are not there it calls present.
                if ours.present != theirs.present && self.driver != "vpc" {
                    return differ("present");
                }
            }
            _ => return differ("its kind"),
        }
        Ok(end)
    }
}

/// The map of `name` in `folder` held against qemu-img's; how many stretches were, or why the image cannot be judged.
#[track_caller]
fn judge(folder: &Path, name: &str, driver: &'static str, differencing: bool) -> Result<usize, String> {
    let Some(whole) = Judged::of(&folder.join(name), driver) else { return Err("qemu-img refuses it".into()) };
    let ran = run(folder, ["map", "--json", "-q", name]);
    assert_eq!(ran.status, Some(0), "{name}: {}", ran.err);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    let ours: Vec<Stretch> = report["map"].as_array().unwrap().iter().map(Stretch::of).collect();
    // qemu-img knows no parents of VHDs: each image is held against its own map.
    let images = match differencing {
        false => vec![whole],
        true => {
            let info: Value = serde_json::from_str(&run(folder, ["info", "--json", name]).out).unwrap();
            let chain = info["images"][0]["chain"].as_array().unwrap().iter();
            chain.map(|image| Judged::of(&folder.join(image.as_str().unwrap()), driver).unwrap()).collect()
        }
    };
    let raw = OnceCell::new();
    let reads_zero = |from: u64, to: u64| {
        let raw: &Vec<u8> = raw.get_or_init(|| {
            run(folder, ["-q", name, "ours.raw", "--force"]).succeeds();
            fs::read(folder.join("ours.raw")).unwrap()
        });
        raw[from as usize..to as usize].iter().all(|byte| *byte == 0)
    };
    let (mut at, mut held) = (0, 0);
    for stretch in &ours {
        assert_eq!(stretch.start, at, "{name}: one behind the other");
        let image = if differencing { &images[stretch.depth as usize] } else { &images[0] };
        while at < stretch.end {
            at = image.hold(stretch, at, differencing, &reads_zero).unwrap_or_else(|e| panic!("{name}: {e}"));
            held += 1;
        }
    }
    // It takes the capacity of a sparse header, which VirtualBox rounds up to a grain, for the disk's size.
    let len = images[0].len();
    let rounded = driver == "vmdk" && len == at.next_multiple_of(65_536);
    assert!(len == at || rounded, "{name}: {at} but qemu-img {len}");
    Ok(held)
}

#[test]
#[ignore = "needs qemu-img"]
fn the_maps_of_all_fixtures_are_those_of_qemu_img() {
    if !has_program("qemu-img") {
        return;
    }
    let (folder, mut judged) = (scratch(), 0);
    for (kind, driver) in [("vhd", "vpc"), ("vmdk", "vmdk"), ("iso", "raw")] {
        let mut names = common::names(&fixture(kind));
        // Written anew: as many of a file's zeroes are holes as the file system likes.
        for name in &names {
            fs::write(folder.path().join(name), fs::read(fixture(kind).join(name)).unwrap()).unwrap();
        }
        names.retain(|name| !name.contains("-s001"));
        for name in names {
            let held = judge(folder.path(), &name, driver, false).unwrap();
            println!("{name}: {held} stretches");
            judged += 1;
        }
    }
    assert_eq!(judged, 9);
}

/// Every image of the corpus that this version reads and qemu-img too.
#[test]
#[ignore = "needs the corpus and qemu-img"]
fn the_maps_of_the_corpus_are_those_of_qemu_img() {
    if !has_program("qemu-img") {
        return;
    }
    let (mut judged, mut refused, mut left_out) = (0, 0, Vec::new());
    for table in ["corpus/vhd.tsv", "corpus/vmdk.tsv"] {
        let Some(table) = shared_file(table) else { return };
        for row in fs::read_to_string(&table).unwrap().lines().skip(1) {
            let cells: Vec<_> = row.split('\t').collect();
            let [name, archive, format, variant, _, _, _, expect, ..] = cells[..] else { panic!("{row}") };
            let driver = match format {
                "vhd" => "vpc",
                "vmdk" => "vmdk",
                "iso" | "raw" => "raw",
                _ => {
                    left_out.push(format!("{name}: {format} is not read yet"));
                    continue;
                }
            };
            let folder = scratch();
            let archive: PathBuf = table.with_file_name(archive);
            tool(Command::new("tar").current_dir(folder.path()).arg("-xf").arg(archive));
            if expect == "refuse" {
                // A map may be had of a part; it is a failure all the same.
                assert_eq!(run(folder.path(), ["map", "--json", "-q", name]).status, Some(1), "{name}");
                refused += 1;
                continue;
            }
            match judge(folder.path(), name, driver, variant.contains("differencing")) {
                Ok(held) => {
                    println!("{name}: {held} stretches");
                    judged += 1;
                }
                Err(why) => left_out.push(format!("{name}: {why}")),
            }
        }
    }
    println!("{judged} images judged, {refused} refused as they must be, left out:\n{}", left_out.join("\n"));
    // qemu-img wants the copy of a VHD's footer at its beginning, and knows no VMDK of type custom.
    let by_qemu: Vec<_> = left_out.iter().filter_map(|line| line.strip_suffix(": qemu-img refuses it")).collect();
    assert_eq!(by_qemu, ["vhd-footer-lost/dynamic-nohead.vhd", "made-custom/disk.vmdk"]);
    assert!(judged >= 57 && refused >= 9, "{judged} {refused}");
}
