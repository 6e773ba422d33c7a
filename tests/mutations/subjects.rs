//! The images that are mutated: every fixture, and one of each kind that has none, built by the specification.

use std::fs;

use super::common::packed::{Stream, cowd, deflate, marker, sesparse, tables_in_front};
use super::common::vhd::{Vhd, locator};
use super::common::vmdk::{Sparse, descriptor};
use super::common::{fixture, iso, names, pattern};
use super::map_vhd;
use super::map_vmdk::Part;
use super::subject::{Guard, Structure, Subject};

/// Sectors of most disks: five grains and three sectors.
const SECTORS: u64 = 5 * 128 + 3;

/// The third grain is zero.
fn guest() -> Vec<u8> {
    pattern(SECTORS, |n| (256..384).contains(&n))
}

/// All of them.
pub fn all() -> Vec<Subject> {
    [fixtures(), vhds(), vmdks(), snapshots(), discs_and_raw()].into_iter().flatten().collect()
}

/// The descriptors of a disc.
fn disc(file: &[u8]) -> Vec<Structure> {
    let descriptors = (16..).map(|n| n * 2048).take_while(|at| file[at + 1..at + 6] == *b"CD001");
    let map = descriptors.map(|at| {
        let structure = Structure::of("volume descriptor", 0, at..at + 2048, Guard::Open);
        structure.fields(false, &[(0, 1), (1, 4), (6, 1), (71, 4), (80, 4), (84, 4), (88, 3), (128, 2)])
    });
    map.collect()
}

/// What the descriptors of a disc of ours lead to.
fn directories() -> Vec<Structure> {
    use super::common::iso::{OWN, block};
    let at = |block: usize, len: usize| block * 2048..block * 2048 + len;
    let tables = block::TABLES.iter().map(|table| {
        let table = Structure::of("path table", 0, at(*table, 24), Guard::Unused);
        table.fields(false, &[(0, 1), (2, 4), (6, 2), (10, 1), (12, 4), (16, 2)])
    });
    let records = [block::ROOT, block::FOLDER, block::JOLIET_ROOT, block::JOLIET_FOLDER].into_iter().map(|directory| {
        let records = Structure::of("directory", 0, at(directory, 4 * OWN), Guard::Unused);
        let fields = |record: usize| {
            [(0, 1), (1, 1), (2, 4), (6, 4), (10, 4), (25, 1), (32, 1)].map(|(at, len)| (record + at, len))
        };
        records.fields(false, &[fields(0), fields(OWN), fields(2 * OWN)].concat())
    });
    tables.chain(records).collect()
}

/// What the committed fixtures hold, by `tests/fixtures.rs` the disk of their table.
fn fixtures() -> Vec<Subject> {
    let read = |name: &str| fs::read(fixture(name)).unwrap();
    // qemu-fixed.vhd is the disk of all that `fixtures/make.sh` made, and its footer.
    let pattern_disk = read("vhd/qemu-fixed.vhd")[..5_244_416].to_vec();
    let mut all = Vec::new();
    for folder in ["vhd", "vmdk", "iso"] {
        for file in names(&fixture(folder)) {
            let (path, name) = (format!("{folder}/{file}"), format!("{folder} fixture {file}"));
            let bytes = read(&path);
            if file.ends_with("-s001.vmdk") {
                continue; // a file of another fixture
            }
            if folder == "iso" {
                let map = disc(&bytes);
                all.push(Subject::flat(&name, &file, bytes, true, map));
                continue;
            }
            let guest = match file.as_str() {
                "ext2-dynamic.vhd" => plain_guest(&bytes),
                "ntfs-fixed.vhd" => bytes[..bytes.len() - 512].to_vec(),
                _ => pattern_disk.clone(),
            };
            if folder == "vhd" {
                let map = map_vhd::map(0, &bytes, "");
                all.push(Subject::new(&name, vec![(file, bytes)], guest, map));
                continue;
            }
            let mut files = vec![(file.clone(), bytes.clone())];
            let first = Part { file: 0, bytes: &bytes, of: "" };
            let mut map = if bytes.starts_with(b"KDMV") { first.sparse() } else { first.text() };
            let piece = format!("{}-s001.vmdk", file.trim_end_matches(".vmdk"));
            if fixture("vmdk").join(&piece).exists() {
                let bytes = read(&format!("vmdk/{piece}"));
                map.extend(Part { file: 1, bytes: &bytes, of: "piece's " }.sparse());
                files.push((piece, bytes));
            }
            all.push(Subject::new(&name, files, guest, map));
        }
    }
    all
}

/// The disk of a dynamic VHD, put together from its mapped data: blocks of 2 MiB behind bitmaps of one sector.
fn plain_guest(bytes: &[u8]) -> Vec<u8> {
    let be32 = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let size = be32(52);
    let mut guest = vec![0; size];
    for index in 0..be32(512 + 28) {
        let sector = be32(be32(512 + 20) + index * 4);
        if sector != 0xFFFF_FFFF {
            let (to, at) = (index << 21, sector * 512 + 512);
            let len = (1 << 21).min(size - to);
            guest[to..to + len].copy_from_slice(&bytes[at..at + len]);
        }
    }
    guest
}

