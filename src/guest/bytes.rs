//! Reads a little of a guest's disk: bounded, and never a reason to fail.

use crate::fault::Fault;
use crate::image::{Disk, Here, Run, Unpack};
use crate::io::{FileId, in_memory};

/// Bytes of the guest that may be read.
const MOST: u64 = 2 << 20;
/// Bytes of the guest that may be unpacked: a probe of a few takes the whole unit that they are in.
const MOST_UNPACKED: u64 = 4 << 20;
/// Bytes that may be read of the image's files, its tables included.
const MOST_OF_FILES: u64 = 8 << 20;
/// Questions to layers: a chain may have a thousand.
const MOST_ASKED: u64 = 200_000;
/// Bytes of one read.
const MOST_AT_ONCE: usize = 64 << 10;
/// Things that could not be read and are kept.
const MOST_UNREAD: usize = 8;

/// Where probes read.
pub trait Bytes {
    /// Up to `len` bytes from byte `at` of the disk; fewer where the disk ends, or what is there cannot be had.
    fn read(&mut self, at: u64, len: usize) -> Vec<u8>;
}

/// The guest's bytes through the disk's map. A probe that asks for what cannot be had gets less; why is in [`GuestBytes::unread`].
pub struct GuestBytes<'a> {
    disk: &'a Disk,
    unpackers: Vec<Option<Box<dyn Unpack>>>,
    /// The unit that was unpacked last, and which it is.
    unit: Vec<u8>,
    unit_of: Option<(usize, FileId, u64, u64)>,
    unpacked: u64,
    /// Bytes of the guest that probes asked for and that are stored as they are.
    plain: u64,
    /// How often layers were asked.
    asked: u64,
    /// Bytes of the files that were read before.
    before: u64,
    unread: Vec<Fault>,
    spent: bool,
}

