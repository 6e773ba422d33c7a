//! Moves a disk into outputs.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::crew::{Bounds, Control, Crew, Hands, Ticket};
use super::digest::{Algorithm, Digested, Maker};
use super::reader::{Reader, within};
use super::salvage::Salvage;
use crate::fault::Fault;
use crate::image::{
    Content, Decode, Disk, Drawn, Encoder, Feed, Here, Losses, Lost, Order, PIECE, Phase, Piece, Placer, Plan, Put,
    Rows, Run, Seen, Verdict, Write, Writer, Writes,
};
use crate::io::{Outputs, is_zero};

/// Fewer bytes are written: sharing them would cost more, and leave files in crumbs.
const LEAST_SHARED: u64 = 64 << 10;

/// What a run counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Guest bytes that the source stores: all that had to be read.
    pub stored: u64,
    /// Guest bytes that turned out to be no zeroes, in test units.
    pub data: u64,
    /// Pieces read.
    pub pieces: u64,
    /// Gaps passed over.
    pub gaps: u64,
    /// Packed units that went from the source into the output unchanged.
    pub passed: u64,
    /// Bytes of the guest's disk.
    pub virtual_size: u64,
    /// The SHA-256 of the guest's content, with zeroes for what was lost, where it was asked for.
    pub digest: Option<Digested>,
}

/// The disks that a run reads.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// What is converted; none where the feed has all that there is of it.
    pub disk: Option<&'a Disk>,
    /// What the output is a delta on top of.
    pub base: Option<&'a Disk>,
}

impl<'a> Sources<'a> {
    /// A disk that is written whole.
    pub fn whole(disk: &'a Disk) -> Sources<'a> {
        Sources { disk: Some(disk), base: None }
    }
}

/// Moves all of `feed`, which walks over `sources`, into `outputs` as `writer` decides. On return the outputs are complete, on stable storage, and not yet published.
///
/// A source file that changed meanwhile is an error (R4). The fault that is returned is the one at the lowest guest offset, whatever the number of threads. The bytes written do not depend on
/// it either: the placer sees the pieces in guest order (or keeps no state).
pub fn convert(
    sources: Sources<'_>,
    feed: &mut dyn Feed,
    writer: &dyn Writer,
    outputs: &Outputs,
    control: Control<'_>,
) -> Result<Tally, Fault> {
    let plan = writer.plan();
    let bounds = Bounds { unit: plan.test_unit, end: plan.virtual_size, open_end: writer.has_open_end() };
    let mut placer = writer.placer();
    let mut writes = Writes::default();
    placer.begin(&mut writes)?;
    no_seal(&writes)?;
    put_all(&writes, Phase::Body, None, outputs)?;

    let (shares, rows) = Shares::of(sources, writer, outputs, control);
    if let Some(rows) = rows {
        feed.whole_rows(rows);
    }
    let run = Conversion { sources, plan, writer, outputs, control, shares, tally: Tallies::default() };
    let mut crew = Crew::new(feed, bounds, placer, control)?;
    if control.digest {
        crew = crew.with_digest(Maker::new(Algorithm::Sha256, plan.virtual_size));
    }
    let walked = crew.work(|decoder| Worker::new(&run, decoder))?;
    control.salvage.map_or(Ok(()), Losses::settle)?;
    if let Some(behind) = walked.feed.finish()? {
        Salvage::of(control.salvage).remark(&behind)?;
    }
    let virtual_size = walked.end;
    let settled = writer.settled(virtual_size)?;
    let mut placer = settled.as_ref().map_or(walked.owned, |settled| settled.placer());
    writes.clear();
    placer.finish(&mut writes)?;
    put_all(&writes, Phase::Body, None, outputs)?;
    for (file, planned) in settled.iter().flat_map(|settled| settled.plan().files.iter().enumerate()) {
        planned.len.map_or(Ok(()), |len| outputs.set_len(file, len))?;
    }
    for (file, len) in writes.lens() {
        outputs.set_len(*file, *len)?;
    }
    // A file that can be recognised is whole: what makes it so comes when the rest is on stable storage.
    outputs.sync()?;
    control.go_on()?;
    sources.disk.map_or(Ok(()), Disk::unchanged)?;
    sources.base.map_or(Ok(()), Disk::unchanged)?;
    put_all(&writes, Phase::Seal, None, outputs)?;
    outputs.sync()?;
    control.go_on()?;
    Ok(Tally { virtual_size, digest: walked.digest, ..run.tally.sum() })
}

#[derive(Default)]
struct Tallies {
    stored: AtomicU64,
    data: AtomicU64,
    pieces: AtomicU64,
    gaps: AtomicU64,
    passed: AtomicU64,
}

impl Tallies {
    fn sum(&self) -> Tally {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Tally {
            stored: get(&self.stored),
            data: get(&self.data),
            pieces: get(&self.pieces),
            gaps: get(&self.gaps),
            passed: get(&self.passed),
            virtual_size: 0,
            digest: None,
        }
    }
}

/// Which blocks the output may share with the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shares {
    /// None.
    Nothing,
    /// Those of data: it is read and looked at, but not written.
    Data,
    /// All that the source stores as it stands: it is not even read.
    Rows,
}

