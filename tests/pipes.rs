//! Disks that go through pipes: the same bytes as in a file, in order, and never a run that does not end.
#![cfg(unix)]

mod common;

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::expect::folder;
use common::vhd::{Vhd, strict};
use common::{Ran, fed, fed_to, pattern, run, vdconv, vmdk};
use rustix::process::{Pid, Signal, kill_process};

/// The kinds that need no seeking, by `-O` and `-s`, and the name of a file of theirs.
const KINDS: [(&[&str], &str); 3] = [
    (&["-O", "vmdk", "-s", "stream"], "in.vmdk"),
    (&["-O", "vhd", "-s", "fixed"], "in.vhd"),
    (&["-O", "raw"], "in.raw"),
];

fn guest() -> Vec<u8> {
    pattern(200_003, |n| n % 9000 > 3000)
}

#[test]
fn the_bytes_of_a_pipe_are_those_of_a_file_whatever_the_workers() {
    let f = folder(&[("in.img", &Vhd::dynamic_of(&guest(), 2 << 20).build())]);
    for (kind, name) in KINDS {
        let made = |output: &str, jobs: &str| {
            let mut command = vdconv();
            command.current_dir(f.path()).env("SOURCE_DATE_EPOCH", "7").args(["in.img", output, "-j", jobs]).args(kind);
            let ran = command.output().unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
            ran.stdout
        };
        made(name, "2");
        let file = fs::read(f.path().join(name)).unwrap();
        for jobs in ["1", "2", "5"] {
            assert!(made("-", jobs) == file, "{kind:?} -j {jobs}");
        }
        let got = match name {
            "in.vmdk" => vmdk::read(&f.path().join(name)).guest,
            "in.vhd" => strict(&file, None).guest,
            _ => file,
        };
        assert!(got == guest(), "{kind:?}");
    }
}

/// `in.img` on its way into a pipe.
fn into_pipe(folder: &std::path::Path, kind: &[&str]) -> std::process::Child {
    let mut command = vdconv();
    command.current_dir(folder).args(["in.img", "-"]).args(kind);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_receiver_that_goes_away_ends_the_run_with_its_reason() {
    let f = folder(&[("in.img", &Vhd::fixed_of(&guest()).build())]);
    for (kind, _) in KINDS {
        let mut child = into_pipe(f.path(), kind);
        let mut few = [0; 700];
        child.stdout.take().unwrap().read_exact(&mut few).unwrap();
        let end = child.wait_with_output().unwrap();
        let err = String::from_utf8_lossy(&end.stderr);
        assert_eq!(end.status.code(), Some(1), "{err}");
        assert!(
            err.contains("standard output: at byte ") && err.contains("Broken pipe") && !err.contains("panic"),
            "{err}"
        );
    }
}

#[test]
fn r17_a_receiver_that_does_not_read_keeps_no_signal_from_being_answered() {
    let f = folder(&[("in.img", &Vhd::fixed_of(&guest()).build())]);
    for (signal, number) in [(Signal::INT, 2), (Signal::TERM, 15)] {
        for (kind, _) in KINDS {
            let mut child = into_pipe(f.path(), kind);
            // Long enough for the pipe to be full.
            std::thread::sleep(Duration::from_millis(300));
            let asked = Instant::now();
            kill_process(Pid::from_child(&child), signal).unwrap();
            let status = child.wait().unwrap();
            assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(number), "{kind:?}");
        }
    }
    // A FIFO that nobody reads is waited for, and no longer than a signal allows.
    assert!(Command::new("mkfifo").arg(f.path().join("fifo.raw")).status().unwrap().success());
    let mut child = vdconv().current_dir(f.path()).args(["in.img", "fifo.raw"]).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let asked = Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert!(!child.wait().unwrap().success() && asked.elapsed() < Duration::from_secs(1));
}

