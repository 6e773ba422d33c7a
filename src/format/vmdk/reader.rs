//! Opens a VMDK: its descriptor, its extents, and the parents that it is a snapshot of.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::cowd;
use super::extent::{Access, ExtentLine, ExtentType};
use super::extents::{Body, Extents};
use super::grain_tables::{GrainTables, Kind as TableKind};
use super::header::{self, SparseHeader, Stored};
use super::lock::refuse_locked;
use super::parse::{NO_PARENT, Parsed, descriptor_of, embedded, text};
use super::sesparse::{self, SeTables};
use super::stream::{self, StreamExtent};
use crate::fault::{Fault, Kind};
use crate::format::Opening;
use crate::image::{Disk, Facts, Geometry, SECTOR};
use crate::io::InputFile;

/// Snapshots on top of each other that are followed.
const MAX_DEPTH: usize = 1024;
/// The types that products write, as they write them; what an image calls itself otherwise is shown as `custom`.
const CREATE_TYPES: [&str; 18] = [
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "2GbMaxExtentSparse",
    "2GbMaxExtentFlat",
    "streamOptimized",
    "vmfs",
    "vmfsPreallocated",
    "vmfsEagerZeroedThick",
    "vmfsThin",
    "vmfsThick",
    "vmfsSparse",
    "seSparse",
    "fullDevice",
    "partitionedDevice",
    "vmfsRaw",
    "custom",
];

/// Opens `file` as a VMDK, with its parents.
pub fn open(opening: &mut Opening<'_>, file: Arc<InputFile>) -> Result<Disk, Fault> {
    let mut seen = HashSet::new();
    let mut images = Vec::new();
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
        next = image.parent(opening)?;
        images.push(image);
    }
    let mut disk: Option<Disk> = None;
    for image in images.into_iter().rev() {
        let facts = image.facts();
        disk = Some(match disk {
            None => Disk::single(Arc::new(image.extents), facts, image.files, Arc::clone(&opening.ledger))?,
            Some(parent) => {
                if parent.facts.virtual_size != facts.virtual_size {
                    let what = "parent and child differ in size";
                    let warning = Fault::new(Kind::Damaged, image.file.name(), what)
                        .found(format!("{} bytes", facts.virtual_size));
                    opening.ledger.warn(warning.against(format!("the parent has {}", parent.facts.virtual_size)));
                }
                Disk::over(Arc::new(image.extents), facts, image.files, parent)?
            }
        });
    }
    disk.ok_or_else(|| Fault::bug("a chain of no image"))
}

/// One image of a chain.
struct Image {
    /// What was named: the descriptor, or the file that holds it.
    file: Arc<InputFile>,
    descriptor: Parsed,
    extents: Extents,
    files: Vec<Arc<InputFile>>,
    /// Extents' files by the names that the descriptor has: one may serve many lines.
    named: HashMap<String, Arc<InputFile>>,
}

impl Image {
    fn open(opening: &mut Opening<'_>, file: Arc<InputFile>) -> Result<Image, Fault> {
        let mut raw = [0; header::LEN];
        let got = file.read_up_to(0, &mut raw)?;
        let sparse = raw.starts_with(&header::MAGIC);
        if !sparse && (raw.starts_with(&cowd::MAGIC) || raw.starts_with(&sesparse::MAGIC)) {
            return Err(unsupported(&file, "an extent of an ESXi snapshot").advice("give its descriptor"));
        }
        if sparse && got < header::LEN {
            return Err(Fault::damaged(file.name(), got as u64, "the VMDK is cut short within its header"));
        }
        let (descriptor, own) = match sparse {
            true => {
                let header = SparseHeader::parse(&raw, file.name())?;
                (embedded(&file, &header)?, Some(header))
            }
            false => (text(&file, 0, file.len())?, None),
        };
        if !opening.options.ignore_lock {
            refuse_locked(&file)?;
        }
        let mut image = Image {
            file: Arc::clone(&file),
            descriptor,
            extents: Extents::default(),
            files: vec![file],
            named: HashMap::new(),
        };
        image.refuse_what_is_elsewhere()?;
        image.check_parent_keys(opening)?;
        match own {
            Some(header) => image.own_extent(opening, header)?,
            None => image.named_extents(opening)?,
        }
        Ok(image)
    }