impl Shares {
    fn of(
        sources: Sources<'_>,
        writer: &dyn Writer,
        outputs: &Outputs,
        control: Control<'_>,
    ) -> (Shares, Option<Rows>) {
        // What is shared may be unreadable: a salvage is to see that.
        if control.salvage.is_some() || writer.encoder().is_some() {
            return (Shares::Nothing, None);
        }
        let Some((files, unit)) = outputs.shares_with(sources.disk.map_or(&[][..], Disk::files)) else {
            return (Shares::Nothing, None);
        };
        match writer.plan().order == Order::Free && sources.base.is_none() && !control.digest {
            // Outputs without an order are the guest's bytes in rows: what fits the guest fits them.
            true => (Shares::Rows, Some(Rows { files, unit })),
            false => (Shares::Data, None),
        }
    }
}

/// One conversion, shared by its workers.
struct Conversion<'a> {
    sources: Sources<'a>,
    plan: &'a Plan,
    writer: &'a dyn Writer,
    outputs: &'a Outputs,
    control: Control<'a>,
    shares: Shares,
    tally: Tallies,
}

/// What a worker owns: nothing here is shared.
struct Worker<'h, 'c> {
    run: &'h Conversion<'c>,
    source: Reader<'c>,
    /// The base, where there is one.
    base: Option<Reader<'c>>,
    verdicts: Vec<Verdict>,
    sizes: Vec<u32>,
    encoder: Option<Box<dyn Encoder>>,
    /// Encoded units, one behind the other; `sizes` cuts them.
    encoded: Vec<u8>,
    /// For outputs that need no order.
    placer: Option<Box<dyn Placer>>,
    writes: Writes,
}

impl Hands<Box<dyn Placer>> for Worker<'_, '_> {
    fn deal_with(&mut self, ticket: Ticket<'_, Box<dyn Placer>>, drawn: Drawn) -> Result<(), Fault> {
        let tally = &self.run.tally;
        match drawn {
            Drawn::Gap(guest, verdict) => {
                tally.gaps.fetch_add(1, Ordering::Relaxed);
                self.pass_over(&ticket, guest, verdict)
            }
            Drawn::Lost(Lost { guest, fault }) => {
                Salvage::of(self.run.control.salvage).lose(guest.clone(), &fault)?;
                tally.gaps.fetch_add(1, Ordering::Relaxed);
                // Where there is a base, it is zero there.
                let verdict = if self.base.is_some() { Verdict::Same } else { Verdict::Zero };
                self.pass_over(&ticket, guest, verdict)
            }
            Drawn::Piece(piece) if self.run.shares == Shares::Rows => self.share(&ticket, piece),
            Drawn::Piece(piece) => self.work_on(&ticket, piece),
        }
    }
}

impl<'h, 'c> Worker<'h, 'c> {
    /// Reads a piece, looks at it and writes it.
    fn work_on(&mut self, ticket: &Ticket<'_, Box<dyn Placer>>, piece: Piece) -> Result<(), Fault> {
        let tally = &self.run.tally;
        tally.pieces.fetch_add(1, Ordering::Relaxed);
        let unit = self.run.plan.test_unit;
        let stored = self.source.read(&piece, unit)?;
        tally.stored.fetch_add(stored, Ordering::Relaxed);
        if let Some(base) = &mut self.base {
            base.read_runs(&piece.guest, &piece.base, unit)?;
        }
        self.judge(&piece)?;
        match ticket.digest(&piece.guest, Some(&self.source.bytes))? {
            true => self.place(ticket, piece.guest.clone(), Some(&piece), None),
            false => Ok(()),
        }
    }

