//! The walk over a disk's map: pieces that hold data, gaps that hold none.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::fault::Fault;
use crate::image::{Content, Disk, Drawn, Feed, Files, Here, Lost, PIECE, Piece, ROW, Resolver, Rows, Run, Verdict};
use crate::io::FileId;

/// Runs that are zero, or lost, and are joined in one draw at most, so that nobody holds the feed for long.
const JOINED: usize = 64;

/// The runs of a disk; beside a base, with common borders.
pub struct MapFeed {
    source: Cursor,
    base: Option<Cursor>,
    at: u64,
    end: u64,
    unit: u64,
    rows: Option<Rows>,
}

impl MapFeed {
    /// Over all of `disk`, in test units of `unit` bytes: a power of two, at most [`PIECE`].
    pub fn new(disk: &Disk, unit: u64) -> MapFeed {
        MapFeed { source: Cursor::new(disk), base: None, at: 0, end: disk.facts.virtual_size, unit, rows: None }
    }

    /// The same beside `base`, a disk as long: where both are known to be zero they are the same.
    pub fn over(disk: &Disk, base: &Disk, unit: u64) -> MapFeed {
        MapFeed { base: Some(Cursor::new(base)), ..MapFeed::new(disk, unit) }
    }

    /// The end of what is known to be zero from `self.at` on, in the base too.
    fn zeroes(&mut self) -> Result<u64, Fault> {
        let end = self.source.zeroes(self.at, self.end)?;
        match &mut self.base {
            Some(base) if end > self.at => base.zeroes(self.at, end),
            _ => Ok(end),
        }
    }

    /// What is lost from `self.at` on for one reason, as far as the base is known to be zero there: it costs as little as zeroes.
    fn lost(&mut self) -> Result<Option<Lost>, Fault> {
        let Some((end, fault)) = self.source.lost(self.at, self.end)? else { return Ok(None) };
        let end = match &mut self.base {
            Some(base) => base.zeroes(self.at, end)?,
            None => end,
        };
        Ok(Some(Lost { guest: self.at..end, fault }))
    }

    /// As far as whole test units go, and the disk's end.
    fn whole_units(&self, end: u64) -> u64 {
        if end == self.end { end } else { end - end % self.unit }
    }

    /// What lies in a row in one file from `self.at` on, where that is more than a piece.
    fn row(&mut self) -> Result<Option<Piece>, Fault> {
        let Some(rows) = &self.rows else { return Ok(None) };
        let limit = self.end.min(self.at.saturating_add(ROW));
        let (mut runs, mut at) = (Vec::new(), self.at);
        for _ in 0..JOINED {
            let (depth, run) = self.source.run(at, limit)?;
            if runs.is_empty() && !rows.have(&run) {
                return Ok(None);
            }
            at = run.guest.end;
            join(&mut runs, depth, run);
            if at == limit || runs.len() > 1 {
                break;
            }
        }
        runs.truncate(1);
        let guest = self.at..runs.first().map_or(self.at, |(_, run)| self.whole_units(run.guest.end));
        Ok((guest.end > guest.start + PIECE).then(|| Piece::of_row(&runs, guest)))
    }

    fn piece(&mut self) -> Result<Piece, Fault> {
        if let Some(row) = self.row()? {
            return Ok(row);
        }
        let start = self.at;
        let window = (start / PIECE + 1).saturating_mul(PIECE).min(self.end);
        let mut runs = self.source.runs(start..window)?;
        let mut base = match &mut self.base {
            Some(base) => base.runs(start..window)?,
            None => Vec::new(),
        };
        // Zeroes up to the window's end, and what is lost, are left to the next draw, which may find them longer.
        let data_end = |runs: &[(usize, Run)]| {
            let data = runs.iter().rev().find(|(_, run)| !matches!(run.here, Here::Zero | Here::Lost(_)));
            data.map_or(start, |(_, run)| run.guest.end)
        };
        let cut = data_end(&runs).max(data_end(&base)).next_multiple_of(self.unit);
        let end = if cut > start { cut.min(window) } else { window };
        for list in [&mut runs, &mut base] {
            list.retain_mut(|(_, run)| match run.cut(&(start..end)) {
                Some(part) => {
                    *run = part;
                    true
                }
                None => false,
            });
        }
        Ok(Piece { guest: start..end, content: Content::Runs(runs), base, lost: Vec::new() })
    }
}

/// A place in a disk's map.
pub(super) struct Cursor {
    resolver: Resolver,
    files: Arc<Files>,
    /// For each file: from here on, the next stretch that is no hole.
    data: HashMap<FileId, (u64, Option<Range<u64>>)>,
}

impl Cursor {
    pub(super) fn new(disk: &Disk) -> Cursor {
        Cursor { resolver: disk.chain.resolver(), files: disk.shared_files(), data: HashMap::new() }
    }

