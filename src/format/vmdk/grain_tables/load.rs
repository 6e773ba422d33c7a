//! A table as it is read: its copies held against each other, entry by entry.
//!
//! Writers keep two directories with a table each. Where they differ, what can be decides, entry by entry, when a table is first read:
//! an entry that cannot be gives way to one that can; 0 (nothing here yet) gives way to a grain, since a writer that died between its two
//! updates leaves that; an entry that the medium does not give gives way to its copy; two grains that differ, or two entries that cannot be, are a loss that names both places.
//! In a snapshot an entry that cannot be, with 0 in its copy, is a loss too: if the copy is what is old, the parent's data would show
//! where the snapshot has its own.

use super::{Grain, GrainTables, Kind, Loss, State, Table};
use crate::fault::Fault;
use crate::format::vmdk::stream::Packing;
use crate::image::SECTOR;
use crate::io::in_memory;

impl GrainTables {
    /// The grains of a table, what of them is odd told, and their places claimed.
    pub(super) fn load(&self, state: &mut State, number: u64) -> Result<Table, Fault> {
        let count = self.header.entries_of(number);
        let first_guest = self.first_guest(number);
        self.list_tables(state)?;
        // The tables that can be, and what is odd about the others.
        let (mut copies, mut gdes, mut odd, mut unread) = (Vec::new(), Vec::new(), None, None);
        for (copy, directory) in self.directories.iter().enumerate() {
            let gde_byte = self.gde_byte(*directory, number);
            let found = self.gde(state, copy, *directory, number).and_then(|sector| {
                gdes.push((gde_byte, sector));
                Ok((sector, self.table_is_there(state, copy, number, sector)?))
            });
            match found {
                Ok((sector, true)) => {
                    let byte = u64::from(sector) * SECTOR;
                    if copies.iter().all(|(other, _)| *other != byte) {
                        let entries = self.read_together(state, copy, number, sector)?.part(byte, count);
                        copies.push((byte, entries.ok_or_else(|| Fault::bug("a table that was not read"))?));
                    }
                }
                Ok((sector, false)) => {
                    let fault = Fault::damaged(self.file.name(), gde_byte, "VMDK grain directory entry cannot be");
                    odd = odd.or(Some(fault.found(format!("sector {sector}"))));
                }
                Err(fault) if fault.is_of_medium() => {
                    odd = odd.or(Some(fault.clone()));
                    unread = unread.or(Some(fault));
                }
                Err(fault) => return Err(fault),
            }
        }
        // Of a snapshot's table that is nowhere its copy may be the older one: what that does not have is not the parent's.
        let without = match gdes.as_slice() {
            [one, other] if self.is_child && copies.len() == 1 && odd.is_some() => {
                let what = "VMDK grain directory entry cannot be, and the copy of its table has nothing";
                Some(Loss { what, primary: *one, copy: Some(*other) })
            }
            _ => None,
        };
        if let Some(odd) = odd.filter(|_| !copies.is_empty()) {
            self.warn(state, first_guest, odd.against("its copy is used"));
        }
        let mut table = Table::default();
        table.grains.reserve_exact(in_memory(count));
        match copies.as_slice() {
            [] => {
                let primary = gdes.first().copied().unwrap_or_default();
                let loss = Loss { what: "VMDK grain directory entry cannot be", primary, copy: gdes.get(1).copied() };
                let grain = match unread {
                    Some(fault) => table.unread(fault),
                    None => table.lost(loss),
                };
                table.grains.resize(in_memory(count), grain);
            }
            [(byte, entries), others @ ..] => {
                for index in 0..in_memory(count) {
                    let offset = index as u64 * 4;
                    let guest = first_guest + index as u64 * self.header.grain_sectors * SECTOR;
                    let entry = entries.get(index).ok_or_else(|| Fault::bug("a grain behind its table"))?;
                    let copy = others.first().and_then(|(byte, entries)| Some((byte + offset, entries.get(index)?)));
                    let (primary, copy) = match (entry, copy) {
                        (Ok(entry), None) => ((byte + offset, entry), None),
                        (Ok(entry), Some((at, Ok(other)))) => ((byte + offset, entry), Some((at, other))),
                        (Ok(entry), Some((_, Err(fault)))) => {
                            self.warn(state, guest, fault.against("its copy is used"));
                            ((byte + offset, entry), None)
                        }
                        (Err(fault), Some((at, Ok(other)))) => {
                            self.warn(state, guest, fault.against("its copy is used"));
                            ((at, other), None)
                        }
                        (Err(fault), None | Some((_, Err(_)))) => {
                            let grain = table.unread(fault);
                            table.grains.push(grain);
                            continue;
                        }
                    };
                    let (said, differ) = self.decide(primary.1, copy.map(|(_, other)| other));
                    if differ && said.is_ok() {
                        let ((byte, entry), (at, other)) = (primary, copy.unwrap_or_default());
                        let what = "VMDK grain tables differ from their copies: the entries that can be are used";
                        let differs = Fault::damaged(self.file.name(), byte, what).found(format!("sector {entry}"));
                        self.warn(state, guest, differs.against(format!("the copy at byte {at} says sector {other}")));
                    }
                    let grain = match (said, without) {
                        (Ok(Grain::Absent), Some(loss)) => table.lost(loss),
                        (Ok(grain), _) => grain,
                        (Err(what), _) => table.lost(Loss { what, primary, copy }),
                    };
                    table.grains.push(grain);
                }
            }
        }
        if self.kind == Kind::PlainSomeTables
            && let Some(index) = table.grains.iter().position(|grain| *grain == Grain::Zero)
        {
            let byte = copies.first().map_or(0, |(byte, _)| byte + index as u64 * 4);
            let what = "a COWD grain table entry of 1, which no known product writes, is read as zero";
            let guest = first_guest + index as u64 * self.header.grain_sectors * SECTOR;
            self.warn(state, guest, Fault::damaged(self.file.name(), byte, what));
        }
        if let Kind::Packed(packing) = self.kind {
            let byte = copies.first().map_or(0, |(byte, _)| *byte);
            match packing {
                // How long a unit is, and whose, its marker says.
                Packing::Marker => self.hold_against_markers(state, number, &mut table, byte)?,
                // Without one nothing tells whose it is, but that no two begin at one place.
                Packing::Length | Packing::Bare => self.claim(state, number, &mut table, byte)?,
            }
            return Ok(table);
        }
        if number + 1 >= self.header.tables()
            && let Some(Grain::At(sector)) = table.grains.last()
        {
            let end = (u64::from(*sector) + self.header.grain_sectors) * SECTOR;
            let behind = (self.header.grains() * self.header.grain_sectors - self.header.capacity) * SECTOR;
            if end > self.file.len() && end - behind <= self.file.len() {
                let what = "the last VMDK grain is cut behind the disk's end";
                self.warn(state, u64::MAX, Fault::damaged(self.file.name(), self.file.len(), what));
            }
        }
        self.claim(state, number, &mut table, copies.first().map_or(0, |(byte, _)| *byte))?;
        let named = table.grains.iter().filter(|grain| matches!(grain, Grain::At(_) | Grain::Zero)).count();
        self.count_seen(state, number..number + 1, named as u64);
        Ok(table)
    }

