//! Gives an output's files their names: all or none of them, also where the run is killed in between.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempPath;

use super::journal::{Identity, Journal, Move, State};
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

/// Where a journal is kept: `None` says that nothing is to be told any more.
pub type Note<'a> = &'a mut dyn FnMut(Option<&Journal>) -> Result<(), Fault>;

/// What [`settle`] did.
#[derive(Debug, Default)]
pub struct Settled {
    /// Old files that have their names again.
    pub back: Vec<PathBuf>,
    /// What is not as it was.
    pub warnings: Vec<Fault>,
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

    /// Is there more than one file to speak of?
    fn is_worth_a_note(&self) -> bool {
        self.new.len() > 1 || !self.old.is_empty() || !self.surplus.is_empty()
    }
}

/// Is the last rename of a journal that says `publish` known to have been done, or known not to have been? Files are edited once they
/// are there, and temporary files may be removed by hand: where neither is known, nobody may remove anything.
pub fn is_there(journal: &Journal) -> Option<bool> {
    match journal.new.last() {
        None => Some(false),
        Some(last) if last.is_done() => Some(true),
        // Where a rename is a link and a removal, a kill in between leaves both names.
        Some(last)
            if sys::file_number(&last.to).is_ok_and(|number| sys::file_number(&last.from).ok() == Some(number)) =>
        {
            Some(true)
        }
        Some(last) => fs::symlink_metadata(&last.from).is_ok().then_some(false),
    }
}

/// Publishes. The warnings are about what could not be cleaned away, or brought to stable storage, after the output was there.
pub fn publish(
    mut journal: Journal,
    folder: &Path,
    force: bool,
    sync: bool,
    note: Note<'_>,
) -> Result<Vec<Fault>, Fault> {
    let noted = journal.is_worth_a_note();
    if noted {
        note(Some(&journal))?;
    }
    let mut warnings = Vec::new();
    for step in journal.steps(force) {
        let Err(fault) = carry_out(&step, folder, sync) else { continue };
        if journal.new.last().is_some_and(Move::is_done) {
            warnings.push(fault);
            continue;
        }
        remove_new(&journal, &mut warnings);
        let words: Vec<_> =
            warnings.iter().map(ToString::to_string).chain(put_back(&mut journal, note).words).collect();
        return Err(match words.is_empty() {
            true => fault,
            false => fault.advice(words.join("; ")),
        });
    }
    if noted {
        journal.state = State::Published;
        warnings.extend(note(Some(&journal)).err());
    }
    warnings.extend(clean(&journal));
    if noted {
        warnings.extend(note(None).err());
    }
    Ok(warnings)
}

/// Makes whole what a killed run left: where its output was there already, the cleaning is finished; else everything is as it was before
/// that run. An error where an old file cannot be put back, or nobody can tell what became of the output: then nothing is removed.
pub fn settle(mut journal: Journal, note: Note<'_>) -> Result<Settled, Fault> {
    let mut settled = Settled::default();
    let state = match (journal.state, is_there(&journal)) {
        (State::Publishing, Some(true)) => State::Published,
        (State::Publishing, Some(false)) => {
            remove_new(&journal, &mut settled.warnings);
            State::Undone
        }
        (State::Publishing, None) => return Err(undecided(&journal)),
        (state, _) => state,
    };
    if state == State::Published {
        settled.warnings.extend(clean(&journal));
        return note(None).map(|()| settled);
    }
    let name = journal.new.last().or(journal.old.first()).map(|moved| moved.to.clone()).unwrap_or_default();
    let Back { back, words, left } = put_back(&mut journal, note);
    settled.back = back;
    if !words.is_empty() {
        let what = "the old output of a run that was killed could not be put back whole";
        settled.warnings.push(Fault::new(Kind::Io, name, what).advice(words.join("; ")));
    }
    match if left { settled.warnings.pop() } else { None } {
        Some(fault) => Err(fault),
        None => Ok(settled),
    }
}

/// What a run that was killed in the middle of publishing left, and somebody changed since.
fn undecided(journal: &Journal) -> Fault {
    let file = journal.new.last().map(|last| last.to.clone()).unwrap_or_default();
    let old: Vec<_> =
        journal.old.iter().map(|old| format!("{} was {}", old.to.display(), old.from.display())).collect();
    let fault = Fault::new(
        Kind::Io,
        file,
        "a run was killed while it gave this output its name, and its files were changed since",
    );
    fault.advice(match old.is_empty() {
        true => "remove the .vdconv- files when the output is as you want it".to_string(),
        false => format!("of the output before it: {}; rename or remove them, then the .vdconv- list", old.join(", ")),
    })
}

