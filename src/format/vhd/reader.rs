//! Opens a VHD.

use std::sync::Arc;

use super::bat::BlockAllocationTable;
use super::blocks::{Blocks, Shape};
use super::footer::{self, DiskType};
use super::header::{self, DynamicHeader};
use super::locate::{Located, locate};
use super::parent::{Child, Parent};
use super::tapdisk;
use crate::fault::{Fault, Kind};
use crate::format::Opening;
use crate::format::chain::{Link, Links};
use crate::format::linear::{Linear, Rest};
use crate::image::{Adapter, Disk, Facts, Layer, SECTOR};
use crate::io::InputFile;

/// Sizes beyond this cannot be file offsets.
const MAX_SIZE: u64 = i64::MAX as u64 & !(SECTOR - 1);

/// True where the content is a VHD; an error where it claims to be one and cannot be trusted.
pub fn recognise(file: &InputFile) -> Result<bool, Fault> {
    Ok(locate(file, false)?.is_some())
}

/// Opens `file` as a VHD, with its parents.
pub fn open(opening: &mut Opening<'_>, file: Arc<InputFile>) -> Result<Disk, Fault> {
    let Some(located) = locate(&file, opening.options.format.is_some())? else {
        return Err(Fault::new(Kind::NotThisFormat, file.name(), "no VHD footer, neither at the end nor at byte 0"));
    };
    let mut links = Links::default();
    let mut next = Some(Parent { file, located: Some(located) });
    while let Some(Parent { file, located }) = next.take() {
        links.enter(opening, &file)?;
        let Some(located) = located else {
            links.push(raw_parent(file)?, Vec::new());
            break;
        };
        let vhd = Vhd { opening: &*opening, file, located, is_parent: links.depth() > 0 };
        let (link, header) = vhd.link()?;
        let (depth, header_at, file) = (links.depth(), vhd.located.footer.data_offset, vhd.file);
        links.push(link, Vec::new());
        let Some(header) = header else { break };
        let found = Child { file: &file, header: &header, header_at }.parent(opening, depth);
        next = links.parent(opening.options, found.map(Some))?;
        if let Some(parent) = &next {
            warn_of_time(opening, &file, &header, header_at, &parent.file);
        }
    }
    links.disk(&opening.ledger)
}

/// A warning where the parent was written to since the child was made, or is a copy: its identity does not change with its content, so
/// that the time is the only sign.
fn warn_of_time(opening: &Opening<'_>, child: &InputFile, header: &DynamicHeader, header_at: u64, parent: &InputFile) {
    let Some(found) = parent.modified().map(footer::time_stamp) else { return };
    let recorded = header.parent_time;
    // File systems of removable media count in twos.
    if recorded == 0 || found.abs_diff(recorded) <= 2 {
        return;
    }
    let at = header_at + header::at::PARENT_TIME as u64;
    let what = "the parent was written to since the differencing VHD was made, or is a copy";
    let show = |time| humantime::format_rfc3339_seconds(footer::time_of(time)).to_string();
    let warning = Fault::new(Kind::Changed, child.name(), what).at(at);
    let warning = warning.found(format!("{} was written {}", parent.name().display(), show(found)));
    opening.ledger.warn(warning.against(format!("recorded: {}", show(recorded))));
}

/// A parent that is no VHD, which XenServer allows; one that is no whole number of sectors is padded with zeroes, as every raw disk.
fn raw_parent(file: Arc<InputFile>) -> Result<Link, Fault> {
    let size = file.len().next_multiple_of(SECTOR);
    let facts = Facts::new(super::FORMAT.name, super::FORMAT.title, size);
    let layer = Linear::new(Arc::clone(&file), file.len(), size, Rest::Zero);
    Ok(Link { layer: Arc::new(layer), facts, files: vec![Arc::clone(&file)], file })
}

/// A VHD whose footer was found.
struct Vhd<'a> {
    opening: &'a Opening<'a>,
    file: Arc<InputFile>,
    located: Located,
    /// A child lies on top, and asks for a part of the blocks alone.
    is_parent: bool,
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

    /// The image alone; and its header, where it has a parent.
    fn link(&self) -> Result<(Link, Option<DynamicHeader>), Fault> {
        let ledger = &self.opening.ledger;
        self.located.warnings.iter().for_each(|warning| ledger.warn(warning.clone()));
        let size = self.disk_size()?;
        if self.located.footer.saved_state {
            let warning = Fault::new(Kind::Locked, self.file.name(), "a saved machine state belongs to this disk")
                .at(self.located.at + footer::at::SAVED_STATE as u64)
                .advice("what the machine held in memory is not in the disk: start it and shut it down first");
            ledger.warn(warning);
        }
        let (layer, facts, header): (Arc<dyn Layer>, _, _) = match self.located.footer.disk_type {
            DiskType::Fixed => (Arc::new(self.fixed(size)), self.facts("fixed", size, None), None),
            kind => {
                let header = self.header()?;
                let child = kind == DiskType::Differencing;
                let mut facts = self.facts(
                    if child { "differencing" } else { "dynamic" },
                    size,
                    Some(u64::from(header.block_size)),
                );
                if child {
                    facts.recorded.push(("parent unique id", header.parent_id.to_string()));
                    facts.recorded.push(("parent name", header.parent_name.clone()));
                }
                (Arc::new(self.blocks(&header, size, child)?), facts, Some(header).filter(|_| child))
            }
        };
        let file = Arc::clone(&self.file);
        Ok((Link { layer, facts, files: vec![Arc::clone(&file)], file }, header))
    }

    fn fixed(&self, size: u64) -> Linear {
        let data_end = self.located.data_end;
        let short = Fault::damaged(self.file.name(), data_end, "the fixed VHD is cut short")
            .found(format!("{data_end} bytes of data"))
            .expected(size);
        Linear::new(Arc::clone(&self.file), data_end.min(size), size, Rest::Lost(short))
    }

    fn header(&self) -> Result<DynamicHeader, Fault> {
        let Located { footer, at, data_end, .. } = &self.located;
        header::read(&self.file, footer.data_offset, *data_end).map_err(|fault| match fault.byte() {
            None => fault.at(at + footer::at::DATA_OFFSET as u64),
            Some(_) => fault,
        })
    }

    fn blocks(&self, header: &DynamicHeader, size: u64, differencing: bool) -> Result<Blocks, Fault> {
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
        let mut bat =
            BlockAllocationTable::new(Arc::clone(&file), Arc::clone(&ledger), table, entries, bitmap_len + block_size);
        // Of blocks that overlap the walk finds one where it comes to the other. Under a child it may never get there; and what is
        // salvaged is neither.
        if self.is_parent || self.opening.options.expects_losses() {
            let last = bitmap_len + (size - (blocks - 1) * block_size);
            bat.look_through(&taken, last)?;
        }
        unread.extend(header.locators.iter().map(|locator| {
            let end = locator.data_offset.saturating_add(locator.data_length.into());
            (locator.data_offset..end, "parent locator")
        }));
        // A child's bits say whose a sector is: there is nothing to ignore in them.
        let ignore_bitmaps = self.opening.options.ignore_bitmaps && !differencing;
        let shape = Shape { size, block_size, bitmap_len, data_end, taken, unread, ignore_bitmaps, differencing };
        Ok(Blocks::new(file, ledger, shape, bat))
    }
}
