//! The dynamic disk header: 1,024 bytes at the footer's data offset.
//!
//! Source: "Virtual Hard Disk Image Format Specification" 1.0, section "Dynamic Disk Header Format". All big-endian.
//!
//! | offset | bytes | field               | reading                                                   |
//! |-------:|------:|---------------------|-----------------------------------------------------------|
//! |      0 |     8 | cookie              | must be `cxsparse`                                        |
//! |      8 |     8 | data offset         | not looked at; all ones are written                       |
//! |     16 |     8 | table offset        | byte of the block allocation table                        |
//! |     24 |     4 | header version      | major must be 1                                           |
//! |     28 |     4 | max table entries   | at least the blocks of the disk; more are ignored         |
//! |     32 |     4 | block size          | bytes, a power of two from 512 to 2 GiB                   |
//! |     36 |     4 | checksum            | as in the footer, over 1,024 bytes                        |
//! |     40 |    16 | parent unique id    | the footer's unique id of the parent; nil: a raw parent   |
//! |     56 |     4 | parent time stamp   | seconds since 2000; noted, since a copy has another       |
//! |     64 |   512 | parent unicode name | UTF-16, big-endian                                        |
//! |    576 |   192 | parent locators     | eight of them (see [`super::locator`])                    |

use std::path::Path;

use byteorder::{BigEndian, ByteOrder};
use uuid::Uuid;

use super::footer::checksum;
use super::locator::{self, Locator};
use crate::fault::{Fault, Kind};
use crate::image::SECTOR;
use crate::io::{InputFile, in_memory};

/// Length of the header in bytes.
pub const LEN: usize = 1024;
/// The first eight bytes.
pub const COOKIE: [u8; 8] = *b"cxsparse";
/// Major version 1.
const VERSION: u32 = 0x0001_0000;
/// The largest block that is read, in bytes.
const MAX_BLOCK: u32 = 1 << 31;

/// Field offsets, in the order of the table above.
pub mod at {
    pub const DATA_OFFSET: usize = 8;
    pub const TABLE_OFFSET: usize = 16;
    pub const VERSION: usize = 24;
    pub const MAX_TABLE_ENTRIES: usize = 28;
    pub const BLOCK_SIZE: usize = 32;
    pub const CHECKSUM: usize = 36;
    pub const PARENT_ID: usize = 40;
    pub const PARENT_TIME: usize = 56;
    pub const PARENT_NAME: usize = 64;
    pub const LOCATORS: usize = 576;
    pub const LOCATORS_END: usize = 768;
}

/// A header whose cookie, checksum, version and block size are right.
#[derive(Debug, Clone)]
pub struct DynamicHeader {
    /// Byte offset of the block allocation table.
    pub table_offset: u64,
    /// Entries of the table.
    pub max_table_entries: u32,
    /// Bytes of guest data in a block.
    pub block_size: u32,
    /// Identity of the parent; nil in a dynamic disk, and where the parent is a raw disk.
    pub parent_id: Uuid,
    /// When the parent was last written to, in seconds since 2000-01-01 UTC.
    pub parent_time: u32,
    /// The parent's file name; empty in a dynamic disk.
    pub parent_name: String,
    /// Where its names in the ways of several systems stand.
    pub locators: Vec<Locator>,
}

