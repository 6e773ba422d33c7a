//! The block allocation table entry by entry, the places of all blocks, and every sector bitmap.

mod bitmaps;

use std::collections::BTreeSet;

use byteorder::{BigEndian, ByteOrder};

use super::{batmap, gaps, id};
use crate::fault::Fault;
use crate::format::check::{Met, first_data};
use crate::format::vhd::bat::UNALLOCATED;
use crate::format::vhd::footer::DiskType;
use crate::format::vhd::header::{self, DynamicHeader, at};
use crate::format::vhd::locate::Located;
use crate::image::{Findings, Regions, SECTOR};
use crate::io::{InputFile, in_memory};

/// Bytes of the table that are read at once.
const READ: u64 = 256 << 10;
/// What a block's data begins on where disks have sectors of 4 KiB.
const ALIGNMENT: u64 = 4096;

/// What is known of the blocks that can be where their entries say, when all entries were looked at.
#[derive(Default)]
struct Seen {
    /// How many have their data off the alignment, and the first of them with its sector.
    unaligned: u64,
    first_unaligned: Option<(u64, u32)>,
    /// Sector of the last block that the disk has.
    last: Option<u32>,
}

/// A dynamic or differencing disk, swept from its table on.
pub struct Sweep<'a> {
    pub file: &'a InputFile,
    pub located: &'a Located,
    pub header: &'a DynamicHeader,
    /// Every stored byte is valid.
    pub ignore_bitmaps: bool,
}

