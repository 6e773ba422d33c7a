//! Runs that are stopped in their middle, and looked at while they run.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, setpriority_process};

use super::Ran;

/// Starts a conversion and stops it (SIGSTOP) in its middle: as soon as something was written to a temporary file in `folder`.
pub fn stopped_in_the_middle(command: &mut Command, folder: &Path) -> (Child, Pid) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    // Who looks comes first, however busy the machine is.
    setpriority_process(Some(pid), 19).unwrap();
    let start = Instant::now();
    let begun = || {
        std::fs::read_dir(folder).unwrap().filter_map(|e| e.ok()).any(|e| {
            let name = e.file_name().to_string_lossy().into_owned();
            let temporary = name.starts_with(".vdconv-") && !name.ends_with(".list");
            temporary && e.metadata().is_ok_and(|meta| std::os::unix::fs::MetadataExt::blocks(&meta) > 0)
        })
    };
    while !begun() {
        assert!(start.elapsed() < Duration::from_secs(20), "it never wrote anything");
        assert_eq!(child.try_wait().unwrap(), None, "it ended before it was seen to write");
        thread::sleep(Duration::from_micros(200));
    }
    kill_process(pid, Signal::STOP).unwrap();
    (child, pid)
}

/// Lets a stopped run go on to its end: how it ended, and what it said.
pub fn end(mut child: Child, pid: Pid) -> (ExitStatus, String) {
    // One that was killed meanwhile has nothing to go on with.
    let _ = kill_process(pid, Signal::CONT);
    let status = child.wait().unwrap();
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (status, err)
}

/// Runs a command and samples its peak memory: how it ended, MiB, and the time it took.
pub fn measured(command: &mut Command) -> (ExitStatus, u64, Duration) {
    let start = Instant::now();
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let (path, mut peak) = (format!("/proc/{}/status", child.id()), 0u64);
    loop {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("VmHWM:"));
        peak = peak.max(line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            return (status, peak >> 10, start.elapsed());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// May strace be used, to kill a run at a call or to make one fail? If not, says that the test is skipped.
pub fn may_trace() -> bool {
    let may = Command::new("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success());
    if !may {
        super::skipped("strace is not installed, or may not trace");
    }
    may
}

/// strace in `folder`, which writes these calls of the program that it is to be given to the file `log`.
pub fn traced(folder: &Path, calls: &str, log: &str) -> Command {
    let mut command = Command::new("strace");
    command.current_dir(folder).args(["-f", "-qq", "-o", log, "-e", &format!("trace={calls}")]);
    command
}

/// The program in `folder`, with something done to these of its calls: `error=EIO:when=2`, `signal=KILL:when=3`.
pub fn with_fault(folder: &Path, calls: &str, fault: &str) -> Command {
    let mut command = traced(folder, calls, "/dev/null");
    command.args(["-e", &format!("inject={calls}:{fault}"), env!("CARGO_BIN_EXE_vdconv")]);
    command
}

/// Runs a command in `folder`: the bytes of each of its reads at a place of a file.
pub fn reads(folder: &Path, command: &[&str]) -> (Ran, Vec<u64>) {
    let ran = Ran::of(traced(folder, "pread64,preadv", "reads").args(command));
    let calls = std::fs::read_to_string(folder.join("reads")).unwrap();
    std::fs::remove_file(folder.join("reads")).unwrap();
    let returned = |line: &str| line.rsplit_once(" = ").and_then(|(_, count)| count.trim().parse().ok());
    (ran, calls.lines().filter_map(returned).collect())
}
