//! Files in a folder, converted to raw: read right, read with a warning, or refused. Never a source that changed, never half an output.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::{Ran, names, run, scratch};

/// A folder with these files.
pub fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = scratch();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// Converts `name` to raw; the sources stay as they are, and nothing but the output is made.
pub fn to_raw(folder: &Path, name: &str) -> (Ran, Option<Vec<u8>>) {
    let before = names(folder);
    let ran = run(folder, [name, "out.raw"]);
    let out = fs::read(folder.join("out.raw")).ok();
    let _ = fs::remove_file(folder.join("out.raw"));
    assert_eq!(names(folder), before);
    assert_eq!(out.is_some(), ran.status == Some(0), "{}", ran.err);
    (ran, out)
}

/// It is read, without a word, as `want`.
#[track_caller]
pub fn reads(folder: &Path, name: &str, want: &[u8]) {
    let (ran, out) = to_raw(folder, name);
    ran.succeeds();
    assert!(out.unwrap() == want);
}

/// It is read as `want`, with a warning that has these texts.
#[track_caller]
pub fn warns(folder: &Path, name: &str, want: &[u8], texts: &[&str]) {
    let (ran, out) = to_raw(folder, name);
    ran.warns(texts);
    assert!(out.unwrap() == want);
}

/// It is refused, with these texts.
#[track_caller]
pub fn refused(folder: &Path, name: &str, texts: &[&str]) {
    to_raw(folder, name).0.fails(1, texts);
}