    /// The whole disk was walked.
    pub(super) fn walked(&self) -> Result<(), Fault> {
        self.resolver.walked()
    }

    /// The run at `from`; a plain one is cut where its file has a hole, and is zero inside it.
    fn run(&mut self, from: u64, limit: u64) -> Result<(usize, Run), Fault> {
        let (depth, run, hole) = self.found(from, limit)?;
        Ok(match run.here {
            Here::Absent => (0, Run::new(run.guest, Here::Zero)),
            _ if hole => (depth, Run::new(run.guest, Here::Zero)),
            _ => (depth, run),
        })
    }

    /// The run at `from` as the map has it, `Absent` where no layer has anything, and whether it is in a hole of its file.
    pub(super) fn found(&mut self, from: u64, limit: u64) -> Result<(usize, Run, bool), Fault> {
        let (depth, run) = self.resolver.found(from, limit)?;
        let Here::Plain { file, at } = run.here else { return Ok((depth, run, false)) };
        let (hole, until) = self.hole(file, at)?;
        let end = run.guest.end.min(run.guest.start.saturating_add(until - at));
        Ok((depth, Run::new(run.guest.start..end, run.here), hole))
    }

    /// Is byte `at` of the file in a hole, and up to which byte is it so?
    fn hole(&mut self, file: FileId, at: u64) -> Result<(bool, u64), Fault> {
        if let Some((from, next)) = self.data.get(&file)
            && at >= *from
            && next.as_ref().is_none_or(|data| at < data.end)
        {
            return Ok(answer(at, next));
        }
        let input =
            self.files.get(file).ok_or_else(|| Fault::bug("the map names a file that the disk does not have"))?;
        // Where that cannot be told, reading tells what is there.
        let next = match input.next_data(at) {
            Err(fault) if fault.is_of_medium() => Some(at..u64::MAX),
            found => found?,
        };
        let found = answer(at, &next);
        self.data.insert(file, (at, next));
        Ok(found)
    }

    /// The end of the zeroes that begin at `from`, joined over runs, up to `limit` at most.
    fn zeroes(&mut self, from: u64, limit: u64) -> Result<u64, Fault> {
        self.joined(from, limit, |here| matches!(here, Here::Zero))
    }

    /// What is lost from `from` on for one reason, joined as well: its end, and why, where it begins.
    fn lost(&mut self, from: u64, limit: u64) -> Result<Option<(u64, Fault)>, Fault> {
        let mut why = None::<Fault>;
        let end = self.joined(from, limit, |here| match here {
            Here::Lost(fault) => why.get_or_insert_with(|| fault.clone()).is_like(fault),
            _ => false,
        })?;
        Ok(why.map(|why| (end, why)))
    }

    /// The end of the runs from `from` on that are `alike`, as many as one draw may join.
    fn joined(&mut self, from: u64, limit: u64, mut alike: impl FnMut(&Here) -> bool) -> Result<u64, Fault> {
        let mut end = from;
        for _ in 0..JOINED {
            if end >= limit {
                break;
            }
            let (_, run) = self.run(end, limit)?;
            if !alike(&run.here) {
                break;
            }
            end = run.guest.end;
        }
        Ok(end)
    }

    /// All runs of a stretch, neighbours joined.
    fn runs(&mut self, guest: Range<u64>) -> Result<Vec<(usize, Run)>, Fault> {
        let (mut runs, mut at) = (Vec::new(), guest.start);
        while at < guest.end {
            let (depth, run) = self.run(at, guest.end)?;
            at = run.guest.end;
            join(&mut runs, depth, run);
        }
        Ok(runs)
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
            self.source.walked()?;
            self.base.as_ref().map_or(Ok(()), Cursor::walked)?;
            return Ok(None);
        }
        let zeroes = self.zeroes()?;
        let whole = self.whole_units(zeroes);
        let lost = if zeroes > self.at { None } else { self.lost()? };
        let drawn = match (whole > self.at, lost) {
            (true, _) if self.base.is_some() => Drawn::Gap(self.at..whole, Verdict::Same),
            (true, _) => Drawn::Gap(self.at..whole, Verdict::Zero),
            (false, Some(Lost { guest, fault })) if self.whole_units(guest.end) > self.at => {
                Drawn::Lost(Lost { guest: self.at..self.whole_units(guest.end), fault })
            }
            _ => Drawn::Piece(self.piece()?),
        };
        self.at = drawn.guest().end;
        Ok(Some(drawn))
    }

    fn finish(&mut self) -> Result<Option<Fault>, Fault> {
        Ok(None)
    }

    fn whole_rows(&mut self, rows: Rows) {
        // Beside a base there are none: each byte is held against it.
        self.rows = Some(rows).filter(|_| self.base.is_none());
    }
}
