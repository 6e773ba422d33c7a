//! `vdconv hash`: the digest of an image's guest content.

use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;
use vdconv::engine::{self, Control, Hashed};
use vdconv::fault::Fault;
use vdconv::format;
use vdconv::image::Facts;
use vdconv::io::{Gate, sys};

use super::args::HashArgs;
use super::interrupt::{Interrupt, while_reading};
use super::progress::Meter;
use super::report::{self, Digest, Problem};
use super::warnings::Warnings;
use super::{no_stream, show};

/// Opens, hashes, tells.
pub fn run(args: &HashArgs, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    no_stream(&args.image, "hashing standard input")?;
    let disk = format::open(&mut Gate::new(), &args.image, &args.read.source.options())?;
    // A digest that is not the file's own is not taken for it: what was added is told with -q too.
    let mut warnings = Warnings::new(args.read.say.quiet && disk.facts.padding == 0);
    warnings.of(&disk.ledger);
    interrupt.watch()?;
    let meter = Meter::new("hash", args.run.progress, args.read.say.quiet, Some(disk.facts.virtual_size));
    let advance = |bytes| meter.advance(bytes);
    let (jobs, stop) = (args.run.jobs(), interrupt.flag());
    let control = Control { jobs, stop, progress: &advance, salvage: None, digest: false };
    let hashed = engine::hash(&disk, args.algorithm.into(), control);
    meter.end();
    let hashed = hashed.map_err(while_reading)?;
    warnings.at_the_end_of(&disk.ledger);
    let bytes_read = disk.files().iter().map(|file| file.bytes_read()).sum();
    let done = Done { args, facts: &disk.facts, hashed, jobs, bytes_read, seconds: started.elapsed().as_secs_f64() };
    done.tell(warnings.all())?;
    Ok(ExitCode::SUCCESS)
}

/// A digest that was taken.
struct Done<'a> {
    args: &'a HashArgs,
    facts: &'a Facts,
    hashed: Hashed,
    jobs: usize,
    bytes_read: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct Report {
    file: String,
    format: &'static str,
    subformat: Option<&'static str>,
    virtual_size: u64,
    digest: Digest,
    stored: u64,
    bytes_read: u64,
    jobs: usize,
    seconds: f64,
    warnings: Vec<Problem>,
}

impl Done<'_> {
    fn tell(&self, warnings: &[Fault]) -> Result<(), Fault> {
        if self.args.run.verbose {
            self.args.run.fewer().iter().for_each(|line| show::note(line));
            let Hashed { stored, pieces, gaps, .. } = self.hashed;
            show::note(&format!("vdconv: {} bytes read in {:.3} s", self.bytes_read, self.seconds));
            show::note(&format!("vdconv: {stored} guest bytes stored; {pieces} pieces, {gaps} gaps"));
        }
        let name = self.args.image.to_string_lossy();
        match self.args.read.say.json {
            true => report::print(self.report(&name, warnings)).map_err(show::stdout),
            false => show::print_bytes(&self.line()),
        }
    }

    /// As sha256sum and b3sum print it: the name by its own bytes, so that `sha256sum -c` finds the file; where it has a backslash or an
    /// end of line, those are escaped and a backslash stands in front of the line. On a terminal nothing of it deceives.
    fn line(&self) -> Vec<u8> {
        let name = self.args.image.as_os_str().as_encoded_bytes();
        let (mut escaped, mut mark) = (Vec::with_capacity(name.len()), "");
        for byte in name {
            let letter = match byte {
                b'\\' => b'\\',
                b'\n' => b'n',
                b'\r' => b'r',
                byte => {
                    escaped.push(*byte);
                    continue;
                }
            };
            mark = "\\";
            escaped.extend([b'\\', letter]);
        }
        if sys::stdout_is_terminal() {
            escaped = show::escape(&String::from_utf8_lossy(&escaped)).into_owned().into_bytes();
        }
        [format!("{mark}{}  ", self.hashed.digest).as_bytes(), &escaped, b"\n"].concat()
    }

    fn report(&self, name: &str, warnings: &[Fault]) -> Report {
        let Done { facts, hashed, jobs, bytes_read, seconds, .. } = *self;
        Report {
            file: name.to_string(),
            format: facts.format,
            subformat: (!facts.subformat.is_empty()).then_some(facts.subformat),
            virtual_size: facts.virtual_size,
            digest: hashed.digest.into(),
            stored: hashed.stored,
            bytes_read,
            jobs,
            seconds,
            warnings: warnings.iter().map(Problem::from).collect(),
        }
    }
}
