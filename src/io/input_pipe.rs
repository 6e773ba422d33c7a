//! An input that cannot seek: standard input. Read in order, once, and never waited for without a look at the stop flag.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::sys;
use crate::fault::{Fault, Kind};

/// How long the flag is not looked at.
const WAIT: Duration = Duration::from_millis(100);
/// The first bytes, which identify a source that has no identifier.
const HEAD: usize = 64 << 10;

/// A way in for bytes.
pub struct InputPipe {
    file: File,
    name: PathBuf,
    at: u64,
    /// Bytes that were taken out of it so far, for who does not have it in hand any more.
    received: Arc<AtomicU64>,
    /// The first bytes.
    head: Vec<u8>,
    stop: Arc<AtomicBool>,
}

impl InputPipe {
    /// Standard input, under a name for messages. Waits for its first bytes.
    pub fn stdin(name: &Path, stop: Arc<AtomicBool>) -> Result<InputPipe, Fault> {
        let file = sys::stdin_file().map_err(|error| Fault::io(name, "cannot use standard input", error))?;
        let mut pipe =
            InputPipe { file, name: name.to_path_buf(), at: 0, received: Arc::default(), head: Vec::new(), stop };
        let mut head = vec![0; HEAD];
        let got = pipe.receive(&mut head)?;
        head.truncate(got);
        pipe.head = head;
        Ok(pipe)
    }

    /// Its name, for messages.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Bytes that came in.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Counts, as they come, the bytes that were taken out of it.
    pub fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    /// The first 64 KiB, or all where the sender ended before; they come out of it all the same.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Reads until `bytes` is full or the sender has ended; the bytes read.
    pub fn read_up_to(&mut self, bytes: &mut [u8]) -> Result<usize, Fault> {
        let ahead = usize::try_from(self.at).ok().and_then(|at| self.head.get(at..)).unwrap_or_default();
        let known = ahead.len().min(bytes.len());
        let (first, rest) = bytes.split_at_mut(known);
        first.copy_from_slice(ahead.get(..known).unwrap_or_default());
        let done = known + self.receive(rest)?;
        self.at += done as u64;
        Ok(done)
    }

    fn receive(&self, bytes: &mut [u8]) -> Result<usize, Fault> {
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Fault::new(Kind::Interrupted, "", "interrupted; no output was made"));
            }
            match sys::read_within(&self.file, rest, WAIT) {
                Ok(Some(0)) => break,
                Ok(Some(n)) => {
                    done += n;
                    self.received.fetch_add(n as u64, Ordering::Relaxed);
                }
                Ok(None) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(error) => return Err(Fault::io(&self.name, "cannot read", error).at(self.at + done as u64)),
            }
        }
        Ok(done)
    }

    /// Fills `bytes`; a sender that ends before that is damage.
    pub fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), Fault> {
        match self.read_up_to(bytes)? == bytes.len() {
            true => Ok(()),
            false => Err(self.ended()),
        }
    }

    /// Passes over `len` bytes.
    pub fn skip(&mut self, len: u64) -> Result<(), Fault> {
        let mut left = len;
        let mut bytes = vec![0; 64 << 10];
        while left > 0 {
            let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            self.read_exact(bytes.get_mut(..n).unwrap_or_default())?;
            left -= n as u64;
        }
        Ok(())
    }

    /// The fault of a sender that ended too early.
    pub fn ended(&self) -> Fault {
        Fault::damaged(&self.name, self.at, "the stream ends too early: did the sender fail?")
    }
}
