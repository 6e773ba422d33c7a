//! `vdconv INPUT OUTPUT`

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use vdconv::engine::{self, Control, MapFeed, Tally};
use vdconv::fault::{Fault, Kind};
use vdconv::format::{self, FORMATS, Format, OpenOptions, Subformat, Wish};
use vdconv::image::{Disk, Identifiers, Order, Plan, Writer};
use vdconv::io::{Gate, OutputFile, OutputOptions, Outputs, Target, sys};

use super::args::ConvertArgs;
use super::interrupt::Interrupt;
use super::report::{self, Problem, Product, Source};
use super::{STDOUT, no_stream, progress, show};

/// Workers by default, where there are that many cores.
const MOST_JOBS: usize = 8;

/// Opens, plans, checks, converts, publishes, reports.
pub fn run(args: &ConvertArgs, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let kind = OutputKind::choose(args)?;
    let epoch = source_date_epoch()?;
    let target = Target::resolve(&args.output)?;
    let options = args.source.options();
    let disk = format::open(&mut Gate::new(), &args.input, &options)?;
    let identifiers = identifiers(args, &options, &disk, kind, epoch)?;
    let file_name = target.file(None).file_name().unwrap_or_default().to_os_string();
    let wish = Wish { output: args.output.clone(), file_name, adapter: args.adapter, identifiers };
    let writer = (kind.subformat.writer)(&disk.facts, &wish)?;
    let wanted = wanted(&target, writer.plan());
    Outputs::check(&wanted, disk.files(), args.force)?;

    let mut warnings = disk.ledger.drain();
    warnings.extend(scarce_space(&disk, &target));
    let warn = |warnings: &[Fault]| {
        if !args.quiet {
            show::warnings(warnings);
        }
    };
    warn(&warnings);
    let jobs = jobs(args);
    if args.verbose {
        show::note(&decisions(&disk, kind, writer.plan(), jobs));
    }

    // From here on there is something to clean up.
    interrupt.watch()?;
    let how = OutputOptions { force: args.force, sync: !args.no_sync, holes: writer.plan().holes };
    let outputs = Outputs::create(target.folder(), &wanted, how)?;
    let tally = move_data(args, &disk, writer.as_ref(), &outputs, jobs, interrupt)?;
    let moved = started.elapsed();
    let mut late = disk.ledger.drain();
    late.extend(disk.ledger.surplus());
    warn(&late);
    warnings.extend(late);
    let bytes_written = outputs.bytes_written();
    let (file_size, allocated_size) = outputs.sizes();
    let unsynced: Vec<Fault> = outputs.publish()?.into_iter().collect();
    warn(&unsynced);
    warnings.extend(unsynced);

    let done = Done {
        args,
        disk: &disk,
        kind,
        wish: &wish,
        wanted: &wanted,
        tally,
        jobs,
        file_size,
        allocated_size,
        bytes_read: disk.files().iter().map(|f| f.bytes_read()).sum(),
        bytes_written,
        moved,
        whole: started.elapsed(),
    };
    if args.json {
        report::print(done.report(&warnings))
            .map_err(|e| Fault::io(STDOUT, "cannot write the report; the output is complete", e))?;
    }
    if args.verbose {
        done.counters().iter().for_each(|line| show::note(line));
    }
    if !args.quiet {
        show::note(&done.closing_line());
    }
    Ok(ExitCode::SUCCESS)
}

fn usage(what: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(Kind::Usage, "", what)
}

/// What is to be written.
#[derive(Clone, Copy)]
struct OutputKind {
    format: &'static Format,
    subformat: &'static Subformat,
}

