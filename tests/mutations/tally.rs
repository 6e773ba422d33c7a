//! What came of the cases, counted by subject and structure.

use std::collections::BTreeMap;
use std::fmt;

use super::mutate::Class;
use super::trial::Ending;

/// Cases by ending.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    refused: u64,
    right: u64,
    right_and_told: u64,
    other_and_told: u64,
    silent: u64,
}

impl Count {
    fn add(&mut self, ending: Ending) {
        *match ending {
            Ending::Refused => &mut self.refused,
            Ending::Right => &mut self.right,
            Ending::RightAndTold => &mut self.right_and_told,
            Ending::OtherAndTold => &mut self.other_and_told,
            Ending::Silent => &mut self.silent,
        } += 1;
    }

    fn cases(&self) -> u64 {
        self.refused + self.right + self.right_and_told + self.other_and_told + self.silent
    }
}

#[derive(Debug, Default)]
pub struct Tally {
    by_subject: BTreeMap<String, Count>,
    by_format: BTreeMap<&'static str, u64>,
    /// Format and structure, with what stands behind it.
    by_structure: BTreeMap<(&'static str, String), Count>,
    /// What breaks a rule.
    pub broken: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, format: &'static str, subject: &str, class: &Class, ending: Ending) {
        let structure = match class {
            Class::Guarded(name) => format!("{name} (guarded)"),
            Class::Open(name) => name.clone(),
            Class::Data { .. } => "data".into(),
        };
        *self.by_format.entry(format).or_default() += 1;
        self.by_subject.entry(subject.into()).or_default().add(ending);
        self.by_structure.entry((format, structure)).or_default().add(ending);
    }

    pub fn of_format(&self, format: &str) -> u64 {
        self.by_format.get(format).copied().unwrap_or_default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, n: &Count| {
            writeln!(
                f,
                "| {name} | {} | {} | {} | {} | {} | {} |",
                n.cases(),
                n.refused,
                n.right,
                n.right_and_told,
                n.other_and_told,
                n.silent
            )
        };
        let head = |f: &mut fmt::Formatter<'_>, what: &str| {
            writeln!(f, "| {what} | cases | refused | right | right, told | other, told | other, silent |")?;
            writeln!(f, "|---|---:|---:|---:|---:|---:|---:|")
        };
        head(f, "subject")?;
        for (name, count) in &self.by_subject {
            row(f, name, count)?;
        }
        writeln!(f)?;
        head(f, "structure")?;
        for ((format, structure), count) in &self.by_structure {
            row(f, &format!("{format}: {structure}"), count)?;
        }
        Ok(())
    }
}
