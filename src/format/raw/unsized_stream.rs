//! Reads a raw disk, or a fixed VHD, that comes through a pipe and is as long as it is.

use std::path::PathBuf;
use std::sync::Arc;

use crate::fault::{Fault, Kind};
use crate::format::vhd;
use crate::image::{Content, Drawn, Feed, Ledger, PIECE, Piece, SECTOR};
use crate::io::{InputPipe, in_memory};

/// Bytes of a footer: held back until it is known whether they are one.
const FOOTER: usize = 512;

/// The feed of a disk that ends where the pipe does.
pub struct UnsizedFeed {
    pipe: InputPipe,
    ledger: Arc<Ledger>,
    /// The most that the output holds.
    most: u64,
    /// Guest byte up to which all was handed out.
    at: u64,
    /// What came and was not handed out.
    held: Vec<u8>,
    /// The sender has ended, and what is held is the disk's to its last byte.
    ended: bool,
}

impl UnsizedFeed {
    /// A disk of at most `most` bytes.
    pub fn new(pipe: InputPipe, ledger: Arc<Ledger>, most: u64) -> UnsizedFeed {
        UnsizedFeed { pipe, ledger, most, at: 0, held: Vec::new(), ended: false }
    }

    fn name(&self) -> PathBuf {
        self.pipe.name().to_path_buf()
    }

    /// Holds a piece and what may be a footer behind it, or all that is left.
    fn fill(&mut self) -> Result<(), Fault> {
        let had = self.held.len();
        let full = in_memory(PIECE) + FOOTER;
        self.held.resize(full, 0);
        let got = self.pipe.read_up_to(self.held.get_mut(had..).unwrap_or_default())?;
        self.held.truncate(had + got);
        if self.held.len() < full {
            self.ended = true;
            self.end()?;
        }
        Ok(())
    }

    /// Takes the footer of a fixed VHD away, and fills up the last sector.
    fn end(&mut self) -> Result<(), Fault> {
        let len = self.at + self.held.len() as u64;
        let data = self.held.len().saturating_sub(FOOTER);
        if let Some(footer) = self.held.last_chunk::<FOOTER>()
            && vhd::is_fixed_footer(footer, len - FOOTER as u64)
        {
            self.held.truncate(data);
            if self.at == 0 && data == 0 {
                return Err(Fault::damaged(self.pipe.name(), 0, "a fixed VHD without a disk"));
            }
            return Ok(());
        }
        // Virtual PC's first versions wrote footers of 511 bytes.
        let short = self.held.len().checked_sub(FOOTER - 1).and_then(|at| self.held.get(at..));
        if len % SECTOR == SECTOR - 1 && short.is_some_and(|footer| footer.starts_with(b"conectix")) {
            let what = "a fixed VHD with a footer of 511 bytes, which is read by seeking";
            return Err(Fault::new(Kind::Unsupported, self.name(), what).advice("save it to a file first"));
        }
        let whole = self.held.len().next_multiple_of(in_memory(SECTOR));
        let added = whole - self.held.len();
        if added > 0 {
            let warning = Fault::new(Kind::Damaged, self.name(), "the raw disk is no whole number of sectors");
            self.ledger.warn(warning.found(format!("{len} bytes")).against(format!("{added} zeroes are added")));
            self.held.resize(whole, 0);
        }
        Ok(())
    }
}

impl Feed for UnsizedFeed {
    fn next(&mut self) -> Result<Option<Drawn>, Fault> {
        if !self.ended {
            self.fill()?;
        }
        if self.held.is_empty() {
            return Ok(None);
        }
        let len = self.held.len().min(in_memory(PIECE));
        let rest = self.held.split_off(len);
        let bytes = std::mem::replace(&mut self.held, rest);
        let guest = self.at..self.at + len as u64;
        if guest.end > self.most {
            return Err(Fault::new(
                Kind::OverLimit,
                self.name(),
                "the disk that comes is larger than the output can hold",
            )
            .expected(format!("{} bytes at most", self.most)));
        }
        self.at = guest.end;
        Ok(Some(Drawn::Piece(Piece { guest, content: Content::Bytes(bytes), base: Vec::new(), lost: Vec::new() })))
    }

    fn finish(&mut self) -> Result<Option<Fault>, Fault> {
        Ok(None)
    }
}
