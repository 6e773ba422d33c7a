//! `vdconv info`: what images are.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use vdconv::fault::{Fault, Kind};
use vdconv::format::{self, Lacks, OpenOptions};
use vdconv::guest::{self, Guest};
use vdconv::image::{Creator, Disk, Extent};
use vdconv::io::Gate;

use super::args::InfoArgs;
use super::report::{self, Answer, Images, Problem};
use super::{FAILED, USAGE, no_stream, show, show_guest};

/// Extents that people are shown; JSON has more.
const MOST_EXTENTS: usize = 8;
/// Missing files that people are told of one by one.
const MOST_MISSING: usize = 20;

/// Each image by itself: one that cannot be opened does not hide the others.
pub fn run(args: &InfoArgs) -> anyhow::Result<ExitCode> {
    let options = OpenOptions { lacks: Lacks::Files, ..args.read.source.options() };
    if args.images.len() > 1 && !options.parents.is_empty() {
        return Err(Fault::new(Kind::Usage, "", "--parent: of one image only").into());
    }
    // The worst of all images: a usage fault is told before a failure.
    let (mut status, mut answers) = (0, Vec::new());
    args.images.iter().try_for_each(|image| no_stream(image, "reading from standard input"))?;
    for (index, image) in args.images.iter().enumerate() {
        let opened = format::open(&mut Gate::new(), image, &options);
        match &opened {
            Ok(disk) => {
                let guest = guest::look(disk);
                // What tables say wrongly came up while they were looked at.
                let warnings = disk.ledger.drain();
                let advice = advice(disk, &warnings, &guest);
                if !args.read.say.quiet {
                    show::warnings(&warnings);
                }
                if !args.read.say.json {
                    let text = describe(image, disk, &guest, &advice);
                    show::print(&format!("{}{text}", if index > 0 { "\n" } else { "" }))?;
                }
                // What is not there is told, and is a failure all the same: the disk cannot be had.
                let missing = &disk.facts.missing;
                missing.iter().take(MOST_MISSING).for_each(show::error);
                if missing.len() > MOST_MISSING {
                    show::note(&format!("vdconv: {} more files are missing", missing.len() - MOST_MISSING));
                }
                if !missing.is_empty() {
                    status = status.max(FAILED);
                }
                answers.push(Answer::Image(Box::new(report::Image::of(disk, &warnings, guest, advice))));
            }
            Err(fault) => {
                show::error(fault);
                status = status.max(if fault.kind() == Kind::Usage { USAGE } else { FAILED });
                let file = image.to_string_lossy().into_owned();
                answers.push(Answer::Failure { file, error: Problem::from(fault) });
            }
        }
    }
    if args.read.say.json {
        report::print(Images { images: answers }).map_err(show::stdout)?;
    }
    Ok(ExitCode::from(status))
}

/// What stands in the way: of the image itself first, each line once. What to do about a file that is missing is told where it is missed.
fn advice(disk: &Disk, warnings: &[Fault], guest: &Guest) -> Vec<String> {
    // Damage is told as a warning; a machine that has the disk open, and a snapshot on top of it, concern who converts it.
    let in_use = warnings.iter().filter(|fault| matches!(fault.kind(), Kind::Locked | Kind::Changed));
    let in_use = in_use.map(|fault| match fault.hint() {
        "" => fault.message(),
        hint => format!("{}: {hint}", fault.field()),
    });
    let unfit = disk.facts.unfit_for_machines.map(str::to_string);
    let mut lines: Vec<String> = Vec::new();
    for line in in_use.chain(unfit).chain(guest.advice.iter().cloned()) {
        if !line.is_empty() && !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

fn describe(image: &Path, disk: &Disk, guest: &Guest, advice: &[String]) -> String {
    let facts = &disk.facts;
    let mut text = format!("{}\n", show::escape(&image.to_string_lossy()));
    let mut line = |label: &str, value: String| {
        // Writing to a String does not fail.
        let _ = writeln!(text, "  {label:<14}{}", show::escape(&value));
    };
    line("format", format!("{} {}", facts.title, facts.subformat).trim_end().to_string());
    line("virtual size", exact(facts.virtual_size));
    let (len, allocated) = disk.files().iter().fold((0, 0), |(l, a), f| (l + f.len(), a + f.allocated()));
    line("file size", format!("{}, {} on disk", exact(len), show::size(allocated)));
    line("sector size", format!("{} bytes", facts.logical_sector_size));
    if let Some(block) = facts.block_size {
        line("block size", show::size(block));
    }
    if let Some(creator) = &facts.creator {
        line("creator", signature(creator));
    }
    if let Some(created) = facts.created {
        line("created", humantime::format_rfc3339_seconds(created).to_string());
    }
    if let Some(uuid) = facts.uuid {
        line("unique id", uuid.to_string());
    }
    if let Some(cid) = facts.cid {
        line("content id", format!("{cid:08x}"));
    }
    for parent in disk.images().iter().skip(1) {
        line("parent", parent.display().to_string());
    }
    for (n, extent) in facts.extents.iter().enumerate().take(MOST_EXTENTS) {
        line(if n == 0 { "extents" } else { "" }, in_words(extent));
    }
    if facts.extent_count > MOST_EXTENTS as u64 {
        line("", format!("and {} more", facts.extent_count - MOST_EXTENTS as u64));
    }
    if let Some(geometry) = facts.geometry {
        let (bytes, size) = (geometry.bytes(), facts.virtual_size);
        let note = match bytes.cmp(&size) {
            std::cmp::Ordering::Less => format!(" ({} less than the virtual size; that counts)", size - bytes),
            std::cmp::Ordering::Equal => String::new(),
            std::cmp::Ordering::Greater => format!(" ({} more than the virtual size; that counts)", bytes - size),
        };
        line(
            "geometry",
            format!("{}/{}/{} = {bytes} bytes{note}", geometry.cylinders, geometry.heads, geometry.sectors),
        );
    }
    if let Some(adapter) = facts.adapter {
        line("adapter", adapter.word().to_string());
    }
    for (n, (key, value)) in facts.recorded.iter().enumerate() {
        line(if n == 0 { "recorded" } else { "" }, format!("{key} = {value}"));
    }
    for (n, missing) in facts.missing.iter().enumerate().take(MOST_MISSING) {
        line(if n == 0 { "missing" } else { "" }, missing.found_text().to_string());
    }
    for (label, value) in show_guest::lines(guest, &facts.missing) {
        line(label, value);
    }
    for (n, advice) in advice.iter().enumerate() {
        line(if n == 0 { "advice" } else { "" }, advice.clone());
    }
    text
}

/// As recorded where that is, with the product that is known to write that.
fn signature(creator: &Creator) -> String {
    let product = creator.product.map(str::to_string);
    match (&creator.application, &creator.version, &creator.host_os) {
        (Some(application), Some(version), Some(host_os)) => {
            let recorded = format!("\"{application}\" {version} on \"{host_os}\"");
            [Some(recorded), product].into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
        _ => format!("{}, by the marks it leaves", product.unwrap_or_default()),
    }
}

fn in_words(extent: &Extent) -> String {
    let file = extent.file.as_ref().map(|file| format!(" \"{file}\"")).unwrap_or_default();
    let offset = if extent.offset > 0 { format!(" from byte {}", extent.offset) } else { String::new() };
    format!("{} {}, {}{file}{offset}", extent.access, extent.kind, show::size(extent.len))
}

fn exact(bytes: u64) -> String {
    match bytes < 1024 {
        true => show::size(bytes),
        false => format!("{} ({bytes} bytes)", show::size(bytes)),
    }
}
