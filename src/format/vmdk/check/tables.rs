//! Both grain directories, every grain table and its copy, and the places of all grains.

mod places;

use std::cell::Cell;
use std::collections::BTreeSet;

use super::id;
use crate::fault::Fault;
use crate::format::check::Met;
use crate::format::vmdk::grain_tables::Entries;
use crate::format::vmdk::header::{SparseHeader, at};
use crate::format::vmdk::markers;
use crate::format::vmdk::stream::Packing;
use crate::image::{Findings, Regions, SECTOR};
use crate::io::{InputFile, in_memory};

/// Entries of a directory that are read at once.
const PAGE: u64 = 1024;
/// Tables that are looked at: 128 TiB of grains of 64 KiB.
const MOST_TABLES: u64 = 4 << 20;

/// How an extent keeps its tables.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Every table is there, in front of the grains.
    AllTables,
    /// A table without a grain is not there; tables lie between the grains (COWD).
    SomeTables,
    /// The same, and grains are packed, so that their markers say how long they are.
    Packed {
        /// Each table has a marker in front.
        marked: bool,
        /// What stands in front of each grain.
        packing: Packing,
    },
}

/// An extent, swept from its directories on.
pub struct Sweep<'a> {
    file: &'a InputFile,
    header: &'a SparseHeader,
    kept: Kept,
    /// Sectors of the directories, the primary one first.
    directories: Vec<u64>,
    /// The first sector that a grain may have.
    floor: u64,
    /// Where tables that lie in front of the grains end.
    tables_end: u64,
    /// The first sector behind what was written.
    end: u64,
    /// Grains that are zero by their entry: one that became zero leaves its place.
    zeroes: Cell<u64>,
    /// Grains that do not begin at a multiple of their length: how many, and the entry of the first.
    unaligned: Cell<(u64, Option<Entry>)>,
}

/// An entry: its byte and what it says.
type Entry = (u64, u32);

/// What an entry may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Absent,
    Zero,
    At(u32),
}

