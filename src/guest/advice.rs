//! What stands in the way of a conversion, or of the machine that boots its result: only what is certain.

use super::boot::BootKind;
use super::filesystem::FileSystem;
use super::gpt::{Copy, kind};
use super::partition::{Leftover, Partition, TableKind};
use super::{Guest, mbr};
use crate::image::Facts;

/// One line each.
pub fn of(facts: &Facts, guest: &Guest) -> Vec<String> {
    let mut lines = Vec::new();
    about_table(facts, guest, &mut lines);
    for partition in guest.partitions.iter().filter(|partition| !partition.is_frame()) {
        about_partition(facts.virtual_size, partition, &mut lines);
    }
    if let Some(whole) = &guest.file_system {
        about_file_system("the file system", whole, facts.virtual_size, &mut lines);
    }
    if guest.dynamic_disk {
        lines.push("a dynamic disk of Windows: its volumes stand in a database of its own, which is not read here; convert all disks of the group".into());
    }
    if boots_windows_by_bios(guest) && facts.format == "vhd" {
        lines.push(
            "Windows boots from the controller that it has a driver for: --adapter ide is what a VMDK of this VHD records by default \
             (streamOptimized and vmfs: lsilogic), since Virtual PC and generation 1 Hyper-V machines boot from IDE; another one only \
             after its driver was installed in the guest, or Windows stops with 0x7B"
                .into(),
        );
    }
    lines
}

fn about_table(facts: &Facts, guest: &Guest, lines: &mut Vec<String>) {
    let table = &guest.table;
    let size = facts.virtual_size;
    if table.kind == TableKind::Gpt && table.sector_size != u64::from(facts.logical_sector_size) {
        let (made, has) = (table.sector_size, facts.logical_sector_size);
        let all = if has == 512 { ", as of every VHD and VMDK" } else { "" };
        lines.push(format!(
            "the GPT was made for sectors of {made} bytes: on a disk with sectors of {has} bytes{all}, machines do not find it"
        ));
    }
    if table.kind == TableKind::Mbr && table.protective {
        lines.push("the MBR guards a GPT, and no copy of it is sound: the disk was cut, or the GPT overwritten".into());
    }
    // Hybrid optical images list in their MBR what a BIOS needs, and are started as discs.
    if table.unguarded && facts.disc_boots.is_none() {
        lines.push("the MBR does not guard the GPT: Linux and others will not look for it".into());
    }
    match (table.primary, table.backup, table.made_for) {
        (Some(Copy::Missing | Copy::Damaged), ..) => lines.push(
            "the GPT at the disk's beginning is not sound; its copy at the end is: repair it in the machine (sgdisk, gdisk)".into(),
        ),
        (_, Some(Copy::Outside), Some(made_for)) => lines.push(format!(
            "the GPT was made for a disk of {made_for} bytes: {} bytes are missing at its end",
            made_for.saturating_sub(size)
        )),
        (_, Some(Copy::Missing | Copy::Damaged), _) => {
            lines.push("the copy of the GPT at the disk's end is not sound: repair it in the machine (sgdisk, gdisk)".into());
        }
        // Optical images are padded behind it, which nobody minds.
        (_, Some(Copy::Sound), Some(made_for)) if made_for < size && facts.disc_boots.is_none() => lines.push(format!(
            "the GPT was made for a disk that is {} bytes smaller: sgdisk -e in the machine makes use of them",
            size - made_for
        )),
        _ => {}
    }
    if let Some(left) = &table.leftover {
        lines.push(about_leftover(left, guest));
    }
    if let Some((looked_at, all)) = table.cut {
        lines.push(format!(
            "the GPT has room for {all} partitions, and {looked_at} entries were looked at: what is behind them is not listed, and the \
             entries' checksum was not verified"
        ));
    }
    if table.in_boot_sector {
        lines.push(
            "the first sector is the boot sector of a file system and lists partitions too: Linux and partitioning programs go by the \
             partitions, blkid goes by the file system; only who made the disk knows which of them is current"
                .into(),
        );
    }
    lines.extend(table.wrong.map(str::to_string));
    if table.count > guest.partitions.len() {
        lines.push(format!("{} more partitions are not listed", table.count - guest.partitions.len()));
    }
}

