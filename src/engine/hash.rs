//! The digest of a disk's content.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::crew::{Bounds, Control, Crew, Hands, Ticket};
use super::digest::{Algorithm, Digested, Maker};
use super::reader::Reader;
use super::salvage::Salvage;
use super::walk::MapFeed;
use crate::fault::Fault;
use crate::image::{Disk, Drawn, Feed, Lost, PIECE, Verdict};

/// A longer gap is shared out among the workers: zeroes cost as much as data here.
const SHARE: u64 = 64 << 20;

/// What came of hashing a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashed {
    /// The digest of the guest's content.
    pub digest: Digested,
    /// Guest bytes that the disk stores: all that had to be read.
    pub stored: u64,
    /// Pieces read.
    pub pieces: u64,
    /// Gaps that were hashed as zeroes, without reading.
    pub gaps: u64,
}

/// Takes the digest of all of `disk`, as of the raw disk. What cannot be had of it is a fault, and so is a file that changed meanwhile.
pub fn hash(disk: &Disk, algorithm: Algorithm, control: Control<'_>) -> Result<Hashed, Fault> {
    let end = disk.facts.virtual_size;
    // Whole windows, so that each is a branch of a tree.
    let mut feed = Shared { feed: MapFeed::new(disk, PIECE), rest: None };
    let sums = Sums::default();
    let bounds = Bounds { unit: PIECE, end, open_end: false };
    let crew = Crew::new(&mut feed, bounds, (), control)?.with_digest(Maker::new(algorithm, end));
    let walked =
        crew.work(|decoder| Worker { reader: Reader::new(Some(disk), decoder, false, Salvage::Never), sums: &sums })?;
    disk.unchanged()?;
    let get = |sum: &AtomicU64| sum.load(Ordering::Relaxed);
    Ok(Hashed {
        digest: walked.digest.ok_or_else(|| Fault::bug("a digest was lost"))?,
        stored: get(&sums.stored),
        pieces: get(&sums.pieces),
        gaps: get(&sums.gaps),
    })
}

#[derive(Default)]
struct Sums {
    stored: AtomicU64,
    pieces: AtomicU64,
    gaps: AtomicU64,
}

/// What a worker owns.
struct Worker<'a> {
    reader: Reader<'a>,
    sums: &'a Sums,
}

impl Hands<()> for Worker<'_> {
    fn deal_with(&mut self, ticket: Ticket<'_, ()>, drawn: Drawn) -> Result<(), Fault> {
        match drawn {
            Drawn::Gap(guest, _) => {
                self.sums.gaps.fetch_add(1, Ordering::Relaxed);
                ticket.digest(&guest, None)?;
            }
            Drawn::Lost(Lost { fault, .. }) => return Err(fault),
            Drawn::Piece(piece) => {
                self.sums.pieces.fetch_add(1, Ordering::Relaxed);
                let stored = self.reader.read(&piece, PIECE)?;
                self.sums.stored.fetch_add(stored, Ordering::Relaxed);
                ticket.digest(&piece.guest, Some(&self.reader.bytes))?;
            }
        }
        Ok(())
    }
}

/// A walk whose gaps are handed out in shares.
struct Shared {
    feed: MapFeed,
    rest: Option<(Range<u64>, Verdict)>,
}

impl Feed for Shared {
    fn next(&mut self) -> Result<Option<Drawn>, Fault> {
        let (gap, verdict) = match self.rest.take() {
            Some(rest) => rest,
            None => match self.feed.next()? {
                Some(Drawn::Gap(gap, verdict)) => (gap, verdict),
                drawn => return Ok(drawn),
            },
        };
        let cut = gap.end.min(gap.start.saturating_add(SHARE));
        self.rest = Some((cut..gap.end, verdict)).filter(|(rest, _)| !rest.is_empty());
        Ok(Some(Drawn::Gap(gap.start..cut, verdict)))
    }

    fn finish(&mut self) -> Result<Option<Fault>, Fault> {
        self.feed.finish()
    }
}
