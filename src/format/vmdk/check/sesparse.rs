//! The directory of a seSparse extent: no table belongs to two of its entries.

use std::collections::HashMap;

use byteorder::{ByteOrder, LittleEndian};

use super::id;
use crate::fault::Fault;
use crate::format::vmdk::header::LEN;
use crate::image::{Findings, SECTOR};
use crate::io::{InputFile, in_memory};

/// Sectors that a table covers.
const TABLE_COVERS: u64 = 4096 * 8;
/// Tables that are looked at: 64 TiB have as many.
const MOST: u64 = 4 << 20;
/// Bytes of the directory that are read at once.
const READ: u64 = 256 << 10;
const CAPACITY_AT: usize = 0x10;
const DIRECTORY_AT: usize = 0x80;

/// Looks at the directory. Entries that cannot be are the reader's to tell.
pub fn look(file: &InputFile, raw: &[u8; LEN], findings: &mut Findings) -> Result<(), Fault> {
    let field = |at: usize| raw.get(at..).map(LittleEndian::read_u64).unwrap_or_default();
    let start = field(DIRECTORY_AT).saturating_mul(SECTOR);
    let tables = field(CAPACITY_AT).div_ceil(TABLE_COVERS).min(MOST).min(file.len().saturating_sub(start) / 8);
    let (mut owners, mut first) = (HashMap::<u64, u64>::new(), 0);
    while first < tables {
        let count = (tables - first).min(READ / 8);
        let mut bytes = vec![0; in_memory(count * 8)];
        file.read_around(start + first * 8, &mut bytes)?;
        for (number, entry) in (first..).zip(bytes.chunks_exact(8).map(LittleEndian::read_u64)).filter(|(_, e)| *e != 0)
        {
            let Some(other) = owners.insert(entry & 0xFFFF_FFFF, number) else { continue };
            findings.error(id::SE_GDE, || {
                let what = "two entries of a seSparse grain directory lead to one table";
                let twice = Fault::damaged(file.name(), start + number * 8, what).found(format!("{entry:#018x}"));
                twice.against(format!("so does the entry at byte {}", start + other * 8))
            });
        }
        first += count;
    }
    findings.count("sesparse_tables", owners.len() as u64);
    Ok(())
}
