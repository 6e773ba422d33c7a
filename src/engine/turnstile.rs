//! Order without a queue: threads pass one at a time, in the order of their tickets.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Owns what must be touched in order.
///
/// A fault at a ticket turns all later tickets away and lets the earlier ones pass, so that the fault at the lowest ticket is found
/// whatever the threads did meanwhile. An interrupt breaks it at ticket 0.
pub struct Turnstile<T> {
    gate: Mutex<Gate<T>>,
    moved: Condvar,
}

struct Gate<T> {
    /// The ticket whose turn it is.
    next: u64,
    /// Tickets from here on are turned away.
    stop: u64,
    owned: T,
}

impl<T> Turnstile<T> {
    /// Around `owned`; ticket 0 is the first.
    pub fn new(owned: T) -> Turnstile<T> {
        Turnstile { gate: Mutex::new(Gate { next: 0, stop: u64::MAX, owned }), moved: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Gate<T>> {
        // A panic inside `pass` leaves the gate's numbers whole; its ticket's guard breaks the turnstile.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the ticket's turn and runs `work`, which should do no I/O (streams apart). `Ok(None)`: turned away.
    pub fn pass<R, E>(&self, ticket: u64, work: impl FnOnce(&mut T) -> Result<R, E>) -> Result<Option<R>, E> {
        let mut gate = self.lock();
        // Not `wait_while`: once somebody panicked inside, it returns although the turn has not come.
        while gate.next != ticket && ticket < gate.stop {
            gate = self.moved.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        if ticket >= gate.stop {
            return Ok(None);
        }
        let result = work(&mut gate.owned);
        if result.is_err() {
            gate.stop = gate.stop.min(ticket); // before `next` moves: nobody enters what is broken
        }
        gate.next += 1;
        self.moved.notify_all();
        result.map(Some)
    }

    /// Turns away `ticket` and all later ones, for good.
    pub fn break_at(&self, ticket: u64) {
        let mut gate = self.lock();
        gate.stop = gate.stop.min(ticket);
        self.moved.notify_all();
    }

    /// Is this ticket turned away? Asked before each draw, also by outputs that need no order.
    pub fn turned_away(&self, ticket: u64) -> bool {
        ticket >= self.lock().stop
    }

    /// What was owned, when all threads have ended.
    pub fn into_inner(self) -> T {
        self.gate.into_inner().unwrap_or_else(PoisonError::into_inner).owned
    }

    /// Holds a ticket: dropped without [`Guard::done`] (a panic), it breaks the turnstile.
    pub fn hold(&self, ticket: u64) -> Guard<'_, T> {
        Guard { turnstile: self, ticket, done: false }
    }
}

/// A ticket in a thread's hand.
pub struct Guard<'a, T> {
    turnstile: &'a Turnstile<T>,
    ticket: u64,
    done: bool,
}

impl<T> Guard<'_, T> {
    /// The ticket's work is finished, well or badly.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        if !self.done {
            self.turnstile.break_at(self.ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    /// `threads` draw `tickets` tickets; each passes unless `fate` panics or fails. What got through, in order, and the faults.
    fn run(threads: usize, tickets: u64, fate: impl Fn(u64) -> Result<(), u64> + Sync) -> (Vec<u64>, Vec<u64>) {
        let turnstile = Turnstile::new(Vec::new());
        let (next, faults) = (AtomicU64::new(0), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let ticket = next.fetch_add(1, Ordering::SeqCst);
                        if ticket >= tickets || turnstile.turned_away(ticket) {
                            break;
                        }
                        let _ = catch_unwind(AssertUnwindSafe(|| {
                            let guard = turnstile.hold(ticket);
                            let passed = turnstile.pass(ticket, |through: &mut Vec<u64>| {
                                fate(ticket)?;
                                through.push(ticket);
                                Ok(())
                            });
                            if let Err(fault) = passed {
                                faults.lock().unwrap().push(fault);
                            }
                            guard.done();
                        }));
                    }
                });
            }
        });
        (turnstile.into_inner(), faults.into_inner().unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn order_is_that_of_the_tickets_whatever_the_number_of_threads(threads in 1usize..9, tickets in 0u64..200) {
            prop_assert_eq!(run(threads, tickets, |_| Ok(())).0, (0..tickets).collect::<Vec<_>>());
        }

        #[test]
        fn the_lowest_fault_is_found_and_what_is_earlier_gets_through(threads in 1usize..9, bad in prop::collection::btree_set(0u64..100, 1..6)) {
            let (through, faults) = run(threads, 100, |ticket| if bad.contains(&ticket) { Err(ticket) } else { Ok(()) });
            let lowest = *bad.first().unwrap();
            prop_assert_eq!(faults, vec![lowest]);
            prop_assert_eq!(through, (0..lowest).collect::<Vec<_>>());
        }

        #[test]
        fn a_panic_breaks_it_open_and_nobody_hangs(threads in 1usize..9, bad in 0u64..60) {
            let (through, _) = run(threads, 60, |ticket| if ticket == bad { panic!("planted") } else { Ok(()) });
            prop_assert_eq!(through, (0..bad).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_interrupt_turns_away_those_who_wait() {
        let turnstile = Turnstile::new(());
        thread::scope(|scope| {
            let pass = |ticket| turnstile.pass(ticket, |()| Ok::<_, ()>(()));
            let waiting: Vec<_> = (1..4).map(|ticket| scope.spawn(move || pass(ticket))).collect();
            // Long enough for all three to be asleep in the turnstile: only the break wakes them.
            thread::sleep(std::time::Duration::from_millis(50));
            turnstile.break_at(0);
            for thread in waiting {
                assert_eq!(thread.join().unwrap(), Ok(None));
            }
        });
        assert!(turnstile.turned_away(0));
    }
}
