//! Tables that lie behind each other in the file, in the order of the directory, are read together: writers put them so. More and more
//! of them, as long as they are looked at in that order; who looks here and there pays for what he looks at.

use super::{DIRECTORY_PAGE, Entries, GrainTables, State};
use crate::fault::Fault;
use crate::image::SECTOR;

/// Bytes of tables that are read together at most.
const TOGETHER: u64 = 64 << 10;

impl GrainTables {
    /// Bytes from one table to the next that lies behind it.
    fn table_bytes(&self) -> u64 {
        self.header.gt_sectors().saturating_mul(SECTOR)
    }

    /// A look at `table`, which is not in hand: as many are read together, if they lie so, as looks came in order.
    pub(super) fn look_at(&self, state: &mut State, table: u64) {
        let most = (TOGETHER / self.table_bytes().max(1)).max(1);
        state.together = if table == state.next { (state.together * 2).min(most) } else { 1 };
    }

    /// Entries that have those of `table` among them, which directory number `copy` has at `sector`, a place where it can be.
    pub(super) fn read_together<'a>(
        &self,
        state: &'a mut State,
        copy: usize,
        table: u64,
        sector: u32,
    ) -> Result<&'a Entries, Fault> {
        let (at, count) = (u64::from(sector) * SECTOR, self.header.entries_of(table));
        let in_hand = state.ahead.get(copy).and_then(Option::as_ref);
        if !in_hand.is_some_and(|(_, entries)| entries.have(at, count)) {
            let last = self.last_behind(state, copy, table, sector)?;
            let count = (last - table) * (self.table_bytes() / 4) + self.header.entries_of(last);
            let read = Entries::read(&self.file, at, count)?;
            *state.ahead.get_mut(copy).ok_or_else(|| Fault::bug("a directory without its tables"))? =
                Some((last, read));
        }
        let read = state.ahead.get(copy).and_then(Option::as_ref);
        read.map(|(_, entries)| entries).ok_or_else(|| Fault::bug("tables that were read are not there"))
    }

    /// The look went on to the tables from `end` on. A disk may have thousands of extents: none holds on to what was read together and
    /// lies behind.
    pub(super) fn looked_up_to(&self, state: &mut State, end: u64) {
        state.next = end;
        for ahead in &mut state.ahead {
            ahead.take_if(|(last, _)| *last < end);
        }
    }

    /// The last of the tables that lie behind `table` one by one, as far as the page of the directory in hand tells.
    fn last_behind(&self, state: &mut State, copy: usize, table: u64, sector: u32) -> Result<u64, Fault> {
        let directory = *self.directories.get(copy).ok_or_else(|| Fault::bug("no such directory"))?;
        let page_end = ((table / DIRECTORY_PAGE + 1) * DIRECTORY_PAGE).min(self.header.tables());
        let end = page_end.min(table + state.together);
        let (mut last, mut next) = (table, u64::from(sector) + self.header.gt_sectors());
        while last + 1 < end {
            match self.gde(state, copy, directory, last + 1) {
                Ok(place) if u64::from(place) == next && self.table_can_be(place) => {}
                Err(fault) if !fault.is_of_medium() => return Err(fault),
                _ => break,
            }
            (last, next) = (last + 1, next + self.header.gt_sectors());
        }
        Ok(last)
    }
}
