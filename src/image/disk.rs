//! An opened disk: its chain of layers and what is known about it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use uuid::Uuid;

use super::{Adapter, Chain, Files, Geometry, IdentifierSource, LOGICAL_SECTOR, Layer, Ledger};
use crate::fault::{Fault, Kind};
use crate::io::{FileId, InputFile, in_memory};

/// Who wrote an image, as it says itself or as its marks show.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Creator {
    /// The creator application as recorded, without padding.
    pub application: Option<String>,
    /// The product that is known to write that.
    pub product: Option<&'static str>,
    /// Its version as recorded.
    pub version: Option<String>,
    /// The host system as recorded, without padding.
    pub host_os: Option<String>,
}

/// A stretch of a disk that the image keeps in a place of its own.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Extent {
    /// What may be done with it, in the format's word.
    pub access: &'static str,
    /// How it is stored, in the format's word.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Bytes of the disk.
    #[serde(rename = "length")]
    pub len: u64,
    /// The file, as the image names it.
    pub file: Option<String>,
    /// Byte of that file at which it begins.
    pub offset: u64,
}

/// What `info` prints and writers are made from.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Name of the format, as in `FORMATS`.
    pub format: &'static str,
    /// Its title for people.
    pub title: &'static str,
    /// The variant, in the format's own word; empty where there is but one.
    pub subformat: &'static str,
    /// Size of the guest's disk in bytes, a whole number of 512-byte sectors.
    pub virtual_size: u64,
    /// Zeroes among these that the image does not have: a raw disk's last sector is made whole.
    pub padding: u64,
    /// Logical sector size of the guest in bytes: 512 or 4096.
    pub logical_sector_size: u32,
    /// The image's own identifier.
    pub uuid: Option<Uuid>,
    /// The content id of a VMDK.
    pub cid: Option<u32>,
    /// The geometry as recorded.
    pub geometry: Option<Geometry>,
    /// The controller as recorded.
    pub adapter: Option<Adapter>,
    /// The controller that the machines of this format boot from, where the format itself records none.
    pub usual_adapter: Option<Adapter>,
    /// Who wrote it.
    pub creator: Option<Creator>,
    /// When it was made, as it says itself.
    pub created: Option<SystemTime>,
    /// The unit of allocation in bytes, where there is one.
    pub block_size: Option<u64>,
    /// Why no machine will boot it as a hard disk, where that is known.
    pub unfit_for_machines: Option<&'static str>,
    /// Of an optical disc: the platforms that its boot catalog has something for.
    pub disc_boots: Option<Vec<&'static str>>,
    /// Whatever else is recorded and worth telling, by the format's own names.
    pub recorded: Vec<(&'static str, String)>,
    /// The extents, the first thousands of them.
    pub extents: Vec<Extent>,
    /// How many extents there are.
    pub extent_count: u64,
    /// Files that are not there, where the image was opened all the same.
    pub missing: Vec<Fault>,
}

impl Facts {
    /// Of a disk of which nothing but its size is known, with the sectors of nearly all disks.
    pub fn new(format: &'static str, title: &'static str, virtual_size: u64) -> Facts {
        Facts {
            format,
            title,
            subformat: "",
            virtual_size,
            padding: 0,
            logical_sector_size: LOGICAL_SECTOR,
            uuid: None,
            cid: None,
            geometry: None,
            adapter: None,
            usual_adapter: None,
            creator: None,
            created: None,
            block_size: None,
            unfit_for_machines: None,
            disc_boots: None,
            recorded: Vec::new(),
            extents: Vec::new(),
            extent_count: 0,
            missing: Vec::new(),
        }
    }
}

/// A disk that can be read: the chain resolved, with its facts, its files and its ledger.
pub struct Disk {
    /// The layers.
    pub chain: Chain,
    /// What is known about the disk.
    pub facts: Facts,
    /// Warnings met while opening and later.
    pub ledger: Arc<Ledger>,
    files: Arc<Files>,
    /// How many of the files, the first ones, are the youngest image's own.
    own: usize,
    images: Vec<PathBuf>,
}

