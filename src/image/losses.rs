//! What of a disk was lost: the ledger of a run that goes on over what cannot be had.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::fault::{Fault, Kind};

/// Ranges that are kept: about 100 MiB. A disk of which more is lost is no disk.
const MOST: usize = 1_000_000;
/// Ranges that are two for a while, since the worker between them is not done: one for each worker at most. Whether there are too many
/// does not depend on them.
const AHEAD: usize = 1024;
/// Ranges whose whole fault is kept, the first of the disk; of the others the sort of fault and its byte.
const DETAILED: usize = 10_000;

/// A range that was lost.
#[derive(Debug, Clone)]
pub struct Lost {
    /// The guest bytes.
    pub guest: Range<u64>,
    /// Why, where it begins.
    pub fault: Fault,
}

/// Ranges of the guest that were lost and read as zeroes. What comes out is sorted by guest offset, ranges that touch and were lost for the
/// same reason joined, so that it does not depend on which worker met what first.
pub struct Losses {
    kept: Mutex<Kept>,
    most: usize,
}

#[derive(Default)]
struct Kept {
    /// By the first byte.
    ranges: BTreeMap<u64, Entry>,
    /// Reasons, each once.
    sorts: Vec<Fault>,
    numbers: HashMap<(Kind, PathBuf, String), u32>,
    /// The reason of the range that was told last.
    last: u32,
    /// Whole faults of the first ranges.
    details: BTreeMap<u64, Fault>,
    /// Damage that cost no byte of the disk.
    remarks: Vec<Fault>,
}

#[derive(Clone, Copy)]
struct Entry {
    end: u64,
    sort: u32,
    byte: Option<u64>,
}

impl Default for Losses {
    fn default() -> Losses {
        Losses { kept: Mutex::default(), most: MOST }
    }
}

impl Losses {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Between any two calls the values are whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn too_many(&self, fault: &Fault) -> Fault {
        Fault::new(Kind::OverLimit, fault.file(), "more ranges are lost than can be listed")
            .expected(format!("at most {}", self.most))
    }

    /// `guest` bytes are lost. Each byte is told once.
    pub fn add(&self, guest: Range<u64>, fault: &Fault) -> Result<(), Fault> {
        let mut kept = self.lock();
        kept.put(guest, fault);
        match kept.ranges.len() > self.most.saturating_add(AHEAD) {
            true => Err(self.too_many(fault)),
            false => Ok(()),
        }
    }

    /// Damage that ends a run, and cost no byte of the disk.
    pub fn remark(&self, fault: Fault) {
        self.lock().remarks.push(fault);
    }

    /// Damage that cost no byte.
    pub fn remarks(&self) -> Vec<Fault> {
        self.lock().remarks.clone()
    }

    /// At the end: an error where there are more than are kept.
    pub fn settle(&self) -> Result<(), Fault> {
        let kept = self.lock();
        match kept.sorts.first() {
            Some(fault) if kept.ranges.len() > self.most => Err(self.too_many(fault)),
            _ => Ok(()),
        }
    }

    /// How many ranges were lost.
    pub fn count(&self) -> usize {
        self.lock().ranges.len()
    }

    /// Bytes that were lost.
    pub fn bytes(&self) -> u64 {
        self.lock().ranges.iter().map(|(start, entry)| entry.end - start).sum()
    }

    /// The range that begins at `from` or is the first behind.
    fn next(&self, from: u64, detailed: bool) -> Option<Lost> {
        let kept = self.lock();
        let (start, entry) = kept.ranges.range(from..).next()?;
        let whole = detailed.then(|| kept.details.get(start).cloned()).flatten();
        let fault = whole.or_else(|| {
            let sort = kept.sorts.get(entry.sort as usize)?.clone();
            Some(entry.byte.map_or(sort.clone(), |byte| sort.at(byte)))
        });
        Some(Lost { guest: *start..entry.end, fault: fault? })
    }

    /// The ranges by guest offset.
    pub fn iter(&self) -> impl Iterator<Item = Lost> + '_ {
        let (mut from, mut told) = (0, 0);
        std::iter::from_fn(move || {
            let lost = self.next(from, told < DETAILED)?;
            (from, told) = (lost.guest.end, told + 1);
            Some(lost)
        })
    }
}

