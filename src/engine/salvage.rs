//! What becomes of what cannot be had: it ends the run, or it is zero and listed. Decided here, never by a reader.

use std::ops::Range;

use crate::fault::Fault;
use crate::image::Losses;
use crate::io::{InputFile, Unread};

/// What to do about an error that a run may go on over.
const GO_ON: &str = "--salvage goes on: zeroes in the place of what cannot be had, each range listed";

/// The policy of a run.
#[derive(Clone, Copy)]
pub enum Salvage<'a> {
    /// A loss ends the run, and nothing is to be done about it: what is lost is not the source's.
    Never,
    /// A loss ends the run; that there is another way is told.
    Off,
    /// A loss is zero, and listed.
    Into(&'a Losses),
}

impl<'a> Salvage<'a> {
    /// For a source whose losses are listed there, where they are.
    pub fn of(losses: Option<&'a Losses>) -> Salvage<'a> {
        losses.map_or(Salvage::Off, Salvage::Into)
    }

    /// A range that the map, or the stream, gave up, whatever the reason.
    pub fn lose(self, guest: Range<u64>, fault: &Fault) -> Result<(), Fault> {
        match self {
            Salvage::Never => Err(fault.clone()),
            Salvage::Off if fault.hint().is_empty() && fault.is_about_bytes() => Err(fault.clone().advice(GO_ON)),
            Salvage::Off => Err(fault.clone()),
            Salvage::Into(losses) => losses.add(guest, fault),
        }
    }

    /// Damage behind the disk, all of which came.
    pub fn remark(self, fault: &Fault) -> Result<(), Fault> {
        let Salvage::Into(losses) = self else { return self.lose(0..0, fault) };
        losses.remark(fault.clone());
        Ok(())
    }

    /// A range that reading or decoding failed at: what does not speak about its bytes ends the run.
    pub fn lose_bytes(self, guest: Range<u64>, fault: &Fault) -> Result<(), Fault> {
        match fault.is_about_bytes() {
            true => self.lose(guest, fault),
            false => Err(fault.clone()),
        }
    }

    /// Reads the bytes of `guest`, which lie in a row from byte `at` of `input`: of what the medium refuses, sector by sector, each is a
    /// loss of its own. How many were read.
    pub fn read(self, input: &InputFile, at: u64, guest: &Range<u64>, bytes: &mut [u8]) -> Result<u64, Fault> {
        let len = guest.end - guest.start;
        let Salvage::Into(_) = self else {
            return match input.read_exact(at, bytes) {
                Ok(()) => Ok(len),
                Err(fault) => self.lose_bytes(guest.clone(), &fault).map(|()| 0),
            };
        };
        let mut read = len;
        for Unread { bytes, fault } in input.read_around(at, bytes)? {
            let lost = guest.start + (bytes.start - at)..guest.start + (bytes.end - at);
            read -= lost.end - lost.start;
            self.lose(lost, &fault)?;
        }
        Ok(read)
    }
}
