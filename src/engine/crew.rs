//! Worker threads over one feed: what every use of a walk shares. Tickets in guest order, the first fault, the way out.

use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::digest::{Digest, Digested, Maker};
use super::turnstile::{Guard, Turnstile};
use crate::fault::{Fault, Kind};
use crate::image::{Decode, Drawn, Feed, Losses, PIECE};
use crate::io::sys::address_space;

/// What a worker holds at most, in pieces: the bytes of one, those of the disk beside it or the packed units of it, those that came of
/// encoding them, and what the allocator keeps between them.
const HELD: u64 = 4 * PIECE;
/// What all workers may hold: the rest of 128 MiB is left to tables and lists.
const BUDGET: u64 = 96 << 20;
/// Address space that a worker takes at most beside that: its stack, and what the allocator reserves for a thread.
const RESERVED: u64 = 160 << 20;

/// How many of `wanted` workers are started: those that fit into the memory of a run, and into the address space that the system allows the
/// program; at least one. The result does not depend on it.
pub fn workers(wanted: usize) -> usize {
    let room = address_space().map_or(u64::MAX, |limit| limit / (RESERVED + HELD));
    let most = (BUDGET / HELD).min(room).max(1);
    usize::try_from(most).map_or(wanted, |most| wanted.min(most))
}

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
    /// Is the SHA-256 of the guest's content taken on the way of a conversion?
    pub digest: bool,
}

impl Control<'_> {
    pub(super) fn go_on(&self) -> Result<(), Fault> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(Fault::new(Kind::Interrupted, "", "interrupted; no output was made")),
            false => Ok(()),
        }
    }
}

/// What a feed is held to: whole test units, from byte 0 to the disk's end, nothing left out.
#[derive(Clone, Copy)]
pub struct Bounds {
    /// The test unit in bytes.
    pub unit: u64,
    /// The disk's end.
    pub end: u64,
    /// The disk ends where the feed does, at `end` at the latest.
    pub open_end: bool,
}

/// What a worker does with what it draws. Each worker has its own; nothing in it is shared.
pub trait Hands<T> {
    /// Deals with one draw. Where one passes the turnstile all do, once, or are turned away; so with the digest.
    fn deal_with(&mut self, ticket: Ticket<'_, T>, drawn: Drawn) -> Result<(), Fault>;
}

/// A worker's place in the order of draws.
pub struct Ticket<'c, T> {
    number: u64,
    turnstile: &'c Turnstile<T>,
    digest: Option<&'c (Maker, Turnstile<Digest>)>,
    control: &'c Control<'c>,
    /// Progress of this draw that was told already.
    told: &'c Cell<u64>,
}

impl<T> Ticket<'_, T> {
    /// Waits for its turn. `Ok(None)`: turned away; an earlier ticket failed, or the user interrupted.
    pub fn pass<R>(&self, work: impl FnOnce(&mut T) -> Result<R, Fault>) -> Result<Option<R>, Fault> {
        self.turnstile.pass(self.number, work)
    }

    /// Tells that as many guest bytes of what was drawn are dealt with; what is left of it is told when all is done.
    pub fn advance(&self, bytes: u64) {
        (self.control.progress)(bytes);
        self.told.set(self.told.get() + bytes);
    }

    /// Adds what was drawn to the digest, where one is taken: these bytes and what they are padded with, or zeroes that were not read.
    /// What can be done out of turn is done before it is waited for. False: turned away.
    pub fn digest(&self, guest: &Range<u64>, bytes: Option<&[u8]>) -> Result<bool, Fault> {
        let Some((maker, turnstile)) = self.digest else { return Ok(true) };
        let len = usize::try_from(guest.end - guest.start).unwrap_or(usize::MAX);
        let part = maker.part(guest, bytes.map(|bytes| bytes.get(..len).unwrap_or_default()))?;
        let mut tell = |bytes| self.advance(bytes);
        Ok(turnstile.pass(self.number, |digest| digest.take(part, self.control, &mut tell))?.is_some())
    }
}

/// The workers of one run.
pub struct Crew<'a, T> {
    control: Control<'a>,
    bounds: Bounds,
    feed: Mutex<Numbered<'a>>,
    turnstile: Turnstile<T>,
    /// Behind a turnstile of its own: one worker hashes while another writes.
    digest: Option<(Maker, Turnstile<Digest>)>,
    first_fault: Mutex<Option<(u64, Fault)>>,
}

/// What is left when all workers went home without a fault.
pub struct Walked<'a, T> {
    /// What the turnstile held.
    pub owned: T,
    /// The digest of all that was drawn, where one was taken.
    pub digest: Option<Digested>,
    /// The feed at its end, which it was not asked about yet.
    pub feed: &'a mut dyn Feed,
    /// The guest byte at which the feed ended.
    pub end: u64,
}

struct Numbered<'a> {
    feed: &'a mut dyn Feed,
    /// The next ticket.
    next: u64,
    /// The guest byte that the next piece or gap must begin at.
    at: u64,
}