    fn fault(&self, kind: Kind, key: &str, what: &'static str) -> Fault {
        let fault = Fault::new(kind, self.file.name(), what);
        match self.descriptor.byte_of(key) {
            Some(byte) => fault.at(byte),
            None => fault,
        }
    }

    /// Encrypted disks, native snapshots and VirtualBox's children: the data is not in these files, or not to be had from them.
    fn refuse_what_is_elsewhere(&self) -> Result<(), Fault> {
        let said = |key: &str| self.descriptor.get(key).filter(|value| !value.is_empty());
        for key in ["encryptionKeys", "keyID"] {
            if said(key).is_some() {
                return Err(self
                    .fault(Kind::Unsupported, key, "an encrypted VMDK")
                    .advice("decrypt it where it was made"));
            }
        }
        if said("ddb.iofilters").is_some_and(|filters| filters.to_ascii_lowercase().contains("vmwarevmcrypt")) {
            return Err(self
                .fault(Kind::Unsupported, "ddb.iofilters", "an encrypted VMDK")
                .advice("decrypt it where it was made"));
        }
        if said("isNativeSnapshot").is_some_and(|value| value.eq_ignore_ascii_case("yes")) {
            return Err(self.fault(
                Kind::Unsupported,
                "isNativeSnapshot",
                "a snapshot that the storage keeps, not this file",
            ));
        }
        let parent = said("ddb.uuid.parent").and_then(|text| Uuid::parse_str(text).ok()).filter(|uuid| !uuid.is_nil());
        match parent {
            Some(uuid) if !self.is_child() => {
                let what = "a differencing VMDK of VirtualBox, whose parent is known by its uuid alone";
                Err(self
                    .fault(Kind::Unsupported, "ddb.uuid.parent", what)
                    .found(uuid)
                    .advice("VBoxManage clonemedium makes a disk of it"))
            }
            _ => Ok(()),
        }
    }

    fn is_child(&self) -> bool {
        self.descriptor.get("parentCID").is_some() && self.descriptor.cid("parentCID") != Some(NO_PARENT)
    }

