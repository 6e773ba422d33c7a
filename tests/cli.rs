//! The command line: what is refused, what is said, and the shapes of --json.

mod common;

use std::fs;

use common::vhd::Vhd;
use common::{Ran, fixture, names, pattern, run, scratch, vdconv};
use serde_json::Value;
use tempfile::TempDir;

fn with_source() -> TempDir {
    let folder = scratch();
    fs::write(folder.path().join("in.vhd"), Vhd::dynamic_of(&pattern(8, |_| false), 4096).build()).unwrap();
    folder
}

#[test]
fn wrong_usage_is_status_2_and_makes_nothing() {
    let folder = with_source();
    for (args, text) in [
        (vec![], "INPUT"),
        (vec!["a.vhd", "b.vhd", "o.vmdk"], "unexpected argument 'o.vmdk'"),
        (vec!["-q", "check", "in.vhd"], "the options of check stand behind it"),
        (vec!["-q", "info", "in.vhd"], "the options of info stand behind it"),
        (vec!["-q", "info", "a.vhd", "b.vhd"], "the options of info stand behind it"),
        (vec!["-q", "map", "in.vhd"], "the options of map stand behind it"),
        (vec!["map"], "IMAGE"),
        (vec!["map", "in.vhd", "x.vhd"], "x.vhd"),
        (vec!["map", "in.vhd", "--table", "--picture"], "--picture"),
        (vec!["map", "-"], "standard input"),
        (vec!["hash", "in.vhd", "-q", "-v"], "--verbose"),
        (vec!["compare", "in.vhd", "in.vhd", "-v", "-q"], "--quiet"),
        (vec!["in.vhd", "o.vmdk", "-q", "-v"], "--verbose"),
        (vec!["check", "in.vhd", "--parent", "in.vhd"], "no image of the chain has this parent"),
        (vec!["hash", "in.vhd", "--parent", "in.vhd"], "no image of the chain has this parent"),
        (vec!["map", "in.vhd", "--parent", "in.vhd"], "no image of the chain has this parent"),
        (vec!["in.vhd"], "OUTPUT"),
        (vec!["info"], "IMAGE"),
        (vec!["in.vhd", "o.vmdk", "extra"], "extra"),
        (vec!["in.vhd", "o.vmdk", "--digest", "md5"], "--digest"),
        (vec!["in.vhd", "o.vmdk", "--digest", "sha256", "--dry-run"], "--dry-run"),
        (vec!["in.vhd", "o.vmdk", "-O", "qcow2"], "known here: vhd, vmdk, raw"),
        (vec!["in.vhd", "o.vhd", "--adapter", "ide"], "--adapter"),
        (vec!["in.vhd", "o.vhd", "--cid", "1"], "--cid"),
        (vec!["in.vhd", "o.vhd", "-s", "differencing"], "--base"),
        (vec!["in.vhd", "o.vhd", "-s", "fixed", "--base", "in.vhd"], "VHD differencing, VMDK monolithicSparse"),
        (vec!["in.vhd", "o.raw", "--base", "in.vhd"], "--base"),
        (
            vec!["in.vhd", "o.vhd", "--preallocate"],
            "VHD fixed, VMDK monolithicFlat, VMDK twoGbMaxExtentFlat, VMDK vmfs, raw disk",
        ),
        (vec!["in.vhd", "o.vmdk", "--contiguous"], "VHD dynamic, VHD differencing"),
        (vec!["in.vhd", "o.vhd", "--size", "1000"], "sectors of 512 bytes"),
        (vec!["in.vhd", "o.vhd", "--size", "1X"], "K, M, G or T"),
        (vec!["in.vhd", "o.vhd", "--size", "512"], "never shrunk"),
        (vec!["in.vhd", "o.vhd", "--size", "99999999T"], "larger than a disk"),
        (vec!["in.vhd", "o.vhd", "--align", "0"], "--align"),
        (vec!["in.vhd", "o.vmdk", "-f", "vdi"], "known here: vhd, vmdk, iso, raw"),
        (vec!["in.vhd", "o.vmdk", "-s", "qcow"], "monolithicSparse, monolithicFlat"),
        (vec!["in.vhd", "o.vmdk", "--level", "5"], "VMDK streamOptimized"),
        (vec!["in.vhd", "o.vmdk", "-s", "stream", "--level", "13"], "--level"),
        (vec!["in.vhd", "o.vmdk", "-s", "stream", "--level", "3", "--fast"], "--fast"),
        (vec!["in.vhd", "o.vmdk", "-s", "stream", "--block-size", "4K"], "VMDK monolithicSparse"),
        (vec!["in.vhd", "o.vmdk", "--block-size", "2K"], "from 8192 to 65536"),
        (vec!["in.vhd", "o.vhd", "--block-size", "4M"], "from 524288 to 2097152"),
        (vec!["in.vhd", "o.vhd", "--hw-version", "4"], "--hw-version"),
        (vec!["in.vhd", "o.vmdk", "--adapter", "sata"], "pvscsi"),
        (vec!["in.vhd", "o.vmdk", "--uuid", "xyz"], "--uuid"),
        (vec!["in.vhd", "o.vmdk", "--uuid", "00000000-0000-0000-0000-000000000000"], "nil"),
        (vec!["in.vhd", "o.vmdk", "--cid", "ffffffff"], "--cid"),
        (vec!["in.vhd", "o.vmdk", "--cid", "123456789"], "--cid"),
        (vec!["in.vhd", "o.vmdk", "--cid", "+12"], "--cid"),
        (vec!["in.vhd", "o.vmdk", "-j", "0"], "--jobs"),
        (vec!["in.vhd", "o.vmdk", "-q", "-v"], "--quiet"),
        (vec!["in.vhd", "o.vmdk", "--progress", "jsonl"], "--progress"),
        (vec!["in.vhd", "o.raw", "--adapter", "ide"], "--adapter"),
        (vec!["in.vhd", "o.raw", "--cid", "1"], "--cid"),
        (vec!["in.vhd", "o.raw", "--uuid", "00112233-4455-6677-8899-aabbccddeeff"], "--uuid"),
        (vec!["in.vhd", "o.raw", "-s", "flat"], "-s"),
        (vec!["in.vhd", "o.vhdx"], ".vhd .vmdk .raw .img .iso"),
        (vec!["in.vhd", "o"], ".vhd .vmdk .raw .img .iso"),
        (vec!["in.vhd", "-"], "or -O"),
        (vec!["in.vhd", "-", "-O", "vmdk"], "VHD fixed, VMDK streamOptimized, raw disk"),
        (vec!["in.vhd", "-", "-O", "vhd", "-s", "dynamic"], "standard output cannot seek"),
        (vec!["-", "o.vmdk", "--base", "in.vhd"], "--base: what comes through a pipe"),
        (vec!["-", "o.vmdk", "--parent", "in.vhd"], "--parent: what comes through a pipe"),
        (vec!["in.vhd", "o.vmdk", "--input-size", "1M"], "--input-size"),
        (vec!["in.vhd", "/dev/stderr", "-O", "raw"], "open descriptor"),
        (vec!["info", "-"], "standard input"),
        (vec!["-q", "compare", "in.vhd", "in.vhd"], "the options of compare stand behind it"),
        (vec!["compare", "in.vhd"], "<B>"),
        (vec!["-q", "hash", "in.vhd"], "the options of hash stand behind it"),
        (vec!["hash"], "<IMAGE>"),
        (vec!["hash", "-"], "standard input"),
        (vec!["hash", "in.vhd", "--algorithm", "md5"], "--algorithm"),
        (vec!["compare", "in.vhd", "-"], "standard input"),
        (vec!["compare", "in.vhd", "in.vhd", "--parent", "in.vhd"], "--parent"),
        (vec!["compare", "in.vhd", "in.vhd", "--salvage"], "--salvage"),
    ] {
        let ran = run(folder.path(), &args);
        assert_eq!(ran.status, Some(2), "{args:?}: {}", ran.err);
        assert!(ran.err.starts_with("vdconv: ") && ran.err.contains(text), "{args:?}: {}", ran.err);
        assert_eq!(ran.out, "");
        let json = run(folder.path(), args.iter().copied().chain(["--json"]));
        let report: Value = serde_json::from_str(&json.out).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", json.out));
        assert_eq!(report["error"]["kind"], "usage", "{args:?}");
        let told = format!("{} {}", report["error"]["message"], report["error"]["hint"]);
        // A name typed behind the words gives way to --json here.
        assert!(told.contains(text) || text.ends_with("'o.vmdk'"), "{args:?}: {told}");
    }
    assert_eq!(names(folder.path()), ["in.vhd"]);
}

