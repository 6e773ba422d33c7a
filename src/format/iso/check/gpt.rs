//! What makes a disk of a disc: the entries of its GPT, the copy of both at the end, and the MBR that guards them.
//!
//! An MBR of a hybrid need not have the guard's entry: isohybrid and xorriso list the partitions there instead, and what boots by a BIOS
//! goes by them.

use byteorder::{ByteOrder, LittleEndian};

use super::{GPT, GPT_BACKUP, PROTECTIVE_MBR};
use crate::fault::Fault;
use crate::format::iso::hybrid::{ENTRIES, ENTRY, SIGNATURE};
use crate::image::{Findings, GptHeader, GptLook, SECTOR};
use crate::io::{InputFile, in_memory};

/// The kind of the entry that guards a GPT.
const PROTECTIVE: u8 = 0xEE;
/// Bytes that are read at once.
const PIECE: u64 = 64 << 10;

/// Looks at the image's first sectors, and at what they lead to.
pub fn look(file: &InputFile, findings: &mut Findings) -> Result<(), Fault> {
    let mut head = [0; 1024];
    if file.read_up_to(0, &mut head)? < head.len() {
        return Ok(());
    }
    let (mbr, header) = head.split_at(512);
    let header = match GptHeader::look(header) {
        // That it is damaged the reader tells.
        GptLook::Damaged => return Ok(()),
        GptLook::None => None,
        GptLook::Sound(header) => Some(header),
    };
    guard(file, mbr, header.as_ref(), findings);
    let Some(header) = header else { return Ok(()) };
    if !header.is_possible(SECTOR) || header.here != 1 {
        findings.warning(GPT, || Fault::damaged(file.name(), SECTOR, "the GPT header says what cannot be"));
    } else if !entries_are_sound(file, &header)? {
        let at = header.entries_at.saturating_mul(SECTOR);
        findings.warning(GPT, || Fault::damaged(file.name(), at, "the entries of the GPT are damaged"));
    }
    copy(file, &header, findings)
}

/// The copy that the primary header leads to. Where that lies behind the file's end, the image is cut short, as the reader says.
fn copy(file: &InputFile, primary: &GptHeader, findings: &mut Findings) -> Result<(), Fault> {
    let Some(at) = primary.end(SECTOR).filter(|end| *end <= file.len()).map(|_| primary.other * SECTOR) else {
        return Ok(());
    };
    let mut raw = [0; 512];
    file.read_exact(at, &mut raw)?;
    let (byte, what) = match GptHeader::look(&raw) {
        GptLook::None => (at, "there is no copy of the GPT header where it should be"),
        GptLook::Damaged => (at, "the copy of the GPT header is damaged"),
        GptLook::Sound(copy) if copy.here != primary.other || !copy.is_possible(SECTOR) => {
            (at, "the copy of the GPT header says what cannot be")
        }
        GptLook::Sound(copy) if copy.disk_id != primary.disk_id || copy.entries_crc != primary.entries_crc => {
            (at, "the copy of the GPT header is of another table")
        }
        GptLook::Sound(copy) if !entries_are_sound(file, &copy)? => {
            (copy.entries_at.saturating_mul(SECTOR), "the copy of the GPT's entries is damaged")
        }
        GptLook::Sound(_) => return Ok(()),
    };
    findings.warning(GPT_BACKUP, || {
        Fault::damaged(file.name(), byte, what).advice("the first one counts; partitioning programs write both anew")
    });
    Ok(())
}

/// Are the entries in the file, and what their checksum says? Of a header that is possible, whose table is bounded.
fn entries_are_sound(file: &InputFile, header: &GptHeader) -> Result<bool, Fault> {
    let (mut crc, mut left) = (crc32fast::Hasher::new(), header.entries_len());
    let Some(mut at) = header.entries_at.checked_mul(SECTOR) else { return Ok(false) };
    let mut buffer = vec![0; in_memory(left.min(PIECE))];
    while left > 0 {
        let part = buffer.get_mut(..in_memory(left.min(PIECE))).unwrap_or_default();
        if file.read_up_to(at, part)? < part.len() {
            return Ok(false);
        }
        crc.update(part);
        (at, left) = (at + part.len() as u64, left - part.len() as u64);
    }
    Ok(crc.finalize() == header.entries_crc)
}

/// The MBR in front of a GPT.
fn guard(file: &InputFile, mbr: &[u8], gpt: Option<&GptHeader>, findings: &mut Findings) {
    let is_mbr = mbr.get(SIGNATURE..) == Some(&[0x55, 0xAA]);
    let entries = mbr.get(ENTRIES..SIGNATURE).unwrap_or_default().chunks_exact(ENTRY);
    let number = |entry: &[u8], at: usize| entry.get(at..at + 4).map(LittleEndian::read_u32).unwrap_or_default();
    let used: Vec<_> =
        entries.zip((ENTRIES as u64..).step_by(ENTRY)).filter(|(entry, _)| is_mbr && number(entry, 12) > 0).collect();
    let guard = used.iter().find(|(entry, _)| entry.get(4) == Some(&PROTECTIVE));
    let odd = |byte: u64, what: &'static str| Fault::damaged(file.name(), byte, what);
    match (gpt, guard) {
        (Some(_), None) if used.is_empty() => findings.warning(PROTECTIVE_MBR, || {
            let none = odd(ENTRIES as u64, "no MBR guards the GPT");
            none.advice("firmware and systems that look for one see no partitions")
        }),
        (None, Some((_, byte))) => {
            findings.warning(PROTECTIVE_MBR, || odd(*byte, "the MBR guards a GPT that is not there"));
        }
        (Some(_), Some((entry, byte))) if number(entry, 8) != 1 => findings.warning(PROTECTIVE_MBR, || {
            let begins = odd(*byte + 8, "the entry that guards the GPT begins elsewhere");
            begins.found(format!("sector {}", number(entry, 8))).expected(1)
        }),
        _ => {}
    }
}
