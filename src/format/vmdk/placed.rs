//! Whose each table of the file is: no two entries of a directory may lead to one place, nor to places that share a part.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::fault::{Fault, Kind};
use crate::io::InputFile;

/// Rows of tables, and places of which two tables were said to be there, that are kept: as many as tables of the largest disk that products
/// make, were none behind another.
const MOST: usize = 2 << 20;

/// The tables of one extent. A table with a copy has two places.
pub struct Placed {
    what: &'static str,
    /// Sectors of a table, or whatever places are counted in.
    len: u64,
    /// Tables that lie behind each other in the order of their numbers, by the first one's place: its number, and how many.
    rows: BTreeMap<u64, (u64, u64)>,
    /// Places where a second table was said to be.
    contested: BTreeSet<u64>,
}

impl Placed {
    /// For tables of `len`, at least 1; in messages they are called `what`.
    pub fn new(what: &'static str, len: u64) -> Placed {
        Placed { what, len: len.max(1), rows: BTreeMap::new(), contested: BTreeSet::new() }
    }

    /// Says that table `number` is at `start`. False where another one was said to be there, or in a part of it; the first of them is none
    /// the wiser until `all` were placed. Refused where there are more than are kept.
    pub fn place(&mut self, file: &InputFile, start: u64, number: u64, all: bool) -> Result<bool, Fault> {
        let place = self.around(start, start.saturating_add(self.len));
        let mut others = self.rows.range(place.clone()).filter(|row| reaches(*row, start, self.len));
        let (mut here, mut other) = (false, false);
        for (first, (table, count)) in others.by_ref() {
            let apart = start.abs_diff(*first);
            let same = start >= *first && apart.is_multiple_of(self.len) && apart / self.len < *count;
            let same = same && table + apart / self.len == number;
            (here, other) = (here || same, other || !same);
        }
        if other {
            self.contested.insert(start);
        } else if !here {
            self.add(start, number);
        }
        if self.rows.len() + self.contested.len() > MOST {
            let what = format!("more {} than are held against each other", self.what);
            let many = Fault::new(Kind::OverLimit, file.name(), what);
            return Err(many.found(format!("sector {start} is one more")).expected(format!("at most {MOST}")));
        }
        let near = start.saturating_sub(self.len - 1)..start.saturating_add(self.len);
        Ok(!(other || all && self.contested.range(near).next().is_some()))
    }

    /// Does a table that was placed have any of this?
    pub fn meet(&self, places: Range<u64>) -> bool {
        let near = self.around(places.start, places.end);
        self.rows.range(near).any(|(first, (_, count))| {
            *first < places.end && places.start < first.saturating_add(count.saturating_mul(self.len))
        })
    }

    /// Where rows may begin that have a part of what lies between.
    fn around(&self, start: u64, end: u64) -> Range<u64> {
        let row = self.rows.range(..=start).next_back();
        row.map_or(start, |(first, _)| *first)..end
    }

    fn add(&mut self, start: u64, number: u64) {
        let before = self.rows.range_mut(..start).next_back();
        match before.filter(|(first, (table, count))| {
            first.saturating_add(count.saturating_mul(self.len)) == start && *table + *count == number
        }) {
            Some((_, (_, count))) => *count += 1,
            None => drop(self.rows.insert(start, (number, 1))),
        }
    }
}

/// Does a row have a part of the `len` from `start` on?
fn reaches((first, (_, count)): (&u64, &(u64, u64)), start: u64, len: u64) -> bool {
    *first < start.saturating_add(len) && start < first.saturating_add(count.saturating_mul(len))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::io::Gate;

    proptest! {
        /// Rows say what a list of all tables says.
        #[test]
        fn rows_say_what_single_tables_say(
            len in 1..4u64,
            steps in prop::collection::vec((0..30u64, 0..20u64, any::<bool>()), 1..40),
        ) {
            let mut gate = Gate::new();
            gate.lay_over("x", vec![0; 512]);
            let file = gate.typed(Path::new("x")).unwrap();
            let (mut placed, mut list, mut contested) = (Placed::new("tables", len), Vec::<(u64, u64)>::new(), BTreeSet::new());
            let (mut start, mut number) = (0, 0);
            for (jump, other, follows) in steps {
                (start, number) = if follows { (start + len, number + 1) } else { (jump, other) };
                let near = |place: u64| place.abs_diff(start) < len;
                let taken = list.iter().any(|(place, owner)| near(*place) && (*place, *owner) != (start, number));
                for all in [false, true] {
                    let said = placed.place(&file, start, number, all).unwrap();
                    if taken {
                        contested.insert(start);
                    }
                    prop_assert_eq!(said, !(taken || all && contested.iter().any(|place| near(*place))));
                }
                if !taken && !list.contains(&(start, number)) {
                    list.push((start, number));
                }
                for from in 0..60 {
                    let met = list.iter().any(|(place, _)| *place < from + 2 && from < place + len);
                    prop_assert_eq!(placed.meet(from..from + 2), met, "{}", from);
                }
            }
        }
    }

    #[test]
    fn a_row_costs_as_much_as_a_table() {
        let mut gate = Gate::new();
        gate.lay_over("x", vec![0; 512]);
        let file = gate.typed(Path::new("x")).unwrap();
        let mut placed = Placed::new("tables", 4);
        assert!((0..1000).all(|number| placed.place(&file, 100 + number * 4, number, false).unwrap()));
        assert_eq!(placed.rows.len(), 1);
    }
}
