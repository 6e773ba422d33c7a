//! Opens a VHD.

use std::sync::Arc;

use super::bat::BlockAllocationTable;
use super::blocks::{Blocks, Shape};
use super::footer::{self, DiskType};
use super::header::{self, DynamicHeader};
use super::locate::{Located, locate};
use super::tapdisk;
use crate::fault::{Fault, Kind};
use crate::format::Opening;
use crate::format::linear::{Linear, Rest};
use crate::image::{Adapter, Disk, Facts, SECTOR};
use crate::io::InputFile;

/// Sizes beyond this cannot be file offsets.
const MAX_SIZE: u64 = i64::MAX as u64 & !(SECTOR - 1);

/// True where the content is a VHD; an error where it claims to be one and cannot be trusted.
pub fn recognise(file: &InputFile) -> Result<bool, Fault> {
    Ok(locate(file, false)?.is_some())
}

/// Opens `file` as a VHD.
pub fn open(opening: &mut Opening<'_>, file: Arc<InputFile>) -> Result<Disk, Fault> {
    let Some(located) = locate(&file, opening.options.format.is_some())? else {
        return Err(Fault::new(Kind::NotThisFormat, file.name(), "no VHD footer, neither at the end nor at byte 0"));
    };
    let opening = &*opening;
    let vhd = Vhd { opening, file, located };
    vhd.located.warnings.iter().for_each(|warning| opening.ledger.warn(warning.clone()));
    let size = vhd.disk_size()?;
    if vhd.located.footer.saved_state {
        let warning = Fault::new(Kind::Locked, vhd.file.name(), "a saved machine state belongs to this disk")
            .at(vhd.located.at + footer::at::SAVED_STATE as u64)
            .advice("what the machine held in memory is not in the disk: start it and shut it down first");
        opening.ledger.warn(warning);
    }
    match vhd.located.footer.disk_type {
        DiskType::Fixed => vhd.fixed(size),
        DiskType::Dynamic => vhd.dynamic(size),
        DiskType::Differencing => Err(vhd.differencing()),
    }
}

/// A VHD whose footer was found.
struct Vhd<'a> {
    opening: &'a Opening<'a>,
    file: Arc<InputFile>,
    located: Located,
}