impl<'a> Sweep<'a> {
    pub fn new(file: &'a InputFile, header: &'a SparseHeader, kept: Kept) -> Sweep<'a> {
        let len_sectors = file.len() / SECTOR;
        let rgd = header.rgd_offset.filter(|rgd| Some(*rgd) != header.gd_offset);
        let all = header.gd_offset.into_iter().chain(rgd);
        let inside = |sector: &u64| sector.checked_add(header.gd_sectors()).is_some_and(|end| end <= len_sectors);
        let directories: Vec<u64> = all.filter(inside).collect();
        let directories_end = directories.iter().max().map_or(0, |sector| sector + header.gd_sectors());
        let believed = (directories_end..=len_sectors).contains(&header.overhead);
        let floor = match kept {
            Kept::Packed { .. } => header.descriptor_offset.saturating_add(header.descriptor_sectors).max(1),
            _ if believed => header.overhead,
            _ => directories_end,
        };
        let tables_end = if kept == Kept::AllTables && believed { header.overhead } else { u64::MAX };
        let end = header.free_sector.unwrap_or(u64::MAX).min(file.len().div_ceil(SECTOR));
        Sweep {
            file,
            header,
            kept,
            directories,
            floor,
            tables_end,
            end,
            zeroes: Cell::new(0),
            unaligned: Cell::default(),
        }
    }

    fn odd(&self, byte: u64, what: &'static str) -> Fault {
        Fault::damaged(self.file.name(), byte, what)
    }

    /// Looks at everything that the directories lead to.
    pub fn look(&self, findings: &mut Findings) -> Result<(), Fault> {
        if self.directories.is_empty() {
            return Ok(());
        }
        let count = self.header.tables().min(MOST_TABLES);
        if count < self.header.tables() {
            findings.warning(id::GDE, || {
                self.odd(at::GD_OFFSET as u64, "VMDK with more grain tables than are looked at")
                    .found(self.header.tables())
            });
        }
        let mut tables = Regions::new(self.header.gt_sectors() * SECTOR, SECTOR);
        self.look_at_directories(findings);
        self.fixed(&mut tables);
        self.each_table(count, |_, entries| {
            let places: BTreeSet<u32> =
                entries.iter().map(|(_, sector)| *sector).filter(|s| self.table_can_be(*s, &tables)).collect();
            places.into_iter().for_each(|sector| tables.unit(sector));
            Ok(())
        })?;
        tables.sort();
        let contested = tables.contested();
        let unit = if matches!(self.kept, Kept::Packed { .. }) { SECTOR } else { self.header.grain_sectors * SECTOR };
        let (mut grains, mut met) = (Regions::new(unit, SECTOR), Met::default());
        self.fixed(&mut grains);
        self.each_table(count, |number, gdes| {
            let mut sound = Vec::new();
            let mut wrong = None;
            for (byte, sector) in gdes {
                let other = contested.contains(sector).then(|| met.meet(*sector, number, tables.reach())).flatten();
                match other.filter(|other| *other != number) {
                    Some(other) => wrong = wrong.or(Some((*byte, *sector, Some(other)))),
                    None if self.table_can_be(*sector, &tables) => sound.push((*byte, *sector)),
                    None => wrong = wrong.or(Some((*byte, *sector, None))),
                }
            }
            self.tell_of_directories(number, wrong, &sound, findings)?;
            let mut places: Vec<u64> = sound.iter().map(|(_, sector)| u64::from(*sector) * SECTOR).collect();
            places.dedup();
            self.look_at_table(number, &places, &tables, &mut grains, findings)
        })?;
        findings.count("grain_tables", count);
        findings.count("grains", grains.units());
        grains.sort();
        self.look_at_overlaps(count, &tables, &grains, findings)?;
        self.look_at_places(&mut grains, findings)
    }

    /// Header and descriptor.
    fn around(&self, regions: &mut Regions) {
        let header = self.header;
        regions.structure(0..SECTOR, "header");
        if header.descriptor_offset != 0 {
            let start = header.descriptor_offset.saturating_mul(SECTOR);
            regions
                .structure(start..start.saturating_add(header.descriptor_sectors.saturating_mul(SECTOR)), "descriptor");
        }
    }

    /// What is in the file besides tables and grains.
    fn fixed(&self, regions: &mut Regions) {
        self.around(regions);
        for directory in &self.directories {
            let bytes = directory * SECTOR..(directory + self.header.gd_sectors()) * SECTOR;
            regions.structure(bytes, "grain directory");
        }
    }

    /// Neither directory may lie on the header, on the descriptor or on the other directory.
    fn look_at_directories(&self, findings: &mut Findings) {
        let mut others = Regions::new(SECTOR, SECTOR);
        self.around(&mut others);
        for directory in &self.directories {
            let bytes = directory * SECTOR..(directory + self.header.gd_sectors()) * SECTOR;
            if let Some(other) = others.structure_in(&bytes) {
                let field = if Some(*directory) == self.header.gd_offset { at::GD_OFFSET } else { at::RGD_OFFSET };
                findings.error(id::DIRECTORY, || {
                    let over = self.odd(field as u64, "VMDK grain directory lies over another structure");
                    over.found(format!("sector {directory}")).against(format!("the {} lies there", other.name))
                });
            }
            others.structure(bytes, "other directory");
        }
    }

    /// Calls `each` for every table that a directory has: its number, and the entries of both directories that can be read.
    fn each_table(&self, count: u64, mut each: impl FnMut(u64, &[Entry]) -> Result<(), Fault>) -> Result<(), Fault> {
        let mut first = 0;
        while first < count {
            let page = (count - first).min(PAGE);
            let byte = |directory: u64, table: u64| directory * SECTOR + table * 4;
            let read = |directory: &u64| Ok((*directory, Entries::read(self.file, byte(*directory, first), page)?));
            let copies = self.directories.iter().map(read).collect::<Result<Vec<_>, Fault>>()?;
            for index in 0..page {
                let entries = copies.iter().filter_map(|(directory, entries)| {
                    let sector = entries.get(in_memory(index))?.ok()?;
                    Some((byte(*directory, first + index), sector))
                });
                let entries: Vec<Entry> = entries.collect();
                let none = self.kept != Kept::AllTables && entries.iter().all(|(_, sector)| *sector == 0);
                if !none {
                    each(first + index, &entries)?;
                }
            }
            first += page;
        }
        Ok(())
    }

    /// Can a table begin at this sector: inside the file, on nothing else?
    fn table_can_be(&self, sector: u32, tables: &Regions) -> bool {
        let (start, end) = (u64::from(sector), u64::from(sector) + self.header.gt_sectors());
        sector != 0
            && end <= self.end.min(self.tables_end)
            && tables.structure_in(&(start * SECTOR..end * SECTOR)).is_none()
    }

    fn tell_of_directories(
        &self,
        number: u64,
        wrong: Option<(u64, u32, Option<u64>)>,
        sound: &[Entry],
        findings: &mut Findings,
    ) -> Result<(), Fault> {
        if let Some((byte, sector, other)) = wrong {
            let fault = || {
                let cannot = self.odd(byte, "VMDK grain directory entry cannot be").found(format!("sector {sector}"));
                match (other, sound.is_empty()) {
                    (Some(other), _) => cannot.against(format!("table {other} lies there; this is table {number}")),
                    (None, true) => cannot,
                    (None, false) => cannot.against("its copy is used"),
                }
            };
            match sound.is_empty() {
                true => findings.error(id::GDE, fault),
                false => findings.warning(id::GDE, fault),
            }
        }
        if let [(_, one), (byte, other)] = sound
            && one == other
        {
            findings.warning(id::GDE_COPY, || {
                let same =
                    self.odd(*byte, "both VMDK grain directories lead to one table").found(format!("sector {one}"));
                same.advice("VirtualBox refuses it")
            });
        }
        if let Kept::Packed { marked: true, .. } = self.kept {
            for (_, sector) in sound {
                if markers::in_front_of(self.file, (*sector).into())? != Some(markers::TABLE) {
                    findings.warning(id::MARKER, || {
                        let none =
                            self.odd(u64::from(*sector) * SECTOR, "no marker in front of a grain table of the stream");
                        none.found(format!("table {number}")).advice("7-Zip refuses it")
                    });
                }
            }
        }
        Ok(())
    }

    fn meaning(&self, entry: u32) -> Option<Meaning> {
        match entry {
            0 => Some(Meaning::Absent),
            1 => self.header.zeroed_grains.then_some(Meaning::Zero),
            sector => (u64::from(sector) >= self.floor && u64::from(sector) < self.end).then_some(Meaning::At(sector)),
        }
    }

    /// The entries of a table that count, held against those of its copy.
    fn look_at_table(
        &self,
        number: u64,
        places: &[u64],
        tables: &Regions,
        grains: &mut Regions,
        findings: &mut Findings,
    ) -> Result<(), Fault> {
        let per_table = u64::from(self.header.gtes_per_gt);
        let needed = self.header.entries_of(number);
        let copies = places
            .iter()
            .map(|place| Entries::read(self.file, *place, per_table))
            .collect::<Result<Vec<_>, Fault>>()?;
        for index in 0..per_table {
            let entry = |copy: usize| -> Option<Entry> {
                let value = copies.get(copy)?.get(in_memory(index))?.ok()?;
                Some((places.get(copy)? + index * 4, value))
            };
            let (one, other) = match (entry(0), entry(1)) {
                (Some(one), other) => (one, other),
                (None, Some(other)) => (other, None),
                (None, None) => continue,
            };
            if index >= needed {
                if let Some((byte, sector)) = [Some(one), other].into_iter().flatten().find(|(_, sector)| *sector != 0)
                {
                    findings.warning(id::GTE_SURPLUS, || {
                        self.odd(byte, "VMDK grain table entry behind the disk's end").found(format!("sector {sector}"))
                    });
                }
                continue;
            }
            match self.decide(one, other, findings) {
                Some(Meaning::At(sector)) => {
                    self.place(number * per_table + index, one.0, sector, tables, grains, findings);
                }
                Some(Meaning::Zero) => self.zeroes.set(self.zeroes.get() + 1),
                _ => {}
            }
        }
        Ok(())
    }

    /// What counts of an entry and its copy.
    fn decide(&self, one: Entry, other: Option<Entry>, findings: &mut Findings) -> Option<Meaning> {
        let cannot = |what: &'static str| self.odd(one.0, what).found(format!("sector {}", one.1));
        let primary = self.meaning(one.1);
        let Some((copy_byte, copy)) = other.filter(|(_, copy)| *copy != one.1) else {
            if primary.is_none() {
                findings.error(id::GTE, || cannot("VMDK grain table entry cannot be"));
            }
            return primary;
        };
        let says = format!("its copy at byte {copy_byte} says sector {copy}");
        match (primary, self.meaning(copy)) {
            (None, None) => {
                findings.error(id::GTE, || cannot("VMDK grain table entries cannot be").against(says));
                None
            }
            (Some(one), Some(other)) if one != Meaning::Absent && other != Meaning::Absent => {
                findings
                    .error(id::TABLES_DIFFER, || cannot("VMDK grain table entry and its copy differ").against(says));
                None
            }
            (one, other) => {
                findings.warning(id::TABLES_DIFFER, || {
                    cannot("VMDK grain tables differ from their copies: the entries that can be are used").against(says)
                });
                one.filter(|one| *one != Meaning::Absent).or(other).or(one)
            }
        }
    }

    fn place(
        &self,
        grain: u64,
        byte: u64,
        sector: u32,
        tables: &Regions,
        grains: &mut Regions,
        findings: &mut Findings,
    ) {
        let start = u64::from(sector) * SECTOR;
        if !matches!(self.kept, Kept::Packed { .. }) {
            let whole = self.header.grain_sectors * SECTOR;
            let needed = (self.header.capacity - grain * self.header.grain_sectors).saturating_mul(SECTOR).min(whole);
            if start + needed > self.file.len() {
                findings.error(id::GRAIN_CUT, || {
                    let cut = self.odd(self.file.len(), "VMDK grain is cut by the end of the file");
                    cut.found(format!("grain at byte {start}, by the entry at byte {byte}"))
                        .against(format!("the file has {} bytes", self.file.len()))
                });
            }
            if self.kept == Kept::SomeTables && tables.has_unit_in(&(start..start + whole)) {
                findings.error(id::GTE_OVERLAP, || {
                    let what = "VMDK grain lies where another grain lies, or a table";
                    self.odd(byte, what).found(format!("sector {sector}")).against("a table lies there")
                });
                return;
            }
        }
        if self.kept == Kept::AllTables && !u64::from(sector).is_multiple_of(self.header.grain_sectors) {
            let (count, first) = self.unaligned.get();
            self.unaligned.set((count + 1, first.or(Some((byte, sector)))));
        }
        grains.unit(sector);
    }

    /// Grains that share bytes: the later one is named, and the entry of the earlier.
    fn look_at_overlaps(
        &self,
        count: u64,
        tables: &Regions,
        grains: &Regions,
        findings: &mut Findings,
    ) -> Result<(), Fault> {
        if grains.left_out() > 0 {
            findings.warning(id::GTE_OVERLAP, || {
                self.odd(at::GD_OFFSET as u64, "the VMDK has more grains than are held against each other")
                    .found(grains.left_out())
            });
        }
        let contested = grains.contested();
        if contested.is_empty() {
            return Ok(());
        }
        let mut met = Met::default();
        self.each_table(count, |number, gdes| {
            let Some((_, sector)) = gdes.iter().find(|(_, sector)| self.table_can_be(*sector, tables)) else {
                return Ok(());
            };
            let place = u64::from(*sector) * SECTOR;
            let needed = self.header.entries_of(number);
            let entries = Entries::read(self.file, place, needed)?;
            for index in 0..needed {
                let Some(Ok(entry)) = entries.get(in_memory(index)) else { continue };
                if contested.contains(&entry)
                    && let Some(other) = met.meet(entry, place + index * 4, grains.reach())
                {
                    findings.error(id::GTE_OVERLAP, || {
                        let what = "VMDK grain lies where another grain lies, or a table";
                        let overlap = self.odd(place + index * 4, what).found(format!("sector {entry}"));
                        overlap.against(format!("the entry at byte {other} leads there too"))
                    });
                }
            }
            Ok(())
        })
    }
}
