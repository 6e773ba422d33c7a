//! The command line: one file a subcommand, and what they share. The only place that prints.

mod args;
mod convert;
mod info;
mod interrupt;
mod progress;
mod report;
mod show;

use std::process::ExitCode;

use clap::Parser;
use vdconv::fault::{Fault, Kind};

use args::{Args, Command};
use interrupt::Interrupt;

/// Exit status: it did not work, and no output is left.
const FAILED: u8 = 1;
/// Exit status: the command line asks for what cannot be.
const USAGE: u8 = 2;

/// Parses, runs, and turns the result into an exit status.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return unparsed(&error),
    };
    let interrupt = Interrupt::default();
    let json = args.json();
    let done = match args.command {
        Some(Command::Convert(convert)) => convert::run(&convert, &interrupt),
        Some(Command::Info(info)) => info::run(&info),
        None => match args.convert {
            Some(convert) => convert::run(&convert, &interrupt),
            None => Err(Fault::new(Kind::Usage, "", "INPUT and OUTPUT are missing").advice("vdconv --help").into()),
        },
    };
    done.unwrap_or_else(|error| failed(&error, json, &interrupt))
}

/// Help and version are answers; the rest is a usage error, which `--json` gets as an object too.
fn unparsed(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    if std::env::args_os().any(|arg| arg == "--json") {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_string();
        report::print_error(&Fault::new(Kind::Usage, "", first));
    }
    ExitCode::from(USAGE)
}

fn failed(error: &anyhow::Error, json: bool, interrupt: &Interrupt) -> ExitCode {
    let fault = match error.downcast_ref::<Fault>() {
        Some(fault) => fault.clone(),
        None => Fault::new(Kind::Io, "", format!("{error:#}")),
    };
    show::error(&fault);
    if json {
        report::print_error(&fault);
    }
    if fault.kind() == Kind::Interrupted {
        interrupt.end_by_it();
    }
    ExitCode::from(match fault.kind() {
        Kind::Usage => USAGE,
        Kind::Interrupted => interrupt.status(),
        _ => FAILED,
    })
}
