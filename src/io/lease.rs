//! The right to write one output: a list beside it, locked as long as its owner lives. Where the owner was killed the next run to the
//! same output finds the list unlocked, and makes whole what was left.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::input::InputFile;
use super::journal::{Journal, State, opening};
use super::publish::{is_there, settle};
use super::sys::{self, FileKind};
use super::target::Target;
use crate::fault::{Fault, Kind};

/// In front of every temporary name, so that what a killed run leaves can be told from data.
const PREFIX: &str = ".vdconv-";
/// In front of the temporary names of old files that are moved aside: nobody removes these but by a list that tells of them.
const OLD_PREFIX: &str = ".vdconv-old-";
/// The longest list that is read, in bytes: thirty thousand pieces take 6 MiB.
const MOST: u64 = 8 << 20;
/// A list is taken away by its owner while another run waits for it: so often that other one looks again.
const TRIES: usize = 100;

/// The right to write one output.
pub struct Lease {
    folder: PathBuf,
    output: PathBuf,
    file: File,
    path: PathBuf,
    /// The list holds a journal: whoever comes next has to make whole what it tells of.
    unsettled: bool,
}

/// What became of an earlier run that was killed.
#[derive(Debug, Default)]
pub struct Found {
    /// What was taken away.
    pub removed: Vec<PathBuf>,
    /// Old files that have their names again.
    pub back: Vec<PathBuf>,
    /// What could not be made whole.
    pub warnings: Vec<Fault>,
}

/// What the next run would find, which is not there now or would not be there then.
#[derive(Debug, Default)]
pub struct Pending {
    /// Old files that would have their names again.
    pub back: Vec<PathBuf>,
    /// New files that would be taken away.
    pub gone: Vec<PathBuf>,
}

impl Lease {
    /// Takes the right to write `target`; an error where another run has it (R18). What a killed run left is made whole, or taken away
    /// (R17), unless it is one of `inputs`.
    pub fn take(target: &Target, inputs: &[Arc<InputFile>]) -> Result<(Lease, Found), Fault> {
        let (folder, output) = (target.folder().to_path_buf(), target.file(None));
        let path = list_of(&output);
        let cannot = |error| Fault::io(&output, "cannot make a file in the output's folder", error);
        for _ in 0..TRIES {
            let (mut file, made) = match sys::make_list(&path) {
                Ok(file) => (file, true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match sys::open_list(&path) {
                    Ok(file) => (file, false),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => {
                        return Err(Fault::io(path, "cannot open the list of another run to this output", error));
                    }
                },
                Err(error) => return Err(cannot(error)),
            };
            lock(&file, made, &path, &output)?;
            // Its owner may have taken it away between our opening and our locking: then it is nobody's.
            match sys::is_same(&file, &path) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => return Err(cannot(error)),
            }
            let journal = if made { None } else { Some(read(&mut file, &path, &output)?) };
            let mut lease = Lease { folder, output, file, path, unsettled: journal.is_some() };
            let found = match journal {
                Some(journal) => lease.make_whole(journal, inputs)?,
                None => Found::default(),
            };
            lease.note(None, false)?;
            return Ok((lease, found));
        }
        Err(busy(&output))
    }

