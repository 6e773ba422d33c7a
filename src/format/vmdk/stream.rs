//! streamOptimized: deflated grains behind markers, and the footer that stands for a header whose directory came last.
//!
//! Source: VMware "Virtual Disk Format 5.0", section "Stream-Optimized Compressed Sparse Extents".

use std::sync::Arc;

use byteorder::{ByteOrder, LittleEndian};
use libdeflater::{DecompressionError, Decompressor};

use super::header::{self, SparseHeader};
use super::markers::{self, GRAIN_MARKER};
use crate::fault::{Fault, Kind};
use crate::image::{Ledger, SECTOR, Unpack};
use crate::io::{FileId, InputFile, in_memory};

/// How far from the end a footer is looked for behind which something was appended, in bytes.
const SEARCH: u64 = 1 << 20;
/// How many stored zeroes behind the end of a stream are looked through, in bytes: padding of tapes and of allocations.
const PADDING: u64 = 64 << 20;
/// The largest grain that is inflated, in sectors.
pub const MAX_GRAIN_SECTORS: u64 = 2048;

/// What stands in front of a grain's zlib stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// A marker: the grain's first sector, and the bytes of the stream. What all products write.
    Marker,
    /// The bytes of the stream alone.
    Length,
    /// Nothing.
    Bare,
}

/// An extent of deflated grains.
#[derive(Clone)]
pub struct StreamExtent {
    /// The file.
    pub file: Arc<InputFile>,
    /// Bytes of the extent: behind them a grain may be cut.
    pub len: u64,
    /// What stands in front of each grain.
    pub packing: Packing,
}

/// What the first grain of an extent looks like, where the header contradicts itself about that.
pub enum FirstGrain {
    /// Deflated.
    Packed(Packing),
    /// Stored as it is: no zlib stream begins anywhere where one would.
    Plain,
    /// It looks deflated and does not inflate.
    Unclear,
}

/// Looks at the first grain. A marker that fits is proof; a zlib stream without one has to inflate, since two bytes prove little.
pub fn first_grain(file: &Arc<InputFile>, header: &SparseHeader) -> Result<FirstGrain, Fault> {
    let Some(at) = header.overhead.checked_mul(SECTOR).filter(|at| *at < file.len()) else {
        return Ok(FirstGrain::Packed(Packing::Marker)); // there is no grain
    };
    refuse_large_grains(file, header)?;
    let mut head = [0; 14];
    let got = file.read_up_to(at, &mut head)?;
    let zlib_at = |front: usize| match head.get(front..front + 2) {
        Some([cmf, flg]) if got >= front + 2 => {
            cmf & 15 == 8 && (u16::from(*cmf) * 256 + u16::from(*flg)).is_multiple_of(31)
        }
        _ => false,
    };
    let lba = LittleEndian::read_u64(&head);
    let marker = in_memory(GRAIN_MARKER);
    if zlib_at(marker) && lba.is_multiple_of(header.grain_sectors) && lba < header.capacity {
        return Ok(FirstGrain::Packed(Packing::Marker));
    }
    let mut out = vec![0; in_memory(header.grain_sectors * SECTOR)];
    for (packing, front) in [(Packing::Length, 4), (Packing::Bare, 0)] {
        let extent = StreamExtent { file: Arc::clone(file), len: 0, packing };
        let mut inflater = Inflater::new(vec![(0, extent.clone())]);
        if zlib_at(front)
            && inflater.read_packed(&extent, at, None, out.len()).is_ok()
            && inflate(&mut inflater.decompressor, &inflater.packed, &mut out).is_ok()
        {
            return Ok(FirstGrain::Packed(packing));
        }
    }
    Ok(if [marker, 4, 0].into_iter().any(zlib_at) { FirstGrain::Unclear } else { FirstGrain::Plain })
}

fn refuse_large_grains(file: &InputFile, header: &SparseHeader) -> Result<(), Fault> {
    match header.grain_sectors > MAX_GRAIN_SECTORS {
        true => Err(Fault::new(Kind::OverLimit, file.name(), "a compressed VMDK grain is inflated whole")
            .at(20)
            .found(format!("{} sectors", header.grain_sectors))
            .expected(format!("at most {MAX_GRAIN_SECTORS}"))),
        false => Ok(()),
    }
}

/// The footer of a stream whose header says that the directory came last: where it stands, and what it says.
pub fn footer(file: &InputFile) -> Result<(u64, SparseHeader), Fault> {
    if let Some(found) = footer_before(file, file.len())? {
        return Ok(found);
    }
    let (end, all) = end_without_padding(file)?;
    let lost = Fault::damaged(file.name(), file.len(), "the streamOptimized VMDK has no footer: is it cut short?");
    match footer_before(file, end)? {
        Some(found) => Ok(found),
        None if !all => Err(lost.against(format!("the last {} MiB are zeroes", PADDING >> 20)).advice(
            "if they are padding, cut them off a copy of the file; if not, the end of a download was lost: fetch it again",
        )),
        None => Err(lost.advice(
            "a download or an export that was cut off has lost its end: fetch it again, and compare the sizes; what came of it is read as a stream: vdconv --salvage - OUTPUT < FILE",
        )),
    }
}

