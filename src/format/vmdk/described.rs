//! What a descriptor decides before any extent is looked at: the same for images in files and for streams through pipes.

use std::path::Path;

use uuid::Uuid;

use super::extent::{Access, ExtentLine, ExtentType};
use super::header::{self, SparseHeader};
use super::parent::Link;
use super::parse::{NO_PARENT, Parsed};
use crate::fault::{Fault, Kind};
use crate::image::{Adapter, Ledger};

/// The last version of a descriptor that is read: 2 is that of encrypted disks, 3 of disks whose changes are tracked, 4 of vSAN's.
const MAX_VERSION: u32 = 4;

/// A descriptor, and the file that it stands in.
#[derive(Clone, Copy)]
pub struct Described<'a> {
    /// Of the file, for messages.
    pub name: &'a Path,
    /// What it says.
    pub descriptor: &'a Parsed,
}

impl Described<'_> {
    /// A fault in the line of a key.
    pub fn fault(&self, kind: Kind, key: &str, what: &'static str) -> Fault {
        let fault = Fault::new(kind, self.name, what);
        match self.descriptor.byte_of(key) {
            Some(byte) => fault.at(byte),
            None => fault,
        }
    }

    /// Refuses what cannot be read right whatever the extents hold; warns of what is odd.
    pub fn check(&self, ledger: &Ledger) -> Result<(), Fault> {
        self.check_version()?;
        self.refuse_what_is_elsewhere()?;
        self.check_parent_keys(ledger)?;
        for (byte, key) in &self.descriptor.repeated {
            let what = "a key of the VMDK descriptor comes again with another value: the first counts";
            ledger.warn(Fault::damaged(self.name, *byte, what).found(key));
        }
        if let Some(word) = self.descriptor.said("ddb.adapterType").filter(|word| word.parse::<Adapter>().is_err()) {
            let what = "the VMDK descriptor names a controller that is not known";
            ledger.warn(self.fault(Kind::Damaged, "ddb.adapterType", what).found(word));
        }
        Ok(())
    }

    /// A later version may mean anything.
    fn check_version(&self) -> Result<(), Fault> {
        let version = self.descriptor.said("version").and_then(|text| text.parse::<u32>().ok());
        match version.is_some_and(|version| version > MAX_VERSION) {
            true => Err(self
                .fault(Kind::Unsupported, "version", "VMDK descriptor version")
                .found(version.unwrap_or_default())
                .expected(format!("1 to {MAX_VERSION}"))),
            false => Ok(()),
        }
    }

    /// Encrypted disks and native snapshots: the data is not in these files, or not to be had from them.
    fn refuse_what_is_elsewhere(&self) -> Result<(), Fault> {
        let said = |key: &str| self.descriptor.said(key);
        let filtered =
            said("ddb.iofilters").is_some_and(|filters| filters.to_ascii_lowercase().contains("vmwarevmcrypt"));
        let encrypted = ["encryptionKeys", "keyID"].into_iter().find(|key| said(key).is_some());
        if let Some(key) = encrypted.or(filtered.then_some("ddb.iofilters")) {
            return Err(self.fault(Kind::Unsupported, key, "an encrypted VMDK").advice("decrypt it where it was made"));
        }
        if said("isNativeSnapshot").is_some_and(|value| value.eq_ignore_ascii_case("yes")) {
            return Err(self.fault(
                Kind::Unsupported,
                "isNativeSnapshot",
                "a snapshot that the storage keeps, not this file",
            ));
        }
        Ok(())
    }

    /// A parent that is named and whose content id cannot be read: reading on as if there were none would hand out zeroes.
    fn check_parent_keys(&self, ledger: &Ledger) -> Result<(), Fault> {
        let text = self.descriptor.get("parentCID");
        let hint = self.descriptor.said("parentFileNameHint");
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
                ledger.warn(self.fault(Kind::Damaged, "parentFileNameHint", what).found(hint));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// How the image knows its parent, where it has one.
    pub fn link(&self) -> Result<Option<Link>, Fault> {
        if self.descriptor.is_child() {
            let recorded = self.descriptor.cid("parentCID");
            return recorded
                .map(|cid| Some(Link::ContentId(cid)))
                .ok_or_else(|| Fault::bug("a child without parentCID"));
        }
        if let Some(uuid) = self.descriptor.uuid("ddb.uuid.parent") {
            return Ok(Some(Link::Uuid(uuid)));
        }
        // A sign of a parent that cannot be read: reading on as if there were none would hand out zeroes.
        for key in ["ddb.uuid.parent", "ddb.uuid.parentmodification"] {
            let sign =
                self.descriptor.said(key).filter(|text| Uuid::parse_str(text).map_or(true, |uuid| !uuid.is_nil()));
            if let Some(text) = sign {
                let what = "VMDK descriptor: a parent whose uuid cannot be read";
                return Err(self.fault(Kind::Damaged, key, what).found(text).expected("the parent's uuid, or none"));
            }
        }
        Ok(None)
    }

    /// The line of the one extent of a file that holds its own descriptor; `capacity` in sectors, for one that has no line.
    pub fn own_line(&self, capacity: u64, ledger: &Ledger) -> Result<ExtentLine, Fault> {
        match self.descriptor.extents.as_slice() {
            [] => {
                let warning = Fault::new(Kind::Damaged, self.name, "a VMDK extent without a descriptor");
                ledger.warn(warning.against("it is read as a disk of its own capacity"));
                let (access, kind) = (Access::Rw, ExtentType::Sparse);
                Ok(ExtentLine { byte: 0, access, sectors: capacity, kind, file: None, offset: 0 })
            }
            [line] => Ok(line.clone()),
            [_, second, ..] => {
                let what = "an embedded VMDK descriptor with more than one extent";
                Err(Fault::new(Kind::Unsupported, self.name, what).at(second.byte))
            }
        }
    }

    /// The fault of an extent that the descriptor says is not to be had.
    pub fn no_access(&self, line: &ExtentLine) -> Fault {
        Fault::damaged(self.name, line.byte, "an extent that the descriptor says is not to be had (NOACCESS)")
    }
}

/// Holds the header of the extent in the file `name` against its line, which gives it `sectors`: the line decides. A header that has more
/// is told, but for one that was rounded up to a whole grain (VirtualBox); of one that has less this is the fault of what it lacks.
pub fn hold_against_line(name: &Path, header: &SparseHeader, sectors: u64, ledger: &Ledger) -> Fault {
    let odd = |what: &'static str| {
        Fault::damaged(name, header::at::CAPACITY as u64, what).found(format!("{} sectors", header.capacity))
    };
    let rounded = sectors.checked_next_multiple_of(header.grain_sectors);
    if header.capacity > sectors && Some(header.capacity) != rounded {
        let more = odd("VMDK extent capacity is more than the descriptor says: the rest is left out");
        ledger.warn(more.against(format!("the descriptor says {sectors}")));
    }
    odd("VMDK extent capacity is less than the descriptor says").expected(sectors)
}
