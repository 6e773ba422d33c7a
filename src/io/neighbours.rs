//! The files beside an input: looked at, to tell the user which one was meant. Never a source of data.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::input::InputFile;
use super::sys;

/// Names of a folder that are looked at.
const MOST_NAMES: usize = 10_000;

/// A regular file in the folder of an input.
pub struct Neighbour {
    path: PathBuf,
    name: OsString,
}

impl Neighbour {
    /// Its name in that folder.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Its first bytes, `most` of them at most; nothing where it cannot be read.
    pub fn head(&self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let Ok(file) = sys::open_read(&self.path) else { return Vec::new() };
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match sys::read_at(&file, rest, done as u64) {
                Ok(0) | Err(_) => break,
                Ok(n) => done += n,
            }
        }
        bytes.truncate(done);
        bytes
    }
}

/// The regular files beside `file` with this ending (compared without case), by name; `file` itself and links are left out. None
/// where the folder cannot be listed: what is beside an image is a help to the user, never a condition.
pub fn neighbours(file: &InputFile, ending: &str) -> Vec<Neighbour> {
    let Ok(entries) = std::fs::read_dir(file.folder()) else { return Vec::new() };
    let own = std::fs::canonicalize(file.name()).ok();
    let own = own.as_deref().unwrap_or(file.name()).file_name().map(OsString::from);
    let mut found: Vec<Neighbour> = entries
        .take(MOST_NAMES)
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| Neighbour { path: entry.path(), name: entry.file_name() })
        .filter(|neighbour| neighbour.path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending)))
        .filter(|neighbour| Some(&neighbour.name) != own.as_ref())
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}
