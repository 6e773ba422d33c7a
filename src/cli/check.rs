//! `vdconv check`: is every structure of an image sound.

use std::process::ExitCode;

use vdconv::format::{self, Checked};
use vdconv::image::{Finding, Severity};
use vdconv::io::Gate;

use super::args::CheckArgs;
use super::report::{self, Checkup};
use super::{FAILED, no_stream, show};

/// One image. What cannot be checked is neither sound nor damaged.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    no_stream(&args.image, "reading from standard input")?;
    let checked = format::check(&mut Gate::new(), &args.image, &args.read.source.options())?;
    match args.read.say.json {
        true => report::print(Checkup::of(&args.image, &checked)).map_err(show::stdout)?,
        false => show::print(&describe(args, &checked))?,
    }
    Ok(match checked.findings.is_sound() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    })
}

/// A line a finding, then how many there are; with `-q` the errors alone.
fn describe(args: &CheckArgs, checked: &Checked) -> String {
    let (findings, quiet) = (&checked.findings, args.read.say.quiet);
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&show::escape(&line));
        text.push('\n');
    };
    for Finding { id, severity, fault } in findings.list() {
        if *severity == Severity::Error || !quiet {
            line(format!("{id} {} {fault}", severity.word()));
        }
    }
    if quiet {
        return text;
    }
    for (id, more) in findings.surplus() {
        line(format!("{id}: {more} more"));
    }
    let name = args.image.display();
    let many = |n: u64, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let [errors, warnings, notes] = [Severity::Error, Severity::Warning, Severity::Note].map(|s| findings.number(s));
    let verdict = if findings.is_sound() { "sound" } else { "not sound" };
    let mut summary = format!("{name}: {verdict} ({})", checked.format.title);
    // Where there are errors it says that these are all, or not.
    for (n, what, always) in [(errors, "error", errors > 0), (warnings, "warning", errors > 0), (notes, "note", false)]
    {
        if n > 0 || always {
            summary.push_str(&format!(", {}", many(n, what)));
        }
    }
    line(summary);
    text
}