impl OutputKind {
    /// By `-O` and `-s`, or by OUTPUT's ending; options that would be without effect are refused.
    fn choose(args: &ConvertArgs) -> Result<OutputKind, Fault> {
        no_stream(&args.input, "reading from standard input")?;
        no_stream(&args.output, "writing to standard output")?;
        let format = args.output_format.or_else(|| format::by_output_ending(&args.output)).ok_or_else(|| {
            let endings: Vec<_> =
                FORMATS.iter().flat_map(|f| f.output_endings).map(|ending| format!(".{ending}")).collect();
            Fault::new(Kind::Usage, &args.output, "the output's ending tells no format that can be written")
                .expected(format!("one of {}, or -O", endings.join(" ")))
        })?;
        let default =
            format.subformats.first().ok_or_else(|| usage(format!("a {} cannot be written", format.title)))?;
        let named = !default.name.is_empty();
        let subformat = match &args.subformat {
            None => default,
            Some(_) if !named => return Err(usage(format!("-s: a {} has no variants", format.title))),
            Some(word) => format.subformat(word).ok_or_else(|| {
                let words: Vec<_> = format.subformats.iter().map(|s| s.name).collect();
                usage(format!("-s: no such variant of {}", format.title))
                    .found(word)
                    .expected(format!("one of {}", words.join(", ")))
            })?,
        };
        // A raw disk has no place for what these record.
        let recorded =
            [("--adapter", args.adapter.is_some()), ("--uuid", args.uuid.is_some()), ("--cid", args.cid.is_some())];
        if let Some((option, _)) = recorded.into_iter().find(|(_, given)| *given && !named) {
            return Err(usage(format!("{option}: a {} cannot record it", format.title)));
        }
        Ok(OutputKind { format, subformat })
    }

    fn words(self) -> String {
        format!("{} {}", self.format.title, self.subformat.name).trim_end().to_string()
    }
}

/// SOURCE_DATE_EPOCH in seconds since 1970, where it is set.
fn source_date_epoch() -> Result<Option<u32>, Fault> {
    let Some(text) = std::env::var_os("SOURCE_DATE_EPOCH") else { return Ok(None) };
    let digits = text.to_str().filter(|text| text.bytes().all(|digit| digit.is_ascii_digit()));
    match digits.and_then(|text| text.parse().ok()) {
        Some(epoch) => Ok(Some(epoch)),
        None => Err(usage("SOURCE_DATE_EPOCH is no number of seconds since 1970")
            .found(format!("{:?}", text.display().to_string()))
            .expected(format!("0 to {}", u32::MAX))),
    }
}

fn identifiers(
    args: &ConvertArgs,
    source: &OpenOptions,
    disk: &Disk,
    kind: OutputKind,
    epoch: Option<u32>,
) -> Result<Identifiers, Fault> {
    let mut identifiers = match epoch {
        None => Identifiers::random(),
        Some(epoch) => {
            let adapter = args.adapter.map(|a| a.word()).unwrap_or_default();
            let content = if source.ignore_bitmaps { " ignore-bitmaps" } else { "" };
            let options = format!("{} {} adapter={adapter}{content}", kind.format.name, kind.subformat.name);
            Identifiers::derived(epoch, &disk.identifier_source()?, &options)
        }
    };
    identifiers.uuid = args.uuid.unwrap_or(identifiers.uuid);
    identifiers.cid = args.cid.unwrap_or(identifiers.cid);
    Ok(identifiers)
}

fn wanted(target: &Target, plan: &Plan) -> Vec<OutputFile> {
    plan.files.iter().map(|f| OutputFile { path: target.file(f.suffix.as_deref()), len: f.len }).collect()
}

/// A warning where the output may need more than is free (R19). Where the system does not tell, nobody is warned.
fn scarce_space(disk: &Disk, target: &Target) -> Option<Fault> {
    let (free, may_need) = (sys::free_space(target.folder()).ok()?, disk.stored_at_most());
    (may_need > free).then(|| {
        Fault::new(Kind::NoSpace, target.folder(), "the output may not fit")
            .found(format!("{} free", show::size(free)))
            .against(format!("the source stores up to {}", show::size(may_need)))
    })
}

fn jobs(args: &ConvertArgs) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, |n| n.get()).min(MOST_JOBS);
    args.jobs.map_or_else(cores, usize::from)
}

fn move_data(
    args: &ConvertArgs,
    disk: &Disk,
    writer: &dyn Writer,
    outputs: &Outputs,
    jobs: usize,
    interrupt: &Interrupt,
) -> Result<Tally, Fault> {
    let bar = progress::bar(args.progress, args.quiet, disk.facts.virtual_size);
    let advance = |bytes| bar.inc(bytes);
    let control = Control { jobs, stop: interrupt.flag(), progress: &advance };
    let mut feed = MapFeed::new(disk, writer.plan().test_unit);
    let moved = engine::convert(disk, &mut feed, writer, outputs, control);
    bar.finish_and_clear();
    moved
}

