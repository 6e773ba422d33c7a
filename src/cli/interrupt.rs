//! Signals, as a flag that the engine looks at.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use vdconv::fault::{Fault, Kind};
use vdconv::io::sys;

/// SIGINT, SIGTERM, SIGHUP; Ctrl-C on Windows.
#[derive(Default)]
pub struct Interrupt {
    watching: Cell<bool>,
    flag: Arc<AtomicBool>,
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// From now on a signal sets the flag instead of ending the program.
    pub fn watch(&self) -> anyhow::Result<()> {
        // Once: a second watcher would take the first signal for the second.
        match self.watching.replace(true) {
            true => Ok(()),
            false => Ok(sys::watch_signals(&self.flag, &self.signal)?),
        }
    }

    /// Set when a signal came.
    pub fn flag(&self) -> &AtomicBool {
        &self.flag
    }

    /// The same flag, to be kept.
    pub fn shared(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// After the clean-up, if a signal came: ends the program as it would have, so that a shell's loop stops too.
    pub fn end_by_it(&self) {
        if self.flag.load(Ordering::SeqCst) {
            sys::end_by_signal(self.signal.load(Ordering::SeqCst));
        }
    }

    /// 128 and the signal's number, should the program still be there.
    pub fn status(&self) -> u8 {
        u8::try_from(128 + self.signal.load(Ordering::SeqCst)).unwrap_or(u8::MAX)
    }
}

/// The fault of a run that makes nothing: interrupted, it does not speak of an output.
pub fn while_reading(fault: Fault) -> Fault {
    match fault.kind() {
        Kind::Interrupted => Fault::new(Kind::Interrupted, "", "interrupted"),
        _ => fault,
    }
}
