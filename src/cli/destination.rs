//! Where an output goes: files that get their names when they are complete, or a pipe.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vdconv::fault::Fault;
use vdconv::format::Takes;
use vdconv::image::Plan;
use vdconv::io::sys::{self, FileKind};
use vdconv::io::{InputFile, OutputFile, OutputOptions, Outputs, Pipe, Target};

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
        let in_place = || {
            let meta = std::fs::metadata(&args.output).ok()?;
            Some(sys::kind(&meta)).filter(|kind| matches!(kind, FileKind::Fifo | FileKind::CharacterDevice))
        };
        let what = match (standard, if standard { None } else { in_place() }) {
            (true, _) => "standard output",
            (false, Some(kind)) => kind.words(),
            (false, None) => return Ok(Destination::Files(Target::resolve(&args.output)?)),
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

    /// The folder that files go into; that of a pipe is the current one.
    pub fn folder(&self) -> &Path {
        match self {
            Destination::Files(target) => target.folder(),
            Destination::Pipe(_) => Path::new("."),
        }
    }

    /// The name that stands in the output: its own, or in a pipe that of the input with another ending.
    pub fn file_name(&self, input: &Path, ending: &str) -> OsString {
        match self {
            Destination::Files(target) => target.file(None).file_name().unwrap_or_default().to_os_string(),
            Destination::Pipe(_) => {
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
            Destination::Pipe(_) => Vec::new(),
        }
    }

    /// Refuses standard output where it leads into a file that is read (R16); files are looked at when they are made.
    pub fn check(&self, inputs: &[Arc<InputFile>]) -> Result<(), Fault> {
        let (Destination::Pipe(name), Some(path)) = (self, sys::STDOUT) else { return Ok(()) };
        if name.as_os_str() != STANDARD {
            return Ok(());
        }
        for input in inputs {
            if input.is_at(Path::new(path)).unwrap_or(false) {
                return Err(usage("standard output is the input, or a file of it").found(input.name().display()));
            }
        }
        Ok(())
    }

    /// Opens it, after signals are watched.
    pub fn create(&self, wanted: &[OutputFile], how: OutputOptions, interrupt: &Interrupt) -> Result<Outputs, Fault> {
        match self {
            Destination::Files(target) => Outputs::create(target.folder(), wanted, how),
            Destination::Pipe(name) if name.as_os_str() == STANDARD => {
                Ok(Outputs::into_pipe(Pipe::stdout(Path::new(super::STDOUT), interrupt.shared())?))
            }
            Destination::Pipe(name) => Ok(Outputs::into_pipe(Pipe::open(name, interrupt.shared())?)),
        }
    }

    /// The outputs by name, for reports.
    pub fn names(&self, wanted: &[OutputFile]) -> Vec<String> {
        match self {
            Destination::Files(_) => wanted.iter().map(|w| w.path.to_string_lossy().into_owned()).collect(),
            Destination::Pipe(name) => vec![name.to_string_lossy().into_owned()],
        }
    }
}
