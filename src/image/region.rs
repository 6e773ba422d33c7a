//! Who owns which stretch of a file: one sweep over all of it finds what overlaps, and what nothing names.
//!
//! Readers find overlaps while they read tables, within a budget of memory ([`super::Overlaps`]). Here all places are known and sorted, so
//! that none goes unseen: four bytes a unit.

use std::collections::BTreeSet;
use std::ops::Range;

/// Units that are kept: 160 MiB.
const MOST: usize = 40_000_000;
/// Units that memory is taken for at once: a vector that doubles would take twice what it needs.
const STEP: usize = 4 << 20;
/// Places of overlapping units that are kept to name their owners.
const MOST_CONTESTED: usize = 4096;
/// Gaps that are told.
const MOST_GAPS: usize = 4096;

/// A stretch of a file and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Its bytes.
    pub bytes: Range<u64>,
    /// In words.
    pub name: &'static str,
}

impl Region {
    /// Does any byte of `other` lie in it?
    pub fn meets(&self, other: &Range<u64>) -> bool {
        self.bytes.start < other.end && other.start < self.bytes.end
    }
}

/// The regions of a file: structures, each for itself, and units of one length.
pub struct Regions {
    unit: u64,
    step: u64,
    places: Vec<u32>,
    left_out: u64,
    structures: Vec<Region>,
}

impl Regions {
    /// With units of `unit` bytes, at multiples of `step` bytes.
    pub fn new(unit: u64, step: u64) -> Regions {
        Regions { unit: unit.max(1), step: step.max(1), places: Vec::new(), left_out: 0, structures: Vec::new() }
    }

    /// A structure.
    pub fn structure(&mut self, bytes: Range<u64>, name: &'static str) {
        if bytes.start < bytes.end {
            self.structures.push(Region { bytes, name });
        }
    }

    /// The structures.
    pub fn structures(&self) -> &[Region] {
        &self.structures
    }

    /// The first structure that has a byte of these.
    pub fn structure_in(&self, bytes: &Range<u64>) -> Option<&Region> {
        self.structures.iter().find(|region| region.meets(bytes))
    }

    /// A unit at `place` steps.
    pub fn unit(&mut self, place: u32) {
        if self.places.len() == MOST {
            self.left_out += 1;
            return;
        }
        if self.places.len() == self.places.capacity() {
            self.places.reserve_exact(STEP);
        }
        self.places.push(place);
    }

    /// Units that could not be kept: nobody knows whether they overlap.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// How many units there are.
    pub fn units(&self) -> u64 {
        self.places.len() as u64
    }

    fn bytes_of(&self, place: u32) -> Range<u64> {
        let start = u64::from(place).saturating_mul(self.step);
        start..start.saturating_add(self.unit)
    }

    /// Sorts the units: before anything is asked.
    pub fn sort(&mut self) {
        self.places.sort_unstable();
    }

    /// Places at which units overlap, the first thousands of them: [`Regions::are_all`] says whether there are more.
    pub fn contested(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        // A longer unit does not exist: neighbours tell of all.
        for pair in self.places.windows(2) {
            let [one, other] = pair else { continue };
            if self.bytes_of(*one).end > self.bytes_of(*other).start {
                found.extend([*one, *other]);
            }
            if found.len() >= MOST_CONTESTED {
                break;
            }
        }
        found
    }

    /// Are these contested places all that there are? Then the other units lie side by side, and a file has room for so many alone: what
    /// is looked at in each of them costs no more than the file is long.
    pub fn are_all(contested: &BTreeSet<u32>) -> bool {
        contested.len() < MOST_CONTESTED
    }

    /// Does any unit have a byte of these? Asked when they are sorted.
    pub fn has_unit_in(&self, bytes: &Range<u64>) -> bool {
        let behind = self.places.partition_point(|place| self.bytes_of(*place).end <= bytes.start);
        self.places.get(behind).is_some_and(|place| self.bytes_of(*place).start < bytes.end)
    }

    /// The first unit, when they are sorted.
    pub fn first_unit(&self) -> Option<u32> {
        self.places.first().copied()
    }

