//! Directories and path tables made to cost memory or time: within 256 MiB and 10 s (R10). And what a check reads of a large disc.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use super::common::iso::{block, directory, iso, record};
use super::common::{Ran, scratch, vdconv};
use super::law::check;

const PRIMARY: usize = block::PRIMARY * 2048;
/// The first block behind the disc's own.
const BEHIND: u32 = 40;

/// A sector full of records.
fn sector(make: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let mut raw: Vec<u8> = (0..60).flat_map(make).collect();
    raw.resize(2048, 0);
    raw
}

/// A disc whose root is the directory of `bytes` behind it, in a file of `len` bytes.
fn disc(path: &Path, bytes: &[u8], len: u64) {
    let mut image = iso(BEHIND);
    let root = record(&[0], BEHIND, bytes.len() as u32, 2);
    image[PRIMARY + 156..PRIMARY + 190].copy_from_slice(&root);
    image.extend(bytes);
    fs::write(path, image).unwrap();
    File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

#[test]
fn directories_without_end_cost_neither_memory_nor_time() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    let unfinished = |name: &str| {
        let ran = check(folder.path(), name);
        assert!(matches!(ran.status, Some(0 | 1)), "{name}: {}{}", ran.out, ran.err);
        assert!(ran.out.contains("ISO-UNFINISHED note"), "{name}: {}", ran.out);
        fs::remove_file(path(name)).unwrap();
    };
    // Two million files; as many directories, each all that follows it.
    let files = sector(|_| record(b"F", 0, 0, 0));
    disc(&path("files.iso"), &files.repeat(32 << 10), 80 << 20);
    unfinished("files.iso");
    let all: Vec<u8> = (0..32 << 10)
        .flat_map(|n| sector(|of| record(b"D", BEHIND + n * 60 % (32 << 10) + of, (64 << 20) - n * 2048, 2)))
        .collect();
    disc(&path("overlap.iso"), &all, 160 << 20);
    unfinished("overlap.iso");
    // Few directories, of gigabytes without a record.
    let empty = sector(|n| record(b"D", BEHIND + 1 + n, u32::MAX, 2));
    disc(&path("empty.iso"), &empty, 6 << 30);
    unfinished("empty.iso");
    // Deep in each other, and a million ways back to the top from there.
    let mut deep: Vec<u8> =
        (0..127).flat_map(|n| directory(BEHIND + n, BEHIND + n, &[record(b"D", BEHIND + n + 1, 2048, 2)])).collect();
    let last = deep.len() - 2048;
    deep[last..].copy_from_slice(&directory(BEHIND + 126, 0, &[record(b"D", BEHIND + 127, 40 << 20, 2)]));
    let back = sector(|_| record(b"D", BEHIND, 2048, 2)).repeat(20 << 10);
    disc(&path("deep.iso"), &[deep, back].concat(), 100 << 20);
    let file = File::options().write(true).open(path("deep.iso")).unwrap();
    file.write_all_at(&record(&[0], BEHIND, 2048, 2), PRIMARY as u64 + 156).unwrap();
    let ran = check(folder.path(), "deep.iso");
    assert!(ran.status == Some(1) && ran.out.contains("ISO-DIRECTORY-TWICE: "), "{}{}", ran.out, ran.err);
}

#[test]
fn path_tables_of_many_volumes_are_not_read_again_and_again() {
    let folder = scratch();
    let mut image = iso(BEHIND);
    // The same in both byte orders.
    let table = [1u8, 0, 0, 0, 0, 0, 0, 0, 1, 0].repeat(1_700_000);
    let first = 100u32;
    image.resize(first as usize * 2048, 0);
    image.extend(&table);
    image[90 * 2048..91 * 2048].copy_from_slice(&directory(90, 90, &[]));
    let mut volume = image[PRIMARY..PRIMARY + 2048].to_vec();
    volume[156..190].copy_from_slice(&record(&[0], 90, 2048, 2));
    volume[132..136].copy_from_slice(&(table.len() as u32).to_le_bytes());
    volume[136..140].copy_from_slice(&(table.len() as u32).to_be_bytes());
    volume[140..144].copy_from_slice(&first.to_le_bytes());
    volume[148..152].copy_from_slice(&first.to_be_bytes());
    for n in 0..63 {
        image[PRIMARY + n * 2048..][..2048].copy_from_slice(&volume);
    }
    fs::write(folder.path().join("a.iso"), image).unwrap();
    let ran = check(folder.path(), "a.iso");
    assert!(ran.status == Some(0) && ran.out.contains("ISO-PATH-TABLES warning"), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("ISO-UNFINISHED note"), "{}", ran.out);
}

#[test]
fn a_name_that_deceives_the_eye_is_shown_escaped() {
    let folder = scratch();
    let mut image = iso(BEHIND);
    let root = directory(25, 25, &[record(b"\x1B[31m\nsound/..", 1000, 9, 0)]);
    image[block::ROOT * 2048..][..2048].copy_from_slice(&root);
    fs::write(folder.path().join("a.iso"), image).unwrap();
    let ran = check(folder.path(), "a.iso");
    assert_eq!((ran.status, ran.out.lines().count()), (Some(1), 2), "{}", ran.out);
    assert!(ran.out.contains(r"(found /\u{1b}[31m\nsound\x2f..: bytes 2048000 to 2048009"), "{}", ran.out);
}

#[test]
#[cfg(target_os = "linux")]
fn contents_of_a_large_disc_are_not_read() {
    let folder = scratch();
    let (path, len) = (folder.path().join("a.iso"), 3u64 << 30);
    let mut image = iso(BEHIND);
    let root = directory(25, 25, &[record(b"LARGE.BIN;1", BEHIND, u32::MAX / 2 - 2047, 0)]);
    image[block::ROOT * 2048..][..2048].copy_from_slice(&root);
    fs::write(&path, image).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(len).unwrap();
    // What a shell has read, those it waited for included.
    let script = "\"$0\" \"$@\" && cat /proc/$$/io";
    let mut command = Command::new("sh");
    command.current_dir(folder.path()).arg("-c").arg(script).arg(vdconv().get_program());
    let ran = Ran::of(command.args(["check", "a.iso"]));
    assert!(ran.status == Some(0) && ran.out.starts_with("a.iso: sound"), "{}{}", ran.out, ran.err);
    let read: u64 = ran.out.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap();
    assert!((100_000..4_000_000).contains(&read), "{read} bytes");
}