impl DynamicHeader {
    /// Parses and verifies. `base` is where `raw` begins in `file`; it serves messages only.
    pub fn parse(raw: &[u8; LEN], file: &Path, base: u64) -> Result<DynamicHeader, Fault> {
        if !raw.starts_with(&COOKIE) {
            return Err(Fault::damaged(file, base, "VHD dynamic header cookie")
                .found(raw[..8].escape_ascii())
                .expected("cxsparse"));
        }
        let (stored, computed) = (BigEndian::read_u32(&raw[at::CHECKSUM..]), checksum(raw, at::CHECKSUM));
        if stored != computed {
            return Err(Fault::damaged(file, base + at::CHECKSUM as u64, "VHD dynamic header checksum")
                .found(format!("{stored:#010x}"))
                .expected(format!("{computed:#010x}")));
        }
        let version = BigEndian::read_u32(&raw[at::VERSION..]);
        if version >> 16 != 1 {
            return Err(Fault::new(Kind::Unsupported, file, "VHD dynamic header version")
                .at(base + at::VERSION as u64)
                .found(format!("{version:#010x}"))
                .expected("0x00010000"));
        }
        let block_size = BigEndian::read_u32(&raw[at::BLOCK_SIZE..]);
        if !block_size.is_power_of_two() || !(512..=MAX_BLOCK).contains(&block_size) {
            return Err(Fault::damaged(file, base + at::BLOCK_SIZE as u64, "VHD block size")
                .found(block_size)
                .expected("a power of two from 512 to 2147483648"));
        }
        let name: Vec<u16> = raw[at::PARENT_NAME..at::LOCATORS]
            .chunks_exact(2)
            .map(BigEndian::read_u16)
            .take_while(|unit| *unit != 0)
            .collect();
        Ok(DynamicHeader {
            table_offset: BigEndian::read_u64(&raw[at::TABLE_OFFSET..]),
            max_table_entries: BigEndian::read_u32(&raw[at::MAX_TABLE_ENTRIES..]),
            block_size,
            parent_id: Uuid::from_bytes(raw[at::PARENT_ID..at::PARENT_TIME].first_chunk().copied().unwrap_or_default()),
            parent_time: BigEndian::read_u32(&raw[at::PARENT_TIME..]),
            parent_name: String::from_utf16_lossy(&name),
            locators: raw[at::LOCATORS..at::LOCATORS_END]
                .as_chunks::<{ locator::LEN }>()
                .0
                .iter()
                .zip((base + at::LOCATORS as u64..).step_by(locator::LEN))
                .filter_map(|(raw, byte)| Locator::parse(raw, byte))
                .collect(),
        })
    }
}

/// Reads the header at byte `at` of a file whose data ends at `data_end`.
pub fn read(file: &InputFile, at: u64, data_end: u64) -> Result<DynamicHeader, Fault> {
    let mut raw = [0; LEN];
    if at.checked_add(LEN as u64).is_none_or(|end| end > data_end) {
        return Err(Fault::new(Kind::Damaged, file.name(), "VHD dynamic header lies outside the file")
            .found(format!("data offset {at}"))
            .against(format!("data ends at {data_end}")));
    }
    file.read_exact(at, &mut raw)?;
    DynamicHeader::parse(&raw, file.name(), at)
}

/// What a child records of its parent; all empty in a dynamic disk.
#[derive(Default, Clone)]
pub struct NewParent {
    /// The parent's unique id.
    pub unique_id: Uuid,
    /// When it was last written to, in seconds since 2000-01-01 UTC.
    pub time_stamp: u32,
    /// Its file name.
    pub name: String,
    /// Code and text of each locator.
    pub locators: Vec<([u8; 4], Vec<u8>)>,
}

/// A header to be written.
pub struct NewHeader {
    /// Byte offset of the block allocation table.
    pub table_offset: u64,
    /// Entries of the table: exactly the blocks of the disk, since Azure and 7-Zip refuse any other number.
    pub max_table_entries: u32,
    /// Bytes of guest data in a block.
    pub block_size: u32,
    /// The parent.
    pub parent: NewParent,
    /// Byte at which the locators' texts stand, one behind the other, each padded to a sector.
    pub locators_at: u64,
}

impl NewHeader {
    /// Byte and text of each locator, padded.
    pub fn locator_texts(&self) -> Vec<(u64, Vec<u8>)> {
        let mut at = self.locators_at;
        let padded = self.parent.locators.iter().map(|(_, text)| {
            let mut text = text.clone();
            text.resize(text.len().next_multiple_of(in_memory(SECTOR)), 0);
            let place = at;
            at += text.len() as u64;
            (place, text)
        });
        padded.collect()
    }

    /// Bytes that the locators' texts take up.
    pub fn locators_len(&self) -> u64 {
        self.locator_texts().iter().map(|(_, text)| text.len() as u64).sum()
    }

