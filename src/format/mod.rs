//! The formats, one line each, and how an input is recognised: by its content, never by its name alone.

mod chain;
mod check;
mod flat;
mod foreign;
pub mod iso;
mod linear;
pub mod open_end;
mod parents;
pub mod raw;
pub mod vhd;
pub mod vmdk;
mod wish;

pub use check::{COMMON, Checked, Checker, check};
pub use wish::{Base, Effort, Wish};

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::fault::{Fault, Kind};
use crate::image::{Disk, Facts, Feed, Ledger, Writer};
use crate::io::{Gate, InputFile, InputPipe, Unread, in_memory};

/// Every format. A format's content is looked for in this order; raw, which has none of its own, is the last.
pub const FORMATS: &[Format] = &[vhd::FORMAT, vmdk::FORMAT, iso::FORMAT, raw::FORMAT];

/// Raw disks have no content of their own to be recognised by.
const RAW: &Format = &raw::FORMAT;

/// Opens an image as this format.
pub type Open = fn(&mut Opening<'_>, Arc<InputFile>) -> Result<Disk, Fault>;

/// Opens a stream as this format.
pub type OpenStream = fn(InputPipe, Option<u64>) -> Result<StreamSource, Fault>;

/// A disk that comes through a pipe.
pub struct StreamSource {
    /// What is known of it before its content comes.
    pub facts: Facts,
    /// Where warnings go.
    pub ledger: Arc<Ledger>,
    /// Its size is known at its end alone: what stands in `facts` is no size yet.
    pub open_end: bool,
    /// The first bytes, which identify a source that has no identifier.
    pub head: Vec<u8>,
    /// Bytes that came out of the pipe so far.
    pub received: Arc<AtomicU64>,
    /// Makes the feed: up to so many bytes of the disk, in test units of so many.
    pub feed: Box<dyn FnOnce(u64, u64) -> Box<dyn Feed>>,
}

/// Opens what comes through a pipe: as the format that the user named, or that its first bytes show; as raw where its size was given.
pub fn open_stream(pipe: InputPipe, options: &OpenOptions, size: Option<u64>) -> Result<StreamSource, Fault> {
    let name = pipe.name().to_path_buf();
    if pipe.head().is_empty() {
        return Err(Fault::new(Kind::NotThisFormat, name, "nothing came"));
    }
    let looks_like =
        if pipe.head().starts_with(b"conectix") { Some(&vhd::FORMAT) } else { vmdk::in_stream(pipe.head()) };
    let format = match (options.format, looks_like, size) {
        (Some(format), _, _) => format,
        (None, Some(format), None) => format,
        (None, None, Some(_)) => RAW,
        (None, Some(format), Some(_)) => {
            let what = format!("--input-size: the stream is a {}, which says itself how long it is", format.title);
            return Err(Fault::new(Kind::Usage, name, what).advice("-f raw, if it is one all the same"));
        }
        (None, None, None) => {
            return Err(Fault::new(Kind::NotThisFormat, name, "no disk that is known from its first bytes").advice(
                "a raw disk or a fixed VHD: -f raw, or --input-size N; anything else is saved to a file first",
            ));
        }
    };
    let Some(open) = format.open_stream else {
        let fit = FORMATS.iter().filter(|format| format.open_stream.is_some()).map(|format| format.title);
        return Err(Fault::new(Kind::Unsupported, name, format!("a {} is read by seeking", format.title))
            .expected(format!("one of {}", fit.collect::<Vec<_>>().join(", ")))
            .advice("save it to a file first; a fixed VHD comes as raw: -f raw"));
    };
    open(pipe, size)
}

/// Makes the writer of a variant.
pub type MakeWriter = fn(&Facts, &Wish) -> Result<Box<dyn Writer>, Fault>;

/// The names that images beside a file have as their pieces, but for the image of one name, and whose they are.
pub type NamedBeside = fn(&InputFile, &std::ffi::OsStr) -> HashMap<String, PathBuf>;

/// A format.
pub struct Format {
    /// The word of `-f` and `-O`.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Endings of OUTPUT that choose it.
    pub output_endings: &'static [&'static str],
    /// True where the content is of this format; an error where it claims to be and cannot be trusted.
    pub recognise: fn(&Probe<'_>) -> Result<bool, Fault>,
    /// Where no content is recognised: the whole that the file is a piece of, as the refusal of the piece.
    pub stray: Option<fn(&Probe<'_>) -> Option<Fault>>,
    /// The names of the files beside an image that are pieces of it and of nothing else; `None` where it never has any.
    pub pieces: Option<fn(&InputFile) -> Vec<String>>,
    /// The names, in small letters, that images beside a file have as their pieces, and which image: all but the one of this name.
    /// `None` where the format has no pieces.
    pub named_beside: Option<NamedBeside>,
    /// Opens an image; `None` where the format is only written.
    pub open: Option<Open>,
    /// Checks an image; `None` where this version cannot.
    pub check: Option<Checker>,
    /// Which of the identifiers and fields that the user may give it has a place for.
    pub records: &'static [Records],
    /// Opens what comes through a pipe, of so many bytes where the user says so; `None` where that cannot be read in one pass.
    pub open_stream: Option<OpenStream>,
    /// What can be written, the default first; empty where the format is only read.
    pub subformats: &'static [Subformat],
}

/// A variant that can be written.
pub struct Subformat {
    /// The word of `-s`, compared without case.
    pub name: &'static str,
    /// A short word for it.
    pub short: &'static str,
    /// Which of the options for some outputs it takes.
    pub takes: &'static [Takes],
    /// Chooses everything about the output before the first byte, and refuses what the variant cannot hold (R20).
    pub writer: MakeWriter,
}

impl Subformat {
    /// The most bytes of a disk whose size is known at its end alone; `None` where it must be known first.
    pub fn open_end(&self) -> Option<u64> {
        self.takes.iter().find_map(|takes| match takes {
            Takes::OpenEnd { most } => Some(*most),
            _ => None,
        })
    }
}

/// What an output may record at the user's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Records {
    /// `--adapter`
    Adapter,
    /// `--uuid`
    Uuid,
    /// `--cid`
    Cid,
    /// `--hw-version`
    HwVersion,
}

/// What some outputs can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// `--base`: it can be a delta.
    Base,
    /// `--preallocate`: it may be written without holes.
    Preallocate,
    /// `--contiguous`: it leaves a gap in front of its blocks otherwise.
    Contiguous,
    /// `--block-size`: the unit of allocation can be chosen.
    BlockSize,
    /// `--level`: it is compressed.
    Level,
    /// `-`: it is written in order, without seeking.
    Pipe,
    /// A source whose size is known at its end alone, up to this many bytes.
    OpenEnd {
        /// In bytes, whole sectors.
        most: u64,
    },
}