    /// What an entry means; `None`: it cannot be.
    fn meaning(&self, entry: u32) -> Option<Grain> {
        match entry {
            0 => Some(Grain::Absent),
            1 => self.header.zeroed_grains.then_some(Grain::Zero),
            sector => {
                let place = u64::from(sector);
                (place >= self.floor && place < self.end_sector()).then_some(Grain::At(sector))
            }
        }
    }

    /// The grain, or why it is lost, and whether the copies differ.
    fn decide(&self, primary: u32, copy: Option<u32>) -> (Result<Grain, &'static str>, bool) {
        let one = self.meaning(primary);
        let Some(other) = copy.filter(|other| *other != primary) else {
            return (one.ok_or("VMDK grain table entry cannot be"), false);
        };
        let said = match (one, self.meaning(other)) {
            (None, None) => Err("VMDK grain table entries cannot be"),
            (Some(Grain::Absent), None) | (None, Some(Grain::Absent)) if self.is_child => {
                Err("VMDK grain table entry cannot be, and its copy has nothing")
            }
            (Some(grain), None) | (None, Some(grain)) => Ok(grain),
            (Some(Grain::Absent), Some(grain)) | (Some(grain), Some(Grain::Absent)) => Ok(grain),
            (Some(_), Some(_)) => Err("VMDK grain table entry and its copy differ"),
        };
        (said, true)
    }
}