/// The last footer in front of byte `end`, no further than [`SEARCH`] from it.
fn footer_before(file: &InputFile, end: u64) -> Result<Option<(u64, SparseHeader)>, Fault> {
    let end = end - end % SECTOR;
    let start = end.saturating_sub(SEARCH);
    let mut bytes = vec![0; in_memory(end - start)];
    let unread = file.read_around(start, &mut bytes)?;
    let (sectors, _) = bytes.as_chunks::<{ header::LEN }>();
    for (index, pair) in sectors.windows(2).enumerate().rev() {
        let [marker, raw] = pair else { continue };
        let is_marker =
            LittleEndian::read_u32(&marker[8..]) == 0 && LittleEndian::read_u32(&marker[12..]) == markers::FOOTER;
        if is_marker && raw.starts_with(&header::MAGIC) {
            let at = start + (index as u64 + 1) * SECTOR;
            return Ok(Some((at, SparseHeader::parse(raw, file.name(), at)?)));
        }
    }
    // It may stand where the medium gives nothing.
    unread.into_iter().next().map_or(Ok(None), |unread| Err(unread.fault))
}

/// The end of what is not zero, up to a whole sector, and whether all behind it was looked at: at most [`PADDING`] stored bytes are;
/// holes cost nothing.
fn end_without_padding(file: &InputFile) -> Result<(u64, bool), Fault> {
    let (mut end, mut budget) = (file.len(), PADDING);
    let mut window = vec![0; in_memory(SEARCH)];
    while end > 0 && budget > 0 {
        let start = end.saturating_sub(SEARCH);
        if file.next_data(start)?.is_some_and(|data| data.start < end) {
            let bytes = window.get_mut(..in_memory(end - start)).unwrap_or_default();
            file.read_exact(start, bytes)?;
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                return Ok(((start + last as u64 + 1).next_multiple_of(SECTOR).min(file.len()), true));
            }
            budget = budget.saturating_sub(end - start);
        }
        end = start;
    }
    Ok((end, end == 0))
}

/// The header of a stream: where its directory came last, the footer says where. What is behind the footer is told. `named`: the
/// extent's bytes, as the descriptor says.
pub fn complete(
    ledger: &Ledger,
    file: &InputFile,
    header: SparseHeader,
    named: Option<u64>,
) -> Result<SparseHeader, Fault> {
    refuse_large_grains(file, &header)?;
    if header.gd_offset.is_some() {
        return Ok(header);
    }
    let (at, footer) = footer(file)?;
    let behind = file.len() - (at + SECTOR);
    if behind != SECTOR {
        let warning =
            Fault::damaged(file.name(), at + SECTOR, "the streamOptimized VMDK does not end behind its footer");
        ledger.warn(warning.found(format!("{behind} bytes")).expected("one sector, the end of the stream"));
    }
    // Behind its marker, right in front of the footer's, the directory has its place; the footer must say the same.
    let place = (at / SECTOR).checked_sub(1 + footer.gd_sectors());
    let marked = match place {
        Some(place) => markers::in_front_of(file, place)? == Some(markers::DIRECTORY),
        None => false,
    };
    if marked && footer.gd_offset != place {
        return Err(Fault::damaged(
            file.name(),
            at + 56,
            "the footer of the streamOptimized VMDK leads past its grain directory",
        )
        .found(format!("sector {}", footer.gd_offset.unwrap_or_default()))
        .expected(format!("sector {}", place.unwrap_or_default())));
    }
    if !marked {
        ledger.warn(Fault::damaged(
            file.name(),
            at,
            "no marker in front of the grain directory of the streamOptimized VMDK",
        ));
    }
    if !footer.lays_out_as(&header) || footer.gd_offset.is_none() {
        return Err(Fault::damaged(file.name(), at, "the footer of the streamOptimized VMDK contradicts its header"));
    }
    let mut capacity = footer.capacity;
    if footer.capacity != header.capacity {
        let differ =
            Fault::damaged(file.name(), at + 12, "header and footer of the streamOptimized VMDK differ in capacity")
                .found(format!("{} sectors", footer.capacity));
        let wanted = named.map(|len| len.div_ceil(SECTOR));
        let says = wanted.map_or("nothing".to_string(), |wanted| wanted.to_string());
        let differ = differ.against(format!("the header says {}, the descriptor {says}", header.capacity));
        match wanted {
            Some(wanted) if wanted == footer.capacity || wanted == header.capacity => capacity = wanted,
            _ => return Err(differ),
        }
        ledger.warn(differ);
    }
    Ok(SparseHeader {
        gd_offset: footer.gd_offset,
        rgd_offset: footer.rgd_offset,
        capacity,
        marked_tables: marked,
        ..header
    })
}