    /// Do units at these two places share a byte?
    pub fn overlap(&self, one: u32, other: u32) -> bool {
        u64::from(one.abs_diff(other)).saturating_mul(self.step) < self.unit
    }

    /// How many steps a unit reaches.
    pub fn reach(&self) -> u32 {
        u32::try_from(self.unit.div_ceil(self.step)).unwrap_or(u32::MAX)
    }

    /// Stretches of at least `least` bytes in front of `end` that neither structures nor units take up, the first thousands of them.
    pub fn gaps(&mut self, least: u64, end: u64) -> Vec<Range<u64>> {
        self.structures.sort_by_key(|region| region.bytes.start);
        let structures = self.structures.iter().map(|region| region.bytes.clone());
        let units = self.places.iter().map(|place| self.bytes_of(*place));
        between(units, structures, least, end).take(MOST_GAPS).collect()
    }
}

/// Stretches of at least `least` bytes in front of `end` that neither of two lists takes up, each by its first bytes.
pub fn between(
    units: impl Iterator<Item = Range<u64>>,
    structures: impl Iterator<Item = Range<u64>>,
    least: u64,
    end: u64,
) -> impl Iterator<Item = Range<u64>> {
    let (mut units, mut structures) = (units.peekable(), structures.peekable());
    let mut covered = Some(0);
    std::iter::from_fn(move || {
        loop {
            let from = covered?;
            let next = match (units.peek(), structures.peek()) {
                (Some(unit), Some(structure)) if structure.start < unit.start => structures.next(),
                (Some(_), _) => units.next(),
                (None, _) => structures.next(),
            };
            let next = next.filter(|next| next.start < end);
            let until = next.as_ref().map_or(end, |next| next.start);
            covered = next.map(|next| next.end.max(from));
            if until.saturating_sub(from) >= least.max(1) {
                return Some(from..until);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_sweep_finds_what_comparing_all_pairs_and_all_bytes_finds(
            places in prop::collection::vec(0u32..200, 0..40),
            structures in prop::collection::vec((0u64..900, 1u64..60), 0..4),
            unit in prop_oneof![Just(4u64), Just(12), Just(20)],
        ) {
            let mut regions = Regions::new(unit, 4);
            places.iter().for_each(|place| regions.unit(*place));
            structures.iter().for_each(|(at, len)| regions.structure(*at..at + len, "s"));
            regions.sort();
            let meets = |a: u32, b: u32| u64::from(a.abs_diff(b)) * 4 < unit;
            let mut want = BTreeSet::new();
            for (n, a) in places.iter().enumerate() {
                for b in &places[..n] {
                    if meets(*a, *b) {
                        want.extend([*a, *b]);
                    }
                }
            }
            prop_assert_eq!(regions.contested(), want);
            let end = 900usize;
            let mut taken = vec![false; 2000];
            places.iter().for_each(|p| (0..unit).for_each(|n| taken[(u64::from(*p) * 4 + n) as usize] = true));
            structures.iter().for_each(|(at, len)| (*at..at + len).for_each(|n| taken[n as usize] = true));
            let mut free = vec![true; end];
            for gap in regions.gaps(1, end as u64) {
                (gap.start..gap.end).for_each(|n| free[n as usize] = false);
            }
            prop_assert_eq!(&free[..], &taken[..end]);
        }
    }

    #[test]
    fn overlapping_units_of_one_place_are_told_and_gaps_have_their_least_length() {
        let mut regions = Regions::new(1024, 512);
        [4, 4, 8, 6].into_iter().for_each(|place| regions.unit(place));
        regions.structure(0..1536, "head");
        regions.sort();
        assert_eq!(regions.contested(), BTreeSet::from([4]));
        assert!(regions.gaps(1024, 8192).into_iter().eq(std::iter::once(5120..8192)));
        assert!(regions.overlap(4, 5) && !regions.overlap(4, 6));
        assert_eq!(regions.structure_in(&(1000..1001)).map(|region| region.name), Some("head"));
    }
}
