//! Deflates the grains of a stream, each behind its marker; one that is deflated already may go over as it is.

use byteorder::{ByteOrder, LittleEndian};
use libdeflater::{CompressionLvl, Compressor, DecompressionError, Decompressor, adler32};

use super::layout::GRAIN;
use super::markers::GRAIN_MARKER;
use crate::fault::{Fault, Kind};
use crate::format::Effort;
use crate::image::{Encoder, SECTOR};
use crate::io::in_memory;

/// The level unless the user asks for another: smaller than qemu-img's files.
const LEVEL: i32 = 5;
/// The level of `--fast`, and that of every third grain there. Level 1 alone is 6.5 % larger than qemu-img's files, level 2 is 3 % and takes
/// a fifth longer; what a grain gains by it is much the same for all kinds of content, so that every third one is as good a choice as any.
const FAST: (i32, i32) = (1, 2);
/// The longest deflated grain that every reader's buffer takes.
const MAX_PASSED: usize = 66_036;

/// How grains are deflated.
pub struct Deflate {
    level: CompressionLvl,
    /// That of every third grain, where it is another.
    third: Option<CompressionLvl>,
    /// Nobody asked for a level.
    may_pass: bool,
    decision: String,
}

impl Deflate {
    /// With this effort; `None`: nobody asked for one. Refused where the level is none.
    pub fn new(effort: Option<Effort>) -> Result<Deflate, Fault> {
        let level = |level| CompressionLvl::new(level).map_err(|_| Fault::new(Kind::Usage, "", "--level: 1 to 12"));
        let (most, third) = match effort {
            Some(Effort::Fast) => (FAST.0, Some(FAST.1)),
            Some(Effort::Level(wanted)) => (wanted, None),
            None => (LEVEL, None),
        };
        let decision = match third {
            Some(third) => format!("compression levels {most} and, for every third grain, {third}"),
            None => format!("compression level {most}"),
        };
        Ok(Deflate { level: level(most)?, third: third.map(level).transpose()?, may_pass: effort.is_none(), decision })
    }

    /// What `-v` tells of it.
    pub fn decision(&self) -> String {
        self.decision.clone()
    }

    /// What does it, for one thread.
    pub fn encoder(&self) -> Deflater {
        Deflater {
            compressor: Compressor::new(self.level),
            third: self.third.map(Compressor::new),
            may_pass: self.may_pass,
            inflater: Decompressor::new(),
            inflated: vec![0; in_memory(GRAIN)],
            marred: Vec::new(),
        }
    }
}

/// Deflates a grain and puts its marker in front.
pub struct Deflater {
    compressor: Compressor,
    /// For every third grain, where that is another.
    third: Option<Compressor>,
    /// Nobody asked for a level: what is deflated already is good enough.
    may_pass: bool,
    /// For what may pass.
    inflater: Decompressor,
    /// A grain.
    inflated: Vec<u8>,
    /// What inflates to it, with a wrong sum.
    marred: Vec<u8>,
}

impl Deflater {
    /// Is `packed` the unit, deflated by zlib to its last byte: no less than a grain of its content, and nothing behind the stream? The
    /// source's own checks do not tell: they allow short grains, look no further than the disk's end, and pass over what follows.
    ///
    /// libdeflate does not tell where a stream ended, and does not mind what follows. So its last byte, which should belong to the sum, is
    /// marred: inflated in one go, the content comes out, and the sum is found wrong, unless it stood further in front.
    fn is_exactly(&mut self, packed: &[u8], unit: &[u8]) -> bool {
        self.marred.clear();
        self.marred.extend_from_slice(packed);
        let (Some(last), Some(end), Some(known)) = (self.marred.last_mut(), self.inflated.last_mut(), unit.last())
        else {
            return false;
        };
        *last = !*last;
        // What a shorter stream does not reach differs.
        *end = !known;
        packed.last_chunk::<4>() == Some(&adler32(unit).to_be_bytes())
            && self.inflater.zlib_decompress(&self.marred, &mut self.inflated) == Err(DecompressionError::BadData)
            && self.inflated == unit
    }
}

impl Encoder for Deflater {
    fn encode(&mut self, unit: &[u8], guest: u64, out: &mut Vec<u8>) -> Result<(), Fault> {
        let start = out.len();
        let front = in_memory(GRAIN_MARKER);
        let third = self.third.as_mut().filter(|_| (guest / GRAIN).is_multiple_of(3));
        let compressor = third.unwrap_or(&mut self.compressor);
        out.resize(start + front + compressor.zlib_compress_bound(unit.len()), 0);
        let place = out.get_mut(start + front..).unwrap_or_default();
        let packed =
            compressor.zlib_compress(unit, place).map_err(|_| Fault::bug("a grain that cannot be deflated"))?;
        out.truncate(start + front + packed);
        finish_grain(out, start, guest)
    }

    fn at_most(&mut self, unit: u64) -> u32 {
        let either = self.third.iter_mut().chain([&mut self.compressor]);
        let bounds = either.map(|compressor| compressor.zlib_compress_bound(in_memory(unit)));
        let packed = bounds.fold(MAX_PASSED, usize::max) as u64;
        u32::try_from((GRAIN_MARKER + packed).next_multiple_of(SECTOR)).unwrap_or(u32::MAX)
    }

    /// A whole grain that was deflated by zlib, and nothing behind it.
    fn pass(&mut self, packed: &[u8], unit: &[u8], guest: u64, out: &mut Vec<u8>) -> Result<bool, Fault> {
        let fits = self.may_pass && unit.len() as u64 == GRAIN && packed.len() <= MAX_PASSED;
        if !fits || !self.is_exactly(packed, unit) {
            return Ok(false);
        }
        let start = out.len();
        out.resize(start + in_memory(GRAIN_MARKER), 0);
        out.extend(packed);
        finish_grain(out, start, guest)?;
        Ok(true)
    }
}

/// Marks the grain of guest byte `guest` whose packed bytes end `out`, with room for the marker in front of them at `start`, and pads it.
fn finish_grain(out: &mut Vec<u8>, start: usize, guest: u64) -> Result<(), Fault> {
    let len = out.len() - start;
    let size = u32::try_from(len - in_memory(GRAIN_MARKER));
    let size = size.map_err(|_| Fault::bug("a grain that grew beyond all bounds"))?;
    let marker = out.get_mut(start..).ok_or_else(|| Fault::bug("a marker without room"))?;
    LittleEndian::write_u64(marker, guest / SECTOR);
    LittleEndian::write_u32(marker.get_mut(8..).unwrap_or_default(), size);
    out.resize(start + len.next_multiple_of(in_memory(SECTOR)), 0);
    Ok(())
}
