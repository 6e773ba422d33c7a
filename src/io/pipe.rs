//! An output that cannot seek: standard output, a FIFO, a character device. Written in order, in place, and never waited for without a
//! look at the stop flag: a receiver that does not read must not keep a signal from being answered.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::sys;
use crate::fault::{Fault, Kind};

/// How long the flag is not looked at.
const WAIT: Duration = Duration::from_millis(100);

/// A way out for bytes.
pub struct Pipe {
    file: File,
    name: PathBuf,
    /// Bytes that went out.
    done: Mutex<u64>,
    stop: Arc<AtomicBool>,
}

impl Pipe {
    /// Standard output, under a name for messages.
    pub fn stdout(name: &Path, stop: Arc<AtomicBool>) -> Result<Pipe, Fault> {
        let file = sys::stdout_file().map_err(|error| Fault::io(name, "cannot use standard output", error))?;
        Ok(Pipe::new(file, name, stop))
    }

    /// A FIFO or a character device, which is not replaced. Waits for the FIFO's reader.
    pub fn open(path: &Path, stop: Arc<AtomicBool>) -> Result<Pipe, Fault> {
        loop {
            match sys::open_to_write_in_place(path) {
                Ok(Some(file)) if io::IsTerminal::is_terminal(&file) => {
                    return Err(Fault::new(Kind::Usage, path, "a disk is not written to a terminal"));
                }
                Ok(Some(file)) => return Ok(Pipe::new(file, path, stop)),
                Ok(None) if stop.load(Ordering::Relaxed) => return Err(interrupted()),
                Ok(None) => std::thread::sleep(WAIT),
                Err(error) => return Err(Fault::io(path, "cannot open the output", error)),
            }
        }
    }

    fn new(file: File, name: &Path, stop: Arc<AtomicBool>) -> Pipe {
        Pipe { file, name: name.to_path_buf(), done: Mutex::new(0), stop }
    }

    /// Its name, for messages.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Bytes that went out.
    pub fn written(&self) -> u64 {
        *self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all of `bytes`, which must be what comes next.
    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if *done != at {
            return Err(Fault::bug("a write out of order to an output that cannot seek"));
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(interrupted());
            }
            match sys::write_within(&self.file, rest, WAIT) {
                Ok(n) => {
                    rest = rest.get(n..).unwrap_or_default();
                    *done += n as u64;
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(error) => return Err(Fault::io(&self.name, "cannot write", error).at(*done)),
            }
        }
        Ok(())
    }
}

fn interrupted() -> Fault {
    Fault::new(Kind::Interrupted, "", "interrupted; the output is not whole")
}