/// Inflates grains; each worker has one.
pub struct Inflater {
    extents: Vec<(u64, StreamExtent)>,
    decompressor: Decompressor,
    packed: Vec<u8>,
}

impl Inflater {
    /// For these extents, each with the guest byte that it begins at.
    pub fn new(extents: Vec<(u64, StreamExtent)>) -> Inflater {
        Inflater { extents, decompressor: Decompressor::new(), packed: Vec::new() }
    }

    /// Reads the packed bytes of the grain at byte `at`, whose unit has `unit` bytes; `lba`: the sector that its marker must name.
    fn read_packed(&mut self, extent: &StreamExtent, at: u64, lba: Option<u64>, unit: usize) -> Result<(), Fault> {
        let file = &extent.file;
        let damaged = |what: &'static str| Fault::damaged(file.name(), at, what);
        let mut marker = [0; 12];
        let got = file.read_up_to(at, &mut marker)?;
        // A stream that does not shrink is a little longer than the grain; nobody writes twice as much.
        let most = 2 * unit as u64 + SECTOR;
        let (front, size) = match extent.packing {
            Packing::Marker => (GRAIN_MARKER, u64::from(LittleEndian::read_u32(&marker[8..]))),
            Packing::Length => (4, u64::from(LittleEndian::read_u32(&marker))),
            Packing::Bare => (0, file.len().saturating_sub(at).min(most)),
        };
        if (got as u64) < front {
            return Err(damaged("VMDK grain marker is cut by the end of the file"));
        }
        let named = LittleEndian::read_u64(&marker);
        if let Some(lba) = lba.filter(|lba| extent.packing == Packing::Marker && *lba != named) {
            return Err(damaged("VMDK grain marker is another grain's").found(format!("lba {named}")).expected(lba));
        }
        if size == 0 || size > most {
            return Err(damaged("VMDK grain marker size").found(size).expected(format!("1 to {most}")));
        }
        self.packed.resize(in_memory(size), 0);
        if file.read_up_to(at + front, &mut self.packed)? < self.packed.len() {
            return Err(
                damaged("VMDK grain is cut by the end of the file").found(format!("{size} bytes from its marker on"))
            );
        }
        Ok(())
    }
}

/// Inflates a grain of which the disk, or the extent, has `needed` bytes, into a buffer of a grain's length; `fault` says where. The last
/// grain may end where the disk does (QEMU); every other is whole. What stands behind the disk's end is nobody's, and the disk may be
/// grown: zeroes.
pub fn inflate_grain(
    decompressor: &mut Decompressor,
    packed: &[u8],
    needed: u64,
    out: &mut [u8],
    fault: impl Fn(&'static str) -> Fault,
) -> Result<(), Fault> {
    let needed = needed.min(out.len() as u64);
    let got = inflate(decompressor, packed, out).map_err(&fault)?;
    if (got as u64) < needed {
        return Err(fault("VMDK grain inflates to less than a grain").found(got).expected(needed));
    }
    out.iter_mut().skip(in_memory(needed)).for_each(|byte| *byte = 0);
    Ok(())
}

/// Inflates a grain into a buffer of a grain's length: the bytes that came out, or what is wrong.
fn inflate(decompressor: &mut Decompressor, packed: &[u8], out: &mut [u8]) -> Result<usize, &'static str> {
    decompressor.zlib_decompress(packed, out).map_err(|error| match error {
        DecompressionError::InsufficientSpace => "VMDK grain inflates to more than a grain",
        DecompressionError::BadData => "VMDK grain does not inflate",
    })
}

impl Unpack for Inflater {
    fn unpack(&mut self, file: FileId, at: u64, unit_start: u64, out: &mut [u8]) -> Result<(), Fault> {
        let next = self.extents.partition_point(|(start, _)| *start <= unit_start);
        let found =
            next.checked_sub(1).and_then(|n| self.extents.get(n)).filter(|(_, extent)| extent.file.id() == file);
        let (start, extent) = found.cloned().ok_or_else(|| Fault::bug("a grain of no extent"))?;
        let inside = unit_start - start;
        self.read_packed(&extent, at, Some(inside / SECTOR), out.len())?;
        let damaged = |what: &'static str| Fault::damaged(extent.file.name(), at, what);
        let needed = extent.len.saturating_sub(inside);
        inflate_grain(&mut self.decompressor, &self.packed, needed, out, damaged)
    }

    fn packed(&self) -> &[u8] {
        &self.packed
    }
}