impl Kept {
    /// The number of a reason, mostly that of the range before.
    fn number(&mut self, fault: &Fault) -> u32 {
        if let Some(last) = self.sorts.get(self.last as usize)
            && last.is_like(fault)
        {
            return self.last;
        }
        let sort = fault.sort();
        let key = (sort.kind(), sort.file().to_path_buf(), sort.message());
        let new = self.sorts.len() as u32;
        self.last = *self.numbers.entry(key).or_insert(new);
        if self.last == new {
            self.sorts.push(sort);
        }
        self.last
    }

    fn put(&mut self, guest: Range<u64>, fault: &Fault) {
        if guest.is_empty() {
            return;
        }
        let number = self.number(fault);
        let (mut start, mut entry) = (guest.start, Entry { end: guest.end, sort: number, byte: fault.byte() });
        match self.ranges.range(..start).next_back().map(|(at, entry)| (*at, *entry)) {
            Some((at, before)) if before.end == start && before.sort == number => {
                (start, entry.byte) = (at, before.byte)
            }
            _ => drop(self.details.insert(start, fault.clone())),
        }
        if let Some(behind) = self.ranges.get(&entry.end).copied().filter(|behind| behind.sort == number) {
            self.ranges.remove(&entry.end);
            self.details.remove(&entry.end);
            entry.end = behind.end;
        }
        self.ranges.insert(start, entry);
        while self.details.len() > DETAILED + AHEAD {
            self.details.pop_last();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn fault(byte: u64, field: &'static str) -> Fault {
        Fault::damaged(Path::new("x"), byte, field).found(format!("number {byte}"))
    }

    fn shown(losses: &Losses) -> Vec<(Range<u64>, String)> {
        losses.iter().map(|lost| (lost.guest, lost.fault.message())).collect()
    }

    #[test]
    fn what_touches_is_joined_where_the_reason_is_the_same() {
        let losses = Losses::default();
        for (guest, byte, field) in
            [(512..1024, 7, "a"), (2048..4096, 9, "a"), (0..512, 5, "a"), (1024..2048, 8, "b"), (8192..9000, 1, "a")]
        {
            losses.add(guest, &fault(byte, field)).unwrap();
        }
        let want = [
            (0..1024, "at byte 5: a (found number 5)"),
            (1024..2048, "at byte 8: b (found number 8)"),
            (2048..4096, "at byte 9: a (found number 9)"),
            (8192..9000, "at byte 1: a (found number 1)"),
        ];
        assert_eq!(shown(&losses), want.map(|(guest, text)| (guest, text.to_string())));
        assert_eq!((losses.count(), losses.bytes()), (4, 4096 + 808));
    }

    #[test]
    fn past_the_limit_the_run_ends_and_nothing_is_dropped() {
        let losses = Losses { most: 10, ..Losses::default() };
        for n in 0..10 {
            losses.add(n * 1024..n * 1024 + 512, &fault(n, "a")).unwrap();
        }
        losses.settle().unwrap();
        losses.add(512..1024, &fault(1, "a")).unwrap();
        losses.settle().unwrap();
        assert_eq!(losses.count(), 9, "ranges that touch are one");
        for n in 20..22 {
            losses.add(n * 1024..n * 1024 + 512, &fault(n, "a")).unwrap();
        }
        assert_eq!(losses.settle().unwrap_err().kind(), Kind::OverLimit);
        let all = Losses { most: 10, ..Losses::default() };
        let last = (0..2 * AHEAD as u64 + 20).find_map(|n| all.add(n * 1024..n * 1024 + 512, &fault(n, "a")).err());
        assert_eq!(last.unwrap().kind(), Kind::OverLimit, "memory does not grow until the end");
    }

    proptest! {
        #[test]
        fn the_list_does_not_depend_on_the_order(order in Just((0..60u64).collect::<Vec<_>>()).prop_shuffle()) {
            // Sectors 0 to 59; every seventh is not lost, every tenth for another reason.
            let put = |losses: &Losses, n: u64| {
                if n % 7 != 3 {
                    losses.add(n * 512..(n + 1) * 512, &fault(n, if n % 10 == 4 { "b" } else { "a" })).unwrap();
                }
            };
            let (one, other) = (Losses::default(), Losses::default());
            (0..60).for_each(|n| put(&one, n));
            order.iter().for_each(|n| put(&other, *n));
            prop_assert_eq!(shown(&one), shown(&other));
        }
    }
}