#[test]
fn what_cannot_go_into_a_pipe_is_refused_with_what_can() {
    let f = folder(&[("in.img", &Vhd::fixed_of(&pattern(40, |_| false)).build())]);
    for args in [&["-O", "vmdk"][..], &["-O", "vhd"], &["-O", "vmdk", "-s", "flat"], &["-O", "vmdk", "-s", "vmfs"]] {
        let ran = run(f.path(), [&["in.img", "-"], args].concat());
        ran.fails(2, &["standard output cannot seek", "one of VHD fixed, VMDK streamOptimized, raw disk"]);
    }
    run(f.path(), ["in.img", "-", "-O", "raw", "--json"]).fails(2, &["--json: standard output is the disk"]);
    // A full device says so.
    let mut full = Command::new("sh");
    let script = "\"$0\" in.img - -O raw > /dev/full";
    let ran = Ran::of(full.current_dir(f.path()).args(["-c", script, env!("CARGO_BIN_EXE_vdconv")]));
    ran.fails(1, &["standard output: at byte 0: cannot write: No space left on device"]);
}

#[test]
fn a_stream_that_comes_through_a_pipe_is_the_disk_that_it_is_in_a_file() {
    use common::packed::{Stream, marker, tables_in_front};
    for sectors in [1, 3, 700, 5000] {
        let guest = pattern(sectors, |n| n > 0 && n % 700 > 400);
        let f = folder(&[("a.raw", &guest)]);
        run(f.path(), ["a.raw", "own.vmdk", "-s", "stream"]).succeeds();
        let own = fs::read(f.path().join("own.vmdk")).unwrap();
        let short = Stream { short_last: true, ..Stream::of(&guest) }.build();
        let mut streams = vec![own, Stream::of(&guest).build(), short];
        if sectors <= 768 {
            streams.push(tables_in_front(&guest, marker));
        }
        for stream in streams {
            for (output, options) in
                [("o.raw", vec![]), ("o.vhd", vec!["-j", "3"]), ("o.vmdk", vec!["--block-size", "8K"])]
            {
                let ran = fed(f.path(), &[&["-", output, "--force"], options.as_slice()].concat(), &stream);
                assert_eq!(ran.status, Some(0), "{}", ran.err);
                let got = match output {
                    "o.vhd" => strict(&fs::read(f.path().join(output)).unwrap(), None).guest,
                    "o.vmdk" => vmdk::read(&f.path().join(output)).guest,
                    _ => fs::read(f.path().join(output)).unwrap(),
                };
                assert!(got == guest, "{sectors} {output}");
            }
        }
    }
}

#[test]
fn through_two_pipes_the_bytes_are_those_of_a_direct_conversion() {
    let f = folder(&[("in.vhd", &Vhd::dynamic_of(&guest(), 2 << 20).build())]);
    let ids = "--uuid 00112233-4455-6677-8899-aabbccddeeff";
    let script = format!(
        "V=\"$0\"; \"$V\" in.vhd -O vmdk -s stream - -q | \"$V\" - piped.vhd {ids} -q && \"$V\" in.vhd direct.vhd {ids} -q \
         && cmp piped.vhd direct.vhd"
    );
    let mut sh = Command::new("sh");
    sh.current_dir(f.path()).env("SOURCE_DATE_EPOCH", "77").args(["-c", &script, env!("CARGO_BIN_EXE_vdconv")]);
    Ran::of(&mut sh).succeeds();
    assert!(strict(&fs::read(f.path().join("piped.vhd")).unwrap(), None).guest == guest());
}

