//! What else in the file tells of grains: the markers of a stream, and the room that grains take up. Tables that contradict them lost
//! something, and what they lost is never read as nothing without a word.

use super::{Grain, GrainTables, Kind, Loss, State, Table};
use crate::fault::Fault;
use crate::format::vmdk::markers::{self, Item};
use crate::format::vmdk::stream::Packing;
use crate::image::SECTOR;
use crate::io::in_memory;

impl GrainTables {
    /// Up to which of the tables from `table` to `end`, which no directory has, the stream's markers agree: a grain that is there, and
    /// whose table is not, is never read as nothing.
    pub(super) fn without_markers(&self, state: &mut State, table: u64, end: u64) -> Result<u64, Fault> {
        if self.kind != Kind::Packed(Packing::Marker) || state.walked.0 > table {
            return Ok(end);
        }
        let mut agreed = end;
        loop {
            let Some(item) = self.marker(state)? else { return Ok(end) };
            match item {
                Item::Metadata { next } => state.walked.1 = next,
                // Of a table that nobody asked for: a child has all of it.
                Item::Grain { lba, next } if self.table_of(lba) < table => state.walked.1 = next,
                Item::Grain { lba, .. } if (table..end).contains(&self.table_of(lba)) => {
                    agreed = self.table_of(lba);
                    break;
                }
                Item::Grain { .. } | Item::End => break,
            }
        }
        state.walked.0 = agreed;
        Ok(agreed)
    }

    /// What stands where the walk over the markers is; `None`: the medium does not give it, and the walk ends there.
    fn marker(&self, state: &mut State) -> Result<Option<Item>, Fault> {
        match markers::item_at(&self.file, state.walked.1, &self.header) {
            Err(fault) if fault.is_of_medium() => {
                state.walked.0 = u64::MAX;
                let what = "from here on the tables of the stream are not held against its markers";
                self.ledger.warn_at(self.guest_start, fault.against(what));
                Ok(None)
            }
            item => item.map(Some),
        }
    }

    /// The table that has the entry of the grain at sector `lba` of the extent.
    pub(super) fn table_of(&self, lba: u64) -> u64 {
        lba / self.header.grain_sectors / u64::from(self.header.gtes_per_gt)
    }

    /// Holds the entries of a stream's table against the markers of the grains that follow: one that is there, and that the table does
    /// not have, is a loss and no zeroes. Streams are written in order; where one is not, its markers tell nothing.
    pub(super) fn hold_against_markers(
        &self,
        state: &mut State,
        number: u64,
        table: &mut Table,
        table_byte: u64,
    ) -> Result<(), Fault> {
        if self.kind != Kind::Packed(Packing::Marker) || state.walked.0 > number {
            return Ok(());
        }
        loop {
            let sector = state.walked.1;
            let Some(item) = self.marker(state)? else { return Ok(()) };
            match item {
                Item::Metadata { next } => state.walked.1 = next,
                Item::Grain { lba, next } if self.table_of(lba) < number => state.walked.1 = next,
                Item::Grain { lba, next } if self.table_of(lba) == number => {
                    state.walked.1 = next;
                    let index = in_memory(lba / self.header.grain_sectors % u64::from(self.header.gtes_per_gt));
                    if let Some(grain @ (Grain::Absent | Grain::Zero)) = table.grains.get(index).copied()
                        && lba.is_multiple_of(self.header.grain_sectors)
                    {
                        let what = "VMDK grain table has no entry for a grain whose marker is in the stream";
                        let copy = u32::try_from(sector).ok().map(|place| (sector * SECTOR, place));
                        let entry = u32::from(grain == Grain::Zero);
                        table.lose(index, Loss { what, primary: (table_byte + index as u64 * 4, entry), copy });
                    }
                }
                Item::Grain { .. } | Item::End => break,
            }
        }
        state.walked.0 = number + 1;
        Ok(())
    }

    /// When every table was read: grains of the file that none of them names. A table that was zeroed in both copies leaves them, and
    /// reads as if nothing had ever been there.
    pub(super) fn count_unnamed(&self, state: &mut State) {
        let floor = self.floor.next_multiple_of(self.header.grain_sectors);
        let stored = (self.file.len() / SECTOR).saturating_sub(floor) / self.header.grain_sectors;
        let named = std::mem::replace(&mut state.named, u64::MAX);
        if named < stored {
            let what = "the VMDK holds grains that none of its tables names: leftovers, or data whose tables were lost";
            let warning = Fault::damaged(self.file.name(), floor * SECTOR, what);
            self.ledger.warn_at(u64::MAX, warning.found(format!("{stored} grains")).against(format!("{named} named")));
        }
    }
}
