//! Moves a disk into outputs.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::reader::{Reader, within};
use super::salvage::Salvage;
use super::turnstile::Turnstile;
use crate::fault::{Fault, Kind};
use crate::image::{
    Content, Disk, Drawn, Encoder, Feed, Here, Losses, Lost, Order, PIECE, Phase, Piece, Placer, Plan, Put, Run, Seen,
    Verdict, Writer, Writes,
};
use crate::io::{Outputs, is_zero};

/// How a run is steered from outside.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// Worker threads, at least one.
    pub jobs: usize,
    /// Set from outside: stop, with a fault of kind `Interrupted`.
    pub stop: &'a AtomicBool,
    /// Told, from any worker, how many guest bytes were dealt with since the last call of that worker.
    pub progress: &'a (dyn Fn(u64) + Sync),
    /// Where what cannot be had of the source is listed, with zeroes in its place; `None`: a loss ends the run.
    pub salvage: Option<&'a Losses>,
}

impl Control<'_> {
    pub(super) fn go_on(&self) -> Result<(), Fault> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(Fault::new(Kind::Interrupted, "", "interrupted; no output was made")),
            false => Ok(()),
        }
    }
}

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
    if !plan.test_unit.is_power_of_two() || plan.test_unit > PIECE {
        return Err(Fault::bug("a test unit that pieces are not made of"));
    }
    let mut placer = writer.placer();
    let mut writes = Writes::default();
    placer.begin(&mut writes)?;
    no_seal(&writes)?;
    put_all(&writes, Phase::Body, None, outputs)?;

    let run = Conversion {
        sources,
        plan,
        writer,
        outputs,
        control,
        feed: Mutex::new(Numbered { feed, next: 0, at: 0, open_end: writer.has_open_end() }),
        turnstile: Turnstile::new(placer),
        first_fault: Mutex::new(None),
        tally: Tallies::default(),
    };
    thread::scope(|scope| {
        for _ in 1..control.jobs.max(1) {
            // One that cannot be started is no fault: the bytes do not depend on how many there are.
            let _ = thread::Builder::new().spawn_scoped(scope, || run.work());
        }
        run.work();
    });
    let Conversion { feed, turnstile, first_fault, tally, .. } = run;
    let fault = first_fault.into_inner().unwrap_or_else(PoisonError::into_inner).map(|(_, fault)| fault);
    // Where a pipe was interrupted it says what became of the output.
    if let Some(fault) = fault.clone().filter(|fault| fault.kind() == Kind::Interrupted) {
        return Err(fault);
    }
    control.go_on()?;
    fault.map_or(Ok(()), Err)?;
    control.salvage.map_or(Ok(()), Losses::settle)?;
    let walked = feed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(behind) = walked.feed.finish()? {
        Salvage::of(control.salvage).remark(&behind)?;
    }
    let virtual_size = walked.at;
    let settled = writer.settled(virtual_size)?;
    let mut placer = settled.as_ref().map_or_else(|| turnstile.into_inner(), |settled| settled.placer());
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
    Ok(Tally { virtual_size, ..tally.sum() })
}

struct Numbered<'a> {
    feed: &'a mut dyn Feed,
    /// The next ticket.
    next: u64,
    /// The guest byte that the next piece or gap must begin at.
    at: u64,
    /// The disk ends where the feed does.
    open_end: bool,
}

impl Numbered<'_> {
    /// Draws, and holds the feed to its contract: whole test units, from byte 0 to the disk's end, nothing left out.
    fn draw(&mut self, plan: &Plan) -> Result<Option<Drawn>, Fault> {
        let drawn = self.feed.next()?;
        let guest = match &drawn {
            None if self.at == plan.virtual_size || (self.open_end && self.at > 0) => return Ok(None),
            None => return Err(Fault::bug("the walk ended before the disk's end")),
            Some(drawn) => drawn.guest(),
        };
        let whole = guest.end.is_multiple_of(plan.test_unit) || guest.end == plan.virtual_size || self.open_end;
        // What was cut was the last.
        let next = guest.start == self.at && self.at.is_multiple_of(plan.test_unit);
        if !next || guest.is_empty() || guest.end > plan.virtual_size || !whole {
            return Err(Fault::bug("the walk left something out"));
        }
        self.at = guest.end;
        Ok(drawn)
    }
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
    feed: Mutex<Numbered<'a>>,
    turnstile: Turnstile<Box<dyn Placer>>,
    first_fault: Mutex<Option<(u64, Fault)>>,
    tally: Tallies,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Conversion<'_> {
    /// A worker: draws tickets until there are no more, or they are turned away.
    fn work(&self) {
        let mut hands = Hands::new(self);
        loop {
            if self.control.go_on().is_err() {
                self.turnstile.break_at(0);
                return;
            }
            let mut feed = lock(&self.feed);
            let ticket = feed.next;
            if self.turnstile.turned_away(ticket) {
                return;
            }
            feed.next += 1;
            // Held before anything is done for it: a panic in a reader hangs nobody either.
            let guard = self.turnstile.hold(ticket);
            let drawn = feed.draw(self.plan);
            drop(feed);
            let result = match drawn {
                Ok(Some(drawn)) => hands.deal_with(ticket, drawn),
                Ok(None) => {
                    guard.done();
                    // Nothing lies behind the end: later tickets have nothing to do.
                    self.turnstile.break_at(ticket);
                    return;
                }
                Err(fault) => Err(fault),
            };
            if let Err(fault) = result {
                self.fail(ticket, fault);
            }
            guard.done();
        }
    }

    fn fail(&self, ticket: u64, fault: Fault) {
        let mut first = lock(&self.first_fault);
        if first.as_ref().is_none_or(|(earlier, _)| ticket < *earlier) {
            *first = Some((ticket, fault));
        }
        drop(first);
        self.turnstile.break_at(ticket);
    }
}