#[test]
fn raw_disks_and_fixed_vhds_come_through_pipes_and_must_be_as_long_as_was_said() {
    let guest = guest();
    let f = folder(&[]);
    let size = guest.len().to_string();
    let vhd = Vhd::fixed_of(&guest).build();
    for bytes in [&guest, &vhd] {
        for output in ["o.raw", "o.vmdk", "o.vhd"] {
            let ran = fed(f.path(), &["-", output, "--input-size", &size, "--force"], bytes);
            assert_eq!(ran.status, Some(0), "{}", ran.err);
            run(f.path(), [output, "back.raw", "--force"]).succeeds();
            assert!(fs::read(f.path().join("back.raw")).unwrap() == guest, "{output}");
        }
    }
    fs::remove_file(f.path().join("back.raw")).unwrap();
    let grown = fed(f.path(), &["-", "g.raw", "--input-size", &size, "--align", "1M"], &guest);
    assert_eq!(grown.status, Some(0), "{}", grown.err);
    let bytes = fs::read(f.path().join("g.raw")).unwrap();
    assert!(
        bytes.len().is_multiple_of(1 << 20)
            && bytes[..guest.len()] == guest
            && bytes[guest.len()..].iter().all(|b| *b == 0)
    );
    let refused = |args: &[&str], bytes: &[u8], status: i32, texts: &[&str]| {
        fed(f.path(), &[&["-", "x.raw"], args].concat(), bytes).fails(status, texts);
        assert!(!f.path().join("x.raw").exists());
    };
    refused(&["--input-size", &size], &guest[..guest.len() - 1], 1, &["the stream ends too early"]);
    refused(&["--input-size", &size], &[guest.clone(), vec![0]].concat(), 1, &["more came through the pipe"]);
    refused(&["--input-size", &size], &[vhd.clone(), vec![0]].concat(), 1, &["more came through the pipe"]);
    refused(&[], &guest, 1, &["no disk that is known from its first bytes", "--input-size"]);
    refused(
        &[],
        &Vhd::dynamic_of(&guest, 2 << 20).build(),
        1,
        &["a VHD is read by seeking", "hint: save it to a file first"],
    );
    refused(&[], b"", 1, &["standard input: nothing came"]);
    let odd = fed(f.path(), &["-", "odd.raw", "--input-size", "1000"], &guest[..1000]);
    odd.warns(&["no whole number of sectors", "24 zeroes are added"]);
    assert_eq!(fs::read(f.path().join("odd.raw")).unwrap(), [&guest[..1000], &[0; 24]].concat());
    let sparse = vmdk_sparse(&guest);
    refused(&[], &sparse, 1, &["read by seeking"]);
    refused(&["--input-size", "1M"], &sparse, 2, &["says itself how long it is"]);
}

#[test]
fn a_raw_disk_that_is_as_long_as_what_comes_goes_into_kinds_that_can_wait_for_its_end() {
    const MIB: usize = 1 << 20;
    let kinds: [(&str, &[&str]); 5] = [
        ("o.raw", &[]),
        ("o.vhd", &["-s", "fixed"]),
        ("o.vmdk", &["-s", "flat"]),
        ("o.vmdk", &["-s", "vmfs"]),
        ("o.vmdk", &["-s", "vmfsThin", "--adapter", "ide"]),
    ];
    let content = pattern(5 * 2048 + 7, |n| n % 900 > 300);
    // Around a piece and what is held back behind it; zeroes at the end; a last page that is cut.
    for len in [1, 7, 512, 1536, MIB - 512, MIB, MIB + 511, MIB + 512, MIB + 513, 2 * MIB, 2 * MIB + 512, content.len()]
    {
        let sent = &content[..len];
        let mut guest = sent.to_vec();
        guest.resize(len.next_multiple_of(512), 0);
        for (output, kind) in kinds {
            for footer in [false, true] {
                if footer && len % 512 != 0 {
                    continue;
                }
                let stream = if footer { Vhd::fixed_of(&guest).build() } else { sent.to_vec() };
                let f = folder(&[("in.img", guest.as_slice())]);
                let ran = fed(f.path(), &[&["-f", "raw", "-", output, "-j", "3"], kind].concat(), &stream);
                let ran = if len % 512 == 0 { ran.succeeds() } else { ran.warns(&["no whole number of sectors"]) };
                assert!(!ran.out.contains("62"), "the most is no size: {}", ran.out);
                let ids = ["--uuid", "12345678-1234-1234-1234-123456789abc"];
                fs::create_dir(f.path().join("direct")).unwrap();
                let direct = format!("direct/{output}");
                let mut straight = vec!["-f", "raw", "in.img", &direct];
                straight.extend(kind);
                run(f.path(), straight).succeeds();
                if output == "o.raw" {
                    assert!(fs::read(f.path().join(output)).unwrap() == guest, "{len}");
                    continue;
                }
                // What is written is what a file of that size becomes, but for the identifiers.
                let (mut again, mut as_file) = (Vec::new(), Vec::new());
                let piped = {
                    let mut args = vec!["-f", "raw", "-", output, "--force"];
                    args.extend(kind);
                    args.extend(ids);
                    if output == "o.vmdk" {
                        args.extend(["--cid", "12345678"]);
                    }
                    (args.clone(), [&args[..2], &["in.img", &direct], &args[4..]].concat())
                };
                let mut stdin = vdconv();
                stdin.current_dir(f.path()).env("SOURCE_DATE_EPOCH", "7").args(&piped.0);
                assert!(fed_to(stdin, &stream).status.success());
                let mut file = vdconv();
                file.current_dir(f.path()).env("SOURCE_DATE_EPOCH", "7").args(&piped.1);
                assert!(file.output().unwrap().status.success());
                // These are derived from the length too, which is not known in time.
                let without_ids = |mut bytes: Vec<u8>| {
                    if bytes.starts_with(b"# Disk") {
                        let text = String::from_utf8(bytes).unwrap();
                        let lines = text.lines().filter(|l| !l.contains("longContentID") && !l.contains("ddb.uuid = "));
                        bytes = lines.collect::<Vec<_>>().join("\n").into_bytes();
                    }
                    bytes
                };
                for name in common::names(&f.path().join("direct")) {
                    again.push(without_ids(fs::read(f.path().join(&name)).unwrap()));
                    as_file.push(without_ids(fs::read(f.path().join("direct").join(&name)).unwrap()));
                }
                assert!(again == as_file && !again.is_empty(), "{output} {kind:?} {len} {footer}");
                run(f.path(), [output, "back.raw"]).succeeds();
                assert!(fs::read(f.path().join("back.raw")).unwrap() == guest, "{output} {len}");
            }
        }
    }
}

