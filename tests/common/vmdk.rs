//! Reads the VMDKs that vdconv writes, by the specification, slowly and strictly. Shares no code with the program.

use std::collections::BTreeMap;
use std::path::Path;

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

/// Reads a monolithicSparse or monolithicFlat disk; panics at the first thing that the specification or a strict reader would refuse.
pub fn read(path: &Path) -> Vmdk {
    let file = std::fs::read(path).unwrap();
    if file.starts_with(b"KDMV") { read_sparse(&file) } else { read_flat(path, &file) }
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    assert!(text.starts_with("# Disk DescriptorFile\nversion=1\n"), "QEMU looks for these two lines");
    assert!(text.contains("\n# Extent description\nRW "), "no line between the comment and the extent");
    assert!(text.contains("\n# The Disk Data Base\n"));
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.starts_with("RW ") && !l.is_empty()) {
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("no key: {line}"));
        let old = keys.insert(key.trim().to_string(), value.trim().trim_matches('"').to_string());
        assert!(old.is_none(), "twice: {line}");
    }
    assert_eq!(keys["parentCID"], "ffffffff");
    assert_eq!(keys["CID"].len(), 8);
    assert!(keys["ddb.longContentID"].ends_with(&keys["CID"]) && keys["ddb.longContentID"].len() == 32);
    keys
}

/// Access, sectors, type and file name of the one extent line.
fn extent(text: &str) -> (u64, String, String, String) {
    let lines: Vec<_> = text.lines().filter(|l| l.starts_with("RW ")).collect();
    assert_eq!(lines.len(), 1);
    let (front, rest) = lines[0].split_once('"').unwrap();
    let (name, behind) = rest.rsplit_once('"').unwrap();
    let words: Vec<_> = front.split(' ').collect();
    (words[1].parse().unwrap(), words[2].to_string(), name.to_string(), behind.to_string())
}

fn read_sparse(file: &[u8]) -> Vmdk {
    assert_eq!(u32_at(file, 4), 1, "version");
    assert_eq!(u32_at(file, 8), 3, "flags");
    let (capacity, grain) = (u64_at(file, 12), u64_at(file, 20));
    let (descriptor_at, descriptor_len) = (u64_at(file, 28) as usize * 512, u64_at(file, 36) as usize * 512);
    let (gtes, rgd, gd, overhead) = (u32_at(file, 44), u64_at(file, 48), u64_at(file, 56), u64_at(file, 64));
    assert_eq!((grain, gtes), (128, 512));
    assert_eq!(&file[72..79], b"\0\n \r\n\0\0", "clean, not mangled as text, not compressed");
    assert!(file[79..512].iter().all(|b| *b == 0));
    assert_eq!(file.len() as u64 % (grain * 512), 0, "the file ends with a whole grain");

    let area = &file[descriptor_at..descriptor_at + descriptor_len];
    let end = area.iter().position(|b| *b == 0).unwrap();
    assert!(area[end..].iter().all(|b| *b == 0));
    let descriptor = String::from_utf8(area[..end].to_vec()).unwrap();
    let (sectors, kind, _, behind) = extent(&descriptor);
    assert_eq!((sectors, kind.as_str(), behind.as_str()), (capacity, "SPARSE", ""));

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
    let keys = parse(&descriptor);
    assert_eq!(keys["createType"], "monolithicSparse");
    Vmdk { guest, descriptor, keys, grains }
}

fn read_flat(path: &Path, file: &[u8]) -> Vmdk {
    let descriptor = String::from_utf8(file.to_vec()).unwrap();
    let (sectors, kind, name, behind) = extent(&descriptor);
    assert_eq!((kind.as_str(), behind.as_str()), ("FLAT", " 0"), "QEMU wants the offset");
    let guest = std::fs::read(path.parent().unwrap().join(&name)).unwrap();
    assert_eq!(guest.len() as u64, sectors * 512);
    let keys = parse(&descriptor);
    assert_eq!(keys["createType"], "monolithicFlat");
    Vmdk { guest, descriptor, keys, grains: Vec::new() }
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
         ddb.geometry.cylinders = \"1\"\nddb.geometry.heads = \"64\"\nddb.geometry.sectors = \"32\"\nddb.virtualHWVersion = \"4\"\n"
    )
}
