//! Opens a VMDK with the parents that it is a snapshot of.

use std::sync::Arc;

use super::beside::warn_of_newer;
use super::image::Image;
use super::parent;
use super::parse::MAX_EXTENTS;
use crate::fault::{Fault, Kind};
use crate::format::Opening;
use crate::format::chain::{Link, Links};
use crate::image::Disk;
use crate::io::InputFile;

/// Opens `file` as a VMDK, with its parents.
pub fn open(opening: &mut Opening<'_>, file: Arc<InputFile>) -> Result<Disk, Fault> {
    let (mut links, mut extents) = (Links::default(), 0);
    let mut next = Some(file);
    while let Some(file) = next.take() {
        links.enter(opening, &file)?;
        let image = Image::open(opening, file)?;
        extents += image.descriptor.extents.len();
        if extents > 2 * MAX_EXTENTS {
            return Err(Fault::new(Kind::OverLimit, image.file.name(), "too many extents in a chain of VMDKs")
                .expected(format!("at most {}", 2 * MAX_EXTENTS)));
        }
        if links.depth() == 0 && !opening.options.is_base {
            warn_of_newer(&image.file, &image.descriptor, &opening.ledger);
        }
        let parent = parent::of(&image, opening, links.depth());
        let facts = image.facts();
        let Image { file, extents, files, missing, .. } = image;
        let extents = if links.depth() > 0 { extents.of_parent() } else { extents };
        links.push(Link { file, layer: Arc::new(extents), facts, files }, missing);
        next = links.parent(opening.options, parent)?;
    }
    links.disk(&opening.ledger)
}