fn vhds() -> Vec<Subject> {
    let guest = guest();
    let one = |name: &str, file: &str, bytes: Vec<u8>| {
        let map = map_vhd::map(0, &bytes, "");
        Subject::new(name, vec![(file.into(), bytes)], guest.clone(), map)
    };
    let mut all = vec![
        one("vhd dynamic 64 KiB", "a.vhd", Vhd::dynamic_of(&guest, 65_536).build()),
        one("vhd dynamic 512 KiB", "a.vhd", Vhd::dynamic_of(&guest, 512 << 10).build()),
        one("vhd fixed", "a.vhd", Vhd::fixed_of(&guest).build()),
    ];
    // Bits that are clear over nothing, as in a block of which some sectors were never written.
    let mut sparse = Vhd::dynamic_of(&guest, 65_536);
    let mut want = guest.clone();
    if let Some((data, bits)) = sparse.blocks.get_mut(&1) {
        let mut some = vec![0xFF; 16];
        some[3] = 0x0F;
        *bits = Some(some);
        data[24 * 512..28 * 512].fill(0xEE);
        want[65_536 + 24 * 512..65_536 + 28 * 512].fill(0);
    }
    let bytes = sparse.build();
    let map = map_vhd::map(0, &bytes, "");
    all.push(Subject::new("vhd dynamic, bits clear", vec![("a.vhd".into(), bytes)], want, map));
    // A child that has every seventh sector, and a run.
    let base = Vhd { unique_id: *b"the base of them", ..Vhd::dynamic_of(&guest, 65_536) };
    let own = |n: u64| n % 7 == 3 || (250..300).contains(&n);
    let mut want = guest.clone();
    for (n, sector) in want.chunks_mut(512).enumerate().filter(|(n, _)| own(*n as u64)) {
        sector.fill(0x31u8.wrapping_add(n as u8));
    }
    let mut child = Vhd::child_of(&base, &want, 128 << 10, own);
    child.unique_id = *b"the child of one";
    child.locators = vec![locator(b"W2ru", ".\\base.vhd"), locator(b"W2ku", "C:\\disks\\base.vhd")];
    child.parent_name = "base.vhd".into();
    let files = vec![("child.vhd".to_string(), child.build()), ("base.vhd".to_string(), base.build())];
    let map = [map_vhd::map(0, &files[0].1, ""), map_vhd::map(1, &files[1].1, "parent's ")].concat();
    all.push(Subject::new("vhd differencing", files, want, map));
    all
}

fn vmdks() -> Vec<Subject> {
    let guest = guest();
    let one = |name: &str, bytes: Vec<u8>| {
        let map = Part { file: 0, bytes: &bytes, of: "" }.sparse();
        Subject::new(name, vec![("a.vmdk".into(), bytes)], guest.clone(), map)
    };
    let sparse = Sparse::of(&guest);
    let mut zeroed = Sparse { version: 2, flags: 7, ..sparse.clone() };
    zeroed.grains[2] = Some(Vec::new());
    let single = Sparse { flags: 1, ..sparse.clone() };
    let stream = Stream::of(&guest).build();
    // The directory's place in the header already, as vmdktool writes it.
    let mut seekable = stream.clone();
    let footer = stream.len() - 1024;
    seekable[56..64].copy_from_slice(&stream[footer + 56..footer + 64]);
    let mut all = vec![
        one("vmdk monolithicSparse", sparse.build()),
        one("vmdk monolithicSparse, zeroed grains", zeroed.build()),
        one("vmdk monolithicSparse, one directory", single.build()),
        one("vmdk streamOptimized", stream),
        one("vmdk streamOptimized, directory in the header", seekable),
        one("vmdk streamOptimized, tables in front", tables_in_front(&guest, marker)),
    ];
    let flat = |create_type: &str, kind: &str, behind: &str| {
        let line = format!("RW {SECTORS} {kind} \"a-flat.vmdk\"{behind}");
        let text = descriptor(create_type, 7, None, &line).into_bytes();
        let mut map = Part { file: 0, bytes: &text, of: "" }.text();
        map.push(Part { file: 1, bytes: &guest, of: "" }.flat(0..SECTORS as usize));
        let files = vec![("a.vmdk".into(), text), ("a-flat.vmdk".into(), guest.clone())];
        Subject::new(&format!("vmdk {create_type}"), files, guest.clone(), map)
    };
    all.push(flat("monolithicFlat", "FLAT", " 0"));
    all.push(flat("vmfs", "VMFS", ""));
    // Extents of three types; one file serves two lines.
    let lines = format!(
        "RW {SECTORS} SPARSE \"a-s001.vmdk\"\nRW 200 FLAT \"a-f.vmdk\" 0\nRW 100 ZERO\nRW 128 FLAT \"a-f.vmdk\" 200"
    );
    let text = descriptor("custom", 7, None, &lines).into_bytes();
    let piece = Sparse { descriptor: String::new(), ..sparse }.build();
    let flat = pattern(328, |_| false);
    let want = [&guest[..], &flat[..200 * 512], &[0; 100 * 512], &flat[200 * 512..]].concat();
    let mut map = Part { file: 0, bytes: &text, of: "" }.text();
    map.extend(Part { file: 1, bytes: &piece, of: "piece's " }.sparse());
    map.push(Part { file: 2, bytes: &flat, of: "" }.flat(0..328));
    let files = vec![("a.vmdk".into(), text), ("a-s001.vmdk".into(), piece), ("a-f.vmdk".into(), flat)];
    all.push(Subject::new("vmdk custom", files, want, map));
    all
}