#[test]
fn a_raw_disk_of_unknown_length_is_refused_where_its_length_must_be_known() {
    let f = folder(&[]);
    let guest = pattern(5000, |_| false);
    for args in [
        &["o.vmdk"][..],
        &["o.vhd"],
        &["o.vmdk", "-s", "stream"],
        &["o.vmdk", "-s", "twoGbMaxExtentFlat"],
        &["o.vmdk", "-s", "twoGbMaxExtentSparse"],
        &["o.vmdk", "-s", "vmfs", "--size", "1G"],
        &["o.raw", "--align", "1M"],
    ] {
        let ran = fed(f.path(), &[&["-f", "raw", "-"], args].concat(), &guest);
        ran.fails(2, &["must be known", "--input-size"]);
    }
    // Footers: of no disk; of 511 bytes; of another size, which is content.
    let vhd = Vhd::fixed_of(&guest).build();
    fed(f.path(), &["-f", "raw", "-", "o.raw"], &Vhd::fixed_of(&[]).build()[..512]).fails(1, &[]);
    fed(f.path(), &["-f", "raw", "-", "o.raw"], &vhd[..vhd.len() - 1])
        .fails(1, &["a footer of 511 bytes", "hint: save it"]);
    assert!(common::names(f.path()).is_empty());
    let moved = [&[0; 512], vhd.as_slice()].concat();
    fed(f.path(), &["-f", "raw", "-", "o.raw"], &moved).succeeds();
    assert!(fs::read(f.path().join("o.raw")).unwrap() == moved);
    // On into another pipe, and with --preallocate.
    for (kind, _) in &KINDS[1..] {
        let mut command = vdconv();
        command.current_dir(f.path()).args(["-f", "raw", "-", "-"]).args(*kind);
        let ran = fed_to(command, &vhd).stdout;
        assert!(ran[..guest.len()] == guest && ran.len() == guest.len() + 512 * usize::from(kind.contains(&"fixed")));
        if kind.contains(&"fixed") {
            assert!(strict(&ran, None).guest == guest);
        }
    }
    let ran = fed(f.path(), &["-f", "raw", "-", "p.vhd", "-s", "fixed", "--preallocate", "--json"], &guest).succeeds();
    assert!(
        ran.out.contains(&format!("\"virtual_size\": {}", guest.len()))
            || ran.out.contains(&format!("\"virtual_size\":{}", guest.len())),
        "{}",
        ran.out
    );
    assert!(strict(&fs::read(f.path().join("p.vhd")).unwrap(), None).guest == guest);
}

