//! VMDKs of every kind, by other programs or built by the specification, as vdconv and programs with no code in common read them.
//!
//! Slow, and in need of the judges: run with `cargo test --release -- --ignored`.

#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::judge::{tool, vbox_is_there};
use common::packed::{Stream, cowd, marker, sesparse, tables_in_front};
use common::process::measured;
use common::vmdk::{Sparse, descriptor, stream_lacks};
use common::{Ran, has_program, has_programs, pattern, run, scratch, shared_file, vdconv};

/// Reads `name` in `folder`, and holds that against what each of these judges reads; they must all be able to.
#[track_caller]
fn read_alike(folder: &Path, name: &str, judges: &str) {
    let Some(judge) = shared_file("tools/judge") else { return };
    let raw = folder.join("judged.raw");
    let ran = run(folder, [name, "judged.raw", "--force"]);
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    let judges: Vec<_> = judges.split(',').filter(|judge| *judge != "vbox" || vbox_is_there()).collect();
    let mut command = Command::new(judge);
    command.args(["--with", &judges.join(",")]).arg("--expect").arg(&raw).arg(folder.join(name));
    let ran = Ran::of(&mut command);
    assert_eq!(ran.status, Some(0), "{name}: {}{}", ran.out, ran.err);
    assert!(!ran.out.contains("error:"), "{name}: {}", ran.out);
    println!("{name}: {}", ran.out);
}

#[test]
#[ignore = "needs the judges"]
fn types_without_a_real_sample_are_read_as_judges_read_them() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name);
    let guest = pattern(4096, |n| n % 700 > 500);
    fs::write(at("d-flat.bin"), &guest).unwrap();
    fs::write(at("d-pt.bin"), pattern(63, |_| false)).unwrap();
    let whole = "RW 4096 FLAT \"d-flat.bin\" 0";
    let vmfs = "RW 4096 VMFS \"d-flat.bin\"";
    let parts = "RW 63 FLAT \"d-pt.bin\" 0\nRW 4033 FLAT \"d-flat.bin\" 63";
    for (create_type, lines, judges) in [
        ("vmfs", vmfs, "qemu,libvmdk,dissect,7zz"),
        ("vmfsThin", vmfs, "dissect,7zz"),
        ("vmfsPreallocated", vmfs, "dissect,7zz"),
        ("vmfsEagerZeroedThick", vmfs, "dissect,7zz"),
        ("vmfsThick", vmfs, "dissect,7zz"),
        ("fullDevice", whole, "dissect,7zz"),
        // dissect takes no notice of an extent's offset.
        ("partitionedDevice", parts, "7zz"),
        ("custom", parts, "7zz"),
        ("twoGbMaxExtentFlat", parts, "qemu,7zz"),
        ("2GbMaxExtentFlat", parts, "7zz"),
    ] {
        fs::write(at("d.vmdk"), descriptor(create_type, 7, None, lines)).unwrap();
        read_alike(folder.path(), "d.vmdk", judges);
    }
    // A header of version 2, with entries of 1 for zero; an odd table size has no second reader.
    let mut zeroed = Sparse { version: 2, flags: 7, ..Sparse::of(&guest) };
    zeroed.grains[5] = Some(Vec::new());
    fs::write(at("z.vmdk"), zeroed.build()).unwrap();
    read_alike(folder.path(), "z.vmdk", "qemu");
    for grain in [8, 16, 64, 256] {
        let mut image = Sparse { grain, ..Sparse::of(&guest) };
        let chunks = guest.chunks(grain as usize * 512);
        image.grains = chunks.map(|g| g.iter().any(|b| *b != 0).then(|| g.to_vec())).collect();
        // libvmdk follows the name in an embedded descriptor, and does not find it.
        fs::write(at("g.vmdk"), image.build()).unwrap();
        read_alike(folder.path(), "g.vmdk", "qemu,dissect,7zz");
    }
}

