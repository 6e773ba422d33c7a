//! What a run notes beside its output before it gives a set of files their names: enough for the next run to undo it, or to finish it,
//! where this one is killed in between.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, percent_encode};

use super::sys;

/// The first line of a list: nothing that begins otherwise is taken for one.
const MAGIC: &str = "vdconv list 1";
/// The line behind all others of a journal; without it the journal was not written whole, and nothing was renamed yet.
const END: &str = "publish";

/// What a file is, whatever its name. Numbers of files are given again, and those of some file systems change with each mount: with
/// length and time a stranger's file does not pass for ours, and where ours does not pass it is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its number in the file system.
    pub number: u64,
    /// Its length in bytes.
    pub len: u64,
    /// When it was last written to, in nanoseconds since 1970.
    pub modified: u128,
}

impl Identity {
    /// Of what bears this name (a link itself, not what it leads to); `None` where nothing does, or nobody knows.
    pub fn at(path: &Path) -> Option<Identity> {
        let meta = fs::symlink_metadata(path).ok()?;
        let modified = meta.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Some(Identity { number: sys::file_number(path).ok()?, len: meta.len(), modified })
    }
}

/// A file that gets another name in the same folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Its name before.
    pub from: PathBuf,
    /// Its name behind.
    pub to: PathBuf,
    /// What it is.
    pub id: Identity,
}

impl Move {
    /// Does the file bear its new name?
    pub fn is_done(&self) -> bool {
        Identity::at(&self.to) == Some(self.id)
    }
}

/// The renames that publish an output, and what is removed after them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Journal {
    /// Old files, under their final names, and the temporary names that they are moved aside to; in the order of the moves.
    pub old: Vec<Move>,
    /// New files, under temporary names, and their final ones; the last names the others.
    pub new: Vec<Move>,
    /// Old files that the new output has no use for.
    pub surplus: Vec<(PathBuf, Identity)>,
}

impl Journal {
    /// As the text of a list, for the output of this name.
    pub fn text(&self, output: &Path) -> String {
        let mut text = opening(output);
        let id = |id: Identity| format!("{}:{}:{}", id.number, id.len, id.modified);
        for (word, moves) in [("old", &self.old), ("new", &self.new)] {
            for Move { from, to, id: of } in moves {
                let _ = writeln!(text, "{word} {} {} {}", name(from), name(to), id(*of));
            }
        }
        for (path, of) in &self.surplus {
            let _ = writeln!(text, "surplus {} {}", name(path), id(*of));
        }
        text + END + "\n"
    }

    /// Reads a list that lies in `folder`; `None` where it is none. A list that ends early is of a run that renamed nothing yet.
    pub fn read(text: &str, folder: &Path) -> Option<Journal> {
        let opening = format!("{MAGIC}\noutput ");
        let Some(rest) = text.strip_prefix(&opening) else {
            return opening.starts_with(text).then(Journal::default);
        };
        let Some(lines) = rest.strip_suffix(&format!("\n{END}\n")) else { return Some(Journal::default()) };
        let mut journal = Journal::default();
        // The first is the rest of the output's name.
        for line in lines.lines().skip(1) {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                [kind @ ("old" | "new"), from, to, id] => {
                    let moved = Move { from: path(folder, from)?, to: path(folder, to)?, id: identity(id)? };
                    if *kind == "old" { journal.old.push(moved) } else { journal.new.push(moved) }
                }
                ["surplus", name, id] => journal.surplus.push((path(folder, name)?, identity(id)?)),
                _ => return None,
            }
        }
        Some(journal)
    }
}

/// The first lines of a list: what it is, for people too.
pub fn opening(output: &Path) -> String {
    format!("{MAGIC}\noutput {}\n", name(output))
}

/// A file's name as one word.
fn name(path: &Path) -> String {
    percent_encode(path.file_name().unwrap_or_default().as_encoded_bytes(), NON_ALPHANUMERIC).to_string()
}

/// The file of a folder that a word names; never one anywhere else.
fn path(folder: &Path, word: &str) -> Option<PathBuf> {
    let name = PathBuf::from(sys::name_of_bytes(percent_decode_str(word).collect())?);
    let plain = name.file_name().is_some_and(|own| own == name.as_os_str());
    plain.then(|| folder.join(name))
}

fn identity(word: &str) -> Option<Identity> {
    let mut numbers = word.split(':');
    let id = Identity {
        number: numbers.next()?.parse().ok()?,
        len: numbers.next()?.parse().ok()?,
        modified: numbers.next()?.parse().ok()?,
    };
    numbers.next().is_none().then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> Journal {
        let path = |name: &str| Path::new("/f").join(name);
        let id = |number| Identity { number, len: 512, modified: 1_700_000_000_000_000_001 };
        Journal {
            old: vec![Move { from: path("o o.vmdk"), to: path(".vdconv-1-a"), id: id(6) }],
            new: vec![Move { from: path(".vdconv-1-b"), to: path("o\n%41\u{fc}.vmdk"), id: id(u64::MAX) }],
            surplus: vec![(path("o-s002.vmdk"), id(1))],
        }
    }

    #[test]
    fn a_journal_is_read_as_it_was_written_and_a_cut_one_is_of_a_run_that_renamed_nothing() {
        let text = journal().text(Path::new("/f/o o.vmdk"));
        assert_eq!(Journal::read(&text, Path::new("/f")), Some(journal()));
        for cut in 0..text.len() {
            let read = Journal::read(&text[..cut], Path::new("/f"));
            assert!(read.is_none_or(|journal| journal == Journal::default()), "{cut}");
        }
        assert_eq!(Journal::read(&opening(Path::new("o")), Path::new("/f")), Some(Journal::default()));
    }

    #[test]
    fn what_is_no_list_is_told_and_no_name_leads_out_of_the_folder() {
        for text in ["x", "vdconv list 2\noutput o\n", "KDMV\0\0", "vdconv list 1\nx"] {
            assert_eq!(Journal::read(text, Path::new("/f")), None, "{text:?}");
        }
        for name in ["..", "%2E%2E", "a%2Fb", "%2Fetc%2Fpasswd", "", "%2E", "a%00b"] {
            let text = format!("vdconv list 1\noutput o\nsurplus {name} 1:1:1\npublish\n");
            assert_eq!(Journal::read(&text, Path::new("/f")), None, "{name}");
        }
    }
}