#[test]
fn help_and_version_are_answers_on_stdout() {
    let folder = scratch();
    for args in [
        vec!["--help"],
        vec!["-h"],
        vec!["help"],
        vec!["help", "info"],
        vec!["info", "--help"],
        vec!["map", "--help"],
        vec!["check", "--help"],
        vec!["convert", "--help"],
        vec!["compare", "--help"],
        vec!["hash", "--help"],
    ] {
        let ran = run(folder.path(), args).succeeds();
        assert!(ran.out.contains("Usage:") && ran.err.is_empty());
    }
    assert_eq!(run(folder.path(), ["--version"]).succeeds().out, format!("vdconv {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn convert_by_name_serves_an_input_that_is_called_like_a_command() {
    let folder = with_source();
    fs::rename(folder.path().join("in.vhd"), folder.path().join("info")).unwrap();
    run(folder.path(), ["convert", "info", "o.vmdk"]).succeeds();
    run(folder.path(), ["./info", "p.vmdk"]).succeeds();
    run(folder.path(), ["-q", "--", "info", "q.vmdk"]).succeeds();
    assert_eq!(names(folder.path()), ["info", "o.vmdk", "p.vmdk", "q.vmdk"]);
    for word in ["compare", "hash", "convert"] {
        fs::rename(folder.path().join("info"), folder.path().join(word)).unwrap();
        run(folder.path(), ["convert", word, "o.vmdk", "--force"]).succeeds();
        run(folder.path(), [&format!("./{word}"), "o.vmdk", "--force"]).succeeds();
        run(folder.path(), ["-q", "--force", "--", word, "o.vmdk"]).succeeds();
        match word {
            "compare" => drop(run(folder.path(), [word, word, "o.vmdk"]).succeeds()),
            "hash" => drop(run(folder.path(), [word, word]).succeeds()),
            _ => {}
        }
        fs::rename(folder.path().join(word), folder.path().join("info")).unwrap();
    }
    fs::rename(folder.path().join("info"), folder.path().join("map")).unwrap();
    run(folder.path(), ["convert", "map", "r.vmdk"]).succeeds();
    run(folder.path(), ["./map", "s.vmdk"]).succeeds();
    run(folder.path(), ["map", "map"]).succeeds();
}

#[test]
fn endings_and_options_choose_what_is_written() {
    let folder = with_source();
    for (args, magic) in [
        (vec!["in.vhd", "a.vmdk"], "KDMV"),
        (vec!["in.vhd", "b.VMDK"], "KDMV"),
        (vec!["in.vhd", "c.raw", "-O", "vmdk"], "KDMV"),
        (vec!["in.vhd", "d", "-O", "VMDK", "-s", "FLAT"], "# Di"),
        (vec!["in.vhd", "e.img"], "sect"),
        (vec!["in.vhd", "f.iso"], "sect"),
        (vec!["in.vhd", "g.vmdk", "-O", "raw"], "sect"),
    ] {
        run(folder.path(), &args).succeeds();
        assert!(fs::read(folder.path().join(args[1])).unwrap().starts_with(magic.as_bytes()), "{args:?}");
    }
}

#[test]
fn the_closing_line_tells_what_became_of_what() {
    let folder = with_source();
    let ran = run(folder.path(), ["in.vhd", "o.vmdk"]).succeeds();
    let start = "in.vhd (VHD dynamic, 4.0 KiB, 4.0 KiB stored) -> o.vmdk (VMDK monolithicSparse, 128.0 KiB";
    assert!(ran.err.starts_with(start) && ran.err.lines().count() == 1, "{}", ran.err);
    assert!(ran.err.contains(" in 0."), "{}", ran.err);
    assert_eq!(ran.out, "");
    let ran = run(folder.path(), ["in.vhd", "p.vmdk", "-q"]).succeeds();
    assert_eq!((ran.err.as_str(), ran.out.as_str()), ("", ""));
    let ran = run(folder.path(), ["in.vhd", "q.vmdk", "-v"]).succeeds();
    for text in ["workers", "bytes read", "pieces", "in.vhd (VHD dynamic"] {
        assert!(ran.err.contains(text), "{}", ran.err);
    }
}

#[test]
fn a_bar_that_is_asked_for_is_drawn_without_a_terminal_too() {
    let folder = with_source();
    let ran = run(folder.path(), ["in.vhd", "o.vmdk", "--progress", "bar"]);
    assert!(ran.err.contains('\r') && !ran.err.contains('\x1b'), "{:?}", ran.err);
    for quiet in [vec!["--progress", "none"], vec!["--progress", "auto"], vec!["--progress", "NONE", "-q"]] {
        let ran = run(folder.path(), [vec!["in.vhd", "o.vmdk", "--force"], quiet].concat());
        assert!(!ran.err.contains('\r'), "{:?}", ran.err);
    }
}

#[test]
fn progress_for_programs_is_one_object_a_line_on_stderr_with_q_too() {
    let folder = with_source();
    fs::write(folder.path().join("in.raw"), pattern(40_000, |n| n % 9 == 0)).unwrap();
    let size = 40_000 * 512;
    for (phase, args, lines) in [
        ("convert", vec!["in.raw", "o.vmdk", "--force"], 1),
        ("convert", vec!["in.raw", "-", "-O", "vmdk", "-s", "stream"], 1),
        ("compare", vec!["compare", "in.raw", "in.raw"], 0),
        ("hash", vec!["hash", "in.raw"], 0),
        ("hash", vec!["hash", "in.raw", "--algorithm", "blake3", "--json"], 0),
    ] {
        let out = run(folder.path(), &args).out;
        for quiet in [false, true] {
            let ran =
                run(folder.path(), [&args[..], &["--progress", "json"], if quiet { &["-q"] } else { &[] }].concat());
            let of_progress = ran.err.lines().filter(|line| line.starts_with('{')).collect::<Vec<_>>();
            let objects: Vec<Value> = of_progress.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert!(objects.len() >= 2, "{}", ran.err);
            let others = ran.err.lines().count() - objects.len();
            assert!(others <= if quiet { 0 } else { lines + 1 }, "{}", ran.err);
            for object in &objects {
                let keys: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
                assert_eq!((keys, &object["phase"]), (vec!["done", "phase", "rate", "total"], &phase.into()));
                assert!(object["rate"].is_u64() && object["total"] == size, "{object}");
            }
            let done: Vec<_> = objects.iter().map(|object| object["done"].as_u64().unwrap()).collect();
            assert!(done.is_sorted() && done[0] == 0 && done[done.len() - 1] == size, "{args:?}: {done:?}");
            assert!(!ran.out.contains("\"phase\""), "{}", ran.out);
            assert!(quiet || out.len() == ran.out.len() || args.contains(&"--json"), "{args:?}");
        }
    }
    // Where the size is known at the end alone, there is no total; a failure ends with how far it came.
    let ran = common::fed(folder.path(), &["-", "p.raw", "-f", "raw", "--progress", "json", "-q"], &[7; 5120]);
    let last: Value = serde_json::from_str(ran.err.lines().last().unwrap()).unwrap();
    assert_eq!((&last["total"], &last["done"]), (&Value::Null, &5120.into()));
    let mut image = Vhd::dynamic_of(&pattern(8, |_| false), 4096).build();
    image[1536] = 1;
    fs::write(folder.path().join("bad.vhd"), image).unwrap();
    let ran = run(folder.path(), ["hash", "bad.vhd", "--progress", "json"]);
    assert_eq!((ran.status, ran.err.lines().filter(|line| line.contains("\"phase\"")).count()), (Some(1), 2));
    assert!(ran.err.lines().any(|line| line.starts_with("vdconv: bad.vhd: ")), "{}", ran.err);
}

#[test]
fn info_ends_with_the_worst_of_its_images_a_usage_fault_before_all() {
    let folder = with_source();
    fs::write(folder.path().join("no.vhd"), b"no image at all").unwrap();
    for (args, status) in [
        (&["in.vhd", "--parent", "in.vhd"][..], 2),
        (&["in.vhd", "no.vhd"], 1),
        (&["in.vhd", "in.vhd", "--parent", "in.vhd"], 2),
        (&["in.vhd", "in.vhd"], 0),
    ] {
        for json in [&[][..], &["--json"]] {
            let ran = run(folder.path(), [&["info"], args, json].concat());
            assert_eq!(ran.status, Some(status), "{args:?}: {}", ran.err);
        }
    }
    let ran = run(folder.path(), ["info", "in.vhd", "--parent", "in.vhd", "--json"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["images"][0]["error"]["kind"], "usage");
}

#[test]
fn lines_for_programs_are_told_from_messages_by_their_first_letter() {
    let folder = with_source();
    // A name that looks like an object, in each line that a run may say.
    let name = "{\"phase\":1}.vhd";
    fs::copy(folder.path().join("in.vhd"), folder.path().join(name)).unwrap();
    for more in [&[][..], &["-v"], &["--digest", "sha256"], &["--dry-run"]] {
        let args = [&[name, "{o}.vmdk", "--force", "--progress", "json"], more].concat();
        let ran = run(folder.path(), args).succeeds();
        for line in ran.err.lines().filter(|line| line.starts_with('{')) {
            let object: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
            assert_eq!(object["phase"], "convert");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn help_and_version_that_cannot_be_printed_are_a_failure_with_a_message() {
    for word in ["--help", "--version", "-h"] {
        let full = fs::File::create("/dev/full").unwrap();
        let child = vdconv().arg(word).stdout(full).stderr(std::process::Stdio::piped()).spawn().unwrap();
        Ran::from(child.wait_with_output().unwrap()).fails(1, &["standard output", "No space left"]);
    }
}

#[test]
fn what_came_through_a_pipe_was_read() {
    let folder = scratch();
    let guest = pattern(5000, |n| n % 300 > 200);
    let (len, stream) = (guest.len().to_string(), common::packed::Stream::of(&guest).build());
    let cases: [(&[&str], &[u8]); 3] =
        [(&["o.raw", "-f", "raw"], &guest), (&["o.vhd", "--input-size", &len], &guest), (&["o.vmdk"], &stream)];
    for (args, bytes) in cases {
        let ran = common::fed(folder.path(), &[&["-", "--json", "--force"], args].concat(), bytes);
        let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}", ran.err));
        assert_eq!(report["bytes_read"], bytes.len(), "{args:?}");
    }
}

#[test]
fn what_is_no_disk_is_refused_by_name_with_what_to_do() {
    let tar = {
        let mut t = vec![0; 1024];
        t[..8].copy_from_slice(b"disk.ovf");
        t[257..263].copy_from_slice(b"ustar\0");
        t
    };
    let vdi = {
        let mut v = vec![0; 512];
        v[64..68].copy_from_slice(&0xBEDA_107Fu32.to_le_bytes());
        v
    };
    let mut koly = vec![0; 2048];
    koly[1536..1544].copy_from_slice(b"koly\0\0\0\x04");
    let mut cd = vec![0xFF; 2352];
    (cd[0], cd[11]) = (0, 0);
    let padded = |magic: &[u8]| [magic, &[0x11; 600], &[0; 600]].concat();
    let descriptor = b"# Disk DescriptorFile\nversion=1\nCID=1\ncreateType=\"monolithicFlat\"\nRW 1 FLAT \"none\" 0\n";
    for (content, words) in [
        (padded(b"QFI\xFB\0\0\0\x03"), "qcow"),
        (padded(b"QED\0"), "QED"),
        (vdi, "VDI"),
        (padded(b"vhdxfile"), "VHDX"),
        (padded(b"KDMV\x01\0\0\0"), "VMDK"),
        (padded(b"COWD\x01\0\0\0"), "ESXi"),
        (padded(b"\xBE\xBA\xFE\xCA\0\0\0\0"), "ESXi"),
        (descriptor.to_vec(), "an extent is not there"),
        ([b"\xEF\xBB\xBF".as_slice(), descriptor].concat(), "an extent is not there"),
        (padded(b"\x1F\x8B\x08\0"), "gzip"),
        (padded(b"\xFD7zXZ\0"), "xz"),
        (padded(b"\x28\xB5\x2F\xFD"), "zstd"),
        (padded(b"BZh91AY"), "bzip2"),
        (padded(b"PK\x03\x04"), "zip"),
        (padded(b"7z\xBC\xAF\x27\x1C"), "7z"),
        (padded(b"Rar!\x1A\x07\0"), "RAR"),
        (tar, "tar archive or OVA"),
        (padded(b"EVF\x09\x0D\x0A\xFF\x00"), "E01"),
        (koly, "DMG"),
        (cd, "2352"),
        (padded(b"\xFF\xD8\xFF\xE0"), "JPEG"),
        (padded(b"\x89PNG\r\n\x1A\n"), "PNG"),
        (padded(b"%PDF-1.7\n"), "PDF"),
        (padded(b"\x7FELF\x02\x01"), "program"),
        (padded(b"\x3A\xFF\x26\xED"), "Android sparse"),
        (padded(b"070701000"), "cpio"),
        (padded(b"\0\0\0\x20ftypisom"), "film"),
        (b"<html><body>404 not found</body></html>\n".to_vec(), "text"),
        (b"{\"error\": 1}".to_vec(), "text"),
        (b"\xFF\xFEh\0i\0".to_vec(), "text"),
        (vec![], "empty"),
    ] {
        for name in ["x.img", "x.raw", "x.vhd", "x.iso", "x"] {
            let folder = scratch();
            fs::write(folder.path().join(name), &content).unwrap();
            let ran = run(folder.path(), [name, "o.vmdk"]).fails(1, &[&format!("vdconv: {name}: "), words]);
            assert!(words == "VMDK" || words == "empty" || ran.err.contains("\nhint: "), "{}", ran.err);
            run(folder.path(), ["info", name]).fails(1, &[words]);
            assert_eq!(names(folder.path()), [name]);
        }
    }
}

#[test]
fn a_raw_disk_is_taken_by_its_name_or_by_f_raw_alone() {
    let guest = pattern(8, |_| false);
    // Text on its sectors: by the content it is no disk; a boot sector makes it one.
    let mut disk = guest.clone();
    disk[510..512].copy_from_slice(&[0x55, 0xAA]);
    disk[0..3].copy_from_slice(&[0xEB, 0x3C, 0x90]);
    disk[20] = 0;
    for (name, taken) in
        [("a.raw", true), ("a.IMG", true), ("a.dd", true), ("a.bin", true), ("a", false), ("a.vhd", false)]
    {
        let folder = scratch();
        fs::write(folder.path().join(name), &disk).unwrap();
        let ran = run(folder.path(), [name, "o.raw"]);
        match taken {
            true => drop(ran.succeeds()),
            false => drop(ran.fails(1, &["no disk image that vdconv knows", "hint: ", "-f raw"])),
        }
        run(folder.path(), [name, "p.raw", "-f", "raw"]).succeeds();
        assert!(fs::read(folder.path().join("p.raw")).unwrap() == disk);
    }
    // A disc that was cut in front of its descriptors looks the same: read, and told.
    let folder = scratch();
    fs::write(folder.path().join("a.iso"), &disk).unwrap();
    run(folder.path(), ["a.iso", "o.raw"]).warns(&["a.iso: ", "no volume descriptor", "read as a raw disk"]);
    run(folder.path(), ["a.iso", "p.raw", "-f", "raw"]).succeeds();
    assert!(["o.raw", "p.raw"].iter().all(|out| fs::read(folder.path().join(out)).unwrap() == disk));
    let folder = scratch();
    fs::write(folder.path().join("odd.raw"), &disk[..1000]).unwrap();
    run(folder.path(), ["odd.raw", "o.vmdk"]).warns(&["odd.raw: ", "1000 bytes", "24 zeroes are added"]);
    let mut padded = disk[..1000].to_vec();
    padded.resize(1024, 0);
    assert!(common::vmdk::read(&folder.path().join("o.vmdk")).guest == padded);
}

/// The keys of a JSON value with the types of their values, sorted, one a line: the shape without what differs from run to run.
fn shape(value: &Value, path: &str, lines: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| shape(value, &format!("{path}.{key}"), lines)),
        Value::Array(list) => match list.first() {
            Some(first) => shape(first, &format!("{path}[]"), lines),
            None => lines.push(format!("{path}[] (empty)")),
        },
        Value::String(_) => lines.push(format!("{path}: string")),
        Value::Number(n) => lines.push(format!("{path}: {}", if n.is_f64() { "decimal" } else { "integer" })),
        Value::Bool(_) => lines.push(format!("{path}: boolean")),
        Value::Null => lines.push(format!("{path}: null")),
    }
}

#[track_caller]
fn has_shape(json: &str, golden: &str) -> Value {
    assert_eq!(json.lines().count(), 1, "one object on one line: {json}");
    let value: Value = serde_json::from_str(json).unwrap();
    assert_eq!((value["vdconv"].as_str(), value["schema"].as_u64()), (Some(env!("CARGO_PKG_VERSION")), Some(1)));
    let mut lines = Vec::new();
    shape(&value, "", &mut lines);
    lines.sort();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(golden);
    let want = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        lines.join("\n") + "\n",
        want,
        "the shape of {golden} changed: raise the schema if a key went or means something else"
    );
    value
}

#[test]
fn json_of_info_has_its_shape_and_the_images_numbers() {
    let folder = scratch();
    let source = fixture("vhd/vbox-dynamic.vhd");
    let ran = run(folder.path(), ["info", "--json", source.to_str().unwrap()]).succeeds();
    let report = has_shape(&ran.out, "info.txt");
    let image = &report["images"][0];
    for (key, want) in
        [("virtual_size", 5_244_416), ("logical_sector_size", 512), ("file_size", 6_295_552), ("block_size", 2 << 20)]
    {
        assert_eq!(image[key], want, "{key}");
    }
    assert_eq!((&image["format"], &image["subformat"]), (&"vhd".into(), &"dynamic".into()));
    assert_eq!(image["creator"]["product"], "VirtualBox");
    // What VirtualBox wrote into the footer, read off the bytes: unique id at 68, geometry at 56.
    let bytes = fs::read(&source).unwrap();
    let id: String = bytes[68..84].iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(image["uuid"].as_str().unwrap().replace('-', ""), id);
    assert_eq!(image["geometry"]["cylinders"], u16::from_be_bytes([bytes[56], bytes[57]]));
    // A raw disk has less to tell, and the same keys.
    fs::write(folder.path().join("a.raw"), [0; 512]).unwrap();
    let ran = run(folder.path(), ["info", "--json", "a.raw"]).succeeds();
    has_shape(&ran.out, "info-raw.txt");
    // One with a partition, which holds a file system and ends behind the disk.
    let mut disk = vec![0; 8192];
    (disk[450], disk[454], disk[458], disk[510], disk[511]) = (0x83, 1, 100, 0x55, 0xAA);
    disk[512 + 1080..512 + 1082].copy_from_slice(&[0x53, 0xEF]);
    disk[512 + 1144] = b'L';
    disk[440] = 1;
    fs::write(folder.path().join("b.raw"), disk).unwrap();
    let ran = run(folder.path(), ["info", "--json", "b.raw"]).succeeds();
    has_shape(&ran.out, "info-partitions.txt");
}

#[test]
fn json_of_a_map_has_its_shape() {
    let folder = with_source();
    let ran = run(folder.path(), ["map", "--json", "in.vhd"]).succeeds();
    let report = has_shape(&ran.out, "map.txt");
    assert_eq!((&report["map"][0]["start"], &report["map"][0]["length"]), (&0.into(), &4096.into()));
    let mut image = Vhd::dynamic_of(&pattern(8, |_| false), 4096).build();
    image[1536] = 1;
    fs::write(folder.path().join("bad.vhd"), image).unwrap();
    let ran = run(folder.path(), ["map", "--json", "bad.vhd"]).fails(1, &["bad.vhd: at byte 1536"]);
    let report = has_shape(&ran.out, "map-lost.txt");
    assert_eq!((&report["map"][0]["kind"], &report["error"]["kind"]), (&"lost".into(), &"damaged".into()));
}

#[test]
fn json_of_a_check_has_its_shape() {
    let folder = scratch();
    let mut image = Vhd::dynamic_of(&pattern(8, |_| false), 4096).build();
    image[1536] = 1;
    fs::write(folder.path().join("bad.vhd"), image).unwrap();
    let ran = run(folder.path(), ["check", "--json", "bad.vhd"]);
    assert_eq!((ran.status, ran.err.as_str()), (Some(1), ""));
    let report = has_shape(&ran.out, "check.txt");
    assert_eq!((&report["sound"], &report["format"]), (&false.into(), &"vhd".into()));
    let finding = report["findings"].as_array().unwrap().iter().find(|f| f["severity"] == "error").unwrap();
    assert_eq!((&finding["id"], &finding["offset"]), (&"VHD-BAT-OUTSIDE".into(), &1536.into()));
}

#[test]
fn json_of_a_conversion_and_of_failures_has_its_shape() {
    let folder = with_source();
    let ran = run(folder.path(), ["--json", "in.vhd", "o.vmdk", "-s", "flat"]).succeeds();
    let report = has_shape(&ran.out, "convert.txt");
    assert_eq!(report["input"]["stored"], 4096);
    assert_eq!(report["output"]["files"], serde_json::json!(["o-flat.vmdk", "o.vmdk"]));
    let ran = run(folder.path(), ["--json", "in.vhd", "p.vmdk", "--dry-run"]).succeeds();
    let report = has_shape(&ran.out, "dry-run.txt");
    assert_eq!(report["files"][0], serde_json::json!({"file": "p.vmdk", "size_at_most": 131_072}));
    let ran = run(folder.path(), ["--json", "in.vhd", "o.vmdk"]).fails(1, &["exists"]);
    let report = has_shape(&ran.out, "error.txt");
    assert_eq!((&report["error"]["kind"], &report["error"]["file"]), (&"exists".into(), &"o.vmdk".into()));
    let mut image = Vhd::dynamic_of(&pattern(8, |_| false), 4096).build();
    image[1536] = 1;
    fs::write(folder.path().join("bad.vhd"), image).unwrap();
    let ran = run(folder.path(), ["--json", "bad.vhd", "p.vmdk"]).fails(1, &["bad.vhd"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&report["error"]["kind"], &report["error"]["offset"]), (&"damaged".into(), &1536.into()));
    let ran = run(folder.path(), ["info", "--json", "no.vhd", "in.vhd"]).fails(1, &["no.vhd", "No such file"]);
    let report = has_shape(&ran.out, "info-failure.txt");
    assert_eq!(report["images"][0]["error"]["kind"], "not_found");
    assert_eq!(report["images"][1]["format"], "vhd");
}

#[test]
fn json_of_a_comparison_has_its_shape() {
    let folder = with_source();
    run(folder.path(), ["in.vhd", "o.vmdk"]).succeeds();
    let ran = run(folder.path(), ["compare", "--json", "in.vhd", "o.vmdk"]).succeeds();
    let report = has_shape(&ran.out, "compare.txt");
    assert_eq!((&report["same"], &report["sizes"]), (&true.into(), &serde_json::json!([4096, 4096])));
    fs::write(folder.path().join("b.raw"), pattern(9, |n| n == 2)).unwrap();
    let ran = run(folder.path(), ["compare", "--json", "in.vhd", "b.raw"]);
    let report = has_shape(&ran.out, "compare-different.txt");
    assert_eq!((ran.status, &report["same"], &report["differing_sectors"]), (Some(1), &false.into(), &2.into()));
    assert_eq!(report["first_difference"]["offset"], 1024);
    let ran = run(folder.path(), ["compare", "--json", "in.vhd", "no.raw"]).fails(2, &["no.raw"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&report["error"]["kind"], &report["error"]["file"]), (&"not_found".into(), &"no.raw".into()));
}

#[test]
fn json_of_a_digest_has_its_shape() {
    let folder = with_source();
    let ran = run(folder.path(), ["hash", "--json", "in.vhd"]).succeeds();
    let report = has_shape(&ran.out, "hash.txt");
    let want = serde_json::json!({"algorithm": "sha256", "value": common::sha256(&pattern(8, |_| false))});
    assert_eq!((&report["digest"], &report["virtual_size"], &report["stored"]), (&want, &4096.into(), &4096.into()));
    let ran = run(folder.path(), ["--json", "in.vhd", "o.vmdk", "-s", "flat", "--digest", "sha256"]).succeeds();
    assert_eq!(has_shape(&ran.out, "convert-digest.txt")["digest"], want);
}

#[test]
fn warnings_are_in_the_report_too() {
    let folder = scratch();
    let mut image = Vhd::dynamic_of(&pattern(8, |_| false), 4096).build();
    image[0..512].fill(0);
    fs::write(folder.path().join("a.vhd"), image).unwrap();
    let ran = run(folder.path(), ["--json", "a.vhd", "o.vmdk"]).warns(&["copy"]);
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["warnings"][0]["offset"], 0);
    assert!(run(folder.path(), ["-q", "a.vhd", "p.vmdk"]).err.is_empty());
}

#[test]
fn r26_no_color_and_no_terminal_mean_no_colour_and_text_is_escaped() {
    let folder = with_source();
    let evil = "e\x1b[31mvil.vhd";
    fs::copy(folder.path().join("in.vhd"), folder.path().join(evil)).unwrap();
    for args in [vec!["info", evil], vec![evil, "o.vmdk"], vec!["info", "no\x1b[1m.vhd"]] {
        let ran = Ran::of(vdconv().current_dir(folder.path()).args(&args));
        assert!(!ran.err.contains('\x1b') && !ran.out.contains('\x1b'), "{args:?}");
        assert!((ran.err + &ran.out).contains("\\u{1b}"), "{args:?}");
    }
    // A usage error shows what was typed without what a terminal would obey.
    assert!(!run(folder.path(), ["a", "b", "-f", "\x1b[2J"]).err.contains('\x1b'));
}

#[test]
fn r13_hostile_text_is_escaped_in_json_too_and_stays_the_same_text() {
    let folder = scratch();
    let evil = "C:\\\u{202e}x\u{9b}31m\u{1b}.vhd";
    let mut vhd = Vhd::dynamic_of(&pattern(8, |_| false), 4096);
    (vhd.disk_type, vhd.parent_name) = (4, evil.into());
    fs::write(folder.path().join("a.vhd"), vhd.build()).unwrap();
    for args in [vec!["info", "--json", "a.vhd"], vec!["a.vhd", "o.vmdk", "--json"]] {
        let ran = run(folder.path(), args).fails(1, &["\\u{202e}x\\u{9b}31m\\u{1b}"]);
        assert!(!ran.out.contains(['\u{202e}', '\u{9b}', '\u{1b}']), "{:?}", ran.out);
        let report: Value = serde_json::from_str(&ran.out).unwrap();
        assert!(report.to_string().contains("differencing"));
        let error = if report["error"].is_object() { &report["error"] } else { &report["images"][0]["missing"][0] };
        assert!(error["message"].as_str().unwrap().contains(evil));
    }
}

#[test]
fn info_shows_the_size_that_counts_and_what_the_geometry_says() {
    let ran = run(&fixture("vhd"), ["info", "ext2-dynamic.vhd", "ntfs-fixed.vhd", "vbox-dynamic.vhd"]).succeeds();
    // Sizes and geometries as read off the footers' bytes: 121/4/17 is 4212736 bytes; 120/4/17 is 4177920.
    for text in [
        "VHD dynamic",
        "VHD fixed",
        "(4212736 bytes)",
        "(4194304 bytes)",
        "\"qemu\" 5.3",
        "\"win\" 10.0 on \"Wi2k\"",
        "\"vbox\"",
        "120/4/17 = 4177920 bytes (16384 less than the virtual size; that counts)",
    ] {
        assert!(ran.out.contains(text), "no {text:?} in\n{}", ran.out);
    }
}