#[test]
#[ignore = "needs the judges"]
fn streams_and_redo_logs_built_by_the_specification_are_read_as_judges_read_them() {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name);
    let guest = pattern(5 * 128 + 16, |n| (256..384).contains(&n));
    fs::write(at("s.vmdk"), Stream::of(&guest).build()).unwrap();
    read_alike(folder.path(), "s.vmdk", "qemu,vbox,dissect,7zz");
    fs::write(at("short.vmdk"), Stream { short_last: true, ..Stream::of(&guest) }.build()).unwrap();
    read_alike(folder.path(), "short.vmdk", "qemu,dissect");
    fs::write(at("front.vmdk"), tables_in_front(&guest, marker)).unwrap();
    read_alike(folder.path(), "front.vmdk", "qemu,dissect");
    let delta = cowd(10_000, &[(0, 0x11), (1, 0), (4095, 0x12), (4096, 0x13), (9999, 0x14)], &[]);
    fs::write(at("c-delta.vmdk"), delta).unwrap();
    fs::write(at("c.vmdk"), descriptor("vmfsSparse", 7, None, "RW 10000 VMFSSPARSE \"c-delta.vmdk\"")).unwrap();
    read_alike(folder.path(), "c.vmdk", "qemu,libvmdk");
    let entries = [(0, 0x3000_0000_0000_0000), (1, 0x2000_0000_0000_0000), (4097, 0x3001_0000_0000_0000)];
    fs::write(at("e-sesparse.vmdk"), sesparse(&entries, &[(0, 0x31), (1, 0x32)], 0)).unwrap();
    fs::write(at("e.vmdk"), descriptor("seSparse", 7, None, "RW 40000 SESPARSE \"e-sesparse.vmdk\"")).unwrap();
    read_alike(folder.path(), "e.vmdk", "qemu");
}

