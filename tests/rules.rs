//! The rules that hold for every format, run over `FORMATS` as a table. A rule without a case for a format shows as such.
//!
//! The rules, in short: the source: R1 read-only, R2 no names outside, R3 no FIFOs and folders, R4 changes are errors. Damage: R5 never
//! silently zero, R6 checksums and copies, R7 truncation, R8 overlaps and bounds, R9 chains, R10 untrusted numbers, R11 compressed units,
//! R12 no panic, R13 hostile text. The output: R14 no partial file, R15 existing ones, R16 never the input, R17 nothing left, R18 two
//! runs, R19 the system's refusals, R20 what cannot be held, R21 fresh identifiers, R22 the umask, R27 no regular file. The run: R23 any
//! -j, R24 few means, R25 odd names, R26 no environment.
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::iso::iso;
use common::packed::{Change, Stream, inflates_to};
use common::process::{end, stopped_in_the_middle};
use common::vhd::{Vhd, locator};
use common::{Ran, fed, names, noise, pattern, run, scratch, vdconv, vmdk};
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;
use vdconv::format::{self, FORMATS, OpenOptions};
use vdconv::io::Gate;

/// How a cell of the table is filled.
enum Cell {
    /// Cases were run, and they held.
    Held,
    /// The rule has nothing to say about this format, and why.
    Not(&'static str),
    /// Nobody wrote a case yet.
    Missing,
}
use Cell::{Held, Missing, Not};

/// A format as the cases see it.
struct Subject {
    /// What the inputs hold.
    guest: Vec<u8>,
    /// Images of it: file name and content.
    inputs: Vec<(&'static str, Vec<u8>)>,
    /// An image of 96 MiB: what takes a moment.
    large: Option<(&'static str, Vec<u8>)>,
    /// What can be written: OUTPUT, options, the files of the set.
    outputs: Vec<(&'static str, Vec<&'static str>, Vec<&'static str>)>,
}

fn guest() -> Vec<u8> {
    pattern(40, |n| (16..32).contains(&n))
}

fn subject(format: &str) -> Subject {
    // Nothing that shrinks: what a limit stops must stop a stream too.
    let large = || {
        let mut bytes = noise(96 << 20);
        bytes[0] = 0;
        bytes
    };
    match format {
        "vhd" => Subject {
            guest: guest(),
            inputs: vec![
                ("dynamic.vhd", Vhd::dynamic_of(&guest(), 8192).build()),
                ("fixed.vhd", Vhd::fixed_of(&guest()).build()),
            ],
            large: Some(("large.vhd", Vhd::fixed_of(&large()).build())),
            outputs: vec![
                ("o.vhd", vec![], vec!["o.vhd"]),
                ("o.vhd", vec!["-s", "fixed"], vec!["o.vhd"]),
                ("o.vhd", vec!["--contiguous"], vec!["o.vhd"]),
            ],
        },
        "vmdk" => Subject {
            guest: guest(),
            inputs: vec![("sparse.vmdk", vmdk::Sparse::of(&guest()).build())],
            large: Some(("large.vmdk", vmdk::Sparse::of(&large()).build())),
            outputs: vec![
                ("o.vmdk", vec![], vec!["o.vmdk"]),
                ("o.vmdk", vec!["-s", "monolithicFlat"], vec!["o-flat.vmdk", "o.vmdk"]),
                ("o.vmdk", vec!["-s", "twoGbMaxExtentSparse"], vec!["o-s001.vmdk", "o.vmdk"]),
                ("o.vmdk", vec!["-s", "twoGbMaxExtentFlat"], vec!["o-f001.vmdk", "o.vmdk"]),
                ("o.vmdk", vec!["-s", "streamOptimized"], vec!["o.vmdk"]),
                ("o.vmdk", vec!["-s", "vmfs"], vec!["o-flat.vmdk", "o.vmdk"]),
                ("o.vmdk", vec!["-s", "vmfsThin"], vec!["o-flat.vmdk", "o.vmdk"]),
            ],
        },
        "iso" => Subject {
            guest: iso(30),
            inputs: vec![("disc.iso", iso(30)), ("disc.img", iso(30))],
            large: Some(("large.iso", iso(96 << 9))),
            outputs: vec![],
        },
        "raw" => Subject {
            guest: guest(),
            inputs: vec![("disk.raw", guest()), ("disk.dd", guest())],
            large: Some(("large.img", large())),
            outputs: vec![("o.raw", vec![], vec!["o.raw"]), ("o.img", vec![], vec!["o.img"])],
        },
        other => panic!("no subject for {other}: add one"),
    }
}

const NOT_READ: Cell = Not("not read by this version");
const NOT_WRITTEN: Cell = Not("not written by this version");

impl Subject {
    /// Runs a case on each input, in a folder of its own that holds nothing else.
    fn each_input(&self, case: impl Fn(&Path, &str, &[u8])) -> Cell {
        for (name, image) in &self.inputs {
            let folder = scratch();
            fs::write(folder.path().join(name), image).unwrap();
            case(folder.path(), name, image);
        }
        if self.inputs.is_empty() { NOT_READ } else { Held }
    }

    /// Runs a case on each kind of output, in a folder that holds `in.vhd` and nothing else.
    fn each_output(&self, case: impl Fn(&Path, &[&str], &[&str])) -> Cell {
        self.each_output_of(&Vhd::dynamic_of(&guest(), 8192).build(), case)
    }

    fn each_output_of(&self, source: &[u8], case: impl Fn(&Path, &[&str], &[&str])) -> Cell {
        for (output, options, set) in &self.outputs {
            let folder: TempDir = scratch();
            fs::write(folder.path().join("in.vhd"), source).unwrap();
            let args = [vec!["in.vhd", *output], options.clone()].concat();
            case(folder.path(), &args, set);
        }
        if self.outputs.is_empty() { NOT_WRITTEN } else { Held }
    }

    fn large_output(&self, case: impl Fn(&Path, &[&str], &[&str])) -> Cell {
        let source = subject("vhd").large.unwrap().1;
        self.each_output_of(&source, case)
    }
}

/// The guest in a written output.
fn written(folder: &Path, output: &str) -> Vec<u8> {
    let path = folder.join(output);
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("vmdk") => vmdk::read(&path).guest,
        Some("vhd") => common::vhd::strict(&fs::read(path).unwrap(), None).guest,
        _ => fs::read(path).unwrap(),
    }
}

fn sh(folder: &Path, script: &str, args: &[&str]) -> Ran {
    let program = [&["-c", script, env!("CARGO_BIN_EXE_vdconv")], args].concat();
    Ran::of(Command::new("sh").current_dir(folder).args(program))
}

/// The VHD rules about damage: the change, and what the message must say; `Ok` where a copy or nothing is concerned.
fn vhd_damage(change: impl Fn(&mut Vec<u8>), want: Result<&str, &[&str]>) {
    let mut image = Vhd::dynamic_of(&guest(), 8192).build();
    change(&mut image);
    let folder = scratch();
    fs::write(folder.path().join("a.vhd"), &image).unwrap();
    let ran = run(folder.path(), ["a.vhd", "o.raw"]);
    match want {
        Ok(warning) => {
            ran.warns(&[warning]);
            assert!(written(folder.path(), "o.raw") == guest());
        }
        Err(texts) => {
            ran.fails(1, &["a.vhd: at byte "]).fails(1, texts);
            assert_eq!(names(folder.path()), ["a.vhd"]);
        }
    }
}

/// `--salvage` goes on over an image that lost these bytes of its guest: they are listed, and zero, and nothing else is.
fn salvaged(name: &str, image: &[u8], guest: &[u8], lost: std::ops::Range<usize>) {
    let folder = scratch();
    fs::write(folder.path().join(name), image).unwrap();
    let ran = run(folder.path(), [name, "o.raw", "--salvage", "--json"]);
    listed(folder.path(), &ran, guest, lost);
}

fn listed(folder: &Path, ran: &Ran, guest: &[u8], lost: std::ops::Range<usize>) {
    assert_eq!(ran.status, Some(3), "{}", ran.err);
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let ranges = report["lost"].as_array().unwrap();
    assert_eq!((ranges.len(), &report["lost_bytes"]), (1, &lost.len().into()), "{}", ran.out);
    assert_eq!(ranges[0]["start"], lost.start);
    let mut want = guest.to_vec();
    want[lost].fill(0);
    assert!(written(folder, "o.raw") == want);
}

fn case(rule: u32, format: &str, subject: &Subject) -> Cell {
    let no_structure = Not("every byte of the file is the disk's");
    match (rule, format) {
        (1, _) => subject.each_input(|folder, name, image| {
            let time = || fs::metadata(folder.join(name)).unwrap().modified().unwrap();
            let before = time();
            run(folder, [name, "o.raw"]).succeeds();
            run(folder, ["info", name]).succeeds();
            assert!(fs::read(folder.join(name)).unwrap() == image && time() == before);
        }),
        (2, "vmdk") => {
            let folder = scratch();
            fs::create_dir(folder.path().join("in")).unwrap();
            fs::write(folder.path().join("secret"), guest()).unwrap();
            let secret = folder.path().join("secret");
            for name in ["../secret", secret.to_str().unwrap(), "C:\\secret", "\\\\host\\secret", "/dev/zero", ""] {
                let text = vmdk::descriptor("monolithicFlat", 1, None, &format!("RW 40 FLAT \"{name}\" 0"));
                fs::write(folder.path().join("in/a.vmdk"), text).unwrap();
                run(folder.path(), ["in/a.vmdk", "o.raw"]).fails(1, &["in/a.vmdk: "]);
                let text = vmdk::descriptor("custom", 1, Some((2, name)), "RW 40 ZERO");
                fs::write(folder.path().join("in/a.vmdk"), text).unwrap();
                run(folder.path(), ["in/a.vmdk", "o.raw"]).fails(1, &["in/a.vmdk: "]);
            }
            assert_eq!(names(folder.path()), ["in", "secret"]);
            Held
        }
        (2, "vhd") => {
            let folder = scratch();
            fs::create_dir(folder.path().join("in")).unwrap();
            fs::write(folder.path().join("secret"), Vhd::dynamic_of(&guest(), 8192).build()).unwrap();
            let secret = format!("file://{}", folder.path().join("secret").display());
            let names_of = |name: &str| (*b"MacX", name.as_bytes().to_vec());
            for names in [locator(b"W2ru", "..\\secret"), names_of(&secret), names_of("file:///dev/zero")] {
                let mut child = Vhd::child_of(&Vhd::dynamic_of(&guest(), 8192), &guest(), 8192, |_| false);
                child.locators = vec![names];
                fs::write(folder.path().join("in/a.vhd"), child.build()).unwrap();
                run(folder.path(), ["in/a.vhd", "o.raw"]).fails(1, &["in/a.vhd: a name in the image"]);
            }
            assert_eq!(names(folder.path()), ["in", "secret"]);
            Held
        }
        (2, _) => Not("names no other file"),
        (3, _) => subject.each_input(|folder, name, _| {
            let start = Instant::now();
            fs::remove_file(folder.join(name)).unwrap();
            assert!(Command::new("mkfifo").arg(folder.join(name)).status().unwrap().success());
            run(folder, [name, "o.vmdk"]).fails(1, &[name, "a named pipe"]);
            fs::remove_file(folder.join(name)).unwrap();
            fs::create_dir(folder.join(name)).unwrap();
            run(folder, [name, "o.vmdk"]).fails(1, &[name, "a folder"]);
            assert!(start.elapsed() < Duration::from_secs(5));
        }),
        (4, _) => {
            let Some((name, image)) = &subject.large else { return NOT_READ };
            let folder = scratch();
            fs::write(folder.path().join(name), image).unwrap();
            let mut command = vdconv();
            let (child, pid) =
                stopped_in_the_middle(command.current_dir(folder.path()).args([name, "o.vmdk"]), folder.path());
            let file = fs::OpenOptions::new().append(true).open(folder.path().join(name)).unwrap();
            file.set_modified(std::time::SystemTime::now() + Duration::from_secs(9)).unwrap();
            let (status, err) = end(child, pid);
            assert!(status.code() == Some(1) && err.contains("while it was read"), "{err}");
            assert_eq!(names(folder.path()), [*name]);
            Held
        }
        (5, "vhd") => {
            vhd_damage(|i| i[1537] = 0x77, Err(&["at byte 1536: ", "outside the file"]));
            let mut image = Vhd::dynamic_of(&guest(), 8192).build();
            image[1537] = 0x77;
            salvaged("a.vhd", &image, &guest(), 0..8192);
            Held
        }
        (6, "vhd") => {
            vhd_damage(|i| i[300] ^= 1, Ok("checksum"));
            vhd_damage(|i| *i.last_mut().unwrap() ^= 1, Ok("checksum"));
            vhd_damage(|i| i[1000] ^= 1, Err(&["header checksum"]));
            Held
        }
        (7, "vhd") => {
            for cut in [4608, 6000, 7680] {
                vhd_damage(|i| i.truncate(i.len() - 512 - cut), Err(&["cut by the end"]));
            }
            vhd_damage(|i| i.truncate(i.len() - 512), Ok("missing"));
            Held
        }
        (8, "vhd") => {
            // Entry 2 says the sector of entry 0, then one behind it, then the header's.
            for (sector, text) in
                [(4u32, "where another block lies"), (5, "where another block lies"), (1, "another structure")]
            {
                vhd_damage(|i| i[1544..1548].copy_from_slice(&sector.to_be_bytes()), Err(&["at byte 1544: ", text]));
            }
            Held
        }
        (10, "vhd") => {
            let start = Instant::now();
            for size in [1u64 << 41, 1 << 62, u64::MAX] {
                vhd_damage(
                    |i| {
                        for at in [0, i.len() - 512] {
                            i[at + 48..at + 56].copy_from_slice(&size.to_be_bytes());
                            common::vhd::seal(&mut i[at..at + 512], 64);
                        }
                    },
                    Err(&["VHD"]),
                );
            }
            assert!(start.elapsed() < Duration::from_secs(10));
            Held
        }
        // Of bad sectors, bad_sectors.rs.
        (5, "raw") => {
            let folder = scratch();
            let args = ["-", "o.raw", "-f", "raw", "--input-size", "20480"];
            fed(folder.path(), &args, &guest()[..5000]).fails(1, &["at byte 5000: ", "ends too early"]);
            assert!(names(folder.path()).is_empty());
            let ran = fed(folder.path(), &[&args[..], &["--salvage", "--json"]].concat(), &guest()[..5000]);
            listed(folder.path(), &ran, &guest(), 5000..20_480);
            Held
        }
        (5, "iso") => {
            salvaged("a.iso", &iso(400)[..100_000], &iso(400), 100_000..400 * 2048);
            Held
        }
        (6..=8 | 10, "raw") => no_structure,
        (6 | 8, "iso") => Not("the bytes go over as they are; no structure is followed for them"),
        (7 | 10, "iso") => {
            let folder = scratch();
            let image = iso(400);
            let refused = |image: &[u8]| {
                fs::write(folder.path().join("a.iso"), image).unwrap();
                run(folder.path(), ["a.iso", "o.raw"]).fails(1, &["a.iso: at byte ", "truncated"]);
                assert_eq!(names(folder.path()), ["a.iso"]);
            };
            match rule {
                7 => [33_792, 40_960, 400 * 2048 - 151 * 2048].iter().for_each(|cut| refused(&image[..*cut])),
                _ => {
                    let mut hostile = image.clone();
                    hostile[32_768 + 80..][..4].fill(0xFF);
                    refused(&hostile);
                    hostile[32_768 + 128..][..2].fill(0xFF);
                    refused(&hostile);
                }
            }
            Held
        }
        (5 | 7 | 8 | 10, "vmdk") => {
            let image = vmdk::Sparse::of(&pattern(300, |_| false));
            let (a, b) = (image.entry_at(image.rgd(), 1), image.entry_at(image.gd(), 1));
            let file = image.build();
            let damaged = |change: &dyn Fn(&mut Vec<u8>), texts: &[&str]| {
                let folder = scratch();
                let mut file = file.clone();
                change(&mut file);
                fs::write(folder.path().join("a.vmdk"), file).unwrap();
                run(folder.path(), ["a.vmdk", "o.raw"]).fails(1, &["a.vmdk: at byte "]).fails(1, texts);
                assert_eq!(names(folder.path()), ["a.vmdk"]);
            };
            let entry = |value: u32| {
                move |file: &mut Vec<u8>| {
                    [a, b].iter().for_each(|at| file[*at..at + 4].copy_from_slice(&value.to_le_bytes()))
                }
            };
            let first = image.overhead() as u32;
            match rule {
                5 => {
                    damaged(&entry(0x00FF_FFFF), &["entry cannot be"]);
                    let mut file = file.clone();
                    entry(0x00FF_FFFF)(&mut file);
                    salvaged("a.vmdk", &file, &pattern(300, |_| false), 65_536..131_072);
                }
                7 => [50_000usize, 65_536, 70_000, 190_000]
                    .iter()
                    .for_each(|cut| damaged(&|file| file.truncate(file.len() - cut), &["VMDK"])),
                8 => [
                    (first, "where another grain lies"),
                    (first + 1, "where another grain lies"),
                    (1, "cannot be"),
                    (30, "cannot be"),
                ]
                .iter()
                .for_each(|(value, text)| damaged(&entry(*value), &[text])),
                _ => {
                    for (field, len) in [(12, 8), (20, 8), (36, 8), (44, 4)] {
                        damaged(&|file| file[field..field + len].fill(0xFE), &[]);
                    }
                }
            }
            Held
        }
        (6, "vmdk") => {
            // Copies, as there are no checksums: one directory, and one table, wiped.
            let image = vmdk::Sparse::of(&guest());
            for directory in [image.rgd(), image.gd()] {
                for at in [directory as usize * 512, image.entry_at(directory, 0)] {
                    let folder = scratch();
                    let mut file = image.build();
                    file[at..at + 512].fill(0);
                    fs::write(folder.path().join("a.vmdk"), file).unwrap();
                    run(folder.path(), ["a.vmdk", "o.raw"]).warns(&["a.vmdk: at byte "]);
                    assert!(written(folder.path(), "o.raw") == guest());
                }
            }
            Held
        }
        (9, "vmdk") => {
            let folder = scratch();
            let text = |cid, parent, name: &str| vmdk::descriptor("custom", cid, Some((parent, name)), "RW 40 ZERO");
            for (name, parent, words) in
                [("a.vmdk", 7, "leads back"), ("none.vmdk", 1, "not there"), ("b.vmdk", 2, "CID 00000007")]
            {
                fs::write(folder.path().join("a.vmdk"), text(7, parent, name)).unwrap();
                fs::write(folder.path().join("b.vmdk"), text(7, 7, "a.vmdk")).unwrap();
                run(folder.path(), ["a.vmdk", "o.raw"]).fails(1, &["a.vmdk: ", words]);
            }
            Held
        }
        (9, "vhd") => {
            let base = Vhd { unique_id: [7; 16], ..Vhd::dynamic_of(&guest(), 8192) };
            let child = |name: &str, id: [u8; 16], parent_id: [u8; 16]| {
                let mut child = Vhd::child_of(&base, &guest(), 8192, |n| n == 1);
                (child.unique_id, child.parent_id) = (id, parent_id);
                child.locators = vec![locator(b"W2ru", name)];
                child.build()
            };
            let folder = scratch();
            fs::write(folder.path().join("base.vhd"), base.build()).unwrap();
            for (name, parent_id, words) in [
                (".\\a.vhd", [8; 16], "leads back"),
                (".\\none.vhd", [7; 16], "not there"),
                (".\\base.vhd", [9; 16], "unique id 07070707"),
            ] {
                fs::write(folder.path().join("a.vhd"), child(name, [8; 16], parent_id)).unwrap();
                run(folder.path(), ["a.vhd", "o.raw"]).fails(1, &["a.vhd: ", words]);
            }
            Held
        }
        (9, _) => Not("has no parents"),
        (11, "vmdk") => {
            // A grain inflates to exactly its size: one byte less or more is damage, whatever its checksum says.
            let guest = pattern(128 * 3, |_| false);
            let sizes: [(Change, &str); 2] = [
                (
                    |n, packed, _, size| {
                        if n == 1 {
                            inflates_to(65_535, packed, size)
                        }
                    },
                    "less than a grain",
                ),
                (
                    |n, packed, _, size| {
                        if n == 1 {
                            inflates_to(65_537, packed, size)
                        }
                    },
                    "more than a grain",
                ),
            ];
            for (grain, what) in sizes {
                let folder = scratch();
                fs::write(folder.path().join("a.vmdk"), Stream { grain, ..Stream::of(&guest) }.build()).unwrap();
                run(folder.path(), ["a.vmdk", "o.raw"]).fails(1, &["a.vmdk: at byte ", what]);
                assert_eq!(names(folder.path()), ["a.vmdk"]);
            }
            Held
        }
        (11, _) => Not("no compressed units"),
        (12, _) => {
            for (name, image) in &subject.inputs {
                for step in 0..image.len().min(3000) {
                    let mut image = image.clone();
                    image[step] ^= 1 << (step % 8);
                    image.truncate(image.len() - step % 700);
                    let mut gate = Gate::new();
                    gate.lay_over(*name, image);
                    if let Ok(disk) = format::open(&mut gate, Path::new(name), &OpenOptions::default()) {
                        let (mut resolver, end) = (disk.chain.resolver(), disk.facts.virtual_size);
                        let (mut at, mut runs) = (0, 0);
                        while at < end && runs < 1000 {
                            at = resolver.at(at, end).unwrap().1.guest.end;
                            runs += 1;
                        }
                    }
                }
            }
            if subject.inputs.is_empty() { NOT_READ } else { Held }
        }
        (13, "vhd") => {
            let folder = scratch();
            let mut vhd = Vhd::dynamic_of(&guest(), 8192);
            vhd.creator = *b"\x1b[2J";
            fs::write(folder.path().join("a.vhd"), vhd.build()).unwrap();
            let ran = run(folder.path(), ["info", "a.vhd"]).succeeds();
            assert!(!ran.out.contains('\x1b') && ran.out.contains("[2J"), "{}", ran.out);
            Held
        }
        (13, "iso") => {
            let folder = scratch();
            let mut image = iso(30);
            image[32_768 + 40..][..8].copy_from_slice(b"a\x1b[31m\x07b");
            fs::write(folder.path().join("a.iso"), image).unwrap();
            let ran = run(folder.path(), ["info", "a.iso"]).succeeds();
            assert!(!ran.out.contains(['\x1b', '\x07']) && ran.out.contains("[31m"), "{}", ran.out);
            Held
        }
        (13, "raw") => Not("holds no text"),
        (13, _) => {
            let folder = scratch();
            let text = vmdk::descriptor("custom", 1, None, "RW 40 FLAT \"a\u{1b}[31m\u{202e}b\" 0");
            fs::write(folder.path().join("a.vmdk"), text).unwrap();
            let ran = run(folder.path(), ["info", "a.vmdk"]).fails(1, &["a\\u{1b}[31m\\u{202e}b"]);
            assert!(!ran.err.contains(['\x1b', '\u{202e}']));
            Held
        }
        (14, _) => subject.large_output(|folder, args, set| {
            let (child, pid) = stopped_in_the_middle(vdconv().current_dir(folder).args(args), folder);
            let there = names(folder);
            assert!(there.iter().all(|name| name == "in.vhd" || name.starts_with(".vdconv-")), "{there:?}");
            assert!(end(child, pid).0.success());
            assert_eq!(names(folder), [&["in.vhd"], set].concat());
        }),
        (15, _) => subject.each_output(|folder, args, set| {
            for existing in set {
                fs::write(folder.join(existing), "old").unwrap();
                run(folder, args).fails(1, &[existing, "exists"]);
                assert_eq!(fs::read(folder.join(existing)).unwrap(), b"old");
                fs::remove_file(folder.join(existing)).unwrap();
            }
            set.iter().for_each(|existing| fs::write(folder.join(existing), "old").unwrap());
            run(folder, [args, &["--force"]].concat()).succeeds();
            assert!(written(folder, args[1]) == guest());
            assert_eq!(names(folder), [&["in.vhd"], set].concat());
        }),
        (16, _) => subject.each_output(|folder, args, set| {
            for existing in set {
                fs::hard_link(folder.join("in.vhd"), folder.join(existing)).unwrap();
                run(folder, [args, &["--force"]].concat()).fails(2, &["the output is the input"]);
                fs::remove_file(folder.join(existing)).unwrap();
            }
        }),
        (17, _) => subject.large_output(|folder, args, set| {
            for (signal, number) in [(Signal::INT, 2), (Signal::TERM, 15), (Signal::HUP, 1)] {
                let (child, pid) = stopped_in_the_middle(vdconv().current_dir(folder).args(args), folder);
                kill_process(pid, signal).unwrap();
                let (status, _) = end(child, pid);
                assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(number));
                assert_eq!(names(folder), ["in.vhd"]);
            }
            // What a kill leaves is recognisable, and the next run to the same output takes it away.
            let (child, pid) = stopped_in_the_middle(vdconv().current_dir(folder).args(args), folder);
            kill_process(pid, Signal::KILL).unwrap();
            end(child, pid);
            let left = names(folder);
            assert!(left.len() > 1 && left.iter().all(|name| name == "in.vhd" || name.starts_with(".vdconv-")));
            run(folder, args);
            assert_eq!(names(folder), [&["in.vhd"], set].concat());
        }),
        (18, _) if subject.outputs.is_empty() => NOT_WRITTEN,
        (18, _) => subject.each_output(|folder, args, set| {
            let start =
                || vdconv().current_dir(folder).args(args).stderr(std::process::Stdio::piped()).spawn().unwrap();
            let runs: Vec<_> = (0..4).map(|_| start()).collect();
            let ends: Vec<_> = runs.into_iter().map(|run| run.wait_with_output().unwrap()).collect();
            assert_eq!(ends.iter().filter(|end| end.status.success()).count(), 1, "exactly one wins");
            for end in ends.iter().filter(|end| !end.status.success()) {
                let err = String::from_utf8_lossy(&end.stderr);
                assert!(end.status.code() == Some(1), "{err}");
                assert!(err.contains("the output exists") || err.contains("another run of vdconv is writing"), "{err}");
            }
            assert!(written(folder, args[1]) == guest());
            assert_eq!(names(folder), [&["in.vhd"], set].concat());
        }),
        (19, _) => subject.large_output(|folder, args, _| {
            sh(folder, "ulimit -f 20000; exec \"$0\" \"$@\"", args).fails(1, &["File too large"]);
            assert_eq!(names(folder), ["in.vhd"]);
            let args = [&args[..1], &["/sys/o.vmdk", "-O", format], &args[2..]].concat();
            run(folder, args).fails(1, &["/sys/o"]);
        }),
        (20, "vmdk") => subject.each_output(|folder, args, _| {
            fs::File::create(folder.join("big.raw")).unwrap().set_len(2 << 40).unwrap();
            let ran = run(folder, [&["big.raw"], &args[1..]].concat());
            match args.len() > 2 {
                true => drop(ran.succeeds()),
                false => drop(ran.fails(1, &["less than 2 TiB", "-s monolithicFlat holds it"])),
            }
        }),
        (20, "vhd") => subject.each_output(|folder, args, _| {
            let big = fs::File::create(folder.join("big.raw")).unwrap();
            big.set_len((2040 << 30) + 512).unwrap();
            run(folder, [&["big.raw"], &args[1..]].concat()).fails(1, &["2040 GiB at most", "hint: VHDX holds it"]);
            big.set_len(2040 << 30).unwrap();
            // A fixed one of that size has no place in a temporary folder.
            if !args.contains(&"fixed") {
                run(folder, [&["big.raw"], &args[1..]].concat()).succeeds();
            }
        }),
        (20, "raw") => Not("holds any disk"),
        (20, _) => NOT_WRITTEN,
        (21, "vmdk") => subject.each_output(|folder, args, _| {
            let ids = || {
                run(folder, [args, &["--force"]].concat()).succeeds();
                let keys = vmdk::read(&folder.join(args[1])).keys;
                let there =
                    ["CID", "ddb.uuid", "ddb.uuid.image", "ddb.longContentID"].map(|key| keys.get(key).cloned());
                there.into_iter().flatten().collect::<Vec<_>>()
            };
            assert!(ids().len() >= 2 && ids().iter().zip(ids()).all(|(a, b)| *a != b));
        }),
        (21, "vhd") => subject.each_output(|folder, args, _| {
            let id = || {
                run(folder, [args, &["--force"]].concat()).succeeds();
                common::vhd::strict(&fs::read(folder.join(args[1])).unwrap(), None).unique_id
            };
            assert_ne!(id(), id());
        }),
        (21, "raw") => Not("records no identifier"),
        (21, _) => NOT_WRITTEN,
        (22, _) => subject.each_output(|folder, args, set| {
            sh(folder, "umask 027; exec \"$0\" \"$@\"", args).succeeds();
            for file in set {
                let mode =
                    std::os::unix::fs::PermissionsExt::mode(&fs::metadata(folder.join(file)).unwrap().permissions());
                assert_eq!(mode & 0o777, 0o640);
            }
        }),
        (23, _) => {
            let guest = pattern(9000, |n| n % 777 < 300);
            subject.each_output_of(&Vhd::dynamic_of(&guest, 1 << 19).build(), |folder, args, set| {
                let bytes = |jobs: &str| {
                    let mut command = vdconv();
                    command.current_dir(folder).env("SOURCE_DATE_EPOCH", "77").args(args).args(["--force", "-j", jobs]);
                    Ran::of(&mut command).succeeds();
                    set.iter().map(|file| fs::read(folder.join(file)).unwrap()).collect::<Vec<_>>()
                };
                let one = bytes("1");
                assert!(one == bytes("2") && one == bytes("7"));
                assert!(written(folder, args[1]) == guest);
            })
        }
        (24, _) => {
            let scripts =
                ["ulimit -n 20; exec \"$0\" \"$@\"", "exec \"$0\" \"$@\" <&- >&- 2>&-", "\"$0\" \"$@\" --json | true"];
            let output = subject.each_output(|folder, args, _| {
                for script in scripts {
                    let ran = sh(folder, script, &[args, &["--force"]].concat());
                    assert_eq!(ran.status, Some(0), "{script}: {}", ran.err);
                    assert!(written(folder, args[1]) == guest());
                }
            });
            let input = subject.each_input(|folder, name, _| {
                for script in scripts {
                    assert_eq!(sh(folder, script, &[name, "o.raw", "--force"]).status, Some(0));
                    assert!(written(folder, "o.raw") == subject.guest);
                }
            });
            if matches!(input, Held) { input } else { output }
        }
        (25, _) => {
            let long = "n".repeat(240);
            let odd = ["-dash", "b\u{fc}cher \u{4e16}", " blank ", long.as_str()];
            let output = subject.each_output(|folder, args, _| {
                for stem in odd {
                    let name = args[1].replacen('o', stem, 1);
                    run(folder, [&args[2..], &["--", "in.vhd", &name]].concat()).succeeds();
                    assert!(written(folder, &name) == guest());
                }
            });
            let input = subject.each_input(|folder, name, _| {
                for stem in odd {
                    let odd = format!("{stem}{name}");
                    fs::copy(folder.join(name), folder.join(&odd)).unwrap();
                    run(folder, ["--force", "--", &odd, "o.raw"]).succeeds();
                    assert!(written(folder, "o.raw") == subject.guest);
                }
            });
            if matches!(input, Held) { input } else { output }
        }
        (26, _) => subject.each_output(|folder, args, set| {
            let bytes = |changes: &[(&str, &str)]| {
                let mut command = vdconv();
                command.current_dir(folder).env("SOURCE_DATE_EPOCH", "77").args(args).arg("--force");
                Ran::of(command.envs(changes.iter().copied())).succeeds();
                set.iter().map(|file| fs::read(folder.join(file)).unwrap()).collect::<Vec<_>>()
            };
            let plain = bytes(&[]);
            for change in [
                ("LANG", "de_DE.UTF-8"),
                ("TZ", "Asia/Tokyo"),
                ("HOME", "/"),
                ("NO_COLOR", "1"),
                ("TMPDIR", "/nowhere"),
            ] {
                assert!(bytes(&[change]) == plain, "{change:?}");
            }
        }),
        (27, _) => subject.each_output(|folder, args, set| {
            // A FIFO and a device are written in place, by kinds that need no seeking; they stay what they are.
            assert!(Command::new("mkfifo").arg(folder.join(args[1])).status().unwrap().success());
            let null = [&args[..1], &["/dev/null", "--force", "-O", format], &args[2..]].concat();
            let piped = format == "raw" || args.contains(&"fixed") || args.contains(&"streamOptimized");
            if !piped {
                run(folder, [args, &["--force"]].concat()).fails(2, &["a named pipe cannot seek"]);
                run(folder, null).fails(2, &["a character device cannot seek"]);
                return;
            }
            let mut reader = Command::new("cat");
            let reader = reader.current_dir(folder).arg(args[1]).stdout(std::process::Stdio::piped()).spawn().unwrap();
            run(folder, args).succeeds();
            let got = reader.wait_with_output().unwrap().stdout;
            run(folder, null).succeeds();
            let kind = |path: &Path| fs::symlink_metadata(path).unwrap().file_type();
            let is_fifo = std::os::unix::fs::FileTypeExt::is_fifo(&kind(&folder.join(args[1])));
            assert!(is_fifo && std::os::unix::fs::FileTypeExt::is_char_device(&kind(Path::new("/dev/null"))));
            fs::remove_file(folder.join(args[1])).unwrap();
            fs::write(folder.join(args[1]), got).unwrap();
            assert!(written(folder, args[1]) == guest());
            assert_eq!(names(folder), [&["in.vhd"], set].concat());
        }),
        _ => Missing,
    }
}

#[test]
fn every_rule_over_every_format() {
    let mut table: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for format in FORMATS {
        let subject = subject(format.name);
        assert_eq!(subject.inputs.is_empty(), format.open.is_none(), "{} is read, or not", format.name);
        assert_eq!(subject.outputs.is_empty(), format.subformats.is_empty(), "{} is written, or not", format.name);
        for rule in 1..=27 {
            table.entry(rule).or_default().push(match case(rule, format.name, &subject) {
                Held => "held".into(),
                Not(why) => format!("- ({why})"),
                Missing => "MISSING".into(),
            });
        }
    }
    let columns: Vec<_> = FORMATS.iter().map(|f| f.name).collect();
    println!("rule  {}", columns.iter().map(|c| format!("{c:<42}")).collect::<String>());
    for (rule, cells) in &table {
        println!("R{rule:<4} {}", cells.iter().map(|c| format!("{c:<42}")).collect::<String>().trim_end());
    }
    let missing: Vec<_> = table
        .iter()
        .flat_map(|(rule, cells)| cells.iter().zip(&columns).map(move |(cell, format)| (*rule, *format, cell)))
        .filter(|(.., cell)| *cell == "MISSING")
        .map(|(rule, format, _)| (rule, format))
        .collect();
    assert_eq!(missing, [], "a rule without a case for a format");
    let cells = || table.values().flatten();
    println!(
        "{} held, {} missing",
        cells().filter(|c| *c == "held").count(),
        cells().filter(|c| *c == "MISSING").count()
    );
}

/// A format is done when it has its row in the README, and fixtures where it is read.
#[test]
fn every_format_has_its_row_in_the_readme_and_its_fixtures() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    for format in FORMATS {
        let row = format!("| {} |", format.title);
        assert!(readme.lines().any(|line| line.starts_with(&row)), "no row {row:?} in README.md");
        for subformat in format.subformats.iter().filter(|s| !s.name.is_empty()) {
            assert!(readme.contains(subformat.name), "{} is not in README.md", subformat.name);
        }
        // A raw disk is its own fixture: any bytes.
        if format.open.is_some() && format.name != "raw" {
            assert!(!names(&common::fixture(format.name)).is_empty());
        }
    }
}
