//! The files that a disk is read from, found by their numbers.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use crate::io::{FileId, InputFile};

/// A list of files that finds them by their numbers: a disk may have a hundred thousand, and each run names one.
pub struct Files {
    list: Vec<Arc<InputFile>>,
    /// Where in the list each is, once one was asked for.
    places: OnceLock<HashMap<FileId, usize>>,
}

impl Files {
    /// These, in this order.
    pub fn new(list: Vec<Arc<InputFile>>) -> Files {
        Files { list, places: OnceLock::new() }
    }

    /// All of them.
    pub fn list(&self) -> &[Arc<InputFile>] {
        &self.list
    }

    /// The one of this number.
    pub fn get(&self, id: FileId) -> Option<&Arc<InputFile>> {
        let places = || self.list.iter().enumerate().map(|(place, file)| (file.id(), place)).collect();
        self.list.get(*self.places.get_or_init(places).get(&id)?)
    }
}
