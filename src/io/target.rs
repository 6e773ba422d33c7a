//! Where an output goes: the name that was typed with its links followed, and the names of the files beside it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::sys::{self, FileKind};
use crate::fault::{Fault, Kind};

/// Links that are followed from OUTPUT to its target, as the system does.
const MAX_LINKS: usize = 40;

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
