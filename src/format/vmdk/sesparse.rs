//! seSparse: the snapshot extents of VMFS 6 and of large disks. Read only.
//!
//! Source: QEMU's block driver and files by ESXi; VMware publishes nothing. Little-endian 64-bit fields, offsets and sizes in sectors.
//!
//! | offset | field             | known value | | offset | field             |
//! |-------:|-------------------|-------------|-|-------:|-------------------|
//! |   0x00 | magic             | 0xCAFEBABE  | |   0x80 | grainDirOffset    |
//! |   0x08 | version           | 2.1         | |   0x88 | grainDirSize      |
//! |   0x10 | capacity          |             | |   0x90 | grainTablesOffset |
//! |   0x18 | grainSize         | 8           | |   0x98 | grainTablesSize   |
//! |   0x20 | grainTableSize    | 64          | |   0xA0 | freeBitmapOffset  |
//! |   0x28 | flags, reserved   | 0           | |   0xB0 | backmapOffset     |
//! |   0x50 | volatileHeaderOffset |          | |   0xC0 | grainsOffset      |
//! |   0x60 | journalHeaderOffset |           | |   0xC8 | grainsSize        |
//! |   0x70 | journalOffset     |             | |   0xD0 | padding           |
//!
//! A directory's entry: 0, or 0x10000000 in the high half and the number of a table in the low. A table's entry by its highest four
//! bits: 0 not here, 1 unmapped and 2 zero (zero, whatever the parent holds), 3 a grain, whose number's low 12 bits stand in bits 48 to
//! 59 and whose other bits in bits 0 to 47.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use byteorder::{ByteOrder, LittleEndian};

use super::placed::Placed;
use crate::fault::{Fault, Kind};
use crate::image::{Here, Ledger, Named, Overlaps, SECTOR};
use crate::io::{InputFile, Unread, in_memory};

/// The first eight bytes.
pub const MAGIC: [u8; 8] = 0xCAFE_BABEu64.to_le_bytes();
/// The first eight bytes of the volatile header.
pub const VOLATILE_MAGIC: u64 = 0xCAFE_CAFE;
/// The one version that is known.
pub const VERSION: u64 = 0x0000_0002_0000_0001;
/// Sectors of a grain.
pub const GRAIN_SECTORS: u64 = 8;
/// Bytes of a grain.
pub const GRAIN: u64 = GRAIN_SECTORS * SECTOR;
/// Sectors of a table.
pub const TABLE_SECTORS: u64 = 64;
/// Entries of a table.
pub const TABLE_ENTRIES: u64 = TABLE_SECTORS * SECTOR / 8;
/// What the high half of a directory's entry says where there is a table.
pub const TABLE_THERE: u64 = 0x1000_0000;
/// Entries of the directory that are read at once where there are no tables.
const DIRECTORY_PAGE: u64 = 512;
/// Tables kept.
const KEPT: usize = 4;

/// Field offsets, in the order of the table above. Behind the place of a region stands its size.
pub mod at {
    pub const VERSION: usize = 0x08;
    pub const CAPACITY: usize = 0x10;
    pub const GRAIN_SIZE: usize = 0x18;
    pub const GRAIN_TABLE_SIZE: usize = 0x20;
    pub const FLAGS: usize = 0x28;
    pub const VOLATILE_HEADER_OFFSET: usize = 0x50;
    pub const JOURNAL_HEADER_OFFSET: usize = 0x60;
    pub const JOURNAL_OFFSET: usize = 0x70;
    pub const GRAIN_DIR_OFFSET: usize = 0x80;
    pub const GRAIN_DIR_SIZE: usize = 0x88;
    pub const GRAIN_TABLES_OFFSET: usize = 0x90;
    pub const GRAIN_TABLES_SIZE: usize = 0x98;
    pub const FREE_BITMAP_OFFSET: usize = 0xA0;
    pub const BACKMAP_OFFSET: usize = 0xB0;
    pub const GRAINS_OFFSET: usize = 0xC0;
    pub const GRAINS_SIZE: usize = 0xC8;
    /// Behind the last field.
    pub const PAD: usize = 0xD0;
    /// In the volatile header.
    pub const REPLAY_JOURNAL: usize = 0x18;
}

/// The tables of one extent.
pub struct SeTables {
    file: Arc<InputFile>,
    ledger: Arc<Ledger>,
    /// Guest byte at which the extent begins, for warnings.
    guest_start: u64,
    /// Sectors of the extent.
    pub capacity: u64,
    directory: u64,
    tables: u64,
    tables_count: u64,
    grains: u64,
    /// Byte at which the grains end, by the header and in the file.
    grains_end: u64,
    state: Mutex<State>,
}

