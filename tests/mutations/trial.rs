//! Runs the program on a mutated image, under limits of memory and time, and judges what came of it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::common::vmdk;
use super::common::{names, scratch};
use super::mutate::{Case, Class, Expected};
use super::subject::Subject;

/// KiB of data that a run may allocate (R10): refused by the system, so that an abort shows what touched no page as well.
const MEMORY: u32 = 256 << 10;
/// A run may take so long (R10).
const TIME: Duration = Duration::from_secs(10);

/// How a conversion of a mutated image ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Refused,
    /// The disk as it was, without a word.
    Right,
    /// The disk as it was, and a warning.
    RightAndTold,
    /// Another disk, and a warning.
    OtherAndTold,
    /// Another disk, and no word.
    Silent,
}

/// A folder with a subject's files, and the program run in it.
pub struct Bench<'a> {
    subject: &'a Subject,
    folder: TempDir,
    watch: &'a Watch,
}

impl<'a> Bench<'a> {
    pub fn new(subject: &'a Subject, watch: &'a Watch) -> Bench<'a> {
        let folder = scratch();
        for (name, bytes) in &subject.files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        Bench { subject, folder, watch }
    }

    /// As it is, the image is read without a word: else no mutation tells anything.
    pub fn is_sound(&self) -> Result<(), String> {
        let (ran, out) = self.convert("out.raw", self.subject.guest.len())?;
        match ran.code == Some(0) && !ran.warned && out.as_deref() == Some(&self.subject.guest) {
            true => Ok(()),
            false => Err(format!("unmutated: exit {:?}, the disk or a warning: {}", ran.code, ran.err)),
        }
    }

    /// Runs one case; `more`: other uses of the image too. An error breaks a rule, whatever was mutated.
    pub fn run(&self, case: &Case, more: bool) -> Result<Ending, String> {
        let path = self.folder.path().join(&self.subject.files[case.file].0);
        fs::write(&path, &case.bytes).unwrap();
        let ended = self.judge(case, more);
        for (n, (name, original)) in self.subject.files.iter().enumerate() {
            let want = if n == case.file { &case.bytes } else { original };
            if fs::read(self.folder.path().join(name)).ok().as_ref() != Some(want) {
                return Err(format!("R1: {name} was changed"));
            }
        }
        fs::write(path, &self.subject.files[case.file].1).unwrap();
        ended
    }

    fn judge(&self, case: &Case, more: bool) -> Result<Ending, String> {
        let padded;
        let want = match case.expected {
            Expected::Guest => &self.subject.guest,
            Expected::File => {
                let mut bytes = case.bytes.clone();
                bytes.resize(bytes.len().next_multiple_of(512), 0);
                padded = bytes;
                &padded
            }
        };
        let (ran, out) = self.convert("out.raw", want.len())?;
        if more {
            self.other_uses(&ran, out.as_deref().filter(|out| out.len() == want.len()))?;
        }
        if ran.code != Some(0) {
            return Ok(Ending::Refused);
        }
        let same = match (&out, &case.class) {
            (None, _) => false,
            (Some(out), _) if out == want => true,
            (Some(out), Class::Data { changed }) => {
                let other = out.iter().zip(want.iter()).filter(|(a, b)| a != b).count();
                out.len() == want.len() && other <= *changed
            }
            _ => false,
        };
        Ok(match (same, ran.warned) {
            (true, false) => Ending::Right,
            (true, true) => Ending::RightAndTold,
            (false, true) => Ending::OtherAndTold,
            (false, false) => Ending::Silent,
        })
    }

    /// Converts, and looks at what is left in the folder. The output's bytes, if it has `len`.
    fn convert(&self, output: &str, len: usize) -> Result<(Told, Option<Vec<u8>>), String> {
        let ran = self.vdconv(&[&self.subject.files[0].0, output, "--json"])?;
        let path = self.folder.path().join(output);
        let there = path.exists();
        if there != (ran.code == Some(0)) {
            return Err(format!("exit {:?}, and an output there: {there}: {}", ran.code, ran.err));
        }
        let known = |name: &String| self.subject.files.iter().any(|(file, _)| file == name) || name == output;
        if let Some(left) = names(self.folder.path()).iter().find(|name| !known(name)) {
            return Err(format!("left behind: {left}"));
        }
        let of_len = there && (output.ends_with(".vmdk") || fs::metadata(&path).unwrap().len() == len as u64);
        let bytes = of_len.then(|| fs::read(&path).unwrap());
        let read = match bytes {
            Some(_) if output.ends_with(".vmdk") && ran.size == Some(len as u64) => Some(vmdk::read(&path).guest),
            Some(_) if output.ends_with(".vmdk") => None,
            bytes => bytes,
        };
        if there {
            fs::remove_file(path).unwrap();
        }
        Ok((ran, read))
    }

    /// `info`, and another output: they end as they should, and the output holds the same disk.
    fn other_uses(&self, raw: &Told, disk: Option<&[u8]>) -> Result<(), String> {
        let ran = self.vdconv(&["info", "--json", &self.subject.files[0].0])?;
        if raw.code == Some(0) && ran.code != Some(0) {
            return Err(format!("it is converted, and info says: {}", ran.err));
        }
        let Some(disk) = disk else { return Ok(()) };
        let (ran, other) = self.convert("out.vmdk", disk.len())?;
        match (ran.code, other) {
            (Some(0), Some(other)) if other == disk => Ok(()),
            (code, _) => Err(format!("as VMDK: exit {code:?}, or another disk than as raw: {}", ran.err)),
        }
    }

    /// Runs the program, and asks what must hold for every run.
    fn vdconv(&self, args: &[&str]) -> Result<Told, String> {
        let mut command = Command::new("/bin/sh");
        command
            .current_dir(self.folder.path())
            .args(["-c", &format!("ulimit -d {MEMORY}; exec \"$@\""), "sh", env!("CARGO_BIN_EXE_vdconv")])
            .args(args)
            .env_remove("SOURCE_DATE_EPOCH")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let (Output { status, stdout, stderr }, took) = self.watch.output(&mut command);
        let err = String::from_utf8_lossy(&stderr).into_owned();
        let broken = |what: &str| Err(format!("{args:?}: {what}: {status}, {took:?}: {err}"));
        if took > TIME {
            return broken("more than 10 s");
        }
        if err.contains("panick") || err.contains("a fault of vdconv itself") {
            return broken("a panic");
        }
        let Some(code @ (0 | 1)) = status.code() else { return broken("no exit of 0 or 1") };
        let is_warning = |line: &&str| line.starts_with("vdconv: warning: ");
        let errors = err.lines().filter(|line| line.starts_with("vdconv: ") && !is_warning(line)).count();
        if errors != code as usize {
            return broken("not one line of error for an exit of 1, or one for 0");
        }
        let json: Result<serde_json::Value, _> = serde_json::from_slice(&stdout);
        let Ok(json) = json else { return broken("no JSON") };
        let size = json["input"]["virtual_size"].as_u64();
        Ok(Told { code: Some(code), warned: err.lines().any(|line| is_warning(&line)), size, err })
    }

    /// The mutated image, for a look at it: the folder stays.
    pub fn keep(self, case: &Case) -> String {
        fs::write(self.folder.path().join(&self.subject.files[case.file].0), &case.bytes).unwrap();
        let shown = Path::display(self.folder.path()).to_string();
        let _stays = self.folder.keep();
        shown
    }
}

/// What a run said.
struct Told {
    code: Option<i32>,
    warned: bool,
    /// Bytes of the disk.
    size: Option<u64>,
    err: String,
}

/// Ends runs that do not end by themselves.
#[derive(Default)]
pub struct Watch {
    running: Mutex<Vec<(Pid, Instant)>>,
    over: AtomicBool,
}

impl Watch {
    /// Looks after the runs until `end` is called.
    pub fn look(&self) {
        while !self.over.load(Ordering::Relaxed) {
            for (pid, since) in self.running.lock().unwrap().iter() {
                if since.elapsed() > TIME + Duration::from_secs(1) {
                    let _ = kill_process(*pid, Signal::KILL);
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    fn output(&self, command: &mut Command) -> (Output, Duration) {
        let start = Instant::now();
        let child = command.spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        self.running.lock().unwrap().push((pid, start));
        let output = child.wait_with_output().unwrap();
        self.running.lock().unwrap().retain(|(other, _)| *other != pid);
        (output, start.elapsed())
    }
}
