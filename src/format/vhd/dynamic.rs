//! Writes dynamic and differencing VHDs: blocks in the order in which they are met.
//!
//! A block's data begins on 4 KiB, as tapdisk and Hyper-V place it, so that readers of large sectors need not read twice: its bitmap
//! stands right in front, and a gap of up to seven sectors in front of that. `--contiguous` leaves the gap out.

use std::ops::Range;

use super::bat::UNALLOCATED;
use super::footer::{self, DiskType, NewFooter};
use super::header::{self, NewHeader};
use super::locator;
use crate::fault::{Fault, Kind};
use crate::format::Wish;
use crate::image::{Encoder, Facts, Order, Placer, Plan, PlannedFile, SECTOR, Seen, Verdict, Writer, Writes};
use crate::io::in_memory;

/// Bytes of guest data in a block, unless the user asks for fewer: what Windows, Xen and every other reader takes.
const BLOCK: u32 = 2 << 20;
/// The fewest: what old Virtual PCs and MiniVHD write.
const MIN_BLOCK: u32 = 512 << 10;
/// Where the block allocation table stands, by habit of all writers.
const TABLE: u64 = 1536;
/// Data of a block begins on a multiple of this.
const ALIGNMENT: u64 = 4096;
/// Zeroes inside a stored block are left out in stretches of this many bytes.
const TEST_UNIT: u64 = 4096;
/// The one file.
const FILE: usize = 0;

/// A writer of a dynamic disk of these facts.
pub fn dynamic(facts: &Facts, wish: &Wish) -> Result<Box<dyn Writer>, Fault> {
    writer(facts, wish, DiskType::Dynamic, header::NewParent::default(), TEST_UNIT)
}

/// A writer of what differs from the base.
pub fn differencing(facts: &Facts, wish: &Wish) -> Result<Box<dyn Writer>, Fault> {
    let base = wish.base_of(&super::FORMAT, facts)?;
    let path = base.relative_text()?;
    if path.contains('\\') {
        return Err(base.refused("--base: a name with a backslash is a path to readers of VHDs").found(path));
    }
    let relative = locator::windows_relative(&path);
    // The path of Windows where there is one; else the relative one, which tapdisk and Xen Orchestra write there.
    let absolute = match cfg!(windows) && !wish.reproducible {
        true => base.absolute.to_string_lossy().into_owned(),
        false => relative.clone(),
    };
    let unique_id =
        base.facts.uuid.ok_or_else(|| base.refused("--base: a VHD without a unique id cannot have children"))?;
    let file_name = base.relative.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let parent = header::NewParent {
        unique_id,
        time_stamp: base.modified.map_or(0, footer::time_stamp),
        name: file_name,
        locators: vec![(*b"W2ru", locator::utf16(&relative)), (*b"W2ku", locator::utf16(&absolute))],
    };
    if parent.locators.iter().any(|(_, text)| text.len() as u64 > locator::MAX_TEXT) {
        return Err(base.refused("--base: the path is longer than a locator"));
    }
    // Sector bitmaps tell sector by sector whose it is.
    writer(facts, wish, DiskType::Differencing, parent, SECTOR)
}

