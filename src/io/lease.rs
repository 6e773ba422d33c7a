//! The right to write one output: a list beside it, locked as long as its owner lives. Where the owner was killed the next run to the
//! same output finds the list unlocked, and makes whole what was left.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::input::InputFile;
use super::journal::{Journal, opening};
use super::publish::settle;
use super::sys::{self, FileKind};
use super::target::Target;
use crate::fault::{Fault, Kind};

/// In front of every temporary name, so that what a killed run leaves can be told from data.
const PREFIX: &str = ".vdconv-";
/// The ending of a list.
const LIST: &str = ".list";
/// The longest list that is read, in bytes: a thousand pieces take 200 KiB.
const MOST: u64 = 64 << 20;
/// A list is taken away by its owner while another run waits for it: so often that other one looks again.
const TRIES: usize = 100;

/// The right to write one output.
pub struct Lease {
    folder: PathBuf,
    output: PathBuf,
    /// The list; none where the file system has no locks. Then nobody is kept out, and nobody's leftovers are touched.
    list: Option<(File, PathBuf)>,
    /// The list stays when the lease ends: somebody has to make whole what it tells of.
    unsettled: bool,
}

/// What became of an earlier run that was killed.
#[derive(Debug, Default)]
pub struct Found {
    /// What was taken away.
    pub removed: Vec<PathBuf>,
    /// What could not be made whole.
    pub warnings: Vec<Fault>,
}

impl Lease {
    /// Takes the right to write `target`; an error where another run has it (R18). What a killed run left is made whole, or taken away
    /// (R17), unless it is one of `inputs`.
    pub fn take(target: &Target, inputs: &[Arc<InputFile>]) -> Result<(Lease, Found), Fault> {
        let (folder, output) = (target.folder().to_path_buf(), target.file(None));
        let path = folder.join(list_name(&output));
        let cannot = |error| Fault::io(&output, "cannot make a file in the output's folder", error);
        for _ in 0..TRIES {
            let file = sys::open_list(&path).map_err(cannot)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(busy(&output)),
                Err(TryLockError::Error(_)) => {
                    // One that was made by this call is of no use.
                    if file.metadata().is_ok_and(|meta| meta.len() == 0) {
                        let _ = fs::remove_file(&path);
                    }
                    return Ok((Lease { folder, output, list: None, unsettled: false }, Found::default()));
                }
            }
            // Its owner may have taken it away between our opening and our locking: then it is nobody's.
            if !sys::is_same(&file, &path).map_err(cannot)? {
                continue;
            }
            let mut lease = Lease { folder, output, list: Some((file, path)), unsettled: true };
            let found = lease.settle_what_was_left(inputs)?;
            lease.write(&opening(&lease.output), false)?;
            lease.unsettled = false;
            return Ok((lease, found));
        }
        Err(busy(&output))
    }

    /// A new file under a temporary name that belongs to this output.
    pub(super) fn temporary(&self) -> Result<NamedTempFile, Fault> {
        sys::temporary(&self.folder, &format!("{}-", prefix(&self.output)))
            .map_err(|error| Fault::io(&self.output, "cannot make a file in the output's folder", error))
    }

    /// The folder of the output.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Between the first rename of what was noted and the last: a panic leaves the list to the next run.
    pub(super) fn stays_when_dropped(&mut self, stays: bool) {
        self.unsettled = stays;
    }

    /// Reads the list of a run that is dead. An empty one was just made.
    fn settle_what_was_left(&mut self, inputs: &[Arc<InputFile>]) -> Result<Found, Fault> {
        let Some((file, path)) = &mut self.list else { return Ok(Found::default()) };
        let journal = match read(file, path, &self.folder)? {
            None => return Ok(Found::default()),
            Some(journal) => journal,
        };
        let mut dead = temporaries(&self.folder, &prefix(&self.output));
        let moves = journal.old.iter().chain(&journal.new);
        for path in moves.flat_map(|moved| [&moved.from, &moved.to]).chain(&dead) {
            for input in inputs {
                if input.is_at(path)? {
                    return Err(Fault::new(
                        Kind::Usage,
                        path,
                        "the input is what a run to this output left when it was killed",
                    )
                    .found(input.name().display())
                    .advice("give it another name, or name another output"));
                }
            }
        }
        let mut warnings = settle(&journal)?;
        dead.retain(|path| match fs::remove_file(path) {
            Ok(()) => true,
            // Taken away, or given its name back, by what was settled.
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => {
                warnings.push(Fault::io(path, "cannot remove what a run left when it was killed", error));
                false
            }
        });
        Ok(Found { removed: dead, warnings })
    }

    /// Notes what is about to be renamed, so that a kill in between can be undone.
    pub(super) fn note(&mut self, journal: &Journal, sync: bool) -> Result<(), Fault> {
        let text = journal.text(&self.output);
        self.write(&text, sync)
    }

    fn write(&mut self, text: &str, sync: bool) -> Result<(), Fault> {
        let Some((file, path)) = &mut self.list else { return Ok(()) };
        let mut write = || {
            // Whole first, then cut: a list that ends early tells of a run that renamed nothing.
            file.rewind()?;
            file.write_all(text.as_bytes())?;
            file.set_len(text.len() as u64)?;
            if sync { file.sync_all() } else { Ok(()) }
        };
        write().map_err(|error| Fault::io(path.as_path(), "cannot write the list of temporary files", error))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((file, path)) = self.list.take().filter(|_| !self.unsettled) {
            // Removed while it is locked: who opened it meanwhile sees that it is nobody's.
            let _ = fs::remove_file(path);
            drop(file);
        }
    }
}

/// The name of the list of an output.
fn list_name(output: &Path) -> OsString {
    let mut name = OsString::from(prefix(output));
    name.push(LIST);
    name
}

/// A hash stands for the output's name, which may be as long as a name can be.
fn prefix(output: &Path) -> String {
    let digest = Sha256::digest(output.file_name().unwrap_or_default().as_encoded_bytes());
    let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{hash}")
}

/// The files in a folder whose names begin so, but for the list.
fn temporaries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let front = format!("{prefix}-");
    let is_one = |name: &OsStr| name.as_encoded_bytes().starts_with(front.as_bytes());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| is_one(&entry.file_name())).map(|entry| entry.path()).collect()
}

/// The journal of a list; `None`: it is new.
fn read(file: &mut File, path: &Path, folder: &Path) -> Result<Option<Journal>, Fault> {
    let strange = |what: &'static str| {
        Err(Fault::new(Kind::Io, path, "the list of a run that was killed cannot be trusted")
            .found(what)
            .advice("look at it, and at the .vdconv- files beside it, and remove them"))
    };
    let cannot = |error| Fault::io(path, "cannot read the list of a run that was killed", error);
    let meta = file.metadata().map_err(cannot)?;
    if sys::kind(&meta) != FileKind::Regular || meta.len() > MOST {
        return strange("no list of vdconv");
    }
    // Names that somebody else wrote are not removed on his behalf.
    if !sys::is_ours(&meta) {
        return strange("a file of another user");
    }
    if meta.len() == 0 {
        return Ok(None);
    }
    let mut text = String::new();
    if file.read_to_string(&mut text).is_err() {
        return strange("no text");
    }
    match Journal::read(&text, folder) {
        Some(journal) => Ok(Some(journal)),
        None => strange("no list of vdconv"),
    }
}

fn busy(output: &Path) -> Fault {
    Fault::new(Kind::Locked, output, "another run of vdconv is writing this output")
}
