//! Reads the VMDKs that vdconv writes, by the specification, slowly and strictly. Shares no code with the program.

use std::collections::BTreeMap;
use std::path::Path;

/// Every kind that can be written.
pub const KINDS: [&str; 7] = [
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "streamOptimized",
    "vmfs",
    "vmfsThin",
];

/// A VMDK, read whole.
pub struct Vmdk {
    /// Bytes of the disk.
    pub guest: Vec<u8>,
    /// The descriptor's text.
    pub descriptor: String,
    /// Its `key=value` and `ddb.key = "value"` lines.
    pub keys: BTreeMap<String, String>,
    /// The grains that are stored, by number.
    pub grains: Vec<u64>,
}

fn u32_at(b: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes(b[at..at + 4].try_into().unwrap()))
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().unwrap())
}

/// Reads a disk of any kind that vdconv writes; panics at the first thing that the specification or a strict reader would refuse.
pub fn read(path: &Path) -> Vmdk {
    let file = std::fs::read(path).unwrap();
    match file.starts_with(b"KDMV") {
        true if u32_at(&file, 8) & 0x1_0000 != 0 => read_stream(&file),
        true => read_monolithic(&file),
        false => read_text(path, &file),
    }
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    assert!(text.starts_with("# Disk DescriptorFile\nversion=1\n"), "QEMU looks for these two lines");
    assert!(text.contains("\n# Extent description\nRW "), "no line between the comment and the extent");
    assert!(text.contains("\n# The Disk Data Base\n"));
    assert!(!text.contains(" \n") && !text.contains("\n ") && !text.contains('\r'), "no blanks at the ends of lines");
    let section = |needle: &str| text.find(needle).unwrap();
    assert!(section("CID=") < section("parentCID="), "QEMU takes the first CID for the own one");
    assert!(
        section("createType=") < section("\nRW ") && section("\nRW ") < section("\nddb."),
        "VirtualBox wants this order"
    );
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.starts_with("RW ") && !l.is_empty()) {
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("no key: {line}"));
        let old = keys.insert(key.trim().to_string(), value.trim().trim_matches('"').to_string());
        assert!(old.is_none(), "twice: {line}");
    }
    for line in text.lines().filter(|l| l.contains('=')) {
        match line.starts_with("ddb.") {
            true => assert!(line.contains(" = \"") && line.ends_with('"'), "{line}"),
            false => assert!(!line.contains(" =") && !line.contains("= "), "{line}"),
        }
    }
    assert_eq!(keys["parentCID"], "ffffffff");
    assert!(keys["CID"].len() == 8 && keys["CID"].bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    assert!(!["00000000", "fffffffe", "ffffffff"].contains(&keys["CID"].as_str()), "they have a meaning");
    let sectors: u64 = extents(text).iter().map(|extent| extent.0).sum();
    let (heads, per_track, most) = match keys["ddb.adapterType"].as_str() {
        "ide" => (16, 63, u64::MAX),
        _ if sectors < 2_097_152 => (64, 32, 65_535),
        _ if sectors < 4_194_304 => (128, 32, 65_535),
        _ => (255, 63, 65_535),
    };
    let number = |key: &str| keys[key].parse::<u64>().unwrap();
    assert_eq!((number("ddb.geometry.heads"), number("ddb.geometry.sectors")), (heads, per_track));
    assert_eq!(number("ddb.geometry.cylinders"), (sectors / heads / per_track).clamp(1, most));
    assert!((3..=22).contains(&number("ddb.virtualHWVersion")));
    if let Some(uuid) = keys.get("ddb.uuid") {
        assert!(uuid.to_ascii_uppercase().starts_with("60 00 C2 9") && uuid.len() == 47, "{uuid}");
        assert_eq!(keys["encoding"], "UTF-8");
    }
    assert!(keys["ddb.longContentID"].ends_with(&keys["CID"]) && keys["ddb.longContentID"].len() == 32);
    let hosted = ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"];
    let has = |key: &str| keys.contains_key(key);
    match keys["createType"].as_str() {
        "streamOptimized" => {
            assert!(!has("encoding") && !has("ddb.uuid") && !has("ddb.uuid.image"), "VMware writes none into streams");
            assert!(text.len() <= 512, "govc reads one sector");
        }
        "vmfs" => {
            assert!(has("ddb.uuid") && !has("ddb.uuid.image") && keys["isNativeSnapshot"] == "no");
            let ddb: Vec<_> = text.lines().filter(|line| line.starts_with("ddb.")).collect();
            assert!(ddb.is_sorted(), "as ESXi sorts them");
        }
        other => {
            assert!(hosted.contains(&other), "{other}");
            assert!(has("ddb.uuid") && has("ddb.uuid.image"), "VirtualBox calls it inaccessible without");
        }
    }
    keys
}

