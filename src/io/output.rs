//! Outputs that are never half done: temporary names, positional writes, stable storage, and final names last of all.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempPath;

use super::handles::Handles;
use super::input::InputFile;
use super::pipe::Pipe;
use super::sys::{self, FileKind};
use crate::fault::{Fault, Kind};

/// In front of every temporary name, so that what a killed run leaves can be told from data.
const PREFIX: &str = ".vdconv-";
/// Links that are followed from OUTPUT to its target, as the system does.
const MAX_LINKS: usize = 40;
/// Zeroes are written from a buffer of this many bytes.
const ZEROES: usize = 64 << 10;

/// Where an output goes: OUTPUT with its links followed, and the other files of its set beside it.
#[derive(Debug, Clone)]
pub struct Target {
    path: PathBuf,
}

impl Target {
    /// Follows links (the target of a link is what gets replaced) and refuses what is no regular file (R27).
    pub fn resolve(typed: &Path) -> Result<Target, Fault> {
        let no_file =
            |found: &str| Err(Fault::new(Kind::Unsupported, typed, "the output must be a regular file").found(found));
        // What the system reaches by the name; some links (those in /proc) lead to what their text does not name.
        let reached = match fs::metadata(typed) {
            Ok(meta) if sys::kind(&meta) != FileKind::Regular => return no_file(sys::kind(&meta).words()),
            other => other.is_ok(),
        };
        let mut path = typed.to_path_buf();
        for _ in 0..MAX_LINKS {
            if names_a_folder(&path) {
                return no_file("the name of a folder");
            }
            let meta = match fs::symlink_metadata(&path) {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let folder = parent(&path);
                    return match fs::metadata(folder) {
                        Ok(_) if reached => no_file("a link that leads to no name"),
                        Ok(meta) if meta.is_dir() => Ok(Target { path }),
                        Ok(_) => Err(Fault::new(Kind::NotFound, folder, "the output's folder is no folder")),
                        Err(error) => Err(Fault::io(folder, "the output's folder cannot be used", error)),
                    };
                }
                Err(error) => return Err(Fault::io(typed, "cannot look at the output", error)),
            };
            if !meta.is_symlink() {
                return match sys::kind(&meta) {
                    FileKind::Regular => Ok(Target { path }),
                    other => no_file(other.words()),
                };
            }
            let to = fs::read_link(&path).map_err(|e| Fault::io(&path, "cannot follow the link", e))?;
            path = parent(&path).join(to);
        }
        Err(Fault::new(Kind::Io, typed, "too many links"))
    }

    /// The final path of OUTPUT itself (`None`), or of a file of its set: the stem with `suffix` in place of the ending.
    pub fn file(&self, suffix: Option<&str>) -> PathBuf {
        match (suffix, self.path.file_name()) {
            (Some(suffix), Some(name)) => self.path.with_file_name(set_name(name, suffix)),
            _ => self.path.clone(),
        }
    }

    /// The folder that all files of the output lie in.
    pub fn folder(&self) -> &Path {
        parent(&self.path)
    }
}

/// The name of a file of a set: that of the file that names it, with `suffix` in place of its ending.
pub fn set_name(name: &OsStr, suffix: &str) -> OsString {
    let mut name = Path::new(name).file_stem().unwrap_or_default().to_os_string();
    name.push(suffix);
    name
}

/// Does the name end in a separator, or in a dot behind one?
fn names_a_folder(path: &Path) -> bool {
    let name = path.as_os_str().as_encoded_bytes();
    let name = name.strip_suffix(b".").unwrap_or(name);
    path.file_name().is_none() || name.last().is_some_and(|last| std::path::is_separator(char::from(*last)))
}

/// The folder of a path; the current one where the path is a bare name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A file that is asked for.
#[derive(Debug, Clone)]
pub struct OutputFile {
    /// Its final path.
    pub path: PathBuf,
    /// Its length in bytes, where that is known.
    pub len: Option<u64>,
}

struct Temporary {
    path: PathBuf,
    name: TempPath,
    written: AtomicU64,
}

