//! Where grains lie, when all are known: from where on, at which multiples, and the room that they leave.

use super::super::id;
use super::{Kept, Sweep};
use crate::fault::Fault;
use crate::format::check::first_data;
use crate::format::vmdk::header::at;
use crate::format::vmdk::markers;
use crate::format::vmdk::stream::Packing;
use crate::image::{Findings, Regions, SECTOR};

impl Sweep<'_> {
    /// Where the first grain lies, what they begin at, and room for grains that no entry names.
    pub(super) fn look_at_places(&self, grains: &mut Regions, findings: &mut Findings) -> Result<(), Fault> {
        if let Some(first) = grains.first_unit().map(u64::from)
            && !self.grains_begin_at_overhead(first)?
        {
            findings.warning(id::OVERHEAD, || {
                let other = self.odd(at::OVERHEAD as u64, "VMDK overHead is not where the first grain lies");
                other.found(format!("sector {}", self.header.overhead)).expected(format!("sector {first}"))
            });
        }
        if let (count, Some((byte, sector))) = self.unaligned.get() {
            findings.note(id::GTE_UNALIGNED, || {
                let odd = self.odd(byte, "VMDK grain does not begin at a multiple of its length");
                odd.found(format!("sector {sector}")).against(format!("so {count} of {} grains", grains.units()))
            });
        }
        match self.kept {
            Kept::AllTables => self.look_at_room(grains, findings),
            _ => Ok(()),
        }
    }

    /// Room for grains that no entry names, but for that of grains that became zero.
    fn look_at_room(&self, grains: &mut Regions, findings: &mut Findings) -> Result<(), Fault> {
        let grain = self.header.grain_sectors;
        let floor = self.floor.next_multiple_of(grain) * SECTOR;
        let gaps = grains.gaps(grain * SECTOR, self.file.len());
        let behind = gaps.into_iter().filter(|gap| gap.end > floor).map(|gap| gap.start.max(floor)..gap.end);
        let room: Vec<_> = behind.filter(|gap| gap.end - gap.start >= grain * SECTOR).collect();
        let left: u64 = room.iter().map(|gap| (gap.end - gap.start) / (grain * SECTOR)).sum();
        // Where grains lie off their multiples the room may be in pieces.
        let stored = self.file.len().saturating_sub(floor) / (grain * SECTOR);
        if left <= self.zeroes.get() && stored <= grains.units() + self.zeroes.get() {
            return Ok(());
        }
        let mut data = None;
        for gap in &room {
            data = first_data(self.file, gap.clone())?;
            if data.is_some() {
                break;
            }
        }
        let fault = |what: &'static str| {
            let bytes: u64 = room.iter().map(|gap| gap.end - gap.start).sum();
            let first = room.first().map_or(floor, |gap| gap.start);
            let found = format!("{bytes} bytes in {} stretches, the first at byte {first}", room.len());
            self.odd(floor, what).found(found)
        };
        match data {
            Some(_) => findings.warning(id::UNREFERENCED, || {
                fault("the VMDK holds grains that none of its tables names: leftovers, or data whose tables were lost")
            }),
            None => findings.note(id::UNREFERENCED, || {
                fault("the VMDK has room for grains that none of its tables names, and no data in it")
            }),
        }
        Ok(())
    }

    /// Is overHead the first grain's place, though the first that an entry names be another: of a grain whose entry was lost?
    fn grains_begin_at_overhead(&self, first: u64) -> Result<bool, Fault> {
        let overhead = self.header.overhead;
        Ok(match self.kept {
            _ if first == overhead => true,
            Kept::AllTables => first.checked_sub(overhead).is_some_and(|room| room >= self.header.grain_sectors),
            Kept::SomeTables => true,
            // None may lie in front of it; what is there by its first bytes is a grain, where there are no markers.
            Kept::Packed { .. } if first < overhead => false,
            Kept::Packed { packing: Packing::Length | Packing::Bare, .. } => true,
            Kept::Packed { packing: Packing::Marker, .. } => {
                matches!(markers::item_at(self.file, overhead, self.header)?, markers::Item::Grain { .. })
            }
        })
    }
}
