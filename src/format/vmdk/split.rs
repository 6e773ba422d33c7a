//! Disks in pieces: twoGbMaxExtentSparse, and what it shares with twoGbMaxExtentFlat.

use std::ops::Range;
use std::path::Path;

use super::descriptor::{Descriptor, Style, name_beside};
use super::grains::Grains;
use super::layout::Layout;
use crate::fault::{Fault, Kind};
use crate::format::Wish;
use crate::image::{Encoder, Facts, Order, Placer, Plan, PlannedFile, SECTOR, Seen, Writer, Writes};
use crate::io::in_memory;

/// Sectors of a piece: 2047 MiB, as VMware's specification and VirtualBox have it; fits every file system.
pub const PIECE_SECTORS: u64 = 4_192_256;
/// Pieces that all readers take: VirtualBox reads 1,100 lines of a descriptor.
const MANY: usize = 1000;
/// Pieces that are written at most.
const MOST: u64 = 65_536;

/// A piece of a disk.
pub struct Piece {
    /// Of its file's name.
    pub suffix: String,
    /// Sectors of the disk.
    pub sectors: u64,
}

/// The pieces of a disk of `capacity` sectors; `letter`: `s` of sparse ones, `f` of flat ones.
pub fn pieces(capacity: u64, letter: char, output: &Path) -> Result<Vec<Piece>, Fault> {
    let count = capacity.div_ceil(PIECE_SECTORS);
    if count > MOST {
        return Err(Fault::new(Kind::OverLimit, output, "the disk has too many pieces of 2 GB")
            .found(count)
            .expected(format!("at most {MOST}"))
            .advice("-s monolithicFlat holds it"));
    }
    let piece = |n: u64| Piece {
        suffix: format!("-{letter}{:03}.vmdk", n + 1),
        sectors: (capacity - n * PIECE_SECTORS).min(PIECE_SECTORS),
    };
    Ok((0..count).map(piece).collect())
}

/// What the user should know of so many pieces.
pub fn note(pieces: usize) -> Option<String> {
    (pieces > MANY).then(|| format!("{pieces} pieces: VirtualBox opens no disk of more than about {MANY}"))
}

/// A writer of twoGbMaxExtentSparse.
pub fn sparse(facts: &Facts, wish: &Wish) -> Result<Box<dyn Writer>, Fault> {
    let capacity = super::capacity(facts, &wish.output)?;
    let grain_sectors = super::grain_sectors(wish)?;
    let pieces = pieces(capacity, 's', &wish.output)?;
    let mut extents = Vec::new();
    for piece in &pieces {
        extents.push(format!("RW {} SPARSE \"{}\"", piece.sectors, name_beside(wish, &piece.suffix)?));
    }
    let descriptor = Descriptor::new(Style::Hosted("twoGbMaxExtentSparse"), capacity, extents, facts, wish);
    let files = pieces.iter().map(|piece| PlannedFile { suffix: Some(piece.suffix.clone()), len: None });
    let plan = Plan {
        files: files.chain([PlannedFile { suffix: None, len: None }]).collect(),
        virtual_size: facts.virtual_size,
        place_unit: grain_sectors * SECTOR,
        test_unit: grain_sectors * SECTOR,
        order: Order::Ordered,
        holes: true,
        decisions: descriptor.decisions(),
        notes: note(pieces.len()).into_iter().collect(),
    };
    let layouts = pieces.iter().map(|piece| Layout::new(piece.sectors, grain_sectors, false)).collect();
    Ok(Box::new(Split { plan, layouts, descriptor: descriptor.text(), output: wish.output.clone() }))
}

struct Split {
    plan: Plan,
    layouts: Vec<Layout>,
    descriptor: String,
    output: std::path::PathBuf,
}

impl Writer for Split {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn placer(&self) -> Box<dyn Placer> {
        let starts = (0u64..).step_by(in_memory(PIECE_SECTORS * SECTOR));
        let pieces = self.layouts.iter().zip(starts).enumerate().map(|(file, (layout, start))| {
            Grains::new(file, start, layout.clone(), false, Vec::new(), self.output.clone())
        });
        Box::new(Pieces { unit: self.plan.test_unit, pieces: pieces.collect(), descriptor: self.descriptor.clone() })
    }

    fn encoder(&self) -> Option<Box<dyn Encoder>> {
        None
    }
}

/// Gives each piece its part of every call.
struct Pieces {
    unit: u64,
    pieces: Vec<Grains>,
    descriptor: String,
}

impl Placer for Pieces {
    fn begin(&mut self, out: &mut Writes) -> Result<(), Fault> {
        self.pieces.iter_mut().try_for_each(|piece| piece.begin(out))
    }

    fn place(&mut self, guest: Range<u64>, seen: Seen<'_>, out: &mut Writes) -> Result<(), Fault> {
        let piece_len = PIECE_SECTORS * SECTOR;
        let mut start = guest.start;
        while start < guest.end {
            let number = start / piece_len;
            let end = guest.end.min((number + 1) * piece_len);
            let units = |from: u64| in_memory((from - guest.start).div_ceil(self.unit));
            let seen = match seen {
                Seen::Gap(verdict) => Seen::Gap(verdict),
                Seen::Units { verdicts, sizes } => Seen::Units {
                    verdicts: verdicts.get(units(start)..units(end)).unwrap_or_default(),
                    sizes: sizes.get(units(start)..units(end)).unwrap_or_default(),
                },
            };
            let piece =
                self.pieces.get_mut(in_memory(number)).ok_or_else(|| Fault::bug("a byte behind the last piece"))?;
            piece.place(start..end, seen, out)?;
            start = end;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Writes) -> Result<(), Fault> {
        self.pieces.iter_mut().try_for_each(|piece| piece.finish(out))?;
        out.seal(self.pieces.len(), 0, self.descriptor.clone().into_bytes());
        Ok(())
    }
}
