//! The descriptors of a UDF volume: both sequences of them, and the anchor. That its partition lies in the file is the reader's to tell.

use super::{UDF_ANCHOR, UDF_SEQUENCE};
use crate::fault::Fault;
use crate::format::iso::udf::{ANCHOR_BLOCK, Extent, anchor, sequence};
use crate::format::iso::volume;
use crate::image::Findings;
use crate::io::InputFile;

/// Where an anchor says where the sequences are.
const MAIN_AT: u64 = 16;
const RESERVE_AT: u64 = 24;

/// Looks at the volume, where there is one.
pub fn look(file: &InputFile, findings: &mut Findings) -> Result<(), Fault> {
    if volume::read(file)?.udf.is_none() {
        return Ok(());
    }
    // Without any the reader says so.
    let Some(anchor) = anchor(file)? else { return Ok(()) };
    if anchor.block != ANCHOR_BLOCK {
        findings.warning(UDF_ANCHOR, || {
            let byte = ANCHOR_BLOCK * anchor.block_size;
            let none = Fault::damaged(file.name(), byte, "the UDF volume's first anchor is damaged, or is not there");
            none.found(format!("another one at byte {}", anchor.block * anchor.block_size))
        });
    }
    let mut sequences = Vec::new();
    for (told_at, extent, which) in [(MAIN_AT, anchor.main, "main"), (RESERVE_AT, anchor.reserve, "reserve")] {
        // One without length was never written.
        if extent != (Extent { len: 0, first: extent.first }) {
            sequences.push((told_at, which, sequence(file, extent, anchor.block_size)?));
        }
    }
    let is_lost = !sequences.iter().any(|(.., sequence)| sequence.is_whole());
    for (told_at, which, sequence) in sequences.iter().filter(|(.., sequence)| !sequence.is_whole()) {
        let (byte, what) = sequence
            .damaged
            .unwrap_or((anchor.block * anchor.block_size + told_at, "it has no partition, or no logical volume"));
        let make = || {
            Fault::damaged(file.name(), byte, "a sequence of the UDF volume's descriptors is damaged")
                .found(format!("the {which} one"))
                .against(what)
        };
        match is_lost {
            true => findings.error(UDF_SEQUENCE, make),
            false => findings.warning(UDF_SEQUENCE, make),
        }
    }
    findings.count("udf_sequences", sequences.len() as u64);
    Ok(())
}
