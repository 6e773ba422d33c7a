//! Where an output goes: files that get their names when they are complete, a pipe, or a device.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vdconv::fault::{Fault, Kind};
use vdconv::format::{self, Takes};
use vdconv::image::Plan;
use vdconv::io::sys::{self, FileKind};
use vdconv::io::{Device, Found, InputFile, Lease, OutputFile, OutputOptions, Outputs, Pending, Pipe, Target};

use super::args::ConvertArgs;
use super::interrupt::Interrupt;
use super::output_kind::OutputKind;
use super::usage;

/// The name of standard output on the command line.
pub const STANDARD: &str = "-";

/// Where an output goes.
pub enum Destination {
    /// Files in a folder.
    Files(Target),
    /// Standard output (`-`), or a FIFO or character device that is there already and stays (R27).
    Pipe(PathBuf),
    /// A block device, which is overwritten (R27).
    Device(PathBuf),
}

/// What an output is opened with.
pub struct Opening<'a> {
    pub plan: &'a Plan,
    pub wanted: &'a [OutputFile],
    pub lease: Option<Lease>,
    pub surplus: Vec<PathBuf>,
    pub inputs: &'a [Arc<InputFile>],
    pub how: OutputOptions,
    pub interrupt: &'a Interrupt,
}

/// The length of the one file that goes onto a device, where it is known.
fn first_len(plan: &Plan) -> Option<u64> {
    plan.files.first().and_then(|file| file.len)
}

/// Refuses a device whose last sector would stay, and make another disk of what was written in front of it.
fn refuse_an_end_that_stays(device: &Path, len: Option<u64>) -> Result<(), Fault> {
    match format::claimed_by_its_end(device, len) {
        None => Ok(()),
        Some(title) => {
            Err(Fault::new(Kind::Exists, device, "the device's last sector would stay, and be taken for the disk's")
                .found(format!("the footer of a {title}"))
                .advice("overwrite it first: blkdiscard, wipefs, or dd"))
        }
    }
}

impl Destination {
    /// By what OUTPUT is; refused where the kind cannot be written there.
    pub fn resolve(args: &ConvertArgs, kind: OutputKind) -> Result<Destination, Fault> {
        // A name of standard output is it: a file that it leads to is not exchanged for another.
        let descriptor = sys::descriptor_name(&args.output);
        let standard = args.output.as_os_str() == STANDARD || descriptor == Some(true);
        if descriptor == Some(false) {
            return Err(usage("an output that is an open descriptor of this program").expected("- for standard output"));
        }
        let there = if standard { None } else { std::fs::metadata(&args.output).ok() };
        let what = match there.map(|meta| sys::kind(&meta)) {
            _ if standard => "standard output",
            Some(kind @ (FileKind::Fifo | FileKind::CharacterDevice)) => kind.words(),
            Some(FileKind::BlockDevice) if args.force => return Ok(Destination::Device(args.output.clone())),
            Some(FileKind::BlockDevice) => {
                return Err(Fault::new(Kind::Exists, &args.output, "the output is a block device")
                    .advice("--force overwrites what it holds"));
            }
            _ => return Ok(Destination::Files(Target::resolve(&args.output)?)),
        };
        kind.must_take(Takes::Pipe, &format!("{what} cannot seek"))?;
        if standard && sys::stdout_is_terminal() {
            return Err(usage("a disk is not written to a terminal").expected("a pipe or a file: vdconv ... - | ..."));
        }
        if standard && args.json {
            return Err(usage("--json: standard output is the disk"));
        }
        Ok(Destination::Pipe(if standard { STANDARD.into() } else { args.output.clone() }))
    }

    /// True for a pipe.
    pub fn is_pipe(&self) -> bool {
        matches!(self, Destination::Pipe(_))
    }

    /// The folder that files go into, whose space they take up.
    pub fn files_folder(&self) -> Option<&Path> {
        match self {
            Destination::Files(target) => Some(target.folder()),
            Destination::Pipe(_) | Destination::Device(_) => None,
        }
    }

    /// The folder that names in the output begin at; for a pipe and a device the current one.
    pub fn folder(&self) -> &Path {
        self.files_folder().unwrap_or(Path::new("."))
    }

    /// The name that stands in the output: its own, or in a pipe that of the input with another ending.
    pub fn file_name(&self, input: &Path, ending: &str) -> OsString {
        match self {
            Destination::Files(target) => target.file(None).file_name().unwrap_or_default().to_os_string(),
            Destination::Pipe(_) | Destination::Device(_) => {
                let stem = input.file_stem().filter(|stem| *stem != STANDARD).unwrap_or("disk".as_ref());
                let mut name = stem.to_os_string();
                name.push(format!(".{ending}"));
                name
            }
        }
    }

    /// The files of a plan; none of a pipe.
    pub fn wanted(&self, plan: &Plan) -> Vec<OutputFile> {
        match self {
            Destination::Files(target) => {
                let files = plan.files.iter();
                files.map(|f| OutputFile { path: target.file(f.suffix.as_deref()), len: f.len }).collect()
            }
            Destination::Pipe(_) | Destination::Device(_) => Vec::new(),
        }
    }

