//! A UDF volume: where its descriptors lie, where it ends, and its name.
//!
//! Source: ECMA-167, part 3. An anchor, at block 256 or at the volume's end, leads to two sequences of descriptors that say the same.
//! Each descriptor has a tag of 16 bytes in front; all little-endian:
//!
//! | kind | descriptor       | field read                                                                          |
//! |-----:|------------------|-------------------------------------------------------------------------------------|
//! |    2 | anchor           | 16: bytes and block of the main sequence, 24: of the reserve                        |
//! |    3 | pointer          | 20: bytes and block of where the sequence goes on                                   |
//! |    5 | partition        | 188: first block, 192: blocks                                                       |
//! |    6 | logical volume   | 84: name, 128 bytes; 212: bytes of a block                                          |
//! |    8 | terminator       |                                                                                     |
//!
//! | offset | bytes | field of a tag | reading                                                                         |
//! |-------:|------:|----------------|---------------------------------------------------------------------------------|
//! |      0 |     2 | kind           |                                                                                 |
//! |      4 |     1 | checksum       | sum of the tag's other bytes                                                    |
//! |      8 |     2 | CRC            | CRC-16 of what follows the tag, polynomial 0x1021, begun with 0                 |
//! |     10 |     2 | bytes summed   |                                                                                 |
//! |     12 |     4 | block          | in which it stands                                                              |
//!
//! A name begins with the bits of its characters, 8 or 16 (big-endian), and its last byte is its length, that first byte included.

use byteorder::{BigEndian, ByteOrder, LittleEndian};

use crate::fault::Fault;
use crate::io::InputFile;

/// Block sizes that are tried: that of discs, and that of hard disks.
const BLOCK_SIZES: [u64; 3] = [2048, 512, 4096];
/// The block of the first anchor.
pub const ANCHOR_BLOCK: u64 = 256;
/// Where others may be: blocks in front of the end.
const ANCHORS_AT_END: [u64; 3] = [1, 257, 256];
/// Descriptors of a sequence that are looked at.
const MOST: u64 = 256;

const TAG: usize = 16;
/// Bytes of a descriptor's fixed part.
const LEN: usize = 512;

/// The kinds of descriptors.
pub mod kind {
    /// Nothing was recorded.
    pub const NONE: u16 = 0;
    /// Leads to the sequences.
    pub const ANCHOR: u16 = 2;
    /// Leads to where the sequence goes on.
    pub const POINTER: u16 = 3;
    /// A partition.
    pub const PARTITION: u16 = 5;
    /// What is made of the partitions.
    pub const LOGICAL_VOLUME: u16 = 6;
    /// The end.
    pub const TERMINATOR: u16 = 8;
}

/// A stretch of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// In bytes.
    pub len: u32,
    /// Its first block.
    pub first: u32,
}

impl Extent {
    /// The extent at an offset of a descriptor.
    fn of(raw: &[u8; LEN], at: usize) -> Extent {
        let number = |at: usize| raw.get(at..at + 4).map_or(0, LittleEndian::read_u32);
        Extent { len: number(at), first: number(at + 4) }
    }
}

/// What leads to all else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// The block that it is in.
    pub block: u64,
    /// Bytes of a block.
    pub block_size: u64,
    /// The descriptors.
    pub main: Extent,
    /// The same once more.
    pub reserve: Extent,
}

/// How a block is in which a descriptor should be.
pub enum Look {
    /// The file ends in front of it.
    Outside,
    /// The tag, or what it sums, is not what the sums say.
    Damaged(&'static str),
    /// Its kind and its fixed part.
    Sound(u16, Box<[u8; LEN]>),
}

/// The first anchor that is sound.
pub fn anchor(file: &InputFile) -> Result<Option<Anchor>, Fault> {
    for block_size in BLOCK_SIZES {
        let blocks = file.len() / block_size;
        let at_end = ANCHORS_AT_END.into_iter().filter_map(|back| blocks.checked_sub(back));
        for block in [ANCHOR_BLOCK].into_iter().chain(at_end) {
            if let Look::Sound(kind::ANCHOR, raw) = look(file, block, block_size)? {
                let (main, reserve) = (Extent::of(&raw, 16), Extent::of(&raw, 24));
                return Ok(Some(Anchor { block, block_size, main, reserve }));
            }
        }
    }
    Ok(None)
}

/// Looks at the descriptor at a block.
pub fn look(file: &InputFile, block: u64, block_size: u64) -> Result<Look, Fault> {
    let mut raw = [0; 4096];
    let raw = raw.get_mut(..usize::try_from(block_size).unwrap_or(LEN)).unwrap_or_default();
    let got = file.read_up_to(block.saturating_mul(block_size), raw)?;
    let Some(head) = raw.first_chunk::<LEN>().filter(|_| got >= LEN) else { return Ok(Look::Outside) };
    let (tag, number) = (&head[..TAG], |at: usize| head.get(at..at + 2).map_or(0, LittleEndian::read_u16));
    if tag.iter().all(|byte| *byte == 0) {
        return Ok(Look::Sound(kind::NONE, Box::new(*head)));
    }
    let sum = tag.iter().enumerate().filter(|(n, _)| *n != 4).fold(0u8, |sum, (_, byte)| sum.wrapping_add(*byte));
    if sum != head[4] {
        return Ok(Look::Damaged("the tag's checksum is another"));
    }
    // One longer than a block is summed over more than is read here.
    if raw.get(TAG..TAG + usize::from(number(10))).is_some_and(|summed| crc(summed) != number(8)) {
        return Ok(Look::Damaged("its CRC is another"));
    }
    if u64::from(LittleEndian::read_u32(&head[12..])) != block {
        return Ok(Look::Damaged("its tag says that it belongs into another block"));
    }
    Ok(Look::Sound(number(0), Box::new(*head)))
}

/// CRC-16 with polynomial 0x1021, as CCITT's V.41 has it.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| (crc << 1) ^ if crc & 0x8000 != 0 { 0x1021 } else { 0 })
    })
}

