//! The blocks of a dynamic or differencing VHD, as a layer.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::bat::{BlockAllocationTable, Entry};
use super::unnamed;
use crate::fault::Fault;
use crate::image::{Here, Layer, Ledger, Run, SECTOR, Unpack};
use crate::io::{InputFile, in_memory, is_zero};

/// A block whose bitmap is all clear is looked through in pieces of this many bytes.
const LOOK: u64 = 1 << 20;

/// What is known of a dynamic disk's blocks before any is looked at; all of it was held against the file.
pub struct Shape {
    /// Size of the disk in bytes.
    pub size: u64,
    /// Bytes of guest data in a block.
    pub block_size: u64,
    /// Bytes of its bitmap in the file.
    pub bitmap_len: u64,
    /// Where the data ends at the latest.
    pub data_end: u64,
    /// What else lies in the file: whatever overlaps it cannot be right.
    pub taken: Vec<(Range<u64>, &'static str)>,
    /// What lies in the file and is not read: a block that overlaps it is warned about.
    pub unread: Vec<(Range<u64>, &'static str)>,
    /// Every stored byte is valid.
    pub ignore_bitmaps: bool,
    /// A clear bit leads to the parent; else it is zero.
    pub differencing: bool,
}

/// The blocks of a dynamic or differencing disk.
pub struct Blocks {
    file: Arc<InputFile>,
    ledger: Arc<Ledger>,
    shape: Shape,
    bat: BlockAllocationTable,
    last: Mutex<Option<(u32, Arc<Block>)>>,
    /// Blocks before this one were counted and warned about: a walk may look at a block twice.
    told: AtomicU64,
    /// What no entry names was looked for.
    counted: AtomicBool,
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
    /// Bit by bit, the highest first: stored, or not.
    Mixed(Vec<u8>),
    /// None is stored; in a dynamic disk no byte says otherwise.
    AllClear,
    /// The block cannot be had.
    Lost(Fault),
}

impl Blocks {
    /// The layer of `file`, by its table.
    pub fn new(file: Arc<InputFile>, ledger: Arc<Ledger>, shape: Shape, bat: BlockAllocationTable) -> Blocks {
        Blocks {
            file,
            ledger,
            shape,
            bat,
            last: Mutex::new(None),
            told: AtomicU64::new(0),
            counted: AtomicBool::new(false),
        }
    }

    fn lost(&self, block: u32, what: &'static str) -> Fault {
        Fault::damaged(self.file.name(), self.bat.byte_of(block), what)
    }

    /// Bytes of the disk that lie in `block`.
    fn needed(&self, block: u32) -> u64 {
        (self.shape.size - u64::from(block) * self.shape.block_size).min(self.shape.block_size)
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
        let data = at + self.shape.bitmap_len;
        let needed = self.needed(block);
        let stored = self.shape.data_end.saturating_sub(data).min(self.shape.block_size);
        let with = |bits| Ok(Block { data, stored, bits });
        if let Some((_, what)) = self.shape.taken.iter().find(|(span, _)| at < span.end && span.start < data + needed) {
            let lost = self.lost(block, "VHD block lies over another structure");
            return with(Bits::Lost(
                lost.found(format!("block {block} at byte {at}")).against(format!("the {what} lies there")),
            ));
        }
        if data > self.shape.data_end {
            let lost = self.lost(block, "VHD block lies outside the file");
            let data_end = self.shape.data_end;
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
        let first_look = self.told.fetch_max(u64::from(block) + 1, Ordering::Relaxed) <= u64::from(block);
        let over = self.shape.unread.iter().find(|(span, _)| at < span.end && span.start < data + needed);
        if let Some((_, what)) = over.filter(|_| first_look) {
            let odd = self
                .lost(block, "VHD block lies over a structure that is not needed")
                .found(format!("block {block} at byte {at}"));
            self.ledger
                .warn_at(u64::from(block) * self.shape.block_size, odd.against(format!("the {what} lies there")));
        }
        if first_look && (needed..self.shape.block_size).contains(&stored) {
            let warning =
                self.lost(block, "the last VHD block is cut behind the disk's end").found(format!("{stored} bytes"));
            self.ledger.warn_at(u64::from(block) * self.shape.block_size, warning.expected(self.shape.block_size));
        }
        if self.shape.ignore_bitmaps {
            return with(Bits::AllSet);
        }
        // Without its bitmap nothing says what of a block is its own.
        with(match self.bits(block, at, needed, stored, first_look) {
            Err(fault) if fault.is_of_medium() => Bits::Lost(fault),
            bits => bits?,
        })
    }

    fn bits(&self, block: u32, at: u64, needed: u64, stored: u64, first_look: bool) -> Result<Bits, Fault> {
        let mut bits = vec![0; (needed / SECTOR).div_ceil(8) as usize];
        self.file.read_exact(at, &mut bits)?;
        let sectors = needed / SECTOR;
        // Bits behind the disk's end say nothing (qemu sets them).
        let tail = bits.len() as u64 * 8 - sectors;
        if let Some(last) = bits.last_mut() {
            *last &= 0xFFu8 << tail;
        }
        let set: u64 = bits.iter().map(|byte| u64::from(byte.count_ones())).sum();
        if set == sectors {
            return Ok(Bits::AllSet);
        }
        if self.shape.differencing {
            return Ok(if set > 0 { Bits::Mixed(bits) } else { Bits::AllClear });
        }
        if first_look {
            self.ledger.count("sectors under clear bits of VHD sector bitmaps, read as zero", sectors - set);
        }
        if set > 0 {
            return Ok(Bits::Mixed(bits));
        }
        if stored < needed {
            // Nobody can tell a bitmap that was never written from one that is true.
            let fault = self.lost(block, "VHD block is cut by the end of the file");
            return Ok(Bits::Lost(fault.found(format!("{stored} of {needed} bytes of block {block}"))));
        }
        Ok(match self.first_data(at + self.shape.bitmap_len, needed)? {
            None => Bits::AllClear,
            Some(byte) => Bits::Lost(
                Fault::damaged(self.file.name(), at, "VHD sector bitmap is all clear over data: was it never written?")
                    .found(format!("data at byte {byte}, block {block}"))
                    .advice("--ignore-bitmaps takes every stored byte as valid"),
            ),
        })
    }

    /// A warning where the file has room for blocks that no entry names, and data in it. Volumes have room behind their blocks, and old
    /// data there. Reads the whole table.
    fn warn_of_unnamed(&self) -> Result<(), Fault> {
        if self.counted.swap(true, Ordering::Relaxed) || self.file.is_block_device() {
            return Ok(());
        }
        let unit = self.shape.bitmap_len + self.shape.block_size;
        let Some(sectors) = self.bat.sectors(unnamed::MOST)? else { return Ok(()) };
        let other = self.shape.taken.iter().chain(&self.shape.unread).map(|(span, _)| span);
        for room in unnamed::stretches(sectors, unit, other, self.shape.data_end) {
            let found = match self.first_data(room.start, room.end - room.start) {
                // What nothing names costs no disk.
                Err(fault) if fault.is_of_medium() => continue,
                found => found?,
            };
            if let Some(byte) = found {
                let what =
                    "the VHD holds data where no entry of its table leads: leftovers, or a block whose entry was lost";
                let warning = Fault::damaged(self.file.name(), byte, what);
                self.ledger
                    .warn_at(u64::MAX, warning.found(format!("{} bytes that nothing names", room.end - room.start)));
                break;
            }
        }
        Ok(())
    }

    /// The first byte from `at` on that is not zero. The one place where a reader looks at guest data: a writer that forgot its
    /// bitmaps must not cost a disk (formats differ from each other here; VirtualBox reads zeroes, QEMU the data).
    fn first_data(&self, at: u64, len: u64) -> Result<Option<u64>, Fault> {
        let (mut at, end) = (at, at + len);
        let mut buffer = Vec::new();
        while at < end {
            let Some(data) = self.file.next_data(at)? else { break };
            at = data.start.max(at);
            let n = end.min(data.end).saturating_sub(at).min(LOOK);
            if n == 0 {
                break;
            }
            buffer.resize(in_memory(n), 0);
            self.file.read_exact(at, &mut buffer)?;
            if !is_zero(&buffer) {
                let first = buffer.iter().position(|byte| *byte != 0).unwrap_or(0);
                return Ok(Some(at + first as u64));
            }
            at += n;
        }
        Ok(None)
    }
}

impl Layer for Blocks {
    fn guest_len(&self) -> u64 {
        self.shape.size
    }

    fn run_at(&self, from: u64, limit: u64) -> Result<Run, Fault> {
        let index = u32::try_from(from / self.shape.block_size).unwrap_or(u32::MAX);
        let start = u64::from(index) * self.shape.block_size;
        let entry = self.bat.entry(index)?;
        let (sector, overlapping) = match entry {
            Entry::Unallocated { until } => {
                let end = limit.min(u64::from(until) * self.shape.block_size);
                return Ok(Run::new(from..end, Here::Absent));
            }
            Entry::Unread { until, fault } => {
                let end = limit.min(u64::from(until) * self.shape.block_size);
                return Ok(Run::new(from..end, Here::Lost(fault)));
            }
            Entry::At(sector) => (sector, false),
            Entry::Overlapping(sector) => (sector, true),
        };
        let block = self.block(index, sector, overlapping)?;
        let end = limit.min(start + self.needed(index));
        let inside = from - start;
        let clear = || if self.shape.differencing { Here::Absent } else { Here::Zero };
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
            Bits::AllClear => Run::new(from..end, clear()),
            Bits::Lost(fault) => Run::new(from..end, Here::Lost(fault.clone())),
            Bits::Mixed(bits) => {
                let (stored, sectors) = alike(bits, inside / SECTOR);
                let end = end.min(start + sectors * SECTOR);
                if stored { plain(end) } else { Run::new(from..end, clear()) }
            }
        })
    }

    fn walked(&self) -> Result<(), Fault> {
        self.warn_of_unnamed()
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
