//! Reads a streamOptimized disk that comes through a pipe: once, in order, nothing kept but a table.
//!
//! Its markers say where everything stands; its tables, in front or behind, must say the same. So a stream whose end is missing, whose
//! grains were lost or came twice, or whose tables are another's is never read as a smaller or an emptier disk.

use std::collections::HashMap;
use std::sync::Arc;

use byteorder::{ByteOrder, LittleEndian};
use libdeflater::Decompressor;

use super::described::{Described, hold_against_line};
use super::extent::Access;
use super::header::{self, SparseHeader, Stored};
use super::parse::Parsed;
use super::recorded;
use super::stream::{MAX_GRAIN_SECTORS, inflate_grain};
use super::stream_markers::{InFront, Markers, SAVE_FIRST, digest};
use crate::fault::{Fault, Kind};
use crate::format::StreamSource;
use crate::image::{Content, Decode, Drawn, Feed, Ledger, Lost, PIECE, PackedUnit, Piece, SECTOR, Verdict, lost_tail};
use crate::io::{InputPipe, in_memory};

/// The longest descriptor that is read, in bytes.
const MAX_DESCRIPTOR: u64 = 1 << 20;
/// The most entries of a directory: those of a disk of 64 TiB.
const MAX_TABLES: u64 = 1 << 21;
/// Opens what follows in the pipe as a VMDK.
pub fn open(mut pipe: InputPipe) -> Result<StreamSource, Fault> {
    let ledger = Arc::<Ledger>::default();
    let name = pipe.name().to_path_buf();
    let mut raw = [0; header::LEN];
    pipe.read_exact(&mut raw)?;
    let header = SparseHeader::parse(&raw, &name, 0)?;
    let front = header.overhead.checked_mul(SECTOR).filter(|front| *front >= header::LEN as u64);
    let refuse = |what: &'static str| Fault::new(Kind::Unsupported, &name, what);
    if header.grains_are != Stored::Deflated {
        return Err(refuse("a VMDK of this kind is read by seeking")
            .advice("save it to a file first; streamOptimized, raw and fixed VHD come through a pipe"));
    }
    if header.grain_sectors > MAX_GRAIN_SECTORS || header.tables() > MAX_TABLES {
        return Err(refuse("the grains or tables of this VMDK are too large for a stream").of_kind(Kind::OverLimit));
    }
    let front = front.ok_or_else(|| Fault::damaged(&name, 64, "VMDK overHead").found(header.overhead))?;

    let descriptor = read_descriptor(&mut pipe, &raw, front)?;
    let in_front = read_tables_in_front(&mut pipe, &header, front)?;
    pipe.skip(front - pipe.at())?;

    let described = Described { name: &name, descriptor: &descriptor };
    described.check(&ledger)?;
    if described.link()?.is_some() {
        return Err(refuse("a snapshot cannot come through a pipe: its parent is somewhere else"));
    }
    let line = described.own_line(header.capacity, &ledger)?;
    if line.access == Access::None {
        return Err(described.no_access(&line));
    }
    if header.unclean_shutdown {
        ledger.warn(Fault::damaged(&name, 72, "the program that wrote this VMDK did not come to its end"));
    }
    let size = line.sectors.checked_mul(SECTOR).filter(|size| *size > 0 && i64::try_from(*size).is_ok());
    let size = size.ok_or_else(|| Fault::damaged(&name, 12, "VMDK capacity").found(line.sectors))?;
    let short = hold_against_line(&name, &header, line.sectors, &ledger);
    if header.capacity < line.sectors {
        return Err(short);
    }
    let facts = recorded::facts(&descriptor, size);
    let (head, received) = (pipe.head().to_vec(), pipe.received());
    let warnings = Arc::clone(&ledger);
    let feed = move |end: u64, unit: u64| -> Box<dyn Feed> {
        Box::new(StreamFeed::new(Markers::new(pipe, header, line.sectors, in_front, warnings), end, unit))
    };
    Ok(StreamSource { facts, ledger, open_end: false, head, received, feed: Box::new(feed) })
}

