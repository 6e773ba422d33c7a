//! The end of a UDF volume: where its partition ends.
//!
//! Source: ECMA-167, part 3. An anchor at block 256 leads to a sequence of descriptors, each with a tag of 16 bytes in front, whose first
//! two are its kind; all little-endian:
//!
//! | kind | descriptor       | field read                                                        |
//! |-----:|------------------|-------------------------------------------------------------------|
//! |    2 | anchor           | 16: bytes of the sequence, 20: its block                          |
//! |    5 | partition        | 188: first block, 192: blocks                                     |
//! |    6 | logical volume   | 212: bytes of a block                                             |
//! |    8 | terminator       |                                                                   |

use byteorder::{ByteOrder, LittleEndian};

use crate::fault::Fault;
use crate::io::InputFile;

/// Block sizes that are tried: that of discs, and that of hard disks.
const BLOCK_SIZES: [u64; 3] = [2048, 512, 4096];
const ANCHOR_BLOCK: u64 = 256;
/// Descriptors of a sequence that are looked at.
const MOST: u64 = 64;

const ANCHOR: u16 = 2;
const PARTITION: u16 = 5;
const LOGICAL_VOLUME: u16 = 6;
const TERMINATOR: u16 = 8;

/// The byte behind the last partition; `None` where no anchor or partition is found.
pub fn end(file: &InputFile) -> Result<Option<u64>, Fault> {
    for block_size in BLOCK_SIZES {
        let Some((kind, anchor)) = descriptor(file, ANCHOR_BLOCK, block_size)? else { continue };
        if kind != ANCHOR || LittleEndian::read_u32(&anchor[12..]) != 256 {
            continue;
        }
        let (len, first) = (LittleEndian::read_u32(&anchor[16..]), LittleEndian::read_u32(&anchor[20..]));
        let (mut blocks, mut logical) = (0u64, block_size);
        for n in 0..(u64::from(len) / block_size).min(MOST) {
            match descriptor(file, u64::from(first) + n, block_size)? {
                Some((PARTITION, raw)) => {
                    let end =
                        u64::from(LittleEndian::read_u32(&raw[188..])) + u64::from(LittleEndian::read_u32(&raw[192..]));
                    blocks = blocks.max(end);
                }
                Some((LOGICAL_VOLUME, raw)) => logical = u64::from(LittleEndian::read_u32(&raw[212..])),
                Some((TERMINATOR, _)) | None => break,
                Some(_) => {}
            }
        }
        return Ok((blocks > 0).then(|| blocks.saturating_mul(logical)));
    }
    Ok(None)
}

/// The descriptor at a block: its kind and its first 512 bytes. `None`: the file has none there, or its tag's checksum is wrong.
fn descriptor(file: &InputFile, block: u64, block_size: u64) -> Result<Option<(u16, [u8; 512])>, Fault> {
    let mut raw = [0; 512];
    let whole = file.read_up_to(block.saturating_mul(block_size), &mut raw)? == raw.len();
    let sum =
        raw.iter().take(16).enumerate().filter(|(n, _)| *n != 4).fold(0u8, |sum, (_, byte)| sum.wrapping_add(*byte));
    Ok((whole && sum == raw[4]).then(|| (LittleEndian::read_u16(&raw), raw)))
}
