//! What lies inside a disk, in the shapes of `--json`.

use serde::Serialize;
use vdconv::guest::{Boot, FileSystem, Guest, Loaders, Partition, Table};

use super::report::Problem;

/// The keys of an image that are about its guest.
#[derive(Serialize)]
pub struct Inside {
    partition_table: PartitionTable,
    partitions: Vec<PartitionShape>,
    /// Of a disk without a table, an optical disc, or a boot sector that is a table too.
    file_system: Option<&'static str>,
    label: Option<String>,
    boot: BootShape,
    unread: Vec<Problem>,
}

#[derive(Serialize)]
struct PartitionTable {
    kind: &'static str,
    sector_size: u64,
    disk_id: Option<String>,
    primary: Option<&'static str>,
    backup: Option<&'static str>,
    protective_mbr: bool,
    hybrid_mbr: bool,
    partition_count: usize,
}

#[derive(Serialize)]
struct PartitionShape {
    number: u32,
    start: u64,
    length: u64,
    #[serde(rename = "type")]
    kind: String,
    type_name: Option<&'static str>,
    name: Option<String>,
    active: bool,
    file_system: Option<&'static str>,
    label: Option<String>,
    file_system_size: Option<u64>,
    /// Of an EFI system partition that was looked into.
    loaders: Option<LoadersShape>,
}

#[derive(Serialize)]
struct LoadersShape {
    fallback: Vec<&'static str>,
    windows: bool,
}

#[derive(Serialize)]
struct BootShape {
    kind: &'static str,
    reason: String,
}

impl Inside {
    /// Of what was seen.
    pub fn of(guest: Guest) -> Inside {
        let Guest { table, partitions, file_system, boot, unread, .. } = guest;
        let Boot { kind, reason } = boot;
        let label = |found: &Option<FileSystem>| found.as_ref().and_then(|found| found.label.clone());
        Inside {
            partition_table: PartitionTable::from(table),
            partitions: partitions.into_iter().map(PartitionShape::from).collect(),
            label: label(&file_system),
            file_system: file_system.map(|found| found.word),
            boot: BootShape { kind: kind.word(), reason },
            unread: unread.iter().map(Problem::from).collect(),
        }
    }
}

impl From<Table> for PartitionTable {
    fn from(table: Table) -> PartitionTable {
        PartitionTable {
            kind: table.kind.word(),
            sector_size: table.sector_size,
            disk_id: table.disk_id,
            primary: table.primary.map(|copy| copy.word()),
            backup: table.backup.map(|copy| copy.word()),
            protective_mbr: table.protective,
            hybrid_mbr: table.hybrid,
            partition_count: table.count,
        }
    }
}

impl From<Partition> for PartitionShape {
    fn from(partition: Partition) -> PartitionShape {
        let (word, label, len) = match partition.file_system {
            Some(found) => (Some(found.word), found.label, found.len),
            None => (None, None, None),
        };
        PartitionShape {
            number: partition.number,
            start: partition.start,
            length: partition.len,
            kind: partition.kind,
            type_name: (!partition.type_name.is_empty()).then_some(partition.type_name),
            name: partition.name,
            active: partition.active,
            file_system: word,
            label,
            file_system_size: len,
            loaders: partition.loaders.map(|Loaders { fallback, windows }| LoadersShape { fallback, windows }),
        }
    }
}