    /// Shares what of a row can be shared, and works on the rest. The output needs no order.
    fn share(&mut self, ticket: &Ticket<'_, Box<dyn Placer>>, piece: Piece) -> Result<(), Fault> {
        let runs = match &piece.content {
            Content::Runs(runs) if runs.iter().all(|(_, run)| matches!(run.here, Here::Plain { .. })) => runs,
            _ => return self.work_on(ticket, piece),
        };
        let (unit, guest) = (self.run.plan.test_unit, &piece.guest);
        let placer = self.placer.as_mut().ok_or_else(|| Fault::bug("a worker without a placer"))?;
        let units = (guest.end - guest.start).div_ceil(unit) as usize;
        self.verdicts.clear();
        self.verdicts.resize(units, Verdict::Data);
        self.sizes.clear();
        self.sizes.resize(units, 0);
        self.writes.clear();
        placer.place(guest.clone(), Seen::Units { verdicts: &self.verdicts, sizes: &self.sizes }, &mut self.writes)?;
        let (shared, mut left) = (Shared { disk: self.run.sources.disk, runs }, Vec::new());
        for write in self.writes.list() {
            let Put::Guest(guest) = &write.put else { return Err(Fault::bug("data that is not placed as data")) };
            let mut rest = |rest| {
                left.push(rest);
                Ok(())
            };
            shared.each(guest, write, self.run.outputs, &mut rest)?;
        }
        let rest: u64 = left.iter().map(|rest| rest.end - rest.start).sum();
        let (tally, shared) = (&self.run.tally, guest.end - guest.start - rest);
        tally.stored.fetch_add(shared, Ordering::Relaxed);
        // Not looked at: taken for data.
        tally.data.fetch_add(shared, Ordering::Relaxed);
        tally.pieces.fetch_add(u64::from(shared > 0), Ordering::Relaxed);
        for rest in left {
            // Units are looked at whole.
            let (mut start, end) = (rest.start - rest.start % unit, rest.end.next_multiple_of(unit).min(guest.end));
            while start < end {
                self.run.control.go_on()?;
                let window = start..(start / PIECE + 1).saturating_mul(PIECE).min(end);
                ticket.advance(window.end - start);
                start = window.end;
                self.work_on(ticket, Piece::of_row(runs, window))?;
            }
        }
        Ok(())
    }

    fn new(run: &'h Conversion<'c>, decoder: Option<Box<dyn Decode>>) -> Worker<'h, 'c> {
        let encoder = run.writer.encoder();
        let salvage = Salvage::of(run.control.salvage);
        Worker {
            run,
            source: Reader::new(run.sources.disk, decoder, encoder.is_some(), salvage),
            base: run.sources.base.map(|base| Reader::new(Some(base), None, false, Salvage::Never)),
            verdicts: Vec::new(),
            sizes: Vec::new(),
            encoder,
            encoded: Vec::new(),
            placer: (run.plan.order == Order::Free).then(|| run.writer.placer()),
            writes: Writes::default(),
        }
    }

    /// A stretch that is zero in the source, and in the base where there is one.
    fn pass_over(
        &mut self,
        ticket: &Ticket<'_, Box<dyn Placer>>,
        guest: Range<u64>,
        verdict: Verdict,
    ) -> Result<(), Fault> {
        self.source.bytes.clear();
        match ticket.digest(&guest, None)? {
            true => self.place(ticket, guest, None, Some(verdict)),
            false => Ok(()),
        }
    }

    /// Holds each unit against the base, tests it for zero, and encodes what is data.
    fn judge(&mut self, piece: &Piece) -> Result<(), Fault> {
        let unit = self.run.plan.test_unit;
        self.verdicts.clear();
        self.sizes.clear();
        self.encoded.clear();
        let runs: &[(usize, Run)] = match &piece.content {
            Content::Runs(runs) => runs,
            _ => &[],
        };
        let (mut runs, mut data) = (runs.iter().map(|(_, run)| run).peekable(), 0);
        let units = self.source.bytes.chunks_exact(unit as usize);
        for (index, (bytes, start)) in units.zip((piece.guest.start..).step_by(unit as usize)).enumerate() {
            let end = (start + unit).min(piece.guest.end);
            let same = |base: &Reader<'_>| base.bytes.chunks_exact(unit as usize).nth(index) == Some(bytes);
            if self.base.as_ref().is_some_and(same) {
                self.verdicts.push(Verdict::Same);
                self.sizes.push(0);
                continue;
            }
            while runs.next_if(|run| run.guest.end <= start).is_some() {}
            let known = runs.peek().is_some_and(|run| matches!(run.here, Here::Zero) && run.guest.end >= end);
            let zero = known || is_zero(bytes);
            self.verdicts.push(if zero { Verdict::Zero } else { Verdict::Data });
            let before = self.encoded.len();
            if !zero {
                data += end - start;
                if let Some(encoder) = &mut self.encoder {
                    let packed = self.source.packed.iter().find(|(guest, _)| *guest == start);
                    let passed = match packed {
                        Some((_, packed)) => encoder.pass(packed, bytes, start, &mut self.encoded)?,
                        None => false,
                    };
                    if !passed {
                        encoder.encode(bytes, start, &mut self.encoded)?;
                    }
                    self.run.tally.passed.fetch_add(u64::from(passed), Ordering::Relaxed);
                }
            }
            self.sizes.push((self.encoded.len() - before) as u32);
        }
        self.run.tally.data.fetch_add(data, Ordering::Relaxed);
        Ok(())
    }

