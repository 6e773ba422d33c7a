//! The writer's half: what a format gives the engine, and what the engine asks of it.
//!
//! A [`Placer`] decides where things go and does no I/O; an [`Encoder`] works on a unit's bytes in a worker; the engine's threads write.
//!
//! **Placer law:** a placer is a function of its plan and of the calls so far: no clock, no chance, no file. That the output's bytes do
//! not depend on the number of threads stands on it, and a property test holds every placer to it.

use std::ops::Range;

use crate::fault::Fault;

/// What a unit, or a gap, turned out to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All zero.
    Zero,
    /// The same as the base holds (only where an output is a delta).
    Same,
    /// Anything else.
    Data,
}

/// The order that an output's placer needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// None: the placer keeps no state, each thread has its own.
    Free,
    /// Guest order: one placer in the turnstile; the writes themselves go in parallel.
    Ordered,
    /// Guest order for the writes too: the output cannot seek.
    Stream,
}

/// A file of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Appended to the stem of the output's name in place of its ending; `None` for OUTPUT itself.
    pub suffix: Option<String>,
    /// Its length in bytes, where that is known before the first byte.
    pub len: Option<u64>,
}

/// Everything that is chosen before the first byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The files in the order they are published in: the one that names the others is the last.
    pub files: Vec<PlannedFile>,
    /// Size of the guest's disk in bytes; where the writer has an open end, the most that it can be.
    pub virtual_size: u64,
    /// What takes one place in the file, in bytes (a grain, a block).
    pub place_unit: u64,
    /// What is tested for zero on its own, in bytes; a power of two that divides 1 MiB, and `place_unit` or is divided by it.
    pub test_unit: u64,
    /// The order that the placer needs.
    pub order: Order,
    /// True where what is never written may stay a hole.
    pub holes: bool,
    /// What was decided where the user left it open, in words.
    pub decisions: Vec<String>,
    /// What the user should know of the output, in words.
    pub notes: Vec<String>,
}

/// Verdicts about a stretch of the guest.
#[derive(Debug, Clone, Copy)]
pub enum Seen<'a> {
    /// A stretch of whole test units (the disk's end may cut the last) of one verdict, without data.
    Gap(Verdict),
    /// A verdict for each test unit, and its encoded size in bytes: 0 if the unit is not `Data`, or nothing encodes.
    Units {
        /// In guest order.
        verdicts: &'a [Verdict],
        /// As long as `verdicts`.
        sizes: &'a [u32],
    },
}

/// When a write may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// At any time.
    Body,
    /// After all of the body is on stable storage: what makes the file recognisable.
    Seal,
}

/// What a write puts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// These guest bytes; past the disk's end, up to the test unit, they are zero.
    Guest(Range<u64>),
    /// What the encoder made of the unit with this index in the piece.
    Encoded(usize),
    /// These bytes: tables, headers, descriptors.
    Meta(Vec<u8>),
    /// This many zeroes; dropped where the file is fresh and may have holes.
    Zero(u64),
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Index into the plan's files.
    pub file: usize,
    /// Byte offset in the file.
    pub at: u64,
    /// What.
    pub put: Put,
    /// When.
    pub phase: Phase,
}

/// What a placer asks for, neighbours joined.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Writes {
    list: Vec<Write>,
    lens: Vec<(usize, u64)>,
}

impl Writes {
    /// Guest bytes `guest` to byte `at`.
    pub fn guest(&mut self, file: usize, at: u64, guest: Range<u64>) {
        if let Some(Write { file: f, at: a, put: Put::Guest(g), phase: Phase::Body }) = self.list.last_mut()
            && *f == file
            && g.end == guest.start
            && *a + (g.end - g.start) == at
        {
            g.end = guest.end;
            return;
        }
        self.push(file, at, Put::Guest(guest), Phase::Body);
    }

    /// The encoded form of unit `index` of the piece to byte `at`.
    pub fn encoded(&mut self, file: usize, at: u64, index: usize) {
        self.push(file, at, Put::Encoded(index), Phase::Body);
    }

    /// Tables and the like.
    pub fn meta(&mut self, file: usize, at: u64, bytes: Vec<u8>) {
        self.push(file, at, Put::Meta(bytes), Phase::Body);
    }

