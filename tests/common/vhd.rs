//! Builds VHDs by the specification, field by field, so that a test can break any of them.

use std::collections::BTreeMap;

/// A VHD to be.
#[derive(Debug, Clone)]
pub struct Vhd {
    /// Bytes of the disk.
    pub size: u64,
    /// 2 fixed, 3 dynamic, 4 differencing.
    pub disk_type: u32,
    pub creator: [u8; 4],
    pub creator_version: u32,
    pub saved_state: u8,
    pub unique_id: [u8; 16],
    pub block_size: u32,
    /// Allocated blocks: index, data (padded with zeroes to the block), bitmap (`None`: all set).
    pub blocks: BTreeMap<u32, (Vec<u8>, Option<Vec<u8>>)>,
    /// Entries of the table; `None`: as many as there are blocks.
    pub max_table_entries: Option<u32>,
    /// UTF-16 name of the parent.
    pub parent_name: String,
    pub parent_id: [u8; 16],
    /// Code and text of the parent's locators.
    pub locators: Vec<([u8; 4], Vec<u8>)>,
    /// What each block's data begins on, in bytes.
    pub align: usize,
}

impl Vhd {
    /// A dynamic disk without a block.
    pub fn dynamic(size: u64, block_size: u32) -> Vhd {
        Vhd {
            size,
            disk_type: 3,
            creator: *b"win ",
            creator_version: 0x000A_0000,
            saved_state: 0,
            unique_id: *b"0123456789abcdef",
            block_size,
            blocks: BTreeMap::new(),
            max_table_entries: None,
            parent_name: String::new(),
            parent_id: [0; 16],
            locators: Vec::new(),
            align: 512,
        }
    }

    /// A dynamic disk that holds `guest`; blocks that are all zero are left out.
    pub fn dynamic_of(guest: &[u8], block_size: u32) -> Vhd {
        let mut vhd = Vhd::dynamic(guest.len() as u64, block_size);
        for (index, block) in guest.chunks(block_size as usize).enumerate() {
            if block.iter().any(|b| *b != 0) {
                vhd.blocks.insert(index as u32, (block.to_vec(), None));
            }
        }
        vhd
    }

    /// The footer.
    pub fn footer(&self) -> [u8; 512] {
        let mut f = [0; 512];
        f[0..8].copy_from_slice(b"conectix");
        f[8..12].copy_from_slice(&2u32.to_be_bytes());
        f[12..16].copy_from_slice(&0x0001_0000u32.to_be_bytes());
        let data_offset = if self.disk_type == 2 { u64::MAX } else { 512 };
        f[16..24].copy_from_slice(&data_offset.to_be_bytes());
        f[24..28].copy_from_slice(&0x2000_0000u32.to_be_bytes());
        f[28..32].copy_from_slice(&self.creator);
        f[32..36].copy_from_slice(&self.creator_version.to_be_bytes());
        f[36..40].copy_from_slice(b"Wi2k");
        f[40..48].copy_from_slice(&self.size.to_be_bytes());
        f[48..56].copy_from_slice(&self.size.to_be_bytes());
        f[56..60].copy_from_slice(&(geometry(self.size) as u32).to_be_bytes());
        f[60..64].copy_from_slice(&self.disk_type.to_be_bytes());
        f[68..84].copy_from_slice(&self.unique_id);
        f[84] = self.saved_state;
        seal(&mut f, 64);
        f
    }

    /// The dynamic header.
    pub fn header(&self) -> [u8; 1024] {
        let mut h = [0; 1024];
        h[0..8].copy_from_slice(b"cxsparse");
        h[8..16].fill(0xFF);
        h[16..24].copy_from_slice(&1536u64.to_be_bytes());
        h[24..28].copy_from_slice(&0x0001_0000u32.to_be_bytes());
        h[28..32].copy_from_slice(&self.entries().to_be_bytes());
        h[32..36].copy_from_slice(&self.block_size.to_be_bytes());
        for (place, unit) in h[64..576].chunks_exact_mut(2).zip(self.parent_name.encode_utf16()) {
            place.copy_from_slice(&unit.to_be_bytes());
        }
        h[40..56].copy_from_slice(&self.parent_id);
        for (n, (code, text)) in self.locators.iter().enumerate() {
            let entry = &mut h[576 + n * 24..][..24];
            entry[..4].copy_from_slice(code);
            entry[4..8].copy_from_slice(&512u32.to_be_bytes());
            entry[8..12].copy_from_slice(&(text.len() as u32).to_be_bytes());
            entry[16..24].copy_from_slice(&(self.locators_at() as u64 + n as u64 * 512).to_be_bytes());
        }
        seal(&mut h, 36);
        h
    }