fn writer(
    facts: &Facts,
    wish: &Wish,
    disk_type: DiskType,
    parent: header::NewParent,
    test_unit: u64,
) -> Result<Box<dyn Writer>, Fault> {
    super::refuse_what_cannot_be_held(facts, &wish.output)?;
    let size = facts.virtual_size;
    let block = match wish.block_size.map(u32::try_from) {
        None => BLOCK,
        Some(Ok(block)) if block.is_power_of_two() && (MIN_BLOCK..=BLOCK).contains(&block) => block,
        Some(_) => {
            return Err(Fault::new(Kind::Usage, &wish.output, "--block-size: the block of a VHD")
                .found(wish.block_size.unwrap_or_default())
                .expected(format!("a power of two from {MIN_BLOCK} to {BLOCK}")));
        }
    };
    let blocks = size.div_ceil(block.into());
    let entries = u32::try_from(blocks).map_err(|_| Fault::bug("more blocks than a VHD can have"))?;
    let table_len = (blocks * 4).next_multiple_of(SECTOR);
    let locators_at = TABLE + table_len;
    let header = NewHeader { table_offset: TABLE, max_table_entries: entries, block_size: block, parent, locators_at };
    let footer = NewFooter {
        data_offset: footer::LEN as u64,
        time_stamp: footer::time_stamp(wish.time),
        size,
        disk_type,
        unique_id: wish.identifiers.uuid,
    };
    let plan = Plan {
        files: vec![PlannedFile { suffix: None, len: None }],
        virtual_size: size,
        place_unit: block.into(),
        test_unit,
        order: Order::Ordered,
        holes: true,
        decisions: Vec::new(),
        notes: Vec::new(),
    };
    let layout = Layout {
        size,
        block,
        entries,
        table_len,
        first_block: locators_at + header.locators_len(),
        alignment: if wish.contiguous { SECTOR } else { ALIGNMENT },
        test_unit,
        delta: disk_type == DiskType::Differencing,
    };
    let locators = header.locator_texts();
    Ok(Box::new(Dynamic { plan, layout, header: header.to_bytes(), locators, footer: footer.to_bytes() }))
}

/// Where things go.
#[derive(Clone)]
struct Layout {
    /// Bytes of the disk.
    size: u64,
    /// Bytes of guest data in a block.
    block: u32,
    entries: u32,
    /// Bytes of the table with its padding.
    table_len: u64,
    /// Byte behind all that stands in front of the blocks.
    first_block: u64,
    alignment: u64,
    test_unit: u64,
    /// Zeroes are stored where the base has something else.
    delta: bool,
}

struct Dynamic {
    plan: Plan,
    layout: Layout,
    header: [u8; header::LEN],
    /// Byte and text of each locator, padded.
    locators: Vec<(u64, Vec<u8>)>,
    footer: [u8; footer::LEN],
}

impl Writer for Dynamic {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn placer(&self) -> Box<dyn Placer> {
        Box::new(Blocks {
            table: vec![UNALLOCATED; in_memory(self.layout.table_len / 4)],
            next: self.layout.first_block,
            open: None,
            layout: self.layout.clone(),
            header: self.header,
            locators: self.locators.clone(),
            footer: self.footer,
        })
    }

    fn encoder(&self) -> Option<Box<dyn Encoder>> {
        None
    }
}

/// The block that the walk is in.
struct Open {
    number: u64,
    /// Byte of its bitmap.
    at: u64,
    bits: Vec<u8>,
}

/// Gives each block the next place when the first of its bytes is stored.
struct Blocks {
    layout: Layout,
    table: Vec<u32>,
    /// Byte behind the last block.
    next: u64,
    open: Option<Open>,
    header: [u8; header::LEN],
    locators: Vec<(u64, Vec<u8>)>,
    footer: [u8; footer::LEN],
}

impl Blocks {
    fn block_len(&self) -> u64 {
        self.layout.block.into()
    }

    /// Ends the block in hand, where it is not `number`: its bitmap is known now.
    fn leave(&mut self, number: Option<u64>, out: &mut Writes) {
        if let Some(open) = self.open.take_if(|open| Some(open.number) != number) {
            out.meta(FILE, open.at, open.bits);
        }
    }

    /// The block of guest byte `from`, which gets its place now if it has none.
    fn enter(&mut self, from: u64, out: &mut Writes) -> Result<&mut Open, Fault> {
        let number = from / self.block_len();
        self.leave(Some(number), out);
        if self.open.is_none() {
            let bitmap_len = header::bitmap_len(self.layout.block);
            let at = (self.next + bitmap_len).next_multiple_of(self.layout.alignment) - bitmap_len;
            let entry = usize::try_from(number).ok().and_then(|number| self.table.get_mut(number));
            *entry.ok_or_else(|| Fault::bug("a block behind its table"))? =
                u32::try_from(at / SECTOR).map_err(|_| Fault::bug("a VHD that grows beyond its sectors"))?;
            out.zero(FILE, self.next, at - self.next);
            out.zero(FILE, at + bitmap_len, from % self.block_len());
            self.next = at + bitmap_len + self.block_len();
            // A block is stored whole, also where the disk ends inside it.
            let left = (self.layout.size - number * self.block_len()).next_multiple_of(self.layout.test_unit);
            let needed = left.min(self.block_len());
            out.zero(FILE, at + bitmap_len + needed, self.block_len() - needed);
            self.open = Some(Open { number, at, bits: self.first_bits(number, bitmap_len) });
        }
        self.open.as_mut().ok_or_else(|| Fault::bug("a block that is not open"))
    }

