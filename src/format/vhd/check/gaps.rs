//! What lies between the structures of a VHD: the padding of its table, and bytes that nothing names.

use std::ops::Range;

use byteorder::{BigEndian, ByteOrder};

use super::id;
use crate::fault::Fault;
use crate::format::check::first_data;
use crate::format::vhd::header::at;
use crate::format::vhd::locate::Located;
use crate::format::vhd::locator;
use crate::image::{Findings, Regions, SECTOR};
use crate::io::{InputFile, in_memory};

/// Writers put tables and data on 4 KiB: a shorter gap of zeroes is that.
const ALIGNMENT: u64 = 4096;
/// A locator's space below this counts sectors, from it on bytes: products write either (blktap, libvhd.h).
const MOST_SECTORS: u64 = 512;

/// Looks at what no structure has. `table_end`: where the last entry of the table ends.
pub fn look(
    file: &InputFile,
    located: &Located,
    table_end: u64,
    regions: &mut Regions,
    findings: &mut Findings,
) -> Result<(), Fault> {
    let end = located.data_end;
    for room in rooms_of_locators(file, located)? {
        regions.structure(room, "room of a parent locator");
    }
    regions.structure(padding_behind(file, table_end.next_multiple_of(SECTOR), end)?, "padding of the table");
    // Short ones may be as many as blocks: those that are data are told among the first thousands.
    let long = regions.gaps(ALIGNMENT, end);
    let short = regions.gaps(1, end).into_iter().filter(|gap| gap.end - gap.start < ALIGNMENT);
    let mut unnamed: Vec<Range<u64>> = Vec::new();
    for gap in long.into_iter().chain(short) {
        if gap.end - gap.start >= ALIGNMENT || first_data(file, gap.clone())?.is_some() {
            unnamed.push(gap);
        }
    }
    if let Some(first) = unnamed.iter().min_by_key(|gap| gap.start) {
        findings.note(id::UNREFERENCED, || {
            let bytes: u64 = unnamed.iter().map(|gap| gap.end - gap.start).sum();
            let found = format!("{bytes} bytes in {} stretches, the first up to byte {}", unnamed.len(), first.end);
            Fault::damaged(file.name(), first.start, "bytes between the structures of the VHD that nothing names")
                .found(found)
        });
    }
    Ok(())
}

/// What stands behind the last entry of the table in its sector: ones, as the specification's writers have it, or zeroes.
pub fn look_at_padding(file: &InputFile, table_end: u64, findings: &mut Findings) -> Result<(), Fault> {
    let mut padding = vec![0; in_memory(table_end.next_multiple_of(SECTOR) - table_end)];
    if !file.read_around(table_end, &mut padding)?.is_empty() {
        return Ok(());
    }
    let first = padding.first().copied().unwrap_or_default();
    let odd = if is_padding(first) { padding.iter().position(|byte| *byte != first) } else { Some(0) };
    if let Some(odd) = odd {
        findings.note(id::TABLE_PADDING, || {
            let what = "padding of the VHD block allocation table";
            let byte = padding.get(odd).copied().unwrap_or_default();
            let other = Fault::damaged(file.name(), table_end + odd as u64, what).found(format!("{byte:#04x}"));
            other.expected("ones alone, or zeroes alone")
        });
    }
    Ok(())
}

fn is_padding(byte: u8) -> bool {
    matches!(byte, 0 | 0xFF)
}

/// The sectors up to the next 4 KiB that hold ones, or zeroes, and nothing else: Hyper-V pads its table so.
fn padding_behind(file: &InputFile, from: u64, end: u64) -> Result<Range<u64>, Fault> {
    let until = from.next_multiple_of(ALIGNMENT).min(end).max(from);
    let mut bytes = vec![0; in_memory(until - from)];
    file.read_around(from, &mut bytes)?;
    let plain = |sector: &&[u8]| {
        sector.first().is_some_and(|first| is_padding(*first) && sector.iter().all(|byte| byte == first))
    };
    let sectors = bytes.chunks_exact(in_memory(SECTOR)).take_while(plain).count() as u64;
    Ok(from..from + sectors * SECTOR)
}

/// What the header's locators set aside for their texts.
fn rooms_of_locators(file: &InputFile, located: &Located) -> Result<Vec<Range<u64>>, Fault> {
    let mut entries = [0; at::LOCATORS_END - at::LOCATORS];
    file.read_around(located.footer.data_offset + at::LOCATORS as u64, &mut entries)?;
    let rooms = entries.as_chunks::<{ locator::LEN }>().0.iter().filter(|entry| !entry.starts_with(&[0; 4]));
    Ok(rooms
        .map(|entry| {
            let start = BigEndian::read_u64(&entry[locator::at::DATA_OFFSET..]);
            let space = u64::from(BigEndian::read_u32(&entry[locator::at::DATA_SPACE..]));
            let len = u64::from(BigEndian::read_u32(&entry[locator::at::DATA_LENGTH..]));
            let room = if space < MOST_SECTORS { space * SECTOR } else { space };
            let end = start.saturating_add(room.max(len));
            start..end.checked_next_multiple_of(SECTOR).unwrap_or(end)
        })
        .collect())
}
