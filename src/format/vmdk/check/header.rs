//! The headers of extents: what can be mended in memory is told and mended, so that the rest is looked at too.

use byteorder::{ByteOrder, LittleEndian};

use super::id;
use crate::fault::Fault;
use crate::format::vmdk::header::{self, SparseHeader, Stored, at};
use crate::image::Findings;
use crate::io::InputFile;

/// Entries in a grain table that every reader takes.
const USUAL_ENTRIES: u32 = 512;
/// The smallest grain that every reader takes, in sectors.
const LEAST_GRAIN: u64 = 8;
/// The version that ESXi takes of a stream.
const STREAM_VERSION: u32 = 3;
const ZEROED_GRAINS: u32 = 1 << 2;
/// Of a COWD header: where its flags and the entries of its directory stand, and what every product writes there.
const COWD_FLAGS_AT: usize = 8;
const COWD_FLAGS: u32 = 3;
const COWD_ENTRIES_AT: usize = 24;

/// Looks at the header of a hosted sparse extent; it, where it says enough to go on.
pub fn look(file: &InputFile, raw: &[u8; header::LEN], findings: &mut Findings) -> Option<SparseHeader> {
    findings.count("extent_headers", 1);
    let u32_at = |at: usize| raw.get(at..).map(LittleEndian::read_u32).unwrap_or_default();
    let odd = |at: usize, what: &'static str| Fault::damaged(file.name(), at as u64, what);
    let header = mended(file, raw, findings)?;
    if header.grain_sectors < LEAST_GRAIN {
        findings.warning(id::GRAIN_SIZE, || {
            let small = odd(at::GRAIN_SIZE, "VMDK grain size that not all readers take");
            small.found(format!("{} sectors", header.grain_sectors)).expected(format!("{LEAST_GRAIN} or more"))
        });
    }
    if header.gtes_per_gt != USUAL_ENTRIES {
        findings.warning(id::TABLE_SIZE, || {
            let other = odd(at::GTES_PER_GT, "VMDK grain table entries that not all readers take");
            other.found(header.gtes_per_gt).expected(USUAL_ENTRIES)
        });
    }
    let version = u32_at(at::VERSION);
    if version == 1 && u32_at(at::FLAGS) & ZEROED_GRAINS != 0 {
        findings.warning(id::ZEROED_GRAINS, || {
            odd(at::VERSION, "entries of 1 mean zero in a VMDK of version 1").found(version).expected(2)
        });
    }
    if header.grains_are == Stored::Deflated && version != STREAM_VERSION {
        findings.warning(id::STREAM_VERSION, || {
            let old = odd(at::VERSION, "version of a streamOptimized VMDK").found(version).expected(STREAM_VERSION);
            old.advice("ESXi refuses it as too old: convert it")
        });
    }
    Some(header)
}

/// The header, each thing that is wrong with it told once.
fn mended(file: &InputFile, raw: &[u8; header::LEN], findings: &mut Findings) -> Option<SparseHeader> {
    let mut raw = *raw;
    for _ in 0..5 {
        let fault = match SparseHeader::parse(&raw, file.name(), 0) {
            Ok(header) => return Some(header),
            Err(fault) => fault,
        };
        let field = fault.byte().and_then(|byte| usize::try_from(byte).ok()).unwrap_or(0);
        match field {
            at::VERSION => {
                findings.error(id::VERSION, || fault);
                LittleEndian::write_u32(&mut raw[at::VERSION..], 1);
            }
            at::FLAGS => {
                findings.error(id::FLAGS, || fault);
                let known = LittleEndian::read_u32(&raw[at::FLAGS..]) & 0x0003_FFFF;
                LittleEndian::write_u32(&mut raw[at::FLAGS..], known);
            }
            at::NEWLINES => {
                findings.error(id::NEWLINES, || fault);
                raw[at::NEWLINES..at::COMPRESS_ALGORITHM].copy_from_slice(b"\n \r\n");
            }
            at::GTES_PER_GT => {
                findings.error(id::TABLE_SIZE, || fault);
                return None;
            }
            at::GRAIN_SIZE => {
                findings.error(id::GRAIN_SIZE, || fault);
                return None;
            }
            at::CAPACITY => {
                findings.error(id::CAPACITY, || fault);
                return None;
            }
            _ => return None,
        }
    }
    None
}

/// What the reader takes of a COWD header, and no product writes.
pub fn look_at_cowd(file: &InputFile, raw: &[u8; header::LEN], header: &SparseHeader, findings: &mut Findings) {
    let u32_at = |at: usize| raw.get(at..).map(LittleEndian::read_u32).unwrap_or_default();
    let odd = |at: usize, what: &'static str| Fault::damaged(file.name(), at as u64, what).found(u32_at(at));
    if u32_at(COWD_FLAGS_AT) != COWD_FLAGS {
        findings.warning(id::COWD_FLAGS, || odd(COWD_FLAGS_AT, "COWD flags").expected(COWD_FLAGS));
    }
    if u64::from(u32_at(COWD_ENTRIES_AT)) > header.tables() {
        findings.warning(id::COWD_DIRECTORY, || {
            odd(COWD_ENTRIES_AT, "COWD grain directory has more entries than the disk needs").expected(header.tables())
        });
    }
}
