//! What lies inside a disk: its partition table, its file systems, what boots from it, and what stands in the way of a conversion.
//!
//! A conversion copies sectors and looks at nothing of this. Probes read a few KiB each through the disk's map, at most
//! [`MOST_PARTITIONS`] partitions and a few MiB in all, whatever the tables say; what cannot be read is told and is no error.

mod advice;
mod boot;
mod bytes;
mod efi_system;
mod fat;
mod filesystem;
mod gpt;
mod mbr;
mod partition;

pub use boot::{Boot, BootKind};
pub use efi_system::Loaders;
pub use filesystem::FileSystem;
pub use gpt::Copy;
pub use partition::{Leftover, MOST as MOST_PARTITIONS, Partition, Table, TableKind};

use bytes::{Bytes, GuestBytes};

use crate::fault::Fault;
use crate::image::{Disk, Facts};

/// EFI system partitions that are looked into.
const MOST_EFI_SYSTEMS: usize = 2;

/// What was seen.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The partition table.
    pub table: Table,
    /// The partitions, at most [`MOST_PARTITIONS`].
    pub partitions: Vec<Partition>,
    /// What lies on the disk as a whole: a disk without a table, an optical disc, or one whose first sector is a boot sector and a table.
    pub file_system: Option<FileSystem>,
    /// How it boots.
    pub boot: Boot,
    /// Windows' Logical Disk Manager keeps its volumes.
    pub dynamic_disk: bool,
    /// What stands in the way, one line each.
    pub advice: Vec<String>,
    /// What could not be read.
    pub unread: Vec<Fault>,
}

/// Looks at a disk.
pub fn look(disk: &Disk) -> Guest {
    let mut bytes = GuestBytes::new(disk);
    let mut guest = probe(&mut bytes, &disk.facts);
    let (unread, spent) = bytes.into_unread();
    guest.unread = unread;
    if spent {
        guest
            .advice
            .push("the guest's tables lead to more than is looked at: not all of its file systems are named".into());
    }
    guest
}

/// Looks at the bytes of a disk of which these facts are known.
fn probe(bytes: &mut impl Bytes, facts: &Facts) -> Guest {
    let size = facts.virtual_size;
    let (mut table, mbr, mut partitions) = partition::read(bytes, size, facts.logical_sector_size.into());
    let file_system = match table.kind {
        TableKind::None => filesystem::look(bytes, 0, size),
        TableKind::Unread => None,
        // A table without an entry may be the boot sector of a file system that keeps its own data further in.
        TableKind::Mbr if partitions.is_empty() => filesystem::look(bytes, 0, size),
        // Nobody can tell which of the two was meant.
        TableKind::Mbr | TableKind::Gpt if table.in_boot_sector => filesystem::look(bytes, 0, size),
        // A hybrid image is a disc too.
        TableKind::Mbr | TableKind::Gpt => filesystem::look_for_disc(bytes, size),
    };
    if partitions.is_empty() && table.kind == TableKind::Mbr && file_system.is_some() {
        (table.kind, table.disk_id) = (TableKind::None, None);
    }
    for partition in partitions.iter_mut().filter(|partition| !partition.is_frame()) {
        // The whole disc was looked at; what a cut disk has left of a partition may still tell what it is.
        if partition.start > 0 && partition.start < size {
            partition.file_system = filesystem::look(bytes, partition.start, partition.len);
        }
    }
    for partition in partitions.iter_mut().filter(|partition| partition.is_efi_system()).take(MOST_EFI_SYSTEMS) {
        partition.loaders = efi_system::look(bytes, partition.start);
    }
    let private = bytes.read(6 * 512, 8) == b"PRIVHEAD";
    let boot = match &facts.disc_boots {
        Some(platforms) => boot::of_disc(platforms),
        None => boot::of_disk(&table, mbr.as_ref(), &partitions, file_system.as_ref()),
    };
    let dynamic_disk = advice::is_dynamic_disk(private, &partitions);
    let mut guest =
        Guest { table, partitions, file_system, boot, dynamic_disk, advice: Vec::new(), unread: Vec::new() };
    guest.advice = advice::of(facts, &guest);
    guest
}

#[cfg(test)]
mod tests;