/// What is known of a file before it is opened as an image.
pub struct Probe<'a> {
    /// The file.
    pub file: &'a InputFile,
    /// its first 64 KiB, or all of it.
    pub head: &'a [u8],
}

/// What helps where the content does not tell.
const RAW_AFTER_ALL: &str = "if it is a raw disk: -f raw";

/// Bytes of a file that are looked at to recognise it: a descriptor may begin with pages of comments.
const HEAD: usize = 64 << 10;

/// How images are opened.
#[derive(Default, Clone)]
pub struct OpenOptions {
    /// `-f`; the content decides where it is `None`.
    pub format: Option<&'static Format>,
    /// `--ignore-bitmaps`: every byte of an allocated VHD block is valid.
    pub ignore_bitmaps: bool,
    /// `--ignore-lock`: read a VMDK that a running machine has locked.
    pub ignore_lock: bool,
    /// `--ignore-cid`: take a parent whose content id is not what the snapshot recorded.
    pub ignore_cid: bool,
    /// `--ignore-log`: read a seSparse extent whose journal was not replayed.
    pub ignore_log: bool,
    /// `--parent`: the parents, from that of the image on, where the recorded names do not lead to them.
    pub parents: Vec<PathBuf>,
    /// `--allow-outside`: follow names in images that lead outside the image's folder.
    pub allow_outside: bool,
    /// What an image may lack and is opened all the same; what is not there is lost in its map.
    pub lacks: Lacks,
    /// Opened as the base of a delta: what else lies on top of it is no concern.
    pub is_base: bool,
}