#[test]
fn what_a_descriptor_forbids_is_refused_from_a_pipe_as_it_is_from_a_file() {
    use common::packed::Stream;
    let stream = Stream::of(&pattern(700, |_| false)).build();
    let end = 512 + stream[512..].iter().position(|byte| *byte == 0).unwrap();
    for (line, text) in [
        ("ddb.iofilters = \"vmwarevmcrypt\"", "an encrypted VMDK"),
        ("encryptionKeys=\"vmware:key/list\"", "an encrypted VMDK"),
        ("isNativeSnapshot=\"yes\"", "a snapshot that the storage keeps"),
        ("ddb.uuid.parent=\"rubbish\"", "a parent whose uuid cannot be read"),
    ] {
        let mut bad = stream.clone();
        bad[end..end + line.len()].copy_from_slice(line.as_bytes());
        let f = folder(&[("in.vmdk", bad.as_slice())]);
        run(f.path(), ["in.vmdk", "o.raw"]).fails(1, &["in.vmdk: at byte ", text]);
        fed(f.path(), &["-", "o.raw"], &bad).fails(1, &["standard input: at byte ", text]);
        assert_eq!(common::names(f.path()), ["in.vmdk"]);
    }
}

fn vmdk_sparse(guest: &[u8]) -> Vec<u8> {
    common::vmdk::Sparse::of(guest).build()
}

#[test]
fn a_stream_that_is_cut_changed_or_followed_by_something_is_never_a_smaller_disk() {
    use common::packed::{Stream, marker, tables_in_front};
    let guest = pattern(700, |n| (128..256).contains(&n));
    let f = folder(&[]);
    let bad = |stream: &[u8], texts: &[&str]| {
        fed(f.path(), &["-", "o.raw"], stream).fails(1, &["standard input: "]).fails(1, texts);
        assert!(common::names(f.path()).is_empty());
    };
    let good = Stream::of(&guest).build();
    for cut in (0..good.len()).step_by(601).chain([good.len() - 512, good.len() - 1]) {
        bad(&good[..cut], &[]);
    }
    bad(&[good.clone(), b"more".to_vec()].concat(), &["something follows the end"]);
    let padded = fed(f.path(), &["-", "o.raw"], &[good.clone(), vec![0; 5000]].concat());
    padded.warns(&["does not end behind its footer", "5000 zeroes more"]);
    assert!(fs::read(f.path().join("o.raw")).unwrap() == guest);
    fs::remove_file(f.path().join("o.raw")).unwrap();
    let changed = |at: usize, bytes: &[u8]| {
        let mut stream = good.clone();
        stream[at..at + bytes.len()].copy_from_slice(bytes);
        stream
    };
    let end = good.len();
    let (table, directory, footer) = (end - 512 * 5 - 2048, end - 512 * 4, end - 1024);
    bad(&changed(table, &[0; 4]), &["grain table of the stream is not that of its grains"]);
    bad(&changed(directory, &[0; 4]), &["grain directory of the stream is not that of its tables"]);
    bad(&changed(footer + 12, &[9]), &["footer", "contradicts"]);
    bad(&changed(65_536, &640u32.to_le_bytes()), &["do not come in the disk's order", "save it to a file first"]);
    bad(&changed(65_536, &[128]), &["grain table of the stream is not that of its grains"]);
    bad(&changed(65_536 + 1, &[0x7F]), &["lies outside the disk"]);
    bad(&changed(65_536 + 40, &[0xFF; 8]), &["VMDK grain "]);
    let front = tables_in_front(&guest, marker);
    let image = common::vmdk::Sparse::of(&guest);
    for (grain, value) in [(0, 0u32), (1, 130)] {
        let mut stream = front.clone();
        let at = image.entry_at(image.gd(), grain);
        stream[at..at + 4].copy_from_slice(&value.to_le_bytes());
        bad(&stream, &["tables of the stream are not those of its grains"]);
    }
    let last = front.len() - 512;
    bad(&front[..last - last % 512 - 2048], &[]);
}

#[test]
fn r17_a_sender_that_is_silent_keeps_no_signal_from_being_answered() {
    let f = folder(&[]);
    let guest = pattern(5000, |_| false);
    let stream = common::packed::Stream::of(&guest).build();
    for (first, signal, number) in [(&stream[..0], Signal::INT, 2), (&stream[..70_000], Signal::TERM, 15)] {
        use std::io::Write;
        let mut child = vdconv()
            .current_dir(f.path())
            .args(["-", "o.vhd"])
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut sender = child.stdin.take().unwrap();
        sender.write_all(first).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let asked = Instant::now();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(number));
        assert!(common::names(f.path()).is_empty());
    }
}

