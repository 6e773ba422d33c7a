//! Where the engine gets a disk's content from, in guest order: the walk over a map, or a stream that is read once.

use std::ops::Range;

use super::{Run, Verdict};
use crate::fault::Fault;

/// A piece lies within one window of this many bytes.
pub const PIECE: u64 = 1 << 20;

/// What a draw gives.
#[derive(Debug)]
pub enum Drawn {
    /// Whole test units (the disk's end may cut the last) of one verdict, that cost nothing.
    Gap(Range<u64>, Verdict),
    /// Something to read.
    Piece(Piece),
}

/// Whole test units of the guest (the disk's end may cut the last) within one window of [`PIECE`] bytes.
#[derive(Debug)]
pub struct Piece {
    /// The guest bytes.
    pub guest: Range<u64>,
    /// What they are.
    pub content: Content,
    /// What the base is made of there; empty where the output has none.
    pub base: Vec<(usize, Run)>,
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

/// Where pieces come from; in guest order, from byte 0 to the disk's end, without a hole between them.
pub trait Feed: Send {
    /// The next piece or gap; `None` at the end. A fault belongs to the place where the next one would begin.
    fn next(&mut self) -> Result<Option<Drawn>, Fault>;
    /// What can be known at the end alone.
    fn finish(&mut self) -> Result<(), Fault>;
    /// A decoder for one worker, where pieces are packed units.
    fn decoder(&self) -> Option<Box<dyn Decode>> {
        None
    }
}