struct State {
    kept: VecDeque<(u64, Arc<Table>)>,
    /// Whose the tables are that were looked at, by their numbers in the file.
    placed: Placed,
    overlaps: Overlaps,
}

/// A table's entries.
struct Table {
    entries: Vec<u64>,
    /// What of them the medium does not give: they are zero above.
    unread: Vec<Unread>,
}

impl Table {
    /// Is the entry at this byte of the file among what was not read? Up to which byte that is so.
    fn unread(&self, byte: u64) -> Option<(u64, Fault)> {
        let found = self.unread.iter().find(|unread| unread.bytes.contains(&byte))?;
        Some((found.bytes.end, found.fault.clone()))
    }
}

impl SeTables {
    /// Reads and verifies the headers of an extent that begins at guest byte `guest_start`.
    pub fn open(
        file: Arc<InputFile>,
        ledger: Arc<Ledger>,
        guest_start: u64,
        ignore_log: bool,
    ) -> Result<SeTables, Fault> {
        let raw = read_sector(&file, 0)?;
        let field = |at: usize| raw.get(at..).map(LittleEndian::read_u64).unwrap_or_default();
        let wrong = |at: usize, what: &'static str, want: u64| {
            Err(Fault::new(Kind::Unsupported, file.name(), what)
                .at(at as u64)
                .found(format!("{:#x}", field(at)))
                .expected(format!("{want:#x}")))
        };
        if !raw.starts_with(&MAGIC) {
            return wrong(0, "seSparse extent magic", 0xCAFE_BABE);
        }
        if field(at::VERSION) != VERSION {
            return wrong(at::VERSION, "seSparse extent version", VERSION);
        }
        if field(at::GRAIN_SIZE) != GRAIN_SECTORS {
            return wrong(at::GRAIN_SIZE, "seSparse grain size", GRAIN_SECTORS);
        }
        if field(at::GRAIN_TABLE_SIZE) != TABLE_SECTORS {
            return wrong(at::GRAIN_TABLE_SIZE, "seSparse grain table size", TABLE_SECTORS);
        }
        let capacity = field(at::CAPACITY);
        if capacity > i64::MAX as u64 / SECTOR {
            return Err(Fault::new(Kind::OverLimit, file.name(), "seSparse capacity")
                .at(at::CAPACITY as u64)
                .found(capacity));
        }
        let volatile_at = field(at::VOLATILE_HEADER_OFFSET);
        let volatile = read_sector(&file, volatile_at)?;
        if LittleEndian::read_u64(&volatile) != VOLATILE_MAGIC {
            return Err(Fault::damaged(
                file.name(),
                volatile_at.saturating_mul(SECTOR),
                "seSparse volatile header magic",
            ));
        }
        if LittleEndian::read_u64(&volatile[at::REPLAY_JOURNAL..]) != 0 {
            let what = "a seSparse extent whose journal was not replayed: its tables are not what the machine wrote";
            let unplayed =
                Fault::new(Kind::Unsupported, file.name(), what).at(volatile_at * SECTOR + at::REPLAY_JOURNAL as u64);
            match ignore_log {
                true => ledger.warn(unplayed),
                false => {
                    return Err(unplayed.advice(
                        "start the machine and shut it down, or delete the snapshot, on the host; --ignore-log reads on without",
                    ));
                }
            }
        }
        // Each region inside the file, as far as the capacity needs it.
        let inside = |offset: usize, sectors: u64| {
            let start = field(offset);
            match start
                .checked_add(sectors)
                .and_then(|end| end.checked_mul(SECTOR))
                .is_some_and(|end| end <= file.len())
            {
                true => Ok(start),
                false => Err(Fault::damaged(file.name(), offset as u64, "a seSparse region lies outside the file")
                    .found(format!("sector {start}, {sectors} sectors"))
                    .against(format!("the file has {}", file.len() / SECTOR))),
            }
        };
        let directory_sectors = (capacity.div_ceil(TABLE_ENTRIES * GRAIN_SECTORS) * 8).div_ceil(SECTOR);
        if field(at::GRAIN_DIR_SIZE) < directory_sectors {
            return Err(Fault::damaged(
                file.name(),
                at::GRAIN_DIR_SIZE as u64,
                "seSparse grain directory is too small",
            )
            .found(format!("{} sectors", field(at::GRAIN_DIR_SIZE)))
            .expected(directory_sectors));
        }
        let directory = inside(at::GRAIN_DIR_OFFSET, directory_sectors)?;
        let tables = inside(at::GRAIN_TABLES_OFFSET, 0)?;
        let grains = inside(at::GRAINS_OFFSET, 0)?;
        let tables_count = field(at::GRAIN_TABLES_SIZE) / TABLE_SECTORS;
        // Whatever order they have, no two may share a sector: a table would be read as data, or as another table (R8).
        let end = |start: u64, sectors: u64| start.saturating_add(sectors);
        let regions = [
            ("header", 0, 0, 1),
            ("volatile header", at::VOLATILE_HEADER_OFFSET, volatile_at, end(volatile_at, 1)),
            ("grain directory", at::GRAIN_DIR_OFFSET, directory, end(directory, directory_sectors)),
            ("grain tables", at::GRAIN_TABLES_OFFSET, tables, end(tables, field(at::GRAIN_TABLES_SIZE))),
            ("grains", at::GRAINS_OFFSET, grains, end(grains, field(at::GRAINS_SIZE))),
        ];
        for (n, (what, at, start, until)) in regions.iter().enumerate() {
            let meets = regions.iter().take(n).find(|(_, _, other, end)| start < end && other < until);
            if let Some((other, ..)) = meets {
                return Err(Fault::damaged(file.name(), *at as u64, format!("seSparse {what} overlap another region"))
                    .found(format!("sectors {start} to {until}"))
                    .against(format!("the {other} lies there")));
            }
        }
        let grains_end = end(grains, field(at::GRAINS_SIZE)).saturating_mul(SECTOR).min(file.len());
        let overlaps = Overlaps::new(Arc::clone(&ledger), GRAIN, GRAIN);
        let state = State { kept: VecDeque::new(), placed: Placed::new("seSparse grain tables", 1), overlaps };
        let state = Mutex::new(state);
        Ok(SeTables { file, ledger, guest_start, capacity, directory, tables, tables_count, grains, grains_end, state })
    }

    /// How many tables from `first` on, which is not there, are not there; a page of the directory tells.
    fn absent_tables(&self, first: u64) -> Result<u64, Fault> {
        let tables = self.capacity.div_ceil(TABLE_ENTRIES * GRAIN_SECTORS);
        let mut page = vec![0; in_memory((tables - first).min(DIRECTORY_PAGE) * 8)];
        let at = self.directory * SECTOR + first * 8;
        let unread = self.file.read_around(at, &mut page)?;
        let known = unread.first().map_or(page.len(), |unread| in_memory(unread.bytes.start - at));
        let page = page.get(..known).unwrap_or_default();
        Ok(page.chunks_exact(8).take_while(|entry| LittleEndian::read_u64(entry) == 0).count().max(1) as u64)
    }

    /// Looks at all tables, so that of grains that overlap each is told, not the later alone.
    pub fn look_through(&self) -> Result<(), Fault> {
        if self.state.lock().unwrap_or_else(PoisonError::into_inner).overlaps.is_looked_through() {
            return Ok(());
        }
        let (mut at, end) = (0, self.capacity.saturating_mul(SECTOR));
        while at < end {
            // The next table, or what follows tables that are not there.
            let (until, _) = self.run_at(at, end)?;
            at = until.max((at / (TABLE_ENTRIES * GRAIN) + 1) * TABLE_ENTRIES * GRAIN);
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner).overlaps.looked_through();
        Ok(())
    }

    /// What holds the bytes from `from` on, up to `limit` at most, both counted from the extent's start; looks at one table.
    pub fn run_at(&self, from: u64, limit: u64) -> Result<(u64, Here), Fault> {
        let number = from / GRAIN;
        let table_number = number / TABLE_ENTRIES;
        let gde_byte = self.directory * SECTOR + table_number * 8;
        let mut gde = [0; 8];
        let table_end = limit.min((table_number + 1) * TABLE_ENTRIES * GRAIN);
        match self.file.read_exact(gde_byte, &mut gde) {
            Err(fault) if fault.is_of_medium() => return Ok((table_end, Here::Lost(fault))),
            read => read?,
        }
        let gde = LittleEndian::read_u64(&gde);
        if gde == 0 {
            let absent = self.absent_tables(table_number)?;
            return Ok((limit.min((table_number + absent) * TABLE_ENTRIES * GRAIN), Here::Absent));
        }
        let table_at = (self.tables + (gde & 0xFFFF_FFFF) * TABLE_SECTORS) * SECTOR;
        let there = gde >> 32 == TABLE_THERE && (gde & 0xFFFF_FFFF) < self.tables_count;
        if !there || table_at + TABLE_SECTORS * SECTOR > self.file.len() {
            let lost = Fault::damaged(self.file.name(), gde_byte, "seSparse grain directory entry")
                .found(format!("{gde:#018x}"));
            return Ok((table_end, Here::Lost(lost)));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let all = state.overlaps.is_looked_through();
        if !state.placed.place((&self.file, &self.ledger), 0, gde & 0xFFFF_FFFF, table_number, all)? {
            let what = "two entries of a seSparse grain directory lead to one table";
            return Ok((
                table_end,
                Here::Lost(Fault::damaged(self.file.name(), gde_byte, what).found(format!("{gde:#018x}"))),
            ));
        }
        let table = self.table(&mut state, table_number, table_at)?;
        let first = in_memory(number % TABLE_ENTRIES);
        if let Some((end, fault)) = table.unread(table_at + first as u64 * 8) {
            let entries = (end - table_at).div_ceil(8);
            return Ok((table_end.min((table_number * TABLE_ENTRIES + entries) * GRAIN), Here::Lost(fault)));
        }
        // What follows and cannot be read is another run.
        let known =
            table.unread.iter().map(|unread| in_memory((unread.bytes.start - table_at) / 8)).find(|n| *n > first);
        let rest = table.entries.get(first..known.unwrap_or(table.entries.len())).unwrap_or_default();
        let entry = *rest.first().ok_or_else(|| Fault::bug("a grain behind its table"))?;
        let inside = from % GRAIN;
        let lost = |what: &'static str| {
            Fault::damaged(self.file.name(), table_at + first as u64 * 8, what).found(format!("{entry:#018x}"))
        };
        let kind = |entry: u64| entry >> 60;
        let overlaps = |index: usize, entry: u64| state.overlaps.overlaps(table_number, index, self.place(entry));
        let (alike, here) = match kind(entry) {
            0 if entry == 0 => (rest.iter().take_while(|e| **e == 0).count(), Here::Absent),
            1 | 2 => (rest.iter().take_while(|e| matches!(kind(**e), 1 | 2)).count(), Here::Zero),
            3 if overlaps(first, entry) => (1, Here::Lost(lost("seSparse grain lies where another grain lies"))),
            3 => {
                let at = self.place(entry);
                match at.checked_add(GRAIN).is_some_and(|end| end <= self.grains_end) {
                    false => (1, Here::Lost(lost("seSparse grain lies behind the last one"))),
                    true => {
                        let stored = |(n, e): &(u64, &u64)| {
                            kind(**e) == 3 && self.place(**e) == at + n * GRAIN && !overlaps(first + in_memory(*n), **e)
                        };
                        let whole = (self.grains_end - at) / GRAIN;
                        let alike = (0..).zip(rest).take_while(stored).count().min(in_memory(whole));
                        (alike, Here::Plain { file: self.file.id(), at: at + inside })
                    }
                }
            }
            _ => (1, Here::Lost(lost("seSparse grain table entry"))),
        };
        Ok((limit.min((number + alike as u64) * GRAIN), here))
    }

    /// Byte of the grain that an entry of kind 3 names.
    fn place(&self, entry: u64) -> u64 {
        number_of(entry).saturating_mul(GRAIN_SECTORS).saturating_add(self.grains).saturating_mul(SECTOR)
    }

    fn table(&self, state: &mut State, number: u64, at: u64) -> Result<Arc<Table>, Fault> {
        if let Some((_, table)) = state.kept.iter().find(|(kept, _)| *kept == number) {
            return Ok(Arc::clone(table));
        }
        let mut bytes = vec![0; in_memory(TABLE_SECTORS * SECTOR)];
        let unread = self.file.read_around(at, &mut bytes)?;
        let table = Table { entries: bytes.chunks_exact(8).map(LittleEndian::read_u64).collect(), unread };
        let grains = table.entries.iter().enumerate().filter(|(_, entry)| **entry >> 60 == 3);
        let places = grains.map(|(index, entry)| Named { index, at: self.place(*entry), on_other: false });
        let units = places.filter(|unit| unit.at.checked_add(GRAIN).is_some_and(|end| end <= self.grains_end));
        if state.overlaps.claim(number, self.file.name(), "seSparse grains", units)? {
            let what = "the seSparse grain tables are too large to look for overlaps to their end";
            let guest = self.guest_start + number * TABLE_ENTRIES * GRAIN;
            self.ledger.warn_at(guest, Fault::new(Kind::OverLimit, self.file.name(), what).at(at));
        }
        let table = Arc::new(table);
        state.kept.truncate(KEPT - 1);
        state.kept.push_front((number, Arc::clone(&table)));
        Ok(table)
    }
}

/// The number of the grain that an entry of kind 3 names.
pub fn number_of(entry: u64) -> u64 {
    (entry >> 48 & 0xFFF) | (entry & 0x0000_FFFF_FFFF_FFFF) << 12
}

fn read_sector(file: &InputFile, sector: u64) -> Result<[u8; 512], Fault> {
    let mut raw = [0; 512];
    let at = sector.saturating_mul(SECTOR);
    match file.read_up_to(at, &mut raw)? {
        512 => Ok(raw),
        _ => {
            Err(Fault::damaged(file.name(), at.min(file.len()), "the seSparse extent is cut short within its headers"))
        }
    }
}
