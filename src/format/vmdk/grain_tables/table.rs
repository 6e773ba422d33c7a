//! A table in memory, its copies held against each other.

use crate::fault::Fault;
use crate::io::InputFile;

/// What the tables say of a grain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grain {
    /// Not in this image.
    Absent,
    /// Zero, whatever a parent holds.
    Zero,
    /// Stored at this sector.
    At(u32),
    /// Cannot be had: the number of the table's loss that says what the copies say, and at which bytes.
    Lost(u32),
    /// The medium does not give the entry: the number of the table's fault that says so.
    Unread(u32),
}

/// A table.
#[derive(Default)]
pub(super) struct Table {
    /// What it says, grain by grain.
    pub(super) grains: Vec<Grain>,
    losses: Vec<Loss>,
    faults: Vec<Fault>,
}

impl Table {
    /// A grain that cannot be had, for this reason.
    pub(super) fn lost(&mut self, loss: Loss) -> Grain {
        if self.losses.last() != Some(&loss) {
            self.losses.push(loss);
        }
        Grain::Lost(last(&self.losses))
    }

    /// Makes a grain one that cannot be had.
    pub(super) fn lose(&mut self, index: usize, loss: Loss) {
        let lost = self.lost(loss);
        if let Some(grain) = self.grains.get_mut(index) {
            *grain = lost;
        }
    }

    /// A grain whose entry the medium does not give. Entries of one unreadable place are unread for one reason.
    pub(super) fn unread(&mut self, fault: Fault) -> Grain {
        if self.faults.last().is_none_or(|last| last.byte() != fault.byte()) {
            self.faults.push(fault);
        }
        Grain::Unread(last(&self.faults))
    }

    /// Why a grain is lost.
    pub(super) fn loss(&self, number: u32) -> Result<Loss, Fault> {
        let loss = self.losses.get(number as usize).copied();
        loss.ok_or_else(|| Fault::bug("a grain that is lost, without a reason"))
    }

    /// Why an entry cannot be read.
    pub(super) fn fault(&self, number: u32) -> Result<Fault, Fault> {
        let fault = self.faults.get(number as usize).cloned();
        fault.ok_or_else(|| Fault::bug("an entry that cannot be read, without a reason"))
    }
}

/// The number of a list's last item: lists are no longer than a table, whose entries 32 bits count.
fn last<T>(list: &[T]) -> u32 {
    u32::try_from(list.len().saturating_sub(1)).unwrap_or(u32::MAX)
}

/// Why a grain cannot be had: what the copies say of it, each with the byte of its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) what: &'static str,
    pub(super) primary: (u64, u32),
    pub(super) copy: Option<(u64, u32)>,
}

impl Loss {
    /// The loss as a fault of `file`.
    pub(super) fn fault(self, file: &InputFile) -> Fault {
        let (byte, entry) = self.primary;
        let fault = Fault::damaged(file.name(), byte, self.what).found(format!("sector {entry}"));
        match self.copy {
            Some((byte, entry)) => fault.against(format!("its copy at byte {byte} says sector {entry}")),
            None => fault,
        }
    }
}
