//! `vdconv INPUT OUTPUT`

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use vdconv::engine::{self, Control, Sources, Tally};
use vdconv::fault::{Fault, Kind};
use vdconv::format::open_end::OpenEnd;
use vdconv::format::{Effort, Lacks, OpenOptions, Records, Wish};
use vdconv::image::{Disk, Facts, Feed, Identifiers, Ledger, Losses, Order, Plan, Writer};
use vdconv::io::{OutputOptions, Outputs, Pending, Sharing, sys};

use super::args::{ConvertArgs, Progress};
use super::base::Under;
use super::destination::{Destination, Opening};
use super::dry_run::{self, DryRun};
use super::interrupt::Interrupt;
use super::output_kind::OutputKind;
use super::progress::Meter;
use super::report::{self, Problem, Product};
use super::source::Source;
use super::warnings::Warnings;
use super::{LOSSES, STDOUT, show, usage};

/// Opens, plans, checks, converts, publishes, reports.
pub fn run(args: &ConvertArgs, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let kind = OutputKind::choose(args)?;
    let epoch = source_date_epoch()?;
    let destination = Destination::resolve(args, kind)?;
    let lacks = if args.salvage { Lacks::Data } else { Lacks::Nothing };
    let options = OpenOptions { lacks, ..args.source.options() };
    let source = Source::open(args, kind, &options, interrupt)?;
    let under = args.base.as_ref().map(|name| Under::open(name, &options, destination.folder())).transpose()?;
    let base = under.as_ref().map(|under| &under.disk);
    let identifiers = identifiers(args, &options, &source, base, kind, epoch)?;
    let file_name = destination.file_name(&args.input, kind.format.name);
    let wish = Wish {
        adapter: args.adapter,
        time: epoch.map_or_else(SystemTime::now, |epoch| UNIX_EPOCH + Duration::from_secs(epoch.into())),
        reproducible: epoch.is_some(),
        preallocate: args.preallocate,
        contiguous: args.contiguous,
        block_size: args.block_size,
        effort: if args.fast { Some(Effort::Fast) } else { args.level.map(Effort::Level) },
        hw_version: args.hw_version,
        stream: destination.is_pipe(),
        base: under.as_ref().map(Under::facts),
        ..Wish::new(args.output.clone(), file_name, identifiers)
    };
    let make = kind.subformat.writer;
    let writer: Box<dyn Writer + '_> = match source.has_open_end() {
        false => make(source.facts(), &wish)?,
        true => Box::new(OpenEnd::new(source.facts(), &wish, make)?),
    };
    let wanted = destination.wanted(writer.plan());
    let files: Vec<_> = source.files().iter().chain(base.into_iter().flat_map(Disk::files)).cloned().collect();
    destination.refuse_what_cannot_be(writer.plan(), &files)?;
    let say = |lines: &mut dyn Iterator<Item = String>| {
        if !args.quiet {
            lines.for_each(|line| show::note(&format!("vdconv: note: {line}")));
        }
    };
    // From here on there is something to clean up.
    interrupt.watch()?;
    let (mut lease, mut pending, mut warnings) = (None, Pending::default(), Warnings::new(args.quiet));
    match args.dry_run {
        true => pending = destination.look(writer.plan(), &files)?,
        false => {
            if let Some((right, found)) = destination.lease(&files)? {
                // Told whatever becomes of this run.
                say(&mut found
                    .removed
                    .iter()
                    .map(|path| format!("removed what a killed run left: {}", path.display())));
                say(&mut found
                    .back
                    .iter()
                    .map(|path| format!("put back what a killed run was replacing: {}", path.display())));
                warnings.tell(found.warnings);
                lease = Some(right);
            }
        }
    }
    Outputs::refuse_existing(&wanted, args.force, &pending)?;
    let surplus = destination.surplus(&wanted, &files)?;

    let ledgers: Vec<_> =
        [Some(source.ledger()), base.map(|base| Arc::clone(&base.ledger))].into_iter().flatten().collect();
    ledgers.iter().for_each(|ledger| warnings.of(ledger));
    warnings.tell(under.as_ref().and_then(Under::outside));
    // A raw disk may become anything again; the others are for machines.
    if let Some(why) = source.facts().unfit_for_machines.filter(|_| !kind.subformat.name.is_empty()) {
        warnings.tell([Fault::new(Kind::Unsupported, &args.input, why)]);
    }
    if let Some(folder) = destination.files_folder() {
        // What is salvaged is looked at, and what is packed is other bytes.
        let alike = writer.plan().holes && !args.salvage && writer.encoder().is_none();
        warnings.tell(space(&source, folder, writer.plan(), || alike && Sharing::may_be(folder, source.files()))?);
    }
    let jobs = args.run.jobs();
    say(&mut writer.plan().notes.iter().cloned());
    if args.run.verbose {
        show::note(&decisions(source.facts(), kind, writer.as_ref(), jobs));
        args.run.fewer().iter().for_each(|line| show::note(line));
    }

    let losses = Losses::default();
    if args.dry_run {
        let measured = dry_run::measure(args, source, base, writer.as_ref(), &losses, interrupt)?;
        ledgers.iter().for_each(|ledger| warnings.at_the_end_of(ledger));
        losses.iter().for_each(|lost| show::lost(&lost));
        let free = destination.files_folder().and_then(|folder| sys::free_space(folder).ok());
        let names = destination.names(&wanted);
        DryRun { args, kind, names, free, surplus, warnings: warnings.all(), losses: &losses }
            .tell(measured.as_ref())?;
        return Ok(exit_status(&losses));
    }
    let how = OutputOptions { force: args.force, sync: !args.no_sync, holes: writer.plan().holes };
    let (plan, inputs) = (writer.plan(), files.as_slice());
    let outputs = destination.create(Opening { plan, wanted: &wanted, lease, surplus, inputs, how, interrupt })?;
    let mut facts = source.facts().clone();
    let read = source.meter();
    let (disk, mut feed) = source.into_feed(base, writer.plan().test_unit);
    let sources = Sources { disk: disk.as_deref(), base };
    let tally = move_data(args, sources, feed.as_mut(), writer.as_ref(), &outputs, interrupt, &losses)
        .map_err(|fault| outputs.after(fault))?;
    let moved = started.elapsed();
    facts.virtual_size = tally.virtual_size;
    ledgers.iter().for_each(|ledger| warnings.at_the_end_of(ledger));
    warnings.tell(losses.remarks());
    losses.iter().for_each(|lost| show::lost(&lost));
    let (bytes_written, bytes_shared, waited) = (outputs.bytes_written(), outputs.bytes_shared(), outputs.waited());
    let (file_size, allocated_size) = outputs.sizes();
    warnings.tell(outputs.publish()?);

    let done = Done {
        args,
        facts: &facts,
        ledgers: &ledgers,
        losses: &losses,
        kind,
        wish: &wish,
        names: destination.names(&wanted),
        tally,
        jobs,
        file_size,
        allocated_size,
        bytes_read: read.get() + base.into_iter().flat_map(Disk::files).map(|file| file.bytes_read()).sum::<u64>(),
        bytes_written,
        bytes_shared,
        waited,
        moved,
        whole: started.elapsed(),
    };
    if args.json {
        report::print(done.report(warnings.all()))
            .map_err(|e| Fault::io(STDOUT, "cannot write the report; the output is complete", e))?;
    }
    if args.run.verbose {
        done.counters().iter().for_each(|line| show::note(line));
    }
    // It was asked for by name: told whatever else is to be silent, unless the report has it.
    if let Some(digest) = done.tally.digest.filter(|_| !(args.quiet && args.json)) {
        show::note(&format!("{} of the guest: {digest}", digest.algorithm.word()));
    }
    // It begins with a name, which may look like anything; lines for programs do not.
    if !args.quiet && args.run.progress != Progress::Json {
        show::note(&done.closing_line());
    }
    Ok(exit_status(&losses))
}

