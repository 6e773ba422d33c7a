//! The partitions of a disk, from whatever table it has.

use uuid::Uuid;

use super::bytes::Bytes;
use super::efi_system::Loaders;
use super::filesystem::{self, FileSystem};
use super::gpt::{self, Copy, Gpt};
use super::mbr::{self, Mbr};

/// Partitions that are looked at.
pub const MOST: usize = 128;

/// The kind of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    /// That of EFI.
    Gpt,
    /// That of a BIOS.
    Mbr,
    /// There is none.
    None,
    /// The sectors that would tell cannot be read.
    Unread,
}

impl TableKind {
    /// The word of `--json`.
    pub fn word(self) -> &'static str {
        match self {
            TableKind::Gpt => "gpt",
            TableKind::Mbr => "mbr",
            TableKind::None => "none",
            TableKind::Unread => "unread",
        }
    }
}

/// What is known of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its kind.
    pub kind: TableKind,
    /// The sectors that it counts in, in bytes.
    pub sector_size: u64,
    /// The disk's GUID, or the signature by which Windows knows it.
    pub disk_id: Option<String>,
    /// Of a GPT: its copy at the disk's beginning.
    pub primary: Option<Copy>,
    /// Of a GPT: its copy at the disk's end.
    pub backup: Option<Copy>,
    /// Of a GPT: bytes of the disk that it was made for.
    pub made_for: Option<u64>,
    /// Of a GPT: the first sector guards it.
    pub protective: bool,
    /// Of a GPT: the first sector lists partitions too.
    pub hybrid: bool,
    /// Of a GPT: the first sector was read and does not guard it, and nothing else says what the disk holds.
    pub unguarded: bool,
    /// Of a GPT: the entries that were looked at, and those that it has room for, where its array is too large to read.
    pub cut: Option<(u64, u64)>,
    /// There is a GPT that nobody goes by.
    pub leftover: Option<Leftover>,
    /// The first sector is the boot sector of a file system, and lists partitions all the same.
    pub in_boot_sector: bool,
    /// The first sector ends like one that boots.
    pub boot_signature: bool,
    /// What is wrong with it.
    pub wrong: Option<&'static str>,
    /// How many partitions it has.
    pub count: usize,
}

/// A GPT that is not the disk's table: another one, or a file system, was written over a part of it, and it was left where it stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leftover {
    /// Its copy at the disk's beginning.
    pub primary: Copy,
    /// Its copy at the disk's end.
    pub backup: Copy,
    /// Partitions that it lists.
    pub count: usize,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub number: u32,
    /// Its first byte on the disk.
    pub start: u64,
    /// Its bytes.
    pub len: u64,
    /// What it is for, as the table has it: a GUID, or two hex digits.
    pub kind: String,
    /// The same of a GPT.
    pub guid: Option<Uuid>,
    /// What that means; empty where it is not known.
    pub type_name: &'static str,
    /// Its own name.
    pub name: Option<String>,
    /// Marked as the one that a BIOS boots.
    pub active: bool,
    /// What is in it.
    pub file_system: Option<FileSystem>,
    /// Of an EFI system partition that was looked into: what starts from it.
    pub loaders: Option<Loaders>,
}

/// The table of a disk of `len` bytes, its first sector where that is one, and the partitions, without what is in them.
pub fn read(bytes: &mut impl Bytes, len: u64, sector_size: u64) -> (Table, Option<Mbr>, Vec<Partition>) {
    let head = bytes.read(0, 512);
    let boot_signature = head.get(510..512) == Some(&[0x55, 0xAA]);
    let boot_sector = filesystem::boot_sector(&head).is_some();
    // What stands where a boot sector has its code is a table only if it makes one that fits the disk.
    let first = mbr::parse(&head).filter(|mbr| !boot_sector || mbr.fits(len / sector_size.max(1)));
    let mut table = Table {
        kind: if head.is_empty() { TableKind::Unread } else { TableKind::None },
        sector_size,
        disk_id: None,
        primary: None,
        backup: None,
        made_for: None,
        protective: first.as_ref().is_some_and(Mbr::is_protective),
        hybrid: false,
        unguarded: false,
        cut: None,
        leftover: None,
        in_boot_sector: boot_sector && first.is_some(),
        boot_signature,
        wrong: None,
        count: 0,
    };
    let gpt = gpt::find(bytes, len).filter(|gpt| {
        let guarded = table.protective || head.is_empty();
        let counts = guarded || counts_unguarded(bytes, len, gpt, first.as_ref());
        table.unguarded = counts && !guarded;
        if !counts {
            let Gpt { primary, backup, .. } = *gpt;
            table.leftover = Some(Leftover { primary, backup, count: gpt.entries.len() });
        }
        counts
    });
    let mut partitions = match (gpt, &first) {
        (Some(gpt), mbr) => of_gpt(&mut table, gpt, mbr.as_ref()),
        (None, Some(mbr)) => of_mbr(&mut table, bytes, mbr),
        (None, None) => Vec::new(),
    };
    table.count = partitions.len();
    partitions.truncate(MOST);
    (table, first, partitions)
}

