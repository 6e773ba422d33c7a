//! `--dry-run`: what would be written, and how large at most.

use std::path::PathBuf;

use serde::Serialize;
use vdconv::engine::{self, Control, Measured};
use vdconv::fault::Fault;
use vdconv::image::{Disk, Losses, Writer};

use super::args::ConvertArgs;
use super::interrupt::Interrupt;
use super::output_kind::OutputKind;
use super::report::{self, LostRanges, Problem};
use super::source::Source;
use super::{STDOUT, show};

/// What a dry run tells.
pub struct DryRun<'a> {
    pub args: &'a ConvertArgs,
    pub kind: OutputKind,
    /// The outputs by name.
    pub names: Vec<String>,
    /// Bytes free where they go.
    pub free: Option<u64>,
    /// Pieces of the old output that would be removed.
    pub surplus: Vec<PathBuf>,
    pub warnings: &'a [Fault],
    pub losses: &'a Losses,
}

/// What would be written at most; none where the data alone tells.
pub fn measure(
    args: &ConvertArgs,
    source: Source,
    base: Option<&Disk>,
    writer: &dyn Writer,
    losses: &Losses,
    interrupt: &Interrupt,
) -> Result<Option<Measured>, Fault> {
    let salvage = args.salvage.then_some(losses);
    let control = Control { jobs: 1, stop: interrupt.flag(), progress: &|_| (), salvage, digest: false };
    if writer.has_open_end() {
        return Ok(None);
    }
    match source {
        // What comes through a pipe is not taken out of it.
        Source::Stream(_) => engine::measure_unseen(writer, control),
        disk => {
            let (_disk, mut feed) = disk.into_feed(base, writer.plan().test_unit);
            engine::measure(feed.as_mut(), writer, control)
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    dry_run: bool,
    files: Vec<File<'a>>,
    format: &'static str,
    subformat: Option<&'static str>,
    written_at_most: Option<u64>,
    free: Option<u64>,
    removed: Vec<String>,
    lost_bytes: u64,
    lost: LostRanges<'a>,
    warnings: Vec<Problem>,
}

#[derive(Serialize)]
struct File<'a> {
    file: &'a str,
    size_at_most: Option<u64>,
}

impl DryRun<'_> {
    /// Tells it: for people on stderr, as every conversion is told, since standard output may be the disk.
    pub fn tell(&self, measured: Option<&Measured>) -> Result<(), Fault> {
        let lens = |n: usize| measured.and_then(|measured| measured.lens.get(n).copied());
        if !self.args.quiet {
            self.lines(measured, lens).iter().for_each(|line| show::note(line));
        }
        match self.args.json {
            true => self.report(measured, lens).map_err(|error| Fault::io(STDOUT, "cannot write the report", error)),
            false => Ok(()),
        }
    }

    fn report(&self, measured: Option<&Measured>, lens: impl Fn(usize) -> Option<u64>) -> std::io::Result<()> {
        let name = self.kind.subformat.name;
        let files = self.names.iter().enumerate();
        report::print(Report {
            dry_run: true,
            files: files.map(|(n, file)| File { file, size_at_most: lens(n) }).collect(),
            format: self.kind.format.name,
            subformat: (!name.is_empty()).then_some(name),
            written_at_most: measured.map(|measured| measured.written),
            free: self.free,
            removed: self.surplus.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
            lost_bytes: self.losses.bytes(),
            lost: LostRanges(self.losses),
            warnings: self.warnings.iter().map(Problem::from).collect(),
        })
    }

    fn lines(&self, measured: Option<&Measured>, lens: impl Fn(usize) -> Option<u64>) -> Vec<String> {
        let mut lines = vec![format!("vdconv: dry run: nothing is written; a {} would be:", self.kind.words())];
        lines.extend(self.names.iter().enumerate().map(|(n, name)| match lens(n) {
            Some(len) => format!("  {name}: at most {len} bytes ({})", show::size(len)),
            None => format!("  {name}: as large as the data makes it"),
        }));
        if let Some(measured) = measured {
            let free = self.free.map_or(String::new(), |free| format!("; {} free", show::size(free)));
            lines.push(format!("  at most {} to be written{free}", show::size(measured.written)));
        }
        lines.extend(
            self.surplus
                .iter()
                .map(|path| format!("  {}: would be removed, a piece of the old output", path.display())),
        );
        lines
    }
}
