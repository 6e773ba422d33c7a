//! Options and arguments: one definition for parsing, help and usage errors.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use uuid::Uuid;
use vdconv::engine::{Algorithm, workers};
use vdconv::format::{Format, OpenOptions};
use vdconv::image::Adapter;

use super::values::{bytes, content_id, input_format, output_format, size, unique_id};
use super::{FAILED, USAGE};

/// Workers by default, where there are that many cores.
const MOST_JOBS: usize = 8;

/// Converts virtual disks: VHD, VMDK and raw
///
/// The content of INPUT decides what it is; the ending of OUTPUT decides what is written (.vmdk .vhd .raw .img .iso). OUTPUT gets its name
/// when it is complete: after an error or Ctrl-C nothing is left.
#[derive(Parser)]
#[command(
    name = "vdconv",
    version,
    override_usage = "vdconv [OPTIONS] INPUT OUTPUT\n       vdconv info [OPTIONS] IMAGE...\n       vdconv check [OPTIONS] IMAGE\n       vdconv map [OPTIONS] IMAGE\n       vdconv compare [OPTIONS] A B\n       vdconv hash [OPTIONS] IMAGE"
)]
#[command(after_help = AFTER_HELP)]
struct Plain {
    #[command(flatten)]
    convert: ConvertArgs,
}

const AFTER_HELP: &str = "\
Commands (the first word; their options stand behind them):
  vdconv info [OPTIONS] IMAGE...          tell what an image is and what lies inside: sizes, creator, partitions, boot
  vdconv check [OPTIONS] IMAGE            look at every structure of an image, and say what is wrong
  vdconv map [OPTIONS] IMAGE              show where data, zeroes and holes lie
  vdconv compare [OPTIONS] A B            is the guest's content the same, whatever the formats
  vdconv hash [OPTIONS] IMAGE             a digest of the guest's content, as of the raw disk
  vdconv convert [OPTIONS] INPUT OUTPUT   the same as without the word, for an INPUT that is called like a command

Exit status: 0 done, 1 failed, 2 usage error, 3 done with losses (--salvage), 128+N ended by signal N.
Of check: 0 sound (warnings and notes, or none), 1 not sound, 2 usage error, or it could not be checked.
Of compare: 0 the same, 1 different, 2 usage error, or an image that could not be read.";

/// The words that name commands.
const COMMANDS: [&str; 6] = ["convert", "info", "check", "map", "compare", "hash"];

/// Converts virtual disks: VHD, VMDK and raw
#[derive(Parser)]
#[command(name = "vdconv", version)]
struct Named {
    #[command(subcommand)]
    command: Command,
}

/// What is to be done.
#[derive(Subcommand)]
pub enum Command {
    /// Convert INPUT into OUTPUT (the same as without the word, for an INPUT that is called like a command)
    Convert(ConvertArgs),
    /// Tell what an image is and what lies inside: sizes, creator, partitions, boot
    Info(InfoArgs),
    /// Look at every structure of an image, and say what is wrong
    Check(CheckArgs),
    /// Is the guest content of two images the same?
    Compare(CompareArgs),
    /// Print a digest of the guest's content, as of the raw disk
    Hash(HashArgs),
    /// Show where data, zeroes and holes lie
    Map(MapArgs),
}

impl Command {
    /// Parses the command line: the first word names a command, or there is none and two names are converted.
    pub fn parse() -> Result<Command, clap::Error> {
        let words: Vec<OsString> = std::env::args_os().collect();
        let word = |n: usize| words.get(n).and_then(|word| word.to_str());
        match word(1) {
            Some("help") if words.len() == 2 => {
                Plain::try_parse_from(["vdconv", "--help"]).map(|p| Command::Convert(p.convert))
            }
            Some(word) if word == "help" || COMMANDS.contains(&word) => {
                Named::try_parse_from(words).map(|named| named.command)
            }
            _ => {
                // Behind an option a command is a name; who means the command is told. Behind `--` a name is meant.
                let first_name = words.iter().skip(1).find(|word| !word.as_encoded_bytes().starts_with(b"-"));
                let dashes = words.iter().skip(1).any(|word| word == "--");
                match first_name.and_then(|word| word.to_str()).filter(|word| !dashes && COMMANDS.contains(word)) {
                    Some(word) => {
                        let message =
                            format!("the options of {word} stand behind it (a file called {word} is ./{word})\n");
                        Err(clap::Error::raw(clap::error::ErrorKind::InvalidSubcommand, message))
                    }
                    None => Plain::try_parse_from(words).map(|p| Command::Convert(p.convert)),
                }
            }
        }
    }