fn exit_status(losses: &Losses) -> ExitCode {
    if losses.count() > 0 { ExitCode::from(LOSSES) } else { ExitCode::SUCCESS }
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
    disk: &Source,
    base: Option<&Disk>,
    kind: OutputKind,
    epoch: Option<u32>,
) -> Result<Identifiers, Fault> {
    let mut identifiers = match epoch {
        None => Identifiers::random(),
        Some(epoch) => {
            let adapter = args.adapter.map(|a| a.word()).unwrap_or_default();
            let content = if source.ignore_bitmaps { " ignore-bitmaps" } else { "" };
            // What was salvaged is not the disk that it was.
            let content = if args.salvage { format!("{content} salvage") } else { content.to_string() };
            let shape =
                format!("{}{:?}{:?}{}{:?}", args.contiguous, args.block_size, args.level, args.fast, args.hw_version);
            let base = base.map_or(String::new(), |base| format!(" base={:?},{:?}", base.facts.uuid, base.facts.cid));
            let options =
                format!("{} {} adapter={adapter}{content} {shape}{base}", kind.format.name, kind.subformat.name);
            Identifiers::derived(epoch, &disk.identifier_source()?, &options)
        }
    };
    if args.uuid.is_some_and(|uuid| base.is_some_and(|base| base.facts.uuid == Some(uuid))) {
        return Err(usage("--uuid: the base has it; a child that has the id of its parent is its own parent"));
    }
    identifiers.uuid = args.uuid.unwrap_or(identifiers.uuid);
    identifiers.cid = args.cid.unwrap_or(identifiers.cid);
    Ok(identifiers)
}