/// What an image may lack and is opened all the same. What it makes of the disk's map does not depend on it: that is lost.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Lacks {
    /// Nothing: a part that is not there is an error.
    #[default]
    Nothing,
    /// Data, for a run that goes on over losses: extents that are not there or that nothing can be read of, an end that was cut off. Not
    /// a parent, whose place the user can name; and not all of the data.
    Data,
    /// Files, for a look at an image: extents and parents that are not there, or lead outside, are listed in its facts.
    Files,
}

impl OpenOptions {
    /// May the image's parent be missing for this reason?
    pub fn may_lack_parent(&self, fault: &Fault) -> bool {
        self.lacks == Lacks::Files && matches!(fault.kind(), Kind::NotFound | Kind::Outside)
    }

    /// May one of the image's extents be missing for this reason?
    pub fn may_lack_extent(&self, fault: &Fault) -> bool {
        match self.lacks {
            Lacks::Nothing => false,
            Lacks::Data => fault.kind() == Kind::NotFound || fault.is_about_bytes(),
            Lacks::Files => matches!(fault.kind(), Kind::NotFound | Kind::Outside),
        }
    }

    /// Is the image opened for a run that goes on over losses? Then its end may be cut off, and of units that overlap nobody knows whose
    /// the bytes are: tables are looked through first, so that all of them are lost, not the later alone.
    pub fn expects_losses(&self) -> bool {
        self.lacks == Lacks::Data
    }
}

/// What a format has at hand while it opens an image.
pub struct Opening<'a> {
    /// The gate, for files that the image names.
    pub gate: &'a mut Gate,
    /// The user's options.
    pub options: &'a OpenOptions,
    /// Where warnings go.
    pub ledger: Arc<Ledger>,
    /// The images of the chain that were come to, the youngest first, whether they could be opened or not.
    pub images: Vec<Arc<InputFile>>,
}

/// The format of this name.
pub fn by_name(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|f| f.name.eq_ignore_ascii_case(name))
}

/// The format that OUTPUT's ending chooses.
pub fn by_output_ending(output: &Path) -> Option<&'static Format> {
    let ending = output.extension()?.to_str()?.to_ascii_lowercase();
    FORMATS.iter().find(|f| f.output_endings.contains(&ending.as_str()))
}

impl Format {
    /// The variant of this name, or of this short one.
    pub fn subformat(&self, name: &str) -> Option<&'static Subformat> {
        self.subformats.iter().find(|s| [s.name, s.short].iter().any(|word| word.eq_ignore_ascii_case(name)))
    }
}

/// Opens the image that the user named.
pub fn open(gate: &mut Gate, name: &Path, options: &OpenOptions) -> Result<Disk, Fault> {
    if options.allow_outside {
        gate.allow_outside();
    }
    let file = gate.typed(name)?;
    let format = match options.format {
        Some(format) => format,
        None => recognise(&file).map_err(|fault| match fault.is_of_medium() {
            true => fault.advice("what it is cannot be seen there; -f says it"),
            false => fault,
        })?,
    };
    let Some(open) = format.open else {
        return Err(Fault::new(Kind::Unsupported, name, format!("a {}: this version does not read it", format.title)));
    };
    let disk = open(&mut Opening { gate, options, ledger: Arc::default(), images: Vec::new() }, file)?;
    refuse_surplus_parents(&disk, name, options)?;
    Ok(disk)
}

/// What was given and is of no use was a mistake, and the user would not know.
fn refuse_surplus_parents(disk: &Disk, name: &Path, options: &OpenOptions) -> Result<(), Fault> {
    let parents = disk.images().len() - 1;
    match options.parents.get(parents) {
        None => Ok(()),
        Some(surplus) => Err(Fault::new(Kind::Usage, surplus, "--parent: no image of the chain has this parent")
            .found(format!("{} given", options.parents.len()))
            .against(format!("{} has {parents}", name.display()))),
    }
}

