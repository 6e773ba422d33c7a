//! The grain directories and tables of a hosted sparse extent, both copies, read by pages.
//!
//! What the copies say of a grain is decided when a table is first read ([`load`]).

mod ahead;
mod alike;
mod entries;
mod load;
mod places;
mod table;
mod witness;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

pub use self::entries::Entries;
use self::table::{Grain, Loss, Table};
use super::header::{SparseHeader, at};
use super::placed::Placed;
use super::stream::Packing;
use crate::fault::Fault;
use crate::image::{Here, Ledger, Overlaps, SECTOR};
use crate::io::{InputFile, in_memory};

/// Tables kept.
const KEPT: usize = 4;
/// Entries of a directory that are read at once.
const DIRECTORY_PAGE: u64 = 1024;

/// How an extent keeps its grains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Plain grains; every table is there.
    Plain,
    /// Plain grains; a table without a grain is not there (COWD).
    PlainSomeTables,
    /// Compressed grains behind markers; a table without a grain is not there.
    Packed(Packing),
}

/// The tables of one extent.
pub struct GrainTables {
    kind: Kind,
    /// The extent is a snapshot's: what it does not have, its parent has.
    is_child: bool,
    file: Arc<InputFile>,
    ledger: Arc<Ledger>,
    header: SparseHeader,
    /// Guest byte at which the extent begins, for warnings.
    guest_start: u64,
    /// The directories in use, the primary one first: sector.
    directories: Vec<u64>,
    /// The first sector that a grain may have.
    floor: u64,
    /// Where plain tables end at the latest: in front of the grains, where the header can be believed about that.
    tables_end: u64,
    state: Mutex<State>,
}

struct State {
    tables: VecDeque<(u64, Arc<Table>)>,
    /// For each directory, the page of entries in hand: number and entries.
    pages: Vec<Option<(u64, Entries)>>,
    /// For each directory, tables that lie behind each other and were read together, and the number of the last.
    ahead: Vec<Option<(u64, Entries)>>,
    /// The table that who looks at them in their order will look at next.
    next: u64,
    /// So many tables are read together.
    together: u64,
    overlaps: Overlaps,
    /// Whose the tables are that were looked at, by their sectors.
    placed: Placed,
    /// First sectors of all tables that the directories name, in order, where tables and grains lie among each other; `None`: not looked.
    listed: Option<Vec<u32>>,
    /// Tables that were looked at in their order, from the first on.
    seen: u64,
    /// Grains that these have, or may once have had, in the file: one that became zero leaves its place.
    named: u64,
    /// Neighbouring tables that are nowhere, and where the directories lead the first of them.
    nowhere: Option<(Range<u64>, Loss)>,
    /// Neighbouring tables without an entry.
    empty: Option<Range<u64>>,
    /// In a stream: the next table whose grains the markers tell, and the sector at which they begin.
    walked: (u64, u64),
    warned: bool,
}

/// Sectors that a grain claims: all it has, or its first one where it is packed and may have any number.
fn claimed_sectors(kind: Kind, header: &SparseHeader) -> u64 {
    if matches!(kind, Kind::Packed(_)) { 1 } else { header.grain_sectors }
}