impl Sweep<'_> {
    fn size(&self) -> u64 {
        self.located.footer.current_size / SECTOR * SECTOR
    }

    fn block_size(&self) -> u64 {
        self.header.block_size.into()
    }

    /// Entries that the disk needs.
    fn needed(&self) -> u64 {
        self.size().div_ceil(self.block_size())
    }

    /// Bytes of the disk in a block.
    fn data_of(&self, block: u64) -> u64 {
        self.size().saturating_sub(block.saturating_mul(self.block_size())).min(self.block_size())
    }

    fn byte_of(&self, block: u64) -> u64 {
        self.header.table_offset + block * 4
    }

    fn bitmap_len(&self) -> u64 {
        header::bitmap_len(self.header.block_size)
    }

    fn at_entry(&self, block: u64, sector: u32, what: &'static str) -> Fault {
        let found = format!("block {block} at byte {}", u64::from(sector) * SECTOR);
        Fault::damaged(self.file.name(), self.byte_of(block), what).found(found)
    }

    /// Looks at everything behind the header.
    pub fn look(&self, findings: &mut Findings) -> Result<(), Fault> {
        let (table, data_end) = (self.header.table_offset, self.located.data_end);
        let data_offset = self.located.footer.data_offset;
        let max = u64::from(self.header.max_table_entries);
        // As far as the file has it; the reader tells of a table that it lacks.
        let entries = max.min(data_end.saturating_sub(table) / 4);
        let table_end = table.saturating_add(max * 4).min(data_end);
        let mut regions = Regions::new(self.bitmap_len() + self.block_size(), SECTOR);
        regions.structure(0..SECTOR, "footer copy");
        regions.structure(data_offset..data_offset + header::LEN as u64, "dynamic header");
        if let Some(other) = regions.structure_in(&(table..table_end)).cloned() {
            findings.error(id::TABLE_OFFSET, || {
                let byte = data_offset + at::TABLE_OFFSET as u64;
                let what = "VHD block allocation table overlaps another structure";
                let overlap = Fault::damaged(self.file.name(), byte, what).found(format!("byte {table}"));
                overlap.against(format!("the {} lies there", other.name))
            });
            return Ok(());
        }
        // Padded to a sector; what stands in the padding nobody reads.
        regions.structure(table..table_end.next_multiple_of(SECTOR), "block allocation table");
        let batmap = batmap::find(self.file, self.located, table_end, findings)?;
        for span in batmap.iter().flat_map(batmap::Batmap::regions) {
            regions.structure(span, "batmap");
        }
        for locator in &self.header.locators {
            let end = locator.data_offset.saturating_add(locator.data_length.into());
            let end = end.checked_next_multiple_of(SECTOR).unwrap_or(end);
            regions.structure(locator.data_offset..end, "parent locator");
        }
        gaps::look_at_padding(self.file, table_end, findings)?;
        let mut seen = Seen::default();
        self.each_entry(entries, |block, sector| {
            self.look_at_entry(block, sector, &mut regions, &mut seen, findings);
            Ok(())
        })?;
        findings.count("table_entries", entries);
        findings.count("blocks", regions.units());
        regions.sort();
        let contested = regions.contested();
        self.look_at_overlaps(entries, &regions, &contested, findings)?;
        self.look_at_alignment(&seen, regions.units(), findings);
        if !self.file.is_block_device() {
            self.look_at_room(&mut regions, findings)?;
        }
        if let Some(batmap) = batmap {
            batmap.look(self.file, |each| self.each_entry(entries, each), findings)?;
        }
        let bits_count = self.located.footer.disk_type == DiskType::Dynamic && !self.ignore_bitmaps;
        if bits_count && !Regions::are_all(&contested) {
            findings.note(id::BITMAP_STALE, || {
                let what =
                    "VHD blocks lie on each other, too many to look at sector bitmaps: whose they are nobody knows";
                Fault::damaged(self.file.name(), table, what).found(format!("{} of them, and more", contested.len()))
            });
        } else if bits_count {
            self.each_entry(entries.min(self.needed()), |block, sector| {
                match contested.contains(&sector) {
                    // Whose bits these are nobody knows.
                    true => Ok(()),
                    false => self.look_at_bitmap(block, sector, &regions, findings),
                }
            })?;
        }
        if let Some(sector) = seen.last.filter(|sector| !contested.contains(sector)) {
            self.look_behind_the_end(sector, findings)?;
        }
        match self.file.is_block_device() {
            // Volumes have room behind their blocks.
            true => Ok(()),
            false => gaps::look(self.file, self.located, table_end, &mut regions, findings),
        }
    }

    /// Calls `each` for every allocated entry that can be read: block and sector.
    fn each_entry(&self, entries: u64, mut each: impl FnMut(u64, u32) -> Result<(), Fault>) -> Result<(), Fault> {
        let (mut first, mut buffer) = (0, Vec::new());
        while first < entries {
            let count = (entries - first).min(READ / 4);
            let at = self.byte_of(first);
            buffer.resize(in_memory(count * 4), 0);
            let unread = self.file.read_around(at, &mut buffer)?;
            for (block, entry) in (first..).zip(buffer.chunks_exact(4).map(BigEndian::read_u32)) {
                let byte = self.byte_of(block);
                let lost = unread.iter().any(|unread| byte < unread.bytes.end && unread.bytes.start < byte + 4);
                if entry != UNALLOCATED && !lost {
                    each(block, entry)?;
                }
            }
            first += count;
        }
        Ok(())
    }

    fn look_at_entry(&self, block: u64, sector: u32, regions: &mut Regions, seen: &mut Seen, findings: &mut Findings) {
        if block >= self.needed() {
            findings.error(id::BAT_SURPLUS, || {
                self.at_entry(block, sector, "VHD block behind the disk's end")
                    .against(format!("the disk has {} blocks", self.needed()))
            });
            return;
        }
        let (at, needed, data_end) = (u64::from(sector) * SECTOR, self.data_of(block), self.located.data_end);
        let data = at + self.bitmap_len();
        if let Some(other) = regions.structure_in(&(at..data + needed)) {
            let name = other.name;
            findings.error(id::BAT_MISPLACED, || {
                let over = self.at_entry(block, sector, "VHD block lies over another structure");
                over.against(format!("the {name} lies there"))
            });
            return;
        }
        if data > data_end {
            findings.error(id::BAT_OUTSIDE, || {
                let outside = self.at_entry(block, sector, "VHD block lies outside the file");
                outside.against(format!("data ends at {data_end}"))
            });
            return;
        }
        let stored = data_end - data;
        if stored < needed {
            findings.error(id::BLOCK_CUT, || {
                let cut =
                    Fault::damaged(self.file.name(), self.byte_of(block), "VHD block is cut by the end of the file");
                cut.found(format!("{stored} of {needed} bytes of block {block}"))
            });
        }
        regions.unit(sector);
        if !data.is_multiple_of(ALIGNMENT) {
            seen.unaligned += 1;
            seen.first_unaligned = seen.first_unaligned.or(Some((block, sector)));
        }
        if block + 1 == self.needed() {
            seen.last = Some(sector);
        }
    }

    fn look_at_overlaps(
        &self,
        entries: u64,
        regions: &Regions,
        contested: &BTreeSet<u32>,
        findings: &mut Findings,
    ) -> Result<(), Fault> {
        if regions.left_out() > 0 {
            findings.warning(id::BAT_OVERLAP, || {
                let what = "the VHD block allocation table is too large to look for overlaps to its end";
                Fault::damaged(self.file.name(), self.header.table_offset, what)
            });
        }
        if contested.is_empty() {
            return Ok(());
        }
        let mut met = Met::default();
        self.each_entry(entries.min(self.needed()), |block, sector| {
            if contested.contains(&sector)
                && let Some(other) = met.meet(sector, block, regions.reach())
            {
                findings.error(id::BAT_OVERLAP, || {
                    let overlaps = self.at_entry(block, sector, "VHD block lies where another block lies");
                    overlaps.against(format!("block {other} lies there, by the entry at byte {}", self.byte_of(other)))
                });
            }
            Ok(())
        })
    }

    /// Room for a block that no entry names, with data in it.
    fn look_at_room(&self, regions: &mut Regions, findings: &mut Findings) -> Result<(), Fault> {
        for gap in regions.gaps(self.bitmap_len() + self.block_size(), self.located.data_end) {
            let Some(byte) = first_data(self.file, gap.clone())? else { continue };
            findings.warning(id::UNREFERENCED, || {
                let what =
                    "the VHD holds data where no entry of its table leads: leftovers, or a block whose entry was lost";
                let room = Fault::damaged(self.file.name(), byte, what);
                room.found(format!("{} bytes that nothing names", gap.end - gap.start))
            });
            regions.structure(gap, "room that was told of");
        }
        Ok(())
    }

    /// Every read or write of the guest's 4 KiB costs two of a disk whose sectors they are.
    fn look_at_alignment(&self, seen: &Seen, blocks: u64, findings: &mut Findings) {
        if let Some((block, sector)) = seen.first_unaligned {
            findings.note(id::ALIGNMENT, || {
                let odd = self.at_entry(block, sector, "the data of a VHD block does not begin on 4 KiB");
                odd.against(format!("so {} of {blocks} blocks", seen.unaligned))
            });
        }
    }
}