    /// Asks for the places, in the order that the output needs, and writes there.
    fn place(
        &mut self,
        ticket: &Ticket<'_, Box<dyn Placer>>,
        guest: Range<u64>,
        piece: Option<&Piece>,
        gap: Option<Verdict>,
    ) -> Result<(), Fault> {
        let Worker { run, source, verdicts, sizes, encoded, placer, writes, .. } = self;
        let seen = match gap {
            Some(verdict) => Seen::Gap(verdict),
            None => Seen::Units { verdicts, sizes },
        };
        writes.clear();
        let shared = piece.filter(|_| run.shares != Shares::Nothing).and_then(|piece| match &piece.content {
            Content::Runs(runs) => Some(Shared { disk: run.sources.disk, runs }),
            _ => None,
        });
        let hand = Hand { start: guest.start, bytes: &source.bytes, encoded, sizes, shared };
        match run.plan.order {
            Order::Free => {
                let placer = placer.as_mut().ok_or_else(|| Fault::bug("a worker without a placer"))?;
                placer.place(guest, seen, writes)?;
            }
            Order::Ordered => {
                if ticket.pass(|placer| placer.place(guest, seen, writes))?.is_none() {
                    return Ok(()); // turned away: an earlier ticket failed, or the user interrupted
                }
            }
            Order::Stream => {
                ticket.pass(|placer| {
                    placer.place(guest, seen, writes)?;
                    no_seal(writes)?;
                    put_all(writes, Phase::Body, Some(&hand), run.outputs)
                })?;
                return Ok(());
            }
        }
        no_seal(writes)?;
        put_all(writes, Phase::Body, Some(&hand), run.outputs)
    }
}

/// The bytes that writes refer to.
struct Hand<'a> {
    start: u64,
    bytes: &'a [u8],
    encoded: &'a [u8],
    sizes: &'a [u32],
    /// Where the same bytes lie in the source, if blocks may be shared with it.
    shared: Option<Shared<'a>>,
}

/// A piece's runs, whose blocks an output may share.
#[derive(Clone, Copy)]
struct Shared<'a> {
    disk: Option<&'a Disk>,
    runs: &'a [(usize, Run)],
}

impl Shared<'_> {
    /// Shares what can be shared of the guest bytes that `write` puts; `copy` is asked for the rest.
    fn each(
        &self,
        guest: &Range<u64>,
        write: &Write,
        outputs: &Outputs,
        copy: &mut dyn FnMut(Range<u64>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut start = guest.start;
        for run in self.runs.iter().filter_map(|(_, run)| run.cut(guest)).filter(|run| run.len() >= LEAST_SHARED) {
            let Here::Plain { file, at } = run.here else { continue };
            let Some(input) = self.disk.and_then(|disk| disk.file(file)) else { continue };
            let to = write.at + (run.guest.start - guest.start);
            let done = outputs.share(write.file, to, input, at, run.len())?;
            if done.start < done.end {
                let first = run.guest.start + done.start;
                if start < first {
                    copy(start..first)?;
                }
                start = run.guest.start + done.end;
            }
        }
        if start < guest.end { copy(start..guest.end) } else { Ok(()) }
    }
}

/// Seals come from `finish` alone.
fn no_seal(writes: &Writes) -> Result<(), Fault> {
    match writes.list().iter().any(|write| write.phase == Phase::Seal) || !writes.lens().is_empty() {
        true => Err(Fault::bug("a placer sealed a file before its end")),
        false => Ok(()),
    }
}

fn put_all(writes: &Writes, phase: Phase, hand: Option<&Hand<'_>>, outputs: &Outputs) -> Result<(), Fault> {
    for write in writes.list().iter().filter(|write| write.phase == phase) {
        match &write.put {
            Put::Meta(bytes) => outputs.write(write.file, write.at, bytes)?,
            Put::Zero(len) => outputs.write_zeroes(write.file, write.at, *len)?,
            Put::Guest(guest) => {
                let mut copy = |part: Range<u64>| {
                    let bytes =
                        hand.filter(|h| part.start >= h.start).and_then(|h| h.bytes.get(within(&part, h.start)));
                    let bytes = bytes.ok_or_else(|| Fault::bug("a placer asked for bytes outside its piece"))?;
                    outputs.write(write.file, write.at + (part.start - guest.start), bytes)
                };
                match hand.and_then(|hand| hand.shared) {
                    Some(shared) => shared.each(guest, write, outputs, &mut copy)?,
                    None => copy(guest.clone())?,
                }
            }
            Put::Encoded(index) => {
                let bytes = hand.and_then(|h| {
                    let start: usize = h.sizes.get(..*index)?.iter().map(|size| *size as usize).sum();
                    h.encoded.get(start..start + *h.sizes.get(*index)? as usize)
                });
                outputs.write(
                    write.file,
                    write.at,
                    bytes.ok_or_else(|| Fault::bug("a placer asked for a unit outside its piece"))?,
                )?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