/// Sectors, type, file name and what stands behind it of each extent line.
fn extents(text: &str) -> Vec<(u64, String, String, String)> {
    let lines = text.lines().filter(|l| l.starts_with("RW "));
    let parsed = lines.map(|line| {
        let (front, rest) = line.split_once('"').unwrap();
        let (name, behind) = rest.rsplit_once('"').unwrap();
        let words: Vec<_> = front.split(' ').collect();
        (words[1].parse().unwrap(), words[2].to_string(), name.to_string(), behind.to_string())
    });
    parsed.collect()
}

/// The embedded descriptor.
fn embedded(file: &[u8]) -> String {
    let (at, len) = (u64_at(file, 28) as usize * 512, u64_at(file, 36) as usize * 512);
    assert_eq!((at, len), (512, 20 * 512));
    let area = &file[at..at + len];
    let end = area.iter().position(|b| *b == 0).unwrap();
    assert!(area[end..].iter().all(|b| *b == 0));
    assert!(len - end >= 4 * 512, "VirtualBox adds its uuids");
    String::from_utf8(area[..end].to_vec()).unwrap()
}

fn read_monolithic(file: &[u8]) -> Vmdk {
    let descriptor = embedded(file);
    let (guest, grains) = read_sparse(file);
    let lines = extents(&descriptor);
    assert_eq!(lines.len(), 1);
    let (sectors, kind, _, behind) = &lines[0];
    assert_eq!((*sectors * 512, kind.as_str(), behind.as_str()), (guest.len() as u64, "SPARSE", ""));
    let keys = parse(&descriptor);
    assert_eq!(keys["createType"], "monolithicSparse");
    Vmdk { guest, descriptor, keys, grains }
}

/// A hosted sparse extent: its bytes, and the grains that are stored.
fn read_sparse(file: &[u8]) -> (Vec<u8>, Vec<u64>) {
    assert_eq!(u32_at(file, 4), 1, "version");
    assert_eq!(u32_at(file, 8), 3, "flags");
    let (capacity, grain) = (u64_at(file, 12), u64_at(file, 20));
    let (gtes, rgd, gd, overhead) = (u32_at(file, 44), u64_at(file, 48), u64_at(file, 56), u64_at(file, 64));
    assert!(gtes == 512 && grain.is_power_of_two() && (8..=128).contains(&grain));
    let described = u64_at(file, 28);
    assert!(described == 1 || u64_at(file, 36) == 0, "no empty descriptor is announced");
    assert_eq!(rgd, 1 + u64_at(file, 36), "the places of every file in the field");
    assert_eq!(&file[72..79], b"\0\n \r\n\0\0", "clean, not mangled as text, not compressed");
    assert!(file[79..512].iter().all(|b| *b == 0));
    assert_eq!(file.len() as u64 % (grain * 512), 0, "the file ends with a whole grain");
    let tables = capacity.div_ceil(grain).div_ceil(gtes);
    let mut guest = vec![0; capacity as usize * 512];
    let (mut grains, mut next) = (Vec::new(), overhead);
    for table in 0..tables {
        let [a, b] = [rgd, gd].map(|d| u32_at(file, (d * 512 + table * 4) as usize) as usize * 512);
        assert!(a != 0 && b != 0 && a != b);
        let [ra, rb] = [a, b].map(|t| &file[t..t + 2048]);
        assert_eq!(ra, rb, "VirtualBox refuses tables that differ");
        for entry in 0..gtes {
            let at = u32_at(rb, entry as usize * 4);
            if at == 0 {
                continue;
            }
            let number = table * gtes + entry;
            assert_eq!(at, next, "grains lie in guest order, one behind the other");
            next += grain;
            let start = (number * grain * 512) as usize;
            let stored = &file[at as usize * 512..(at + grain) as usize * 512];
            assert!(stored.iter().any(|b| *b != 0), "a grain of zeroes is stored: {number}");
            let n = stored.len().min(guest.len() - start);
            guest[start..start + n].copy_from_slice(&stored[..n]);
            assert!(stored[n..].iter().all(|b| *b == 0), "bytes behind the disk's end are zero");
            grains.push(number);
        }
    }
    assert_eq!(next * 512, file.len() as u64, "nothing lies behind the last grain");
    (guest, grains)
}

