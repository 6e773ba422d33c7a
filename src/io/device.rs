//! A block device as an output (R27): written in place, for this program alone, its first and its last bytes behind all others.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::input::InputFile;
use super::output::is_input;
use super::size::in_memory;
use super::sys;
use crate::fault::{Fault, Kind};

/// Bytes in front that are held back: partition tables, the headers of images and of nearly all file systems.
const HEAD: u64 = 1 << 20;
/// Bytes at the end of the output that are held back, where its length is known: a fixed VHD is known by its last sector.
const TAIL: u64 = 512;

/// A block device that a disk is written to.
pub struct Device {
    file: File,
    path: PathBuf,
    /// Bytes that the device holds.
    room: u64,
    held: Mutex<Held>,
    sync: bool,
}

/// What is written last.
struct Held {
    /// The places, and the bytes that go there: the first ones, and the last ones of the output.
    places: [(Range<u64>, Vec<u8>); 2],
    /// Was anything of the device overwritten?
    touched: bool,
    /// The end of what was written, or is held.
    reach: u64,
    /// Bytes written, and held.
    written: u64,
}

impl Device {
    /// Looks at a device for an output of `len` bytes, where that is known. Refused: one that is mounted or in use, that is too small, or
    /// that an input is read from.
    pub fn look(path: &Path, len: Option<u64>, inputs: &[Arc<InputFile>]) -> Result<(), Fault> {
        Device::check(sys::look_at_device(path), path, len, inputs).map(drop)
    }

    /// Opens it.
    pub fn open(path: &Path, len: Option<u64>, inputs: &[Arc<InputFile>], sync: bool) -> Result<Device, Fault> {
        let (file, room) = Device::check(sys::open_device(path), path, len, inputs)?;
        let head = 0..len.unwrap_or(room).min(room).min(HEAD);
        let tail = len.map_or(room..room, |len| len.saturating_sub(TAIL).max(head.end)..len.max(head.end));
        let places = [head, tail].map(|place| (place.clone(), vec![0; in_memory(place.end - place.start)]));
        let held = Mutex::new(Held { places, touched: false, reach: 0, written: 0 });
        Ok(Device { file, path: path.to_path_buf(), room, held, sync })
    }

    fn check(
        opened: io::Result<File>,
        path: &Path,
        len: Option<u64>,
        inputs: &[Arc<InputFile>],
    ) -> Result<(File, u64), Fault> {
        let mut file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => {
                Fault::new(Kind::Locked, path, "the device is mounted, or another program has it in use")
            }
            _ => Fault::io(path, "cannot open the device", error),
        })?;
        for input in inputs {
            if input.shares_storage(&file)? || input.is_at(path)? {
                return Err(is_input(path, input));
            }
        }
        let room = file.seek(SeekFrom::End(0)).map_err(|error| Fault::io(path, "cannot look at the device", error))?;
        match len.filter(|len| *len > room) {
            None => Ok((file, room)),
            Some(needed) => Err(too_small(path).found(format!("{room} bytes")).expected(format!("at least {needed}"))),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written so far, and held.
    pub fn written(&self) -> u64 {
        self.lock().written
    }

    /// The end of what was written.
    pub fn reach(&self) -> u64 {
        self.lock().reach
    }

    /// Was anything of it overwritten?
    pub fn is_touched(&self) -> bool {
        self.lock().touched
    }

    /// Writes all of `bytes` at byte `at`; what belongs to the first or the last bytes is kept for [`Device::finish`].
    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        let end = at.checked_add(bytes.len() as u64).filter(|end| *end <= self.room);
        let end = end.ok_or_else(|| too_small(&self.path).at(at).found(format!("{} bytes", self.room)))?;
        let (mut from, mut until) = (at, end);
        let mut held = self.lock();
        held.reach = held.reach.max(end);
        held.written += bytes.len() as u64;
        for (place, kept) in &mut held.places {
            let part = at.max(place.start)..end.min(place.end);
            if part.is_empty() {
                continue;
            }
            let to = in_memory(part.start - place.start)..in_memory(part.end - place.start);
            if let (Some(to), Some(bytes)) =
                (kept.get_mut(to), bytes.get(in_memory(part.start - at)..in_memory(part.end - at)))
            {
                to.copy_from_slice(bytes);
            }
            if part.start == from {
                from = part.end;
            } else {
                until = part.start;
            }
        }
        let Some(rest) =
            bytes.get(in_memory(from - at)..in_memory(until.max(from) - at)).filter(|rest| !rest.is_empty())
        else {
            return Ok(());
        };
        // What stood there would make an old disk of what is becoming a new one. The last bytes first: without its footer a fixed VHD is
        // none, and whatever else is there has lost 512 bytes, should a kill fall in between.
        if !held.touched {
            held.touched = true;
            for (place, kept) in held.places.iter().rev() {
                self.put(place.start, &vec![0; kept.len()])?;
                self.sync()?;
            }
        }
        drop(held);
        self.put(from, rest)
    }

    /// Waits until all is on the device; nothing under `--no-sync`.
    pub fn sync(&self) -> Result<(), Fault> {
        match self.sync {
            true => self.file.sync_all().map_err(|e| Fault::io(&self.path, "cannot bring the output to the device", e)),
            false => Ok(()),
        }
    }

    /// Writes what was held, when all else is there.
    pub fn finish(&self) -> Result<(), Fault> {
        self.sync()?;
        let mut held = self.lock();
        held.touched = true;
        for (place, kept) in &held.places {
            // Behind an output that ends here the device stays as it was.
            let len = in_memory(held.reach.saturating_sub(place.start)).min(kept.len());
            self.put(place.start, kept.get(..len).unwrap_or_default())?;
            self.sync()?;
        }
        Ok(())
    }

    fn put(&self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        sys::write_all_at(&self.file, bytes, at)
            .map_err(|(done, error)| Fault::io(&self.path, "cannot write", error).at(at + done))
    }
}

fn too_small(path: &Path) -> Fault {
    Fault::new(Kind::NoSpace, path, "the device is too small for the output")
}
