//! A seSparse extent: its headers, where its regions lie, its directory and its tables entry by entry.
//!
//! The free bitmap and the back map are the host's own, for giving grains back; how they are laid out nobody published. Where they lie is
//! looked at.

use std::collections::{BTreeSet, HashMap};

use byteorder::{ByteOrder, LittleEndian};

use super::id;
use crate::fault::Fault;
use crate::format::check::Met;
use crate::format::vmdk::header::LEN;
use crate::format::vmdk::sesparse::{
    GRAIN, GRAIN_SECTORS, TABLE_ENTRIES, TABLE_SECTORS, TABLE_THERE, VERSION, VOLATILE_MAGIC, at, number_of,
};
use crate::image::{Findings, Regions, SECTOR};
use crate::io::{InputFile, in_memory};

/// Sectors that a table covers.
const TABLE_COVERS: u64 = TABLE_ENTRIES * GRAIN_SECTORS;
/// Tables that are looked at: 64 TiB have as many.
const MOST: u64 = 4 << 20;
/// Entries of the directory that are read at once.
const PAGE: u64 = 32 << 10;
/// Of the header: what is zero in every file that was seen.
const ZERO: [std::ops::Range<usize>; 2] = [at::FLAGS..at::VOLATILE_HEADER_OFFSET, at::PAD..LEN];
/// Behind the fields of the volatile header.
const VOLATILE_PAD: usize = 0x20;

/// Looks at the extent, of which the descriptor wants `sectors`.
pub fn look(file: &InputFile, raw: &[u8; LEN], sectors: u64, findings: &mut Findings) -> Result<(), Fault> {
    let field = |at: usize| raw.get(at..).map(LittleEndian::read_u64).unwrap_or_default();
    let known = field(at::VERSION) == VERSION
        && field(at::GRAIN_SIZE) == GRAIN_SECTORS
        && field(at::GRAIN_TABLE_SIZE) == TABLE_SECTORS;
    // What it is else the reader says.
    if !known {
        return Ok(());
    }
    let extent = Extent { file, raw };
    extent.look_at_headers(sectors, findings)?;
    extent.look_at_regions(findings);
    let tables = extent.look_at_directory(findings)?;
    findings.count("sesparse_tables", tables.len() as u64);
    extent.look_at_tables(&tables, findings)
}

/// A table that is where its entry says.
struct Table {
    /// The entry's number in the directory.
    number: u64,
    /// Byte of the table.
    at: u64,
}

struct Extent<'a> {
    file: &'a InputFile,
    raw: &'a [u8; LEN],
}