impl Disk {
    /// A disk of one layer.
    pub fn single(
        layer: Arc<dyn Layer>,
        facts: Facts,
        files: Vec<Arc<InputFile>>,
        ledger: Arc<Ledger>,
    ) -> Result<Disk, Fault> {
        let file = files.first().map(|f| f.name().to_path_buf()).unwrap_or_default();
        if facts.virtual_size == 0 {
            return Err(Fault::new(Kind::Damaged, file, "the disk has no sectors").found("a size of 0"));
        }
        if layer.guest_len() != facts.virtual_size {
            return Err(Fault::bug("the map is not as long as the disk"));
        }
        let own = files.len();
        let files = Arc::new(Files::new(files));
        Ok(Disk { chain: Chain::single(layer), facts, files, own, ledger, images: vec![file] })
    }

    /// This image on top of `parent`, which becomes a part of it.
    pub fn over(layer: Arc<dyn Layer>, facts: Facts, files: Vec<Arc<InputFile>>, parent: Disk) -> Result<Disk, Fault> {
        let Disk { chain, files: more, images, ledger, .. } = parent;
        let all = [&files, more.list()].concat();
        let mut disk = Disk::single(Arc::clone(&layer), facts, files, ledger)?;
        disk.chain = Chain::over(layer, chain);
        disk.files = Arc::new(Files::new(all));
        disk.images.extend(images);
        Ok(disk)
    }

    /// The disk with `size` bytes, at least as many as it had: zeroes are appended.
    pub fn grow(&mut self, size: u64) {
        if size > self.facts.virtual_size {
            self.chain = self.chain.clone().grown(size);
            self.facts.virtual_size = size;
        }
    }

    /// The images of the chain, the youngest first, by the names they were opened by.
    pub fn images(&self) -> &[PathBuf] {
        &self.images
    }

    /// Every file that the disk is read from; the first is what the user named.
    pub fn files(&self) -> &[Arc<InputFile>] {
        self.files.list()
    }

    /// The same, to be kept by who finds them by their numbers.
    pub fn shared_files(&self) -> Arc<Files> {
        Arc::clone(&self.files)
    }

    /// The files of the image that the user named, without those of its parents.
    pub fn own_files(&self) -> &[Arc<InputFile>] {
        self.files().get(..self.own).unwrap_or_default()
    }

    /// A file of the other image's own that this one is read from beside the file that the user named: without it, nothing is left of this
    /// disk. None where both are one image.
    pub fn leans_on<'a>(&self, other: &'a Disk) -> Option<&'a Path> {
        let is_one = |a: &Arc<InputFile>, b: &Arc<InputFile>| a.is_same(b).unwrap_or(false);
        let (named, needed) = self.files().split_first()?;
        if is_one(named, other.files().first()?) {
            return None;
        }
        let shared = |own: &&Arc<InputFile>| needed.iter().any(|file| is_one(file, own));
        other.own_files().iter().find(shared).map(|file| file.name())
    }

    /// The file that a run names.
    pub fn file(&self, id: FileId) -> Option<&Arc<InputFile>> {
        self.files.get(id)
    }

    /// Bytes that the source's files take up on their disk: what a conversion may have to store at most (holes apart).
    pub fn stored_at_most(&self) -> u64 {
        // Packed bytes unpack to more.
        if self.chain.layers().iter().any(|layer| layer.unpacker().is_some()) {
            return self.facts.virtual_size;
        }
        let sum = self.files().iter().fold(0u64, |sum, f| sum.saturating_add(f.allocated()));
        sum.min(self.facts.virtual_size)
    }

    /// An error where a source file changed its size or time since it was opened (R4).
    pub fn unchanged(&self) -> Result<(), Fault> {
        self.files().iter().try_for_each(|f| f.unchanged())
    }

    /// What identifiers may be derived from: the source's own, or its first bytes.
    pub fn identifier_source(&self) -> Result<IdentifierSource, Fault> {
        let head = match (self.facts.uuid, self.files().first()) {
            (None, Some(file)) => {
                let mut head = vec![0; in_memory(file.len().min(64 << 10))];
                file.read_around(0, &mut head)?;
                head
            }
            _ => Vec::new(),
        };
        Ok(IdentifierSource { uuid: self.facts.uuid, head, size: self.facts.virtual_size })
    }
}
