//! What stands in a stream, marker by marker, held against its tables.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use byteorder::{ByteOrder, LittleEndian};

use super::header::{self, SparseHeader};
use super::markers;
use crate::fault::Fault;
use crate::image::{Ledger, PackedUnit, SECTOR};
use crate::io::{InputPipe, in_memory};

/// Zero sectors in front of the first grain that are passed over.
const MAX_LEADING: u64 = 2048;
/// What to do with a stream that seeking may read.
pub const SAVE_FIRST: &str = "save it to a file first, and convert that";
/// Zeroes behind the end that are passed over, in bytes.
const MAX_PADDING: u64 = 64 << 20;

/// A digest of each table in front that names a grain; `None` where the tables come behind the grains.
pub type InFront = Option<HashMap<u64, u64>>;

/// What is kept of a table.
pub fn digest(entries: &[u32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    entries.hash(&mut hasher);
    hasher.finish()
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
pub struct Markers {
    /// The stream.
    pub pipe: InputPipe,
    header: SparseHeader,
    /// Sectors of the disk.
    pub sectors: u64,
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
    /// What was met is not what the tables name, or its place: what was handed out may be wrong.
    pub contradicted: bool,
    /// A table names grains that did not come.
    lacks_grains: bool,
}

impl Markers {
    /// For what follows in the pipe behind the front.
    pub fn new(pipe: InputPipe, header: SparseHeader, sectors: u64, in_front: InFront, ledger: Arc<Ledger>) -> Markers {
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
            contradicted: false,
            lacks_grains: false,
        }
    }

    /// Bytes of a grain.
    pub fn grain(&self) -> u64 {
        self.header.grain_sectors * SECTOR
    }

    fn damaged(&self, at: u64, what: &'static str) -> Fault {
        Fault::damaged(self.pipe.name(), at, what)
    }

    /// The next grain of the disk; `None` at the end of the stream.
    pub fn next_grain(&mut self) -> Result<Option<PackedUnit>, Fault> {
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
            // One of the two markers is wrong, and nobody knows which.
            self.contradicted = true;
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
        // Of a stream that was cut the last table lacks what was cut off.
        self.contradicted |= !fits && self.end != End::Cut;
        self.lacks_grains |= !fits;
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
                    _ => {
                        self.contradicted = true;
                        return Err(self.damaged(at, "a grain table of the stream is not that of its grains"));
                    }
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
                    self.contradicted = true;
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
                let same = footer.capacity == self.header.capacity && footer.lays_out_as(&self.header);
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

    /// At the end of the stream: had every table that names a grain its grains?
    pub fn all_came(&mut self) -> Result<(), Fault> {
        let at = self.pipe.at();
        self.leave_table(at)?;
        match &self.in_front {
            Some(left) => match left.keys().min() {
                Some(table) => {
                    let what = "the stream ends before all grains came that its tables name";
                    Err(self.damaged(at, what).found(format!("table {table}")))
                }
                None => Ok(()),
            },
            None if self.directory.is_none() || !self.footer => Err(self.pipe.ended()),
            None => Ok(()),
        }
    }

    /// Is it certain that no grain is missing, whatever else is?
    pub fn has_all_grains(&self) -> bool {
        match &self.in_front {
            Some(left) => left.is_empty() && self.table.is_none() && !self.lacks_grains,
            None => self.directory.is_some(),
        }
    }

    /// Is the end what it must be? `Some`: all grains came, and it is not.
    pub fn finish(&mut self) -> Result<Option<Fault>, Fault> {
        let at = self.pipe.at();
        if self.in_front.is_none() && self.end == End::Cut {
            let what = "the streamOptimized VMDK has no end-of-stream sector: did the sender fail?";
            return Ok(Some(self.damaged(at, what).advice(SAVE_FIRST)));
        }
        // Behind the end nothing may come but padding.
        let (mut behind, mut bytes) = (0, vec![0; 64 << 10]);
        loop {
            let got = self.pipe.read_up_to(&mut bytes)?;
            let read = bytes.get(..got).unwrap_or_default();
            if read.iter().any(|byte| *byte != 0) || behind > MAX_PADDING {
                let what = "something follows the end of the streamOptimized VMDK";
                return Ok(Some(self.damaged(at + behind, what)));
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
        Ok(None)
    }
}
