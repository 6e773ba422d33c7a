//! Opens a VHD and gives its runs.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::bat::{BlockAllocationTable, Entry};
use super::footer::{DiskType, Footer};
use super::header::{self, DynamicHeader};
use super::locate::{Located, locate};
use crate::fault::{Fault, Kind};
use crate::format::Opening;
use crate::format::linear::{Linear, Rest};
use crate::image::{Adapter, Disk, Facts, Here, Layer, Ledger, Run, SECTOR, Unpack};
use crate::io::{InputFile, is_zero};

/// Sizes beyond this cannot be file offsets.
const MAX_SIZE: u64 = i64::MAX as u64 & !(SECTOR - 1);
/// A block whose bitmap is all clear is looked through in pieces of this many bytes.
const LOOK: usize = 1 << 20;

/// True where the content is a VHD; an error where it claims to be one and cannot be trusted.
pub fn recognise(file: &InputFile) -> Result<bool, Fault> {
    Ok(locate(file, false)?.is_some())
}

/// Opens `file` as a VHD.
pub fn open(opening: &Opening<'_>, file: Arc<InputFile>) -> Result<Disk, Fault> {
    let Some(mut located) = locate(&file, opening.options.format.is_some())? else {
        return Err(Fault::new(Kind::NotThisFormat, file.name(), "no VHD footer, neither at the end nor at byte 0"));
    };
    located.report(&opening.ledger);
    let Located { footer, data_end, .. } = located;
    let size = disk_size(&footer, &file, &opening.ledger)?;
    if footer.saved_state {
        let warning = Fault::new(Kind::Locked, file.name(), "a saved machine state belongs to this disk")
            .advice("what the machine held in memory is not in the disk: start it and shut it down first");
        opening.ledger.warn(warning);
    }
    match footer.disk_type {
        DiskType::Fixed => open_fixed(opening, file, footer, size, data_end),
        DiskType::Dynamic => open_dynamic(opening, file, footer, size, data_end),
        DiskType::Differencing => Err(differencing(&file, &footer)),
    }
}

/// The current size in whole sectors.
fn disk_size(footer: &Footer, file: &InputFile, ledger: &Ledger) -> Result<u64, Fault> {
    let size = footer.current_size;
    if size > MAX_SIZE {
        return Err(Fault::new(Kind::OverLimit, file.name(), "VHD current size")
            .found(size)
            .against(format!("{MAX_SIZE} at most")));
    }
    if size < SECTOR {
        return Err(Fault::new(Kind::Damaged, file.name(), "VHD current size")
            .found(size)
            .expected("at least one sector"));
    }
    if !size.is_multiple_of(SECTOR) {
        let warning = Fault::new(Kind::Damaged, file.name(), "VHD current size is no whole number of sectors")
            .found(size)
            .against(format!("the last {} bytes are left out", size % SECTOR));
        ledger.warn(warning);
    }
    Ok(size - size % SECTOR)
}

fn facts(footer: &Footer, subformat: &'static str, size: u64, block_size: Option<u64>) -> Facts {
    Facts {
        format: super::FORMAT.name,
        title: super::FORMAT.title,
        subformat,
        virtual_size: size,
        logical_sector_size: SECTOR as u32,
        uuid: Some(footer.unique_id),
        geometry: Some(footer.geometry),
        adapter: None,
        usual_adapter: Some(Adapter::Ide),
        creator: Some(footer.creator()),
        created: Some(footer.created()),
        block_size,
    }
}

fn open_fixed(
    opening: &Opening<'_>,
    file: Arc<InputFile>,
    footer: Footer,
    size: u64,
    data_end: u64,
) -> Result<Disk, Fault> {
    let short = Fault::damaged(file.name(), data_end, "the fixed VHD is cut short")
        .found(format!("{data_end} bytes of data"))
        .expected(size);
    let layer = Linear::new(Arc::clone(&file), data_end.min(size), size, Rest::Lost(short));
    Disk::single(Arc::new(layer), facts(&footer, "fixed", size, None), vec![file], Arc::clone(&opening.ledger))
}

/// A child is refused by name, and its parent named: reading it alone would hand out zeroes for what the parent holds.
fn differencing(file: &InputFile, footer: &Footer) -> Fault {
    let parent = read_header(file, footer, file.len()).map(|h| h.parent_name).unwrap_or_default();
    let fault =
        Fault::new(Kind::Unsupported, file.name(), "a differencing VHD: it holds only what differs from its parent")
            .advice("merge it into its parent first (Merge-VHD, VBoxManage clonemedium): this version reads no chains");
    match parent.as_str() {
        "" => fault,
        parent => fault.found(format!("parent {parent}")),
    }
}

