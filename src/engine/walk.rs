//! The walk over a disk's map: pieces that hold data, gaps that hold none.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::fault::Fault;
use crate::image::{Disk, Here, Resolver, Run, Verdict};
use crate::io::{FileId, InputFile};

/// A piece lies within one window of this many bytes.
pub const PIECE: u64 = 1 << 20;
/// Zero runs that are joined in one draw at most, so that nobody holds the feed for long.
const JOINED: usize = 64;

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
    /// What they are made of, without gaps, with the depth of the layer that each comes from.
    pub runs: Vec<(usize, Run)>,
}

/// Where pieces come from; in guest order, from byte 0 to the disk's end, without a hole between them.
pub trait Feed: Send {
    /// The next piece or gap; `None` at the end. A fault belongs to the place where the next one would begin.
    fn next(&mut self) -> Result<Option<Drawn>, Fault>;
    /// What can be known at the end alone.
    fn finish(&mut self) -> Result<(), Fault>;
}

/// The runs of a disk.
pub struct MapFeed {
    resolver: Resolver,
    files: Vec<Arc<InputFile>>,
    /// For each file: from here on, the next stretch that is no hole.
    data: HashMap<FileId, (u64, Option<Range<u64>>)>,
    at: u64,
    end: u64,
    unit: u64,
}

impl MapFeed {
    /// Over all of `disk`, in test units of `unit` bytes: a power of two, at most [`PIECE`].
    pub fn new(disk: &Disk, unit: u64) -> MapFeed {
        MapFeed {
            resolver: disk.chain.resolver(),
            files: disk.files().to_vec(),
            data: HashMap::new(),
            at: 0,
            end: disk.facts.virtual_size,
            unit,
        }
    }

    /// The run at `from`; a plain one is cut where its file has a hole, and is zero inside it.
    fn run(&mut self, from: u64, limit: u64) -> Result<(usize, Run), Fault> {
        let (depth, run) = self.resolver.at(from, limit)?;
        let Here::Plain { file, at } = run.here else { return Ok((depth, run)) };
        let (hole, until) = self.hole(file, at)?;
        let end = run.guest.end.min(run.guest.start.saturating_add(until - at));
        let here = if hole { Here::Zero } else { run.here };
        Ok((depth, Run::new(run.guest.start..end, here)))
    }

    /// Is byte `at` of the file in a hole, and up to which byte is it so?
    fn hole(&mut self, file: FileId, at: u64) -> Result<(bool, u64), Fault> {
        if let Some((from, next)) = self.data.get(&file)
            && at >= *from
            && next.as_ref().is_none_or(|data| at < data.end)
        {
            return Ok(answer(at, next));
        }
        let input = self
            .files
            .iter()
            .find(|f| f.id() == file)
            .ok_or_else(|| Fault::bug("the map names a file that the disk does not have"))?;
        let next = input.next_data(at)?;
        let found = answer(at, &next);
        self.data.insert(file, (at, next));
        Ok(found)
    }

    /// The end of the zeroes that begin at `self.at`, joined over runs.
    fn zeroes(&mut self) -> Result<u64, Fault> {
        let mut end = self.at;
        for _ in 0..JOINED {
            if end >= self.end {
                break;
            }
            let (_, run) = self.run(end, self.end)?;
            if !matches!(run.here, Here::Zero) {
                break;
            }
            end = run.guest.end;
        }
        Ok(end)
    }

    fn piece(&mut self) -> Result<Piece, Fault> {
        let start = self.at;
        let mut end = (start / PIECE + 1).saturating_mul(PIECE).min(self.end);
        let (mut runs, mut at) = (Vec::new(), start);
        while at < end {
            let (depth, run) = self.run(at, end)?;
            // Zeroes up to the window's end are left to the next draw, which may find them longer.
            let cut = run.guest.start.next_multiple_of(self.unit);
            if matches!(run.here, Here::Zero) && run.guest.end == end && cut > start && cut < end {
                end = cut;
            }
            at = run.guest.end.min(end);
            if let Some(run) = run.cut(&(start..end)) {
                join(&mut runs, depth, run);
            }
        }
        Ok(Piece { guest: start..end, runs })
    }
}

fn answer(at: u64, next: &Option<Range<u64>>) -> (bool, u64) {
    match next {
        None => (true, u64::MAX),
        Some(data) if at < data.start => (true, data.start),
        Some(data) => (false, data.end),
    }
}

/// Appends a run; one that goes on in the same file where the last one ended is read together with it.
fn join(runs: &mut Vec<(usize, Run)>, depth: usize, run: Run) {
    if let Some((d, last)) = runs.last_mut() {
        let goes_on = match (&last.here, &run.here) {
            (Here::Zero, Here::Zero) => true,
            (Here::Plain { file: a, at: x }, Here::Plain { file: b, at: y }) => {
                a == b && x + last.len() == *y && *d == depth
            }
            _ => false,
        };
        if goes_on {
            last.guest.end = run.guest.end;
            return;
        }
    }
    runs.push((depth, run));
}

impl Feed for MapFeed {
    fn next(&mut self) -> Result<Option<Drawn>, Fault> {
        if self.at >= self.end {
            return Ok(None);
        }
        let zeroes = self.zeroes()?;
        let whole = if zeroes == self.end { zeroes } else { zeroes - zeroes % self.unit };
        let drawn = match whole > self.at {
            true => Drawn::Gap(self.at..whole, Verdict::Zero),
            false => Drawn::Piece(self.piece()?),
        };
        self.at = match &drawn {
            Drawn::Gap(guest, _) => guest.end,
            Drawn::Piece(piece) => piece.guest.end,
        };
        Ok(Some(drawn))
    }

    fn finish(&mut self) -> Result<(), Fault> {
        Ok(())
    }
}
