//! Images of every kind, mutated: fixtures and images built by the specification, one mutation a case, decided by a seed.
//!
//! Of every case: no panic, no signal, within 256 MiB and 10 s, exit 0 or 1, one line of error, nothing left behind, the sources as they
//! were (R1, R10, R12, R17). Where a structure has a checksum or a copy, where nothing reads it, and where a file has another length: the
//! disk as it was, a refusal or a warning, never silently another disk (R5, R6, R7). Where only the guest's bytes were hit: as many other
//! bytes at most, and no more. The other cases are counted by structure; the table is printed (`--nocapture`).
//!
//! A case depends on seed, subject and number. `VDCONV_MUTATION_SEED=N` takes another seed; with `VDCONV_MUTATION_CASE='SUBJECT:NUMBER'`
//! one case is run, told, and its folder kept:
//! `VDCONV_MUTATION_CASE='vhd fixed:17' VDCONV_MUTATION_SEED=1 cargo test --test mutations a_share -- --nocapture`.
#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;
mod map_vhd;
mod map_vmdk;
mod mutate;
mod prng;
mod subject;
mod subjects;
mod tally;
mod trial;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use mutate::Class;
use subject::Subject;
use tally::Tally;
use trial::{Bench, Ending, Watch};

/// Cases that one folder serves before the next subject has its turn.
const BATCH: u64 = 50;

/// How many cases a subject gets.
struct Plan {
    seed: u64,
    small: u64,
    large: u64,
    /// Of formats with few kinds of images.
    few: u64,
}

impl Plan {
    fn cases(&self, subject: &Subject) -> u64 {
        match (subject.format, subject.small) {
            ("iso" | "raw", _) => self.few,
            (_, true) => self.small,
            (_, false) => self.large,
        }
    }
}

fn seed(default: u64) -> u64 {
    let chosen = std::env::var("VDCONV_MUTATION_SEED").ok();
    chosen.map_or(default, |seed| seed.parse().expect("VDCONV_MUTATION_SEED is a number"))
}

/// Runs one case into the tally.
fn run_case(bench: &Bench<'_>, subject: &Subject, seed: u64, number: u64, tally: &Mutex<Tally>) {
    let case = mutate::case(subject, seed, number);
    let who = format!("VDCONV_MUTATION_SEED={seed} VDCONV_MUTATION_CASE='{}:{number}'", subject.name);
    let what = format!("{who}: {} of {}", case.what, subject.files[case.file].0);
    let ended = bench.run(&case, number.is_multiple_of(8));
    let mut tally = tally.lock().unwrap();
    match ended {
        Err(broken) => tally.broken.push(format!("{what}: {broken}")),
        Ok(ending) => {
            if ending == Ending::Silent && !matches!(case.class, Class::Open(_)) {
                tally.broken.push(format!("{what}: silently another disk ({:?})", case.class));
            }
            if ending == Ending::Silent && std::env::var_os("VDCONV_MUTATION_SILENT").is_some() {
                println!("silent: {what}");
            }
            tally.add(subject.format, &subject.name, &case.class, ending);
        }
    }
}

/// Runs a plan on all subjects; what breaks a rule ends the test with everything that is needed to run it again.
fn run(plan: &Plan) -> Tally {
    println!("seed {}", plan.seed);
    let subjects = subjects::all();
    if let Ok(chosen) = std::env::var("VDCONV_MUTATION_CASE") {
        one_case(&subjects, plan.seed, &chosen);
        return Tally::default();
    }
    let batches: Vec<(&Subject, u64)> = subjects
        .iter()
        .flat_map(|subject| (0..plan.cases(subject)).step_by(BATCH as usize).map(move |first| (subject, first)))
        .collect();
    let (tally, next, watch) = (Mutex::new(Tally::default()), AtomicUsize::new(0), Watch::default());
    thread::scope(|scope| {
        scope.spawn(|| watch.look());
        let work = || {
            while let Some((subject, first)) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                let bench = Bench::new(subject, &watch);
                if *first == 0
                    && let Err(unsound) = bench.is_sound()
                {
                    tally.lock().unwrap().broken.push(format!("{}: {unsound}", subject.name));
                }
                for number in *first..(*first + BATCH).min(plan.cases(subject)) {
                    run_case(&bench, subject, plan.seed, number, &tally);
                }
            }
        };
        let workers: Vec<_> =
            (0..thread::available_parallelism().map_or(1, |n| n.get())).map(|_| scope.spawn(work)).collect();
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        watch.end();
        for end in ended {
            if let Err(panic) = end {
                std::panic::resume_unwind(panic);
            }
        }
    });
    let tally = tally.into_inner().unwrap();
    println!("{tally}");
    let shown = tally.broken.iter().take(40).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(tally.broken.is_empty(), "{} cases break a rule; the first:\n{shown}", tally.broken.len());
    tally
}

/// One case, told, its folder kept.
fn one_case(subjects: &[Subject], seed: u64, chosen: &str) {
    let (name, number) = chosen.rsplit_once(':').expect("SUBJECT:NUMBER");
    let subject = subjects.iter().find(|subject| subject.name == name).expect("a subject of this name");
    let case = mutate::case(subject, seed, number.parse().expect("a number"));
    let watch = Watch::default();
    let bench = Bench::new(subject, &watch);
    println!("{} of {}: {:?}", case.what, subject.files[case.file].0, case.class);
    println!("{:?}", bench.run(&case, true));
    println!("{}", bench.keep(&case));
}

#[test]
fn a_share_of_the_mutations_is_never_silently_wrong() {
    run(&Plan { seed: seed(20_260_801), small: 50, large: 12, few: 100 });
}

#[test]
#[ignore = "minutes: 2,000 cases a kind"]
fn thousands_of_mutations_are_never_silently_wrong() {
    let tally = run(&Plan { seed: seed(4_711), small: 2000, large: 700, few: 2000 });
    if std::env::var_os("VDCONV_MUTATION_CASE").is_none() {
        for format in ["vhd", "vmdk", "iso", "raw"] {
            assert!(tally.of_format(format) >= 2000, "{format}");
        }
    }
}
