//! `vdconv check`: every id of every format has an image with just that fault; sound images have none; what a conversion refuses or warns
//! of is never sound.

mod case;
#[path = "../common/mod.rs"]
mod common;
mod disc;
#[cfg(unix)]
mod hostile;
#[cfg(unix)]
mod hostile_disc;
#[cfg(unix)]
mod judges;
#[cfg(unix)]
mod judges_disc;
#[cfg(unix)]
mod law;
#[cfg(unix)]
#[path = "../mutations/map_vhd.rs"]
mod map_vhd;
#[cfg(unix)]
#[path = "../mutations/map_vmdk.rs"]
mod map_vmdk;
#[cfg(unix)]
#[path = "../mutations/mutate.rs"]
#[expect(dead_code, reason = "here it is asked what was changed, not what must come out of it")]
mod mutate;
#[cfg(unix)]
#[path = "../mutations/prng.rs"]
mod prng;
mod program;
mod sound;
#[cfg(unix)]
#[path = "../mutations/subject.rs"]
#[expect(dead_code, reason = "here it is asked what was changed, not what must come out of it")]
mod subject;
#[cfg(unix)]
#[path = "../mutations/subjects.rs"]
mod subjects;
mod vhd;
mod vmdk;

use std::collections::BTreeSet;

use case::Case;
use vdconv::format::{COMMON, FORMATS};

/// All of them.
fn cases() -> Vec<Case> {
    [vhd::cases(), vmdk::cases(), disc::cases()].into_iter().flatten().collect()
}

#[test]
fn each_case_is_found_at_its_byte_and_nothing_else_is() {
    let wrong: Vec<_> = cases().iter().filter_map(|case| case.run().err()).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases().len(), wrong.join("\n"));
}

#[test]
fn every_id_of_every_format_has_a_case_and_a_line_in_the_readme() {
    let cased: BTreeSet<_> = cases().iter().map(|case| case.id).collect();
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let mut ids = BTreeSet::new();
    for rule in FORMATS.iter().filter_map(|format| format.check.as_ref()).flat_map(|check| check.rules) {
        assert!(ids.insert(rule.id), "{} comes twice", rule.id);
    }
    let missing: Vec<_> = ids.difference(&cased).collect();
    assert!(missing.is_empty(), "no case: {missing:?}");
    let unknown: Vec<_> = cased.difference(&ids).collect();
    assert!(unknown.is_empty(), "no such id: {unknown:?}");
    let untold: Vec<_> = ids
        .into_iter()
        .chain(COMMON.iter().map(|rule| rule.id))
        .filter(|id| !readme.contains(&format!("`{id}`")))
        .collect();
    assert!(untold.is_empty(), "not in README.md: {untold:?}");
}