impl Temporary {
    /// The open file; opened again where its handle was given to another piece of the set meanwhile.
    fn file(&self, handles: &Handles) -> Result<Arc<File>, Fault> {
        if let Some(file) = handles.kept(&self.name) {
            return Ok(file);
        }
        let file = sys::open_write(&self.name).map_err(|e| Fault::io(&self.path, "cannot open the output again", e))?;
        Ok(handles.keep(&self.name, file))
    }
}

/// All files of one conversion, which are removed where they are dropped before they are published; or a pipe, into which everything
/// goes in its order.
pub struct Outputs {
    files: Vec<Temporary>,
    /// A set may have a thousand pieces.
    handles: Handles,
    pipe: Option<Pipe>,
    folder: PathBuf,
    force: bool,
    sync: bool,
    holes: bool,
}

/// How outputs are made.
#[derive(Debug, Clone, Copy)]
pub struct OutputOptions {
    /// Replace what is there.
    pub force: bool,
    /// Wait for stable storage.
    pub sync: bool,
    /// What is not written may stay a hole.
    pub holes: bool,
}

impl Outputs {
    /// Refuses, before a byte is written, outputs that exist (unless `force`; R15) and outputs that are an input (R16).
    pub fn check(wanted: &[OutputFile], inputs: &[Arc<InputFile>], force: bool) -> Result<(), Fault> {
        for OutputFile { path, .. } in wanted {
            for input in inputs {
                if input.is_at(path)? {
                    return Err(Fault::new(Kind::Usage, path, "the output is the input, or a file of it")
                        .found(input.name().display())
                        .advice("name another output"));
                }
            }
            match fs::symlink_metadata(path) {
                Ok(meta) if sys::kind(&meta) != FileKind::Regular => {
                    let what = if meta.is_symlink() { "a link" } else { sys::kind(&meta).words() };
                    return Err(Fault::new(Kind::Unsupported, path, "the output must be a regular file").found(what));
                }
                Ok(_) if !force => return Err(exists(path)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Fault::io(path, "cannot look at the output", error)),
            }
        }
        Ok(())
    }

    /// Makes the files under temporary names in `folder`. The last of `wanted` is the one that names the others.
    pub fn create(folder: &Path, wanted: &[OutputFile], options: OutputOptions) -> Result<Outputs, Fault> {
        let (mut files, handles) = (Vec::new(), Handles::default());
        for OutputFile { path, len } in wanted {
            let made = sys::temporary(folder, PREFIX)
                .map_err(|e| Fault::io(path, "cannot make a file in the output's folder", e))?;
            let (file, name) = made.into_parts();
            if let Some(len) = len {
                file.set_len(*len).map_err(|e| Fault::io(path, "cannot set the length of the output", e).found(len))?;
            }
            handles.keep(&name, file);
            files.push(Temporary { path: path.clone(), name, written: AtomicU64::new(0) });
        }
        let OutputOptions { force, sync, holes } = options;
        Ok(Outputs { files, handles, pipe: None, folder: folder.to_path_buf(), force, sync, holes })
    }

    /// The one file of a conversion goes into a pipe: nothing of it can be taken back, and nothing is a hole.
    pub fn into_pipe(pipe: Pipe) -> Outputs {
        Outputs {
            files: Vec::new(),
            handles: Handles::default(),
            pipe: Some(pipe),
            folder: PathBuf::new(),
            force: false,
            sync: false,
            holes: false,
        }
    }

    fn file(&self, index: usize) -> Result<&Temporary, Fault> {
        self.files.get(index).ok_or_else(|| Fault::bug("a write to a file that the plan does not have"))
    }

