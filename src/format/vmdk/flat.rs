//! Writes the kinds whose extents are the guest's bytes in a row: monolithicFlat, vmfs and vmfsThin in one file beside the descriptor,
//! twoGbMaxExtentFlat in pieces.

use std::ops::Range;

use super::descriptor::{Descriptor, Style, name_beside};
use super::split;
use crate::fault::Fault;
use crate::format::Wish;
use crate::format::flat::{FlatPlacer, TEST_UNIT};
use crate::image::{Encoder, Facts, Order, Placer, Plan, PlannedFile, SECTOR, Seen, Writer, Writes};

/// What the one extent's file is called: the stem of OUTPUT and this.
const SUFFIX: &str = "-flat.vmdk";

/// A writer of monolithicFlat. The offset is mandatory for FLAT: QEMU refuses the line without it.
pub fn monolithic(facts: &Facts, wish: &Wish) -> Result<Box<dyn Writer>, Fault> {
    let line = |sectors, name: &str| format!("RW {sectors} FLAT \"{name}\" 0");
    writer(facts, wish, Style::Hosted("monolithicFlat"), None, line)
}

/// A writer of twoGbMaxExtentFlat.
pub fn in_pieces(facts: &Facts, wish: &Wish) -> Result<Box<dyn Writer>, Fault> {
    let line = |sectors, name: &str| format!("RW {sectors} FLAT \"{name}\" 0");
    writer(facts, wish, Style::Hosted("twoGbMaxExtentFlat"), Some(split::PIECE_SECTORS), line)
}

/// A writer of vmfs. The offset must be absent for VMFS: QEMU refuses the line with it.
pub fn vmfs(facts: &Facts, wish: &Wish) -> Result<Box<dyn Writer>, Fault> {
    writer(facts, wish, Style::Vmfs { thin: false }, None, |sectors, name| format!("RW {sectors} VMFS \"{name}\""))
}

/// A writer of vmfs whose blocks the host may allocate when they are written: thick and thin differ in one key.
pub fn vmfs_thin(facts: &Facts, wish: &Wish) -> Result<Box<dyn Writer>, Fault> {
    writer(facts, wish, Style::Vmfs { thin: true }, None, |sectors, name| format!("RW {sectors} VMFS \"{name}\""))
}

fn writer(
    facts: &Facts,
    wish: &Wish,
    style: Style,
    piece_sectors: Option<u64>,
    line: impl Fn(u64, &str) -> String,
) -> Result<Box<dyn Writer>, Fault> {
    let capacity = super::capacity(facts, &wish.output)?;
    let pieces = match piece_sectors {
        None => vec![split::Piece { suffix: SUFFIX.into(), sectors: capacity }],
        Some(_) => split::pieces(capacity, 'f', &wish.output)?,
    };
    let mut extents = Vec::new();
    for piece in &pieces {
        extents.push(line(piece.sectors, &name_beside(wish, &piece.suffix)?));
    }
    let descriptor = Descriptor::new(style, capacity, extents, facts, wish);
    let files = pieces
        .iter()
        .map(|piece| PlannedFile { suffix: Some(piece.suffix.clone()), len: Some(piece.sectors * SECTOR) });
    let plan = Plan {
        files: files.chain([PlannedFile { suffix: None, len: None }]).collect(),
        virtual_size: facts.virtual_size,
        place_unit: TEST_UNIT,
        test_unit: TEST_UNIT,
        order: Order::Free,
        holes: !wish.preallocate,
        decisions: descriptor.decisions(),
        notes: descriptor.notes(facts).into_iter().chain(split::note(pieces.len())).collect(),
    };
    let piece = piece_sectors.map_or(u64::MAX, |sectors| sectors * SECTOR);
    Ok(Box::new(Flat { plan, piece, descriptor: descriptor.text() }))
}

struct Flat {
    plan: Plan,
    piece: u64,
    descriptor: String,
}

impl Writer for Flat {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn placer(&self) -> Box<dyn Placer> {
        let extents = FlatPlacer { file: 0, virtual_size: self.plan.virtual_size, piece: self.piece };
        // The last file, as it names the others.
        let file = self.plan.files.len() - 1;
        Box::new(WithDescriptor { extents, file, descriptor: self.descriptor.clone() })
    }

    fn encoder(&self) -> Option<Box<dyn Encoder>> {
        None
    }
}

struct WithDescriptor {
    extents: FlatPlacer,
    /// Index of the descriptor in the plan.
    file: usize,
    descriptor: String,
}

impl Placer for WithDescriptor {
    fn begin(&mut self, out: &mut Writes) -> Result<(), Fault> {
        self.extents.begin(out)
    }

    fn place(&mut self, guest: Range<u64>, seen: Seen<'_>, out: &mut Writes) -> Result<(), Fault> {
        self.extents.place(guest, seen, out)
    }

    fn finish(&mut self, out: &mut Writes) -> Result<(), Fault> {
        self.extents.finish(out)?;
        out.seal(self.file, 0, self.descriptor.clone().into_bytes());
        Ok(())
    }
}