fn read_header(file: &InputFile, footer: &Footer, data_end: u64) -> Result<DynamicHeader, Fault> {
    let mut raw = [0; header::LEN];
    let at = footer.data_offset;
    if at.checked_add(header::LEN as u64).is_none_or(|end| end > data_end) {
        return Err(Fault::damaged(file.name(), 16, "VHD dynamic header lies outside the file")
            .found(format!("byte {at}"))
            .against(format!("data ends at {data_end}")));
    }
    file.read_exact(at, &mut raw)?;
    DynamicHeader::parse(&raw, file.name(), at)
}

fn open_dynamic(
    opening: &Opening<'_>,
    file: Arc<InputFile>,
    footer: Footer,
    size: u64,
    data_end: u64,
) -> Result<Disk, Fault> {
    let header = read_header(&file, &footer, data_end)?;
    let block_size = u64::from(header.block_size);
    let blocks = size.div_ceil(block_size);
    let entries = match u32::try_from(blocks) {
        Ok(blocks) if blocks <= header.max_table_entries => blocks,
        _ => {
            return Err(Fault::damaged(file.name(), footer.data_offset + 28, "VHD max table entries")
                .found(header.max_table_entries)
                .expected(format!("at least {blocks} for a disk of {size} bytes")));
        }
    };
    let table = header.table_offset;
    let table_end = table.checked_add(u64::from(entries) * 4).filter(|end| *end <= data_end).ok_or_else(|| {
        Fault::damaged(file.name(), footer.data_offset + 16, "VHD block allocation table lies outside the file")
            .found(format!("byte {table}, {entries} entries"))
            .against(format!("data ends at {data_end}"))
    })?;
    // What else lies in the file; whatever overlaps it cannot be right.
    let mut taken = vec![
        (0..SECTOR, "footer copy"),
        (footer.data_offset..footer.data_offset + header::LEN as u64, "dynamic header"),
    ];
    if let Some((_, what)) = taken.iter().find(|(span, _)| span.start < table_end && table < span.end) {
        return Err(Fault::damaged(
            file.name(),
            footer.data_offset + 16,
            "VHD block allocation table overlaps another structure",
        )
        .found(format!("byte {table}"))
        .against(format!("the {what} lies there")));
    }
    taken.push((table..table_end, "block allocation table"));
    refuse_what_tapdisk_hides(&file, &footer, table_end, data_end)?;
    let bitmap_len = (block_size / SECTOR).div_ceil(8).next_multiple_of(SECTOR);
    let bat = BlockAllocationTable::new(
        Arc::clone(&file),
        Arc::clone(&opening.ledger),
        table,
        entries,
        bitmap_len + block_size,
    );
    let layer = Blocks {
        file: Arc::clone(&file),
        ledger: Arc::clone(&opening.ledger),
        size,
        block_size,
        bitmap_len,
        data_end,
        taken,
        bat,
        ignore_bitmaps: opening.options.ignore_bitmaps,
        last: Mutex::new(None),
    };
    Disk::single(
        Arc::new(layer),
        facts(&footer, "dynamic", size, Some(block_size)),
        vec![file],
        Arc::clone(&opening.ledger),
    )
}

/// tapdisk 0.1 wrote its bitmaps bit-reversed (libvhd refuses them too), and newer ones may encrypt blocks, which their batmap tells.
fn refuse_what_tapdisk_hides(file: &InputFile, footer: &Footer, table_end: u64, data_end: u64) -> Result<(), Fault> {
    /// Where the header of the batmap has the marker "blocks are encrypted".
    const KEY_COOKIE: usize = 29;
    if !footer.creator_application.starts_with(b"tap") {
        return Ok(());
    }
    if footer.creator_version == 1 {
        return Err(Fault::new(
            Kind::Unsupported,
            file.name(),
            "written by tapdisk 0.1, whose sector bitmaps cannot be trusted",
        )
        .found("creator version 0.1"));
    }
    let (at, mut raw) = (table_end.next_multiple_of(SECTOR), [0; 512]);
    if at + SECTOR > data_end {
        return Ok(());
    }
    file.read_exact(at, &mut raw)?;
    if raw.starts_with(b"tdbatmap") && raw[KEY_COOKIE] == 1 {
        return Err(Fault::new(Kind::Unsupported, file.name(), "the blocks are encrypted by XenServer")
            .at(at + KEY_COOKIE as u64));
    }
    Ok(())
}