/// The files that are pieces of the image at `name` and of nothing else, by what it says and how they are called. None where it is no
/// image, or cannot be read.
pub fn pieces(name: &Path) -> Vec<PathBuf> {
    let Ok(file) = Gate::new().typed(name) else { return Vec::new() };
    let Ok(Some(format)) = by_content(&file) else { return Vec::new() };
    let named = format.pieces.map(|pieces| pieces(&file)).unwrap_or_default();
    let mut paths: Vec<_> = named.iter().map(|piece| name.with_file_name(piece)).collect();
    paths.retain(|path| std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file()));
    paths
}

/// Of these pieces of `output`, which lie in one folder, those that an image beside them says are its own, and that image.
pub fn owned_beside<'a>(pieces: &[&'a Path], output: &Path) -> Vec<(&'a Path, PathBuf)> {
    let mut gate = Gate::new();
    let there: Vec<&Path> = pieces.iter().copied().filter(|piece| std::fs::symlink_metadata(piece).is_ok()).collect();
    // The folder is looked through once, from any of them.
    let Some(file) = there.iter().find_map(|piece| gate.typed(piece).ok()) else { return Vec::new() };
    let own = output.file_name().unwrap_or_default();
    let named: Vec<_> = FORMATS.iter().filter_map(|format| Some((format.named_beside?)(&file, own))).collect();
    let owner = |piece: &Path| {
        let name = piece.file_name()?.to_str()?.to_ascii_lowercase();
        named.iter().find_map(|named| named.get(&name).cloned())
    };
    there.into_iter().filter_map(|piece| Some((piece, owner(piece)?))).collect()
}

/// The title of the format that a device would be taken for by its last sector, behind an output of `len` bytes that does not reach it.
pub fn claimed_by_its_end(device: &Path, len: Option<u64>) -> Option<&'static str> {
    let file = Gate::new().typed(device).ok()?;
    let there = len != Some(file.len()) && vhd::ends_in_footer(&file);
    there.then_some(vhd::FORMAT.title)
}

/// The format of a file, by its content; a raw disk, which has none of its own, by its name when nothing else is recognised.
fn recognise(file: &InputFile) -> Result<&'static Format, Fault> {
    if let Some(format) = by_content(file)? {
        return Ok(format);
    }
    let (head, _) = head_of(file)?;
    let probe = Probe { file, head: &head };
    if let Some(fault) = FORMATS.iter().find_map(|format| format.stray?(&probe)) {
        return Err(fault);
    }
    let ending = file.name().extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    if file.is_block_device() || raw::INPUT_ENDINGS.contains(&ending.as_str()) {
        return Ok(RAW);
    }
    Err(Fault::new(Kind::NotThisFormat, file.name(), "no disk image that vdconv knows").advice(RAW_AFTER_ALL))
}

/// The first bytes of a file; what the medium does not give of them is zero, and told: tables stand there too, and a copy may be sound.
fn head_of(file: &InputFile) -> Result<(Vec<u8>, Vec<Unread>), Fault> {
    let mut head = vec![0; HEAD.min(in_memory(file.len()))];
    let unread = file.read_around(0, &mut head)?;
    Ok((head, unread))
}

/// The format of a file, by its content alone; `None`: nothing is recognised, as in a raw disk. What is something else is refused.
fn by_content(file: &InputFile) -> Result<Option<&'static Format>, Fault> {
    let (head, unread) = head_of(file)?;
    let probe = Probe { file, head: &head };
    if probe.head.is_empty() {
        return Err(Fault::new(Kind::NotThisFormat, file.name(), "the file is empty"));
    }
    // A format that cannot be sure leaves the word to those that are.
    let mut unsure = None;
    for format in FORMATS {
        match (format.recognise)(&probe) {
            Ok(true) => return Ok(Some(format)),
            Ok(false) => {}
            Err(fault) if fault.is_of_medium() => unsure = unsure.or(Some(fault.advice(RAW_AFTER_ALL))),
            Err(fault) => unsure = unsure.or(Some(fault)),
        }
    }
    // What cannot be read might have told what it is: no raw disk by default.
    if let Some(Unread { fault, .. }) = unread.into_iter().next() {
        return Err(fault.advice(RAW_AFTER_ALL));
    }
    match unsure.map_or_else(|| foreign::recognise(&probe), |fault| Ok(Some(fault)))? {
        Some(fault) => Err(fault),
        None => Ok(None),
    }
}
