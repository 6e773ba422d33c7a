//! The command line: one file a subcommand, and what they share. The only place that prints.

mod args;
mod base;
mod check;
mod compare;
mod convert;
mod destination;
mod dry_run;
mod hash;
mod info;
mod interrupt;
mod map;
mod output_kind;
mod picture;
mod progress;
mod report;
mod report_guest;
mod show;
mod show_guest;
mod source;
mod values;
mod warnings;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use vdconv::fault::{Fault, Kind};

use args::Command;
use interrupt::Interrupt;

/// Exit status: it did not work.
const FAILED: u8 = 1;
/// Exit status: it worked, and not all of the disk could be had.
const LOSSES: u8 = 3;
/// Exit status: the command line asks for what cannot be.
const USAGE: u8 = 2;
/// The file that faults about reports name.
const STDOUT: &str = "standard output";

/// Parses, runs, and turns the result into an exit status.
pub fn main() -> ExitCode {
    let command = match Command::parse() {
        Ok(command) => command,
        Err(error) => return unparsed(&error),
    };
    let interrupt = Interrupt::default();
    let run = || match &command {
        Command::Convert(convert) => convert::run(convert, &interrupt),
        Command::Info(info) => info::run(info),
        Command::Check(check) => check::run(check),
        Command::Compare(compare) => compare::run(compare, &interrupt),
        Command::Hash(hash) => hash::run(hash, &interrupt),
        Command::Map(map) => map::run(map),
    };
    // A fault of our own is an error like any other: told, and nothing of an output is left.
    let done = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(Fault::new(Kind::Io, "", "a fault of vdconv itself")
            .advice("please report it, with the lines above")
            .into())
    });
    match done {
        Ok(status) => {
            // A signal that came when the output was complete already: a shell's loop stops all the same.
            interrupt.end_by_it();
            status
        }
        Err(error) => failed(&error, &command, &interrupt),
    }
}

/// Help and version are answers; the rest is a usage error, which `--json` gets as an object too.
fn unparsed(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return match error.print() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                show::error(&show::stdout(error));
                ExitCode::from(FAILED)
            }
        };
    }
    // What the user typed is in it: shown line by line, escaped.
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    for (n, line) in text.lines().enumerate() {
        show::note(&if n == 0 { format!("vdconv: {line}") } else { line.to_string() });
    }
    if std::env::args_os().take_while(|arg| arg != "--").any(|arg| arg == "--json") {
        let until_usage = text.lines().take_while(|line| !line.starts_with("Usage:"));
        let message = until_usage.map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        report::print_error(&Fault::new(Kind::Usage, "", message));
    }
    ExitCode::from(USAGE)
}

fn failed(error: &anyhow::Error, command: &Command, interrupt: &Interrupt) -> ExitCode {
    let fault = match error.downcast_ref::<Fault>() {
        Some(fault) => fault.clone(),
        None => Fault::new(Kind::Io, "", format!("{error:#}")),
    };
    show::error(&fault);
    // What could not be printed is not tried again.
    if command.json() && fault.file() != Path::new(STDOUT) {
        report::print_error(&fault);
    }
    interrupt.end_by_it();
    ExitCode::from(match fault.kind() {
        Kind::Usage => USAGE,
        Kind::Interrupted => interrupt.status(),
        _ => command.failure(),
    })
}

/// The command line asks for what cannot be.
fn usage(what: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(Kind::Usage, "", what)
}

/// Refuses `-` as a name until there are streams.
fn no_stream(path: &Path, doing: &str) -> Result<(), Fault> {
    match path.as_os_str() == "-" {
        true => Err(Fault::new(Kind::Usage, "", format!("{doing} is not supported by this version"))
            .advice("a file called - is ./-")),
        false => Ok(()),
    }
}