fn snapshots() -> Vec<Subject> {
    let mut want = guest();
    let base = Sparse::of(&want).build();
    let text = descriptor("monolithicSparse", 2, Some((0x1234_5678, "base.vmdk")), "RW 643 SPARSE \"x\"");
    let mut child = Sparse { descriptor: text, flags: 7, ..Sparse::of(&vec![0; 643 * 512]) };
    for (grain, fill) in [(0, Some(0x11)), (1, None), (4, Some(0x44))] {
        child.grains[grain] = Some(fill.map_or(vec![], |byte| vec![byte; 65_536]));
        want[grain * 65_536..(grain + 1) * 65_536].fill(fill.unwrap_or(0));
    }
    let files = vec![("one.vmdk".to_string(), child.build()), ("base.vmdk".to_string(), base)];
    let mut map = Part { file: 0, bytes: &files[0].1, of: "" }.sparse();
    map.extend(Part { file: 1, bytes: &files[1].1, of: "parent's " }.sparse());
    let mut all = vec![Subject::new("vmdk snapshot", files, want, map)];

    let mut want = pattern(5000, |n| n % 900 > 300);
    let base = want.clone();
    let stored = [(0, 0x11), (1, 0), (4095, 0x12), (4096, 0x13), (4999, 0x14)];
    stored.iter().for_each(|(sector, byte)| want[*sector as usize * 512..][..512].fill(*byte));
    let child = descriptor("vmfsSparse", 6, Some((5, "vm.vmdk")), "RW 5000 VMFSSPARSE \"vm-000001-delta.vmdk\"");
    let parent = descriptor("vmfs", 5, None, "RW 5000 VMFS \"vm-flat.vmdk\"");
    let files = vec![
        ("vm-000001.vmdk".to_string(), child.into_bytes()),
        ("vm-000001-delta.vmdk".to_string(), cowd(5000, &stored, &[])),
        ("vm.vmdk".to_string(), parent.into_bytes()),
        ("vm-flat.vmdk".to_string(), base),
    ];
    let mut map = Part { file: 0, bytes: &files[0].1, of: "" }.text();
    map.extend(Part { file: 1, bytes: &files[1].1, of: "delta's " }.cowd());
    map.extend(Part { file: 2, bytes: &files[2].1, of: "parent's " }.text());
    map.push(Part { file: 3, bytes: &files[3].1, of: "parent's " }.flat(0..5000));
    all.push(Subject::new("vmdk vmfsSparse", files, want, map));

    let at = |n: u64| 3 << 60 | (n & 0xFFF) << 48 | n >> 12;
    let entries =
        [(0, at(5)), (1, at(6)), (2, 1 << 60 | 77), (3, 2 << 60), (4095, at(0)), (4096, at(9)), (4999, at(10))];
    let data = [(5, 0x51), (6, 0x61), (0, 0x01), (9, 0x91), (10, 0xA1)];
    let mut want = vec![0; 40_000 * 512];
    for (grain, byte) in [(0, 0x51), (1, 0x61), (4095, 0x01), (4096, 0x91), (4999, 0xA1)] {
        want[grain * 4096..][..4096].fill(byte);
    }
    let text = descriptor("seSparse", 6, None, "RW 40000 SESPARSE \"e-sesparse.vmdk\"");
    let files =
        vec![("e.vmdk".to_string(), text.into_bytes()), ("e-sesparse.vmdk".to_string(), sesparse(&entries, &data, 0))];
    let mut map = Part { file: 0, bytes: &files[0].1, of: "" }.text();
    map.extend(Part { file: 1, bytes: &files[1].1, of: "" }.sesparse());
    all.push(Subject::new("vmdk seSparse", files, want, map));
    all
}

fn discs_and_raw() -> Vec<Subject> {
    let mut image = iso::iso(200);
    iso::hybrid(&mut image);
    let map = [disc(&image), directories()].concat();
    let mut raw = guest();
    raw[510..512].copy_from_slice(&[0x55, 0xAA]);
    // Something that is compressed, as real disks hold.
    let packed = deflate(&raw);
    raw[70_000..70_000 + packed.len()].copy_from_slice(&packed);
    let all = Structure::of("data", 0, 0..raw.len(), Guard::Data);
    vec![Subject::flat("iso hybrid", "a.iso", image, true, map), Subject::flat("raw", "a.raw", raw, false, vec![all])]
}