/// What one of the two sequences says.
#[derive(Debug, Default)]
pub struct Sequence {
    /// The byte behind the last partition, in blocks.
    blocks: u64,
    /// Bytes of a logical block.
    logical: Option<u64>,
    /// The name of the logical volume.
    name: String,
    /// The first descriptor that is not sound: its byte, and what is wrong.
    pub damaged: Option<(u64, &'static str)>,
}

impl Sequence {
    /// Nothing of it is damaged, and it has what a volume cannot be without.
    pub fn is_whole(&self) -> bool {
        self.damaged.is_none() && self.blocks > 0 && self.logical.is_some()
    }

    /// The byte behind the last partition.
    fn end(&self, block_size: u64) -> Option<u64> {
        (self.blocks > 0).then(|| self.blocks.saturating_mul(self.logical.unwrap_or(block_size)))
    }
}

/// Reads a sequence, up to its end or the first that leads nowhere.
pub fn sequence(file: &InputFile, extent: Extent, block_size: u64) -> Result<Sequence, Fault> {
    let mut sequence = Sequence::default();
    let (mut block, mut left) = (u64::from(extent.first), u64::from(extent.len) / block_size);
    for _ in 0..MOST {
        if left == 0 {
            break;
        }
        let number = |raw: &[u8; LEN], at: usize| u64::from(raw.get(at..at + 4).map_or(0, LittleEndian::read_u32));
        let damaged = match look(file, block, block_size)? {
            Look::Outside => Some("it lies outside the file"),
            Look::Damaged(what) => Some(what),
            Look::Sound(kind::NONE | kind::TERMINATOR, _) => break,
            Look::Sound(kind::POINTER, raw) => {
                let next = Extent::of(&raw, 20);
                (block, left) = (u64::from(next.first), u64::from(next.len) / block_size);
                continue;
            }
            Look::Sound(kind, raw) => {
                match kind {
                    kind::PARTITION => sequence.blocks = sequence.blocks.max(number(&raw, 188) + number(&raw, 192)),
                    kind::LOGICAL_VOLUME => {
                        sequence.logical = Some(number(&raw, 212));
                        sequence.name = text(raw.get(84..212).unwrap_or_default());
                    }
                    _ => {}
                }
                None
            }
        };
        if let Some(what) = damaged {
            let byte = block.saturating_mul(block_size).min(file.len());
            sequence.damaged = sequence.damaged.or(Some((byte, what)));
        }
        (block, left) = (block + 1, left - 1);
    }
    Ok(sequence)
}

/// What the descriptors say.
#[derive(Debug, Default)]
pub struct Udf {
    /// The byte behind the last partition, where there is one.
    pub end: Option<u64>,
    /// The name of the volume.
    pub id: String,
}

/// Reads the descriptors that an anchor leads to, those of the reserve where the others name no partition; without an anchor nothing is
/// known.
pub fn volume(file: &InputFile) -> Result<Udf, Fault> {
    let Some(anchor) = anchor(file)? else { return Ok(Udf::default()) };
    for extent in [anchor.main, anchor.reserve] {
        let found = sequence(file, extent, anchor.block_size)?;
        if let Some(end) = found.end(anchor.block_size) {
            return Ok(Udf { end: Some(end), id: found.name });
        }
    }
    Ok(Udf::default())
}

/// A name in the characters of UDF; nothing where it is in none of them.
fn text(field: &[u8]) -> String {
    let len = field.last().map_or(0, |len| usize::from(*len)).min(field.len().saturating_sub(1));
    match field.get(..len).and_then(<[u8]>::split_first) {
        Some((8, latin)) => latin.iter().map(|byte| char::from(*byte)).collect(),
        Some((16, wide)) => {
            String::from_utf16_lossy(&wide.chunks_exact(2).map(BigEndian::read_u16).collect::<Vec<_>>())
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_that_of_the_standard() {
        // The example of ECMA-167, 7.2.6.
        assert_eq!(crc(&[0x70, 0x6A, 0x77]), 0x3299);
    }

    #[test]
    fn names_have_the_width_and_the_length_that_they_state() {
        let field = |bytes: &[u8], len: u8| {
            let mut field = [0; 128];
            field[..bytes.len()].copy_from_slice(bytes);
            field[127] = len;
            text(&field)
        };
        assert_eq!(field(b"\x08Disk \xE9 rest", 7), "Disk é");
        assert_eq!(field(b"\x10\x04\x14\x00i\x00!", 5), "Дi");
        // None, of no known width, and longer than its field.
        assert_eq!((field(b"", 0), field(b"\x07abc", 4)), (String::new(), String::new()));
        assert_eq!(field(b"\x08a", 255).trim_end_matches('\0'), "a");
    }
}
