//! Whose each table of the file is: no two entries of a directory may lead to one place, nor to places that share a part.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::fault::{Fault, Kind};
use crate::image::Ledger;
use crate::io::InputFile;

/// Bytes that a row of tables, or a place of which two tables were said to be there, takes in memory.
const ROW: usize = 48;

/// The tables of one extent.
pub struct Placed {
    what: &'static str,
    /// Sectors of a table, or whatever places are counted in.
    len: u64,
    /// For each directory, tables that lie behind each other in the order of their numbers, by the first one's place: its number, and how
    /// many. No two of a directory share a part; a table may share one with its own copy, and what the two say is for others to compare.
    directories: Vec<BTreeMap<u64, (u64, u64)>>,
    /// Places where a second table was said to be.
    contested: BTreeSet<u64>,
}

impl Placed {
    /// For tables of `len`, at least 1; in messages they are called `what`.
    pub fn new(what: &'static str, len: u64) -> Placed {
        Placed { what, len: len.max(1), directories: Vec::new(), contested: BTreeSet::new() }
    }

    /// Directory number `copy` says that table `number` of `file` is at `start`. False where another one was said to be there, or in a part
    /// of it; the first of them is none the wiser until `all` were placed. Refused where there are more than memory is left for.
    pub fn place(
        &mut self,
        (file, ledger): (&InputFile, &Ledger),
        copy: usize,
        start: u64,
        number: u64,
        all: bool,
    ) -> Result<bool, Fault> {
        let place = start..start.saturating_add(self.len);
        let tables = || self.directories.iter().flat_map(|rows| self.tables_in(rows, place.clone()));
        let other = tables().any(|(_, table)| table != number);
        let known = match other {
            true => !self.contested.insert(start),
            false => self.add(copy, start, number),
        };
        if !known && !ledger.take_for_lists(ROW) {
            // What is not remembered is asked again.
            match (other, self.directories.get_mut(copy)) {
                (false, Some(rows)) => drop(rows.remove(&start)),
                _ => drop(self.contested.remove(&start)),
            }
            let what = format!("more {} than are held against each other", self.what);
            return Err(Fault::new(Kind::OverLimit, file.name(), what).found(format!("table {number} is one more")));
        }
        let near = start.saturating_sub(self.len - 1)..place.end;
        Ok(!(other || all && self.contested.range(near).next().is_some()))
    }

    /// Does a table that was placed have any of this?
    pub fn meet(&self, places: Range<u64>) -> bool {
        self.directories.iter().any(|rows| self.tables_in(rows, places.clone()).next().is_some())
    }

    /// The tables of a directory that have a part of these places: where they begin, and their numbers.
    fn tables_in<'a>(
        &self,
        rows: &'a BTreeMap<u64, (u64, u64)>,
        places: Range<u64>,
    ) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let len = self.len;
        let before = rows.range(..places.start).next_back();
        let met = before.into_iter().chain(rows.range(places.clone()));
        met.flat_map(move |(first, (number, count))| {
            let from = places.start.saturating_sub(*first) / len;
            let until = places.end.saturating_sub(*first).div_ceil(len).min(*count);
            (from..until).map(move |nth| (first + nth * len, number + nth))
        })
    }

    /// Adds a table that shares no part with another one's. True where it was there, or costs nothing since it lengthens a row.
    fn add(&mut self, copy: usize, start: u64, number: u64) -> bool {
        if self.directories.len() <= copy {
            self.directories.resize_with(copy + 1, BTreeMap::new);
        }
        let len = self.len;
        let Some(rows) = self.directories.get_mut(copy) else { return true };
        let before = rows.range_mut(..=start).next_back();
        if let Some((first, (table, count))) = before {
            let (apart, nth) = (start - first, (start - first) / len);
            if apart.is_multiple_of(len) && nth <= *count && table.saturating_add(nth) == number {
                *count = (nth + 1).max(*count);
                return true;
            }
        }
        rows.insert(start, (number, 1));
        false
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::io::Gate;

    proptest! {
        /// Rows say what a list of all tables says. A table may have another place in each directory.
        #[test]
        fn rows_say_what_single_tables_say(
            len in 1..4u64,
            steps in prop::collection::vec((0..30u64, 0..20u64, any::<bool>(), 0..2usize), 1..40),
        ) {
            let mut gate = Gate::new();
            gate.lay_over("x", vec![0; 512]);
            let (file, ledger) = (gate.typed(Path::new("x")).unwrap(), Ledger::default());
            let (mut placed, mut contested) = (Placed::new("tables", len), BTreeSet::new());
            let mut list = Vec::<(usize, u64, u64)>::new();
            let (mut start, mut number) = (0, 0);
            for (jump, other, follows, copy) in steps {
                (start, number) = if follows { (start + len, number + 1) } else { (jump, other) };
                // A directory has one entry for a table.
                if let Some((.., place)) = list.iter().find(|(c, n, _)| (*c, *n) == (copy, number)) {
                    start = *place;
                }
                let near = |place: u64| place.abs_diff(start) < len;
                let taken = list.iter().any(|(_, owner, place)| near(*place) && *owner != number);
                for all in [false, true] {
                    let said = placed.place((&file, &ledger), copy, start, number, all).unwrap();
                    if taken {
                        contested.insert(start);
                    }
                    prop_assert_eq!(said, !(taken || all && contested.iter().any(|place| near(*place))));
                }
                if !taken && !list.contains(&(copy, number, start)) {
                    list.push((copy, number, start));
                }
                for from in 0..80 {
                    let met = list.iter().any(|(.., place)| *place < from + 2 && from < place + len);
                    prop_assert_eq!(placed.meet(from..from + 2), met, "{}", from);
                }
            }
        }
    }

    #[test]
    fn a_row_costs_as_much_as_a_table_and_memory_is_bounded() {
        let mut gate = Gate::new();
        gate.lay_over("x", vec![0; 512]);
        let (file, ledger) = (gate.typed(Path::new("x")).unwrap(), Ledger::default());
        let mut placed = Placed::new("tables", 4);
        let mut place = |start, number| placed.place((&file, &ledger), 0, start, number, false);
        assert!((0..10_000_000).all(|number| place(100 + number * 4, number).unwrap()));
        let scattered = (0..10_000_000).find_map(|number| place((1 << 40) + number * 5, 1 << 40).err());
        assert_eq!(scattered.unwrap().kind(), Kind::OverLimit);
        assert!(place(1, 1 << 41).is_err() && place(1, 1 << 41).is_err());
        assert!(place(100, 0).unwrap() && place(100 + 10_000_000 * 4, 10_000_000).unwrap());
    }
}
