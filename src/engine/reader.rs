//! Brings the bytes of pieces into memory: read, unpacked or taken as they came.

use std::ops::Range;

use super::salvage::Salvage;
use crate::fault::Fault;
use crate::image::{Content, Decode, Disk, Here, Lost, Piece, Run, Unpack};
use crate::io::FileId;

/// A packed unit: the depth of its layer, its file, the byte of its marker, and the guest byte at which it begins.
type UnitAt = (usize, FileId, u64, u64);

/// Reads a disk's runs into memory, for one worker.
pub struct Reader<'a> {
    disk: Option<&'a Disk>,
    decoder: Option<Box<dyn Decode>>,
    /// The guest bytes of the piece, padded with zeroes to whole test units.
    pub bytes: Vec<u8>,
    unpackers: Vec<Option<Box<dyn Unpack>>>,
    /// The unit that was unpacked last.
    unit: Vec<u8>,
    unit_of: Option<UnitAt>,
    /// The unit that was tried last and could not be had.
    failed: Option<(UnitAt, Fault)>,
    /// What becomes of what cannot be had.
    salvage: Salvage<'a>,
    /// Are packed bytes kept for an encoder that may pass them on?
    keep: bool,
    /// Guest byte and packed bytes of each packed unit of the piece that may be a test unit.
    pub packed: Vec<(u64, Vec<u8>)>,
}