    /// Zeroes for what is not stored of this stretch, where its block has a place.
    fn pass_over(&self, guest: Range<u64>, out: &mut Writes) {
        if let Some(open) = &self.open {
            let block = open.number * self.block_len()..(open.number + 1) * self.block_len();
            let (start, end) = (guest.start.max(block.start), guest.end.min(block.end));
            if start < end {
                out.zero(FILE, open.at + header::bitmap_len(self.layout.block) + start - block.start, end - start);
            }
        }
    }

    /// In a dynamic disk a stored block has all its sectors; in a delta those that are stored will be set.
    fn first_bits(&self, number: u64, bitmap_len: u64) -> Vec<u8> {
        let mut bits = vec![0; in_memory(bitmap_len)];
        if !self.layout.delta {
            let sectors = (self.layout.size - number * self.block_len()).min(self.block_len()) / SECTOR;
            set_bits(&mut bits, 0..sectors);
        }
        bits
    }
}

/// Sets the bits of these sectors; the highest bit of a byte is the first.
fn set_bits(bits: &mut [u8], sectors: Range<u64>) {
    for sector in sectors {
        if let Some(byte) = bits.get_mut(in_memory(sector / 8)) {
            *byte |= 0x80 >> (sector % 8);
        }
    }
}

impl Placer for Blocks {
    fn begin(&mut self, _out: &mut Writes) -> Result<(), Fault> {
        Ok(())
    }

    fn place(&mut self, guest: Range<u64>, seen: Seen<'_>, out: &mut Writes) -> Result<(), Fault> {
        let Seen::Units { verdicts, .. } = seen else {
            // No block is made of what is the same, or nothing.
            self.pass_over(guest.start..guest.end.next_multiple_of(self.layout.test_unit), out);
            self.leave(Some((guest.end - 1) / self.block_len()), out);
            return Ok(());
        };
        let (unit, delta) = (self.layout.test_unit, self.layout.delta);
        for (start, verdict) in (guest.start..).step_by(in_memory(unit)).zip(verdicts) {
            let stored = match verdict {
                Verdict::Data => true,
                Verdict::Zero => delta,
                Verdict::Same if delta => false,
                Verdict::Same => return Err(Fault::bug("a disk without a base is the same as its base")),
            };
            if !stored {
                self.pass_over(start..start + unit, out);
                continue;
            }
            let valid = unit.min(self.layout.size - start);
            let inside = start % self.block_len();
            let bitmap_len = header::bitmap_len(self.layout.block);
            let open = self.enter(start, out)?;
            set_bits(&mut open.bits, inside / SECTOR..(inside + valid) / SECTOR);
            let at = open.at + bitmap_len + inside;
            match verdict {
                Verdict::Data => out.guest(FILE, at, start..start + unit),
                _ => out.zero(FILE, at, unit),
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Writes) -> Result<(), Fault> {
        self.leave(None, out);
        let entries = usize::try_from(self.layout.entries).unwrap_or(usize::MAX);
        if self.table.iter().skip(entries).any(|entry| *entry != UNALLOCATED) {
            return Err(Fault::bug("a block behind the disk's end"));
        }
        out.meta(FILE, TABLE, self.table.iter().flat_map(|entry| entry.to_be_bytes()).collect());
        out.meta(FILE, footer::LEN as u64, self.header.to_vec());
        for (at, text) in &self.locators {
            out.meta(FILE, *at, text.clone());
        }
        out.set_len(FILE, self.next + footer::LEN as u64);
        out.seal(FILE, 0, self.footer.to_vec());
        out.seal(FILE, self.next, self.footer.to_vec());
        Ok(())
    }
}
