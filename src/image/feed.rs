//! Where the engine gets a disk's content from, in guest order: the walk over a map, or a stream that is read once.

use std::ops::Range;

use super::{Here, Lost, Run, Verdict};
use crate::fault::Fault;
use crate::io::{FileId, in_memory};

/// A piece lies within one window of this many bytes.
pub const PIECE: u64 = 1 << 20;

/// What lies in a row in one file comes in pieces of at most this many bytes, where the one who draws does not read it.
pub const ROW: u64 = 64 << 20;

/// Plain runs that need not be read.
#[derive(Debug, Clone)]
pub struct Rows {
    /// Those of these files,
    pub files: Vec<FileId>,
    /// that lie in the file as many bytes behind a multiple of this as in the guest.
    pub unit: u64,
}

impl Rows {
    /// Is it one?
    pub fn have(&self, run: &Run) -> bool {
        match run.here {
            Here::Plain { file, at } => self.files.contains(&file) && at % self.unit == run.guest.start % self.unit,
            _ => false,
        }
    }
}

/// What a draw gives.
#[derive(Debug)]
pub enum Drawn {
    /// Whole test units (the disk's end may cut the last) of one verdict, that cost nothing.
    Gap(Range<u64>, Verdict),
    /// Whole test units that cannot be had, as one run of the map says. What becomes of them the engine decides.
    Lost(Lost),
    /// Something to read.
    Piece(Piece),
}

impl Drawn {
    /// The guest bytes.
    pub fn guest(&self) -> &Range<u64> {
        match self {
            Drawn::Gap(guest, _) | Drawn::Lost(Lost { guest, .. }) | Drawn::Piece(Piece { guest, .. }) => guest,
        }
    }
}

/// Whole test units of the guest (the disk's end may cut the last) within one window of [`PIECE`] bytes; where rows were asked for, also
/// one plain run of at most [`ROW`] bytes.
#[derive(Debug)]
pub struct Piece {
    /// The guest bytes.
    pub guest: Range<u64>,
    /// What they are.
    pub content: Content,
    /// What the base is made of there; empty where the output has none.
    pub base: Vec<(usize, Run)>,
    /// What of the content did not come, and is zero there. Runs tell that themselves.
    pub lost: Vec<Lost>,
}

impl Piece {
    /// The part of a row inside `window`.
    pub fn of_row(runs: &[(usize, Run)], window: Range<u64>) -> Piece {
        let runs = runs.iter().filter_map(|(depth, run)| Some((*depth, run.cut(&window)?))).collect();
        Piece { guest: window, content: Content::Runs(runs), base: Vec::new(), lost: Vec::new() }
    }
}

/// What a piece is made of.
#[derive(Debug)]
pub enum Content {
    /// Runs of the source's map without gaps, with the depth of the layer that each comes from.
    Runs(Vec<(usize, Run)>),
    /// The bytes themselves, which came out of a stream.
    Bytes(Vec<u8>),
    /// Packed units that came out of a stream, in guest order; zeroes lie between them.
    Packed {
        /// The units.
        units: Vec<PackedUnit>,
        /// Bytes of the guest in each.
        unit: u64,
        /// Guest byte at which the disk ends that the stream holds; units may reach behind it.
        end: u64,
    },
}

/// A packed unit in hand.
#[derive(Debug)]
pub struct PackedUnit {
    /// Guest byte at which it begins.
    pub guest: u64,
    /// Byte of the stream at which it stood, for messages.
    pub at: u64,
    /// Its packed bytes.
    pub bytes: Vec<u8>,
}

/// Unpacks units that are in hand; each worker has its own.
pub trait Decode: Send {
    /// Fills `out`, which is as long as a unit.
    fn decode(&mut self, unit: &PackedUnit, out: &mut [u8]) -> Result<(), Fault>;
}

/// What follows at `at`, a whole number of test units, where a stream broke off: up to `disk_end` the disk is lost, behind it zeroes fill
/// up to `end`, to which it was grown.
pub fn lost_tail(at: u64, disk_end: u64, end: u64, unit: u64, fault: Fault) -> Drawn {
    let whole = if disk_end >= end { end } else { disk_end - disk_end % unit };
    if whole > at {
        return Drawn::Lost(Lost { guest: at..whole, fault });
    }
    let guest = at..at.saturating_add(unit).min(end);
    let lost = vec![Lost { guest: at..disk_end.min(end), fault }];
    let bytes = vec![0; in_memory(guest.end - guest.start)];
    Drawn::Piece(Piece { guest, content: Content::Bytes(bytes), base: Vec::new(), lost })
}

/// Where pieces come from; in guest order, from byte 0 to the disk's end, without a hole between them.
pub trait Feed: Send {
    /// The next piece or gap; `None` at the end. A fault belongs to the place where the next one would begin.
    fn next(&mut self) -> Result<Option<Drawn>, Fault>;
    /// What can be known at the end alone. `Some`: all of the disk was handed out, and what came behind it is damaged.
    fn finish(&mut self) -> Result<Option<Fault>, Fault>;
    /// From now on plain runs that are longer than a piece come whole, where they are such rows: who draws need not read them. Nothing where
    /// there are none.
    fn whole_rows(&mut self, _rows: Rows) {}
    /// A decoder for one worker, where pieces are packed units.
    fn decoder(&self) -> Option<Box<dyn Decode>> {
        None
    }
}
