//! The block allocation table, read by pages.
//!
//! An entry is the sector (512 bytes) at which a block's bitmap begins; 0xFFFFFFFF: the block is not allocated.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use byteorder::{BigEndian, ByteOrder};

use crate::fault::{Fault, Kind};
use crate::image::{Ledger, Named, Overlaps, SECTOR};
use crate::io::{InputFile, Unread};

/// An entry of a block that is not allocated.
pub const UNALLOCATED: u32 = 0xFFFF_FFFF;
/// Entries in a page.
const PAGE: u32 = 1024;
/// Pages kept.
const KEPT: usize = 8;
/// Entries read at once when the table is scanned whole.
const SCAN: u32 = 16 * PAGE;

/// The table of one image.
pub struct BlockAllocationTable {
    file: Arc<InputFile>,
    ledger: Arc<Ledger>,
    at: u64,
    entries: u32,
    /// Bytes that an allocated block takes up, bitmap included.
    unit: u64,
    /// Where no block can be.
    taken: Vec<Range<u64>>,
    /// Bytes of the last block that the disk needs, with its bitmap.
    last: u64,
    /// Overlaps of which both blocks were named.
    named: AtomicU32,
    state: Mutex<State>,
}

struct State {
    pages: VecDeque<(u32, Arc<Page>)>,
    overlaps: Overlaps,
}

/// Overlaps of which both blocks are named.
const MOST_NAMED: u32 = 20;

/// Entries that were read, from a first one on.
struct Page {
    entries: Vec<u32>,
    /// Which of them the medium does not give: they are zero above.
    unread: Vec<Unread>,
}

/// What the table says about a block.
#[derive(Debug, Clone)]
pub enum Entry {
    /// Not allocated; so are all blocks before `until`.
    Unallocated {
        /// The first block that may be allocated, or the end of what this look at the table covers.
        until: u32,
    },
    /// Allocated at this sector.
    At(u32),
    /// Allocated at this sector, and an earlier block lies there too.
    Overlapping(u32),
    /// It cannot be read, nor can the entries of the blocks before `until`.
    Unread {
        /// The first block whose entry can be read, or the end of what this look at the table covers.
        until: u32,
        /// Why.
        fault: Fault,
    },
}

impl BlockAllocationTable {
    /// The table of `entries` entries at byte `at`; the caller has held both against the file's length.
    pub fn new(file: Arc<InputFile>, ledger: Arc<Ledger>, at: u64, entries: u32, unit: u64) -> BlockAllocationTable {
        let state = State { pages: VecDeque::new(), overlaps: Overlaps::new(Arc::clone(&ledger), unit, SECTOR) };
        BlockAllocationTable {
            file,
            ledger,
            at,
            entries,
            unit,
            taken: Vec::new(),
            last: unit,
            named: AtomicU32::new(0),
            state: Mutex::new(state),
        }
    }

    /// Byte offset of an entry, for messages.
    pub fn byte_of(&self, block: u32) -> u64 {
        self.at + u64::from(block) * 4
    }

