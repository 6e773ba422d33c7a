//! What is converted: an image in files, or what comes through a pipe.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vdconv::engine::MapFeed;
use vdconv::fault::{Fault, Kind};
use vdconv::format::{self, OpenOptions, StreamSource};
use vdconv::image::{Disk, Facts, Feed, IdentifierSource, Ledger};
use vdconv::io::{Gate, InputFile, InputPipe};

use super::args::ConvertArgs;
use super::destination::STANDARD;
use super::interrupt::Interrupt;
use super::output_kind::OutputKind;
use super::usage;

/// The name of standard input in messages.
const STDIN: &str = "standard input";

/// What is converted.
pub enum Source {
    /// An image in files.
    Disk(Box<Disk>),
    /// What comes through standard input.
    Stream(Box<StreamSource>),
}

/// How many bytes of a source were read.
pub enum BytesRead {
    /// By its files.
    Files(Vec<Arc<InputFile>>),
    /// By its pipe.
    Pipe(Arc<AtomicU64>),
}

impl BytesRead {
    /// Until now.
    pub fn get(&self) -> u64 {
        match self {
            BytesRead::Files(files) => files.iter().map(|file| file.bytes_read()).sum(),
            BytesRead::Pipe(received) => received.load(Ordering::Relaxed),
        }
    }
}

impl Source {
    /// Opens INPUT for an output of this kind, grown as `--size` and `--align` say.
    pub fn open(
        args: &ConvertArgs,
        kind: OutputKind,
        options: &OpenOptions,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Source> {
        let mut source = match args.input.as_os_str() == STANDARD {
            false if args.input_size.is_some() => {
                return Err(
                    usage("--input-size: how long a file is it says itself; it is for a raw disk from -").into()
                );
            }
            false => Source::Disk(Box::new(format::open(&mut Gate::new(), &args.input, options)?)),
            true => {
                if args.base.is_some() {
                    return Err(usage("--base: what comes through a pipe cannot be held against a base").into());
                }
                if !options.parents.is_empty() {
                    return Err(usage("--parent: what comes through a pipe has no parent").into());
                }
                // The first bytes are waited for.
                interrupt.watch()?;
                let pipe = InputPipe::stdin(Path::new(STDIN), interrupt.shared())?;
                Source::Stream(Box::new(format::open_stream(pipe, options, args.input_size)?))
            }
        };
        if let Source::Stream(stream) = &mut source
            && stream.open_end
        {
            if args.size.is_some() || args.align.is_some() {
                return Err(usage("--size and --align: how long the raw disk is must be known: --input-size").into());
            }
            stream.facts.virtual_size = kind.open_end()?;
            return Ok(source);
        }
        let is = source.facts().virtual_size;
        let size = grown(is, args)?;
        match &mut source {
            Source::Disk(disk) => disk.grow(size),
            Source::Stream(stream) => stream.facts.virtual_size = size,
        }
        Ok(source)
    }

    /// Is its size known at its end alone? Then that of its facts is the most that the output holds.
    pub fn has_open_end(&self) -> bool {
        matches!(self, Source::Stream(stream) if stream.open_end)
    }

    /// What is known of it.
    pub fn facts(&self) -> &Facts {
        match self {
            Source::Disk(disk) => &disk.facts,
            Source::Stream(stream) => &stream.facts,
        }
    }

    /// Its warnings.
    pub fn ledger(&self) -> Arc<Ledger> {
        match self {
            Source::Disk(disk) => Arc::clone(&disk.ledger),
            Source::Stream(stream) => Arc::clone(&stream.ledger),
        }
    }

    /// Its files; none of a stream.
    pub fn files(&self) -> &[Arc<InputFile>] {
        match self {
            Source::Disk(disk) => disk.files(),
            Source::Stream(_) => &[],
        }
    }

    /// Counts what is read of it, while it is and behind that.
    pub fn meter(&self) -> BytesRead {
        match self {
            Source::Disk(disk) => BytesRead::Files(disk.files().to_vec()),
            Source::Stream(stream) => BytesRead::Pipe(Arc::clone(&stream.received)),
        }
    }

    /// Bytes that a conversion may have to store at most, where anything is known of that.
    pub fn stored_at_most(&self) -> Option<u64> {
        match self {
            Source::Disk(disk) => Some(disk.stored_at_most()),
            Source::Stream(stream) => (!stream.open_end).then_some(stream.facts.virtual_size),
        }
    }

    /// What identifiers may be derived from.
    pub fn identifier_source(&self) -> Result<IdentifierSource, Fault> {
        match self {
            Source::Disk(disk) => disk.identifier_source(),
            Source::Stream(stream) => Ok(IdentifierSource {
                uuid: stream.facts.uuid,
                head: stream.head.clone(),
                size: stream.facts.virtual_size,
            }),
        }
    }

    /// The disk whose map is walked, and the feed.
    pub fn into_feed(self, base: Option<&Disk>, unit: u64) -> (Option<Box<Disk>>, Box<dyn Feed>) {
        match self {
            Source::Disk(disk) => {
                let feed = match base {
                    None => MapFeed::new(&disk, unit),
                    Some(base) => MapFeed::over(&disk, base, unit),
                };
                (Some(disk), Box::new(feed))
            }
            Source::Stream(stream) => (None, (stream.feed)(stream.facts.virtual_size, unit)),
        }
    }
}

/// `--size` and `--align`.
fn grown(is: u64, args: &ConvertArgs) -> Result<u64, Fault> {
    if let Some(size) = args.size.filter(|size| *size < is) {
        return Err(usage("--size: a disk is grown, never shrunk").found(size).expected(format!("at least {is}")));
    }
    let size = args.size.unwrap_or(is);
    let size = match args.align {
        None => Some(size),
        Some(align) => size.checked_next_multiple_of(align).filter(|size| i64::try_from(*size).is_ok()),
    };
    size.ok_or_else(|| Fault::new(Kind::Usage, "", "--align: larger than a disk can be"))
}
