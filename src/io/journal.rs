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
/// How far a run got: the line behind all others of a journal. Without it the journal was not written whole, and nothing was renamed yet.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Files are being renamed; as long as the last new one has its temporary name the output is not there.
    #[default]
    Publishing,
    /// The output is there: old files are left to be removed.
    Published,
    /// It is not and will not be: old files are left to be put back.
    Undone,
}

const STATES: [(&str, State); 3] =
    [("publish", State::Publishing), ("published", State::Published), ("undone", State::Undone)];

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
    /// How far it got.
    pub state: State,
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
        let state = STATES.iter().find(|(_, state)| *state == self.state).map_or("", |(word, _)| word);
        text + state + "\n"
    }

    /// Reads a list that lies beside `output`; `None` where it is none. A list that ends early is of a run that renamed nothing yet.
    pub fn read(text: &str, output: &Path) -> Option<Journal> {
        let opening = format!("{MAGIC}\noutput ");
        let Some(rest) = text.strip_prefix(&opening) else {
            return opening.starts_with(text).then(Journal::default);
        };
        let ended = STATES.iter().find_map(|(word, state)| Some((rest.strip_suffix(&format!("\n{word}\n"))?, *state)));
        let Some((lines, state)) = ended else { return Some(Journal::default()) };
        let mut journal = Journal { state, ..Journal::default() };
        // The first is the rest of the output's name.
        for line in lines.lines().skip(1) {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                [kind @ ("old" | "new"), from, to, id] => {
                    let moved = Move { from: path(output, from)?, to: path(output, to)?, id: identity(id)? };
                    if *kind == "old" { journal.old.push(moved) } else { journal.new.push(moved) }
                }
                ["surplus", name, id] => journal.surplus.push((path(output, name)?, identity(id)?)),
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

/// The file beside `output` that a word names; never one anywhere else.
fn path(output: &Path, word: &str) -> Option<PathBuf> {
    let name = PathBuf::from(sys::name_of_bytes(percent_decode_str(word).collect())?);
    let plain = name.file_name().is_some_and(|own| own == name.as_os_str());
    plain.then(|| output.with_file_name(name))
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
            state: State::Undone,
            old: vec![Move { from: path("o o.vmdk"), to: path(".vdconv-1-a"), id: id(6) }],
            new: vec![Move { from: path(".vdconv-1-b"), to: path("o\n%41\u{fc}.vmdk"), id: id(u64::MAX) }],
            surplus: vec![(path("o-s002.vmdk"), id(1))],
        }
    }

    #[test]
    fn a_journal_is_read_as_it_was_written_and_a_cut_one_is_of_a_run_that_renamed_nothing() {
        let text = journal().text(Path::new("/f/o o.vmdk"));
        assert_eq!(Journal::read(&text, Path::new("/f/o")), Some(journal()));
        for (_, state) in STATES {
            let journal = Journal { state, ..journal() };
            assert_eq!(Journal::read(&journal.text(Path::new("/f/o")), Path::new("/f/o")), Some(journal));
        }
        for cut in 0..text.len() {
            let read = Journal::read(&text[..cut], Path::new("/f/o"));
            assert!(read.is_none_or(|journal| journal == Journal::default()), "{cut}");
        }
        assert_eq!(Journal::read(&opening(Path::new("o")), Path::new("/f/o")), Some(Journal::default()));
    }

    #[test]
    fn what_is_no_list_is_told_and_no_name_leads_out_of_the_folder() {
        for text in ["x", "vdconv list 2\noutput o\n", "KDMV\0\0", "vdconv list 1\nx"] {
            assert_eq!(Journal::read(text, Path::new("/f/o")), None, "{text:?}");
        }
        for name in ["..", "%2E%2E", "a%2Fb", "%2Fetc%2Fpasswd", "", "%2E", "a%00b"] {
            let text = format!("vdconv list 1\noutput o\nsurplus {name} 1:1:1\npublish\n");
            assert_eq!(Journal::read(&text, Path::new("/f/o")), None, "{name}");
        }
    }
}
