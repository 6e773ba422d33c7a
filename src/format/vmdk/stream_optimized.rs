//! Writes streamOptimized: deflated grains behind markers, the tables behind the grains that they find, the directory and the footer
//! last. Nothing is ever sought, so the same bytes go into a file and into a pipe.
//!
//! ```text
//! header, directory unknown | descriptor | zeroes to sector 128 | grains of 32 MiB | marker, table | … | marker, directory | marker, footer | end
//! ```
//!
//! As VMware's own importers want it: version 3, one copy of the tables, grains in guest order, the last one padded before it is
//! deflated, exactly one sector of end, nothing behind.

use std::ops::Range;
use std::path::PathBuf;

use byteorder::{ByteOrder, LittleEndian};

use super::deflate::Deflate;
use super::descriptor::{Descriptor, Style, own_name};
use super::grains::MAX_SECTORS;
use super::header;
use super::layout::{DESCRIPTOR_OFFSET, DESCRIPTOR_SECTORS, GRAIN, GRAIN_SECTORS, GT_SECTORS, GTES_PER_GT};
use super::markers;
use crate::fault::{Fault, Kind};
use crate::format::Wish;
use crate::image::{Encoder, Facts, Order, Placer, Plan, PlannedFile, SECTOR, Seen, Verdict, Writer, Writes};
use crate::io::in_memory;

/// Sector of the first grain: VirtualBox's import begins to read there.
const OVERHEAD: u64 = 128;
/// The name that stands in a descriptor where the own one is too long.
const SHORT_NAME: &str = "disk.vmdk";
/// What the header says of a directory that comes last.
const AT_END: u64 = u64::MAX;
/// The one file.
const FILE: usize = 0;

/// A writer for a disk of these facts.
pub fn writer(facts: &Facts, wish: &Wish) -> Result<Box<dyn Writer>, Fault> {
    let capacity = super::capacity(facts, &wish.output)?;
    let described = |name: &str| {
        Descriptor::new(Style::Stream, capacity, vec![format!("RW {capacity} SPARSE \"{name}\"")], facts, wish)
    };
    let mut descriptor = described(&own_name(wish));
    if descriptor.text().len() as u64 > SECTOR {
        // Some importers read one sector of it; whatever name stands there, readers take the file itself.
        descriptor = described(SHORT_NAME);
    }
    let deflate = Deflate::new(wish.effort)?;
    let plan = Plan {
        files: vec![PlannedFile { suffix: None, len: None }],
        virtual_size: facts.virtual_size,
        place_unit: GRAIN,
        test_unit: GRAIN,
        order: if wish.stream { Order::Stream } else { Order::Ordered },
        holes: !wish.stream,
        decisions: descriptor.decisions().into_iter().chain([deflate.decision()]).collect(),
        notes: descriptor.notes(facts),
    };
    let mut text = descriptor.text().into_bytes();
    text.resize(in_memory(DESCRIPTOR_SECTORS * SECTOR), 0);
    Ok(Box::new(StreamOptimized { plan, capacity, descriptor: text, deflate, output: wish.output.clone() }))
}

struct StreamOptimized {
    plan: Plan,
    capacity: u64,
    descriptor: Vec<u8>,
    deflate: Deflate,
    output: PathBuf,
}

impl Writer for StreamOptimized {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn placer(&self) -> Box<dyn Placer> {
        Box::new(Stream {
            capacity: self.capacity,
            descriptor: self.descriptor.clone(),
            output: self.output.clone(),
            next: OVERHEAD,
            number: 0,
            table: Vec::new(),
            directory: Vec::new(),
        })
    }

    fn encoder(&self) -> Option<Box<dyn Encoder>> {
        Some(Box::new(self.deflate.encoder()))
    }
}

/// Everything in the order in which it goes out.
struct Stream {
    capacity: u64,
    descriptor: Vec<u8>,
    output: PathBuf,
    /// Sector that comes next.
    next: u64,
    /// Number of the table in hand.
    number: u64,
    /// Its entries; empty: none is set.
    table: Vec<u32>,
    /// Sectors of the tables so far; 0 where there is none.
    directory: Vec<u32>,
}

/// Bytes of the disk that a table covers.
const TABLE_COVERS: u64 = GTES_PER_GT as u64 * GRAIN;