    /// Looks at the whole table, so that of blocks that overlap each is told, not the later alone.
    /// An entry that leads onto what else is `taken` is wrong for certain, and takes no other block's place. `last`: bytes of the last
    /// block that the disk needs, with its bitmap.
    pub fn look_through(&mut self, taken: &[(Range<u64>, &'static str)], last: u64) -> Result<(), Fault> {
        (self.taken, self.last) = (taken.iter().map(|(span, _)| span.clone()).collect(), last);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (0..self.entries.div_ceil(PAGE)).try_for_each(|page| self.page(&mut state, page).map(drop))?;
        state.overlaps.looked_through();
        Ok(())
    }

    /// What the table says about `block`; looks at one page.
    pub fn entry(&self, block: u32) -> Result<Entry, Fault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let page = block / PAGE;
        let kept = self.page(&mut state, page)?;
        let missing = || Fault::bug("a block behind its table");
        let entries = state.pages.get(kept).map(|(_, entries)| Arc::clone(entries)).ok_or_else(missing)?;
        if let Some((until, fault)) = self.unread(&entries, block) {
            return Ok(Entry::Unread { until: until.min((page + 1) * PAGE).min(self.entries), fault });
        }
        let rest = entries.entries.get((block % PAGE) as usize..).unwrap_or_default();
        let free = rest.iter().take_while(|e| **e == UNALLOCATED).count();
        match (rest.first(), u32::try_from(free)) {
            (None, _) | (_, Err(_)) => Err(missing()),
            (Some(sector), Ok(0)) => {
                let overlaps =
                    state.overlaps.overlaps(page.into(), (block % PAGE) as usize, u64::from(*sector) * SECTOR);
                Ok(if overlaps { Entry::Overlapping(*sector) } else { Entry::At(*sector) })
            }
            (Some(_), Ok(free)) => Ok(Entry::Unallocated { until: block + free }),
        }
    }

    /// Is a part of this block's entry among what was not read? Up to which block that is so.
    fn unread(&self, page: &Page, block: u32) -> Option<(u32, Fault)> {
        let byte = self.byte_of(block);
        let found = page.unread.iter().find(|unread| byte < unread.bytes.end && unread.bytes.start < byte + 4)?;
        let until = (found.bytes.end - self.at).div_ceil(4);
        Some((u32::try_from(until).unwrap_or(u32::MAX), found.fault.clone()))
    }

    /// The first block, `block` apart, that lies where `block` lies; the table is scanned once. `None` where none does, and once so
    /// many were told that another scan is not worth its time.
    pub fn owner(&self, block: u32, sector: u32) -> Result<Option<u32>, Fault> {
        if self.named.fetch_add(1, Ordering::Relaxed) >= MOST_NAMED {
            return Ok(None);
        }
        let reach = self.unit / SECTOR;
        let mut first = 0;
        while first < self.entries {
            let page = self.read(first, SCAN)?;
            for (index, other) in (first..).zip(page.entries.iter().copied()) {
                if index != block
                    && self.unread(&page, index).is_none()
                    && other != UNALLOCATED
                    && u64::from(other.abs_diff(sector)) < reach
                {
                    return Ok(Some(index));
                }
            }
            first += SCAN.min(self.entries - first);
        }
        Ok(None)
    }

    /// The sectors of all allocated blocks; `None` where there are more than `most`, or not all can be read. The table is scanned whole.
    pub fn sectors(&self, most: usize) -> Result<Option<Vec<u32>>, Fault> {
        let (mut first, mut found) = (0, Vec::new());
        while first < self.entries {
            let page = self.read(first, SCAN)?;
            found.extend(page.entries.into_iter().filter(|sector| *sector != UNALLOCATED));
            if found.len() > most || !page.unread.is_empty() {
                return Ok(None);
            }
            first += SCAN.min(self.entries - first);
        }
        Ok(Some(found))
    }

    /// Brings a page into the cache and returns its place there.
    fn page(&self, state: &mut MutexGuard<'_, State>, page: u32) -> Result<usize, Fault> {
        if let Some(place) = state.pages.iter().position(|(kept, _)| *kept == page) {
            return Ok(place);
        }
        let entries = self.read(page * PAGE, PAGE)?;
        self.claim(&mut state.overlaps, page, &entries)?;
        if state.pages.len() == KEPT {
            state.pages.pop_back();
        }
        state.pages.push_front((page, Arc::new(entries)));
        Ok(0)
    }

    fn claim(&self, overlaps: &mut Overlaps, number: u32, page: &Page) -> Result<(), Fault> {
        let blocks = (number * PAGE..).zip(page.entries.iter().enumerate());
        let allocated =
            blocks.filter(|(block, (_, sector))| **sector != UNALLOCATED && self.unread(page, *block).is_none());
        let units = allocated.filter_map(|(block, (index, sector))| {
            let at = u64::from(*sector) * SECTOR;
            // What begins outside the file is lost anyway, and would cost memory here.
            let needed = if block + 1 == self.entries { self.last } else { self.unit };
            let certain = self.taken.iter().any(|span| at < span.end && span.start < at + needed);
            (at < self.file.len() && !certain).then_some(Named { index, at, on_other: false })
        });
        if overlaps.claim(number.into(), self.file.name(), "VHD blocks", units)? {
            let what = "the VHD block allocation table is too large to look for overlaps to its end";
            self.ledger.warn_at(0, Fault::new(Kind::OverLimit, self.file.name(), what));
        }
        Ok(())
    }

    fn read(&self, first: u32, count: u32) -> Result<Page, Fault> {
        let count = count.min(self.entries.saturating_sub(first));
        let mut bytes = vec![0; count as usize * 4];
        let unread = self.file.read_around(self.byte_of(first), &mut bytes)?;
        Ok(Page { entries: bytes.chunks_exact(4).map(BigEndian::read_u32).collect(), unread })
    }
}
