//! A disk's map as people and programs read it: stretch by stretch, neighbours joined.

use std::ops::Range;

use super::walk::Cursor;
use crate::fault::Fault;
use crate::image::{Disk, Here};
use crate::io::FileId;

/// How a stretch of the disk is kept.
#[derive(Debug, Clone)]
pub enum Kept {
    /// Stored as it is, from this byte of the file on.
    Data(FileId, u64),
    /// In encoded units of this file, of which the first has its marker at this byte.
    Packed(FileId, u64),
    /// The image says that it is zero.
    Zero,
    /// Nothing is stored: in a hole of the file, from this byte on, or in no image of the chain.
    Hole(Option<(FileId, u64)>),
    /// It belongs to an image of the chain and cannot be had.
    Lost(Fault),
}

impl Kept {
    /// Where it is kept.
    pub fn place(&self) -> Option<(FileId, u64)> {
        match self {
            Kept::Data(file, at) | Kept::Packed(file, at) => Some((*file, *at)),
            Kept::Hole(place) => *place,
            Kept::Zero | Kept::Lost(_) => None,
        }
    }

    /// Does `next`, kept `len` bytes further on, go on where this was?
    fn goes_on(&self, len: u64, next: &Kept) -> bool {
        let follows = |(file, at): (FileId, u64), next: (FileId, u64)| (file, at.saturating_add(len)) == next;
        match (self, next) {
            (Kept::Data(a, x), Kept::Data(b, y)) => follows((*a, *x), (*b, *y)),
            (Kept::Packed(a, _), Kept::Packed(b, _)) => a == b,
            (Kept::Zero, Kept::Zero) | (Kept::Hole(None), Kept::Hole(None)) => true,
            (Kept::Hole(Some(a)), Kept::Hole(Some(b))) => follows(*a, *b),
            (Kept::Lost(a), Kept::Lost(b)) => a.to_string() == b.to_string(),
            _ => false,
        }
    }
}

/// A stretch of the disk that one image keeps in one way.
#[derive(Debug, Clone)]
pub struct MapExtent {
    /// The guest bytes.
    pub guest: Range<u64>,
    /// The depth of the image that has it: 0 is the youngest. Of what none has: that at which the search ended.
    pub depth: usize,
    /// How it is kept.
    pub kept: Kept,
}

/// All of a disk's map in guest order, in the memory of one stretch; reads tables and no guest data. Ends behind the first error.
pub struct Extents {
    cursor: Cursor,
    at: u64,
    end: u64,
    /// The one that the next is held against.
    held: Option<MapExtent>,
}

impl Extents {
    /// Over all of `disk`.
    pub fn new(disk: &Disk) -> Extents {
        Extents { cursor: Cursor::new(disk), at: 0, end: disk.facts.virtual_size, held: None }
    }

    fn draw(&mut self) -> Result<MapExtent, Fault> {
        let (depth, run, hole) = self.cursor.found(self.at, self.end)?;
        let kept = match run.here {
            Here::Plain { file, at } if hole => Kept::Hole(Some((file, at))),
            Here::Plain { file, at } => Kept::Data(file, at),
            Here::Packed { file, at, .. } => Kept::Packed(file, at),
            Here::Zero => Kept::Zero,
            Here::Absent => Kept::Hole(None),
            Here::Lost(fault) => Kept::Lost(fault),
        };
        self.at = run.guest.end;
        Ok(MapExtent { guest: run.guest, depth, kept })
    }
}

impl Iterator for Extents {
    type Item = Result<MapExtent, Fault>;

    fn next(&mut self) -> Option<Result<MapExtent, Fault>> {
        while self.at < self.end {
            let next = match self.draw() {
                Ok(next) => next,
                Err(fault) => {
                    self.at = self.end;
                    self.held = None;
                    return Some(Err(fault));
                }
            };
            match &mut self.held {
                Some(held)
                    if held.depth == next.depth && held.kept.goes_on(held.guest.end - held.guest.start, &next.kept) =>
                {
                    held.guest.end = next.guest.end;
                }
                held => {
                    if let Some(done) = held.replace(next) {
                        return Some(Ok(done));
                    }
                }
            }
        }
        self.held.take().map(Ok)
    }
}