    /// Was a report in JSON asked for?
    pub fn json(&self) -> bool {
        match self {
            Command::Convert(convert) => convert.json,
            Command::Info(info) => info.read.say.json,
            Command::Check(check) => check.read.say.json,
            Command::Map(map) => map.read.say.json,
            Command::Compare(compare) => compare.say.json,
            Command::Hash(hash) => hash.read.say.json,
        }
    }

    /// The exit status of a failure.
    pub fn failure(&self) -> u8 {
        match self {
            // 1 says that the disks differ, as of cmp and diff, or that an image is not sound.
            Command::Compare(_) | Command::Check(_) => USAGE,
            Command::Convert(_) | Command::Info(_) | Command::Map(_) | Command::Hash(_) => FAILED,
        }
    }
}

#[derive(clap::Args)]
pub struct ConvertArgs {
    /// The image to convert; - is standard input (streamOptimized VMDK, raw disk, fixed VHD)
    pub input: PathBuf,
    /// The image to make; - is standard output (streamOptimized VMDK, raw disk, fixed VHD)
    pub output: PathBuf,
    /// What OUTPUT becomes (vmdk, vhd, raw), whatever its name
    #[arg(short = 'O', long, value_name = "F", value_parser = output_format)]
    pub output_format: Option<&'static Format>,
    /// VMDK: monolithicSparse (default; short: sparse), monolithicFlat (flat), twoGbMaxExtentSparse, twoGbMaxExtentFlat, streamOptimized (stream), vmfs, vmfsThin; VHD: dynamic (default), fixed, differencing
    #[arg(short = 's', long, value_name = "S")]
    pub subformat: Option<String>,
    /// The controller that a VMDK records: ide, buslogic, lsilogic, lsisas1068, pvscsi, legacyESX [default: what the source recorded; ide from a VHD, else lsilogic]
    #[arg(long, value_name = "A")]
    pub adapter: Option<Adapter>,
    /// The image's unique id [default: random, or derived from SOURCE_DATE_EPOCH]
    #[arg(long, value_name = "U", value_parser = unique_id)]
    pub uuid: Option<Uuid>,
    /// A VMDK's content id, 8 hex digits [default: random, or derived from SOURCE_DATE_EPOCH]
    #[arg(long, value_name = "C", value_parser = content_id)]
    pub cid: Option<u32>,
    /// Write OUTPUT as a delta on top of this image (a differencing VHD, or a VMDK snapshot): only what differs is stored
    #[arg(long, value_name = "PATH")]
    pub base: Option<PathBuf>,
    /// How long a raw disk is that comes through standard input (-)
    #[arg(long, value_name = "N", value_parser = bytes)]
    pub input_size: Option<u64>,
    /// Grow the disk to this size (bytes, or with K, M, G, T); what is added is zero
    #[arg(long, value_name = "N", value_parser = size)]
    pub size: Option<u64>,
    /// Round the disk's size up to a multiple of this (Azure wants 1M)
    #[arg(long, value_name = "N", value_parser = size)]
    pub align: Option<u64>,
    /// The unit of allocation: of a VHD 512K, 1M or 2M (default), of a sparse VMDK 8K to 64K (default)
    #[arg(long, value_name = "N", value_parser = size)]
    pub block_size: Option<u64>,
    /// How hard a streamOptimized VMDK is compressed, 1 to 12 [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=12))]
    pub level: Option<i32>,
    /// Compress fast: --level 1, and 2 for every third grain; about 6 % larger than the default
    #[arg(long, conflicts_with = "level")]
    pub fast: bool,
    /// The virtual hardware version that a VMDK records [default: 4, which every product takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=99))]
    pub hw_version: Option<u32>,
    /// Write all of a fixed VHD, flat VMDK or raw disk, holes too (Hyper-V refuses a sparse file)
    #[arg(long)]
    pub preallocate: bool,
    /// Leave out the gap that puts the data of a VHD's blocks on 4 KiB (DiscUtils' checker wants none)
    #[arg(long)]
    pub contiguous: bool,
    /// Replace an existing OUTPUT; it stays untouched until the new one is complete
    #[arg(long)]
    pub force: bool,
    /// Go on over what is damaged or cannot be read: zeroes in its place, each lost range listed, exit status 3
    #[arg(long)]
    pub salvage: bool,
    /// Open, plan and check, print what would be written and how large at most; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Tell the digest of the guest's content, taken on the way: sha256, as `vdconv hash` and sha256sum of the raw disk tell it
    #[arg(long, value_name = "A", value_enum, ignore_case = true, conflicts_with = "dry_run")]
    pub digest: Option<WayDigest>,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub run: RunArgs,
    /// Do not wait for stable storage
    #[arg(long)]
    pub no_sync: bool,
    /// Print the report as one JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// Print errors only
    #[arg(short, long)]
    pub quiet: bool,
}

