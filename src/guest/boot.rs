//! How a machine boots from a disk, as far as the disk tells.
//!
//! The type of a partition decides, not its files: an EFI system partition may be empty, and then only an entry in the machine's own
//! memory, which no disk carries, led to its loader. What is in it is told beside.

use super::filesystem::FileSystem;
use super::gpt::kind;
use super::mbr::{self, Mbr};
use super::partition::{Partition, Table, TableKind};

/// Which firmware starts what is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootKind {
    /// A BIOS: a generation 1 machine.
    Bios,
    /// EFI: a generation 2 machine.
    Efi,
    /// Both find something to start.
    Either,
    /// Nothing tells.
    Unknown,
}

impl BootKind {
    /// The word of `--json`.
    pub fn word(self) -> &'static str {
        match self {
            BootKind::Bios => "bios",
            BootKind::Efi => "efi",
            BootKind::Either => "either",
            BootKind::Unknown => "unknown",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            BootKind::Bios => "BIOS",
            BootKind::Efi => "EFI",
            BootKind::Either => "BIOS or EFI",
            BootKind::Unknown => "unknown",
        }
    }
}

/// How it boots, and what says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// By which firmware.
    pub kind: BootKind,
    /// Why.
    pub reason: String,
}

/// Of a disk with this table and these partitions; `whole`: what lies on one without.
pub fn of_disk(table: &Table, mbr: Option<&Mbr>, partitions: &[Partition], whole: Option<&FileSystem>) -> Boot {
    match table.kind {
        TableKind::Gpt => of_gpt(table, mbr, partitions),
        TableKind::Unread => unknown("the first sector cannot be read"),
        TableKind::Mbr if table.in_boot_sector => boot(
            BootKind::Bios,
            "the first sector is a file system's boot sector, which a BIOS starts, if at all, and lists partitions",
        ),
        TableKind::Mbr => mbr.map_or_else(|| unknown("no boot code"), of_mbr),
        TableKind::None => match whole.map(|whole| whole.word) {
            Some(_) if table.boot_signature => {
                boot(BootKind::Bios, "no partition table; a boot sector that a BIOS starts, if at all")
            }
            Some(_) => unknown("no partition table and no boot sector"),
            None => unknown("no partition table and no file system that is known"),
        },
    }
}

/// Of an optical disc whose boot catalog has something for these platforms.
pub fn of_disc(platforms: &[&str]) -> Boot {
    let has = |platform: &str| platforms.contains(&platform);
    let reason = format!("El Torito boot catalog: {}", platforms.join(", "));
    match (has("BIOS"), has("EFI")) {
        (true, true) => boot(BootKind::Either, reason),
        (true, false) => boot(BootKind::Bios, reason),
        (false, true) => boot(BootKind::Efi, reason),
        (false, false) => unknown("the disc has no boot catalog for a BIOS or EFI"),
    }
}

fn of_gpt(table: &Table, mbr: Option<&Mbr>, partitions: &[Partition]) -> Boot {
    let (has_code, is_grub) = mbr.map_or((false, false), |mbr| (mbr.has_code, mbr.is_grub));
    let has = |wanted| partitions.iter().any(|partition| partition.guid == Some(wanted));
    let efi = has(kind::EFI_SYSTEM);
    let of_windows = has(kind::MICROSOFT_RESERVED) || has(kind::WINDOWS_RECOVERY);
    if of_windows && efi {
        return boot(BootKind::Efi, "GPT with an EFI system partition and one of Windows, which boots GPT by EFI only");
    }
    let for_bios = if has(kind::BIOS_BOOT) {
        Some("a BIOS boot partition")
    } else if has(kind::FREEBSD_BOOT) {
        Some("a FreeBSD boot partition")
    } else if partitions.iter().any(|partition| partition.active) {
        Some("a partition marked for BIOS boot")
    } else {
        None
    };
    match (efi, for_bios) {
        (true, Some(what)) => boot(BootKind::Either, format!("GPT with an EFI system partition and {what}")),
        (true, None) if has_code => {
            boot(BootKind::Either, "GPT with an EFI system partition, and boot code in the MBR")
        }
        (true, None) => boot(BootKind::Efi, "GPT with an EFI system partition, no boot code in the MBR"),
        (false, Some(what)) => boot(BootKind::Bios, format!("GPT with {what} and no EFI system partition")),
        // A BIOS knows nothing of the GPT: it starts the MBR's code, and that may find what it loads by itself, or by a hybrid MBR.
        (false, None) if is_grub => {
            boot(BootKind::Bios, "GRUB in the boot code of the MBR, GPT without an EFI system partition")
        }
        (false, None) if table.hybrid => mbr.map_or_else(|| unknown("no boot code"), of_hybrid),
        (false, None) if table.cut.is_some() || table.count > partitions.len() => {
            unknown("no EFI system or BIOS boot partition among those of the GPT that were looked at")
        }
        // Windows writes code onto data disks too.
        (false, None) if of_windows => unknown("a GPT disk of Windows without an EFI system partition: a data disk"),
        (false, None) if has_code => unknown(
            "boot code in the MBR, which many tools write, and a GPT without an EFI system or BIOS boot partition",
        ),
        (false, None) => unknown("GPT without an EFI system or BIOS boot partition: a data disk"),
    }
}

/// Of the MBR beside a GPT that has nothing to boot from.
fn of_hybrid(mbr: &Mbr) -> Boot {
    let Boot { kind, reason } = of_mbr(&mbr.without_guard());
    match kind {
        BootKind::Unknown if !mbr.has_code => {
            unknown("hybrid MBR without boot code, GPT without an EFI system or BIOS boot partition")
        }
        _ => boot(kind, format!("hybrid MBR: {reason}")),
    }
}

fn of_mbr(mbr: &Mbr) -> Boot {
    let efi = mbr.entries.iter().any(|entry| entry.kind == mbr::EFI_SYSTEM);
    let active = mbr.entries.iter().find(|entry| entry.active);
    match (efi, mbr.has_code, active) {
        (true, false, _) => boot(BootKind::Efi, "MBR with an EFI system partition, no boot code"),
        (true, true, _) => boot(BootKind::Either, "MBR with an EFI system partition, and boot code"),
        (false, true, _) if mbr.is_grub => boot(BootKind::Bios, "GRUB in the boot code of the MBR"),
        (false, true, Some(entry)) => {
            boot(BootKind::Bios, format!("boot code in the MBR, partition {} is active", entry.number))
        }
        (false, true, None) => unknown("boot code in the MBR, which many tools write, and no active partition"),
        (false, false, Some(entry)) => {
            unknown(format!("partition {} is active, and the MBR has no boot code", entry.number))
        }
        (false, false, None) => unknown("no boot code and no active partition: a data disk"),
    }
}

fn boot(kind: BootKind, reason: impl Into<String>) -> Boot {
    Boot { kind, reason: reason.into() }
}

fn unknown(reason: impl Into<String>) -> Boot {
    boot(BootKind::Unknown, reason)
}