    /// A parent that is named and whose content id cannot be read: reading on as if there were none would hand out zeroes.
    fn check_parent_keys(&self, opening: &Opening<'_>) -> Result<(), Fault> {
        let text = self.descriptor.get("parentCID");
        let hint = self.descriptor.get("parentFileNameHint").filter(|hint| !hint.is_empty());
        match (text, self.descriptor.cid("parentCID"), hint) {
            (Some(text), None, _) => Err(self
                .fault(Kind::Damaged, "parentCID", "VMDK descriptor: parentCID")
                .found(text)
                .expected("hex digits")),
            (None, _, Some(hint)) => {
                let what = "VMDK descriptor: a parent is named, and no parentCID";
                Err(self.fault(Kind::Damaged, "parentFileNameHint", what).found(hint))
            }
            (_, Some(NO_PARENT), Some(hint)) => {
                let what = "a parent is named, and parentCID says that there is none";
                opening.ledger.warn(self.fault(Kind::Damaged, "parentFileNameHint", what).found(hint));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The parent that the descriptor names: beside the child, or by its bare name. Its content id must be what the child recorded.
    fn parent(&self, opening: &mut Opening<'_>) -> Result<Option<Arc<InputFile>>, Fault> {
        if !self.is_child() {
            return Ok(None);
        }
        let Some(hint) = self.descriptor.get("parentFileNameHint").filter(|hint| !hint.is_empty()) else {
            return Err(self.fault(Kind::NotFound, "parentCID", "a snapshot that does not name its parent"));
        };
        let base = hint.rsplit(['/', '\\']).next().unwrap_or(hint);
        let found = match opening.gate.named(&self.file, Path::new(hint)) {
            Err(fault) if base != hint => {
                opening.gate.named(&self.file, Path::new(base)).map_err(|beside| match beside.kind() {
                    Kind::NotFound => fault,
                    _ => beside,
                })
            }
            other => other,
        };
        let file = found.map_err(|fault| match fault.kind() {
            Kind::NotFound => self
                .fault(Kind::NotFound, "parentFileNameHint", "the parent of this snapshot is not there")
                .found(hint)
                .advice("put the parent beside the snapshot, under that name"),
            _ => fault,
        })?;
        if !opening.options.ignore_cid {
            self.check_parent(&file)?;
        }
        Ok(Some(file))
    }

    fn check_parent(&self, parent: &InputFile) -> Result<(), Fault> {
        let recorded = self.descriptor.cid("parentCID");
        let found = descriptor_of(parent)?.cid("CID");
        if recorded == found {
            return Ok(());
        }
        let show = |cid: Option<u32>| cid.map_or("none".to_string(), |cid| format!("{cid:08x}"));
        Err(self
            .fault(
                Kind::Changed,
                "parentCID",
                "the parent was changed since the snapshot was taken, or is another disk",
            )
            .found(format!("CID {} in {}", show(found), parent.name().display()))
            .expected(format!("parentCID {}", show(recorded)))
            .advice("look for the parent as it was: what lies under the snapshot is not what the machine saw; --ignore-cid goes on"))
    }

    /// The one extent of a file that holds its own descriptor: the file itself, whatever name stands there.
    fn own_extent(&mut self, opening: &mut Opening<'_>, header: SparseHeader) -> Result<(), Fault> {
        let file = Arc::clone(&self.file);
        let line = match self.descriptor.extents.as_slice() {
            [] => {
                if is_piece(file.name()) {
                    let what = "a piece of a split VMDK, without its descriptor";
                    return Err(Fault::new(Kind::NotFound, file.name(), what)
                        .advice("give the descriptor that names the pieces"));
                }
                let warning = Fault::new(Kind::Damaged, file.name(), "a VMDK extent without a descriptor");
                opening.ledger.warn(warning.against("it is read as a disk of its own capacity"));
                let sectors = header.capacity;
                ExtentLine { byte: 0, access: Access::Rw, sectors, kind: ExtentType::Sparse, file: None, offset: 0 }
            }
            [line] => line.clone(),
            [_, second, ..] => {
                let what = "an embedded VMDK descriptor with more than one extent";
                return Err(Fault::new(Kind::Unsupported, file.name(), what).at(second.byte));
            }
        };
        let len = self.extent_len(&line)?;
        match line.access {
            Access::None => self.extents.push(len, Body::Lost(no_access(&file, &line))),
            _ => self.push_sparse(opening, file, header, len)?,
        }
        self.whole()
    }

    fn named_extents(&mut self, opening: &mut Opening<'_>) -> Result<(), Fault> {
        for line in std::mem::take(&mut self.descriptor.extents) {
            let len = self.extent_len(&line)?;
            if len > 0 {
                self.named_extent(opening, &line, len)?;
            }
        }
        self.whole()
    }

    fn named_extent(&mut self, opening: &mut Opening<'_>, line: &ExtentLine, len: u64) -> Result<(), Fault> {
        let refuse = |what: &'static str| Err(Fault::new(Kind::Unsupported, self.file.name(), what).at(line.byte));
        match line.kind {
            ExtentType::Zero => {
                self.extents.push(len, Body::Zero);
                return Ok(());
            }
            ExtentType::VmfsRdm | ExtentType::VmfsRaw => {
                return refuse("a raw device mapping: the data is on the LUN that it names");
            }
            ExtentType::VsanSparse => return refuse("an object of vSAN: the data is not in files"),
            _ if line.access == Access::None => {
                self.extents.push(len, Body::Lost(no_access(&self.file, line)));
                return Ok(());
            }
            _ => {}
        }
        let Some(name) = &line.file else {
            return Err(Fault::damaged(self.file.name(), line.byte, "VMDK descriptor: an extent without a file"));
        };
        if ["vsan://", "vvol://"].iter().any(|scheme| name.to_ascii_lowercase().starts_with(scheme)) {
            return refuse("an object of vSAN or VVol: the data is not in files");
        }
        let file = match self.named.get(name) {
            Some(file) => Arc::clone(file),
            None => {
                let file = opening.gate.named(&self.file, Path::new(name)).map_err(|fault| match fault.kind() {
                    Kind::NotFound => Fault::new(Kind::NotFound, self.file.name(), "an extent is not there")
                        .at(line.byte)
                        .found(name)
                        .advice("put it beside the descriptor, under that name"),
                    _ => fault,
                })?;
                self.named.insert(name.clone(), Arc::clone(&file));
                self.files.push(Arc::clone(&file));
                file
            }
        };
        let mut raw = [0; header::LEN];
        let got = match line.kind {
            ExtentType::Flat | ExtentType::Vmfs => 0,
            _ => file.read_up_to(0, &mut raw)?,
        };
        if line.kind == ExtentType::VmfsSparse && raw.starts_with(&cowd::MAGIC) {
            let header = cowd::read(&file)?;
            return self.push_tables(opening, file, header, len, TableKind::PlainSomeTables);
        }
        if line.kind == ExtentType::SeSparse {
            let tables = SeTables::open(Arc::clone(&file))?;
            let stored = len.min(tables.capacity.saturating_mul(SECTOR));
            let short = Fault::damaged(file.name(), 16, "VMDK extent capacity is less than the descriptor says")
                .found(format!("{} sectors", tables.capacity))
                .expected(len / SECTOR);
            self.extents.push(stored, Body::SeSparse(Box::new(tables)));
            self.extents.push(len - stored, Body::Lost(short));
            return Ok(());
        }
        if matches!(line.kind, ExtentType::Flat | ExtentType::Vmfs) {
            let at = line.offset.checked_mul(SECTOR).filter(|at| at.checked_add(len).is_some()).ok_or_else(|| {
                Fault::new(Kind::OverLimit, self.file.name(), "VMDK extent offset").at(line.byte).found(line.offset)
            })?;
            self.extents.push(len, Body::Flat { file, at });
            return Ok(());
        }
        if got < header::LEN {
            return Err(Fault::damaged(file.name(), got as u64, "the VMDK extent is cut short within its header"));
        }
        let header = SparseHeader::parse(&raw, file.name())?;
        self.push_sparse(opening, file, header, len)
    }

    fn push_sparse(
        &mut self,
        opening: &mut Opening<'_>,
        file: Arc<InputFile>,
        header: SparseHeader,
        len: u64,
    ) -> Result<(), Fault> {
        let (kind, header) = match header.grains_are {
            Stored::Plain if header.gd_offset.is_none() => {
                return Err(Fault::damaged(file.name(), 56, "VMDK without a grain directory"));
            }
            Stored::Plain => (TableKind::Plain, header),
            Stored::Deflated => (TableKind::Packed, stream::complete(&opening.ledger, &file, header, len)?),
            Stored::Unknown { compressed, markers, algorithm } => {
                let found = format!("compressed {compressed}, markers {markers}, algorithm {algorithm}");
                return Err(unsupported(&file, "VMDK compression flags that nobody writes").at(8).found(found));
            }
        };
        if header.unclean_shutdown {
            let warning =
                Fault::new(Kind::Damaged, file.name(), "the program that wrote this VMDK did not come to its end")
                    .at(72);
            opening.ledger.warn(warning.against("its grain tables are held against their copies"));
        }
        self.push_tables(opening, file, header, len, kind)
    }

    fn push_tables(
        &mut self,
        opening: &mut Opening<'_>,
        file: Arc<InputFile>,
        header: SparseHeader,
        len: u64,
        kind: TableKind,
    ) -> Result<(), Fault> {
        // The line decides how much of the disk the extent is; what the header lacks of it cannot be had.
        let capacity = header.capacity.saturating_mul(SECTOR);
        let stored = len.min(capacity);
        if capacity - stored > header.grain_sectors * SECTOR {
            let odd = Fault::damaged(
                file.name(),
                12,
                "VMDK extent capacity is more than the descriptor says: the rest is left out",
            );
            opening.ledger.warn(
                odd.found(format!("{} sectors", header.capacity))
                    .against(format!("the descriptor says {}", len / SECTOR)),
            );
        }
        let short = Fault::damaged(file.name(), 12, "VMDK extent capacity is less than the descriptor says")
            .found(format!("{} sectors", header.capacity))
            .expected(len / SECTOR);
        let start = self.extents.len();
        if stored > 0 {
            let tables = GrainTables::open(Arc::clone(&file), Arc::clone(&opening.ledger), header, start, kind)?;
            let tables = Box::new(tables);
            self.extents.push(
                stored,
                match kind {
                    TableKind::Packed => Body::Stream(tables, StreamExtent { file, len: stored }),
                    _ => Body::Sparse(tables),
                },
            );
        }
        self.extents.push(len - stored, Body::Lost(short));
        Ok(())
    }

    /// An extent's length in bytes, with which the disk is still a file's size at most.
    fn extent_len(&self, line: &ExtentLine) -> Result<u64, Fault> {
        let total = line.sectors.checked_mul(SECTOR).and_then(|len| self.extents.len().checked_add(len));
        match total.filter(|total| i64::try_from(*total).is_ok()) {
            Some(total) => Ok(total - self.extents.len()),
            None => Err(Fault::new(
                Kind::OverLimit,
                self.file.name(),
                "the extents of the VMDK are larger than a disk can be",
            )
            .at(line.byte)),
        }
    }

    fn whole(&self) -> Result<(), Fault> {
        match self.extents.len() {
            0 => Err(Fault::new(Kind::Damaged, self.file.name(), "a VMDK of 0 sectors: it has no extent")),
            _ => Ok(()),
        }
    }

    fn facts(&self) -> Facts {
        let said = |key: &str| self.descriptor.get(key);
        let number = |key: &str| said(&format!("ddb.geometry.{key}")).and_then(|text| text.parse().ok());
        let create_type = said("createType").unwrap_or_default();
        Facts {
            subformat: CREATE_TYPES
                .iter()
                .find(|known| known.eq_ignore_ascii_case(create_type))
                .copied()
                .unwrap_or("custom"),
            uuid: said("ddb.uuid.image").and_then(|text| Uuid::parse_str(text).ok()).filter(|uuid| !uuid.is_nil()),
            cid: self.descriptor.cid("CID"),
            geometry: number("cylinders")
                .zip(number("heads"))
                .zip(number("sectors"))
                .map(|((cylinders, heads), sectors)| Geometry { cylinders, heads, sectors }),
            adapter: said("ddb.adapterType").and_then(|word| word.parse().ok()),
            ..Facts::new(super::FORMAT.name, super::FORMAT.title, self.extents.len())
        }
    }
}

fn unsupported(file: &InputFile, what: &'static str) -> Fault {
    Fault::new(Kind::Unsupported, file.name(), what)
}

fn no_access(file: &InputFile, line: &ExtentLine) -> Fault {
    Fault::new(Kind::Damaged, file.name(), "an extent that the descriptor says is not to be had (NOACCESS)")
        .at(line.byte)
}

/// Is a file called as pieces of split disks are: `-s001.vmdk`?
fn is_piece(name: &Path) -> bool {
    let stem: PathBuf = name.file_stem().unwrap_or_default().into();
    let stem = stem.to_string_lossy();
    stem.rsplit_once("-s").is_some_and(|(_, digits)| digits.len() >= 3 && digits.bytes().all(|b| b.is_ascii_digit()))
}
