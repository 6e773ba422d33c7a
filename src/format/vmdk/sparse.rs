//! Writes monolithicSparse: one file of grains in the order of the guest, found by two equal directories.

use std::ops::Range;
use std::path::PathBuf;

use super::descriptor::{Descriptor, own_name, parent};
use super::header;
use super::layout::{
    DESCRIPTOR_OFFSET, DESCRIPTOR_SECTORS, GRAIN, GRAIN_SECTORS, GT_COVERS, GT_SECTORS, GTES_PER_GT, Layout,
};
use crate::fault::{Fault, Kind};
use crate::format::Wish;
use crate::image::{Encoder, Facts, Order, Placer, Plan, PlannedFile, SECTOR, Seen, Verdict, Writer, Writes};
use crate::io::in_memory;

/// Grain table entries are 32-bit sector numbers: a file ends at this sector at the latest.
const MAX_SECTORS: u64 = 1 << 32;
/// The one file.
const FILE: usize = 0;

/// A writer for a disk of these facts.
pub fn writer(facts: &Facts, wish: &Wish) -> Result<Box<dyn Writer>, Fault> {
    let capacity = super::capacity(facts, &wish.output)?;
    if capacity >= MAX_SECTORS {
        return Err(Fault::new(Kind::OverLimit, &wish.output, "monolithicSparse holds less than 2 TiB")
            .found(format!("{} bytes", facts.virtual_size))
            .advice("-s monolithicFlat holds it"));
    }
    let extent = format!("RW {capacity} SPARSE \"{}\"", own_name(wish));
    let parent = parent(wish, facts)?;
    let delta = parent.is_some();
    let mut descriptor = Descriptor::hosted("monolithicSparse", capacity, extent, facts, wish);
    descriptor.parent = parent;
    let decisions = descriptor.decisions();
    let mut descriptor = descriptor.text().into_bytes();
    if descriptor.len() as u64 > DESCRIPTOR_SECTORS * SECTOR {
        return Err(Fault::new(Kind::Usage, &wish.output, "the name is too long for the embedded descriptor"));
    }
    descriptor.resize(in_memory(DESCRIPTOR_SECTORS * SECTOR), 0);
    let plan = Plan {
        files: vec![PlannedFile { suffix: None, len: None }],
        virtual_size: facts.virtual_size,
        place_unit: GRAIN,
        test_unit: GRAIN,
        order: Order::Ordered,
        holes: true,
        decisions,
    };
    Ok(Box::new(Sparse { plan, layout: Layout::new(capacity), delta, descriptor, output: wish.output.clone() }))
}

struct Sparse {
    plan: Plan,
    layout: Layout,
    delta: bool,
    descriptor: Vec<u8>,
    output: PathBuf,
}

impl Writer for Sparse {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn placer(&self) -> Box<dyn Placer> {
        Box::new(Grains {
            layout: self.layout.clone(),
            delta: self.delta,
            descriptor: self.descriptor.clone(),
            output: self.output.clone(),
            next_sector: self.layout.overhead,
            number: 0,
            table: vec![0; GTES_PER_GT as usize],
            used: false,
        })
    }

    fn encoder(&self) -> Option<Box<dyn Encoder>> {
        None
    }
}

/// Gives each grain the next place; keeps one table.
struct Grains {
    layout: Layout,
    /// Zeroes are stored where the base has something else; an entry of 1 for them would be of version 2, which VirtualBox refuses.
    delta: bool,
    descriptor: Vec<u8>,
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
    /// Writes the table in hand and those that were passed over, up to table `number`, which is then in hand, empty.
    fn turn_to(&mut self, number: u64, out: &mut Writes) {
        if number <= self.number {
            return;
        }
        for directory in self.layout.directories() {
            let mut first_empty = self.number;
            if self.used {
                let bytes = self.table.iter().flat_map(|entry| entry.to_le_bytes()).collect();
                out.meta(FILE, self.layout.table(directory, self.number) * SECTOR, bytes);
                first_empty += 1;
            }
            if first_empty < number {
                let len = (number - first_empty) * GT_SECTORS * SECTOR;
                out.zero(FILE, self.layout.table(directory, first_empty) * SECTOR, len);
            }
        }
        self.number = number;
        self.table.fill(0);
        self.used = false;
    }

    /// Gives the grain the next place; the byte of it.
    fn place_grain(&mut self, grain: u64, out: &mut Writes) -> Result<u64, Fault> {
        let sector = match u32::try_from(self.next_sector) {
            Ok(sector) if self.next_sector + GRAIN_SECTORS < MAX_SECTORS => sector,
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
        *self.table.get_mut(in_memory(entry)).ok_or_else(|| Fault::bug("a grain behind its table"))? = sector;
        self.used = true;
        self.next_sector += GRAIN_SECTORS;
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
        if let Seen::Units { verdicts, .. } = seen {
            for (grain, verdict) in (guest.start / GRAIN..).zip(verdicts) {
                match verdict {
                    Verdict::Data => {
                        let at = self.place_grain(grain, out)?;
                        out.guest(FILE, at, grain * GRAIN..(grain + 1) * GRAIN);
                    }
                    Verdict::Zero if self.delta => {
                        let at = self.place_grain(grain, out)?;
                        out.zero(FILE, at, GRAIN);
                    }
                    // A base disk: an entry of 0 reads as zero.
                    Verdict::Zero => {}
                    Verdict::Same if self.delta => {}
                    Verdict::Same => return Err(Fault::bug("a disk without a base is the same as its base")),
                }
            }
        }
        // The walk has left every table that ends here.
        self.turn_to(guest.end / GT_COVERS, out);
        Ok(())
    }

    fn finish(&mut self, out: &mut Writes) -> Result<(), Fault> {
        self.turn_to(self.layout.tables, out);
        for directory in self.layout.directories() {
            out.meta(FILE, directory * SECTOR, self.directory(directory)?);
        }
        out.meta(FILE, DESCRIPTOR_OFFSET * SECTOR, self.descriptor.clone());
        let tables_end = self.layout.table(self.layout.gd_offset, self.layout.tables);
        out.zero(FILE, tables_end * SECTOR, (self.layout.overhead - tables_end) * SECTOR);
        out.set_len(FILE, self.next_sector * SECTOR);
        out.seal(FILE, 0, header::to_bytes(&self.layout).to_vec());
        Ok(())
    }
}
