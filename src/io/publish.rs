//! Gives an output's files their names: all or none of them, also where the run is killed in between.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::journal::{Identity, Journal, Move};
use super::sys;
use crate::fault::{Fault, Kind};

/// Names that an old file is kept under where it cannot get its own back.
const MOST_KEPT: usize = 100;

/// One step of publishing. A kill between any two leaves what [`settle`] makes whole again.
#[derive(Debug, Clone)]
enum Step<'a> {
    /// An old file goes to a temporary name.
    Aside(&'a Move),
    /// A new file gets its name, which must be free.
    Place(&'a Move),
    /// The only new file gets its name, whatever bears it: at every moment the old or the new one is there, whole.
    Replace(&'a Move),
    /// The renames so far are on stable storage.
    Sync,
}

impl Journal {
    /// The steps up to the one that makes the output be there. Old files go in the order of the journal: the one that names the
    /// others first, so that at no moment it stands beside new ones; the new one that names the others comes last.
    fn steps(&self, force: bool) -> Vec<Step<'_>> {
        // What is about to be renamed stands in the list, and the list in the folder.
        let mut steps: Vec<Step<'_>> = self.old.first().map(|_| Step::Sync).into_iter().collect();
        steps.extend(self.old.iter().map(Step::Aside));
        match self.new.as_slice() {
            [single] if force => steps.push(Step::Replace(single)),
            [others @ .., last] => {
                steps.extend(others.iter().map(Step::Place));
                if !others.is_empty() {
                    steps.push(Step::Sync);
                }
                steps.push(Step::Place(last));
            }
            [] => {}
        }
        steps.push(Step::Sync);
        steps
    }

    /// Is the output there?
    fn is_published(&self) -> bool {
        self.new.last().is_some_and(Move::is_done)
    }
}

/// Publishes. The warnings are about what could not be cleaned away, or brought to stable storage, after the output was there.
pub fn publish(journal: &Journal, folder: &Path, force: bool, sync: bool) -> Result<Vec<Fault>, Fault> {
    let mut warnings = Vec::new();
    for step in journal.steps(force) {
        let Err(fault) = carry_out(&step, folder, sync) else { continue };
        if journal.is_published() {
            warnings.push(fault);
            continue;
        }
        let kept = undo(journal);
        return Err(match kept.is_empty() {
            true => fault,
            false => fault.advice(kept.join("; ")),
        });
    }
    warnings.extend(clean(journal));
    Ok(warnings)
}

/// Makes whole what a killed run left: where its output was there already, the cleaning is finished; else everything is as it was before
/// that run. What could not be put back, in words.
pub fn settle(journal: &Journal) -> Result<Vec<Fault>, Fault> {
    if journal.is_published() {
        return Ok(clean(journal));
    }
    let kept = undo(journal);
    match journal.new.last() {
        Some(Move { to, .. }) if !kept.is_empty() => Ok(vec![
            Fault::new(Kind::Io, to, "a run that was killed left an output that could not be put back whole")
                .advice(kept.join("; ")),
        ]),
        _ => Ok(Vec::new()),
    }
}

fn carry_out(step: &Step<'_>, folder: &Path, sync: bool) -> Result<(), Fault> {
    match step {
        Step::Aside(Move { from, to, .. }) => match fs::rename(from, to) {
            Err(error) => Err(Fault::io(from, "cannot move the old output aside", error)),
            Ok(()) => Ok(()),
        },
        Step::Place(Move { from, to, .. }) => rename_to_free(from, to).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(to),
            _ => Fault::io(to, "cannot give the output its name", error),
        }),
        Step::Replace(Move { from, to, .. }) => {
            fs::rename(from, to).map_err(|error| Fault::io(to, "cannot give the output its name", error))
        }
        Step::Sync if sync => {
            sys::sync_folder(folder).map_err(|e| Fault::io(folder, "cannot bring the folder to stable storage", e))
        }
        Step::Sync => Ok(()),
    }
}

/// The refusal of an output that is there.
pub fn exists(path: &Path) -> Fault {
    Fault::new(Kind::Exists, path, "the output exists").advice("--force replaces it, once the new one is complete")
}

/// Gives a file another name in its folder, which must be free.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    TempPath::try_from_path(from)?.persist_noclobber(to).map_err(|refused| {
        // It stays where it is; only an owner of temporary files would remove it now.
        let _ = refused.path.keep();
        refused.error
    })
}

/// What is to be removed once the output is there: the old files.
fn clean(journal: &Journal) -> Vec<Fault> {
    // A temporary name was given by us to a file of the old output; a surplus file has a name of its own, and must be what it was.
    let aside = journal.old.iter().map(|moved| &moved.to);
    let surplus = journal.surplus.iter().filter(|(path, id)| Identity::at(path) == Some(*id));
    aside
        .chain(surplus.map(|(path, _)| path))
        .filter_map(|path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Some(Fault::io(path, "cannot remove a file of the output that was replaced", error))
            }
            _ => None,
        })
        .collect()
}

/// Takes the new files away and puts the old ones back, the one that names the others last. One whose name is taken meanwhile is kept
/// under another: better a stray name than a lost disk. What is not as it was, in words.
fn undo(journal: &Journal) -> Vec<String> {
    let mut words = Vec::new();
    for Move { to, .. } in journal.new.iter().filter(|moved| moved.is_done()) {
        if let Err(error) = fs::remove_file(to) {
            words.push(format!("{} could not be removed again: {error}", to.display()));
        }
    }
    for old in journal.old.iter().rev() {
        let Ok(meta) = fs::symlink_metadata(&old.to) else { continue };
        // The place that was held for it is empty.
        if meta.len() == 0 && !old.is_done() {
            let _ = fs::remove_file(&old.to);
        } else if let Err(error) = rename_to_free(&old.to, &old.from) {
            let place = keep(&old.to, &old.from);
            words.push(format!("{} of the old output is kept as {} ({error})", old.from.display(), place.display()));
        }
    }
    words
}

