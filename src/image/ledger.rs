//! What was met on the way and does not end the run: warnings, and counts for `-v`.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::fault::Fault;

/// Warnings and counters of one opened disk, shared by its layers. What comes out does not depend on which thread met what first.
#[derive(Default)]
pub struct Ledger {
    warnings: Mutex<Vec<(Option<u64>, Fault)>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

impl Ledger {
    /// A warning about the whole image, met while it was opened.
    pub fn warn(&self, what: Fault) {
        lock(&self.warnings).push((None, what));
    }

    /// A warning met later, in a table, about the guest offset `guest` (bytes).
    pub fn warn_at(&self, guest: u64, what: Fault) {
        lock(&self.warnings).push((Some(guest), what));
    }

    /// Adds `n` to a counter that `-v` shows.
    pub fn count(&self, what: &'static str, n: u64) {
        *lock(&self.counts).entry(what).or_default() += n;
    }

    /// The warnings: those of opening first, in their order, then by guest offset.
    pub fn warnings(&self) -> Vec<Fault> {
        let mut all = lock(&self.warnings).clone();
        all.sort_by_key(|(guest, _)| *guest);
        all.into_iter().map(|(_, what)| what).collect()
    }

    /// The counters by name.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        lock(&self.counts).iter().map(|(name, n)| (*name, *n)).collect()
    }
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
        let bytes: Vec<_> = ledger.warnings().iter().map(|w| w.byte().unwrap()).collect();
        assert_eq!(bytes, [1, 2, 3]);
    }
}