    /// A child of `parent` whose sectors are its own where `own` says so; the rest of its blocks is filled with stale bytes.
    pub fn child_of(parent: &Vhd, guest: &[u8], block_size: u32, own: impl Fn(u64) -> bool) -> Vhd {
        let mut vhd = Vhd::dynamic(guest.len() as u64, block_size);
        (vhd.disk_type, vhd.parent_id) = (4, parent.unique_id);
        let per_block = u64::from(block_size) / 512;
        for (index, block) in guest.chunks(block_size as usize).enumerate() {
            let first = index as u64 * per_block;
            if !(first..first + per_block).any(&own) {
                continue;
            }
            let (mut data, mut bits) = (vec![0xDB; block_size as usize], vec![0u8; (per_block as usize).div_ceil(8)]);
            for (n, sector) in block.chunks(512).enumerate().filter(|(n, _)| own(first + *n as u64)) {
                data[n * 512..][..512].copy_from_slice(sector);
                bits[n / 8] |= 0x80 >> (n % 8);
            }
            vhd.blocks.insert(index as u32, (data, Some(bits)));
        }
        vhd
    }

    /// Byte of the first locator's text.
    fn locators_at(&self) -> usize {
        (1536 + self.entries() as usize * 4).next_multiple_of(512)
    }

    pub fn entries(&self) -> u32 {
        self.max_table_entries.unwrap_or(self.size.div_ceil(u64::from(self.block_size)) as u32)
    }

    /// Bytes of a block's bitmap in the file.
    pub fn bitmap_len(&self) -> usize {
        (self.block_size as usize / 512).div_ceil(8).next_multiple_of(512)
    }

    /// Byte of the first block.
    pub fn first_block(&self) -> usize {
        self.place_of_block(self.locators_at() + self.locators.len() * 512)
    }

    /// The first place from byte `from` on for a block.
    fn place_of_block(&self, from: usize) -> usize {
        (from + self.bitmap_len()).next_multiple_of(self.align) - self.bitmap_len()
    }

    /// Byte of the bitmap of the `nth` allocated block, in the order of the table.
    pub fn block_at(&self, nth: usize) -> usize {
        (0..nth)
            .fold(self.first_block(), |at, _| self.place_of_block(at + self.bitmap_len() + self.block_size as usize))
    }

    /// The whole file.
    pub fn build(&self) -> Vec<u8> {
        if self.disk_type == 2 {
            let mut file: Vec<u8> = self.blocks.get(&0).map(|(data, _)| data.clone()).unwrap_or_default();
            file.resize(self.size as usize, 0);
            file.extend(self.footer());
            return file;
        }
        let mut file = self.footer().to_vec();
        file.extend(self.header());
        let mut table = vec![0xFF; self.locators_at() - 1536];
        for (nth, index) in self.blocks.keys().enumerate() {
            let sector = (self.block_at(nth) / 512) as u32;
            table[*index as usize * 4..][..4].copy_from_slice(&sector.to_be_bytes());
        }
        file.extend(table);
        for (_, text) in &self.locators {
            file.extend(text);
            file.resize(file.len().next_multiple_of(512), 0);
        }
        for (data, bitmap) in self.blocks.values() {
            file.resize(self.place_of_block(file.len()), 0);
            let mut bits = bitmap.clone().unwrap_or_else(|| vec![0xFF; self.block_size as usize / 512 / 8 + 1]);
            bits.resize(self.bitmap_len(), 0);
            file.extend(bits);
            let mut data = data.clone();
            data.resize(self.block_size as usize, 0);
            file.extend(data);
        }
        file.extend(self.footer());
        file
    }

    /// A fixed disk that holds `guest`.
    pub fn fixed_of(guest: &[u8]) -> Vhd {
        let mut vhd = Vhd::dynamic(guest.len() as u64, 0x20_0000);
        vhd.disk_type = 2;
        vhd.blocks.insert(0, (guest.to_vec(), None));
        vhd
    }
}

/// A locator in UTF-16, as Windows has them.
pub fn locator(code: &[u8; 4], text: &str) -> ([u8; 4], Vec<u8>) {
    (*code, text.encode_utf16().flat_map(u16::to_le_bytes).collect())
}

