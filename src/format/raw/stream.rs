//! Reads a raw disk, or a fixed VHD, that comes through a pipe, once, in order.

use std::sync::Arc;

use super::unsized_stream::UnsizedFeed;
use crate::fault::{Fault, Kind};
use crate::format::{StreamSource, vhd};
use crate::image::{Content, Drawn, Facts, Feed, Ledger, Lost, PIECE, Piece, SECTOR, lost_tail};
use crate::io::{InputPipe, in_memory};

/// Opens what follows in the pipe as a disk of `size` bytes, or of as many as come; behind them the footer of a fixed VHD may come, which is no part of it.
pub fn open(pipe: InputPipe, size: Option<u64>) -> Result<StreamSource, Fault> {
    let ledger = Arc::<Ledger>::default();
    let (head, received) = (pipe.head().to_vec(), pipe.received());
    let Some(size) = size else {
        let facts = Facts::new(super::FORMAT.name, super::FORMAT.title, 0);
        let warnings = Arc::clone(&ledger);
        let feed = move |most: u64, _| -> Box<dyn Feed> { Box::new(UnsizedFeed::new(pipe, warnings, most)) };
        return Ok(StreamSource { facts, ledger, open_end: true, head, received, feed: Box::new(feed) });
    };
    let whole = size.next_multiple_of(SECTOR);
    if whole != size {
        let warning = Fault::new(Kind::Damaged, pipe.name(), "the raw disk is no whole number of sectors");
        let warning = warning.found(format!("{size} bytes"));
        ledger.warn(warning.against(format!("{} zeroes are added", whole - size)));
    }
    let facts = Facts::new(super::FORMAT.name, super::FORMAT.title, whole);
    let feed = move |end: u64, unit: u64| -> Box<dyn Feed> {
        Box::new(RawFeed { pipe, at: 0, size, end, unit, broken: None })
    };
    Ok(StreamSource { facts, ledger, open_end: false, head, received, feed: Box::new(feed) })
}

struct RawFeed {
    pipe: InputPipe,
    /// Guest byte up to which all was handed out.
    at: u64,
    /// Bytes of the disk that come.
    size: u64,
    /// Bytes of the disk that is written.
    end: u64,
    /// Test unit of the output.
    unit: u64,
    /// Why what is left does not come.
    broken: Option<Fault>,
}

impl Feed for RawFeed {
    fn next(&mut self) -> Result<Option<Drawn>, Fault> {
        if self.at >= self.end {
            return Ok(None);
        }
        if let Some(fault) = self.broken.clone().filter(|_| self.at < self.size) {
            let lost = lost_tail(self.at, self.size, self.end, self.unit, fault);
            self.at = lost.guest().end;
            return Ok(Some(lost));
        }
        let stored = self.size.saturating_sub(self.at).min(PIECE);
        if stored == 0 {
            let gap = self.at..self.end;
            self.at = self.end;
            return Ok(Some(Drawn::Gap(gap, crate::image::Verdict::Zero)));
        }
        let mut bytes = vec![0; in_memory(stored)];
        let got = self.pipe.read_up_to(&mut bytes)? as u64;
        let mut lost = Vec::new();
        if got < stored {
            let fault = self.pipe.ended();
            lost.push(Lost { guest: self.at + got..self.at + stored, fault: fault.clone() });
            self.broken = Some(fault);
        }
        // What the disk is grown by fills up the last unit.
        let guest = self.at..(self.at + stored).next_multiple_of(self.unit).min(self.end);
        bytes.resize(in_memory(guest.end - guest.start), 0);
        self.at = guest.end;
        Ok(Some(Drawn::Piece(Piece { guest, content: Content::Bytes(bytes), base: Vec::new(), lost })))
    }

    fn finish(&mut self) -> Result<Option<Fault>, Fault> {
        if self.broken.is_some() {
            return Ok(None);
        }
        let at = self.pipe.at();
        let mut rest = vec![0; in_memory(SECTOR) + 1];
        let got = self.pipe.read_up_to(&mut rest)?;
        let footer = rest.first_chunk().is_some_and(|footer| vhd::is_fixed_footer(footer, self.size));
        match got {
            0 => Ok(None),
            512 if footer => Ok(None),
            _ => Err(Fault::new(Kind::Damaged, self.pipe.name(), "more came through the pipe than --input-size says")
                .at(at)
                .expected(format!("{} bytes", self.size))),
        }
    }
}
