//! Which place of the file is whose: grains that lie on each other or on a table, and tables that lie on either (R8).

use std::ops::Range;

use super::entries::Entries;
use super::{DIRECTORY_PAGE, Grain, GrainTables, Kind, Loss, State, Table, claimed_sectors};
use crate::fault::Fault;
use crate::format::vmdk::markers;
use crate::format::vmdk::stream::Packing;
use crate::image::{Named, SECTOR};

/// The most places of tables that are listed, beside what the ledger has memory for: 32 MiB of them, tables for a quarter of a PiB of grains as products make them.
const MOST_LISTED: usize = 8 << 20;

impl GrainTables {
    /// Notes where all tables are said to lie, before any grain is judged: a grain may lie on a table that comes later, or an entry of the
    /// directory lead into grains. Nothing where tables cannot lie among the grains, or where each grain has its own marker.
    pub(super) fn list_tables(&self, state: &mut State) -> Result<(), Fault> {
        let apart = self.tables_end != u64::MAX || self.kind == Kind::Packed(Packing::Marker);
        if apart || state.listed.is_some() {
            return Ok(());
        }
        let (mut found, mut sort_at) = (Vec::new(), 1 << 16);
        for directory in &self.directories {
            let mut first = 0;
            while first < self.header.tables() {
                let count = (self.header.tables() - first).min(DIRECTORY_PAGE);
                let at = self.gde_byte(*directory, first);
                // A hole of the file names no table, and costs nothing.
                match self.file.next_data(at) {
                    Ok(None) => break,
                    Ok(Some(data)) if data.start >= at + count * 4 => {
                        first += (data.start - at) / 4;
                        continue;
                    }
                    // What cannot be asked is read.
                    Ok(Some(_)) | Err(_) => {}
                }
                let entries = Entries::read(&self.file, at, count)?;
                found.extend(entries.known().filter(|sector| self.table_can_be(*sector)));
                if found.len() > sort_at {
                    found.sort_unstable();
                    found.dedup();
                    sort_at = (2 * found.len()).max(sort_at);
                }
                if found.len() > MOST_LISTED {
                    return Err(Fault::new(
                        crate::fault::Kind::OverLimit,
                        self.file.name(),
                        "the VMDK has more grain tables than are held against its grains",
                    )
                    .at(at)
                    .expected(format!("at most {MOST_LISTED}")));
                }
                first += count;
            }
        }
        found.sort_unstable();
        found.dedup();
        found.shrink_to_fit();
        state.listed = Some(found);
        Ok(())
    }

    /// Is this table there: where one can be, marked as one where tables are, no other one's place, and no grain's?
    pub(super) fn table_is_there(
        &self,
        state: &mut State,
        copy: usize,
        number: u64,
        sector: u32,
    ) -> Result<bool, Fault> {
        if !self.table_can_be(sector) {
            return Ok(false);
        }
        let (start, len) = (u64::from(sector), self.header.gt_sectors());
        if self.header.marked_tables && markers::in_front_of(&self.file, start)? != Some(markers::TABLE) {
            return Ok(false);
        }
        if state.overlaps.meets(start * SECTOR..(start + len) * SECTOR) {
            return Ok(false);
        }
        let all = state.overlaps.is_looked_through();
        state.placed.place((&self.file, &self.ledger), copy, start, number, all)
    }

    /// Counts tables that were looked at, with the grains that they name; after the last one, grains that none names are told.
    pub(super) fn count_seen(&self, state: &mut State, tables: Range<u64>, named: u64) {
        if !tables.contains(&state.seen) {
            return;
        }
        state.seen = tables.end;
        state.named = state.named.saturating_add(named);
        if self.kind == Kind::Plain && state.seen == self.header.tables() {
            self.count_unnamed(state);
        }
    }

    /// Grains of a table that is first read are claimed; one that overlaps another's is lost.
    pub(super) fn claim(
        &self,
        state: &mut State,
        number: u64,
        table: &mut Table,
        table_byte: u64,
    ) -> Result<(), Fault> {
        let State { overlaps, placed, listed, .. } = state;
        // A table without a grain has nothing to claim, and nothing of it is remembered.
        if !table.grains.iter().any(|grain| matches!(grain, Grain::At(_))) {
            return Ok(());
        }
        let (unit, table_sectors) = (claimed_sectors(self.kind, &self.header), self.header.gt_sectors());
        let on_a_table = |sector: u64| {
            let (from, until) = (sector.saturating_sub(table_sectors - 1), sector + unit);
            let listed = listed.as_deref().unwrap_or_default();
            let next = listed.partition_point(|start| u64::from(*start) < from);
            listed.get(next).is_some_and(|start| u64::from(*start) < until) || placed.meet(sector..until)
        };
        let units = table.grains.iter().enumerate().filter_map(|(index, grain)| match *grain {
            Grain::At(sector) => {
                let sector = u64::from(sector);
                Some(Named { index, at: sector * SECTOR, on_other: on_a_table(sector) })
            }
            _ => None,
        });
        if overlaps.claim(number, self.file.name(), "VMDK grains", units)? {
            let what = "the VMDK grain tables are too large to look for overlaps to their end";
            self.ledger.warn_at(
                self.first_guest(number),
                Fault::new(crate::fault::Kind::OverLimit, self.file.name(), what).at(table_byte),
            );
        }
        for index in 0..table.grains.len() {
            let Some(Grain::At(sector)) = table.grains.get(index).copied() else { continue };
            if overlaps.overlaps(number, index, u64::from(sector) * SECTOR) {
                let what = "VMDK grain lies where another grain lies, or a table";
                table.lose(index, Loss { what, primary: (table_byte + index as u64 * 4, sector), copy: None });
            }
        }
        Ok(())
    }
}