/// The blocks of a dynamic disk.
struct Blocks {
    file: Arc<InputFile>,
    ledger: Arc<Ledger>,
    size: u64,
    block_size: u64,
    bitmap_len: u64,
    data_end: u64,
    taken: Vec<(Range<u64>, &'static str)>,
    bat: BlockAllocationTable,
    ignore_bitmaps: bool,
    last: Mutex<Option<(u32, Arc<Block>)>>,
}

/// An allocated block.
struct Block {
    /// Byte of the guest data.
    data: u64,
    /// Bytes of it that the file has; the end of a block behind the disk's end may be cut.
    stored: u64,
    bits: Bits,
}

enum Bits {
    /// Every sector is stored.
    AllSet,
    /// Bit by bit, the highest first: stored, or zero.
    Mixed(Vec<u8>),
    /// None is stored, and no byte says otherwise.
    AllClear,
    /// The block cannot be had.
    Lost(Fault),
}

impl Blocks {
    fn lost(&self, block: u32, what: &'static str) -> Fault {
        Fault::damaged(self.file.name(), self.bat.byte_of(block), what)
    }

    /// Bytes of the disk that lie in `block`.
    fn needed(&self, block: u32) -> u64 {
        (self.size - u64::from(block) * self.block_size).min(self.block_size)
    }

    /// The block, its place and bitmap verified; the last one is kept.
    fn block(&self, block: u32, sector: u32, overlapping: bool) -> Result<Arc<Block>, Fault> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((kept, found)) = &*last
            && *kept == block
        {
            return Ok(Arc::clone(found));
        }
        let found = Arc::new(self.look(block, sector, overlapping)?);
        *last = Some((block, Arc::clone(&found)));
        Ok(found)
    }

    fn look(&self, block: u32, sector: u32, overlapping: bool) -> Result<Block, Fault> {
        let at = u64::from(sector) * SECTOR;
        let data = at + self.bitmap_len;
        let needed = self.needed(block);
        let stored = self.data_end.saturating_sub(data).min(self.block_size);
        let with = |bits| Ok(Block { data, stored, bits });
        if let Some((_, what)) = self.taken.iter().find(|(span, _)| at < span.end && span.start < data + needed) {
            let lost = self.lost(block, "VHD block lies over another structure");
            return with(Bits::Lost(
                lost.found(format!("block {block} at byte {at}")).against(format!("the {what} lies there")),
            ));
        }
        if data > self.data_end {
            let lost = self.lost(block, "VHD block lies outside the file");
            let data_end = self.data_end;
            return with(Bits::Lost(
                lost.found(format!("block {block} at byte {at}")).against(format!("data ends at {data_end}")),
            ));
        }
        if overlapping {
            let lost = self
                .lost(block, "VHD block lies where another block lies")
                .found(format!("block {block} at byte {at}"));
            return with(Bits::Lost(match self.bat.owner(block, sector)? {
                Some(other) => {
                    lost.against(format!("block {other} lies there, by the entry at byte {}", self.bat.byte_of(other)))
                }
                None => lost,
            }));
        }
        if (needed..self.block_size).contains(&stored) {
            let warning =
                self.lost(block, "the last VHD block is cut behind the disk's end").found(format!("{stored} bytes"));
            self.ledger.warn_at(u64::from(block) * self.block_size, warning.expected(self.block_size));
        }
        if self.ignore_bitmaps {
            return with(Bits::AllSet);
        }
        with(self.bits(block, at, needed, stored)?)
    }

    fn bits(&self, block: u32, at: u64, needed: u64, stored: u64) -> Result<Bits, Fault> {
        let mut bits = vec![0; (needed / SECTOR).div_ceil(8) as usize];
        self.file.read_exact(at, &mut bits)?;
        let sectors = needed / SECTOR;
        // Bits behind the disk's end say nothing (qemu sets them).
        let tail = (bits.len() as u64 * 8 - sectors) as u32;
        if let Some(last) = bits.last_mut() {
            *last &= 0xFFu8 << tail;
        }
        let set: u64 = bits.iter().map(|byte| u64::from(byte.count_ones())).sum();
        if set == sectors {
            return Ok(Bits::AllSet);
        }
        self.ledger.count("sectors under clear bits of VHD sector bitmaps, read as zero", sectors - set);
        if set > 0 {
            return Ok(Bits::Mixed(bits));
        }
        Ok(match self.first_data(at + self.bitmap_len, stored.min(needed))? {
            None => Bits::AllClear,
            Some(byte) => Bits::Lost(
                Fault::damaged(self.file.name(), at, "VHD sector bitmap is all clear over data: was it never written?")
                    .found(format!("data at byte {byte}, block {block}"))
                    .advice("--ignore-bitmaps takes every stored byte as valid"),
            ),
        })
    }

