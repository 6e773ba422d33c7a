//! Worker threads over one feed: what every use of a walk shares. Tickets in guest order, the first fault, the way out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use super::turnstile::Turnstile;
use crate::fault::{Fault, Kind};
use crate::image::{Decode, Drawn, Feed, Losses, PIECE};

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
    /// Deals with one draw. Whoever passes the turnstile does so with this ticket, once; who returns without a fault and did not
    /// pass it, where others do, was turned away.
    fn deal_with(&mut self, ticket: u64, drawn: Drawn, turnstile: &Turnstile<T>) -> Result<(), Fault>;
}

/// The workers of one run.
pub struct Crew<'a, T> {
    control: Control<'a>,
    bounds: Bounds,
    feed: Mutex<Numbered<'a>>,
    turnstile: Turnstile<T>,
    first_fault: Mutex<Option<(u64, Fault)>>,
}

/// What is left when all workers went home without a fault.
pub struct Walked<'a, T> {
    /// What the turnstile held.
    pub owned: T,
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
            first_fault: Mutex::new(None),
        })
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
        let Crew { feed, turnstile, first_fault, control, .. } = self;
        let fault = first_fault.into_inner().unwrap_or_else(PoisonError::into_inner).map(|(_, fault)| fault);
        // Where a pipe was interrupted it says what became of the output.
        if let Some(fault) = fault.clone().filter(|fault| fault.kind() == Kind::Interrupted) {
            return Err(fault);
        }
        control.go_on()?;
        fault.map_or(Ok(()), Err)?;
        let Numbered { feed, at, .. } = feed.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Walked { owned: turnstile.into_inner(), feed, end: at })
    }

    /// A worker: draws tickets until there are no more, or they are turned away.
    fn draw_on(&self, hands: &mut impl Hands<T>) {
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
            let drawn = feed.draw(self.bounds);
            drop(feed);
            let result = match drawn {
                Ok(Some(drawn)) => hands.deal_with(ticket, drawn, &self.turnstile),
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
