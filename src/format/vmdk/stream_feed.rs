//! Reads a streamOptimized disk that comes through a pipe: once, in order, nothing kept but a table.
//!
//! Its markers say where everything stands; its tables, in front or behind, must say the same. So a stream whose end is missing, whose
//! grains were lost or came twice, or whose tables are another's is never read as a smaller or an emptier disk.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use byteorder::{ByteOrder, LittleEndian};
use libdeflater::Decompressor;

use super::described::{Described, hold_against_line};
use super::extent::Access;
use super::header::{self, SparseHeader, Stored};
use super::markers;
use super::parse::Parsed;
use super::recorded;
use super::stream::{MAX_GRAIN_SECTORS, inflate};
use crate::fault::{Fault, Kind};
use crate::format::StreamSource;
use crate::image::{Content, Decode, Drawn, Feed, Ledger, PIECE, PackedUnit, Piece, SECTOR, Verdict};
use crate::io::{InputPipe, in_memory};

/// The longest descriptor that is read, in bytes.
const MAX_DESCRIPTOR: u64 = 1 << 20;
/// The most entries of a directory: those of a disk of 64 TiB.
const MAX_TABLES: u64 = 1 << 21;
/// Zero sectors in front of the first grain that are passed over.
const MAX_LEADING: u64 = 2048;
/// What to do with a stream that seeking may read.
const SAVE_FIRST: &str = "save it to a file first, and convert that";
/// Zeroes behind the end that are passed over, in bytes.
const MAX_PADDING: u64 = 64 << 20;

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
    let head = pipe.head().to_vec();
    let warnings = Arc::clone(&ledger);
    let feed = move |end: u64, unit: u64| -> Box<dyn Feed> {
        Box::new(StreamFeed {
            markers: Markers::new(pipe, header, line.sectors, in_front, warnings),
            pending: None,
            at: 0,
            end,
            unit,
        })
    };
    Ok(StreamSource { facts, ledger, open_end: false, head, feed: Box::new(feed) })
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

/// A digest of each table in front that names a grain; `None` where the tables come behind the grains.
type InFront = Option<HashMap<u64, u64>>;

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

