//! The locks of Workstation and Fusion.

use crate::fault::{Fault, Kind};
use crate::io::InputFile;

/// A running machine of Workstation or Fusion keeps a folder `NAME.lck` with a lock in it beside each disk that it has open.
pub fn refuse_locked(file: &InputFile) -> Result<(), Fault> {
    let mut name = file.name().file_name().unwrap_or_default().to_os_string();
    name.push(".lck");
    let folder = file.folder().join(name);
    // A folder that is not there, or cannot be read, locks nothing.
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(()) };
    let locks = |name: &std::ffi::OsStr| name.as_encoded_bytes().ends_with(b".lck");
    match entries.filter_map(Result::ok).map(|entry| entry.file_name()).find(|name| locks(name)) {
        None => Ok(()),
        Some(lock) => Err(Fault::new(Kind::Locked, file.name(), "a running machine has the disk open")
            .found(folder.join(lock).display())
            .advice("shut the machine down; --ignore-lock goes on if none runs")),
    }
}