    /// Writes all of `bytes` at byte `at`.
    pub fn write(&self, index: usize, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        if let Some(pipe) = &self.pipe {
            return pipe.write(at, bytes);
        }
        let out = self.file(index)?;
        let file = out.file(&self.handles)?;
        let mut done = 0;
        while done < bytes.len() {
            match sys::write_at(&file, &bytes[done..], at + done as u64) {
                Ok(0) => return Err(cannot_write(&out.path, at + done as u64, io::ErrorKind::WriteZero.into())),
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(cannot_write(&out.path, at + done as u64, error)),
            }
        }
        out.written.fetch_add(done as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Makes `len` bytes from `at` read as zero. The files are fresh: where holes may stay there is nothing to do.
    pub fn write_zeroes(&self, index: usize, at: u64, len: u64) -> Result<(), Fault> {
        if self.holes {
            return Ok(());
        }
        let zeroes = [0; ZEROES];
        let mut done = 0;
        while done < len {
            let n = (len - done).min(ZEROES as u64);
            self.write(index, at + done, &zeroes[..n as usize])?;
            done += n;
        }
        Ok(())
    }

    /// Sets a file's length.
    pub fn set_len(&self, index: usize, len: u64) -> Result<(), Fault> {
        if self.pipe.is_some() {
            return Ok(()); // it has the length that went out
        }
        let out = self.file(index)?;
        out.file(&self.handles)?
            .set_len(len)
            .map_err(|e| Fault::io(&out.path, "cannot set the length of the output", e).found(len))
    }

    /// Waits until all that was written is on stable storage; nothing under `--no-sync`.
    pub fn sync(&self) -> Result<(), Fault> {
        if !self.sync {
            return Ok(());
        }
        self.files.iter().try_for_each(|out| {
            out.file(&self.handles)?
                .sync_all()
                .map_err(|e| Fault::io(&out.path, "cannot bring the output to stable storage", e))
        })
    }

    /// Bytes written so far.
    pub fn bytes_written(&self) -> u64 {
        let piped = self.pipe.as_ref().map_or(0, Pipe::written);
        self.files.iter().map(|f| f.written.load(Ordering::Relaxed)).sum::<u64>() + piped
    }

    /// The sum of the files' lengths, and of what they take up on disk.
    pub fn sizes(&self) -> (u64, u64) {
        if let Some(pipe) = &self.pipe {
            return (pipe.written(), pipe.written());
        }
        let metas = self.files.iter().filter_map(|f| fs::metadata(&f.name).ok());
        metas.fold((0, 0), |(len, allocated), meta| (len + meta.len(), allocated + sys::allocated(&meta)))
    }

    /// Gives the files their final names, all or none of them: in order, the one that names the others last. The warning is about the
    /// folder that could not be brought to stable storage.
    pub fn publish(self) -> Result<Option<Fault>, Fault> {
        let Outputs { files, handles, pipe, folder, force, sync, .. } = self;
        if pipe.is_some() {
            return Ok(None);
        }
        // Handles are closed before any rename: some systems refuse to rename an open file.
        handles.close();
        let names: Vec<(TempPath, PathBuf)> = files.into_iter().map(|t| (t.name, t.path)).collect();
        match (force, names.len()) {
            // A single file is exchanged in one step: at every moment the old or the new one is there, whole.
            (true, 1) => names.into_iter().try_for_each(|(name, path)| {
                name.persist(&path).map_err(|e| Fault::io(path, "cannot give the output its name", e.error))
            })?,
            (true, _) => {
                let aside = Aside::take(&folder, &names)?;
                if let Err(fault) = place(names) {
                    return Err(aside.give_back(fault));
                }
            }
            (false, _) => place(names)?,
        }
        if !sync {
            return Ok(None);
        }
        Ok(sys::sync_folder(&folder).err().map(|e| Fault::io(folder, "cannot bring the folder to stable storage", e)))
    }
}

/// Renames in order, never onto something that exists; after a failure those already renamed are removed again.
fn place(names: Vec<(TempPath, PathBuf)>) -> Result<(), Fault> {
    let mut placed: Vec<PathBuf> = Vec::new();
    for (name, path) in names {
        if let Err(error) = name.persist_noclobber(&path) {
            let fault = match error.error.kind() {
                io::ErrorKind::AlreadyExists => exists(&path),
                _ => Fault::io(path, "cannot give the output its name", error.error),
            };
            let left: Vec<_> = placed.iter().filter(|path| fs::remove_file(path).is_err()).collect();
            return Err(match left.as_slice() {
                [] => fault,
                left => fault.advice(format!("{left:?} could not be removed again")),
            });
        }
        placed.push(path);
    }
    Ok(())
}

/// The old files of a set that is replaced, under temporary names: removed when the new set stands, given back when it does not.
struct Aside(Vec<(TempPath, PathBuf)>);

impl Aside {
    /// The file that names the others goes first: at no moment does it stand beside new extents.
    fn take(folder: &Path, names: &[(TempPath, PathBuf)]) -> Result<Aside, Fault> {
        let mut aside = Aside(Vec::new());
        for (_, path) in names.iter().rev() {
            let place = match sys::temporary(folder, PREFIX) {
                Ok(place) => place.into_temp_path(),
                Err(e) => return Err(aside.give_back(Fault::io(path, "cannot make a file in the output's folder", e))),
            };
            match fs::rename(path, &place) {
                Ok(()) => aside.0.push((place, path.clone())),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(aside.give_back(Fault::io(path, "cannot move the old output aside", e))),
            }
        }
        Ok(aside)
    }

    /// Puts the old files back, all that can be, and passes `fault` on. One whose name is taken meanwhile is kept under another, which
    /// the hint tells: better a stray name than a lost disk.
    fn give_back(self, fault: Fault) -> Fault {
        let mut kept = Vec::new();
        for (place, path) in self.0.into_iter().rev() {
            let Err(refused) = place.persist_noclobber(&path) else { continue };
            kept.push(format!("{} as {}", path.display(), keep(refused.path, &path).display()));
        }
        match kept.is_empty() {
            true => fault,
            false => fault.advice(format!("of the old output is kept: {}", kept.join(", "))),
        }
    }
}

/// Keeps a file that cannot get its name back: beside it, with `.old` and a number, or where it is.
fn keep(place: TempPath, path: &Path) -> PathBuf {
    let mut place = place;
    for number in 0..100 {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".old{number}"));
        let path = path.with_file_name(name);
        match place.persist_noclobber(&path) {
            Ok(()) => return path,
            Err(refused) => place = refused.path,
        }
    }
    let path = place.to_path_buf();
    // Keeping is only forgetting to remove it: where even that fails there is nothing left to do.
    let _ = place.keep();
    path
}

