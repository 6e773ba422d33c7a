//! What `check` finds in an image: findings with a stable id each, in bounded number.

use std::collections::BTreeMap;

use crate::fault::Fault;

/// Findings of one id that are kept; the rest is counted.
const MOST_OF_AN_ID: usize = 20;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is wrong: what an expert may want to know.
    Note,
    /// The disk can be read; some reader refuses it, or something is suspicious.
    Warning,
    /// Data is wrong, or cannot be had.
    Error,
}

impl Severity {
    /// The word that is printed.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// Something that a format's check looks for.
#[derive(Debug)]
pub struct Rule {
    /// Its name, which never changes.
    pub id: &'static str,
    /// The fields of the faults by which readers tell of it; one that ends in `*` stands for all that begin so.
    pub told_as: &'static [&'static str],
}

impl Rule {
    /// Of something that readers do not look for.
    pub const fn new(id: &'static str) -> Rule {
        Rule { id, told_as: &[] }
    }

    /// Of something that readers tell of with these fields.
    pub const fn told_as(id: &'static str, told_as: &'static [&'static str]) -> Rule {
        Rule { id, told_as }
    }

    /// Is this what a reader's fault is about?
    pub fn is_about(&self, field: &str) -> bool {
        self.told_as.iter().any(|told| match told.strip_suffix('*') {
            Some(front) => field.starts_with(front),
            None => field == *told,
        })
    }
}

/// One thing that was found.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The rule's name.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Where, what was found, what was expected, what to do.
    pub fault: Fault,
}

/// All that was found in one image. Of a place and an id one finding is kept: the worst, and of those the first.
#[derive(Default)]
pub struct Findings {
    of_id: BTreeMap<&'static str, OfId>,
    counts: BTreeMap<&'static str, u64>,
}

#[derive(Default)]
struct OfId {
    /// How many of each severity.
    numbers: [u64; 3],
    kept: Vec<Finding>,
}

impl OfId {
    fn is_full(&self) -> bool {
        self.kept.len() >= MOST_OF_AN_ID
    }

    fn number(&self, severity: Severity) -> u64 {
        self.numbers[severity as usize]
    }

    fn count(&mut self, severity: Severity) -> &mut u64 {
        &mut self.numbers[severity as usize]
    }

    fn keep(&mut self, id: &'static str, severity: Severity, fault: Fault) {
        // What has no place in the file, and is found twice, is two findings: two snapshots on top of one disk.
        let other = |known: &Fault| {
            fault.byte().is_none() && known.field() == fault.field() && known.found_text() != fault.found_text()
        };
        let is_at = |known: &Fault| known.file() == fault.file() && known.byte() == fault.byte() && !other(known);
        if let Some(known) = self.kept.iter_mut().find(|known| is_at(&known.fault)) {
            let before = known.severity;
            if severity > before {
                *known = Finding { id, severity, fault };
                *self.count(severity) += 1;
                *self.count(before) -= 1;
            }
            return;
        }
        self.kept.push(Finding { id, severity, fault });
        *self.count(severity) += 1;
    }
}

impl Findings {
    /// Data is wrong, or cannot be had. `make` is asked only where the finding is kept.
    pub fn error(&mut self, id: &'static str, make: impl FnOnce() -> Fault) {
        self.put(id, Severity::Error, make);
    }

    /// Something is odd, and the disk can be read.
    pub fn warning(&mut self, id: &'static str, make: impl FnOnce() -> Fault) {
        self.put(id, Severity::Warning, make);
    }

    /// Nothing is wrong.
    pub fn note(&mut self, id: &'static str, make: impl FnOnce() -> Fault) {
        self.put(id, Severity::Note, make);
    }

    fn put(&mut self, id: &'static str, severity: Severity, make: impl FnOnce() -> Fault) {
        let of_id = self.of_id.entry(id).or_default();
        match of_id.is_full() {
            true => *of_id.count(severity) += 1,
            false => of_id.keep(id, severity, make()),
        }
    }

    /// What a reader said of the same image. What was found by itself before is not counted again.
    pub fn told(&mut self, id: &'static str, severity: Severity, fault: &Fault) {
        let of_id = self.of_id.entry(id).or_default();
        if !of_id.is_full() {
            of_id.keep(id, severity, fault.clone());
        } else if of_id.number(Severity::Error) == 0 && severity == Severity::Error {
            *of_id.count(severity) = 1;
        }
    }

    /// Adds `n` to a counter of what was looked at.
    pub fn count(&mut self, what: &'static str, n: u64) {
        *self.counts.entry(what).or_default() += n;
    }

    /// What was looked at, by name.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// How many of this severity there are.
    pub fn number(&self, severity: Severity) -> u64 {
        self.of_id.values().map(|of_id| of_id.number(severity)).sum()
    }

    /// Nothing is wrong with the disk's data; warnings and notes there may be.
    pub fn is_sound(&self) -> bool {
        self.number(Severity::Error) == 0
    }

    /// What is kept, by file and byte.
    pub fn list(&self) -> Vec<&Finding> {
        let mut all: Vec<_> = self.of_id.values().flat_map(|of_id| &of_id.kept).collect();
        all.sort_by_key(|finding| (finding.fault.file(), finding.fault.byte(), finding.id));
        all
    }

    /// For each id of which more was found than is kept, how many more.
    pub fn surplus(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let more = |of_id: &OfId| of_id.numbers.iter().sum::<u64>().saturating_sub(of_id.kept.len() as u64);
        self.of_id.iter().map(move |(id, of_id)| (*id, more(of_id))).filter(|(_, more)| *more > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn at(byte: u64) -> Fault {
        Fault::damaged(Path::new("x"), byte, "f")
    }

    #[test]
    fn of_a_place_the_worst_is_kept_and_of_those_the_first() {
        let mut findings = Findings::default();
        findings.warning("A", || at(9));
        findings.told("A", Severity::Error, &at(9).found("worse"));
        findings.told("A", Severity::Error, &at(9).found("again"));
        findings.error("B", || at(3));
        findings.note("B", || at(3));
        findings.note("C", || at(12));
        let list: Vec<_> = findings.list().iter().map(|f| (f.id, f.severity, f.fault.byte())).collect();
        assert_eq!(
            list,
            [("B", Severity::Error, Some(3)), ("A", Severity::Error, Some(9)), ("C", Severity::Note, Some(12))]
        );
        assert_eq!(findings.list().iter().map(|f| f.fault.found_text()).collect::<Vec<_>>(), ["", "worse", ""]);
        let numbers = [Severity::Error, Severity::Warning, Severity::Note].map(|severity| findings.number(severity));
        assert_eq!(numbers, [2, 0, 1]);
    }

    #[test]
    fn of_one_id_twenty_are_kept_and_the_rest_is_counted_without_being_made() {
        let mut findings = Findings::default();
        for byte in 0..20 {
            findings.error("A", || at(byte));
        }
        for _ in 0..1_000_000 {
            findings.error("A", || panic!("made"));
        }
        findings.told("A", Severity::Error, &at(77));
        assert_eq!((findings.list().len(), findings.surplus().next()), (20, Some(("A", 1_000_000))));
    }

    #[test]
    fn a_rule_knows_the_readers_words() {
        let rule = Rule::told_as("A", &["one", "two*"]);
        assert!(rule.is_about("one") && rule.is_about("two and more") && !rule.is_about("one and more"));
    }
}