/// Refused where more must be allocated than is free, a warning where more may be needed (R19). Where the system does not tell, neither.
fn space(disk: &Source, folder: &Path, plan: &Plan, may_share: impl FnOnce() -> bool) -> Result<Option<Fault>, Fault> {
    let Ok(free) = sys::free_space(folder) else { return Ok(None) };
    let short =
        |what: &'static str| Fault::new(Kind::NoSpace, folder, what).found(format!("{} free", show::size(free)));
    let must = plan.files.iter().filter_map(|file| file.len).fold(0u64, u64::saturating_add);
    if !plan.holes && must > free {
        return Err(short("the output does not fit").against(format!("it takes {}", show::size(must))));
    }
    let may = disk.stored_at_most().unwrap_or_default();
    if may <= free {
        return Ok(None);
    }
    let warning = short("the output may not fit").against(format!("the source stores up to {}", show::size(may)));
    // How much of it lies so that it can be shared is known when it was tried.
    Ok(Some(match may_share() {
        true => warning.advice("blocks that it can share with the source take no room"),
        false => warning,
    }))
}

fn move_data(
    args: &ConvertArgs,
    sources: Sources<'_>,
    feed: &mut dyn Feed,
    writer: &dyn Writer,
    outputs: &Outputs,
    interrupt: &Interrupt,
    losses: &Losses,
) -> Result<Tally, Fault> {
    let total = (!writer.has_open_end()).then_some(writer.plan().virtual_size);
    let meter = Meter::new("convert", args.run.progress, args.quiet, total);
    let advance = |bytes| meter.advance(bytes);
    let salvage = args.salvage.then_some(losses);
    let control = Control {
        jobs: args.run.jobs(),
        stop: interrupt.flag(),
        progress: &advance,
        salvage,
        digest: args.digest.is_some(),
    };
    let moved = engine::convert(sources, feed, writer, outputs, control);
    meter.end();
    moved
}