impl Numbered<'_> {
    /// Draws, and holds the feed to its contract.
    fn draw(&mut self, bounds: Bounds) -> Result<Option<Drawn>, Fault> {
        let drawn = self.feed.next()?;
        let guest = match &drawn {
            None if self.at == bounds.end || (bounds.open_end && self.at > 0) => return Ok(None),
            None => return Err(Fault::bug("the walk ended before the disk's end")),
            Some(drawn) => drawn.guest(),
        };
        let whole = guest.end.is_multiple_of(bounds.unit) || guest.end == bounds.end || bounds.open_end;
        // What was cut was the last.
        let next = guest.start == self.at && self.at.is_multiple_of(bounds.unit);
        if !next || guest.is_empty() || guest.end > bounds.end || !whole {
            return Err(Fault::bug("the walk left something out"));
        }
        self.at = guest.end;
        Ok(drawn)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a, T: Send> Crew<'a, T> {
    /// For all of `feed`; `owned` is what must be touched in order.
    pub fn new(feed: &'a mut dyn Feed, bounds: Bounds, owned: T, control: Control<'a>) -> Result<Crew<'a, T>, Fault> {
        if !bounds.unit.is_power_of_two() || bounds.unit > PIECE {
            return Err(Fault::bug("a test unit that pieces are not made of"));
        }
        Ok(Crew {
            control,
            bounds,
            feed: Mutex::new(Numbered { feed, next: 0, at: 0 }),
            turnstile: Turnstile::new(owned),
            digest: None,
            first_fault: Mutex::new(None),
        })
    }

    /// The same, with a digest of what is drawn.
    pub fn with_digest(self, maker: Maker) -> Crew<'a, T> {
        Crew { digest: Some((maker, Turnstile::new(maker.digest()))), ..self }
    }

    /// Sets the workers to it, each with hands of its own (and a decoder, where the feed's pieces need one), and waits for them.
    ///
    /// The fault that is returned is the one at the lowest guest offset, whatever the number of threads.
    pub fn work<H: Hands<T>>(
        self,
        hands: impl Fn(Option<Box<dyn Decode>>) -> H + Sync,
    ) -> Result<Walked<'a, T>, Fault> {
        let worker = || {
            let decoder = lock(&self.feed).feed.decoder();
            self.draw_on(&mut hands(decoder));
        };
        thread::scope(|scope| {
            for _ in 1..self.control.jobs.max(1) {
                // One that cannot be started is no fault: the result does not depend on how many there are.
                let _ = thread::Builder::new().spawn_scoped(scope, worker);
            }
            worker();
        });
        let Crew { feed, turnstile, digest, first_fault, control, .. } = self;
        let fault = first_fault.into_inner().unwrap_or_else(PoisonError::into_inner).map(|(_, fault)| fault);
        // Where a pipe was interrupted it says what became of the output.
        if let Some(fault) = fault.clone().filter(|fault| fault.kind() == Kind::Interrupted) {
            return Err(fault);
        }
        control.go_on()?;
        fault.map_or(Ok(()), Err)?;
        let Numbered { feed, at, .. } = feed.into_inner().unwrap_or_else(PoisonError::into_inner);
        let digest = digest.map(|(_, digest)| digest.into_inner().finish());
        Ok(Walked { owned: turnstile.into_inner(), digest, feed, end: at })
    }

    /// A worker: draws tickets until there are no more, or they are turned away.
    fn draw_on(&self, hands: &mut impl Hands<T>) {
        loop {
            if self.control.go_on().is_err() {
                self.break_at(0);
                return;
            }
            let mut feed = lock(&self.feed);
            let number = feed.next;
            if self.turnstile.turned_away(number) {
                return;
            }
            feed.next += 1;
            // Held before anything is done for it: a panic in a reader hangs nobody either.
            let guard = self.turnstile.hold(number);
            let digest_guard = self.digest.as_ref().map(|(_, turnstile)| turnstile.hold(number));
            let drawn = feed.draw(self.bounds);
            drop(feed);
            let result = match drawn {
                Ok(Some(drawn)) => self.hand_over(hands, number, drawn),
                // Nothing lies behind the end: later tickets have nothing to do.
                Ok(None) => {
                    self.break_at(number);
                    Ok(())
                }
                Err(fault) => Err(fault),
            };
            if let Err(fault) = result {
                self.fail(number, fault);
            }
            guard.done();
            digest_guard.into_iter().for_each(Guard::done);
        }
    }

    fn hand_over(&self, hands: &mut impl Hands<T>, number: u64, drawn: Drawn) -> Result<(), Fault> {
        let (len, told) = (drawn.guest().end - drawn.guest().start, Cell::new(0));
        let Crew { turnstile, digest, control, .. } = self;
        hands.deal_with(Ticket { number, turnstile, digest: digest.as_ref(), control, told: &told }, drawn)?;
        (control.progress)(len - told.get().min(len));
        Ok(())
    }

    fn break_at(&self, number: u64) {
        self.turnstile.break_at(number);
        if let Some((_, turnstile)) = &self.digest {
            turnstile.break_at(number);
        }
    }

    fn fail(&self, number: u64, fault: Fault) {
        let mut first = lock(&self.first_fault);
        if first.as_ref().is_none_or(|(earlier, _)| number < *earlier) {
            *first = Some((number, fault));
        }
        drop(first);
        self.break_at(number);
    }
}
