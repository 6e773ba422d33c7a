//! One input: positional reads from a file that the gate opened, or from memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::gate::Laid;
use super::handles::Reopened;
use super::size::in_memory;
use super::sys::{self, FileKind};
use crate::fault::{Fault, Kind};

/// Number of a file among those of one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId(pub u32);

/// Where the bytes are.
pub(super) enum Bytes {
    /// A file that the user named: its handle stays open.
    File(File),
    /// A file that an image named: its handle may be closed meanwhile, and opened again.
    Reopened(Reopened),
    /// Memory: a gate's overlay; and what of it cannot be read.
    Memory(Arc<[u8]>, Arc<[Range<u64>]>),
}

impl Bytes {
    /// Does something with the file; `None` for memory.
    fn with_file<T>(&self, act: impl FnOnce(&File) -> io::Result<T>) -> Option<io::Result<T>> {
        match self {
            Bytes::File(file) => Some(act(file)),
            Bytes::Reopened(file) => Some(file.get().and_then(|file| act(&file))),
            Bytes::Memory(..) => None,
        }
    }
}

/// What a file was when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Looks {
    pub(super) kind: FileKind,
    pub(super) len: u64,
    pub(super) allocated: u64,
    pub(super) modified: Option<SystemTime>,
    /// The number of the file system that it is on, where files of one can share blocks.
    pub(super) file_system: Option<u64>,
}

impl Looks {
    /// Of an open file. Anything but a regular file or a block device is refused with its name in words.
    pub(super) fn at(file: &mut File) -> io::Result<Result<Looks, FileKind>> {
        let meta = file.metadata()?;
        let kind = sys::kind(&meta);
        Ok(match kind {
            FileKind::Regular => {
                let (allocated, file_system) = (sys::allocated(&meta), sys::file_system(&meta));
                Ok(Looks { kind, len: meta.len(), allocated, modified: meta.modified().ok(), file_system })
            }
            FileKind::BlockDevice => {
                let len = io::Seek::seek(file, io::SeekFrom::End(0))?;
                Ok(Looks { kind, len, allocated: len, modified: None, file_system: None })
            }
            other => Err(other),
        })
    }
}

/// The refusal of what is neither a regular file nor a block device (R3).
pub(super) fn no_file(name: &Path, kind: FileKind) -> Fault {
    Fault::new(Kind::Unsupported, name, "an input must be a regular file or a block device").found(kind.words())
}

/// An input: positional reads only, so that any thread may read.
pub struct InputFile {
    id: FileId,
    name: PathBuf,
    folder: PathBuf,
    shown: PathBuf,
    bytes: Bytes,
    looks: Looks,
    read: AtomicU64,
}

impl InputFile {
    pub(super) fn new(
        id: FileId,
        name: &Path,
        folder: PathBuf,
        shown: PathBuf,
        bytes: Bytes,
        looks: Looks,
    ) -> InputFile {
        InputFile { id, name: name.to_path_buf(), folder, shown, bytes, looks, read: AtomicU64::new(0) }
    }

    pub(super) fn in_memory(id: FileId, name: &Path, laid: &Laid) -> InputFile {
        let Laid { bytes, unreadable } = laid.clone();
        let len = bytes.len() as u64;
        let looks = Looks { kind: FileKind::Regular, len, allocated: len, modified: None, file_system: None };
        let folder = name.parent().unwrap_or(Path::new("")).to_path_buf();
        InputFile::new(id, name, folder.clone(), folder, Bytes::Memory(bytes, unreadable), looks)
    }

    /// Its number.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Its name, as typed or as found.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// The folder that it lies in, links followed: what it names is looked for there.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The same folder as the user knows it, for messages.
    pub fn shown_folder(&self) -> &Path {
        &self.shown
    }

    /// Its length in bytes when it was opened.
    pub fn len(&self) -> u64 {
        self.looks.len
    }

    /// True for a file of no bytes.
    pub fn is_empty(&self) -> bool {
        self.looks.len == 0
    }

    /// Bytes that it takes up on its disk.
    pub fn allocated(&self) -> u64 {
        self.looks.allocated
    }

    /// When it was last written to, where the system knows that.
    pub fn modified(&self) -> Option<SystemTime> {
        self.looks.modified
    }

    /// True for a disk or an optical drive.
    pub fn is_block_device(&self) -> bool {
        self.looks.kind == FileKind::BlockDevice
    }