impl GrainTables {
    /// The tables of `file`, whose extent begins at guest byte `guest_start`. Refused where no directory lies in the file.
    pub fn open(
        file: Arc<InputFile>,
        ledger: Arc<Ledger>,
        header: SparseHeader,
        guest_start: u64,
        kind: Kind,
        is_child: bool,
    ) -> Result<GrainTables, Fault> {
        let len_sectors = file.len() / SECTOR;
        let inside = |sector: u64| sector.checked_add(header.gd_sectors()).is_some_and(|end| end <= len_sectors);
        let all: Vec<u64> = header
            .gd_offset
            .into_iter()
            .chain(header.rgd_offset.filter(|rgd| Some(*rgd) != header.gd_offset))
            .collect();
        let directories: Vec<u64> = all.iter().copied().filter(|sector| inside(*sector)).collect();
        let outside = |sector: u64| {
            let field = if Some(sector) == header.gd_offset { at::GD_OFFSET } else { at::RGD_OFFSET };
            Fault::damaged(file.name(), field as u64, "VMDK grain directory lies outside the file")
                .found(format!("sector {sector}, {} sectors", header.gd_sectors()))
                .against(format!("the file has {len_sectors}"))
        };
        match (directories.is_empty(), all.iter().find(|sector| !inside(**sector))) {
            (true, Some(sector)) => return Err(outside(*sector)),
            (true, None) => return Err(Fault::damaged(file.name(), 56, "VMDK without a grain directory")),
            (false, Some(sector)) => ledger.warn(outside(*sector).advice("the other directory is used")),
            (false, None) => {}
        }
        let tables_end = directories.iter().max().map_or(0, |sector| sector + header.gd_sectors());
        let believed = (tables_end..=len_sectors).contains(&header.overhead);
        let floor = match believed {
            // In a stream the tables lie between the grains.
            _ if matches!(kind, Kind::Packed(_)) => {
                header.descriptor_offset.saturating_add(header.descriptor_sectors).max(1)
            }
            true => header.overhead,
            false => {
                let odd = Fault::damaged(file.name(), 64, "VMDK overHead").found(format!("sector {}", header.overhead));
                ledger.warn(odd.expected(format!("sector {tables_end} to {len_sectors}")));
                tables_end
            }
        };
        let unit = claimed_sectors(kind, &header) * SECTOR;
        let state = State {
            tables: VecDeque::new(),
            pages: directories.iter().map(|_| None).collect(),
            ahead: directories.iter().map(|_| None).collect(),
            next: u64::MAX,
            together: 1,
            overlaps: Overlaps::new(Arc::clone(&ledger), unit, SECTOR),
            placed: Placed::new("VMDK grain tables", header.gt_sectors()),
            listed: None,
            seen: 0,
            named: 0,
            nowhere: None,
            empty: None,
            walked: (0, header.overhead),
            warned: false,
        };
        let tables_end = if kind == Kind::Plain && believed { header.overhead } else { u64::MAX };
        let state = Mutex::new(state);
        Ok(GrainTables { kind, is_child, file, ledger, header, guest_start, directories, floor, tables_end, state })
    }