fn exists(path: &Path) -> Fault {
    Fault::new(Kind::Exists, path, "the output exists").advice("--force replaces it, once the new one is complete")
}

fn cannot_write(path: &Path, at: u64, error: io::Error) -> Fault {
    Fault::io(path, "cannot write", error).at(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(folder: &Path) -> Vec<(TempPath, PathBuf)> {
        ["o-flat", "o"]
            .map(|name| {
                fs::write(folder.join(name), format!("old {name}")).unwrap();
                let new = sys::temporary(folder, PREFIX).unwrap();
                (new.into_temp_path(), folder.join(name))
            })
            .into()
    }

    #[test]
    fn r15_a_set_that_cannot_be_replaced_is_given_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        let names = set(folder.path());
        let aside = Aside::take(folder.path(), &names).unwrap();
        assert!(names.iter().all(|(_, path)| !path.exists()));
        let fault = aside.give_back(exists(Path::new("x")));
        assert_eq!(fs::read(folder.path().join("o")).unwrap(), b"old o");
        assert_eq!(fs::read(folder.path().join("o-flat")).unwrap(), b"old o-flat");
        assert!(fault.hint().contains("--force"));
    }

    #[test]
    fn what_cannot_get_its_name_back_is_kept_and_told_and_does_not_stop_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let names = set(folder.path());
        let aside = Aside::take(folder.path(), &names).unwrap();
        fs::write(folder.path().join("o-flat"), "somebody else's").unwrap();
        let fault = aside.give_back(exists(Path::new("x")));
        drop(names);
        let content = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(content("o"), "old o");
        assert_eq!(content("o-flat"), "somebody else's");
        assert_eq!(content("o-flat.old0"), "old o-flat");
        assert!(fault.hint().contains("o-flat.old0"), "{}", fault.hint());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }
}