/// How guest data is moved: what all commands that read all of it share.
#[derive(clap::Args)]
pub struct RunArgs {
    /// Worker threads; what comes out does not depend on it [default: the cores, at most 8; more than 24 are never started, nor more than there is memory for]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: Option<u16>,
    /// Show how far it is, on stderr: auto shows a bar when that is a terminal; json prints one object a line
    #[arg(long, value_name = "P", value_enum, ignore_case = true, default_value_t = Progress::Auto)]
    pub progress: Progress,
    /// Print decisions taken, timings and counters
    #[arg(short, long, conflicts_with = "quiet")]
    pub verbose: bool,
}

impl RunArgs {
    /// Worker threads that are started.
    pub fn jobs(&self) -> usize {
        workers(self.wanted())
    }

    /// Worker threads that were asked for.
    fn wanted(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, |n| n.get()).min(MOST_JOBS);
        self.jobs.map_or_else(cores, usize::from)
    }

    /// For `-v`: where fewer workers are started than were asked for.
    pub fn fewer(&self) -> Option<String> {
        let (jobs, wanted) = (self.jobs(), self.wanted());
        (jobs < wanted)
            .then(|| format!("vdconv: {jobs} workers, not {wanted}: more do not fit into the memory of a run"))
    }
}

/// How one image is opened.
#[derive(clap::Args)]
pub struct SourceArgs {
    /// The parent of a snapshot, where the recorded name does not lead to it; again for that one's parent
    #[arg(long, value_name = "PATH")]
    parent: Vec<PathBuf>,
    #[command(flatten)]
    open: OpenArgs,
}

impl SourceArgs {
    /// As the formats take it.
    pub fn options(&self) -> OpenOptions {
        self.open.options(&self.parent)
    }
}

/// How images are opened: what all commands share.
#[derive(clap::Args)]
pub struct OpenArgs {
    /// What the image is (vhd, vmdk, iso, raw), whatever its content looks like
    #[arg(short = 'f', long, value_name = "F", value_parser = input_format)]
    input_format: Option<&'static Format>,
    /// Follow names in images that lead outside the image's folder
    #[arg(long)]
    allow_outside: bool,
    /// Take every stored byte of a VHD's blocks as valid, whatever its sector bitmaps say
    #[arg(long)]
    ignore_bitmaps: bool,
    /// Read a VMDK that a running machine has locked
    #[arg(long)]
    ignore_lock: bool,
    /// Take a parent whose content id or uuid is not what the snapshot recorded
    #[arg(long)]
    ignore_cid: bool,
    /// Read a seSparse snapshot whose journal was not replayed
    #[arg(long)]
    ignore_log: bool,
}