    /// What makes the file recognisable; from [`Placer::finish`] alone.
    pub fn seal(&mut self, file: usize, at: u64, bytes: Vec<u8>) {
        self.push(file, at, Put::Meta(bytes), Phase::Seal);
    }

    /// `len` zeroes at byte `at`.
    pub fn zero(&mut self, file: usize, at: u64, len: u64) {
        if let Some(Write { file: f, at: a, put: Put::Zero(l), .. }) = self.list.last_mut()
            && *f == file
            && *a + *l == at
        {
            *l += len;
            return;
        }
        self.push(file, at, Put::Zero(len), Phase::Body);
    }

    /// The final length of a file.
    pub fn set_len(&mut self, file: usize, bytes: u64) {
        self.lens.push((file, bytes));
    }

    fn push(&mut self, file: usize, at: u64, put: Put, phase: Phase) {
        self.list.push(Write { file, at, put, phase });
    }

    /// The writes in the order they were asked for.
    pub fn list(&self) -> &[Write] {
        &self.list
    }

    /// The lengths asked for.
    pub fn lens(&self) -> &[(usize, u64)] {
        &self.lens
    }

    /// Forgets all, keeps the memory.
    pub fn clear(&mut self) {
        self.list.clear();
        self.lens.clear();
    }
}

/// Made by a format from its options and the source's facts.
pub trait Writer: Sync {
    /// What was chosen.
    fn plan(&self) -> &Plan;
    /// A placer at its start; any number of them from one plan behave alike.
    fn placer(&self) -> Box<dyn Placer>;
    /// An encoder for one worker; `None` where units are stored as they are.
    fn encoder(&self) -> Option<Box<dyn Encoder>>;
    /// Is the disk's size known at its end alone?
    fn has_open_end(&self) -> bool {
        false
    }
    /// Where it is: the writer for the size that it turned out to have, in bytes, whose placer finishes what this one's began.
    fn settled(&self, _size: u64) -> Result<Option<Box<dyn Writer>>, Fault> {
        Ok(None)
    }
}

/// Decides where things go. Cheap, no I/O.
pub trait Placer: Send {
    /// What stands in front in a stream; asked once, before any place.
    fn begin(&mut self, out: &mut Writes) -> Result<(), Fault>;
    /// The places for a stretch of the guest, in guest order unless the plan says `Free`.
    fn place(&mut self, guest: Range<u64>, seen: Seen<'_>, out: &mut Writes) -> Result<(), Fault>;
    /// Once, after all threads ended: last tables, lengths, seals.
    fn finish(&mut self, out: &mut Writes) -> Result<(), Fault>;
}

/// Turns one unit of data into what is stored, in a worker.
pub trait Encoder: Send {
    /// Encodes `unit`, which begins at guest byte `guest`, into `out`: all of it as it lies in the file, marker and padding included.
    fn encode(&mut self, unit: &[u8], guest: u64, out: &mut Vec<u8>) -> Result<(), Fault>;

    /// Bytes that a unit of `unit` bytes takes at most, encoded.
    fn at_most(&mut self, unit: u64) -> u32;

    /// The same, where the source had these packed bytes at the place of `unit`: they may go out unchanged, if they are the unit and
    /// nothing but the unit, which is for the encoder to prove. `false`, and nothing in `out`, where they may not.
    fn pass(&mut self, _packed: &[u8], _unit: &[u8], _guest: u64, _out: &mut Vec<u8>) -> Result<bool, Fault> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_joined_and_others_are_not() {
        let mut writes = Writes::default();
        writes.guest(0, 1000, 0..512);
        writes.guest(0, 1512, 512..1024);
        writes.guest(0, 3000, 1024..1536);
        writes.guest(1, 3512, 1536..2048);
        writes.zero(0, 0, 10);
        writes.zero(0, 10, 5);
        let puts: Vec<_> = writes.list().iter().map(|w| (w.file, w.at, w.put.clone())).collect();
        assert_eq!(
            puts,
            [
                (0, 1000, Put::Guest(0..1024)),
                (0, 3000, Put::Guest(1024..1536)),
                (1, 3512, Put::Guest(1536..2048)),
                (0, 0, Put::Zero(15))
            ]
        );
    }
}
