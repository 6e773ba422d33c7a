//! An image with one fault, and the line that must come of it.

use std::fs;

use super::common::{Ran, run, scratch};

/// An image with one fault.
pub struct Case {
    pub id: &'static str,
    pub severity: &'static str,
    /// Name and bytes; the first is checked.
    pub files: Vec<(String, Vec<u8>)>,
    /// In which file, where not the first, and at which byte.
    pub file: usize,
    pub byte: Option<u64>,
    pub args: Vec<&'static str>,
    /// What else is told: what no single fault can be without.
    pub also: Vec<&'static str>,
}

impl Case {
    pub fn error(id: &'static str, byte: impl TryInto<u64>, name: &str, bytes: Vec<u8>) -> Case {
        Case {
            id,
            severity: "error",
            files: vec![(name.into(), bytes)],
            file: 0,
            byte: byte.try_into().ok(),
            args: Vec::new(),
            also: Vec::new(),
        }
    }

    pub fn warning(id: &'static str, byte: impl TryInto<u64>, name: &str, bytes: Vec<u8>) -> Case {
        Case { severity: "warning", ..Case::error(id, byte, name, bytes) }
    }

    pub fn note(id: &'static str, byte: impl TryInto<u64>, name: &str, bytes: Vec<u8>) -> Case {
        Case { severity: "note", ..Case::error(id, byte, name, bytes) }
    }

    pub fn nowhere(self) -> Case {
        Case { byte: None, ..self }
    }

    pub fn at(self, byte: u64) -> Case {
        Case { byte: Some(byte), ..self }
    }

    pub fn with(mut self, name: &str, bytes: Vec<u8>) -> Case {
        self.files.push((name.into(), bytes));
        self
    }

    /// The fault is in another file than the one that is checked.
    pub fn in_file(self, file: usize) -> Case {
        Case { file, ..self }
    }

    pub fn args(self, args: &[&'static str]) -> Case {
        Case { args: args.to_vec(), ..self }
    }

    pub fn also(self, also: &[&'static str]) -> Case {
        Case { also: also.to_vec(), ..self }
    }

    fn check(&self) -> Ran {
        let folder = scratch();
        for (name, bytes) in &self.files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        run(folder.path(), ["check", &self.files[0].0].into_iter().chain(self.args.iter().copied()))
    }

    /// Exactly its line; and no other error.
    pub fn run(&self) -> Result<(), String> {
        let ran = self.check();
        let place = self.byte.map_or(String::new(), |byte| format!("at byte {byte}: "));
        let want = format!("{} {} {}: {place}", self.id, self.severity, self.files[self.file].0);
        let mut lines: Vec<_> = ran.out.lines().collect();
        let summary = lines.pop().unwrap_or_default();
        let others: Vec<_> = lines.iter().filter(|line| !line.starts_with(&want)).collect();
        let status = if self.severity == "error" { 1 } else { 0 };
        let expected = |line: &&&str| self.also.iter().any(|also| line.starts_with(also));
        let fits = lines.len() == others.len() + 1
            && others.iter().all(expected)
            && ran.status == Some(status)
            && ran.err.is_empty()
            && summary.contains(if status == 1 { "not sound" } else { ": sound" });
        match fits {
            true => Ok(()),
            false => Err(format!("{want}: exit {:?}\n{}{}", ran.status, ran.out, ran.err)),
        }
    }
}
