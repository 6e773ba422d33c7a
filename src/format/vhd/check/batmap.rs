//! XenServer's batmap: a map of the blocks that are stored whole, behind the table.
//!
//! Source: blktap, vhd/lib/libvhd.c. Its header: `tdbatmap`, byte of the map (8), its sectors (4), version (4), checksum (4). The checksum
//! covers the first bytes of the map, a bit for each 2 MiB of the disk, in whole sectors.

use std::ops::Range;

use byteorder::{BigEndian, ByteOrder};

use super::id;
use crate::fault::Fault;
use crate::format::vhd::footer::checksum;
use crate::format::vhd::locate::Located;
use crate::image::{Findings, SECTOR};
use crate::io::{InputFile, in_memory};

const COOKIE: [u8; 8] = *b"tdbatmap";
/// The creator version from which on tapdisk writes one.
const SINCE: u32 = 0x0001_0002;
/// Up to this version bytes are summed with their sign.
const SIGNED: u32 = 0x0001_0001;
/// A map of 2^32 blocks has 512 MiB; no disk of tapdisk's has more than this.
const MOST: u64 = 16 << 20;

mod at {
    pub const OFFSET: usize = 8;
    pub const SECTORS: usize = 16;
    pub const VERSION: usize = 20;
    pub const CHECKSUM: usize = 24;
}

/// A batmap whose header is right.
pub struct Batmap {
    at: u64,
    map: Range<u64>,
    version: u32,
    checksum: u32,
    /// Bytes of the map that its checksum covers.
    summed: u64,
}

/// Looks for it where tapdisk puts it; what is wrong with its header is told.
pub fn find(
    file: &InputFile,
    located: &Located,
    table_end: u64,
    findings: &mut Findings,
) -> Result<Option<Batmap>, Fault> {
    let footer = &located.footer;
    if !footer.creator_application.starts_with(b"tap") {
        return Ok(None);
    }
    let (at, mut raw) = (table_end.next_multiple_of(SECTOR), [0; 512]);
    let there = at.saturating_add(SECTOR) <= located.data_end && file.read_around(at, &mut raw)?.is_empty();
    if !there || !raw.starts_with(&COOKIE) {
        if footer.creator_version >= SINCE {
            findings.error(id::BATMAP, || {
                Fault::damaged(file.name(), at, "XenServer's batmap is not there").expected("tdbatmap")
            });
        }
        return Ok(None);
    }
    let start = BigEndian::read_u64(&raw[at::OFFSET..]);
    let len = u64::from(BigEndian::read_u32(&raw[at::SECTORS..])) * SECTOR;
    let summed = (footer.current_size >> 24).next_multiple_of(SECTOR).max(SECTOR);
    let end = start
        .checked_add(len)
        .filter(|end| *end <= located.data_end && start >= at + SECTOR && len <= MOST && summed <= len);
    let Some(end) = end else {
        findings.error(id::BATMAP, || {
            let outside = Fault::damaged(file.name(), at + at::OFFSET as u64, "XenServer's batmap: place and length");
            outside
                .found(format!("{len} bytes at byte {start}"))
                .expected(format!("{summed} bytes or more behind its header"))
        });
        return Ok(None);
    };
    let (version, checksum) = (BigEndian::read_u32(&raw[at::VERSION..]), BigEndian::read_u32(&raw[at::CHECKSUM..]));
    Ok(Some(Batmap { at, map: start..end, version, checksum, summed }))
}

impl Batmap {
    /// What it takes up of the file.
    pub fn regions(&self) -> [Range<u64>; 2] {
        [self.at..self.at + SECTOR, self.map.clone()]
    }

    /// Its checksum, and whether each block of it is allocated. `entries` gives all allocated blocks.
    pub fn look(
        &self,
        file: &InputFile,
        entries: impl FnOnce(&mut dyn FnMut(u64, u32) -> Result<(), Fault>) -> Result<(), Fault>,
        findings: &mut Findings,
    ) -> Result<(), Fault> {
        let mut map = vec![0; in_memory(self.map.end - self.map.start)];
        if !file.read_around(self.map.start, &mut map)?.is_empty() {
            return Ok(());
        }
        let summed = map.get(..in_memory(self.summed)).unwrap_or_default();
        let computed = match self.version {
            SIGNED => !summed.iter().fold(0u32, |sum, byte| sum.wrapping_add_signed(i32::from(byte.cast_signed()))),
            _ => checksum(summed, usize::MAX - 4),
        };
        if computed != self.checksum {
            findings.error(id::BATMAP, || {
                let wrong = Fault::damaged(file.name(), self.at + at::CHECKSUM as u64, "XenServer's batmap: checksum");
                wrong.found(format!("{:#010x}", self.checksum)).expected(format!("{computed:#010x}"))
            });
        }
        entries(&mut |block, _| {
            if let Some(byte) = map.get_mut(in_memory(block / 8)) {
                *byte &= !(0x80 >> (block % 8));
            }
            Ok(())
        })?;
        if let Some(byte) = map.iter().position(|byte| *byte != 0) {
            let bit = map.get(byte).map_or(0, |byte| u64::from(byte.leading_zeros()));
            findings.error(id::BATMAP, || {
                let what = "XenServer's batmap says that a block is whole which is not allocated";
                Fault::damaged(file.name(), self.map.start + byte as u64, what)
                    .found(format!("block {}", byte as u64 * 8 + bit))
            });
        }
        Ok(())
    }
}