fn digest(entries: &[u32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    entries.hash(&mut hasher);
    hasher.finish()
}

/// The disk, as its stream gives it.
struct StreamFeed {
    markers: Markers,
    /// The grain that came last and was not handed out yet.
    pending: Option<PackedUnit>,
    /// Guest byte up to which all was handed out.
    at: u64,
    /// Bytes of the disk that is written.
    end: u64,
    /// Test unit of the output.
    unit: u64,
}

impl Feed for StreamFeed {
    fn next(&mut self) -> Result<Option<Drawn>, Fault> {
        if self.pending.is_none() {
            self.pending = self.markers.next_grain()?;
        }
        let Some(first) = &self.pending else {
            let gap = self.at..self.end;
            self.at = self.end;
            return Ok((!gap.is_empty()).then_some(Drawn::Gap(gap, Verdict::Zero)));
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
            self.pending = self.markers.next_grain()?;
        }
        let guest = start..end.next_multiple_of(self.unit).min(window).min(self.end);
        self.at = guest.end;
        Ok(Some(Drawn::Piece(Piece { guest, content: Content::Packed { units, unit }, base: Vec::new() })))
    }

    fn finish(&mut self) -> Result<(), Fault> {
        self.markers.finish()
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
        let got = inflate(&mut self.decompressor, &unit.bytes, out).map_err(damaged)?;
        let needed = self.disk.saturating_sub(unit.guest).min(out.len() as u64);
        if (got as u64) < needed {
            return Err(damaged("VMDK grain inflates to less than a grain").found(got).expected(needed));
        }
        // What stands behind the disk's end is nobody's, and the disk may be grown.
        out.iter_mut().skip(in_memory(needed)).for_each(|byte| *byte = 0);
        Ok(())
    }
}

/// What was met of the end.
#[derive(PartialEq, Eq, Clone, Copy)]
enum End {
    /// Nothing yet.
    Open,
    /// The end-of-stream sector.
    Marked,
    /// The sender stopped without one.
    Cut,
}

/// The markers one behind the other, held against the tables.
struct Markers {
    pipe: InputPipe,
    header: SparseHeader,
    /// Sectors of the disk.
    sectors: u64,
    in_front: InFront,
    ledger: Arc<Ledger>,
    /// First sector of the last grain.
    last: Option<u64>,
    /// The table that the grains are in, and the entries that their markers imply.
    table: Option<(u64, Vec<u32>)>,
    /// Sectors of the tables that came behind their grains.
    behind: HashMap<u64, u32>,
    /// Sectors of tables without a grain, which some writers put out.
    empty: HashSet<u32>,
    /// Sector of the directory that came behind the grains.
    directory: Option<u64>,
    footer: bool,
    /// Something came behind the front.
    started: bool,
    end: End,
}

impl Markers {
    fn new(pipe: InputPipe, header: SparseHeader, sectors: u64, in_front: InFront, ledger: Arc<Ledger>) -> Markers {
        Markers {
            pipe,
            header,
            sectors,
            in_front,
            ledger,
            last: None,
            table: None,
            behind: HashMap::new(),
            empty: HashSet::new(),
            directory: None,
            footer: false,
            started: false,
            end: End::Open,
        }
    }

    /// Bytes of a grain.
    fn grain(&self) -> u64 {
        self.header.grain_sectors * SECTOR
    }

    fn damaged(&self, at: u64, what: &'static str) -> Fault {
        Fault::damaged(self.pipe.name(), at, what)
    }

    /// The next grain of the disk; `None` at the end of the stream.
    fn next_grain(&mut self) -> Result<Option<PackedUnit>, Fault> {
        let mut zeroes = 0;
        while self.end == End::Open {
            let at = self.pipe.at();
            let mut sector = [0; 512];
            let got = self.pipe.read_up_to(&mut sector)?;
            if got < sector.len() {
                // The sender has ended; where tables stood in front they tell whether that was too early.
                self.end = End::Cut;
                let size = LittleEndian::read_u32(&sector[8..]);
                let last = size > 0 && markers::GRAIN_MARKER + u64::from(size) <= got as u64;
                let plausible = got == 0 || (self.in_front.is_some() && (last || sector == [0; 512]));
                if !plausible {
                    return Err(self.pipe.ended());
                }
                if !last {
                    break;
                }
            }
            let (value, size, kind) = (
                LittleEndian::read_u64(&sector),
                LittleEndian::read_u32(&sector[8..]),
                LittleEndian::read_u32(&sector[12..]),
            );
            match (size, value, kind) {
                // Some headers say that the grains begin before they do.
                (0, 0, 0) if !self.started && zeroes < MAX_LEADING => zeroes += 1,
                (0, 0, 0) => self.end = End::Marked,
                (0, count, kind) => {
                    self.started = true;
                    self.metadata(at, count, kind)?;
                }
                (size, lba, _) => {
                    self.started = true;
                    let grain = self.packed(at, lba, size, &sector)?;
                    // The extent line decides how much of it is the disk's.
                    if lba < self.sectors {
                        return Ok(Some(grain));
                    }
                }
            }
        }
        Ok(None)
    }

    fn packed(&mut self, at: u64, lba: u64, size: u32, sector: &[u8; 512]) -> Result<PackedUnit, Fault> {
        let grain = self.header.grain_sectors;
        if !lba.is_multiple_of(grain) || lba >= self.header.capacity {
            return Err(self.damaged(at, "VMDK grain marker lies outside the disk").found(format!("lba {lba}")));
        }
        if self.last.is_some_and(|last| lba <= last) {
            let what = "the grains of the stream do not come in the disk's order";
            return Err(self.damaged(at, what).found(format!("lba {lba}")).advice(SAVE_FIRST));
        }
        if self.directory.is_some() {
            return Err(self.damaged(at, "a VMDK grain behind the stream's directory"));
        }
        let most = 2 * self.grain() + SECTOR;
        if u64::from(size) > most {
            return Err(self.damaged(at, "VMDK grain marker size").found(size).expected(format!("1 to {most}")));
        }
        self.last = Some(lba);
        let per_table = u64::from(self.header.gtes_per_gt);
        let (table, entry) = (lba / grain / per_table, lba / grain % per_table);
        if self.table.as_ref().is_none_or(|(number, _)| *number != table) {
            self.leave_table(at)?;
            self.table = Some((table, vec![0; self.header.gtes_per_gt as usize]));
        }
        if let Some(place) = self.table.as_mut().and_then(|(_, entries)| entries.get_mut(in_memory(entry))) {
            *place =
                u32::try_from(at / SECTOR).map_err(|_| Fault::damaged(self.pipe.name(), at, "a stream of 2 TiB"))?;
        }
        let mut bytes = sector.get(in_memory(markers::GRAIN_MARKER)..).unwrap_or_default().to_vec();
        let whole = (markers::GRAIN_MARKER + u64::from(size)).next_multiple_of(SECTOR);
        let had = bytes.len();
        bytes.resize(in_memory(whole - markers::GRAIN_MARKER), 0);
        let got = had + self.pipe.read_up_to(bytes.get_mut(had..).unwrap_or_default())?;
        // Of the very last grain of all the padding may be missing.
        if (got as u64) < u64::from(size) || (got < bytes.len() && self.in_front.is_none()) {
            return Err(self.pipe.ended());
        }
        bytes.truncate(size as usize);
        Ok(PackedUnit { guest: lba * SECTOR, at, bytes })
    }

    /// The grains have left a table: where it stood in front, it must have said where they are; else it must have come.
    fn leave_table(&mut self, at: u64) -> Result<(), Fault> {
        let Some((number, entries)) = self.table.take() else { return Ok(()) };
        let wrong = Fault::damaged(self.pipe.name(), at, "the tables of the stream are not those of its grains");
        let fits = match &mut self.in_front {
            Some(digests) => digests.remove(&number) == Some(digest(&entries)),
            None => self.behind.contains_key(&number),
        };
        match (fits, &self.in_front) {
            (true, _) => Ok(()),
            (false, Some(_)) => Err(wrong.found(format!("table {number}"))),
            (false, None) => {
                let what = "a grain table of the stream does not come right behind its grains";
                Err(self.damaged(at, what).found(format!("table {number}")).advice(SAVE_FIRST))
            }
        }
    }

    fn metadata(&mut self, at: u64, count: u64, kind: u32) -> Result<(), Fault> {
        let content = (at + SECTOR) / SECTOR;
        match kind {
            markers::TABLE => {
                let entries = self.entries(self.header.gtes_per_gt.into())?;
                let place = u32::try_from(content).unwrap_or(u32::MAX);
                match &self.table {
                    Some((number, implied)) if !self.behind.contains_key(number) && *implied == entries => {
                        self.behind.insert(*number, place);
                    }
                    _ if entries.iter().all(|entry| *entry == 0) => drop(self.empty.insert(place)),
                    // A second copy, or tables in front that come again, say nothing new.
                    Some((_, implied)) if *implied == entries => {}
                    _ => return Err(self.damaged(at, "a grain table of the stream is not that of its grains")),
                }
                Ok(())
            }
            markers::DIRECTORY => {
                if self.directory.is_some() {
                    return Err(self.damaged(at, "a second grain directory in the stream").advice(SAVE_FIRST));
                }
                if self.in_front.is_none() {
                    self.leave_table(at)?;
                    if self.header.gd_offset.is_some_and(|place| place != content) {
                        let what = "the header of the streamOptimized VMDK leads past its grain directory";
                        return Err(self.damaged(56, what).expected(format!("sector {content}")));
                    }
                }
                let entries = self.entries(self.header.tables())?;
                let fits = |(number, sector): (u64, u32)| match self.behind.get(&number) {
                    Some(place) => *place == sector,
                    None => sector == 0 || self.empty.contains(&sector),
                };
                if self.in_front.is_none() && !(0u64..).zip(entries.iter().copied()).all(fits) {
                    return Err(self.damaged(at, "the grain directory of the stream is not that of its tables"));
                }
                self.directory = Some(content);
                Ok(())
            }
            markers::FOOTER => {
                let base = self.pipe.at();
                let mut raw = [0; header::LEN];
                self.pipe.read_exact(&mut raw)?;
                let footer = SparseHeader::parse(&raw, self.pipe.name(), base)?;
                let same = footer.capacity == self.header.capacity
                    && footer.grain_sectors == self.header.grain_sectors
                    && footer.gtes_per_gt == self.header.gtes_per_gt
                    && footer.zeroed_grains == self.header.zeroed_grains
                    && footer.grains_are == self.header.grains_are;
                if !same || (self.directory.is_some() && footer.gd_offset != self.directory) {
                    return Err(
                        self.damaged(base, "the footer of the streamOptimized VMDK contradicts what came before it")
                    );
                }
                self.footer = true;
                Ok(())
            }
            // Progress, or something that nobody documented.
            _ => self.pipe.skip(count.saturating_mul(SECTOR)),
        }
    }

    /// `count` entries, padded to sectors.
    fn entries(&mut self, count: u64) -> Result<Vec<u32>, Fault> {
        let mut bytes = vec![0; in_memory((count * 4).next_multiple_of(SECTOR))];
        self.pipe.read_exact(&mut bytes)?;
        Ok(bytes.chunks_exact(4).take(in_memory(count)).map(LittleEndian::read_u32).collect())
    }

    /// Is the stream whole: every table that names a grain had its grains, and the end is what it must be?
    fn finish(&mut self) -> Result<(), Fault> {
        let at = self.pipe.at();
        self.leave_table(at)?;
        match &self.in_front {
            Some(left) => {
                if let Some(table) = left.keys().min() {
                    let what = "the stream ends before all grains came that its tables name";
                    return Err(self.damaged(at, what).found(format!("table {table}")));
                }
            }
            None if self.directory.is_none() || !self.footer => return Err(self.pipe.ended()),
            None if self.end == End::Cut => {
                let what = "the streamOptimized VMDK has no end-of-stream sector: did the sender fail?";
                return Err(self.damaged(at, what).advice(SAVE_FIRST));
            }
            None => {}
        }
        // Behind the end nothing may come but padding.
        let (mut behind, mut bytes) = (0, vec![0; 64 << 10]);
        loop {
            let got = self.pipe.read_up_to(&mut bytes)?;
            let read = bytes.get(..got).unwrap_or_default();
            if read.iter().any(|byte| *byte != 0) || behind > MAX_PADDING {
                return Err(self.damaged(at + behind, "something follows the end of the streamOptimized VMDK"));
            }
            behind += got as u64;
            if got == 0 {
                break;
            }
        }
        if behind > 0 && self.in_front.is_none() {
            let warning = self.damaged(at, "the streamOptimized VMDK does not end behind its footer");
            self.ledger.warn(warning.found(format!("{behind} zeroes more")));
        }
        Ok(())
    }
}
