//! Opens a VMDK with the parents that it is a snapshot of.

use std::collections::HashSet;
use std::sync::Arc;

use super::beside::warn_of_newer;
use super::extents::Extents;
use super::image::Image;
use super::parent;
use crate::fault::{Fault, Kind};
use crate::format::Opening;
use crate::image::{Chain, Disk, Layer};
use crate::io::InputFile;

/// Snapshots on top of each other that are followed.
const MAX_DEPTH: usize = 1024;

/// Opens `file` as a VMDK, with its parents.
pub fn open(opening: &mut Opening<'_>, file: Arc<InputFile>) -> Result<Disk, Fault> {
    let mut seen = HashSet::new();
    let mut images = Vec::new();
    let (mut missing, mut lost_parent) = (Vec::new(), None);
    let mut next = Some(file);
    while let Some(file) = next.take() {
        let path = std::fs::canonicalize(file.name()).unwrap_or_else(|_| file.name().to_path_buf());
        if !seen.insert(path) {
            return Err(Fault::new(Kind::Damaged, file.name(), "the chain of parents leads back to this file"));
        }
        if images.len() == MAX_DEPTH {
            return Err(Fault::new(Kind::OverLimit, file.name(), "too many snapshots on top of each other")
                .expected(format!("at most {MAX_DEPTH}")));
        }
        let image = Image::open(opening, file)?;
        if images.is_empty() {
            warn_of_newer(&image.file, &image.descriptor, &opening.ledger);
        }
        missing.extend_from_slice(&image.missing);
        next = match parent::of(&image, opening, images.len()) {
            Err(fault) if opening.options.is_listed(&fault) => {
                lost_parent = Some(fault.clone());
                missing.push(fault);
                None
            }
            found => found?,
        };
        images.push(image);
    }
    let mut disk: Option<Disk> = None;
    for image in images.into_iter().rev() {
        let (file, facts) = (Arc::clone(&image.file), image.facts());
        let layer: Arc<dyn Layer> = Arc::new(image.extents);
        disk = Some(match disk {
            None => {
                let mut base = Disk::single(Arc::clone(&layer), facts, image.files, Arc::clone(&opening.ledger))?;
                if let Some(fault) = lost_parent.take() {
                    let lost = Extents::lost(base.facts.virtual_size, fault);
                    base.chain = Chain::over(layer, Chain::single(Arc::new(lost)));
                }
                base
            }
            Some(parent) => {
                if parent.facts.virtual_size != facts.virtual_size {
                    let what = "parent and child differ in size";
                    let warning =
                        Fault::new(Kind::Damaged, file.name(), what).found(format!("{} bytes", facts.virtual_size));
                    opening.ledger.warn(warning.against(format!("the parent has {}", parent.facts.virtual_size)));
                }
                Disk::over(layer, facts, image.files, parent)?
            }
        });
    }
    let mut disk = disk.ok_or_else(|| Fault::bug("a chain of no image"))?;
    disk.facts.missing = missing;
    Ok(disk)
}