fn decisions(disk: &Disk, kind: OutputKind, plan: &Plan, jobs: usize) -> String {
    let facts = &disk.facts;
    let source = format!("{} {}", facts.title, facts.subformat);
    let order = match plan.order {
        Order::Free => "placed freely",
        Order::Ordered => "placed in guest order",
        Order::Stream => "written in guest order",
    };
    format!(
        "vdconv: {}, {} bytes -> {}; {jobs} workers, units of {} bytes, {order}{}",
        source.trim_end(),
        facts.virtual_size,
        kind.words(),
        plan.test_unit,
        plan.decisions.iter().map(|decision| format!("; {decision}")).collect::<String>(),
    )
}

/// A conversion that is done, for its reports.
struct Done<'a> {
    args: &'a ConvertArgs,
    disk: &'a Disk,
    kind: OutputKind,
    wish: &'a Wish,
    wanted: &'a [OutputFile],
    tally: Tally,
    jobs: usize,
    file_size: u64,
    allocated_size: u64,
    bytes_read: u64,
    bytes_written: u64,
    /// Until the last byte was on its way.
    moved: Duration,
    whole: Duration,
}

impl Done<'_> {
    fn report(&self, warnings: &[Fault]) -> report::Conversion {
        let name = |name: &'static str| (!name.is_empty()).then_some(name);
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let subformat = name(self.kind.subformat.name);
        let ids = subformat.map(|_| &self.wish.identifiers);
        report::Conversion {
            input: Source {
                file: text(&self.args.input),
                format: self.disk.facts.format,
                subformat: name(self.disk.facts.subformat),
                virtual_size: self.disk.facts.virtual_size,
                stored: self.tally.stored,
            },
            output: Product {
                files: self.wanted.iter().map(|w| text(&w.path)).collect(),
                format: self.kind.format.name,
                subformat,
                file_size: self.file_size,
                allocated_size: self.allocated_size,
                uuid: ids.map(|ids| ids.uuid.to_string()),
                cid: ids.map(|ids| format!("{:08x}", ids.cid)),
            },
            seconds: self.whole.as_secs_f64(),
            jobs: self.jobs,
            bytes_read: self.bytes_read,
            bytes_written: self.bytes_written,
            warnings: warnings.iter().map(Problem::from).collect(),
        }
    }

    fn counters(&self) -> Vec<String> {
        let Tally { stored, data, pieces, gaps } = self.tally;
        let mut lines = vec![
            format!(
                "{:.3} s until all was written, {:.3} s in all",
                self.moved.as_secs_f64(),
                self.whole.as_secs_f64()
            ),
            format!("{} bytes read, {} bytes written", self.bytes_read, self.bytes_written),
            format!(
                "{stored} guest bytes stored in the source; {data} in units that are not all zero; {pieces} pieces, {gaps} gaps"
            ),
        ];
        lines.extend(self.disk.ledger.counts().into_iter().map(|(what, n)| format!("{n} {what}")));
        lines.iter().map(|line| format!("vdconv: {line}")).collect()
    }

    fn closing_line(&self) -> String {
        let (facts, seconds) = (&self.disk.facts, self.whole.as_secs_f64());
        let source = format!("{} {}", facts.title, facts.subformat);
        let on_disk = match self.allocated_size < self.file_size / 10 * 9 {
            true => format!(", {} on disk", show::size(self.allocated_size)),
            false => String::new(),
        };
        format!(
            "{} ({}, {}, {} stored) -> {} ({}, {}{on_disk}) in {seconds:.1} s, {}",
            self.args.input.display(),
            source.trim_end(),
            show::size(facts.virtual_size),
            show::size(self.tally.stored),
            self.args.output.display(),
            self.kind.words(),
            show::size(self.file_size),
            show::rate(self.tally.stored, seconds)
        )
    }
}
