//! Puts a disk together from an image and its parents: the same for every format that knows snapshots.

use std::collections::HashSet;
use std::sync::Arc;

use super::linear::{Linear, Rest};
use super::{OpenOptions, Opening};
use crate::fault::{Fault, Kind};
use crate::image::{Chain, Disk, Facts, Layer, Ledger};
use crate::io::InputFile;

/// Images on top of each other that are followed (R9).
const MAX_DEPTH: usize = 1024;

/// One image of a chain, opened.
pub struct Link {
    /// What was named.
    pub file: Arc<InputFile>,
    /// Its map.
    pub layer: Arc<dyn Layer>,
    /// What it says of itself.
    pub facts: Facts,
    /// Every file of it, `file` first.
    pub files: Vec<Arc<InputFile>>,
}

/// The images so far, the youngest first.
#[derive(Default)]
pub struct Links {
    seen: HashSet<std::path::PathBuf>,
    links: Vec<Link>,
    missing: Vec<Fault>,
    lost_parent: Option<Fault>,
}

impl Links {
    /// How many parents lie between the youngest image and the one that comes next.
    pub fn depth(&self) -> usize {
        self.links.len()
    }

    /// Before an image is opened: one that is in the chain already would lead round for ever.
    pub fn enter(&mut self, opening: &mut Opening<'_>, file: &Arc<InputFile>) -> Result<(), Fault> {
        let path = std::fs::canonicalize(file.name()).unwrap_or_else(|_| file.name().to_path_buf());
        if !self.seen.insert(path) {
            return Err(Fault::new(Kind::Damaged, file.name(), "the chain of parents leads back to this file"));
        }
        if self.links.len() == MAX_DEPTH {
            return Err(Fault::new(Kind::OverLimit, file.name(), "too many snapshots on top of each other")
                .expected(format!("at most {MAX_DEPTH}")));
        }
        opening.images.push(Arc::clone(file));
        Ok(())
    }

    /// The next image, and the files that it misses.
    pub fn push(&mut self, link: Link, missing: Vec<Fault>) {
        let mut link = link;
        if !self.links.is_empty() {
            link.facts.extents = Vec::new(); // told of the image that was given, and a chain may be long
        }
        self.links.push(link);
        self.missing.extend(missing);
    }

    /// What became of the search for the parent of the image that was pushed last. One that is not there is listed, where the user
    /// only wants a look; one that the user typed must be there.
    pub fn parent<P>(&mut self, options: &OpenOptions, found: Result<Option<P>, Fault>) -> Result<Option<P>, Fault> {
        let typed = self.links.len().checked_sub(1).is_some_and(|depth| options.parents.get(depth).is_some());
        match found {
            Err(fault) if !typed && options.may_lack_parent(&fault) => {
                self.lost_parent = Some(fault.clone());
                self.missing.push(fault);
                Ok(None)
            }
            found => found,
        }
    }

    /// The disk.
    pub fn disk(self, ledger: &Arc<Ledger>) -> Result<Disk, Fault> {
        let Links { links, missing, mut lost_parent, .. } = self;
        let mut disk: Option<Disk> = None;
        for Link { file, layer, facts, files } in links.into_iter().rev() {
            disk = Some(match disk {
                None => {
                    let mut base = Disk::single(Arc::clone(&layer), facts, files, Arc::clone(ledger))?;
                    if let Some(fault) = lost_parent.take() {
                        let lost = Linear::new(file, 0, base.facts.virtual_size, Rest::Lost(fault));
                        base.chain = Chain::over(layer, Chain::single(Arc::new(lost)));
                    }
                    base
                }
                Some(parent) => {
                    if parent.facts.virtual_size != facts.virtual_size {
                        let what = "parent and child differ in size";
                        let warning =
                            Fault::new(Kind::Damaged, file.name(), what).found(format!("{} bytes", facts.virtual_size));
                        ledger.warn(warning.against(format!("the parent has {}", parent.facts.virtual_size)));
                    }
                    Disk::over(layer, facts, files, parent)?
                }
            });
        }
        let mut disk = disk.ok_or_else(|| Fault::bug("a chain of no image"))?;
        disk.facts.missing = missing;
        Ok(disk)
    }
}