impl Stream {
    /// The next `sectors`, whose numbers entries can hold.
    fn take(&mut self, sectors: u64) -> Result<u32, Fault> {
        let sector = u32::try_from(self.next).ok().filter(|_| self.next + sectors < MAX_SECTORS);
        let sector = sector.ok_or_else(|| {
            Fault::new(Kind::OverLimit, &self.output, "the data does not fit: a streamOptimized file ends before 2 TiB")
                .advice("-s twoGbMaxExtentSparse or -s monolithicFlat holds it")
        })?;
        self.next += sectors;
        Ok(sector)
    }

    /// A marker, and what it announces, padded to sectors; the sector of the latter.
    fn announced(&mut self, kind: u32, bytes: Vec<u8>, out: &mut Writes) -> Result<u32, Fault> {
        let sectors = (bytes.len() as u64).div_ceil(SECTOR);
        let at = self.take(1 + sectors)?;
        out.meta(FILE, u64::from(at) * SECTOR, with_marker(kind, sectors, bytes));
        Ok(at + 1)
    }

    /// Puts out the table in hand, where a grain is in it, and goes on to table `number`.
    fn turn_to(&mut self, number: u64, out: &mut Writes) -> Result<(), Fault> {
        if number <= self.number {
            return Ok(());
        }
        let mut sector = 0;
        if !self.table.is_empty() {
            let table = std::mem::take(&mut self.table);
            sector =
                self.announced(markers::TABLE, table.iter().flat_map(|entry| entry.to_le_bytes()).collect(), out)?;
        }
        self.directory.push(sector);
        self.directory.resize(in_memory(number), 0);
        self.number = number;
        Ok(())
    }
}

/// A marker's sector, and behind it whole sectors of `bytes`.
fn with_marker(kind: u32, sectors: u64, bytes: Vec<u8>) -> Vec<u8> {
    let mut raw = vec![0; in_memory(SECTOR)];
    LittleEndian::write_u64(&mut raw, sectors);
    LittleEndian::write_u32(raw.get_mut(12..).unwrap_or_default(), kind);
    raw.extend(bytes);
    raw.resize(raw.len().next_multiple_of(in_memory(SECTOR)), 0);
    raw
}

impl Placer for Stream {
    fn begin(&mut self, out: &mut Writes) -> Result<(), Fault> {
        let mut front = header::stream_to_bytes(self.capacity, AT_END, OVERHEAD).to_vec();
        front.resize(in_memory(DESCRIPTOR_OFFSET * SECTOR), 0);
        front.extend(&self.descriptor);
        front.resize(in_memory(OVERHEAD * SECTOR), 0);
        out.meta(FILE, 0, front);
        Ok(())
    }

    fn place(&mut self, guest: Range<u64>, seen: Seen<'_>, out: &mut Writes) -> Result<(), Fault> {
        if let Seen::Units { verdicts, sizes } = seen {
            for (index, (verdict, size)) in verdicts.iter().zip(sizes).enumerate() {
                match verdict {
                    Verdict::Zero => continue,
                    Verdict::Same => return Err(Fault::bug("a stream has no base")),
                    Verdict::Data => {}
                }
                let grain = guest.start / GRAIN + index as u64;
                self.turn_to(grain / u64::from(GTES_PER_GT), out)?;
                let sector = self.take(u64::from(*size) / SECTOR)?;
                self.table.resize(GTES_PER_GT as usize, 0);
                let entry = self.table.get_mut(in_memory(grain % u64::from(GTES_PER_GT)));
                *entry.ok_or_else(|| Fault::bug("a grain behind its table"))? = sector;
                out.encoded(FILE, u64::from(sector) * SECTOR, index);
            }
        }
        // The walk has left every table that ends here.
        self.turn_to(guest.end / TABLE_COVERS, out)
    }

    fn finish(&mut self, out: &mut Writes) -> Result<(), Fault> {
        let tables = self.capacity.div_ceil(u64::from(GTES_PER_GT) * GRAIN_SECTORS);
        self.turn_to(tables, out)?;
        let directory = std::mem::take(&mut self.directory);
        let bytes = directory.iter().flat_map(|sector| sector.to_le_bytes()).collect();
        let gd_offset = self.announced(markers::DIRECTORY, bytes, out)?;
        // What makes the stream whole: its footer, and the end.
        let footer = header::stream_to_bytes(self.capacity, gd_offset.into(), OVERHEAD).to_vec();
        let at = self.take(3)?;
        let mut end = with_marker(markers::FOOTER, 1, footer);
        end.resize(in_memory(3 * SECTOR), 0);
        out.set_len(FILE, self.next * SECTOR);
        out.seal(FILE, u64::from(at) * SECTOR, end);
        Ok(())
    }
}

const _: () = assert!(GT_SECTORS * SECTOR == GTES_PER_GT as u64 * 4);