impl Vhd<'_> {
    /// A fault at a field of the footer that counts.
    fn footer_fault(&self, kind: Kind, field: usize, what: &'static str) -> Fault {
        Fault::new(kind, self.file.name(), what).at(self.located.at + field as u64)
    }

    /// A fault at a field of the dynamic header.
    fn header_fault(&self, field: usize, what: &'static str) -> Fault {
        Fault::damaged(self.file.name(), self.located.footer.data_offset + field as u64, what)
    }

    /// The current size in whole sectors.
    fn disk_size(&self) -> Result<u64, Fault> {
        let size = self.located.footer.current_size;
        let fault = |kind, what| self.footer_fault(kind, footer::at::CURRENT_SIZE, what).found(size);
        if size > MAX_SIZE {
            return Err(fault(Kind::OverLimit, "VHD current size").against(format!("{MAX_SIZE} at most")));
        }
        if size < SECTOR {
            return Err(fault(Kind::Damaged, "VHD current size").expected("at least one sector"));
        }
        if !size.is_multiple_of(SECTOR) {
            let warning = fault(Kind::Damaged, "VHD current size is no whole number of sectors");
            self.opening.ledger.warn(warning.against(format!("the last {} bytes are left out", size % SECTOR)));
        }
        Ok(size - size % SECTOR)
    }

    fn facts(&self, subformat: &'static str, size: u64, block_size: Option<u64>) -> Facts {
        let footer = &self.located.footer;
        Facts {
            subformat,
            uuid: Some(footer.unique_id).filter(|id| !id.is_nil()),
            geometry: Some(footer.geometry),
            usual_adapter: Some(Adapter::Ide),
            creator: Some(footer.creator()),
            created: Some(footer.created()),
            block_size,
            ..Facts::new(super::FORMAT.name, super::FORMAT.title, size)
        }
    }

    fn fixed(self, size: u64) -> Result<Disk, Fault> {
        let data_end = self.located.data_end;
        let short = Fault::damaged(self.file.name(), data_end, "the fixed VHD is cut short")
            .found(format!("{data_end} bytes of data"))
            .expected(size);
        let facts = self.facts("fixed", size, None);
        let layer = Linear::new(Arc::clone(&self.file), data_end.min(size), size, Rest::Lost(short));
        Disk::single(Arc::new(layer), facts, vec![self.file], Arc::clone(&self.opening.ledger))
    }

    fn header(&self) -> Result<DynamicHeader, Fault> {
        let Located { footer, at, data_end, .. } = &self.located;
        header::read(&self.file, footer.data_offset, *data_end).map_err(|fault| match fault.byte() {
            None => fault.at(at + footer::at::DATA_OFFSET as u64),
            Some(_) => fault,
        })
    }

    /// A child is refused by name, and its parent named: reading it alone would hand out zeroes for what the parent holds.
    fn differencing(&self) -> Fault {
        let what = "a differencing VHD: it holds only what differs from its parent";
        let fault = self
            .footer_fault(Kind::Unsupported, footer::at::DISK_TYPE, what)
            .advice("merge it into its parent first (Merge-VHD, VBoxManage clonemedium): this version reads no chains");
        match self.header().map(|header| header.parent_name).as_deref() {
            Ok("") | Err(_) => fault,
            Ok(parent) => fault.found(format!("parent {parent}")),
        }
    }

    fn dynamic(self, size: u64) -> Result<Disk, Fault> {
        let header = self.header()?;
        let (file, ledger) = (Arc::clone(&self.file), Arc::clone(&self.opening.ledger));
        let (data_offset, data_end) = (self.located.footer.data_offset, self.located.data_end);
        let block_size = u64::from(header.block_size);
        let blocks = size.div_ceil(block_size);
        let entries = u32::try_from(blocks).ok().filter(|n| *n <= header.max_table_entries).ok_or_else(|| {
            self.header_fault(header::at::MAX_TABLE_ENTRIES, "VHD max table entries")
                .found(header.max_table_entries)
                .expected(format!("at least {blocks} for a disk of {size} bytes"))
        })?;
        let table = header.table_offset;
        let end_of = |entries: u32| table.checked_add(u64::from(entries) * 4).filter(|end| *end <= data_end);
        let needed_end = end_of(entries).ok_or_else(|| {
            self.header_fault(header::at::TABLE_OFFSET, "VHD block allocation table lies outside the file")
                .found(format!("byte {table}, {entries} entries"))
                .against(format!("data ends at {data_end}"))
        })?;
        let mut taken =
            vec![(0..SECTOR, "footer copy"), (data_offset..data_offset + header::LEN as u64, "dynamic header")];
        if let Some((_, what)) = taken.iter().find(|(span, _)| span.start < needed_end && table < span.end) {
            let fault =
                self.header_fault(header::at::TABLE_OFFSET, "VHD block allocation table overlaps another structure");
            return Err(fault.found(format!("byte {table}")).against(format!("the {what} lies there")));
        }
        taken.push((table..needed_end, "block allocation table"));
        // What the disk does not need is nothing to lose: a block that lies there is odd, and read.
        let table_end = end_of(header.max_table_entries).unwrap_or(needed_end);
        let mut unread = vec![(needed_end..table_end, "unneeded part of the block allocation table")];
        let batmap = tapdisk::look(&file, &self.located.footer, table_end, data_end)?;
        unread.extend(batmap.into_iter().map(|span| (span, "batmap")));
        let bitmap_len = header::bitmap_len(header.block_size);
        let bat =
            BlockAllocationTable::new(Arc::clone(&file), Arc::clone(&ledger), table, entries, bitmap_len + block_size);
        let ignore_bitmaps = self.opening.options.ignore_bitmaps;
        let shape = Shape { size, block_size, bitmap_len, data_end, taken, unread, ignore_bitmaps };
        let layer = Blocks::new(Arc::clone(&file), Arc::clone(&ledger), shape, bat);
        Disk::single(Arc::new(layer), self.facts("dynamic", size, Some(block_size)), vec![file], ledger)
    }
}