/// Repairing it would put its partitions over what is there now.
fn about_leftover(left: &Leftover, guest: &Guest) -> String {
    let is_there = |copy: Copy| matches!(copy, Copy::Sound | Copy::Unchecked);
    let place = match (is_there(left.primary), is_there(left.backup)) {
        (true, true) => "beginning and its end",
        (true, false) => "beginning",
        (false, _) => "end",
    };
    let count = match left.count {
        1 => "1 partition".to_string(),
        count => format!("{count} partitions"),
    };
    if guest.partitions.is_empty() && guest.file_system.is_none() {
        return format!(
            "a GPT with {count} stands at the disk's {place}, and no MBR guards it, so machines do not look for it: the disk's beginning was \
             overwritten, or the disk emptied"
        );
    }
    format!(
        "leftovers of a GPT with {count} stand at the disk's {place}; no MBR guards them, so machines go by what is listed here: do not let a \
         partitioning program repair that GPT"
    )
}

fn about_partition(size: u64, partition: &Partition, lines: &mut Vec<String>) {
    let name = format!("partition {}", partition.number);
    let (end, len) = (partition.end(), partition.len);
    if end > size {
        lines.push(format!(
            "{name} ends {} bytes behind the disk's end: the image was cut short, or the disk shrunk",
            end - size
        ));
    }
    if partition.loaders.as_ref().is_some_and(|loaders| loaders.fallback.is_empty()) {
        lines.push(format!(
            "{name}: no EFI/BOOT/BOOT*.EFI, where firmware looks without a boot entry, and the old machine's entry is on no disk: make one \
             in the new machine, or copy the loader to EFI/BOOT/BOOTX64.EFI before"
        ));
    }
    if let Some(found) = &partition.file_system {
        about_file_system(&format!("{}, {}", name, found.title), found, len, lines);
    }
}

fn about_file_system(name: &str, found: &FileSystem, room: u64, lines: &mut Vec<String>) {
    if let Some(len) = found.len.filter(|len| *len > room) {
        lines.push(format!("{name}: states {len} bytes and has room for {room}: cut short"));
    }
    if found.encrypted {
        lines.push(format!(
            "{name}: goes over unchanged; used blocks cannot be told from free ones, so the output stays large"
        ));
    }
    if found.hibernated {
        lines.push(format!("{name}: a system sleeps in it; wake it and shut it down before it gets other hardware"));
    }
    if found.needs_recovery {
        lines.push(format!("{name}: was not unmounted; its journal is replayed when it is mounted next"));
    }
}

/// Does a BIOS start Windows from it: from an active partition with NTFS?
fn boots_windows_by_bios(guest: &Guest) -> bool {
    let ntfs = |found: &Option<FileSystem>| found.as_ref().is_some_and(|found| found.word == "ntfs");
    guest.boot.kind == BootKind::Bios
        && guest.partitions.iter().any(|partition| partition.active && ntfs(&partition.file_system))
}

/// Does Windows' Logical Disk Manager keep the disk's volumes? `private`: its private header stands in sector 6.
pub fn is_dynamic_disk(private: bool, partitions: &[Partition]) -> bool {
    let dynamic = format!("{:02x}", mbr::DYNAMIC);
    let by_type = |partition: &Partition| match partition.guid {
        Some(guid) => guid == kind::LDM_METADATA || guid == kind::LDM_DATA,
        None => partition.kind == dynamic,
    };
    // The header alone survives when the disk gets another table.
    partitions.iter().any(by_type) && (private || partitions.iter().any(|partition| partition.guid.is_some()))
}
