//! `vdconv map`: where data, zeroes and holes lie.

use std::cell::{Cell, RefCell};
use std::io::{BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use console::Term;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use vdconv::engine::{Extents, Kept, MapExtent};
use vdconv::fault::Fault;
use vdconv::format::{self, Lacks, OpenOptions};
use vdconv::guest::{self, Guest};
use vdconv::image::Disk;
use vdconv::io::Gate;

use super::args::MapArgs;
use super::picture::{Ink, Mark, Picture};
use super::report::{self, Problem};
use super::{FAILED, no_stream, show, show_guest};

/// Columns where the terminal does not tell.
const COLUMNS: usize = 80;
/// Missing files that people are told of one by one.
const MOST_MISSING: usize = 20;

/// The map of one image. One with lost parts is shown all the same, and is a failure.
pub fn run(args: &MapArgs) -> anyhow::Result<ExitCode> {
    no_stream(&args.image, "reading from standard input")?;
    let options = OpenOptions { lacks: Lacks::Files, ..args.read.source.options() };
    let disk = format::open(&mut Gate::new(), &args.image, &options)?;
    let walk = Walk::new(&disk);
    let picture = args.picture || (!args.table && std::io::stdout().is_terminal());
    if args.read.say.json {
        report::print(Report { walk: &walk, disk: &disk, quiet: args.read.say.quiet }).map_err(show::stdout)?;
    } else {
        match picture {
            true => draw(args, &disk, &walk)?,
            false => table(&disk, &walk).map_err(show::stdout)?,
        }
        if !args.read.say.quiet {
            show::warnings(&warnings(&disk));
        }
    }
    // The first that was lost; what is not there may be lost for that reason.
    let missing = &disk.facts.missing;
    missing.iter().take(MOST_MISSING).for_each(show::error);
    let fault = walk.failure();
    if let Some(fault) = fault.iter().find(|fault| !missing.iter().any(|told| told.to_string() == fault.to_string())) {
        show::error(fault);
    }
    Ok(if fault.is_some() || !missing.is_empty() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn warnings(disk: &Disk) -> Vec<Fault> {
    let mut warnings = disk.ledger.drain();
    warnings.extend(disk.ledger.surplus());
    warnings
}

/// One walk over a disk's map, which remembers the first fault.
struct Walk {
    extents: RefCell<Extents>,
    first_lost: RefCell<Option<Fault>>,
    broken: Cell<bool>,
}

impl Walk {
    fn new(disk: &Disk) -> Walk {
        Walk { extents: RefCell::new(Extents::new(disk)), first_lost: RefCell::new(None), broken: Cell::new(false) }
    }

    /// The stretches that are left; behind an error there are none.
    fn stretches(&self) -> impl Iterator<Item = MapExtent> {
        std::iter::from_fn(|| match self.extents.borrow_mut().next()? {
            Ok(extent) => {
                if let Kept::Lost(fault) = &extent.kept {
                    self.first_lost.borrow_mut().get_or_insert_with(|| fault.clone());
                }
                Some(extent)
            }
            // What ends the walk is told before what was merely lost.
            Err(fault) => {
                self.broken.set(true);
                *self.first_lost.borrow_mut() = Some(fault);
                None
            }
        })
    }

    fn failure(&self) -> Option<Fault> {
        self.first_lost.borrow().clone()
    }
}

/// The word for how a stretch is kept.
fn kind(kept: &Kept) -> &'static str {
    match kept {
        Kept::Data(..) => "data",
        Kept::Packed(..) => "packed",
        Kept::Zero => "zero",
        Kept::Hole(_) => "hole",
        Kept::Lost(_) => "lost",
    }
}

fn file_name(disk: &Disk, kept: &Kept) -> Option<String> {
    let (file, _) = kept.place()?;
    disk.file(file).map(|file| file.name().to_string_lossy().into_owned())
}

/// A line for each stretch, as they come.
fn table(disk: &Disk, walk: &Walk) -> std::io::Result<()> {
    let largest = disk.files().iter().map(|file| file.len()).fold(disk.facts.virtual_size, u64::max);
    let width = largest.to_string().len().max("length".len());
    let mut out = BufWriter::new(std::io::stdout().lock());
    writeln!(
        out,
        "{:>width$}  {:>width$}  {:<6}  {:>5}  {:>width$}  file",
        "start", "length", "kind", "depth", "offset"
    )?;
    for extent in walk.stretches() {
        let MapExtent { guest, depth, kept } = &extent;
        let offset = kept.place().map(|(_, at)| at.to_string()).unwrap_or_default();
        let text = match kept {
            Kept::Lost(fault) => fault.to_string(),
            kept => file_name(disk, kept).unwrap_or_default(),
        };
        let (start, len) = (guest.start, guest.end - guest.start);
        let line = format!("{start:>width$}  {len:>width$}  {:<6}  {depth:>5}  {offset:>width$}  {text}", kind(kept));
        writeln!(out, "{}", show::escape(line.trim_end()))?;
    }
    out.flush()
}

fn draw(args: &MapArgs, disk: &Disk, walk: &Walk) -> Result<(), Fault> {
    let width = Term::stdout().size_checked().map_or(COLUMNS, |(_, columns)| usize::from(columns));
    let marks = marks(&guest::look(disk));
    let mut picture = Picture::new(disk.facts.virtual_size, width);
    for extent in walk.stretches() {
        let ink = match extent.kept {
            Kept::Data(..) | Kept::Packed(..) => Ink::Data,
            Kept::Zero => Ink::Zero,
            Kept::Hole(_) => Ink::Hole,
            Kept::Lost(_) => Ink::Lost,
        };
        picture.add(&extent.guest, ink);
    }
    // Half of a picture shows a disk that is not there.
    if walk.broken.get()
        && let Some(fault) = walk.failure()
    {
        return Err(fault);
    }
    let facts = &disk.facts;
    let kind = format!("{} {}", facts.title, facts.subformat);
    let name = args.image.to_string_lossy();
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let text = picture.draw(&marks, colour);
    let mut out = std::io::stdout().lock();
    let head = format!("{}: {}, {}\n", show::escape(&name), kind.trim_end(), show::size(facts.virtual_size));
    out.write_all((head + &text).as_bytes()).and_then(|()| out.flush()).map_err(show::stdout)
}

/// The partitions that hold something of their own, in the disk's order.
fn marks(guest: &Guest) -> Vec<Mark> {
    let own = guest.partitions.iter().filter(|partition| !partition.is_frame());
    let mut marks: Vec<Mark> = own
        .map(|partition| Mark {
            number: partition.number,
            bytes: partition.start..partition.end(),
            text: format!("{}, {}", show_guest::what(partition), show::size(partition.len)),
        })
        .collect();
    marks.sort_by_key(|mark| mark.bytes.start);
    marks
}

/// `{"map": [...], "warnings": [...], "error": ...}`: the map first, written as it is walked.
struct Report<'a> {
    walk: &'a Walk,
    disk: &'a Disk,
    quiet: bool,
}

impl Serialize for Report<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let mut object = out.serialize_struct("map", 3)?;
        object.serialize_field("map", &Entries(self))?;
        // Known when the map was walked to its end.
        let warnings = warnings(self.disk);
        if !self.quiet {
            show::warnings(&warnings);
        }
        object.serialize_field("warnings", &warnings.iter().map(Problem::from).collect::<Vec<_>>())?;
        let missing = self.disk.facts.missing.first().cloned();
        object.serialize_field("error", &self.walk.failure().or(missing).as_ref().map(Problem::from))?;
        object.end()
    }
}

/// The stretches, one by one: there may be millions.
struct Entries<'a>(&'a Report<'a>);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(self.0.walk.stretches().map(|extent| Entry::of(self.0.disk, &extent)))
    }
}

/// A stretch with the keys of `qemu-img map`, which leaves out those that do not apply; its kind, and why it is lost.
#[derive(Serialize)]
struct Entry {
    start: u64,
    length: u64,
    depth: usize,
    present: bool,
    zero: bool,
    data: bool,
    compressed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl Entry {
    fn of(disk: &Disk, extent: &MapExtent) -> Entry {
        let MapExtent { guest, depth, kept } = extent;
        Entry {
            start: guest.start,
            length: guest.end - guest.start,
            depth: *depth,
            present: !matches!(kept, Kept::Hole(None)),
            zero: matches!(kept, Kept::Zero | Kept::Hole(_)),
            data: matches!(kept, Kept::Data(..) | Kept::Packed(..)),
            compressed: matches!(kept, Kept::Packed(..)),
            offset: kept.place().map(|(_, at)| at),
            filename: file_name(disk, kept),
            kind: kind(kept),
            message: match kept {
                Kept::Lost(fault) => Some(fault.to_string()),
                _ => None,
            },
        }
    }
}