    /// Bytes read from it so far.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Reads from byte `at` until `bytes` is full or the file ends; the bytes read.
    pub fn read_up_to(&self, at: u64, bytes: &mut [u8]) -> Result<usize, Fault> {
        let mut done = 0;
        while done < bytes.len() {
            // No file reaches that far; an offset that wraps would read something else.
            let Some(from) = at.checked_add(done as u64).filter(|from| i64::try_from(*from).is_ok()) else { break };
            match self.read_some(from, &mut bytes[done..]) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let of_medium = sys::is_of_medium(&error);
                    let fault = Fault::io(&self.name, "cannot read", error).at(at + done as u64);
                    return Err(if of_medium { fault.of_medium() } else { fault });
                }
            }
        }
        self.read.fetch_add(done as u64, Ordering::Relaxed);
        Ok(done)
    }

    fn read_some(&self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        if let Bytes::Memory(memory, unreadable) = &self.bytes {
            let rest = usize::try_from(at).ok().and_then(|at| memory.get(at..)).unwrap_or_default();
            let bad = unreadable.iter().filter(|bad| bad.end > at).map(|bad| bad.start.saturating_sub(at)).min();
            let n = rest.len().min(bytes.len()).min(bad.map_or(usize::MAX, in_memory));
            if bad == Some(0) && !rest.is_empty() && !bytes.is_empty() {
                return Err(sys::medium_error());
            }
            bytes[..n].copy_from_slice(&rest[..n]);
            return Ok(n);
        }
        self.bytes.with_file(|file| sys::read_at(file, bytes, at)).unwrap_or(Ok(0))
    }

    /// Fills `bytes` from byte `at`. The caller has held the range against [`InputFile::len`]: an earlier end means that the file was
    /// cut while it was read.
    pub fn read_exact(&self, at: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let done = self.read_up_to(at, bytes)?;
        if done == bytes.len() {
            return Ok(());
        }
        Err(Fault::new(Kind::Changed, &self.name, "the file became shorter while it was read").at(at + done as u64))
    }

    /// The next stretch from `at` on that is not a hole; `None` where only holes follow. For memory all is data.
    pub fn next_data(&self, at: u64) -> Result<Option<Range<u64>>, Fault> {
        match self.bytes.with_file(|file| sys::next_data(file, at, self.looks.len)) {
            Some(found) => found.map_err(|error| {
                let of_medium = sys::is_of_medium(&error);
                let fault = Fault::io(&self.name, "cannot look for holes", error).at(at);
                if of_medium { fault.of_medium() } else { fault }
            }),
            None => Ok((at < self.looks.len).then_some(at..self.looks.len)),
        }
    }

    /// The number of the file system that it is on, where files of one can share blocks.
    pub(super) fn file_system(&self) -> Option<u64> {
        self.looks.file_system
    }

    /// Makes `to` share blocks with this file; false where that cannot be. What is wrong the copying that follows finds too.
    pub(super) fn share(&self, at: u64, to: &File, to_at: u64, len: u64) -> bool {
        self.bytes.with_file(|file| sys::share(file, at, to, to_at, len)).is_some_and(|shared| shared.is_ok())
    }

    /// An error where the file's size or time is not what it was when it was opened (R4).
    pub fn unchanged(&self) -> Result<(), Fault> {
        if self.looks.kind == FileKind::BlockDevice {
            return Ok(());
        }
        let Some(meta) = self.bytes.with_file(|file| file.metadata()) else { return Ok(()) };
        let meta = meta.map_err(|e| Fault::io(&self.name, "cannot look at the file again", e))?;
        if meta.len() != self.looks.len {
            return Err(Fault::new(Kind::Changed, &self.name, "the file changed its size while it was read")
                .found(format!("{} bytes", meta.len()))
                .expected(self.looks.len)
                .advice("stop the machine or program that writes to it, then try again"));
        }
        if meta.modified().ok() != self.looks.modified {
            return Err(Fault::new(Kind::Changed, &self.name, "the file was written to while it was read")
                .advice("stop the machine or program that writes to it, then try again"));
        }
        Ok(())
    }

    /// Does this file lie on the same storage as a device, or under it: as its partition, as the file it is made of, as another device
    /// that is made of the same?
    pub fn shares_storage(&self, device: &File) -> Result<bool, Fault> {
        match self.bytes.with_file(|file| sys::share_storage(file, device)) {
            Some(shared) => shared.map_err(|e| Fault::io(&self.name, "cannot look at the file again", e)),
            None => Ok(false),
        }
    }

    /// Is `other` this very file, by whatever name or link? Asked of each pair of thousands: a look at the disk only where they look alike.
    pub fn is_same(&self, other: &InputFile) -> Result<bool, Fault> {
        Ok(self.looks == other.looks && self.is_at(&other.name)?)
    }

    /// True where `path` leads to this very file, by whatever name or link.
    pub fn is_at(&self, path: &Path) -> Result<bool, Fault> {
        match self.bytes.with_file(|file| sys::is_same(file, path)) {
            Some(same) => same.map_err(|e| Fault::io(path, "cannot look at", e)),
            None => Ok(path == self.name),
        }
    }
}
