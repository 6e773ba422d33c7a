//! Who owns which stretch of a file: finds units that overlap (R8) while tables are read, in bounded memory.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::Ledger;

/// Slots in a page; pages are made on demand, so that a sparse file costs what it stores.
const PAGE: u64 = 4096;

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// The place was free and is taken now.
    Taken,
    /// Another unit lies there, wholly or in part.
    Overlaps,
    /// The claims' memory is used up: nobody knows.
    Unknown,
}

/// The places of a file that units of one length were given.
///
/// The file is cut into slots of one unit's length. A slot holds at most one unit's first byte (two would overlap), so that its
/// position in the slot is all that has to be kept: one byte where there are up to 255 positions, else four.
///
/// Its memory is the disk's ([`Ledger::take_for_places`]); where that is used up it stops claiming and says so.
pub struct Claims {
    ledger: Arc<Ledger>,
    unit: u64,
    step: u64,
    wide: bool,
    pages: HashMap<u64, Box<[u8]>>,
    full: bool,
}

impl Claims {
    /// For units of `unit` bytes that begin at multiples of `step` bytes. Both are at least 1 and `step` divides `unit`.
    pub fn new(ledger: Arc<Ledger>, unit: u64, step: u64) -> Claims {
        let (unit, step) = (unit.max(1), step.max(1));
        Claims { ledger, unit, step, wide: unit / step > 255, pages: HashMap::new(), full: false }
    }

    /// Claims the unit that begins at byte `at`.
    pub fn claim(&mut self, at: u64) -> Claim {
        let (slot, position) = (at / self.unit, (at % self.unit / self.step) as u32);
        let before = slot.checked_sub(1).and_then(|s| self.get(s));
        let overlaps = self.get(slot).is_some()
            || before.is_some_and(|p| p > position)
            || self.get(slot + 1).is_some_and(|p| p < position);
        if overlaps {
            return Claim::Overlaps;
        }
        match self.put(slot, position) {
            true => Claim::Taken,
            false => Claim::Unknown,
        }
    }

    /// Does a unit that was claimed have any of these bytes?
    pub fn meets(&self, bytes: Range<u64>) -> bool {
        let first = (bytes.start / self.unit).saturating_sub(1);
        (first..bytes.end.div_ceil(self.unit)).any(|slot| {
            let start = self.get(slot).map(|position| slot * self.unit + u64::from(position) * self.step);
            start.is_some_and(|start| start < bytes.end && bytes.start < start + self.unit)
        })
    }

    /// True once memory ran out: later overlaps may go unseen.
    pub fn is_full(&self) -> bool {
        self.full
    }

    fn width(&self) -> usize {
        if self.wide { 4 } else { 1 }
    }

    fn place(&self, slot: u64) -> (u64, Range<usize>) {
        let start = (slot % PAGE) as usize * self.width();
        (slot / PAGE, start..start + self.width())
    }

    /// The position in `slot`, kept one higher so that 0 means free.
    fn get(&self, slot: u64) -> Option<u32> {
        let (page, bytes) = self.place(slot);
        let bytes = self.pages.get(&page)?.get(bytes)?;
        let kept = bytes.iter().rev().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
        kept.checked_sub(1)
    }

    fn put(&mut self, slot: u64, position: u32) -> bool {
        let (page, bytes) = self.place(slot);
        let size = PAGE as usize * self.width();
        if !self.pages.contains_key(&page) && !self.ledger.take_for_places(size) {
            self.full = true;
            return false;
        }
        let width = self.width();
        let page = self.pages.entry(page).or_insert_with(|| vec![0; size].into_boxed_slice());
        page[bytes].copy_from_slice(&(position + 1).to_le_bytes()[..width]);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn touching_units_do_not_overlap_and_one_sector_more_does() {
        let unit = 4097 * 512;
        let mut claims = Claims::new(Arc::default(), unit, 512);
        assert_eq!(claims.claim(2048), Claim::Taken);
        assert_eq!(claims.claim(2048 + unit), Claim::Taken);
        assert_eq!(claims.claim(2048 + 3 * unit - 512), Claim::Taken);
        assert_eq!(claims.claim(2048 + 2 * unit), Claim::Overlaps);
        assert_eq!(claims.claim(2048), Claim::Overlaps);
    }

    #[test]
    fn what_a_unit_has_is_met_from_its_first_byte_to_its_last() {
        for unit in [512u64, 1024, 65_536] {
            let mut claims = Claims::new(Arc::default(), unit, 512);
            assert_eq!(claims.claim(100 * 512), Claim::Taken);
            let end = 100 * 512 + unit;
            assert!(claims.meets(0..100 * 512 + 1) && claims.meets(end - 1..end + 16_384) && claims.meets(0..1 << 20));
            assert!(!claims.meets(0..100 * 512) && !claims.meets(end..1 << 30));
        }
    }

    #[test]
    fn memory_is_bounded_and_its_end_is_told() {
        let ledger = Arc::<Ledger>::default();
        let [mut one, mut other] = [(), ()].map(|()| Claims::new(Arc::clone(&ledger), 1024, 512));
        let end = (0..).find(|page| one.claim(page * PAGE * 1024) == Claim::Unknown).unwrap();
        assert!((1 << 12..1 << 16).contains(&end), "{end} pages of 4 KiB");
        assert!(one.is_full() && !other.is_full());
        // It is the memory of all.
        assert_eq!(other.claim(0), Claim::Unknown);
        assert_eq!(one.claim(1024), Claim::Taken, "in a page that is there");
    }

    proptest! {
        #[test]
        fn claims_find_what_comparing_all_pairs_finds(
            unit_sectors in prop_oneof![Just(1u64), Just(2), Just(5), Just(255), Just(256), Just(4097)],
            starts in prop::collection::vec(0u64..20_000, 1..60),
        ) {
            let unit = unit_sectors * 512;
            let (mut claims, mut taken) = (Claims::new(Arc::default(), unit, 512), Vec::<u64>::new());
            for start in starts.into_iter().map(|s| s * 512) {
                let free = taken.iter().all(|t| start.abs_diff(*t) >= unit);
                prop_assert_eq!(claims.claim(start), if free { Claim::Taken } else { Claim::Overlaps });
                if free { taken.push(start) }
            }
        }
    }
}