#[test]
fn what_lies_behind_the_disks_end_in_a_stream_stays_behind_it() {
    use common::packed::Stream;
    // A line of 100 sectors over a capacity of two grains, all of them stored: the rest is left out, and is zero where the disk grows.
    let f = folder(&[]);
    let stream = Stream { capacity: 256, ..Stream::of(&[0xA5; 256 * 512]) }.build();
    let at = stream.windows(10).position(|w| w == b"RDONLY 256").unwrap();
    let mut stream = stream;
    stream[at..at + 10].copy_from_slice(b"RDONLY 100");
    fs::write(f.path().join("in.vmdk"), &stream).unwrap();
    for options in [&["--size", "51200"][..], &["--size", "1M"], &["--align", "64K"]] {
        for (output, kind) in [("o.raw", &[][..]), ("o.vhd", &[]), ("o.vmdk", &[]), ("o.vmdk", &["-s", "stream"])] {
            let args = [&["-", output, "--force"], options, kind].concat();
            let ran = fed(f.path(), &args, &stream);
            assert_eq!(ran.status, Some(0), "{args:?}: {}", ran.err);
            run(f.path(), [output, "piped.raw", "--force"]).succeeds();
            let seek = [&["in.vmdk", output, "--force"], options, kind].concat();
            assert_eq!(run(f.path(), seek).status, Some(0));
            run(f.path(), [output, "sought.raw", "--force"]).succeeds();
            let piped = fs::read(f.path().join("piped.raw")).unwrap();
            assert!(piped == fs::read(f.path().join("sought.raw")).unwrap(), "{args:?}");
            assert!(piped[..51_200].iter().all(|b| *b == 0xA5) && piped[51_200..].iter().all(|b| *b == 0), "{args:?}");
        }
    }
}

#[test]
fn streams_that_seeking_reads_with_a_warning_are_read_or_sent_to_a_file() {
    use common::packed::{Stream, marker, tables_in_front};
    let guest = pattern(700, |n| (128..256).contains(&n));
    let f = folder(&[]);
    let good = Stream::of(&guest).build();
    // Grains that begin later than the header says.
    let mut early = good.clone();
    let footer = good.len() - 1024;
    for header in [0, footer] {
        early[header + 64..header + 72].copy_from_slice(&30u64.to_le_bytes());
    }
    let ran = fed(f.path(), &["-", "o.raw"], &early);
    assert_eq!(ran.status, Some(0), "{}", ran.err);
    assert!(fs::read(f.path().join("o.raw")).unwrap() == guest);
    // Without its padding, or with odd zeroes behind: the tables in front say that all came.
    let front = tables_in_front(&guest, marker);
    let end = front.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for stream in [front[..end].to_vec(), [front.clone(), vec![0; 100]].concat()] {
        let ran = fed(f.path(), &["-", "o.raw", "--force"], &stream);
        assert_eq!(ran.status, Some(0), "{}", ran.err);
        assert!(fs::read(f.path().join("o.raw")).unwrap() == guest);
    }
    fs::remove_file(f.path().join("o.raw")).unwrap();
    for (stream, text) in [
        (good[..good.len() - 512].to_vec(), "no end-of-stream sector"),
        ([&good[..56], &(1u64 << 20).to_le_bytes(), &good[64..]].concat(), "leads past its grain directory"),
        ([&good[..footer + 4], &[1], &good[footer + 5..]].concat(), "footer"),
    ] {
        fed(f.path(), &["-", "o.raw"], &stream).fails(1, &["standard input: ", text]);
    }
    for (from, to, text) in
        [("RDONLY 700", "NOACCESS 7", "NOACCESS"), ("\n# The Disk", "\nRW 3 ZERO", "more than one extent")]
    {
        let mut stream = good.clone();
        let at = stream.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
        stream[at..at + to.len()].copy_from_slice(to.as_bytes());
        if to.starts_with('\n') {
            stream[at + to.len()] = b'\n';
        }
        fed(f.path(), &["-", "o.raw"], &stream).fails(1, &["standard input: ", text]);
    }
    assert!(common::names(f.path()).is_empty());
}