impl Extent<'_> {
    fn field(&self, at: usize) -> u64 {
        self.raw.get(at..).map(LittleEndian::read_u64).unwrap_or_default()
    }

    fn byte(&self, at: usize) -> u64 {
        self.field(at).saturating_mul(SECTOR)
    }

    fn odd(&self, byte: u64, what: &'static str) -> Fault {
        Fault::damaged(self.file.name(), byte, what)
    }

    /// Grains and tables that the disk needs.
    fn grains(&self) -> u64 {
        self.field(at::CAPACITY).div_ceil(GRAIN_SECTORS)
    }

    fn look_at_headers(&self, sectors: u64, findings: &mut Findings) -> Result<(), Fault> {
        let capacity = self.field(at::CAPACITY);
        if capacity > sectors.saturating_add(GRAIN_SECTORS) {
            findings.warning(id::CAPACITY, || {
                let more = self.odd(at::CAPACITY as u64, "seSparse capacity is more than the descriptor says");
                more.found(format!("{capacity} sectors")).against(format!("the descriptor says {sectors}"))
            });
        }
        let mut zero = ZERO.into_iter().flatten();
        if let Some(byte) = zero.find(|n| self.raw.get(*n).is_some_and(|byte| *byte != 0)) {
            findings.warning(id::SE_HEADER, || {
                self.odd(byte as u64, "seSparse header: flags, or reserved bytes").expected("zero")
            });
        }
        let (start, mut volatile) = (self.byte(at::VOLATILE_HEADER_OFFSET), [0; LEN]);
        let got = self.file.read_up_to(start, &mut volatile)?;
        if got == LEN
            && LittleEndian::read_u64(&volatile) == VOLATILE_MAGIC
            && let Some(byte) = (VOLATILE_PAD..LEN).find(|n| volatile.get(*n).is_some_and(|byte| *byte != 0))
        {
            findings.warning(id::SE_HEADER, || {
                self.odd(start + byte as u64, "seSparse volatile header: reserved bytes").expected("zero")
            });
        }
        Ok(())
    }

    /// The regions that a reader does not need; of the others the reader says what is wrong.
    fn look_at_regions(&self, findings: &mut Findings) {
        const REGIONS: [(usize, &str, bool); 8] = [
            (at::VOLATILE_HEADER_OFFSET, "volatile header", true),
            (at::GRAIN_DIR_OFFSET, "grain directory", true),
            (at::GRAIN_TABLES_OFFSET, "grain tables", true),
            (at::GRAINS_OFFSET, "grains", true),
            (at::JOURNAL_HEADER_OFFSET, "journal's header", false),
            (at::JOURNAL_OFFSET, "journal", false),
            (at::FREE_BITMAP_OFFSET, "free bitmap", false),
            (at::BACKMAP_OFFSET, "back map", false),
        ];
        let mut others = Regions::new(SECTOR, SECTOR);
        others.structure(0..SECTOR, "header");
        for (field, name, is_read) in REGIONS {
            // Its size stands behind its place.
            let start = self.byte(field);
            let bytes = start..start.saturating_add(self.byte(field + 8));
            let outside = bytes.end > self.file.len();
            let other = others.structure_in(&bytes).map(|region| region.name);
            if !is_read && !bytes.is_empty() && (outside || other.is_some()) {
                findings.warning(id::SE_HEADER, || {
                    let odd = self.odd(field as u64, "a region of the seSparse extent that cannot be there");
                    let odd = odd.found(format!("the {name}, {} bytes at byte {start}", bytes.end - start));
                    match other {
                        Some(other) => odd.against(format!("the {other} lies there")),
                        None => odd.against(format!("the file has {} bytes", self.file.len())),
                    }
                });
            }
            others.structure(bytes, name);
        }
    }

    /// Calls `each` for all entries of 64 bits that are not zero and can be read: number, byte, value.
    fn each_entry(&self, start: u64, count: u64, mut each: impl FnMut(u64, u64, u64)) -> Result<(), Fault> {
        let mut first = 0;
        while first < count {
            let page = (count - first).min(PAGE);
            let mut bytes = vec![0; in_memory(page * 8)];
            let unread = self.file.read_around(start + first * 8, &mut bytes)?;
            for (number, entry) in (first..).zip(bytes.chunks_exact(8).map(LittleEndian::read_u64)) {
                let byte = start + number * 8;
                let lost = unread.iter().any(|unread| byte < unread.bytes.end && unread.bytes.start < byte + 8);
                if entry != 0 && !lost {
                    each(number, byte, entry);
                }
            }
            first += page;
        }
        Ok(())
    }

    /// The tables that the directory leads to, each once.
    fn look_at_directory(&self, findings: &mut Findings) -> Result<Vec<Table>, Fault> {
        let start = self.byte(at::GRAIN_DIR_OFFSET);
        let there = self.byte(at::GRAIN_DIR_SIZE).min(self.file.len().saturating_sub(start)) / 8;
        let needed = self.field(at::CAPACITY).div_ceil(TABLE_COVERS).min(MOST);
        let count = self.field(at::GRAIN_TABLES_SIZE) / TABLE_SECTORS;
        let (mut owners, mut tables) = (HashMap::<u64, u64>::new(), Vec::new());
        self.each_entry(start, there.min(MOST), |number, byte, entry| {
            let cannot = |what: &'static str| self.odd(byte, what).found(format!("{entry:#018x}"));
            if number >= needed {
                findings.warning(id::SE_GDE, || cannot("seSparse grain directory entry behind the disk's end"));
                return;
            }
            let table = entry & 0xFFFF_FFFF;
            let at = (self.field(at::GRAIN_TABLES_OFFSET).saturating_add(table * TABLE_SECTORS)).saturating_mul(SECTOR);
            let inside = at.saturating_add(TABLE_SECTORS * SECTOR) <= self.file.len();
            if entry >> 32 != TABLE_THERE || table >= count || !inside {
                findings.error(id::SE_GDE, || cannot("seSparse grain directory entry"));
                return;
            }
            match owners.insert(table, byte) {
                Some(other) => findings.error(id::SE_GDE, || {
                    let twice = cannot("two entries of a seSparse grain directory lead to one table");
                    twice.against(format!("so does the entry at byte {other}"))
                }),
                None => tables.push(Table { number, at }),
            }
        })?;
        Ok(tables)
    }

    /// Every entry of every table, and the places of all grains.
    fn look_at_tables(&self, tables: &[Table], findings: &mut Findings) -> Result<(), Fault> {
        let mut grains = Regions::new(GRAIN, GRAIN);
        for table in tables {
            self.each_entry(table.at, TABLE_ENTRIES, |index, byte, entry| {
                self.look_at_entry(table.number * TABLE_ENTRIES + index, byte, entry, &mut grains, findings);
            })?;
        }
        findings.count("grains", grains.units());
        if grains.left_out() > 0 {
            findings.warning(id::SE_OVERLAP, || {
                let what = "the seSparse extent has more grains than are held against each other";
                self.odd(at::GRAIN_TABLES_OFFSET as u64, what).found(grains.left_out())
            });
        }
        grains.sort();
        let contested: BTreeSet<u32> = grains.contested();
        let mut met = Met::default();
        for table in tables.iter().filter(|_| !contested.is_empty()) {
            self.each_entry(table.at, TABLE_ENTRIES, |_, byte, entry| {
                let place =
                    u32::try_from(number_of(entry)).ok().filter(|place| entry >> 60 == 3 && contested.contains(place));
                if let Some(other) = place.and_then(|place| met.meet(place, byte, 1)) {
                    findings.error(id::SE_OVERLAP, || {
                        let overlap = self.odd(byte, "seSparse grain lies where another grain lies");
                        overlap
                            .found(format!("{entry:#018x}"))
                            .against(format!("so does that of the entry at byte {other}"))
                    });
                }
            })?;
        }
        Ok(())
    }

    fn look_at_entry(&self, grain: u64, byte: u64, entry: u64, grains: &mut Regions, findings: &mut Findings) {
        let cannot = |what: &'static str| self.odd(byte, what).found(format!("{entry:#018x}"));
        if grain >= self.grains() {
            findings.warning(id::SE_GTE, || cannot("seSparse grain table entry behind the disk's end"));
            return;
        }
        match entry >> 60 {
            1 | 2 => {}
            3 => {
                let number = number_of(entry);
                let end = self.byte(at::GRAINS_OFFSET).saturating_add((number + 1).saturating_mul(GRAIN));
                if number >= self.field(at::GRAINS_SIZE) / GRAIN_SECTORS || end > self.file.len() {
                    findings.error(id::SE_GTE, || cannot("seSparse grain lies behind the last one"));
                } else if let Ok(place) = u32::try_from(number) {
                    grains.unit(place);
                }
            }
            _ => findings.error(id::SE_GTE, || cannot("seSparse grain table entry")),
        }
    }
}