impl<'a> GuestBytes<'a> {
    /// Of a disk.
    pub fn new(disk: &'a Disk) -> GuestBytes<'a> {
        GuestBytes {
            disk,
            asked: 0,
            plain: 0,
            unpackers: disk.chain.layers().iter().map(|layer| layer.unpacker()).collect(),
            unit: Vec::new(),
            unit_of: None,
            unpacked: 0,
            before: read_so_far(disk),
            unread: Vec::new(),
            spent: false,
        }
    }

    /// What could not be read, and whether it was ended because there is too much to look at.
    pub fn into_unread(self) -> (Vec<Fault>, bool) {
        (self.unread, self.spent)
    }

    fn fill(&mut self, at: u64, out: &mut [u8]) -> Result<(), Fault> {
        let (mut from, end) = (at, at.saturating_add(out.len() as u64));
        while from < end {
            let (depth, run) = self.run(from, end)?;
            let place = in_memory(run.guest.start.saturating_sub(at))..in_memory(run.guest.end.saturating_sub(at));
            from = run.guest.end;
            let Some(part) = out.get_mut(place) else { return Err(Fault::bug("a run outside what was asked for")) };
            match &run.here {
                Here::Zero | Here::Absent => part.fill(0),
                Here::Lost(fault) => return Err(fault.clone()),
                Here::Plain { file, at } => {
                    let input = self.disk.file(*file).ok_or_else(|| Fault::bug("a run names an unknown file"))?;
                    // What lies behind a file's end is the reader's concern; here it is zero.
                    let got = input.read_up_to(*at, part)?;
                    self.plain = self.plain.saturating_add(got as u64);
                    part.get_mut(got..).unwrap_or_default().fill(0);
                }
                Here::Packed { .. } => self.unpack(depth, &run, part)?,
            }
        }
        Ok(())
    }

    /// The run at `from`, and the depth of the layer that answers: each is asked up to `limit` and no further. A cursor, which asks ahead,
    /// would look at the tables of all that lies between two partitions.
    fn run(&mut self, from: u64, limit: u64) -> Result<(usize, Run), Fault> {
        let mut limit = limit;
        for (depth, layer) in self.disk.chain.layers().iter().enumerate() {
            if from >= layer.guest_len() {
                break; // a parent shorter than its child reads as zero
            }
            self.asked += 1;
            let run = layer.run_at(from, limit.min(layer.guest_len()))?;
            if run.guest.start != from || run.is_empty() || run.guest.end > limit {
                return Err(Fault::bug("the map does not hold the byte that was asked for"));
            }
            if !matches!(run.here, Here::Absent) {
                return Ok((depth, run));
            }
            limit = run.guest.end;
        }
        Ok((0, Run::new(from..limit, Here::Zero)))
    }

    fn unpack(&mut self, depth: usize, run: &Run, out: &mut [u8]) -> Result<(), Fault> {
        let Here::Packed { file, at, unit, skip } = run.here else { return Ok(()) };
        let start = run.guest.start.saturating_sub(skip);
        if self.unit_of != Some((depth, file, at, start)) {
            let unpacker = self.unpackers.get_mut(depth).and_then(|unpacker| unpacker.as_mut());
            let unpacker = unpacker.ok_or_else(|| Fault::bug("a layer without a decoder"))?;
            self.unit_of = None;
            self.unpacked = self.unpacked.saturating_add(unit);
            self.unit.resize(in_memory(unit), 0);
            unpacker.unpack(file, at, start, &mut self.unit)?;
            self.unit_of = Some((depth, file, at, start));
        }
        let from = in_memory(skip);
        let part = self.unit.get(from..from.saturating_add(out.len()));
        out.copy_from_slice(part.ok_or_else(|| Fault::bug("a run is longer than its unit"))?);
        Ok(())
    }
}

impl Bytes for GuestBytes<'_> {
    fn read(&mut self, at: u64, len: usize) -> Vec<u8> {
        let room = self.disk.facts.virtual_size.saturating_sub(at);
        let len = len.min(MOST_AT_ONCE).min(in_memory(room));
        if len == 0 || self.spent {
            return Vec::new();
        }
        let read = read_so_far(self.disk).saturating_sub(self.before);
        if read > MOST_OF_FILES || self.plain > MOST || self.unpacked > MOST_UNPACKED || self.asked > MOST_ASKED {
            self.spent = true;
            return Vec::new();
        }
        let mut out = vec![0; len];
        match self.fill(at, &mut out) {
            Ok(()) => out,
            Err(fault) => {
                let told = self.unread.iter().any(|met| met.to_string() == fault.to_string());
                if !told && self.unread.len() < MOST_UNREAD {
                    self.unread.push(fault);
                }
                Vec::new()
            }
        }
    }
}

/// Bytes that were read of all files of the disk.
fn read_so_far(disk: &Disk) -> u64 {
    disk.files().iter().fold(0, |sum, file| sum.saturating_add(file.bytes_read()))
}

/// Integers of headers: zero where the bytes end in front of them, which no magic number is.
pub mod int {
    /// Little-endian, of `N` bytes up to 8.
    pub fn le<const N: usize>(bytes: &[u8], at: usize) -> u64 {
        let part = at.checked_add(N).and_then(|end| bytes.get(at..end)).unwrap_or_default();
        part.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    /// Big-endian, of `N` bytes up to 8.
    pub fn be<const N: usize>(bytes: &[u8], at: usize) -> u64 {
        let part = at.checked_add(N).and_then(|end| bytes.get(at..end)).unwrap_or_default();
        part.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    /// Do these bytes stand there?
    pub fn is(bytes: &[u8], at: usize, magic: &[u8]) -> bool {
        bytes.get(at..).is_some_and(|rest| rest.starts_with(magic))
    }
}

#[cfg(test)]
impl Bytes for Vec<u8> {
    fn read(&mut self, at: u64, len: usize) -> Vec<u8> {
        let rest = self.get(in_memory(at)..).unwrap_or_default();
        rest.get(..len.min(rest.len())).unwrap_or_default().to_vec()
    }
}