    /// As it stands in the file.
    pub fn to_bytes(&self) -> [u8; LEN] {
        let mut raw = [0; LEN];
        raw[..8].copy_from_slice(&COOKIE);
        BigEndian::write_u64(&mut raw[at::DATA_OFFSET..], u64::MAX);
        BigEndian::write_u64(&mut raw[at::TABLE_OFFSET..], self.table_offset);
        BigEndian::write_u32(&mut raw[at::VERSION..], VERSION);
        BigEndian::write_u32(&mut raw[at::MAX_TABLE_ENTRIES..], self.max_table_entries);
        BigEndian::write_u32(&mut raw[at::BLOCK_SIZE..], self.block_size);
        raw[at::PARENT_ID..at::PARENT_TIME].copy_from_slice(self.parent.unique_id.as_bytes());
        BigEndian::write_u32(&mut raw[at::PARENT_TIME..], self.parent.time_stamp);
        // A name that is longer is cut at its end: the locators have it whole.
        let units = self.parent.name.encode_utf16();
        for (place, unit) in raw[at::PARENT_NAME..at::LOCATORS].chunks_exact_mut(2).zip(units) {
            BigEndian::write_u16(place, unit);
        }
        let entries = raw[at::LOCATORS..at::LOCATORS_END].as_chunks_mut::<{ locator::LEN }>().0;
        for ((entry, (code, text)), (place, padded)) in
            entries.iter_mut().zip(&self.parent.locators).zip(self.locator_texts())
        {
            *entry = locator::to_bytes(*code, text.len(), padded.len(), place);
        }
        let sum = checksum(&raw, at::CHECKSUM);
        BigEndian::write_u32(&mut raw[at::CHECKSUM..], sum);
        raw
    }
}

/// Bytes that the bitmap of a block of `block_size` bytes takes up in the file: a bit a sector, padded to a sector.
pub fn bitmap_len(block_size: u32) -> u64 {
    (u64::from(block_size) / SECTOR).div_ceil(8).next_multiple_of(SECTOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a 127 GiB disk by Hyper-V 2012 R2, whose checksum is known to be 0xFFFFF379.
    fn hyper_v() -> [u8; LEN] {
        let mut raw = [0; LEN];
        raw[..8].copy_from_slice(b"cxsparse");
        raw[8..16].fill(0xFF);
        BigEndian::write_u64(&mut raw[16..], 0x600);
        BigEndian::write_u32(&mut raw[24..], 0x0001_0000);
        BigEndian::write_u32(&mut raw[28..], 0xFE00);
        BigEndian::write_u32(&mut raw[32..], 0x0020_0000);
        BigEndian::write_u32(&mut raw[36..], 0xFFFF_F379);
        raw
    }

    #[test]
    fn hyper_vs_header_is_read() {
        let header = DynamicHeader::parse(&hyper_v(), Path::new("h.vhd"), 512).unwrap();
        assert_eq!((header.table_offset, header.max_table_entries, header.block_size), (0x600, 0xFE00, 2 << 20));
        assert_eq!(header.parent_name, "");
    }

    #[test]
    fn odd_block_sizes_and_a_wrong_checksum_are_refused_at_their_bytes() {
        let mut raw = hyper_v();
        raw[700] = 1;
        let fault = DynamicHeader::parse(&raw, Path::new("h.vhd"), 512).unwrap_err();
        assert_eq!(fault.byte(), Some(512 + 36));
        for size in [0u32, 256, 513, 3 << 20, 0xFFFF_FFFF] {
            let mut raw = hyper_v();
            BigEndian::write_u32(&mut raw[32..], size);
            let sum = checksum(&raw, 36);
            BigEndian::write_u32(&mut raw[36..], sum);
            let fault = DynamicHeader::parse(&raw, Path::new("h.vhd"), 512).unwrap_err();
            assert_eq!((fault.byte(), fault.field()), (Some(512 + 32), "VHD block size"), "{size}");
        }
    }
}