impl OpenArgs {
    /// As the formats take it, with these parents.
    pub fn options(&self, parents: &[PathBuf]) -> OpenOptions {
        OpenOptions {
            format: self.input_format,
            ignore_bitmaps: self.ignore_bitmaps,
            ignore_lock: self.ignore_lock,
            ignore_cid: self.ignore_cid,
            ignore_log: self.ignore_log,
            parents: parents.to_vec(),
            allow_outside: self.allow_outside,
            ..OpenOptions::default()
        }
    }
}

#[derive(clap::Args)]
pub struct InfoArgs {
    /// The images to look at
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    #[command(flatten)]
    pub read: ReadArgs,
}

#[derive(clap::Args)]
pub struct CompareArgs {
    /// An image
    pub a: PathBuf,
    /// Another image, of any format
    pub b: PathBuf,
    /// A longer disk is different, even if all that it has more is zero
    #[arg(long)]
    pub strict: bool,
    /// What B is, where -f is not for both
    #[arg(short = 'F', long, value_name = "F", value_parser = input_format)]
    second_format: Option<&'static Format>,
    /// The parent of A, where the recorded name does not lead to it; again for that one's parent
    #[arg(long, value_name = "PATH")]
    parent_a: Vec<PathBuf>,
    /// The same of B
    #[arg(long, value_name = "PATH")]
    parent_b: Vec<PathBuf>,
    #[command(flatten)]
    open: OpenArgs,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub say: SayArgs,
}

impl CompareArgs {
    /// How A and B are opened.
    pub fn options(&self) -> [OpenOptions; 2] {
        let (a, b) = (self.open.options(&self.parent_a), self.open.options(&self.parent_b));
        let format = self.second_format.or(b.format);
        [a, OpenOptions { format, ..b }]
    }
}

#[derive(clap::Args)]
pub struct HashArgs {
    /// The image to hash
    pub image: PathBuf,
    /// Which digest: sha256 is that of sha256sum, blake3 that of b3sum and made on all cores
    #[arg(long, value_name = "A", value_enum, ignore_case = true, default_value_t = HashAlgorithm::Sha256)]
    pub algorithm: HashAlgorithm,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub read: ReadArgs,
}

#[derive(clap::Args)]
#[command(after_help = CHECK_HELP)]
pub struct CheckArgs {
    /// The image to check
    pub image: PathBuf,
    #[command(flatten)]
    pub read: ReadArgs,
}

const CHECK_HELP: &str = "\
Prints a line a finding, ID error|warning|note FILE: at byte N: what is wrong (found x, expected y), and how many there are. -q prints the errors alone.

Exit status: 0 sound (warnings and notes, or none), 1 not sound, 2 usage error, or it could not be checked (not an image, unreadable).";

#[derive(clap::Args)]
#[command(after_help = "\
In the picture a cell is # where all of it is data, + half or more, - less, 0 zeroes that the image records, . a hole, ! lost.
Kinds of the table: data, packed (compressed data), zero, hole (no image has it, or a hole of its file), lost.

Exit status: 0 done, 1 failed or parts of the disk are lost, 2 usage error.")]
pub struct MapArgs {
    /// The image to look at
    pub image: PathBuf,
    /// Print a line for each stretch [default, unless stdout is a terminal]
    #[arg(long, conflicts_with_all = ["picture", "json"])]
    pub table: bool,
    /// Draw a picture [default where stdout is a terminal]
    #[arg(long, conflicts_with = "json")]
    pub picture: bool,
    #[command(flatten)]
    pub read: ReadArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HashAlgorithm {
    Sha256,
    Blake3,
}

impl From<HashAlgorithm> for Algorithm {
    fn from(word: HashAlgorithm) -> Algorithm {
        match word {
            HashAlgorithm::Sha256 => Algorithm::Sha256,
            HashAlgorithm::Blake3 => Algorithm::Blake3,
        }
    }
}

/// What a conversion takes on its way.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WayDigest {
    Sha256,
}

/// What commands that only read one image share.
#[derive(clap::Args)]
pub struct ReadArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub say: SayArgs,
}

/// What commands that only read say.
#[derive(clap::Args)]
pub struct SayArgs {
    /// Print one JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// Print errors only
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    Auto,
    Bar,
    Json,
    None,
}
