//! The gate that every input passes, and positional reads from it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::sys::{self, FileKind};
use crate::fault::{Fault, Kind};

/// Number of a file among those of one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId(pub u32);

/// Opens every input of a run, read-only (rules.md R1), and numbers them.
///
/// Names are looked up in an overlay first: names that lead to bytes in memory. So an image can be read that has no file yet, or none
/// under that name.
#[derive(Default)]
pub struct Gate {
    overlay: HashMap<PathBuf, Arc<[u8]>>,
    opened: Vec<Arc<InputFile>>,
}

impl Gate {
    /// A gate without an overlay.
    pub fn new() -> Gate {
        Gate::default()
    }

    /// From now on `name` leads to `bytes`.
    pub fn lay_over(&mut self, name: impl Into<PathBuf>, bytes: impl Into<Arc<[u8]>>) {
        self.overlay.insert(name.into(), bytes.into());
    }

    /// Opens what the user typed: a regular file or a block device. Anything else is refused at once and never waited for
    /// (rules.md R3).
    pub fn typed(&mut self, name: &Path) -> Result<Arc<InputFile>, Fault> {
        let id =
            FileId(u32::try_from(self.opened.len()).map_err(|_| Fault::new(Kind::OverLimit, name, "too many files"))?);
        let file = Arc::new(match self.overlay.get(name) {
            Some(bytes) => InputFile::in_memory(id, name, Arc::clone(bytes)),
            None => InputFile::open(id, name)?,
        });
        self.opened.push(Arc::clone(&file));
        Ok(file)
    }

    /// The files opened so far.
    pub fn opened(&self) -> &[Arc<InputFile>] {
        &self.opened
    }
}

enum Bytes {
    File(File),
    Memory(Arc<[u8]>),
}

/// An input: positional reads only, so that any thread may read.
pub struct InputFile {
    id: FileId,
    name: PathBuf,
    bytes: Bytes,
    kind: FileKind,
    len: u64,
    allocated: u64,
    modified: Option<SystemTime>,
    read: AtomicU64,
}

impl InputFile {
    fn in_memory(id: FileId, name: &Path, bytes: Arc<[u8]>) -> InputFile {
        let len = bytes.len() as u64;
        InputFile {
            id,
            name: name.to_path_buf(),
            bytes: Bytes::Memory(bytes),
            kind: FileKind::Regular,
            len,
            allocated: len,
            modified: None,
            read: AtomicU64::new(0),
        }
    }

    fn open(id: FileId, name: &Path) -> Result<InputFile, Fault> {
        let cannot_open = |error| Fault::io(name, "cannot open", error);
        let acceptable = |kind| match kind {
            FileKind::Regular | FileKind::BlockDevice => Ok(()),
            other => Err(Fault::new(Kind::Unsupported, name, "an input must be a regular file or a block device")
                .found(other.words())),
        };
        // Looked at before it is opened, since opening some things fails with a riddle, and after, since it may have been exchanged.
        acceptable(sys::kind(&std::fs::metadata(name).map_err(cannot_open)?))?;
        let mut file = sys::open_read(name).map_err(cannot_open)?;
        let meta = file.metadata().map_err(cannot_open)?;
        let kind = sys::kind(&meta);
        acceptable(kind)?;
        let len = match kind {
            FileKind::BlockDevice => io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(cannot_open)?,
            _ => meta.len(),
        };
        let (allocated, modified) = match kind {
            FileKind::BlockDevice => (len, None),
            _ => (sys::allocated(&meta), meta.modified().ok()),
        };
        let name = name.to_path_buf();
        Ok(InputFile { id, name, bytes: Bytes::File(file), kind, len, allocated, modified, read: AtomicU64::new(0) })
    }

    /// Its number.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// Its name, as typed or as found.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Its length in bytes when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True for a file of no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that it takes up on its disk.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }

    /// True for a disk or an optical drive.
    pub fn is_block_device(&self) -> bool {
        self.kind == FileKind::BlockDevice
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
                Err(error) => return Err(Fault::io(&self.name, "cannot read", error).at(at + done as u64)),
            }
        }
        self.read.fetch_add(done as u64, Ordering::Relaxed);
        Ok(done)
    }

    fn read_some(&self, at: u64, bytes: &mut [u8]) -> io::Result<usize> {
        match &self.bytes {
            Bytes::File(file) => sys::read_at(file, bytes, at),
            Bytes::Memory(memory) => {
                let rest = usize::try_from(at).ok().and_then(|at| memory.get(at..)).unwrap_or_default();
                let n = rest.len().min(bytes.len());
                bytes[..n].copy_from_slice(&rest[..n]);
                Ok(n)
            }
        }
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
        match &self.bytes {
            Bytes::File(file) => {
                sys::next_data(file, at, self.len).map_err(|e| Fault::io(&self.name, "cannot look for holes", e).at(at))
            }
            Bytes::Memory(_) => Ok((at < self.len).then_some(at..self.len)),
        }
    }

    /// An error where the file's size or time is not what it was when it was opened (rules.md R4).
    pub fn unchanged(&self) -> Result<(), Fault> {
        let Bytes::File(file) = &self.bytes else { return Ok(()) };
        if self.kind == FileKind::BlockDevice {
            return Ok(());
        }
        let meta = file.metadata().map_err(|e| Fault::io(&self.name, "cannot look at the file again", e))?;
        if meta.len() != self.len {
            return Err(Fault::new(Kind::Changed, &self.name, "the file changed its size while it was read")
                .found(format!("{} bytes", meta.len()))
                .expected(self.len)
                .advice("stop the machine or program that writes to it, then convert again"));
        }
        if meta.modified().ok() != self.modified {
            return Err(Fault::new(Kind::Changed, &self.name, "the file was written to while it was read")
                .advice("stop the machine or program that writes to it, then convert again"));
        }
        Ok(())
    }

    /// True where `path` leads to this very file, by whatever name or link.
    pub fn is_at(&self, path: &Path) -> Result<bool, Fault> {
        match &self.bytes {
            Bytes::File(file) => sys::is_same(file, path).map_err(|e| Fault::io(path, "cannot look at", e)),
            Bytes::Memory(_) => Ok(path == self.name),
        }
    }
}
