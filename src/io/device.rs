//! A block device as an output (R27): written in place, for this program alone, its first bytes last of all.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::input::InputFile;
use super::output::is_input;
use super::size::in_memory;
use super::sys;
use crate::fault::{Fault, Kind};

/// Bytes in front that are held back: partition tables, the headers of images and of nearly all file systems.
const HEAD: u64 = 1 << 20;

/// A block device that a disk is written to.
pub struct Device {
    file: File,
    path: PathBuf,
    len: u64,
    /// What the first bytes will be.
    head: Mutex<Vec<u8>>,
    /// Was anything of it overwritten?
    touched: AtomicBool,
    written: AtomicU64,
    sync: bool,
}

impl Device {
    /// Opens a device for an output of `len` bytes, where that is known. Refused: one that is mounted or in use, that is too small, or
    /// that an input is read from.
    pub fn open(path: &Path, len: Option<u64>, inputs: &[Arc<InputFile>], sync: bool) -> Result<Device, Fault> {
        let mut file = sys::open_device(path).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => {
                Fault::new(Kind::Locked, path, "the device is mounted, or another program has it in use")
            }
            _ => Fault::io(path, "cannot open the device", error),
        })?;
        let cannot_look = |error| Fault::io(path, "cannot look at the device", error);
        let behind = sys::file_behind(&file);
        for input in inputs {
            let inside = behind.as_ref().map_or(Ok(false), |file| input.is_at(file))?;
            if inside || input.is_at(path)? {
                return Err(is_input(path, input));
            }
        }
        let room = file.seek(SeekFrom::End(0)).map_err(cannot_look)?;
        if let Some(needed) = len.filter(|len| *len > room) {
            return Err(too_small(path).found(format!("{room} bytes")).expected(format!("at least {needed}")));
        }
        let head = vec![0; in_memory(len.unwrap_or(room).min(room).min(HEAD))];
        let head = Mutex::new(head);
        let touched = AtomicBool::new(false);
        Ok(Device { file, path: path.to_path_buf(), len: room, head, touched, written: AtomicU64::new(0), sync })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Was anything of it overwritten?
    pub fn is_touched(&self) -> bool {
        self.touched.load(Ordering::SeqCst)
    }

    /// Writes all of `bytes` at byte `at`; what belongs to the first bytes is kept for [`Device::finish`].
    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        if at.checked_add(bytes.len() as u64).is_none_or(|end| end > self.len) {
            return Err(too_small(&self.path).at(at).found(format!("{} bytes", self.len)));
        }
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        let held = in_memory((head.len() as u64).saturating_sub(at)).min(bytes.len());
        let (first, rest) = bytes.split_at(held);
        if held > 0
            && let Some(place) = head.get_mut(in_memory(at)..in_memory(at) + held)
        {
            place.copy_from_slice(first);
        }
        if rest.is_empty() {
            return Ok(());
        }
        // What stood in front would make an old disk of what is becoming a new one.
        if !self.touched.swap(true, Ordering::SeqCst) {
            self.put(0, &vec![0; head.len()])?;
            self.sync()?;
        }
        drop(head);
        self.put(at + held as u64, rest)
    }

    /// Waits until all is on the device; nothing under `--no-sync`.
    pub fn sync(&self) -> Result<(), Fault> {
        match self.sync {
            true => self.file.sync_all().map_err(|e| Fault::io(&self.path, "cannot bring the output to the device", e)),
            false => Ok(()),
        }
    }

    /// Writes the first bytes, when all others are there.
    pub fn finish(&self) -> Result<(), Fault> {
        self.sync()?;
        self.touched.store(true, Ordering::SeqCst);
        self.put(0, &self.head.lock().unwrap_or_else(PoisonError::into_inner))?;
        self.sync()
    }

    fn put(&self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        sys::write_all_at(&self.file, bytes, at)
            .map_err(|(done, error)| Fault::io(&self.path, "cannot write", error).at(at + done))?;
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

fn too_small(path: &Path) -> Fault {
    Fault::new(Kind::NoSpace, path, "the device is too small for the output")
}
