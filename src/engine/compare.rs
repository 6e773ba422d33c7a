//! Is the guest content of two disks the same?

use std::sync::atomic::{AtomicU64, Ordering};

use super::crew::{Bounds, Control, Crew, Hands, Ticket};
use super::reader::Reader;
use super::salvage::Salvage;
use super::walk::MapFeed;
use crate::fault::Fault;
use crate::image::{Decode, Disk, Drawn, Lost, SECTOR};

/// What came of holding two disks against each other.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// The first guest byte that differs.
    pub first: Option<u64>,
    /// Sectors of 512 bytes that differ.
    pub sectors: u64,
    /// Guest bytes that were read, of both: those that either disk stores.
    pub stored: u64,
    /// Pieces that were read: where either disk stores something.
    pub pieces: u64,
    /// Gaps that were passed over without reading: both disks are known to be zero there.
    pub gaps: u64,
}

/// Holds all of `a` against all of `b`, which is as long: one is grown to the size of the other before ([`Disk::grow`]).
///
/// What both are known to hold zeroes in is not read. What of either cannot be had is a fault, and so is a file that changed meanwhile;
/// the fault that is returned is the one at the lowest guest offset. The result does not depend on the number of threads.
pub fn compare(a: &Disk, b: &Disk, control: Control<'_>) -> Result<Compared, Fault> {
    let end = a.facts.virtual_size;
    if b.facts.virtual_size != end {
        return Err(Fault::bug("disks of two sizes are held against each other"));
    }
    let mut feed = MapFeed::over(a, b, SECTOR);
    let sums = Sums { first: AtomicU64::new(u64::MAX), ..Sums::default() };
    let bounds = Bounds { unit: SECTOR, end, open_end: false };
    Crew::new(&mut feed, bounds, (), control)?.work(|decoder| Worker::new(a, b, &sums, decoder))?;
    a.unchanged()?;
    b.unchanged()?;
    let get = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
    Ok(Compared {
        first: Some(get(&sums.first)).filter(|first| *first != u64::MAX),
        sectors: get(&sums.sectors),
        stored: get(&sums.stored),
        pieces: get(&sums.pieces),
        gaps: get(&sums.gaps),
    })
}

/// What the workers add up: sums and a minimum, which come out the same in any order.
#[derive(Default)]
struct Sums {
    first: AtomicU64,
    sectors: AtomicU64,
    stored: AtomicU64,
    pieces: AtomicU64,
    gaps: AtomicU64,
}

/// What a worker owns.
struct Worker<'a> {
    a: Reader<'a>,
    b: Reader<'a>,
    sums: &'a Sums,
}

impl<'a> Worker<'a> {
    fn new(a: &'a Disk, b: &'a Disk, sums: &'a Sums, decoder: Option<Box<dyn Decode>>) -> Worker<'a> {
        // A range that is lost is neither the same nor different.
        let reader = |disk, decoder| Reader::new(Some(disk), decoder, false, Salvage::Never);
        Worker { a: reader(a, decoder), b: reader(b, None), sums }
    }

    /// Counts what differs in the bytes of a piece that begins at `start`.
    fn hold_against(&self, start: u64) {
        // The most of two disks that are held against each other is the same, and this is as fast as memory.
        if self.a.bytes == self.b.bytes {
            return;
        }
        let pairs = self.a.bytes.iter().zip(&self.b.bytes);
        if let Some(byte) = pairs.zip(start..).find_map(|((a, b), byte)| (a != b).then_some(byte)) {
            self.sums.first.fetch_min(byte, Ordering::Relaxed);
        }
        let sectors = self.a.bytes.chunks(SECTOR as usize).zip(self.b.bytes.chunks(SECTOR as usize));
        self.sums.sectors.fetch_add(sectors.filter(|(a, b)| a != b).count() as u64, Ordering::Relaxed);
    }
}

impl Hands<()> for Worker<'_> {
    fn deal_with(&mut self, _ticket: Ticket<'_, ()>, drawn: Drawn) -> Result<(), Fault> {
        match drawn {
            Drawn::Gap(..) => drop(self.sums.gaps.fetch_add(1, Ordering::Relaxed)),
            Drawn::Lost(Lost { fault, .. }) => return Err(fault),
            Drawn::Piece(piece) => {
                self.sums.pieces.fetch_add(1, Ordering::Relaxed);
                let a = self.a.read(&piece, SECTOR)?;
                let b = self.b.read_runs(&piece.guest, &piece.base, SECTOR)?;
                self.sums.stored.fetch_add(a + b, Ordering::Relaxed);
                self.hold_against(piece.guest.start);
            }
        }
        Ok(())
    }
}
