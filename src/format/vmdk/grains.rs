//! The placer of one hosted sparse extent: grains in the order of the guest, found by two equal directories.

use std::ops::Range;
use std::path::PathBuf;

use super::header;
use super::layout::{DESCRIPTOR_OFFSET, GT_SECTORS, GTES_PER_GT, Layout};
use crate::fault::{Fault, Kind};
use crate::image::{Placer, SECTOR, Seen, Verdict, Writes};
use crate::io::in_memory;

/// Grain table entries are 32-bit sector numbers: a file ends at this sector at the latest.
pub const MAX_SECTORS: u64 = 1 << 32;

/// Gives each grain the next place; keeps one table.
pub struct Grains {
    /// Index of the file in the plan.
    file: usize,
    /// Guest byte at which the extent begins.
    start: u64,
    layout: Layout,
    /// Zeroes are stored where the base has something else; an entry of 1 for them would be of version 2, which VirtualBox refuses.
    delta: bool,
    /// The embedded descriptor, padded to its area; empty: none.
    descriptor: Vec<u8>,
    /// OUTPUT, for messages.
    output: PathBuf,
    /// Sector of the next grain.
    next_sector: u64,
    /// Number of the table in hand.
    number: u64,
    /// Its entries.
    table: Vec<u32>,
    /// Any of them set?
    used: bool,
}

impl Grains {
    /// For the extent of `layout` that begins at guest byte `start`, in file `file`.
    pub fn new(file: usize, start: u64, layout: Layout, delta: bool, descriptor: Vec<u8>, output: PathBuf) -> Grains {
        let next_sector = layout.overhead;
        Grains {
            file,
            start,
            layout,
            delta,
            descriptor,
            output,
            next_sector,
            number: 0,
            table: Vec::new(),
            used: false,
        }
    }

    /// Writes the table in hand and those that were passed over, up to table `number`, which is then in hand, empty.
    fn turn_to(&mut self, number: u64, out: &mut Writes) {
        if number <= self.number {
            return;
        }
        for directory in self.layout.directories() {
            let mut first_empty = self.number;
            if self.used {
                let bytes = self.table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
                out.meta(self.file, self.layout.table(directory, self.number) * SECTOR, bytes);
                first_empty += 1;
            }
            if first_empty < number {
                let len = (number - first_empty) * GT_SECTORS * SECTOR;
                out.zero(self.file, self.layout.table(directory, first_empty) * SECTOR, len);
            }
        }
        self.number = number;
        self.table.clear();
        self.used = false;
    }

    /// Gives the grain the next place; the byte of it.
    fn place_grain(&mut self, grain: u64, out: &mut Writes) -> Result<u64, Fault> {
        let sector = match u32::try_from(self.next_sector) {
            Ok(sector) if self.next_sector + self.layout.grain_sectors < MAX_SECTORS => sector,
            _ => {
                return Err(Fault::new(
                    Kind::OverLimit,
                    &self.output,
                    "the data does not fit: a monolithicSparse file ends before 2 TiB",
                )
                .advice("-s monolithicFlat holds it"));
            }
        };
        let (table, entry) = (grain / u64::from(GTES_PER_GT), grain % u64::from(GTES_PER_GT));
        self.turn_to(table, out);
        self.table.resize(GTES_PER_GT as usize, 0);
        *self.table.get_mut(in_memory(entry)).ok_or_else(|| Fault::bug("a grain behind its table"))? = sector;
        self.used = true;
        self.next_sector += self.layout.grain_sectors;
        Ok(u64::from(sector) * SECTOR)
    }

    /// The directories follow from the layout: every table is in its place.
    fn directory(&self, directory: u64) -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::with_capacity(in_memory(self.layout.gd_sectors * SECTOR));
        for table in 0..self.layout.tables {
            let sector = u32::try_from(self.layout.table(directory, table));
            bytes.extend(sector.map_err(|_| Fault::bug("a table behind the last sector"))?.to_le_bytes());
        }
        bytes.resize(in_memory(self.layout.gd_sectors * SECTOR), 0);
        Ok(bytes)
    }
}

impl Placer for Grains {
    fn begin(&mut self, _out: &mut Writes) -> Result<(), Fault> {
        Ok(())
    }

    fn place(&mut self, guest: Range<u64>, seen: Seen<'_>, out: &mut Writes) -> Result<(), Fault> {
        let unit = self.layout.grain();
        if let Seen::Units { verdicts, .. } = seen {
            for (grain, verdict) in ((guest.start - self.start) / unit..).zip(verdicts) {
                let bytes = self.start + grain * unit..self.start + (grain + 1) * unit;
                match verdict {
                    Verdict::Data => {
                        let at = self.place_grain(grain, out)?;
                        out.guest(self.file, at, bytes);
                    }
                    Verdict::Zero if self.delta => {
                        let at = self.place_grain(grain, out)?;
                        out.zero(self.file, at, unit);
                    }
                    // A base disk: an entry of 0 reads as zero.
                    Verdict::Zero => {}
                    Verdict::Same if self.delta => {}
                    Verdict::Same => return Err(Fault::bug("a disk without a base is the same as its base")),
                }
            }
        }
        // The walk has left every table that ends here.
        self.turn_to((guest.end - self.start) / self.layout.table_covers(), out);
        Ok(())
    }

    fn finish(&mut self, out: &mut Writes) -> Result<(), Fault> {
        self.turn_to(self.layout.tables, out);
        for directory in self.layout.directories() {
            out.meta(self.file, directory * SECTOR, self.directory(directory)?);
        }
        if !self.descriptor.is_empty() {
            out.meta(self.file, DESCRIPTOR_OFFSET * SECTOR, self.descriptor.clone());
        }
        let tables_end = self.layout.table(self.layout.gd_offset, self.layout.tables);
        out.zero(self.file, tables_end * SECTOR, (self.layout.overhead - tables_end) * SECTOR);
        out.set_len(self.file, self.next_sector * SECTOR);
        out.seal(self.file, 0, header::to_bytes(&self.layout).to_vec());
        Ok(())
    }
}
