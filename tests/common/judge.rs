//! Programs with no code in common with vdconv that say what an image holds.

use std::path::Path;
use std::process::Command;

use super::{Ran, shared_file};

/// What the judges say of `image`: one line each, `NAME<TAB>SIZE<TAB>SHA256` or `NAME<TAB>error: ...`.
#[track_caller]
pub fn judged(judge: &Path, image: &Path, expect: &Path, options: &[&str]) {
    let ran = Ran::of(Command::new(judge).args(options).arg("--expect").arg(expect).arg(image));
    assert_eq!(ran.status, Some(0), "{}: {}{}", image.display(), ran.out, ran.err);
    let refusals: Vec<_> = ran.out.lines().filter(|l| l.contains("error:")).collect();
    let missing = |line: &&&str| line.starts_with("vbox") && !vbox_is_there();
    assert_eq!(refusals.iter().filter(|l| !missing(l)).count(), 0, "{}: {}", image.display(), ran.out);
    println!("{}\n{}", image.file_name().unwrap().display(), ran.out);
}

/// VirtualBox comes from a suite that moves: where it cannot be had, the others judge.
pub fn vbox_is_there() -> bool {
    shared_file("tools/vboxmanage")
        .is_some_and(|tool| Command::new(tool).arg("--version").output().is_ok_and(|o| o.status.success()))
}

/// Runs a program that must succeed; its output.
#[track_caller]
pub fn tool(command: &mut Command) -> String {
    let ran = Ran::of(command);
    assert_eq!(ran.status, Some(0), "{command:?}: {}{}", ran.out, ran.err);
    ran.out
}

/// A raw disk of `size` bytes with one sector of data at each of these.
#[cfg(unix)]
pub fn sparse_raw(path: &Path, size: u64, places: &[u64]) {
    use std::os::unix::fs::FileExt;
    let raw = std::fs::File::create(path).unwrap();
    raw.set_len(size).unwrap();
    for place in places {
        raw.write_all_at(&super::pattern(1, |_| false), *place).unwrap();
    }
}
