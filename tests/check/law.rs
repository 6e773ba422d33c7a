//! The law: what a conversion refuses or warns of, check never calls sound without a word, and by a name of its own; and it keeps its
//! limits on every image.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::common::{Ran, run, scratch, vdconv};
use super::mutate;
use super::subject::Subject;
use super::subjects;

/// Bytes of memory that a check may take (R10).
const MEMORY_KIB: u32 = 256 << 10;
const TIME: Duration = Duration::from_secs(10);

/// Checks under the limits of memory and time.
pub fn check(folder: &std::path::Path, name: &str) -> Ran {
    check_within(folder, name, TIME)
}

pub fn check_within(folder: &std::path::Path, name: &str, time: Duration) -> Ran {
    let began = Instant::now();
    let program = vdconv().get_program().to_os_string();
    let script = format!("ulimit -d {MEMORY_KIB}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.current_dir(folder).arg("-c").arg(script).arg(program).args(["check", name]);
    let ran = Ran::of(&mut command);
    assert!(began.elapsed() < time, "{name}: {:?}", began.elapsed());
    ran
}

fn hold(subject: &Subject, cases: std::ops::Range<u64>, broken: &mut Vec<String>) {
    let folder = scratch();
    let name = &subject.files[0].0;
    for (name, bytes) in &subject.files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    for number in cases {
        let case = mutate::case(subject, 20_260_802, number);
        let (file, original) = &subject.files[case.file];
        fs::write(folder.path().join(file), &case.bytes).unwrap();
        let converted = run(folder.path(), [name.as_str(), "out.raw", "--force"]);
        let _ = fs::remove_file(folder.path().join("out.raw"));
        let checked = check(folder.path(), name);
        let lines = checked.out.lines().count();
        let what = || {
            format!(
                "{}:{number}: {}\nconvert: {}check: exit {:?}\n{}{}",
                subject.name, case.what, converted.err, checked.status, checked.out, checked.err
            )
        };
        match (converted.status, checked.status) {
            _ if !matches!(checked.status, Some(0..=2)) => broken.push(what()),
            // What is found has a name of its own.
            _ if checked.out.contains("IMAGE-DAMAGED") => broken.push(what()),
            (Some(0), Some(2)) => broken.push(what()),
            (Some(0), _) if converted.err.contains("warning: ") && lines < 2 => broken.push(what()),
            (Some(0), _) => {}
            (_, Some(0)) => broken.push(what()),
            _ => {}
        }
        fs::write(folder.path().join(file), original).unwrap();
    }
}

fn law(cases: u64) {
    let subjects = subjects::all();
    let mut broken = Vec::new();
    for subject in &subjects {
        hold(subject, 0..if subject.small { cases } else { cases / 4 }, &mut broken);
    }
    let shown = broken.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(broken.is_empty(), "{} break the law; the first:\n{shown}", broken.len());
}

#[test]
fn what_a_conversion_refuses_or_warns_of_is_never_sound_without_a_word() {
    law(12);
}

#[test]
#[ignore = "minutes: hundreds of cases an image"]
fn the_law_holds_for_hundreds_of_mutations_of_each_image() {
    law(400);
}
