//! The catalog of what boots: its own checksum, and that the images begin in the file.
//!
//! Source: "El Torito" 1.0.

use byteorder::{ByteOrder, LittleEndian};

use super::{BOOT_CATALOG, SECTOR, against_end};
use crate::fault::Fault;
use crate::image::Findings;
use crate::io::InputFile;

/// Entries that are looked at.
const MOST_ENTRIES: usize = 64;
/// Bytes of an entry.
const ENTRY: usize = 32;

/// Looks at the catalog at byte `at`, which the number at byte `byte` leads to.
pub fn look(file: &InputFile, byte: u64, at: u64, findings: &mut Findings) -> Result<(), Fault> {
    let mut raw = [0; MOST_ENTRIES * ENTRY];
    let got = file.read_up_to(at, &mut raw)?;
    let entries = raw.get(..got).unwrap_or_default();
    let odd = |byte: u64, what: &'static str| Fault::damaged(file.name(), byte, what);
    let Some(validation) = entries.first_chunk::<ENTRY>() else {
        findings.warning(BOOT_CATALOG, || {
            let outside = odd(byte, "the boot catalog lies outside the file").found(format!("byte {at}"));
            outside.against(against_end(file))
        });
        return Ok(());
    };
    let sum = validation.chunks_exact(2).map(LittleEndian::read_u16).fold(0u16, u16::wrapping_add);
    if validation[0] != 1 || validation[30..] != [0x55, 0xAA] || sum != 0 {
        findings.warning(BOOT_CATALOG, || {
            odd(at, "the boot catalog's first entry")
                .found(format!("checksum {sum:#06x}"))
                .expected("a sum of 0, and 55 aa at its end")
        });
        return Ok(());
    }
    for (entry, byte) in entries.chunks_exact(ENTRY).zip((at..).step_by(ENTRY)).skip(1) {
        let (kind, load) = (entry.first().copied(), entry.get(8..).map(LittleEndian::read_u32).unwrap_or_default());
        match kind {
            Some(0) => break,
            Some(0x88) if u64::from(load) * SECTOR >= file.len() => findings.warning(BOOT_CATALOG, || {
                let outside = odd(byte, "a boot image begins outside the file").found(format!("block {load}"));
                outside.against(against_end(file))
            }),
            _ => {}
        }
    }
    Ok(())
}