impl<'a> Reader<'a> {
    /// For the content of `disk`, or of packed units that `decoder` decodes; `keep`: packed bytes are kept.
    pub fn new(
        disk: Option<&'a Disk>,
        decoder: Option<Box<dyn Decode>>,
        keep: bool,
        salvage: Salvage<'a>,
    ) -> Reader<'a> {
        let layers = disk.map_or(&[][..], |disk| disk.chain.layers());
        Reader {
            disk,
            decoder,
            bytes: Vec::new(),
            unpackers: layers.iter().map(|layer| layer.unpacker()).collect(),
            unit: Vec::new(),
            unit_of: None,
            failed: None,
            salvage,
            keep,
            packed: Vec::new(),
        }
    }

    /// Brings the bytes of a piece into memory, in test units of `test_unit` bytes; how many of them the source stores.
    pub fn read(&mut self, piece: &Piece, test_unit: u64) -> Result<u64, Fault> {
        let Piece { guest, content, lost, .. } = piece;
        let len = guest.end - guest.start;
        self.packed.clear();
        for Lost { guest, fault } in lost {
            self.salvage.lose(guest.clone(), fault)?;
        }
        match content {
            Content::Runs(runs) => return self.read_runs(guest, runs, test_unit),
            Content::Bytes(bytes) if bytes.len() as u64 == len => {
                self.bytes.clear();
                self.bytes.extend_from_slice(bytes);
                self.bytes.resize(len.next_multiple_of(test_unit) as usize, 0);
                return Ok(len);
            }
            Content::Bytes(_) => return Err(Fault::bug("the bytes of a piece are not as long as it is")),
            Content::Packed { .. } => {}
        }
        let Content::Packed { units, unit, end: disk_end } = content else { return Ok(0) };
        let decoder = self.decoder.as_mut().ok_or_else(|| Fault::bug("packed units without a decoder"))?;
        self.bytes.clear();
        self.bytes.resize(len.next_multiple_of(test_unit) as usize, 0);
        self.unit.resize(*unit as usize, 0);
        let mut stored = 0;
        for packed in units {
            let end = (packed.guest + unit).min(guest.end);
            let part = packed.guest..end;
            if packed.guest < guest.start || packed.guest >= end {
                return Err(Fault::bug("a packed unit outside its piece"));
            }
            if let Err(fault) = decoder.decode(packed, &mut self.unit) {
                self.salvage.lose_bytes(packed.guest..end.min(*disk_end), &fault)?;
                continue;
            }
            self.bytes[within(&part, guest.start)].copy_from_slice(&self.unit[..(end - packed.guest) as usize]);
            stored += end - packed.guest;
            if self.keep && *unit == test_unit {
                self.packed.push((packed.guest, packed.bytes.clone()));
            }
        }
        Ok(stored)
    }

    /// The same of runs of the disk's map.
    pub fn read_runs(&mut self, guest: &Range<u64>, runs: &[(usize, Run)], test_unit: u64) -> Result<u64, Fault> {
        let len = guest.end - guest.start;
        // Pieces are at most 1 MiB, test units too.
        self.bytes.resize(len.next_multiple_of(test_unit) as usize, 0);
        let padding = len as usize;
        self.bytes[padding..].fill(0);
        let (mut covered, mut stored) = (guest.start, 0);
        for (depth, run) in runs {
            if run.guest.start != covered || run.guest.end > guest.end {
                return Err(Fault::bug("the runs of a piece leave something out"));
            }
            covered = run.guest.end;
            let place = within(&run.guest, guest.start);
            match &run.here {
                Here::Zero => self.bytes[place].fill(0),
                Here::Absent => return Err(Fault::bug("a resolved disk says that it does not know")),
                Here::Plain { file, at } => {
                    let input = self
                        .disk
                        .and_then(|disk| disk.file(*file))
                        .ok_or_else(|| Fault::bug("a run names an unknown file"))?;
                    stored += self.salvage.read(input, *at, &run.guest, &mut self.bytes[place])?;
                }
                Here::Packed { .. } => {
                    if let Err(fault) = self.unpack(*depth, run) {
                        self.salvage.lose_bytes(run.guest.clone(), &fault)?;
                        self.bytes[place].fill(0);
                        continue;
                    }
                    let Here::Packed { skip, unit, .. } = run.here else { continue };
                    // Whether it is all of the test unit, the encoder sees.
                    if self.keep && unit == test_unit && skip == 0 && run.guest.start.is_multiple_of(unit) {
                        let packed = self.unpackers.get(*depth).and_then(|u| u.as_ref()).map(|u| u.packed().to_vec());
                        self.packed.extend(packed.map(|packed| (run.guest.start, packed)));
                    }
                    let from = skip as usize;
                    let part = self
                        .unit
                        .get(from..from + place.len())
                        .ok_or_else(|| Fault::bug("a run is longer than its unit"))?;
                    self.bytes[place].copy_from_slice(part);
                    stored += run.len();
                }
                Here::Lost(fault) => {
                    self.salvage.lose(run.guest.clone(), fault)?;
                    self.bytes[place].fill(0);
                }
            }
        }
        match covered == guest.end {
            true => Ok(stored),
            false => Err(Fault::bug("the runs of a piece leave something out")),
        }
    }

    /// Brings the unit that the run is a part of into `self.unit`.
    fn unpack(&mut self, depth: usize, run: &Run) -> Result<(), Fault> {
        let Here::Packed { file, at, unit, skip } = run.here else { return Ok(()) };
        // Whose unit it is, the decoder sees: two places of the disk that share one byte of a file are two units.
        let start = run.guest.start - skip;
        let wanted = (depth, file, at, start);
        if self.unit_of == Some(wanted) {
            return Ok(());
        }
        // A unit may serve many runs.
        if let Some((_, fault)) = self.failed.as_ref().filter(|(failed, _)| *failed == wanted) {
            return Err(fault.clone());
        }
        let unpacker = self
            .unpackers
            .get_mut(depth)
            .and_then(|u| u.as_mut())
            .ok_or_else(|| Fault::bug("a layer without a decoder"))?;
        self.unit_of = None;
        self.unit.resize(unit as usize, 0);
        if let Err(fault) = unpacker.unpack(file, at, start, &mut self.unit) {
            self.failed = Some((wanted, fault.clone()));
            return Err(fault);
        }
        self.unit_of = Some(wanted);
        Ok(())
    }
}

/// Guest bytes as places in the bytes of a piece that begins at `start`.
pub fn within(guest: &Range<u64>, start: u64) -> Range<usize> {
    (guest.start - start) as usize..(guest.end - start) as usize
}