/// Writes the checksum of a structure into its field.
pub fn seal(bytes: &mut [u8], field: usize) {
    bytes[field..field + 4].fill(0);
    let sum = bytes.iter().fold(0u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    bytes[field..field + 4].copy_from_slice(&(!sum).to_be_bytes());
}

/// A VHD, read whole by a reader that takes nothing but what the strictest reader in the field takes.
pub struct Strict {
    /// Bytes of the disk; sectors that are the parent's come from there.
    pub guest: Vec<u8>,
    pub disk_type: u32,
    pub unique_id: [u8; 16],
    pub parent_id: [u8; 16],
    /// Code and text of the parent's locators.
    pub locators: Vec<([u8; 4], String)>,
    pub parent_name: String,
    pub time_stamp: u32,
    /// The sectors that the file itself stores.
    pub stored: Vec<u64>,
    /// Bytes of the blocks' data in the file.
    pub data_at: Vec<u64>,
}

fn be(b: &[u8], at: usize, len: usize) -> u64 {
    b[at..at + len].iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn sum_fits(bytes: &[u8], field: usize) -> bool {
    let mut copy = bytes.to_vec();
    seal(&mut copy, field);
    copy == bytes
}

/// The geometry of the specification's appendix, as one number: cylinders, heads, sectors.
fn geometry(size: u64) -> u64 {
    let total = (size / 512).min(65_535 * 16 * 255);
    let (cylinder_heads, heads, sectors);
    if total >= 65_535 * 16 * 63 {
        (cylinder_heads, heads, sectors) = (total / 255, 16, 255);
    } else {
        let (mut s, mut ch) = (17, total / 17);
        let mut h = ch.div_ceil(1024).max(4);
        if ch >= h * 1024 || h > 16 {
            (s, h, ch) = (31, 16, total / 31);
        }
        if ch >= h * 1024 {
            (s, h, ch) = (63, 16, total / 63);
        }
        (cylinder_heads, heads, sectors) = (ch, h, s);
    }
    ((cylinder_heads / heads) << 16) | (heads << 8) | sectors
}

/// Reads a VHD by the rules of Xen's checker (`vhd-util check`, libvhd), of 7-Zip, Azure and xen-orchestra; panics at the first that is
/// broken. `parent`: the guest of a differencing disk's parent.
pub fn strict(file: &[u8], parent: Option<&[u8]>) -> Strict {
    assert_eq!(file.len() % 512, 0, "a whole number of sectors");
    let footer = &file[file.len() - 512..];
    assert_eq!(&footer[..8], b"conectix");
    assert!(sum_fits(footer, 64), "checksum of the footer");
    assert_eq!(be(footer, 8, 4), 2, "features: the reserved bit, and no other");
    assert_eq!(be(footer, 12, 4), 0x0001_0000, "version");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() - 946_684_800;
    assert!(be(footer, 24, 4) <= now + 1800, "a time in the future");
    // QEMU 7 cuts the disks of creators that it does not know to their geometry.
    assert_eq!(&footer[28..32], b"win ");
    assert_eq!(&footer[36..40], b"Wi2k");
    let size = be(footer, 48, 8);
    assert_eq!(be(footer, 40, 8), size, "original size");
    assert!(size > 0 && size.is_multiple_of(512) && size <= 2040 << 30);
    assert_eq!(be(footer, 56, 4), geometry(size), "geometry");
    let disk_type = be(footer, 60, 4) as u32;
    let unique_id: [u8; 16] = footer[68..84].try_into().unwrap();
    assert_ne!(unique_id, [0; 16], "unique id");
    assert!(footer[84..].iter().all(|byte| *byte == 0), "saved state, hidden and reserved bytes");
    let mut read = Strict {
        guest: parent.map_or(vec![0; size as usize], <[u8]>::to_vec),
        disk_type,
        unique_id,
        parent_id: [0; 16],
        locators: Vec::new(),
        parent_name: String::new(),
        time_stamp: be(footer, 24, 4) as u32,
        stored: Vec::new(),
        data_at: Vec::new(),
    };
    assert_eq!(read.guest.len() as u64, size);
    if disk_type == 2 {
        assert_eq!(be(footer, 16, 8), u64::MAX, "data offset of a fixed disk");
        assert_eq!(file.len() as u64, size + 512, "Azure wants the disk and its footer, nothing else");
        read.guest.copy_from_slice(&file[..size as usize]);
        return read;
    }
    assert!(disk_type == 3 || disk_type == 4);
    assert_eq!(&file[..512], footer, "the copy at the head");
    assert_eq!(be(footer, 16, 8), 512, "data offset, as xen-orchestra wants it");
    let header = &file[512..1536];
    assert_eq!(&header[..8], b"cxsparse");
    assert!(sum_fits(header, 36), "checksum of the header");
    assert_eq!(be(header, 8, 8), u64::MAX);
    assert_eq!(be(header, 24, 4), 0x0001_0000);
    let (table, entries, block) = (be(header, 16, 8), be(header, 28, 4), be(header, 32, 4));
    assert!(table == 1536 && [512 << 10, 1 << 20, 2 << 20].contains(&block));
    assert_eq!(entries, size.div_ceil(block), "7-Zip and Azure take no other number of entries");
    assert!(header[60..64].iter().chain(&header[768..]).all(|byte| *byte == 0), "reserved");
    let mut taken = vec![(0, 1536), (table, (table + entries * 4).next_multiple_of(512))];
    match disk_type {
        3 => assert!(header[40..768].iter().all(|byte| *byte == 0), "a parent of a disk that has none"),
        _ => {
            read.parent_id = header[40..56].try_into().unwrap();
            assert_ne!(read.parent_id, [0; 16]);
            assert!(be(header, 56, 4) <= now + 1800, "the parent's time in the future");
            let units: Vec<u16> = header[64..576].chunks(2).map(|u| be(u, 0, 2) as u16).collect();
            read.parent_name = String::from_utf16(units.split(|u| *u == 0).next().unwrap()).unwrap();
            for entry in header[576..768].chunks(24) {
                let (space, len, at) = (be(entry, 4, 4), be(entry, 8, 4), be(entry, 16, 8));
                if be(entry, 0, 4) == 0 {
                    assert!(entry.iter().all(|byte| *byte == 0));
                    continue;
                }
                assert!(space % 512 == 0 && len > 0 && len <= space && be(entry, 12, 4) == 0);
                let text = &file[at as usize..][..len as usize];
                let units: Vec<u16> = text.chunks(2).map(|u| u16::from_le_bytes(u.try_into().unwrap())).collect();
                let code = entry[..4].try_into().unwrap();
                assert!(read.locators.iter().all(|(other, _)| *other != code), "one locator of a kind");
                read.locators.push((code, String::from_utf16(&units).unwrap()));
                taken.push((at, at + space));
            }
        }
    }
    let padding = &file[(table + entries * 4) as usize..(table + entries * 4).next_multiple_of(512) as usize];
    assert!(padding.iter().all(|byte| *byte == 0xFF), "the table's padding");
    let mut last = 0;
    for index in 0..entries {
        let sector = be(file, (table + index * 4) as usize, 4);
        if sector == 0xFFFF_FFFF {
            continue;
        }
        assert!(sector > last, "blocks lie in guest order");
        last = sector;
        let at = sector * 512;
        taken.push((at, at + 512 + block));
        read.data_at.push(at + 512);
        let bits = &file[at as usize..at as usize + 512];
        let mut set = 0;
        for n in 0..block / 512 {
            let (guest, data) = ((index * block + n * 512) as usize, (at + 512 + n * 512) as usize);
            let is_set = bits[n as usize / 8] & 0x80 >> (n % 8) != 0;
            let stored = &file[data..data + 512];
            if guest as u64 >= size {
                assert!(!is_set && stored.iter().all(|byte| *byte == 0), "behind the disk's end");
            } else if is_set {
                set += 1;
                read.guest[guest..guest + 512].copy_from_slice(stored);
                read.stored.push(guest as u64 / 512);
            } else {
                assert_eq!(disk_type, 4, "a clear bit in a dynamic disk");
                assert!(stored.iter().all(|byte| *byte == 0), "bytes under a clear bit");
            }
        }
        assert!(set > 0, "a block without a sector");
    }
    taken.sort_unstable();
    assert!(taken.windows(2).all(|pair| pair[0].1 <= pair[1].0), "structures overlap: {taken:?}");
    assert_eq!(
        taken.last().unwrap().1,
        file.len() as u64 - 512,
        "nothing lies in front of the footer but the last block"
    );
    read
}