    /// What [`Lease::take`] would say, and what it would find; nothing is changed.
    pub fn look(target: &Target, inputs: &[Arc<InputFile>]) -> Result<Pending, Fault> {
        let output = target.file(None);
        let path = list_of(&output);
        let mut file = match sys::open_list(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Pending::default()),
            Err(error) => return Err(Fault::io(path, "cannot open the list of another run to this output", error)),
        };
        lock(&file, false, &path, &output)?;
        let journal = read(&mut file, &path, &output)?;
        refuse_inputs(&journal, &temporaries(target.folder(), &output).unwrap_or_default(), inputs)?;
        let mut pending = Pending::default();
        if journal.state != State::Published && is_there(&journal) != Some(true) {
            let aside = journal.old.iter().filter(|old| fs::symlink_metadata(&old.to).is_ok_and(|meta| meta.len() > 0));
            pending.back.extend(aside.map(|old| old.from.clone()));
            pending.gone.extend(journal.new.iter().filter(|new| new.is_done()).map(|new| new.to.clone()));
        }
        Ok(pending)
    }

    /// A new file under a temporary name that belongs to this output.
    pub(super) fn temporary(&self) -> Result<NamedTempFile, Fault> {
        self.file_called(&format!("{PREFIX}{}-", hash(&self.output)))
    }

    /// A place for an old file of this output.
    pub(super) fn place_for_old(&self) -> Result<NamedTempFile, Fault> {
        self.file_called(&format!("{OLD_PREFIX}{}-", hash(&self.output)))
    }

    fn file_called(&self, prefix: &str) -> Result<NamedTempFile, Fault> {
        sys::temporary(&self.folder, prefix)
            .map_err(|error| Fault::io(&self.output, "cannot make a file in the output's folder", error))
    }

    /// The folder of the output.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes whole what the run left whose list this is.
    fn make_whole(&mut self, journal: Journal, inputs: &[Arc<InputFile>]) -> Result<Found, Fault> {
        // A folder may be one that its users write to and cannot list.
        let (mut dead, unseen) = match temporaries(&self.folder, &self.output) {
            Ok(dead) => (dead, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        refuse_inputs(&journal, &dead, inputs)?;
        let settled = settle(journal, &mut |journal| self.note(journal, true))?;
        let mut warnings = settled.warnings;
        warnings.extend(unseen.map(|error| {
            Fault::io(&self.folder, "cannot look for what a run left when it was killed", error).advice(format!(
                "its files begin with {PREFIX}{}-, and can be removed while no run writes this output",
                hash(&self.output)
            ))
        }));
        dead.retain(|path| match fs::remove_file(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                warnings.push(Fault::io(path, "cannot remove what a run left when it was killed", error));
                false
            }
        });
        Ok(Found { removed: dead, back: settled.back, warnings })
    }

    /// Notes what is about to be renamed, so that a kill in between can be undone; `None`: nothing is. Where old files are concerned the
    /// list is on stable storage before this returns, whatever the user said of the output: it tells where the only copy is.
    pub(super) fn note(&mut self, journal: Option<&Journal>, sync: bool) -> Result<(), Fault> {
        let text = journal.map_or_else(|| opening(&self.output), |journal| journal.text(&self.output));
        let sync = journal.is_some_and(|journal| sync || !journal.old.is_empty());
        // A list that was not written whole tells of a run that renamed nothing yet: true of the first note of a run.
        let first = !self.unsettled;
        let mut write = || {
            self.file.rewind()?;
            self.file.write_all(text.as_bytes())?;
            self.file.set_len(text.len() as u64)?;
            if sync { self.file.sync_all() } else { Ok(()) }
        };
        match write() {
            Ok(()) => {
                self.unsettled = journal.is_some();
                Ok(())
            }
            Err(error) => {
                self.unsettled = !first;
                Err(Fault::io(&self.path, "cannot write the list of temporary files", error))
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.unsettled {
            // Removed while it is locked: who opened it meanwhile sees that it is nobody's.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The list of an output. A hash stands for the output's name, which may be as long as a name can be.
fn list_of(output: &Path) -> PathBuf {
    output.with_file_name(format!("{PREFIX}{}.list", hash(output)))
}

fn hash(output: &Path) -> String {
    let digest = Sha256::digest(output.file_name().unwrap_or_default().as_encoded_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The new files of runs to this output, and the empty places for old ones: those in the folder whose names begin so. An error where the
/// folder cannot be listed whole.
fn temporaries(folder: &Path, output: &Path) -> io::Result<Vec<PathBuf>> {
    let hash = hash(output);
    let [new, old] = [PREFIX, OLD_PREFIX].map(|prefix| format!("{prefix}{hash}-"));
    let begins = |name: &OsStr, front: &str| name.as_encoded_bytes().starts_with(front.as_bytes());
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    let ours = names.into_iter().filter(|name| begins(name, &new) || begins(name, &old));
    let paths = ours.map(|name| output.with_file_name(name));
    let is_empty = |path: &Path| fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == 0);
    Ok(paths.filter(|path| path.file_name().is_some_and(|name| begins(name, &new)) || is_empty(path)).collect())
}

/// Locks a list; an error where its owner lives. Where the file system has no locks one that this run has just made is its own, and of
/// one that was there nobody knows.
fn lock(file: &File, made: bool, path: &Path, output: &Path) -> Result<(), Fault> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(busy(output)),
        Err(TryLockError::Error(_)) if made => Ok(()),
        Err(TryLockError::Error(error)) => {
            Err(Fault::io(path, "cannot tell whether another run to this output lives", error)
                .advice("if it does not, put its .vdconv-old- files back, and remove its .vdconv- files and this list"))
        }
    }
}

/// Refuses an input that would be taken away, or given another name.
fn refuse_inputs(journal: &Journal, dead: &[PathBuf], inputs: &[Arc<InputFile>]) -> Result<(), Fault> {
    let moves = journal.old.iter().chain(&journal.new).flat_map(|moved| [&moved.from, &moved.to]);
    for path in moves.chain(journal.surplus.iter().map(|(path, _)| path)).chain(dead) {
        for input in inputs {
            if input.is_at(path)? {
                let what = "the input is what a run to this output left when it was killed";
                return Err(Fault::new(Kind::Usage, path, what)
                    .found(input.name().display())
                    .advice("give it another name, or name another output"));
            }
        }
    }
    Ok(())
}

/// The journal of a list.
fn read(file: &mut File, path: &Path, output: &Path) -> Result<Journal, Fault> {
    let strange = |what: &'static str| {
        Fault::new(Kind::Io, path, "the list of a run that was killed cannot be trusted").found(what).advice(
            "look at it: a .vdconv-old- file beside it is an old output, and is given its name again; the others can be removed",
        )
    };
    let cannot = |error| Fault::io(path, "cannot read the list of a run that was killed", error);
    let meta = file.metadata().map_err(cannot)?;
    if sys::kind(&meta) != FileKind::Regular || meta.len() > MOST || !sys::has_one_name(&meta) {
        return Err(strange("no list of vdconv"));
    }
    // Names that somebody else wrote are not removed on his behalf.
    if !sys::is_ours(&meta) {
        return Err(strange("a file of another user"));
    }
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) => Journal::read(&text, output).ok_or_else(|| strange("no list of vdconv")),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(strange("no text")),
        Err(error) => Err(cannot(error)),
    }
}

fn busy(output: &Path) -> Fault {
    Fault::new(Kind::Locked, output, "another run of vdconv is writing this output")
}