fn carry_out(step: &Step<'_>, folder: &Path, sync: bool) -> Result<(), Fault> {
    match step {
        Step::Aside(old) => match fs::rename(&old.from, &old.to) {
            Err(error) => Err(Fault::io(&old.from, "cannot move the old output aside", error)),
            // What was moved may be what another run has just made.
            Ok(()) if !old.is_done() => Err(changed(&old.from)),
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

/// The refusal to replace what this run did not find there when it began.
pub fn changed(path: &Path) -> Fault {
    Fault::new(Kind::Changed, path, "the output was made by somebody else while this run was writing it")
}

/// The refusal of an output that is there.
pub fn exists(path: &Path) -> Fault {
    Fault::new(Kind::Exists, path, "the output exists").advice("--force replaces it, once the new one is complete")
}

/// Gives a file another name in its folder, which must be free.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    let refused = match TempPath::try_from_path(from)?.persist_noclobber(to) {
        Ok(()) => return Ok(()),
        Err(refused) => refused,
    };
    // It stays where it is; only an owner of temporary files would remove it now.
    let _ = refused.path.keep();
    // Some file systems have neither renames that refuse to replace nor links. The list keeps other runs out meanwhile.
    let unknown = matches!(
        refused.error.kind(),
        io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
    );
    match fs::symlink_metadata(to) {
        Err(error) if unknown && error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
        _ => Err(refused.error),
    }
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

/// Takes the new files away that have their names already.
fn remove_new(journal: &Journal, warnings: &mut Vec<Fault>) {
    for Move { to, .. } in journal.new.iter().filter(|moved| moved.is_done()) {
        if let Err(error) = fs::remove_file(to) {
            warnings.push(Fault::io(to, "cannot be removed again", error));
        }
    }
}

/// What became of the old files.
struct Back {
    /// Those that have their names again.
    back: Vec<PathBuf>,
    /// What is not as it was, in words.
    words: Vec<String>,
    /// Some have temporary names still, and the journal tells of them.
    left: bool,
}

/// Puts the old files back, the one that names the others last, and alone if all others are back. One whose name is taken meanwhile is
/// kept under another: better a stray name than a lost disk.
fn put_back(journal: &mut Journal, note: Note<'_>) -> Back {
    let (mut back, mut words, mut left) = (Vec::new(), Vec::new(), Vec::new());
    let several = journal.old.len() > 1;
    for (place, old) in journal.old.iter().enumerate().rev() {
        let Ok(meta) = fs::symlink_metadata(&old.to) else { continue };
        // The place that was held for it is empty.
        if meta.len() == 0 && !old.is_done() {
            let _ = fs::remove_file(&old.to);
            continue;
        }
        let names_others_that_are_not_back = several && place == 0 && !words.is_empty();
        let refused = match names_others_that_are_not_back {
            true => "its files are not back".to_string(),
            false => match rename_to_free(&old.to, &old.from) {
                Ok(()) => {
                    back.push(old.from.clone());
                    continue;
                }
                Err(error) => error.to_string(),
            },
        };
        let kept = keep(&old.to, &old.from);
        let name = kept.as_ref().unwrap_or(&old.to);
        words.push(format!("{} of the old output is kept as {} ({refused})", old.from.display(), name.display()));
        if kept.is_none() {
            left.push(old.clone());
        }
    }
    left.reverse();
    let told = match left.is_empty() {
        true => note(None),
        false => {
            (journal.state, journal.old) = (State::Undone, left.clone());
            note(Some(journal))
        }
    };
    words.extend(told.err().map(|fault| fault.to_string()));
    Back { back, words, left: !left.is_empty() }
}

/// Keeps a file that cannot get its name back: beside it, with `.old` and a number, or under a shorter name.
fn keep(file: &Path, name: &Path) -> Option<PathBuf> {
    let beside = (0..MOST_KEPT).map(|number| {
        let mut kept = name.file_name().unwrap_or_default().to_os_string();
        kept.push(format!(".old{number}"));
        name.with_file_name(kept)
    });
    let short = (0..MOST_KEPT).map(|number| name.with_file_name(format!("vdconv-old{number}")));
    beside.chain(short).find(|place| rename_to_free(file, place).is_ok())
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
                let read = Journal::read(&text, &folder.path().join("o")).unwrap();
                let new = is_there(&read).unwrap();
                // Twice, as after a kill while it was done.
                for _ in 0..2 {
                    assert!(settle(read.clone(), &mut |_| Ok(())).unwrap().warnings.is_empty());
                    assert_eq!(content(folder.path()), whole(old, new), "killed after {cut} steps");
                }
                ends.push(new);
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
        let mut told = Vec::new();
        let mut note = |journal: Option<&Journal>| {
            told.push(journal.map(|journal| journal.state));
            Ok(())
        };
        let fault = publish(journal, folder.path(), true, true, &mut note).unwrap_err();
        assert_eq!(told, [Some(State::Publishing), None]);
        assert_eq!(fault.kind(), Kind::NotFound, "{fault}");
        assert_eq!(content(folder.path()), whole(true, false));
    }

    #[test]
    fn what_cannot_get_its_name_back_is_kept_and_told_and_no_descriptor_stands_beside_files_that_are_not_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = set(folder.path(), true);
        for step in journal.steps(true).iter().take(3) {
            carry_out(step, folder.path(), true).unwrap();
        }
        fs::write(folder.path().join("o-1"), "somebody else's").unwrap();
        let Back { words, left, .. } = put_back(&mut journal, &mut |_| Ok(()));
        assert!(words.len() == 2 && words[0].contains("o-1.old0") && words[1].contains("o.old0") && !left, "{words:?}");
        let want = [("o-1", "somebody else's"), ("o-1.old0", "old o-1"), ("o-2", "old o-2"), ("o.old0", "old o")];
        assert_eq!(content(folder.path()), files(&want));
    }

    #[test]
    fn what_can_have_no_name_at_all_stays_where_it_is_and_the_list_tells_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = set(folder.path(), true);
        for step in journal.steps(true).iter().take(3) {
            carry_out(step, folder.path(), true).unwrap();
        }
        for n in 0..MOST_KEPT {
            for name in [format!("o-1.old{n}"), format!("vdconv-old{n}")] {
                fs::write(folder.path().join(name), "taken").unwrap();
            }
        }
        fs::write(folder.path().join("o-1"), "taken").unwrap();
        let mut told = None;
        let fault = settle(journal.clone(), &mut |journal| {
            told = journal.cloned();
            Ok(())
        });
        assert!(fault.unwrap_err().hint().contains("aside o-1"));
        let told = told.unwrap();
        assert_eq!((told.state, &told.old[..]), (State::Undone, &journal.old[1..]));
        // When there is room for it, it goes there.
        fs::remove_file(folder.path().join("o-1")).unwrap();
        let settled = settle(told, &mut |_| Ok(())).unwrap();
        assert_eq!(settled.back, [folder.path().join("o-1")]);
        journal.old.clear();
    }

    #[test]
    fn a_kill_between_a_link_and_the_removal_of_the_old_name_leaves_a_published_output_that_may_be_edited() {
        let folder = tempfile::tempdir().unwrap();
        let journal = set(folder.path(), false);
        let last = &journal.new[1];
        fs::hard_link(&last.from, &last.to).unwrap();
        assert_eq!(is_there(&journal), Some(true));
        fs::write(&last.to, "edited in place").unwrap();
        assert_eq!(is_there(&journal), Some(true));
    }

    #[test]
    fn a_strangers_file_under_a_name_of_the_journal_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = set(folder.path(), true);
        publish(journal.clone(), folder.path(), true, false, &mut |_| Ok(())).unwrap();
        fs::write(folder.path().join("o-2"), "made since").unwrap();
        fs::write(folder.path().join("o-1"), "made since").unwrap();
        assert!(settle(journal.clone(), &mut |_| Ok(())).unwrap().warnings.is_empty());
        assert_eq!(fs::read(folder.path().join("o-2")).unwrap(), b"made since");
        // The output was edited since it was there: nobody can tell from its looks whether it ever was, unless that was noted.
        fs::write(folder.path().join("o"), "made since").unwrap();
        let fault = settle(journal.clone(), &mut |_| panic!("nothing is forgotten")).unwrap_err();
        assert!(fault.message().contains("changed since"), "{fault}");
        journal.state = State::Published;
        assert!(settle(journal, &mut |_| Ok(())).unwrap().warnings.is_empty());
        assert_eq!(content(folder.path()).iter().filter(|(_, text)| text == "made since").count(), 3);
    }
}
