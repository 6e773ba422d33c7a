//! Writes monolithicSparse: one file, with its descriptor in it.

use super::descriptor::{Descriptor, Style, own_name, parent};
use super::grains::{Grains, MAX_SECTORS};
use super::layout::{DESCRIPTOR_SECTORS, Layout};
use crate::fault::{Fault, Kind};
use crate::format::Wish;
use crate::image::{Encoder, Facts, Order, Placer, Plan, PlannedFile, SECTOR, Writer};
use crate::io::in_memory;

/// The one file.
const FILE: usize = 0;

/// A writer for a disk of these facts.
pub fn writer(facts: &Facts, wish: &Wish) -> Result<Box<dyn Writer>, Fault> {
    let capacity = super::capacity(facts, &wish.output)?;
    if capacity >= MAX_SECTORS {
        return Err(Fault::new(Kind::OverLimit, &wish.output, "monolithicSparse holds less than 2 TiB")
            .found(format!("{} bytes", facts.virtual_size))
            .advice("-s twoGbMaxExtentSparse or -s monolithicFlat holds it"));
    }
    let layout = Layout::new(capacity, super::grain_sectors(wish)?, true);
    let extents = vec![format!("RW {capacity} SPARSE \"{}\"", own_name(wish))];
    let mut descriptor = Descriptor::new(Style::Hosted("monolithicSparse"), capacity, extents, facts, wish);
    descriptor.parent = parent(wish, facts)?;
    let plan = Plan {
        files: vec![PlannedFile { suffix: None, len: None }],
        virtual_size: facts.virtual_size,
        place_unit: layout.grain(),
        test_unit: layout.grain(),
        order: Order::Ordered,
        holes: true,
        decisions: descriptor.decisions(),
        notes: Vec::new(),
    };
    let delta = descriptor.parent.is_some();
    let mut text = descriptor.text().into_bytes();
    if text.len() as u64 > DESCRIPTOR_SECTORS * SECTOR {
        return Err(Fault::new(Kind::Usage, &wish.output, "the name is too long for the embedded descriptor"));
    }
    text.resize(in_memory(DESCRIPTOR_SECTORS * SECTOR), 0);
    Ok(Box::new(Sparse { plan, layout, delta, descriptor: text, output: wish.output.clone() }))
}

struct Sparse {
    plan: Plan,
    layout: Layout,
    delta: bool,
    descriptor: Vec<u8>,
    output: std::path::PathBuf,
}

impl Writer for Sparse {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn placer(&self) -> Box<dyn Placer> {
        let (descriptor, output) = (self.descriptor.clone(), self.output.clone());
        Box::new(Grains::new(FILE, 0, self.layout.clone(), self.delta, descriptor, output))
    }

    fn encoder(&self) -> Option<Box<dyn Encoder>> {
        None
    }
}
