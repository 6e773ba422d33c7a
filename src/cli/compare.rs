//! `vdconv compare`: is the guest content of two images the same.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use serde::Serialize;
use vdconv::engine::{self, Compared, Control};
use vdconv::fault::{Fault, Kind};
use vdconv::format;
use vdconv::image::{Disk, SECTOR};
use vdconv::io::Gate;

use super::args::CompareArgs;
use super::interrupt::{Interrupt, while_reading};
use super::progress::Meter;
use super::report::{self, Problem};
use super::warnings::Warnings;
use super::{FAILED, no_stream, show};

/// Opens both, holds one against the other, tells.
pub fn run(args: &CompareArgs, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let [a, b] = args.options();
    [&args.a, &args.b].into_iter().try_for_each(|image| no_stream(image, "comparing standard input"))?;
    let open = |image: &Path, options| format::open(&mut Gate::new(), image, options);
    let (mut a, mut b) = (open(&args.a, &a)?, open(&args.b, &b)?);
    let sizes = [a.facts.virtual_size, b.facts.virtual_size];
    // What a shorter disk lacks reads as zero.
    let size = sizes[0].max(sizes[1]);
    a.grow(size);
    b.grow(size);
    let mut warnings = Warnings::new(args.say.quiet);
    [&a, &b].into_iter().for_each(|disk| warnings.of(&disk.ledger));
    interrupt.watch()?;
    let meter = Meter::new("compare", args.run.progress, args.say.quiet, Some(size));
    let advance = |bytes| meter.advance(bytes);
    let control =
        Control { jobs: args.run.jobs(), stop: interrupt.flag(), progress: &advance, salvage: None, digest: false };
    let compared = engine::compare(&a, &b, control);
    meter.end();
    let compared = compared.map_err(while_reading)?;
    let done = Done { args, sizes, compared, disks: [&a, &b], seconds: started.elapsed().as_secs_f64() };
    [&a, &b].into_iter().for_each(|disk| warnings.at_the_end_of(&disk.ledger));
    warnings.tell(done.longer());
    warnings.tell(done.shared());
    done.tell(warnings.all())?;
    Ok(if done.same() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// A comparison that is done.
struct Done<'a> {
    args: &'a CompareArgs,
    /// Of A and B, before the shorter one was grown.
    sizes: [u64; 2],
    compared: Compared,
    disks: [&'a Disk; 2],
    seconds: f64,
}

#[derive(Serialize)]
struct Report {
    same: bool,
    first_difference: Option<Place>,
    differing_sectors: u64,
    sizes: [u64; 2],
    stored: u64,
    bytes_read: u64,
    seconds: f64,
    warnings: Vec<Problem>,
}

#[derive(Serialize)]
struct Place {
    offset: u64,
}

impl Done<'_> {
    fn same(&self) -> bool {
        self.compared.sectors == 0 && (self.sizes[0] == self.sizes[1] || !self.args.strict)
    }

    fn bytes_read(&self) -> u64 {
        self.disks.iter().flat_map(|disk| disk.files()).map(|file| file.bytes_read()).sum()
    }

    fn tell(&self, warnings: &[Fault]) -> Result<(), Fault> {
        if self.args.run.verbose {
            self.args.run.fewer().iter().for_each(|line| show::note(line));
            let Compared { stored, pieces, gaps, .. } = self.compared;
            let read = self.bytes_read();
            show::note(&format!("vdconv: {read} bytes read in {:.3} s", self.seconds));
            show::note(&format!("vdconv: {stored} guest bytes stored in both; {pieces} pieces, {gaps} gaps"));
        }
        if self.args.say.json {
            return report::print(self.report(warnings)).map_err(show::stdout);
        }
        match self.args.say.quiet {
            true => Ok(()),
            false => show::print(&self.text()),
        }
    }

    /// A warning where the disks have different sizes and are the same all the same.
    fn longer(&self) -> Option<Fault> {
        let [a, b] = self.sizes;
        let longer = if a > b { &self.args.a } else { &self.args.b };
        (a != b && self.same()).then(|| {
            Fault::new(Kind::Changed, longer, "the disk is longer, and all that it has more is zero")
                .found(format!("{} bytes", a.max(b)))
                .against(format!("the other has {}", a.min(b)))
                .advice("--strict takes that for a difference")
        })
    }

    /// Warnings where the disks are the same, and one of the two images cannot be removed for that: the other is read from it.
    fn shared(&self) -> Vec<Fault> {
        if !self.same() {
            return Vec::new();
        }
        let [a, b] = self.disks;
        let leans = |disk: &Disk, name: &Path, other: &Disk| {
            disk.leans_on(other).map(|file| {
                Fault::new(Kind::Locked, name, "the image is read from a file of the other, and lost without it")
                    .found(file.display())
                    .advice("keep that file, or convert the image into one that stands alone")
            })
        };
        let both = [leans(b, &self.args.b, a), leans(a, &self.args.a, b)];
        both.into_iter().flatten().collect()
    }

    fn report(&self, warnings: &[Fault]) -> Report {
        Report {
            same: self.same(),
            first_difference: self.compared.first.map(|offset| Place { offset }),
            differing_sectors: self.compared.sectors,
            sizes: self.sizes,
            stored: self.compared.stored,
            bytes_read: self.bytes_read(),
            seconds: self.seconds,
            warnings: warnings.iter().map(Problem::from).collect(),
        }
    }

    fn text(&self) -> String {
        let [a, b] = self.sizes;
        let content = match self.compared {
            Compared { first: Some(first), sectors, .. } => format!(
                "different: the first at byte {first} (sector {}), {sectors} of {} sectors in all\n",
                first / SECTOR,
                a.max(b).div_ceil(SECTOR)
            ),
            _ if self.same() => format!("the same: {} ({} bytes)\n", show::size(a.min(b)), a.min(b)),
            _ => "different: the sizes; all that the longer one has more is zero\n".to_string(),
        };
        match a == b || self.same() {
            true => content,
            false => format!("{content}sizes: {a} and {b} bytes\n"),
        }
    }
}