/// What a worker owns: nothing here is shared.
struct Hands<'h, 'c> {
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

impl<'h, 'c> Hands<'h, 'c> {
    fn new(run: &'h Conversion<'c>) -> Hands<'h, 'c> {
        let encoder = run.writer.encoder();
        let salvage = Salvage::of(run.control.salvage);
        Hands {
            run,
            source: Reader::new(run.sources.disk, lock(&run.feed).feed.decoder(), encoder.is_some(), salvage),
            base: run.sources.base.map(|base| Reader::new(Some(base), None, false, Salvage::Never)),
            verdicts: Vec::new(),
            sizes: Vec::new(),
            encoder,
            encoded: Vec::new(),
            placer: (run.plan.order == Order::Free).then(|| run.writer.placer()),
            writes: Writes::default(),
        }
    }

    fn deal_with(&mut self, ticket: u64, drawn: Drawn) -> Result<(), Fault> {
        let tally = &self.run.tally;
        let guest = match drawn {
            Drawn::Gap(guest, verdict) => {
                tally.gaps.fetch_add(1, Ordering::Relaxed);
                self.source.bytes.clear();
                self.place(ticket, guest.clone(), Some(verdict))?;
                guest
            }
            Drawn::Lost(Lost { guest, fault }) => {
                Salvage::of(self.run.control.salvage).lose(guest.clone(), &fault)?;
                tally.gaps.fetch_add(1, Ordering::Relaxed);
                self.source.bytes.clear();
                // Where there is a base, it is zero there.
                let verdict = if self.base.is_some() { Verdict::Same } else { Verdict::Zero };
                self.place(ticket, guest.clone(), Some(verdict))?;
                guest
            }
            Drawn::Piece(piece) => {
                tally.pieces.fetch_add(1, Ordering::Relaxed);
                let unit = self.run.plan.test_unit;
                let stored = self.source.read(&piece, unit)?;
                tally.stored.fetch_add(stored, Ordering::Relaxed);
                if let Some(base) = &mut self.base {
                    base.read_runs(&piece.guest, &piece.base, unit)?;
                }
                self.judge(&piece)?;
                self.place(ticket, piece.guest.clone(), None)?;
                piece.guest
            }
        };
        (self.run.control.progress)(guest.end - guest.start);
        Ok(())
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
    fn place(&mut self, ticket: u64, guest: Range<u64>, gap: Option<Verdict>) -> Result<(), Fault> {
        let Hands { run, source, verdicts, sizes, encoded, placer, writes, .. } = self;
        let seen = match gap {
            Some(verdict) => Seen::Gap(verdict),
            None => Seen::Units { verdicts, sizes },
        };
        writes.clear();
        let hand = Hand { start: guest.start, bytes: &source.bytes, encoded, sizes };
        match run.plan.order {
            Order::Free => {
                let placer = placer.as_mut().ok_or_else(|| Fault::bug("a worker without a placer"))?;
                placer.place(guest, seen, writes)?;
            }
            Order::Ordered => {
                if run.turnstile.pass(ticket, |placer| placer.place(guest, seen, writes))?.is_none() {
                    return Ok(()); // turned away: an earlier ticket failed, or the user interrupted
                }
            }
            Order::Stream => {
                run.turnstile.pass(ticket, |placer| {
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
                let bytes = hand.filter(|h| guest.start >= h.start).and_then(|h| h.bytes.get(within(guest, h.start)));
                outputs.write(
                    write.file,
                    write.at,
                    bytes.ok_or_else(|| Fault::bug("a placer asked for bytes outside its piece"))?,
                )?;
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
