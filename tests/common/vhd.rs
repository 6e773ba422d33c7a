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
        f[56..60].copy_from_slice(&[0, 30, 4, 17]);
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
        self.locators_at() + self.locators.len() * 512
    }

    /// Byte of the bitmap of the `nth` allocated block, in the order of the table.
    pub fn block_at(&self, nth: usize) -> usize {
        self.first_block() + nth * (self.bitmap_len() + self.block_size as usize)
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
