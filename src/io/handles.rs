//! A bounded table of open files: an image may name 1,500 extents, and a process may often have 256 handles.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use cap_std::fs::Dir;

use super::input::Looks;
use super::sys;

/// Handles that are open at a time, those that the user named apart.
const MOST: usize = 48;

/// The open ones, the last used in front.
#[derive(Default)]
pub struct Handles(Mutex<VecDeque<(PathBuf, Arc<File>)>>);

/// A file that can be opened again: beneath a folder, by a name that was looked at.
pub struct Reopened {
    pub(super) handles: Arc<Handles>,
    pub(super) folder: Arc<Dir>,
    /// Relative to the folder.
    pub(super) name: PathBuf,
    /// Its path, which tells it from others.
    pub(super) path: PathBuf,
    pub(super) looks: Looks,
}

impl Reopened {
    /// The open file; opened again where its handle was given to another meanwhile. Then it must look as it did.
    pub fn get(&self) -> io::Result<Arc<File>> {
        if let Some(file) = self.handles.kept(&self.path) {
            return Ok(file);
        }
        let mut file = sys::open_beneath(&self.folder, &self.name)?;
        if Looks::at(&mut file)? != Ok(self.looks) {
            return Err(io::Error::other("it was exchanged while it was read"));
        }
        Ok(self.handles.keep(&self.path, file))
    }
}

impl Handles {
    /// The open file of this path, where it is open still.
    pub fn kept(&self, path: &std::path::Path) -> Option<Arc<File>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = open.iter().position(|(kept, _)| kept == path)?;
        let found = open.remove(place)?;
        let file = Arc::clone(&found.1);
        open.push_front(found);
        Some(file)
    }

    /// Closes all that nobody uses.
    pub fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Keeps an open file, and lets go of the one that was not used for the longest time.
    pub fn keep(&self, path: &std::path::Path, file: File) -> Arc<File> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let file = Arc::new(file);
        open.push_front((path.to_path_buf(), Arc::clone(&file)));
        open.truncate(MOST);
        file
    }
}