/// Is a GPT the disk's table although no entry of the first sector guards it? Machines do not look for such a one: what was written over
/// its beginning says what the disk holds, and its copy at the end outlives that.
///
/// Where both its beginning is whole and nothing else is there, it alone tells of the guest's data, and that no machine finds it is told
/// beside. And optical discs that are disks too (xorriso's -isohybrid-gpt-basdat) list in the MBR, for a BIOS, the disc itself.
fn counts_unguarded(bytes: &mut impl Bytes, len: u64, gpt: &Gpt, mbr: Option<&Mbr>) -> bool {
    if !matches!(gpt.primary, Copy::Sound | Copy::Unchecked) {
        return false;
    }
    let lists = mbr.is_some_and(|mbr| !mbr.entries.is_empty());
    match filesystem::look_for_disc(bytes, len) {
        Some(disc) if disc.word == "iso9660" => !lists || mbr.is_some_and(Mbr::lists_the_disc),
        _ => !lists && filesystem::look(bytes, 0, len).is_none(),
    }
}

fn of_gpt(table: &mut Table, gpt: Gpt, mbr: Option<&Mbr>) -> Vec<Partition> {
    table.kind = TableKind::Gpt;
    table.sector_size = gpt.sector_size;
    table.disk_id = Some(gpt.disk_id.to_string());
    table.primary = Some(gpt.primary);
    table.backup = Some(gpt.backup);
    table.made_for = Some(gpt.made_for);
    table.cut = gpt.cut;
    table.hybrid = mbr.is_some_and(|mbr| mbr.entries.iter().any(|entry| entry.kind != mbr::PROTECTIVE));
    let sector = gpt.sector_size;
    let partitions = gpt.entries.into_iter().map(|entry| Partition {
        number: entry.number,
        start: entry.first.saturating_mul(sector),
        len: (entry.last - entry.first).saturating_add(1).saturating_mul(sector),
        kind: entry.kind.to_string(),
        guid: Some(entry.kind),
        type_name: gpt::kind::name(entry.kind),
        name: Some(entry.name).filter(|name| !name.is_empty()),
        active: entry.legacy_boot,
        file_system: None,
        loaders: None,
    });
    partitions.collect()
}

fn of_mbr(table: &mut Table, bytes: &mut impl Bytes, mbr: &Mbr) -> Vec<Partition> {
    table.kind = TableKind::Mbr;
    table.disk_id = Some(mbr.disk_id).filter(|id| *id != 0).map(|id| format!("{id:08x}"));
    let mut entries = mbr.entries.clone();
    for extended in mbr.entries.iter().filter(|entry| entry.is_extended()).take(1) {
        let (logical, wrong) = mbr::logicals(bytes, extended, table.sector_size);
        entries.extend(logical);
        table.wrong = wrong;
    }
    let sector = table.sector_size;
    let partitions = entries.into_iter().map(|entry| Partition {
        number: entry.number,
        start: entry.first.saturating_mul(sector),
        len: entry.count.saturating_mul(sector),
        kind: format!("{:02x}", entry.kind),
        guid: None,
        type_name: mbr::type_name(entry.kind),
        name: None,
        active: entry.active,
        file_system: None,
        loaders: None,
    });
    partitions.collect()
}

impl Partition {
    /// Does it hold other partitions, or guard a table, and nothing of its own?
    pub fn is_frame(&self) -> bool {
        self.guid.is_none() && matches!(self.kind.as_str(), "05" | "0f" | "85" | "ee")
    }

    /// Does firmware look for its loaders here?
    pub fn is_efi_system(&self) -> bool {
        match self.guid {
            Some(guid) => guid == gpt::kind::EFI_SYSTEM,
            None => self.kind == format!("{:02x}", mbr::EFI_SYSTEM),
        }
    }

    /// The byte behind it.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}