/// Keeps a file that cannot get its name back: beside it, with `.old` and a number, or where it is.
fn keep(file: &Path, name: &Path) -> PathBuf {
    let beside = (0..MOST_KEPT).map(|number| {
        let mut kept = name.file_name().unwrap_or_default().to_os_string();
        kept.push(format!(".old{number}"));
        name.with_file_name(kept)
    });
    let mut places = beside.filter(|place| rename_to_free(file, place).is_ok());
    places.next().unwrap_or_else(|| file.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with an old set `o`, `o-1`, `o-2` (where `old`) and new files for `o-1` and `o`; the journal that exchanges them.
    fn set(folder: &Path, old: bool) -> Journal {
        let path = |name: &str| folder.join(name);
        let write = |name: &str, text: &str| {
            fs::write(path(name), text).unwrap();
            Identity::at(&path(name)).unwrap()
        };
        let mut journal = Journal::default();
        for name in ["o-1", "o"] {
            let id = write(&format!("new {name}"), &format!("the new {name}"));
            let moved = Move { from: path(&format!("new {name}")), to: path(name), id };
            journal.new.push(moved);
        }
        if old {
            for name in ["o", "o-1"] {
                let id = write(name, &format!("old {name}"));
                write(&format!("aside {name}"), "");
                let to = path(&format!("aside {name}"));
                journal.old.push(Move { from: path(name), to, id });
            }
            journal.surplus.push((path("o-2"), write("o-2", "old o-2")));
        }
        journal
    }

    fn content(folder: &Path) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|e| (e.file_name().into_string().unwrap(), fs::read_to_string(e.path()).unwrap()))
            .filter(|(name, _)| !name.starts_with("new ")) // temporary files, which are swept away
            .collect();
        files.sort();
        files
    }

    fn files(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect()
    }

    fn whole(old: bool, new: bool) -> Vec<(String, String)> {
        match (old, new) {
            (_, true) => files(&[("o", "the new o"), ("o-1", "the new o-1")]),
            (true, false) => files(&[("o", "old o"), ("o-1", "old o-1"), ("o-2", "old o-2")]),
            (false, false) => Vec::new(),
        }
    }

    #[test]
    fn r15_r17_a_kill_between_any_two_steps_leaves_what_becomes_the_old_output_or_the_new_one_whole() {
        for old in [false, true] {
            let mut ends = Vec::new();
            for cut in 0.. {
                let folder = tempfile::tempdir().unwrap();
                let journal = set(folder.path(), old);
                let steps = journal.steps(old);
                for step in steps.iter().take(cut) {
                    carry_out(step, folder.path(), true).unwrap();
                }
                // What names the others stands beside its own files alone.
                match fs::read_to_string(folder.path().join("o")).as_deref() {
                    Ok("the new o") => {
                        assert_eq!(fs::read_to_string(folder.path().join("o-1")).unwrap(), "the new o-1")
                    }
                    Ok(_) => assert_eq!(fs::read_to_string(folder.path().join("o-1")).unwrap(), "old o-1"),
                    Err(_) => {}
                }
                let text = journal.text(&folder.path().join("o"));
                let read = Journal::read(&text, folder.path()).unwrap();
                assert!(settle(&read).unwrap().is_empty());
                let new = read.is_published();
                assert_eq!(content(folder.path()), whole(old, new), "killed after {cut} steps");
                ends.push(new);
                // Once more, as after a kill while that was done.
                assert!(settle(&read).unwrap().is_empty());
                assert_eq!(content(folder.path()), whole(old, new));
                if cut == steps.len() {
                    break;
                }
            }
            assert!(!ends[0] && *ends.last().unwrap() && ends.is_sorted());
        }
    }

    #[test]
    fn r15_a_set_that_cannot_be_replaced_is_given_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = set(folder.path(), true);
        // The descriptor of the new set is gone: the last step fails.
        journal.new[1].from = folder.path().join("nothing");
        let fault = publish(&journal, folder.path(), true, true).unwrap_err();
        assert_eq!(fault.kind(), Kind::NotFound, "{fault}");
        assert_eq!(content(folder.path()), whole(true, false));
    }

    #[test]
    fn what_cannot_get_its_name_back_is_kept_and_told_and_does_not_stop_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = set(folder.path(), true);
        for step in journal.steps(true).iter().take(3) {
            carry_out(step, folder.path(), true).unwrap();
        }
        journal.old.truncate(2);
        fs::write(folder.path().join("o-1"), "somebody else's").unwrap();
        let words = undo(&journal);
        assert!(words.len() == 1 && words[0].contains("o-1.old0"), "{words:?}");
        let want = [("o", "old o"), ("o-1", "somebody else's"), ("o-1.old0", "old o-1"), ("o-2", "old o-2")];
        assert_eq!(content(folder.path()), files(&want));
    }

    #[test]
    fn a_strangers_file_under_a_name_of_the_journal_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let journal = set(folder.path(), true);
        publish(&journal, folder.path(), true, false).unwrap();
        fs::write(folder.path().join("o-2"), "made since").unwrap();
        fs::write(folder.path().join("o-1"), "made since").unwrap();
        assert!(settle(&journal).unwrap().is_empty());
        assert_eq!(fs::read(folder.path().join("o-2")).unwrap(), b"made since");
        fs::write(folder.path().join("o"), "made since").unwrap();
        assert!(settle(&journal).unwrap().is_empty());
        assert_eq!(content(folder.path()).iter().filter(|(_, text)| text == "made since").count(), 3);
    }
}