/// A descriptor in a file of its own, and the extents beside it.
fn read_text(path: &Path, file: &[u8]) -> Vmdk {
    let descriptor = String::from_utf8(file.to_vec()).unwrap();
    let keys = parse(&descriptor);
    let create_type = keys["createType"].as_str();
    let (mut guest, mut grains) = (Vec::new(), Vec::new());
    let lines = extents(&descriptor);
    let stem = path.file_stem().unwrap().to_str().unwrap().to_string();
    for (n, (sectors, kind, name, behind)) in lines.iter().enumerate() {
        let bytes = std::fs::read(path.parent().unwrap().join(name)).unwrap();
        let (want_kind, want_behind, letter) = match create_type {
            "vmfs" => ("VMFS", "", ""),
            "monolithicFlat" => ("FLAT", " 0", ""),
            "twoGbMaxExtentFlat" => ("FLAT", " 0", "f"),
            _ => ("SPARSE", "", "s"),
        };
        assert_eq!(
            (kind.as_str(), behind.as_str()),
            (want_kind, want_behind),
            "QEMU wants the offset of FLAT, and none of VMFS"
        );
        match letter {
            "" => assert_eq!(*name, format!("{stem}-flat.vmdk")),
            letter => {
                assert_eq!(*name, format!("{stem}-{letter}{:03}.vmdk", n + 1));
                assert!(*sectors == 4_192_256 || n + 1 == lines.len(), "pieces of 2047 MiB");
            }
        }
        if kind == "SPARSE" {
            assert_eq!(u64_at(&bytes, 28), 0, "a piece has no descriptor");
            let (part, stored) = read_sparse(&bytes);
            grains.extend(stored);
            guest.extend(part);
        } else {
            guest.extend(bytes);
        }
        assert_eq!(guest.len() as u64 / 512, lines[..=n].iter().map(|line| line.0).sum::<u64>());
    }
    Vmdk { guest, descriptor, keys, grains }
}

/// A stream, marker by marker from its first byte on, as an importer reads it; then its tables, held against the markers.
fn read_stream(file: &[u8]) -> Vmdk {
    assert_eq!(file.len() % 512, 0);
    let (capacity, overhead) = (u64_at(file, 12), u64_at(file, 64));
    let header = |h: &[u8], gd: u64| {
        assert_eq!(&h[..4], b"KDMV");
        assert_eq!((u32_at(h, 4), u32_at(h, 8)), (3, 0x3_0001), "version 3, or ESXi refuses it; no redundant tables");
        assert_eq!((u64_at(h, 12), u64_at(h, 20), u32_at(h, 44)), (capacity, 128, 512));
        assert_eq!((u64_at(h, 48), u64_at(h, 56), u64_at(h, 64)), (0, gd, 128));
        assert_eq!(&h[72..79], b"\0\n \r\n\x01\0");
        assert!(h[79..512].iter().all(|b| *b == 0));
    };
    header(file, u64::MAX);
    let descriptor = embedded(file);
    let lines = extents(&descriptor);
    assert_eq!((lines.len(), lines[0].0, lines[0].1.as_str()), (1, capacity, "SPARSE"));
    assert!(file[21 * 512..overhead as usize * 512].iter().all(|b| *b == 0));
    let mut guest = vec![0; (capacity * 512).next_multiple_of(65_536) as usize];
    let (mut at, mut grains, mut places, mut tables) = (overhead as usize * 512, Vec::new(), Vec::new(), Vec::new());
    let mut inflater = libdeflater::Decompressor::new();
    let directory_at = loop {
        let (value, size, kind) = (u64_at(file, at), u32_at(file, at + 8) as usize, u32_at(file, at + 12));
        if size > 0 {
            assert_eq!(value % 128, 0);
            let grain = value / 128;
            assert!(grains.last().is_none_or(|last| *last < grain), "grains ascend");
            let table = grain / 512;
            assert!(tables.iter().all(|(number, _)| *number < table), "a grain behind its table");
            let start = grain as usize * 65_536;
            let n =
                inflater.zlib_decompress(&file[at + 12..at + 12 + size], &mut guest[start..start + 65_536]).unwrap();
            assert_eq!(n, 65_536, "every grain inflates to a whole one");
            let mut cut = vec![0; 65_536];
            let cut = inflater.zlib_decompress(&file[at + 12..at + 11 + size], &mut cut);
            assert!(cut.is_err(), "nothing follows a grain's stream");
            assert!(guest[start..start + 65_536].iter().any(|b| *b != 0), "a grain of zeroes is stored");
            let end = at + 12 + size;
            assert!(file[end..end.next_multiple_of(512)].iter().all(|b| *b == 0), "padding");
            grains.push(grain);
            places.push((grain, at / 512));
            at = end.next_multiple_of(512);
            continue;
        }
        assert!(file[at + 16..at + 512].iter().all(|b| *b == 0), "a metadata marker is a sector");
        match kind {
            1 => {
                assert_eq!(value, 4);
                let table = places.last().unwrap().0 / 512;
                tables.push((table, at / 512 + 1));
                for n in 0..512 {
                    let want =
                        places.iter().find(|(grain, _)| *grain == table * 512 + n).map_or(0, |(_, place)| *place);
                    assert_eq!(u32_at(file, at + 512 + n as usize * 4) as usize, want, "table against markers");
                }
                at += 512 * 5;
            }
            2 => {
                let count = capacity.div_ceil(65_536);
                assert_eq!(value, (count * 4).div_ceil(512));
                for n in 0..count {
                    let want = tables.iter().find(|(table, _)| *table == n).map_or(0, |(_, place)| *place);
                    assert_eq!(u32_at(file, at + 512 + n as usize * 4) as usize, want, "directory against markers");
                }
                let directory = at / 512 + 1;
                at += 512 * (1 + value as usize);
                break directory;
            }
            other => panic!("marker of type {other} in the middle"),
        }
    };
    assert_eq!((u64_at(file, at), u32_at(file, at + 8), u32_at(file, at + 12)), (1, 0, 3), "the footer's marker");
    header(&file[at + 512..at + 1024], directory_at as u64);
    assert!(file[at + 1024..].iter().all(|b| *b == 0));
    assert_eq!(file.len(), at + 1536, "one sector of end, and nothing behind it");
    assert!(guest[capacity as usize * 512..].iter().all(|b| *b == 0));
    guest.truncate(capacity as usize * 512);
    let keys = parse(&descriptor);
    assert_eq!(keys["createType"], "streamOptimized");
    Vmdk { guest, descriptor, keys, grains }
}