#[test]
#[ignore = "needs the judges"]
fn peers_16_what_qemus_own_streams_lack_is_in_ours() {
    let Some(judge) = shared_file("tools/judge") else { return };
    if !has_program("qemu-img") {
        return;
    }
    let folder = scratch();
    let at = |name: &str| folder.path().join(name);
    // The last grain is cut by the disk's end.
    fs::write(at("a.raw"), pattern(10 * 128 + 16, |n| (256..384).contains(&n))).unwrap();
    let into = |output: &str| {
        let mut qemu = Command::new("qemu-img");
        qemu.current_dir(folder.path()).args(["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]);
        Ran::of(qemu.args(["a.raw", output]))
    };
    assert_eq!(into("qemu.vmdk").status, Some(0));
    run(folder.path(), ["a.raw", "o.vmdk", "-s", "stream"]).succeeds();
    let theirs = stream_lacks(&fs::read(at("qemu.vmdk")).unwrap());
    println!("qemu-img's lacks {theirs:#?}");
    let all = [
        "one set of tables",
        "a directory behind the grains",
        "the adapter that importers assume",
        "whole grains only",
        "markers of tables",
        "a marker of the directory",
        "a footer",
        "one marker of the end, and nothing behind",
    ];
    assert_eq!(theirs, all);
    assert_eq!(stream_lacks(&fs::read(at("o.vmdk")).unwrap()), [""; 0]);

    // VirtualBox and 7-Zip open ours alone.
    for name in ["vbox", "7zz"] {
        let opens = |image: &str| {
            let mut command = Command::new(&judge);
            let ran = Ran::of(command.args(["--with", name, "--expect"]).arg(at("a.raw")).arg(at(image)));
            ran.status == Some(0) && !ran.out.contains("error:")
        };
        if name != "vbox" || vbox_is_there() {
            assert_eq!((opens("qemu.vmdk"), opens("o.vmdk")), (false, true), "{name}");
        }
    }

    // Into a pipe: the bytes of a file, where qemu-img cannot.
    assert_ne!(into("/dev/stdout").status, Some(0));
    for name in ["a.vmdk", "-"] {
        let mut ours = vdconv();
        ours.current_dir(folder.path()).env("SOURCE_DATE_EPOCH", "1700000000").args(["-O", "vmdk", "-s", "stream"]);
        let ran = ours.args(["a.raw", name]).output().unwrap();
        assert!(ran.status.success());
        if name == "-" {
            assert!(ran.stdout == fs::read(at("a.vmdk")).unwrap());
        }
    }
}

#[test]
#[ignore = "needs qemu-img"]
fn a_chain_of_three_by_qemu_is_flattened_as_qemu_flattens_it_and_refused_when_touched() {
    if !has_programs(&["qemu-img", "qemu-io"]) {
        return;
    }
    let folder = scratch();
    let qemu = |program: &str, args: &[&str]| tool(Command::new(program).current_dir(folder.path()).args(args));
    let write = |image: &str, writes: &[&str]| {
        let commands: Vec<_> = writes.iter().flat_map(|write| ["-c", write]).collect();
        qemu("qemu-io", &[&["-f", "vmdk"], commands.as_slice(), &[image]].concat());
    };
    qemu("qemu-img", &["create", "-q", "-f", "vmdk", "base.vmdk", "20M"]);
    write("base.vmdk", &["write -P 0x11 0 3M", "write -P 0x12 10M 1M"]);
    let child = |name: &str, parent: &str| {
        qemu("qemu-img", &["create", "-q", "-f", "vmdk", "-b", parent, "-F", "vmdk", name]);
    };
    child("one.vmdk", "base.vmdk");
    write("one.vmdk", &["write -P 0x21 1M 512K", "write -P 0x22 15M 64K"]);
    child("two.vmdk", "one.vmdk");
    write("two.vmdk", &["write -P 0x31 1280K 1M", "write -P 0 10M 128K"]);
    qemu("qemu-img", &["convert", "-f", "vmdk", "-O", "raw", "two.vmdk", "want.raw"]);
    run(folder.path(), ["two.vmdk", "got.raw"]).succeeds();
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    assert!(read("got.raw") == read("want.raw"));
    assert_eq!((read("got.raw")[1 << 20], read("got.raw")[1280 << 10], read("got.raw")[10 << 20]), (0x21, 0x31, 0));
    // Written to once more, the middle is not what the youngest was made on.
    write("one.vmdk", &["write -P 0x99 0 64K"]);
    run(folder.path(), ["two.vmdk", "x.raw"]).fails(1, &["two.vmdk: at byte ", "CID ", "one.vmdk", "parentCID "]);
}

/// A sparse VMDK of 2 TiB - 64 KiB made from a plan of its grains: written as a file with holes, by the layout of the specification.
fn two_tebibytes(path: &Path, stored_grains: impl Iterator<Item = u64>) {
    use std::os::unix::fs::FileExt;
    let capacity = (2u64 << 40) / 512 - 128;
    let text = descriptor("monolithicSparse", 7, None, &format!("RW {capacity} SPARSE \"x\""));
    let plan = Sparse { capacity, descriptor: text, grains: Vec::new(), ..Sparse::of(&[0; 512]) };
    let file = fs::File::create(path).unwrap();
    file.write_all_at(&plan.build(), 0).unwrap();
    let (mut next, mut page, mut number) = (plan.overhead(), vec![0u8; 2048], 0);
    let put = |number: u64, page: &[u8]| {
        for directory in [plan.rgd(), plan.gd()] {
            file.write_all_at(page, plan.entry_at(directory, number * 512) as u64).unwrap();
        }
    };
    for grain in stored_grains {
        if grain / 512 != number {
            put(number, &page);
            (page, number) = (vec![0; 2048], grain / 512);
        }
        page[(grain % 512) as usize * 4..][..4].copy_from_slice(&(next as u32).to_le_bytes());
        next += 128;
    }
    put(number, &page);
    file.set_len(next * 512).unwrap();
}

#[test]
#[ignore = "makes images of 2 TiB virtual size, 4 GB of one stored"]
fn r10_two_tebibytes_with_4_gb_of_data_or_with_full_tables_take_little_memory() {
    use std::os::unix::fs::FileExt;
    let folder = scratch();
    let path = folder.path().join("big.vmdk");
    // 4 GB all over the disk: every 512th grain, with real bytes in each.
    two_tebibytes(&path, (0..65_535).map(|n| n * 512));
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let first = (file.metadata().unwrap().len() / 512 - 65_535 * 128) * 512;
    for n in 0..65_535u64 {
        file.write_all_at(&[n as u8 | 1; 65_536], first + n * 65_536).unwrap();
    }
    let (status, peak, took) =
        measured(vdconv().current_dir(folder.path()).args(["--no-sync", "-q", "big.vmdk", "o.raw"]));
    assert!(status.success());
    println!("2 TiB sparse, 4 GB stored: {peak} MiB, {:.1} s", took.as_secs_f64());
    assert!(peak < 128, "{peak} MiB");
    let out = fs::File::open(folder.path().join("o.raw")).unwrap();
    let mut bytes = vec![0; 65_536];
    for n in [0u64, 1, 4711, 65_534] {
        out.read_exact_at(&mut bytes, n * 512 * 65_536).unwrap();
        assert!(bytes.iter().all(|byte| *byte == n as u8 | 1), "grain {n}");
    }
    drop((file, out));
    fs::remove_file(folder.path().join("o.raw")).unwrap();
    // Every table full: two tebibytes of grains that are holes of the file.
    two_tebibytes(&path, 0..(2u64 << 40) / 65_536 - 1 - 8192);
    let (status, peak, took) =
        measured(vdconv().current_dir(folder.path()).args(["--no-sync", "-q", "big.vmdk", "o.raw"]));
    assert!(status.success());
    println!("2 TiB sparse, full tables: {peak} MiB, {:.1} s", took.as_secs_f64());
    assert!(peak < 128, "{peak} MiB");
}

/// A case in which other converters are known to fail: its files, the first one given; what must come out, `None` where it must be
/// refused.
struct Case {
    name: &'static str,
    files: Vec<(&'static str, Vec<u8>)>,
    want: Option<Vec<u8>>,
}

fn cases() -> Vec<Case> {
    let guest = pattern(8192, |_| false);
    let sparse = Sparse::of(&guest);
    let file = sparse.build();
    let flat = |lines: &str| descriptor("monolithicFlat", 7, None, lines);
    let (a, b) =
        (pattern(2048, |_| false), pattern(2048, |_| false).iter().map(|byte| byte ^ 0x5A).collect::<Vec<_>>());
    let two = |text: String| vec![("d.vmdk", text.into_bytes()), ("a", a.clone()), ("b", b.clone())];
    let set = |file: &[u8], at: usize, bytes: &[u8]| {
        let mut file = file.to_vec();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let one = |name, bytes: Vec<u8>, want: Option<&Vec<u8>>| Case {
        name,
        files: vec![("d.vmdk", bytes)],
        want: want.cloned(),
    };
    let entry = |n: u64| sparse.entry_at(sparse.gd(), n);
    let both =
        |file: &[u8], n: u64, bytes: &[u8]| set(&set(file, entry(n), bytes), sparse.entry_at(sparse.rgd(), n), bytes);
    let small = pattern(640, |_| false);
    let stream = Stream::of(&small).build();
    let swapped = Stream {
        grain: |n, _, lba, _| {
            if n < 2 {
                *lba = (1 - n) * 128
            }
        },
        ..Stream::of(&small)
    }
    .build();
    let far = {
        let text = descriptor("monolithicFlat", 3, Some((7, "base.vmdk")), "RW 8192 SPARSE \"child-s001.vmdk\"");
        let comment = format!("# {}\n", "comment ".repeat(9));
        let at = text.find("parentFileNameHint").unwrap();
        format!("{}{}{}", &text[..at], comment.repeat(140), &text[at..])
    };
    let empty = Sparse { descriptor: String::new(), ..Sparse::of(&vec![0; guest.len()]) }.build();
    let base = |cid: u32| {
        let text = descriptor("monolithicSparse", cid, None, "RW 8192 SPARSE \"base.vmdk\"");
        Sparse { descriptor: text, ..sparse.clone() }.build()
    };
    let child = |text: String, base: Vec<u8>| {
        vec![("child.vmdk", text.into_bytes()), ("child-s001.vmdk", empty.clone()), ("base.vmdk", base)]
    };
    let near = descriptor("twoGbMaxExtentSparse", 3, Some((9, "base.vmdk")), "RW 8192 SPARSE \"child-s001.vmdk\"");
    let ab = [a.clone(), b.clone()].concat();
    let whole = "RW 2048 FLAT \"a\" 0\n";
    vec![
        Case {
            name: "5 ZERO extent in the middle",
            files: two(flat(&format!("{whole}RW 2048 ZERO\nRW 2048 FLAT \"b\" 0"))),
            want: Some([a.clone(), vec![0; 1 << 20], b.clone()].concat()),
        },
        Case {
            name: "6 RDONLY extent",
            files: two(flat("RDONLY 2048 FLAT \"a\" 0\nRW 2048 FLAT \"b\" 0")),
            want: Some(ab.clone()),
        },
        Case {
            name: "6 NOACCESS extent",
            files: two(flat("NOACCESS 2048 FLAT \"a\" 0\nRW 2048 FLAT \"b\" 0")),
            want: None,
        },
        Case { name: "7 flat extent cut short", files: two(flat("RW 4096 FLAT \"a\" 0")), want: None },
        one("8 sparse file cut at half", file[..file.len() / 2].to_vec(), None),
        one("9 primary directory zeroed", set(&file, sparse.gd() as usize * 512, &[0; 4]), Some(&guest)),
        one("9 primary table zeroed", set(&file, entry(0), &[0; 256]), Some(&guest)),
        one("10 entry 1, zero flag clear", both(&file, 2, &1u32.to_le_bytes()), None),
        Case { name: "11 parent's name behind 10,240 bytes", files: child(far, base(7)), want: Some(guest.clone()) },
        one("12 two entries, one grain", both(&file, 2, &file[entry(1)..entry(1) + 4]), None),
        one("12 grains swapped in a stream", swapped, None),
        Case {
            name: "14 packed with gzip",
            files: vec![("d.vmdk.gz", b"\x1F\x8B\x08\0\0\0\0\0\0\x03".repeat(60))],
            want: None,
        },
        Case {
            name: "21 renamed, the old name is another disk's",
            files: vec![("d.vmdk", file.clone()), ("named-otherwise.vmdk", Sparse::of(&vec![7; guest.len()]).build())],
            want: Some(guest.clone()),
        },
        one("22 stream with 512 zeroes behind", [stream.clone(), vec![0; 512]].concat(), Some(&small)),
        one("22 stream without its end marker", stream[..stream.len() - 512].to_vec(), Some(&small)),
        one("23 stream cut at two thirds", stream[..stream.len() * 2 / 3].to_vec(), None),
        Case {
            name: "29 createType custom",
            files: two(descriptor("custom", 7, None, &format!("{whole}RW 2048 FLAT \"b\" 0"))),
            want: Some(ab.clone()),
        },
        Case {
            name: "30 blanks round =",
            files: two(flat(whole).replace("createType=", "createType = ").replace("CID=", "CID = ")),
            want: Some(a.clone()),
        },
        Case {
            name: "31 VMFS with an offset",
            files: two(descriptor("vmfs", 7, None, "RW 2048 VMFS \"a\" 0")),
            want: Some(a.clone()),
        },
        Case { name: "32 extent line in lower case", files: two(flat("rw 2048 flat \"a\" 0")), want: Some(a.clone()) },
        Case { name: "33 parentCID of another parent", files: child(near, base(7)), want: None },
        Case {
            name: "35 one piece of a split disk",
            files: vec![
                ("x-s002.vmdk", empty.clone()),
                ("x.vmdk", flat("RW 8192 SPARSE \"x-s001.vmdk\"\nRW 8192 SPARSE \"x-s002.vmdk\"").into_bytes()),
            ],
            want: None,
        },
        one("36 unclean shutdown", set(&file, 72, &[1]), Some(&guest)),
        Case { name: "38 byte order mark", files: two(format!("\u{feff}{}", flat(whole))), want: Some(a.clone()) },
    ]
}

#[test]
#[ignore = "needs qemu-img"]
fn the_peers_cases_are_right_or_refused_and_what_qemu_makes_of_them() {
    if !has_program("qemu-img") {
        return;
    }
    println!("| case | qemu-img | vdconv |\n|---|---|---|");
    for Case { name, files, want } in cases() {
        let folder = scratch();
        for (name, bytes) in &files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let outcome = |ran: &Ran, out: &str| {
            let got = fs::read(folder.path().join(out)).ok().filter(|_| ran.status == Some(0));
            let line = ran.err.lines().next().unwrap_or("dies").to_string();
            match (got, &want) {
                (None, _) => format!("refuses: {line}"),
                (Some(got), Some(want)) if got == *want && ran.err.contains("warning") => format!("right, {line}"),
                (Some(got), Some(want)) if got == *want => "right".into(),
                (Some(got), _) => format!("WRONG, silently ({} bytes)", got.len()),
            }
        };
        let qemu = Ran::of(
            Command::new("qemu-img").current_dir(folder.path()).args(["convert", "-O", "raw", files[0].0, "qemu.raw"]),
        );
        let ours = run(folder.path(), [files[0].0, "ours.raw"]);
        let ours_says = outcome(&ours, "ours.raw");
        println!("| {name} | {} | {ours_says} |", outcome(&qemu, "qemu.raw"));
        assert_eq!(ours_says.starts_with("right"), want.is_some(), "{name}: {ours_says}");
        assert!(!ours_says.starts_with("WRONG"), "{name}");
    }
}