/// The descriptor in front of the grains; one that is all zero, or not there, says nothing.
fn read_descriptor(pipe: &mut InputPipe, raw: &[u8; header::LEN], front: u64) -> Result<Parsed, Fault> {
    let (offset, sectors) = header::descriptor_area(raw);
    let (at, len) = (offset.saturating_mul(SECTOR), sectors.saturating_mul(SECTOR));
    if offset == 0 || len == 0 {
        return Ok(Parsed::default());
    }
    if len > MAX_DESCRIPTOR || at < pipe.at() || at.saturating_add(len) > front {
        return Err(Fault::damaged(
            pipe.name(),
            28,
            "the embedded VMDK descriptor lies outside the front of the stream",
        )
        .found(format!("sector {offset}, {sectors} sectors")));
    }
    pipe.skip(at - pipe.at())?;
    let mut bytes = vec![0; in_memory(len)];
    pipe.read_exact(&mut bytes)?;
    Parsed::parse(&bytes, pipe.name(), at)
}

fn read_tables_in_front(pipe: &mut InputPipe, header: &SparseHeader, front: u64) -> Result<InFront, Fault> {
    let directory = header.gd_offset.and_then(|sector| sector.checked_mul(SECTOR)).filter(|at| *at < front);
    let Some(directory) = directory else { return Ok(None) };
    let len = header.tables() * 4;
    let misplaced = |at: u64| {
        Fault::damaged(pipe.name(), 56, "the tables of the stream do not stand in front of its grains in order")
            .found(format!("byte {at}"))
            .advice(SAVE_FIRST)
    };
    if directory < pipe.at() || directory + len > front {
        return Err(misplaced(directory));
    }
    let (mut places, mut digests) = (Vec::new(), HashMap::new());
    pipe.skip(directory - pipe.at())?;
    let mut bytes = vec![0; in_memory(len)];
    pipe.read_exact(&mut bytes)?;
    for (table, sector) in (0u64..).zip(bytes.chunks_exact(4).map(LittleEndian::read_u32)).filter(|(_, s)| *s != 0) {
        places.push((u64::from(sector) * SECTOR, table));
    }
    places.sort_unstable();
    let mut bytes = vec![0; in_memory(header.gt_sectors() * SECTOR)];
    for (at, table) in places {
        if at < pipe.at() || at + bytes.len() as u64 > front {
            return Err(Fault::damaged(
                pipe.name(),
                directory + table * 4,
                "a grain table of the stream is not where it can be",
            )
            .found(format!("byte {at}"))
            .advice(SAVE_FIRST));
        }
        pipe.skip(at - pipe.at())?;
        pipe.read_exact(&mut bytes)?;
        // A grain that is zero has no marker.
        let zero = |entry: u32| if entry == 1 && header.zeroed_grains { 0 } else { entry };
        let entries: Vec<u32> = bytes.chunks_exact(4).map(LittleEndian::read_u32).map(zero).collect();
        if entries.iter().any(|entry| *entry != 0) {
            digests.insert(table, digest(&entries));
        }
    }
    Ok(Some(digests))
}

/// The disk, as its stream gives it.
struct StreamFeed {
    markers: Markers,
    /// The grain that came last and was not handed out yet.
    pending: Option<PackedUnit>,
    /// Guest byte behind the last grain that came.
    came: u64,
    /// Why no more grains come.
    end_of_stream: Option<EndOfStream>,
    /// Guest byte up to which all was handed out.
    at: u64,
    /// Bytes of the disk that is written.
    end: u64,
    /// Test unit of the output.
    unit: u64,
}

/// How a stream ended.
enum EndOfStream {
    /// As it must.
    Whole,
    /// All grains came that its tables name, and what stands behind them is damaged.
    DamagedBehind(Fault),
    /// Nothing is known of what lies behind the last grain that came.
    BrokeOff(Fault),
}

impl StreamFeed {
    fn new(markers: Markers, end: u64, unit: u64) -> StreamFeed {
        StreamFeed { markers, pending: None, came: 0, end_of_stream: None, at: 0, end, unit }
    }

    /// Bytes of the disk that comes.
    fn disk_end(&self) -> u64 {
        self.markers.sectors * SECTOR
    }