/// What a streamOptimized VMDK lacks of what importers want of a stream (peers.md 2.1, case 16), whoever wrote it.
pub fn stream_lacks(file: &[u8]) -> Vec<&'static str> {
    let mut lacks = Vec::new();
    let mut wants = |there: bool, what: &'static str| {
        if !there && !lacks.contains(&what) {
            lacks.push(what);
        }
    };
    wants(u32_at(file, 8) & 2 == 0, "one set of tables");
    wants(u64_at(file, 56) == u64::MAX, "a directory behind the grains");
    let text = file[u64_at(file, 28) as usize * 512..][..u64_at(file, 36) as usize * 512].to_vec();
    let text = String::from_utf8_lossy(&text).into_owned();
    wants(text.contains("ddb.adapterType = \"lsilogic\""), "the adapter that importers assume");
    let (mut at, mut kinds, mut grain) = (u64_at(file, 64) as usize * 512, Vec::new(), vec![0; 65_536]);
    let mut inflater = libdeflater::Decompressor::new();
    while at + 512 <= file.len() {
        let (value, size, kind) = (u64_at(file, at), u32_at(file, at + 8) as usize, u32_at(file, at + 12));
        at += if size > 0 {
            let n = inflater.zlib_decompress(&file[at + 12..at + 12 + size], &mut grain).unwrap();
            wants(n == 65_536, "whole grains only");
            (12 + size).next_multiple_of(512)
        } else {
            kinds.push(kind);
            512 * (1 + value as usize)
        };
    }
    wants(kinds.contains(&1), "markers of tables");
    wants(kinds.contains(&2), "a marker of the directory");
    wants(kinds.contains(&3), "a footer");
    let ends = kinds.iter().filter(|kind| **kind == 0).count();
    wants(ends == 1 && kinds.last() == Some(&0) && at == file.len(), "one marker of the end, and nothing behind");
    lacks
}

/// A hosted sparse VMDK to be, built by the specification.
#[derive(Clone)]
pub struct Sparse {
    /// Sectors of the disk.
    pub capacity: u64,
    pub version: u32,
    pub flags: u32,
    /// Sectors in a grain.
    pub grain: u64,
    /// Entries in a table.
    pub gtes: u64,
    /// The embedded descriptor; empty: none.
    pub descriptor: String,
    /// Grains: `None` absent, `Some(empty)` entry 1, else data (padded with zeroes to the grain).
    pub grains: Vec<Option<Vec<u8>>>,
}

