//! The warnings of a run: told as they come, kept for its report.

use vdconv::fault::Fault;
use vdconv::image::Ledger;

use super::show;

/// What was warned of so far.
pub struct Warnings {
    quiet: bool,
    told: Vec<Fault>,
}

impl Warnings {
    /// None yet; `quiet`: they are kept for the report alone.
    pub fn new(quiet: bool) -> Warnings {
        Warnings { quiet, told: Vec::new() }
    }

    /// Tells these.
    pub fn tell(&mut self, new: impl IntoIterator<Item = Fault>) {
        let new: Vec<_> = new.into_iter().collect();
        if !self.quiet {
            show::warnings(&new);
        }
        self.told.extend(new);
    }

    /// Tells what came to a disk's ledger since the last time.
    pub fn of(&mut self, ledger: &Ledger) {
        self.tell(ledger.drain());
    }

    /// The same at the end, when it is known how many of a kind there were.
    pub fn at_the_end_of(&mut self, ledger: &Ledger) {
        self.of(ledger);
        self.tell(ledger.surplus());
    }

    /// All that were told.
    pub fn all(&self) -> &[Fault] {
        &self.told
    }
}
