//! What was met on the way and does not end the run: warnings, and counts for `-v`.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::fault::Fault;

/// Warnings of one kind that are kept; the rest is counted.
const MOST_OF_A_KIND: usize = 20;
/// Bytes of memory for the places that all images of a disk, parents included, gave away: used up, overlaps are no longer looked for.
const PLACES: usize = 64 << 20;
/// Bytes of memory for lists of tables and of overlaps, of the same images: used up, an image is refused, so that it is another than that
/// for places, which large sound images use up.
const LISTS: usize = 64 << 20;

/// Warnings and counters of one opened disk, shared by its layers. What comes out does not depend on which thread met what first, as
/// long as the map is walked in guest order.
#[derive(Default)]
pub struct Ledger {
    warnings: Mutex<Warnings>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// Bytes of either that are used up.
    places: AtomicUsize,
    lists: AtomicUsize,
}

#[derive(Default)]
struct Warnings {
    met: Vec<(Option<u64>, Fault)>,
    /// How many of a kind there were, and of which file the last one was.
    of_kind: BTreeMap<String, (usize, Fault)>,
}

impl Ledger {
    /// A warning about the whole image, met while it was opened.
    pub fn warn(&self, what: Fault) {
        self.put(None, what);
    }

    /// A warning met later, in a table, about the guest offset `guest` (bytes).
    pub fn warn_at(&self, guest: u64, what: Fault) {
        self.put(Some(guest), what);
    }

    fn put(&self, guest: Option<u64>, what: Fault) {
        let mut warnings = lock(&self.warnings);
        let (count, last) = warnings.of_kind.entry(what.field().to_string()).or_insert((0, what.clone()));
        *count += 1;
        *last = what.clone();
        if *count <= MOST_OF_A_KIND {
            warnings.met.push((guest, what));
        }
    }

    /// Takes so many bytes of the memory that there is for places; false where they are not left, and not taken.
    pub fn take_for_places(&self, bytes: usize) -> bool {
        take(&self.places, bytes, PLACES)
    }

    /// The same of the memory for lists.
    pub fn take_for_lists(&self, bytes: usize) -> bool {
        take(&self.lists, bytes, LISTS)
    }

    /// Adds `n` to a counter that `-v` shows.
    pub fn count(&self, what: &'static str, n: u64) {
        *lock(&self.counts).entry(what).or_default() += n;
    }

    /// The warnings since the last call: those of opening first, in their order, then by guest offset; at most 20 of a kind over all
    /// calls.
    pub fn drain(&self) -> Vec<Fault> {
        let mut new = std::mem::take(&mut lock(&self.warnings).met);
        new.sort_by_key(|(guest, _)| *guest);
        new.into_iter().map(|(_, what)| what).collect()
    }

    /// At the end: for each kind of which there were more than were kept, how many more.
    pub fn surplus(&self) -> Vec<Fault> {
        let warnings = lock(&self.warnings);
        let more = warnings.of_kind.iter().filter(|(_, (count, _))| *count > MOST_OF_A_KIND);
        more.map(|(field, (count, last))| {
            Fault::new(last.kind(), last.file(), format!("{} more of: {field}", count - MOST_OF_A_KIND))
        })
        .collect()
    }

    /// The counters by name.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        lock(&self.counts).iter().map(|(name, n)| (*name, *n)).collect()
    }
}

fn take(taken: &AtomicUsize, bytes: usize, most: usize) -> bool {
    let more = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= most);
    taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

/// A poisoned lock means that another thread panicked; the values here are whole between any two calls.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn warnings_come_by_guest_offset_whatever_the_order_they_were_met_in() {
        let ledger = Ledger::default();
        let warning = |byte| Fault::damaged(Path::new("x"), byte, "w");
        ledger.warn_at(900, warning(3));
        ledger.warn(warning(1));
        ledger.warn_at(5, warning(2));
        let bytes: Vec<_> = ledger.drain().iter().map(|w| w.byte().unwrap()).collect();
        assert_eq!(bytes, [1, 2, 3]);
        ledger.warn_at(1, warning(4));
        assert_eq!(ledger.drain().len(), 1, "each is told once");
    }

    #[test]
    fn memory_is_given_up_to_its_end_and_what_did_not_fit_is_not_taken() {
        let ledger = Ledger::default();
        assert!(ledger.take_for_places(PLACES - 10) && !ledger.take_for_places(11));
        assert!(!ledger.take_for_places(usize::MAX) && ledger.take_for_places(10));
        assert!(ledger.take_for_places(0) && !ledger.take_for_places(1));
        // One is used up by what is large, and the other is there for what is wrong.
        assert!(ledger.take_for_lists(LISTS) && !ledger.take_for_lists(1));
    }

    #[test]
    fn of_one_kind_twenty_are_kept_and_the_rest_is_counted() {
        let ledger = Ledger::default();
        for byte in 0..50_000 {
            ledger.warn_at(byte, Fault::damaged(Path::new("x"), byte, "this kind"));
        }
        ledger.warn(Fault::damaged(Path::new("x"), 0, "that kind"));
        assert_eq!(ledger.drain().len(), 21);
        let surplus: Vec<_> = ledger.surplus().iter().map(|f| f.to_string()).collect();
        assert_eq!(surplus, ["x: 49980 more of: this kind"]);
    }
}