fn decisions(facts: &Facts, kind: OutputKind, writer: &dyn Writer, jobs: usize) -> String {
    let plan = writer.plan();
    let at_most = if writer.has_open_end() { "at most " } else { "" };
    let source = format!("{} {}", facts.title, facts.subformat);
    let order = match plan.order {
        Order::Free => "placed freely",
        Order::Ordered => "placed in guest order",
        Order::Stream => "written in guest order",
    };
    format!(
        "vdconv: {}, {at_most}{} bytes -> {}; {jobs} workers, units of {} bytes, {order}{}",
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
    facts: &'a Facts,
    ledgers: &'a [Arc<Ledger>],
    losses: &'a Losses,
    kind: OutputKind,
    wish: &'a Wish,
    names: Vec<String>,
    tally: Tally,
    jobs: usize,
    file_size: u64,
    allocated_size: u64,
    bytes_read: u64,
    bytes_written: u64,
    bytes_shared: u64,
    /// For stable storage.
    waited: Duration,
    /// Until the last byte was on its way.
    moved: Duration,
    whole: Duration,
}

impl Done<'_> {
    fn report(&self, warnings: &[Fault]) -> report::Conversion<'_> {
        let name = |name: &'static str| (!name.is_empty()).then_some(name);
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let subformat = name(self.kind.subformat.name);
        let records = |what| self.kind.format.records.contains(&what).then_some(&self.wish.identifiers);
        report::Conversion {
            input: report::Source {
                file: text(&self.args.input),
                format: self.facts.format,
                subformat: name(self.facts.subformat),
                virtual_size: self.facts.virtual_size,
                stored: self.tally.stored,
            },
            output: Product {
                files: self.names.clone(),
                format: self.kind.format.name,
                subformat,
                file_size: self.file_size,
                allocated_size: self.allocated_size,
                uuid: records(Records::Uuid).map(|ids| ids.uuid.to_string()),
                cid: records(Records::Cid).map(|ids| format!("{:08x}", ids.cid)),
            },
            seconds: self.whole.as_secs_f64(),
            seconds_syncing: self.waited.as_secs_f64(),
            jobs: self.jobs,
            bytes_read: self.bytes_read,
            bytes_written: self.bytes_written,
            bytes_shared: self.bytes_shared,
            digest: self.tally.digest.map(report::Digest::from),
            warnings: warnings.iter().map(Problem::from).collect(),
            lost_bytes: self.losses.bytes(),
            lost: report::LostRanges(self.losses),
        }
    }

    fn counters(&self) -> Vec<String> {
        let Tally { stored, data, pieces, gaps, passed, .. } = self.tally;
        let mut lines = vec![
            format!(
                "{:.3} s until all was written, {:.3} s of them waiting for stable storage, {:.3} s in all",
                self.moved.as_secs_f64(),
                self.waited.as_secs_f64(),
                self.whole.as_secs_f64()
            ),
            format!("{} bytes read, {} bytes written", self.bytes_read, self.bytes_written),
            format!(
                "{stored} guest bytes stored in the source; {data} in units that are not all zero; {pieces} pieces, {gaps} gaps"
            ),
        ];
        if self.bytes_shared > 0 {
            lines.push(format!("{} bytes are blocks shared with the source, not copied", self.bytes_shared));
        }
        if passed > 0 {
            lines.push(format!("{passed} packed units went over unchanged"));
        }
        lines.extend(self.ledgers.iter().flat_map(|ledger| ledger.counts()).map(|(what, n)| format!("{n} {what}")));
        lines.iter().map(|line| format!("vdconv: {line}")).collect()
    }

    fn closing_line(&self) -> String {
        let (facts, seconds) = (self.facts, self.whole.as_secs_f64());
        let source = format!("{} {}", facts.title, facts.subformat);
        let on_disk = match self.allocated_size < self.file_size / 10 * 9 {
            true => format!(", {} on disk", show::size(self.allocated_size)),
            false => String::new(),
        };
        let shared = match self.bytes_shared {
            0 => String::new(),
            shared => format!(", {} of it blocks of the source", show::size(shared)),
        };
        let lost = match self.losses.count() {
            0 => String::new(),
            1 => format!("; {} bytes were lost, in 1 range", self.losses.bytes()),
            n => format!("; {} bytes were lost, in {n} ranges", self.losses.bytes()),
        };
        format!(
            "{} ({}, {}, {} stored) -> {} ({}, {}{on_disk}{shared}) in {seconds:.1} s, {}{lost}",
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