    /// Takes the next grain in hand, where there is one.
    fn fetch(&mut self) -> Result<(), Fault> {
        if self.end_of_stream.is_some() {
            return Ok(());
        }
        let came = self.markers.next_grain().and_then(|grain| match grain {
            Some(grain) => Ok(Some(grain)),
            None => self.markers.all_came().map(|()| None),
        });
        match came {
            Ok(Some(grain)) => {
                self.came = (grain.guest + self.markers.grain()).min(self.disk_end());
                self.pending = Some(grain);
            }
            Ok(None) => self.end_of_stream = Some(EndOfStream::Whole),
            // Grains that were handed out and are not those that the tables name are no loss of what comes.
            Err(fault) if self.markers.contradicted || !fault.is_about_bytes() => return Err(fault),
            Err(fault) if self.markers.has_all_grains() => {
                self.end_of_stream = Some(EndOfStream::DamagedBehind(fault));
            }
            Err(fault) => self.end_of_stream = Some(EndOfStream::BrokeOff(fault)),
        }
        Ok(())
    }

    /// Why the disk is lost behind the last grain that came.
    fn broke_off(&self) -> Option<Fault> {
        match &self.end_of_stream {
            Some(EndOfStream::BrokeOff(fault)) => Some(fault.clone()),
            _ => None,
        }
    }
}

impl Feed for StreamFeed {
    fn next(&mut self) -> Result<Option<Drawn>, Fault> {
        if self.pending.is_none() {
            self.fetch()?;
        }
        let Some(first) = &self.pending else {
            let disk_end = self.disk_end();
            let drawn = match self.broke_off().filter(|_| self.at < disk_end) {
                Some(fault) => lost_tail(self.at, disk_end, self.end, self.unit, fault),
                None => Drawn::Gap(self.at..self.end, Verdict::Zero),
            };
            self.at = drawn.guest().end;
            return Ok((!drawn.guest().is_empty()).then_some(drawn));
        };
        let start = first.guest - first.guest % self.unit;
        if start > self.at {
            let gap = self.at..start;
            self.at = start;
            return Ok(Some(Drawn::Gap(gap, Verdict::Zero)));
        }
        let window = (start / PIECE + 1).saturating_mul(PIECE);
        let unit = self.markers.grain();
        let (mut units, mut end) = (Vec::new(), start);
        while let Some(grain) = self.pending.take_if(|grain| grain.guest < window) {
            end = grain.guest + unit;
            units.push(grain);
            self.fetch()?;
        }
        let guest = start..end.next_multiple_of(self.unit).min(window).min(self.end);
        self.at = guest.end;
        let lost_to = guest.end.min(self.disk_end());
        let lost = self.broke_off().filter(|_| self.came < lost_to);
        let lost = lost.map(|fault| Lost { guest: self.came..lost_to, fault }).into_iter().collect();
        let content = Content::Packed { units, unit, end: self.disk_end() };
        Ok(Some(Drawn::Piece(Piece { guest, content, base: Vec::new(), lost })))
    }

    fn finish(&mut self) -> Result<Option<Fault>, Fault> {
        match self.end_of_stream.take() {
            // What was lost was handed out as such; where that was nothing, all of the disk came.
            Some(EndOfStream::BrokeOff(fault)) => Ok((self.came >= self.disk_end()).then_some(fault)),
            Some(EndOfStream::DamagedBehind(fault)) => Ok(Some(fault)),
            Some(EndOfStream::Whole) | None => self.markers.finish(),
        }
    }

    fn decoder(&self) -> Option<Box<dyn Decode>> {
        let needed = self.markers.sectors * SECTOR;
        let name = self.markers.pipe.name().to_path_buf();
        Some(Box::new(Inflate { decompressor: Decompressor::new(), disk: needed, name }))
    }
}

/// Inflates grains in hand.
struct Inflate {
    decompressor: Decompressor,
    /// Bytes of the disk: behind them a grain may be cut.
    disk: u64,
    name: std::path::PathBuf,
}

impl Decode for Inflate {
    fn decode(&mut self, unit: &PackedUnit, out: &mut [u8]) -> Result<(), Fault> {
        let damaged = |what: &'static str| Fault::damaged(&self.name, unit.at, what);
        let needed = self.disk.saturating_sub(unit.guest);
        inflate_grain(&mut self.decompressor, &unit.bytes, needed, out, damaged)
    }
}
