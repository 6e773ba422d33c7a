//! The extents of a disk, one behind the other, as one layer.

use std::sync::{Arc, Mutex, PoisonError};

use super::grain_tables::GrainTables;
use super::sesparse::SeTables;
use super::stream::{Inflater, StreamExtent};
use crate::fault::Fault;
use crate::image::{Here, Layer, Run, Unpack};
use crate::io::InputFile;

/// How an extent's bytes are kept.
pub enum Body {
    /// In a row, from byte `at` of `file`.
    Flat {
        /// The file.
        file: Arc<InputFile>,
        /// Byte offset of the extent's first byte.
        at: u64,
    },
    /// As grains.
    Sparse(Box<GrainTables>),
    /// As deflated grains behind markers.
    Stream(Box<GrainTables>, StreamExtent),
    /// As ESXi's small grains.
    SeSparse(Box<SeTables>),
    /// Zero, whatever a parent holds.
    Zero,
    /// Not to be had.
    Lost(Fault),
}

/// Extents in order.
#[derive(Default)]
pub struct Extents {
    parts: Vec<(u64, Body)>,
    len: u64,
    /// Which of a parent's extents were looked through; `None`: they are no parent's.
    looked_through: Option<Mutex<Vec<bool>>>,
}

impl Extents {
    /// Length so far, in bytes: where the next extent begins.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Appends an extent of `len` bytes; nothing where it has none.
    pub fn push(&mut self, len: u64, body: Body) {
        if len > 0 {
            self.parts.push((self.len, body));
            self.len += len;
        }
    }

    /// These are a parent's: whoever lies above hides some grains, and of two that overlap it may hide the one that would tell. So each
    /// extent is looked through before the first question to it is answered.
    pub fn of_parent(self) -> Extents {
        let looked_through = Some(Mutex::new(vec![false; self.parts.len()]));
        Extents { looked_through, ..self }
    }

    /// Looks through the extent of this number, where that is due.
    fn look_through(&self, number: usize, body: &Body) -> Result<(), Fault> {
        let Some(looked_through) = &self.looked_through else { return Ok(()) };
        // Whoever asks meanwhile waits for the answer.
        let mut looked_through = looked_through.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(done) = looked_through.get_mut(number).filter(|done| !**done) else { return Ok(()) };
        match body {
            Body::Sparse(tables) | Body::Stream(tables, _) => tables.look_through()?,
            Body::SeSparse(tables) => tables.look_through()?,
            Body::Flat { .. } | Body::Zero | Body::Lost(_) => {}
        }
        *done = true;
        Ok(())
    }
}

impl Extents {
    /// Where no extent has data that may be had: the reason of the first that is lost.
    pub fn all_lost(&self) -> Option<Fault> {
        let mut first = None;
        for (_, body) in &self.parts {
            match body {
                Body::Lost(fault) => first = first.or(Some(fault.clone())),
                Body::Zero => {}
                _ => return None,
            }
        }
        first
    }
}

impl Layer for Extents {
    fn guest_len(&self) -> u64 {
        self.len
    }

    fn run_at(&self, from: u64, limit: u64) -> Result<Run, Fault> {
        let next = self.parts.partition_point(|(start, _)| *start <= from);
        let number = next.checked_sub(1);
        let (number, (start, body)) = number
            .and_then(|n| Some((n, self.parts.get(n)?)))
            .ok_or_else(|| Fault::bug("a byte before the first extent"))?;
        self.look_through(number, body)?;
        let end = limit.min(self.parts.get(next).map_or(self.len, |(start, _)| *start));
        let inside = from - start;
        Ok(match body {
            Body::Zero => Run::new(from..end, Here::Zero),
            Body::Lost(fault) => Run::new(from..end, Here::Lost(fault.clone())),
            Body::Flat { file, at } => match file.len().saturating_sub(at + inside) {
                0 => {
                    let short = Fault::damaged(file.name(), file.len(), "VMDK flat extent is cut short");
                    let needed = at + (self.parts.get(next).map_or(self.len, |(start, _)| *start) - start);
                    Run::new(from..end, Here::Lost(short.found(format!("{} bytes", file.len())).expected(needed)))
                }
                stored => Run::new(from..end.min(from + stored), Here::Plain { file: file.id(), at: at + inside }),
            },
            Body::SeSparse(tables) => {
                let (until, here) = tables.run_at(inside, end - start)?;
                Run::new(from..start + until, here)
            }
            Body::Sparse(tables) | Body::Stream(tables, _) => {
                let (until, here) = tables.run_at(inside, end - start)?;
                Run::new(from..start + until, here)
            }
        })
    }

    fn walked(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn unpacker(&self) -> Option<Box<dyn Unpack>> {
        let streams: Vec<_> = self
            .parts
            .iter()
            .filter_map(|(start, body)| match body {
                Body::Stream(_, extent) => Some((*start, extent.clone())),
                _ => None,
            })
            .collect();
        (!streams.is_empty()).then(|| Box::new(Inflater::new(streams)) as Box<dyn Unpack>)
    }
}
