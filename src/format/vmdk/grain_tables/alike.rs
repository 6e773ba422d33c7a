//! Tables of which every grain is alike are one stretch of the disk, and cost no more than one: those that are not there, those that are
//! nowhere, those without an entry.

use std::sync::PoisonError;

use super::{DIRECTORY_PAGE, GrainTables, Kind, Loss, State};
use crate::fault::Fault;
use crate::image::{Here, SECTOR};

impl GrainTables {
    /// The end of the tables from `table` on that are alike, and what holds their grains; `None`: this one is to be read grain by grain.
    pub(super) fn tables_alike(&self, table: u64) -> Result<Option<(u64, Here)>, Fault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.tables.iter().any(|(kept, _)| *kept == table) {
            return Ok(None);
        }
        let alike = if let Some(end) = self.absent_tables(&mut state, table)? {
            Some((end, Here::Absent))
        } else if let Some((end, loss)) = self.lost_tables(&mut state, table)? {
            Some((end, Here::Lost(loss.fault(&self.file))))
        } else {
            self.empty_tables(&mut state, table)?.map(|end| (end, Here::Absent))
        };
        if let Some((end, _)) = alike {
            self.looked_up_to(&mut state, end);
        }
        Ok(alike)
    }

    /// Where tables may be left out: the end of the tables from `table` on that no directory has, as far as the page in hand tells.
    fn absent_tables(&self, state: &mut State, table: u64) -> Result<Option<u64>, Fault> {
        if self.kind == Kind::Plain {
            return Ok(None);
        }
        let page_end = ((table / DIRECTORY_PAGE + 1) * DIRECTORY_PAGE).min(self.header.tables());
        let mut end = table;
        while end < page_end {
            let mut known = false;
            for (copy, directory) in self.directories.iter().enumerate() {
                match self.gde(state, copy, *directory, end) {
                    Ok(0) => known = true,
                    Ok(_) => return Ok((end > table).then_some(end)),
                    Err(fault) if fault.is_of_medium() => {
                        let what = "its copy counts, where there is one";
                        self.warn(state, self.first_guest(end), fault.against(what));
                    }
                    Err(fault) => return Err(fault),
                }
            }
            if !known {
                return Ok((end > table).then_some(end));
            }
            end += 1;
        }
        let end = self.without_markers(state, table, end)?;
        Ok((end > table).then_some(end))
    }

    /// The end of the tables from `table` on that are nowhere, as far as the page in hand tells, and where the directories lead the first:
    /// they are one stretch of the disk that is lost, and cost no more than one.
    fn lost_tables(&self, state: &mut State, table: u64) -> Result<Option<(u64, Loss)>, Fault> {
        if let Some((tables, loss)) = state.nowhere.as_ref().filter(|(tables, _)| tables.contains(&table)) {
            return Ok(Some((tables.end, *loss)));
        }
        self.list_tables(state)?;
        let page_end = ((table / DIRECTORY_PAGE + 1) * DIRECTORY_PAGE).min(self.header.tables());
        let (mut end, mut first) = (table, None);
        while end < page_end {
            let Some(loss) = self.nowhere(state, end)? else { break };
            first = first.or(Some(loss));
            end += 1;
        }
        let Some(loss) = first else { return Ok(None) };
        state.nowhere = Some((table..end, loss));
        self.count_seen(state, table..end, 0);
        Ok(Some((end, loss)))
    }

    /// Is this table nowhere, by each directory? Not where the medium does not give an entry, nor where none may be missing.
    fn nowhere(&self, state: &mut State, table: u64) -> Result<Option<Loss>, Fault> {
        let (mut places, mut absent) = ([None; 2], self.kind != Kind::Plain);
        for (copy, (directory, place)) in self.directories.iter().zip(&mut places).enumerate() {
            match self.gde(state, copy, *directory, table) {
                Ok(sector) if self.table_is_there(state, copy, table, sector)? => return Ok(None),
                Ok(sector) => {
                    absent &= sector == 0;
                    *place = Some((self.gde_byte(*directory, table), sector));
                }
                Err(fault) if fault.is_of_medium() => return Ok(None),
                Err(fault) => return Err(fault),
            }
        }
        let [primary, copy] = places;
        let what = "VMDK grain directory entry cannot be";
        Ok(primary.filter(|_| !absent).map(|primary| Loss { what, primary, copy }))
    }

    /// The end of the tables from `table` on that are there and name no grain in any copy. Behind markers that may still be a loss.
    fn empty_tables(&self, state: &mut State, table: u64) -> Result<Option<u64>, Fault> {
        if let Some(tables) = state.empty.as_ref().filter(|tables| tables.contains(&table)) {
            return Ok(Some(tables.end));
        }
        self.look_at(state, table);
        if matches!(self.kind, Kind::Packed(_)) {
            return Ok(None);
        }
        let most = self.header.tables().min(table + state.together);
        let mut end = table;
        while end < most && self.is_empty(state, end)? {
            end += 1;
        }
        if end == table {
            return Ok(None);
        }
        state.empty = Some(table..end);
        self.count_seen(state, table..end, 0);
        Ok(Some(end))
    }

    /// Is this table where each directory has it, and without an entry? What is odd about it is for those who read it to tell.
    fn is_empty(&self, state: &mut State, table: u64) -> Result<bool, Fault> {
        for (copy, directory) in self.directories.iter().enumerate() {
            let sector = match self.gde(state, copy, *directory, table) {
                Ok(sector) => sector,
                Err(fault) if fault.is_of_medium() => return Ok(false),
                Err(fault) => return Err(fault),
            };
            if !self.table_is_there(state, copy, table, sector)? {
                return Ok(false);
            }
            let entries = self.read_together(state, copy, table, sector)?;
            if !entries.are_zero(u64::from(sector) * SECTOR, self.header.entries_of(table)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