    /// Looks at all tables, so that of grains that overlap each is told, not the later alone. Behind markers grains say whose they are.
    pub fn look_through(&self) -> Result<(), Fault> {
        if self.kind == Kind::Packed(Packing::Marker) {
            return Ok(());
        }
        if self.state.lock().unwrap_or_else(PoisonError::into_inner).overlaps.is_looked_through() {
            return Ok(());
        }
        let (mut at, end) = (0, self.header.capacity.saturating_mul(SECTOR));
        let table = u64::from(self.header.gtes_per_gt) * self.header.grain_sectors * SECTOR;
        while at < end {
            // The next table, or what follows tables that are not there.
            let (until, _) = self.run_at(at, end)?;
            at = until.max(at - at % table + table);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // What was said before all were known may be another's.
        state.tables.clear();
        (state.empty, state.nowhere) = (None, None);
        state.overlaps.looked_through();
        Ok(())
    }

    /// What holds the bytes from `from` on, up to `limit` at most, both counted from the extent's start; looks at one table.
    pub fn run_at(&self, from: u64, limit: u64) -> Result<(u64, Here), Fault> {
        let grain_len = self.header.grain_sectors * SECTOR;
        let entries = u64::from(self.header.gtes_per_gt);
        let number = from / grain_len;
        if let Some((end, here)) = self.tables_alike(number / entries)? {
            return Ok((limit.min(end.saturating_mul(entries).saturating_mul(grain_len)), here));
        }
        let table = self.table(number / entries)?;
        let first = in_memory(number % entries);
        let here = table.grains.get(first).copied().ok_or_else(|| Fault::bug("a grain behind its table"))?;
        let inside = from % grain_len;
        let rest = table.grains.get(first..).unwrap_or_default();
        let alike = match here {
            Grain::Absent | Grain::Zero | Grain::Lost(_) | Grain::Unread(_) => {
                rest.iter().take_while(|grain| **grain == here).count()
            }
            Grain::At(_) if matches!(self.kind, Kind::Packed(_)) => 1,
            Grain::At(sector) => {
                let places = (u64::from(sector)..).step_by(in_memory(self.header.grain_sectors));
                rest.iter()
                    .zip(places)
                    .take_while(|(grain, place)| matches!(grain, Grain::At(s) if u64::from(*s) == *place))
                    .count()
            }
        };
        let end = limit.min((number + alike as u64).saturating_mul(grain_len));
        Ok(match here {
            Grain::Absent => (end, Here::Absent),
            Grain::Zero => (end, Here::Zero),
            Grain::Lost(loss) => (end, Here::Lost(table.loss(loss)?.fault(&self.file))),
            Grain::Unread(fault) => (end, Here::Lost(table.fault(fault)?)),
            Grain::At(sector) if matches!(self.kind, Kind::Packed(_)) => {
                let at = u64::from(sector) * SECTOR;
                (end, Here::Packed { file: self.file.id(), at, unit: grain_len, skip: inside })
            }
            Grain::At(sector) => {
                let at = u64::from(sector) * SECTOR + inside;
                match self.file.len().saturating_sub(at) {
                    // What the file does not have is lost, from the first missing byte on.
                    0 => {
                        let cut = Fault::damaged(self.file.name(), at, "VMDK grain is cut by the end of the file");
                        let end = end.min((number + 1) * grain_len);
                        (end, Here::Lost(cut.against(format!("the file has {} bytes", self.file.len()))))
                    }
                    stored => (end.min(from + stored), Here::Plain { file: self.file.id(), at }),
                }
            }
        })
    }

    fn table(&self, number: u64) -> Result<Arc<Table>, Fault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, table)) = state.tables.iter().find(|(kept, _)| *kept == number) {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(self.load(&mut state, number)?);
        self.looked_up_to(&mut state, number + 1);
        state.tables.truncate(KEPT - 1);
        state.tables.push_front((number, Arc::clone(&table)));
        Ok(table)
    }

    /// Byte of a directory's entry.
    fn gde_byte(&self, directory: u64, table: u64) -> u64 {
        directory * SECTOR + table * 4
    }

    fn gde(&self, state: &mut State, copy: usize, directory: u64, table: u64) -> Result<u32, Fault> {
        let page = table / DIRECTORY_PAGE;
        let kept = state.pages.get_mut(copy).ok_or_else(|| Fault::bug("a directory without its page"))?;
        if kept.as_ref().is_none_or(|(number, _)| *number != page) {
            let first = page * DIRECTORY_PAGE;
            let count = (self.header.tables() - first).min(DIRECTORY_PAGE);
            *kept = Some((page, Entries::read(&self.file, self.gde_byte(directory, first), count)?));
        }
        let entry = kept.as_ref().and_then(|(_, entries)| entries.get(in_memory(table % DIRECTORY_PAGE)));
        entry.ok_or_else(|| Fault::bug("a table behind its directory"))?
    }

    /// The first guest byte of a table.
    fn first_guest(&self, table: u64) -> u64 {
        self.guest_start + table * u64::from(self.header.gtes_per_gt) * self.header.grain_sectors * SECTOR
    }

    /// The first sector that nothing was written to.
    fn end_sector(&self) -> u64 {
        self.header.free_sector.unwrap_or(u64::MAX).min(self.file.len().div_ceil(SECTOR))
    }

    /// Can a table begin at this sector: inside the file, behind header and descriptor, on no directory?
    fn table_can_be(&self, sector: u32) -> bool {
        let span = |start: u64, len: u64| start..start.saturating_add(len);
        let table = span(sector.into(), self.header.gt_sectors());
        let meets = |other: Range<u64>| table.start < other.end && other.start < table.end;
        let descriptor = span(self.header.descriptor_offset, self.header.descriptor_sectors);
        sector != 0
            && table.end <= self.end_sector()
            && table.end <= self.tables_end
            && !(self.header.descriptor_offset != 0 && meets(descriptor))
            && !self.directories.iter().any(|directory| meets(span(*directory, self.header.gd_sectors())))
    }

    /// One warning an image; `-v` counts the rest.
    fn warn(&self, state: &mut State, guest: u64, what: Fault) {
        if !state.warned {
            state.warned = true;
            self.ledger.warn_at(guest, what);
        }
        self.ledger.count("VMDK grain table or directory entries read round", 1);
    }
}