    /// The first byte from `at` on that is not zero. The one place where a reader looks at guest data: a writer that forgot its
    /// bitmaps must not cost a disk (formats differ from each other here; VirtualBox reads zeroes, QEMU the data).
    fn first_data(&self, at: u64, len: u64) -> Result<Option<u64>, Fault> {
        let (mut at, end) = (at, at + len);
        let mut bytes = vec![0; LOOK.min(len as usize)];
        while at < end {
            let Some(data) = self.file.next_data(at)? else { break };
            at = data.start.max(at);
            let n = end.min(data.end).saturating_sub(at).min(LOOK as u64) as usize;
            if n == 0 {
                break;
            }
            self.file.read_exact(at, &mut bytes[..n])?;
            if !is_zero(&bytes[..n]) {
                let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(0);
                return Ok(Some(at + first as u64));
            }
            at += n as u64;
        }
        Ok(None)
    }
}

impl Layer for Blocks {
    fn guest_len(&self) -> u64 {
        self.size
    }

    fn run_at(&self, from: u64, limit: u64) -> Result<Run, Fault> {
        let index = u32::try_from(from / self.block_size).unwrap_or(u32::MAX);
        let start = u64::from(index) * self.block_size;
        let (sector, overlapping) = match self.bat.entry(index)? {
            Entry::Unallocated { until } => {
                let end = limit.min(u64::from(until) * self.block_size);
                return Ok(Run::new(from..end, Here::Absent));
            }
            Entry::At(sector) => (sector, false),
            Entry::Overlapping(sector) => (sector, true),
        };
        let block = self.block(index, sector, overlapping)?;
        let end = limit.min(start + self.needed(index));
        let inside = from - start;
        let plain = |end: u64| {
            // What the file does not have is lost, from the first missing byte on.
            if inside >= block.stored {
                let lost = self.lost(index, "VHD block is cut by the end of the file");
                let found = format!("{} of {} bytes of block {index}", block.stored, self.needed(index));
                return Run::new(from..end, Here::Lost(lost.found(found)));
            }
            let end = end.min(start + block.stored);
            Run::new(from..end, Here::Plain { file: self.file.id(), at: block.data + inside })
        };
        Ok(match &block.bits {
            Bits::AllSet => plain(end),
            Bits::AllClear => Run::new(from..end, Here::Zero),
            Bits::Lost(fault) => Run::new(from..end, Here::Lost(fault.clone())),
            Bits::Mixed(bits) => {
                let (stored, sectors) = alike(bits, inside / SECTOR);
                let end = end.min(start + sectors * SECTOR);
                if stored { plain(end) } else { Run::new(from..end, Here::Zero) }
            }
        })
    }

    fn unpacker(&self) -> Option<Box<dyn Unpack>> {
        None
    }
}

/// Is the bit of `sector` set, and up to which sector are the bits the same?
fn alike(bits: &[u8], sector: u64) -> (bool, u64) {
    let bit = |sector: u64| bits.get((sector / 8) as usize).is_some_and(|byte| byte & (0x80 >> (sector % 8)) != 0);
    let set = bit(sector);
    let whole = if set { 0xFF } else { 0 };
    let (mut next, end) = (sector + 1, bits.len() as u64 * 8);
    while next < end {
        if next.is_multiple_of(8) && bits.get((next / 8) as usize) == Some(&whole) {
            next += 8;
        } else if bit(next) == set {
            next += 1;
        } else {
            break;
        }
    }
    (set, next)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_highest_bit_is_the_first_sector() {
        let bits = [0x81, 0xFF, 0x00, 0xF0];
        assert_eq!(alike(&bits, 0), (true, 1));
        assert_eq!(alike(&bits, 1), (false, 7));
        assert_eq!(alike(&bits, 7), (true, 16));
        assert_eq!(alike(&bits, 16), (false, 24));
        assert_eq!(alike(&bits, 26), (true, 28));
        assert_eq!(alike(&bits, 28), (false, 32));
    }

    proptest! {
        #[test]
        fn runs_of_bits_are_those_that_looking_at_each_bit_finds(bits in prop::collection::vec(prop_oneof![Just(0u8), Just(0xFF), any::<u8>()], 1..20), at in 0usize..160) {
            let at = at % (bits.len() * 8);
            let flat: Vec<bool> = bits.iter().flat_map(|b| (0..8).map(move |i| b >> (7 - i) & 1 == 1)).collect();
            let same = flat[at..].iter().take_while(|b| **b == flat[at]).count();
            prop_assert_eq!(alike(&bits, at as u64), (flat[at], (at + same) as u64));
        }
    }
}