impl Sparse {
    /// A monolithicSparse disk of `guest`: all-zero grains are absent.
    pub fn of(guest: &[u8]) -> Sparse {
        let capacity = guest.len() as u64 / 512;
        let grains = guest.chunks(65_536).map(|g| g.iter().any(|b| *b != 0).then(|| g.to_vec())).collect();
        let descriptor = descriptor(
            "monolithicSparse",
            0x1234_5678,
            None,
            &format!("RW {capacity} SPARSE \"named-otherwise.vmdk\""),
        );
        Sparse { capacity, version: 1, flags: 3, grain: 128, gtes: 512, descriptor, grains }
    }

    pub fn tables(&self) -> u64 {
        self.capacity.div_ceil(self.grain).div_ceil(self.gtes)
    }

    fn gd_sectors(&self) -> u64 {
        (self.tables() * 4).div_ceil(512)
    }

    fn gt_sectors(&self) -> u64 {
        self.gtes * 4 / 512
    }

    fn descriptor_sectors(&self) -> u64 {
        if self.descriptor.is_empty() { 0 } else { 20 }
    }

    /// Sector of the redundant directory.
    pub fn rgd(&self) -> u64 {
        1 + self.descriptor_sectors()
    }

    /// Sector of the directory.
    pub fn gd(&self) -> u64 {
        self.rgd() + self.gd_sectors() + self.tables() * self.gt_sectors()
    }

    /// Sector of the first grain.
    pub fn overhead(&self) -> u64 {
        (self.gd() + self.gd_sectors() + self.tables() * self.gt_sectors()).next_multiple_of(self.grain)
    }

    /// Byte of a grain's entry in the table of the directory at sector `directory`.
    pub fn entry_at(&self, directory: u64, grain: u64) -> usize {
        let table = directory + self.gd_sectors() + grain / self.gtes * self.gt_sectors();
        (table * 512 + grain % self.gtes * 4) as usize
    }

    /// The whole file.
    pub fn build(&self) -> Vec<u8> {
        let mut file = vec![0; self.overhead() as usize * 512];
        let put = |file: &mut Vec<u8>, at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(&mut file, 0, b"KDMV");
        put(&mut file, 4, &self.version.to_le_bytes());
        put(&mut file, 8, &self.flags.to_le_bytes());
        put(&mut file, 12, &self.capacity.to_le_bytes());
        put(&mut file, 20, &self.grain.to_le_bytes());
        let described = u64::from(!self.descriptor.is_empty());
        put(&mut file, 28, &described.to_le_bytes());
        put(&mut file, 36, &self.descriptor_sectors().to_le_bytes());
        put(&mut file, 44, &(self.gtes as u32).to_le_bytes());
        put(&mut file, 48, &self.rgd().to_le_bytes());
        put(&mut file, 56, &self.gd().to_le_bytes());
        put(&mut file, 64, &self.overhead().to_le_bytes());
        put(&mut file, 73, b"\n \r\n");
        put(&mut file, 512, self.descriptor.as_bytes());
        for directory in [self.rgd(), self.gd()] {
            for table in 0..self.tables() {
                let sector = (directory + self.gd_sectors() + table * self.gt_sectors()) as u32;
                put(&mut file, (directory * 512 + table * 4) as usize, &sector.to_le_bytes());
            }
        }
        for (number, grain) in self.grains.iter().enumerate() {
            let Some(data) = grain else { continue };
            let mut entry = 1u32;
            if !data.is_empty() {
                entry = (file.len() / 512) as u32;
                file.extend(data);
                file.resize(entry as usize * 512 + self.grain as usize * 512, 0);
            }
            for directory in [self.rgd(), self.gd()] {
                put(&mut file, self.entry_at(directory, number as u64), &entry.to_le_bytes());
            }
        }
        file
    }
}

/// A descriptor by the specification; `parent`: its content id and name.
pub fn descriptor(create_type: &str, cid: u32, parent: Option<(u32, &str)>, extents: &str) -> String {
    let (parent_cid, hint) = match parent {
        Some((cid, name)) => (cid, format!("parentFileNameHint=\"{name}\"\n")),
        None => (u32::MAX, String::new()),
    };
    format!(
        "# Disk DescriptorFile\nversion=1\nCID={cid:08x}\nparentCID={parent_cid:08x}\ncreateType=\"{create_type}\"\n{hint}\n\
         # Extent description\n{extents}\n\n# The Disk Data Base\n#DDB\n\nddb.adapterType = \"lsilogic\"\n\
         ddb.geometry.cylinders = \"1\"\nddb.geometry.heads = \"4\"\nddb.geometry.sectors = \"2\"\nddb.virtualHWVersion = \"4\"\n"
    )
}
