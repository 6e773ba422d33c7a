//! Which units of an image's tables overlap others (R8): each page of a table is claimed when it is first read.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::Ledger;
use super::claims::{Claim, Claims};
use crate::fault::{Fault, Kind};

/// Bytes that an overlap takes in memory.
const KEPT: usize = 48;

/// A unit as an entry of a table names it.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// Number of the entry in its page.
    pub index: usize,
    /// Byte of the file at which the unit begins.
    pub at: u64,
    /// It lies on something else than a unit, whatever other units do.
    pub on_other: bool,
}

/// The units of one image, all of one length.
pub struct Overlaps {
    ledger: Arc<Ledger>,
    unit: u64,
    claims: Claims,
    /// Pages that were claimed, with the entries whose unit overlaps one that was claimed earlier, in order.
    pages: HashMap<u64, Box<[u32]>>,
    /// Where units begin that overlap one that was claimed earlier.
    contested: BTreeSet<u64>,
    /// All pages were claimed before any unit was read: the earlier of two that overlap is known too.
    looked_through: bool,
}

impl Overlaps {
    /// For units of `unit` bytes that begin at multiples of `step` bytes, as for `Claims::new`.
    pub fn new(ledger: Arc<Ledger>, unit: u64, step: u64) -> Overlaps {
        Overlaps {
            claims: Claims::new(Arc::clone(&ledger), unit, step),
            ledger,
            unit: unit.max(1),
            pages: HashMap::new(),
            contested: BTreeSet::new(),
            looked_through: false,
        }
    }

    /// Claims the units of a page of `what`, at its first look. True when the memory for it is used up by this page: later overlaps may go
    /// unseen. Refused where more of them overlap than memory is left for.
    pub fn claim(
        &mut self,
        page: u64,
        file: &Path,
        what: &str,
        units: impl IntoIterator<Item = Named>,
    ) -> Result<bool, Fault> {
        if self.pages.contains_key(&page) {
            return Ok(false);
        }
        let mut units = units.into_iter().peekable();
        if units.peek().is_none() {
            return Ok(false);
        }
        let was_full = self.claims.is_full();
        let mut found = Vec::new();
        for Named { index, at, on_other } in units {
            // One on something else is claimed too: nobody knows which of the two is wrong.
            let overlaps = self.claims.claim(at) == Claim::Overlaps;
            if overlaps {
                self.contested.insert(at);
            }
            if !overlaps && !on_other {
                continue;
            }
            found.extend(u32::try_from(index));
            if !self.ledger.take_for_lists(KEPT) {
                let many =
                    Fault::new(Kind::OverLimit, file, format!("more {what} lie on each other than are kept apart"));
                return Err(many.found(format!("byte {at} is one more place")));
            }
        }
        self.pages.insert(page, found.into_boxed_slice());
        Ok(self.claims.is_full() && !was_full)
    }

    /// Does the unit at byte `at`, of this entry of this page, lie on another, or on something else? Of two that overlap the earlier one is
    /// known to when all pages were looked at first.
    pub fn overlaps(&self, page: u64, index: usize, at: u64) -> bool {
        let found = self.pages.get(&page).zip(u32::try_from(index).ok());
        found.is_some_and(|(found, index)| found.binary_search(&index).is_ok()) || self.is_contested(at)
    }

    fn is_contested(&self, at: u64) -> bool {
        let near = at.saturating_sub(self.unit - 1)..at.saturating_add(self.unit);
        self.looked_through && self.contested.range(near).next().is_some()
    }

    /// Does a unit that was claimed have any of these bytes?
    pub fn meets(&self, bytes: Range<u64>) -> bool {
        self.claims.meets(bytes)
    }

    /// All pages were claimed.
    pub fn looked_through(&mut self) {
        self.looked_through = true;
    }

    /// Were all pages claimed?
    pub fn is_looked_through(&self) -> bool {
        self.looked_through
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(units: &[u64]) -> impl Iterator<Item = Named> {
        units.iter().enumerate().map(|(index, at)| Named { index, at: *at, on_other: false })
    }

    proptest! {
        /// Entry by entry against all others: the later of two that overlap is told at once, the earlier when all were looked at.
        #[test]
        fn each_unit_that_shares_a_byte_with_another_is_told(
            sectors in prop::collection::vec(prop::collection::vec(0..200u64, 0..8), 1..6),
            unit in 1..5u64,
        ) {
            let (mut overlaps, name) = (Overlaps::new(Arc::default(), unit * 512, 512), Path::new("x"));
            let (mut taken, mut all) = (Vec::new(), Vec::new());
            for (page, sectors) in sectors.iter().enumerate() {
                let units: Vec<u64> = sectors.iter().map(|sector| sector * 512).collect();
                prop_assert!(!overlaps.claim(page as u64, name, "units", named(&units)).unwrap());
                if !units.is_empty() {
                    prop_assert!(!overlaps.claim(page as u64, name, "units", named(&[0, 0, 0])).unwrap(), "a second look");
                }
                for (index, at) in units.into_iter().enumerate() {
                    let later = taken.iter().any(|other: &u64| other.abs_diff(at) < unit * 512);
                    prop_assert_eq!(overlaps.overlaps(page as u64, index, at), later);
                    if !later {
                        taken.push(at);
                    }
                    all.push((page as u64, index, at));
                }
            }
            overlaps.looked_through();
            // One that overlaps nothing that was taken, but one that overlapped, is as it should be.
            for (page, index, at) in &all {
                let told = overlaps.overlaps(*page, *index, *at);
                let alone = all.iter().filter(|(_, _, other)| other.abs_diff(*at) < unit * 512).count() == 1;
                prop_assert!(!(alone && told), "alone, and told");
                prop_assert!(alone || told, "not alone, and not told");
            }
        }
    }

    #[test]
    fn so_many_overlaps_are_refused_that_memory_would_not_hold_them() {
        let (mut overlaps, units) = (Overlaps::new(Arc::default(), 512, 512), vec![512; 1 << 12]);
        let pages = (0..).find(|page| overlaps.claim(*page, Path::new("x"), "units", named(&units)).is_err());
        assert!(pages.is_some_and(|pages| (128..1024).contains(&pages)), "{pages:?} of 4096");
    }
}