    /// Refuses outputs that are an input (R16), and a set of files where one is written in place. A device is looked at when it is
    /// opened, for this program alone.
    pub fn refuse_what_cannot_be(&self, plan: &Plan, inputs: &[Arc<InputFile>]) -> Result<(), Fault> {
        match self {
            Destination::Files(_) => Outputs::refuse_inputs(self.wanted(plan).iter().map(|file| &file.path), inputs),
            Destination::Device(_) if plan.files.len() > 1 => {
                Err(usage("a block device holds one file, and this variant is several"))
            }
            Destination::Pipe(name) if name.as_os_str() == STANDARD => {
                let leads_to = |input: &&Arc<InputFile>| {
                    sys::STDOUT.is_some_and(|path| input.is_at(Path::new(path)).unwrap_or(false))
                };
                match inputs.iter().find(leads_to) {
                    Some(input) => {
                        Err(usage("standard output is the input, or a file of it").found(input.name().display()))
                    }
                    None => Ok(()),
                }
            }
            Destination::Pipe(_) | Destination::Device(_) => Ok(()),
        }
    }

    /// Pieces of the set that OUTPUT is now, which the new output does not have: removed when it is replaced. Pieces that another disk
    /// has too are not, and never replaced.
    pub fn surplus(&self, wanted: &[OutputFile], inputs: &[Arc<InputFile>]) -> Result<Vec<PathBuf>, Fault> {
        let Destination::Files(target) = self else { return Ok(Vec::new()) };
        let output = target.file(None);
        let mut pieces = format::pieces(&output);
        pieces.retain(|piece| wanted.iter().all(|file| file.path != *piece));
        let others = wanted.iter().map(|file| &file.path).filter(|path| **path != output);
        let all: Vec<&Path> = others.chain(&pieces).map(PathBuf::as_path).collect();
        let owned = format::owned_beside(&all, &output);
        if let Some((path, other)) = owned.iter().find(|(path, _)| wanted.iter().any(|file| file.path == *path)) {
            return Err(Fault::new(Kind::Exists, *path, "a piece of another disk has this name")
                .found(other.display())
                .advice("name another output, or remove that disk first"));
        }
        Outputs::refuse_inputs(pieces.iter(), inputs)?;
        let owned: Vec<PathBuf> = owned.into_iter().map(|(path, _)| path.to_path_buf()).collect();
        pieces.retain(|piece| !owned.contains(piece));
        Ok(pieces)
    }

    /// Opens it, after signals are watched.
    pub fn create(&self, opening: Opening<'_>) -> Result<Outputs, Fault> {
        let Opening { plan, wanted, lease, surplus, inputs, how, interrupt } = opening;
        match (self, lease) {
            (Destination::Files(_), Some(lease)) => Outputs::create(lease, wanted, surplus, how),
            (Destination::Files(_), None) => Err(Fault::bug("files without the right to write them")),
            (Destination::Pipe(name), _) if name.as_os_str() == STANDARD => {
                Ok(Outputs::into_pipe(Pipe::stdout(Path::new(super::STDOUT), interrupt.shared())?))
            }
            (Destination::Pipe(name), _) => Ok(Outputs::into_pipe(Pipe::open(name, interrupt.shared())?)),
            (Destination::Device(name), _) => {
                let len = first_len(plan);
                let device = Device::open(name, len, inputs, how.sync)?;
                refuse_an_end_that_stays(name, len)?;
                Ok(Outputs::onto_device(device))
            }
        }
    }

    /// Refuses what [`Destination::lease`] and [`Destination::create`] would refuse; for a dry run, which changes nothing.
    pub fn look(&self, plan: &Plan, inputs: &[Arc<InputFile>]) -> Result<Pending, Fault> {
        match self {
            Destination::Files(target) => {
                sys::may_write(target.folder()).map_err(|error| {
                    Fault::io(target.file(None), "cannot make a file in the output's folder", error)
                })?;
                Lease::look(target, inputs)
            }
            Destination::Device(name) => {
                let len = first_len(plan);
                Device::look(name, len, inputs)?;
                refuse_an_end_that_stays(name, len).map(|()| Pending::default())
            }
            Destination::Pipe(_) => Ok(Pending::default()),
        }
    }

    /// The right to write files; an error where another run is writing them.
    pub fn lease(&self, inputs: &[Arc<InputFile>]) -> Result<Option<(Lease, Found)>, Fault> {
        match self {
            Destination::Files(target) => Lease::take(target, inputs).map(Some),
            Destination::Pipe(_) | Destination::Device(_) => Ok(None),
        }
    }

    /// The outputs by name, for reports.
    pub fn names(&self, wanted: &[OutputFile]) -> Vec<String> {
        match self {
            Destination::Files(_) => wanted.iter().map(|w| w.path.to_string_lossy().into_owned()).collect(),
            Destination::Pipe(name) | Destination::Device(name) => vec![name.to_string_lossy().into_owned()],
        }
    }
}
