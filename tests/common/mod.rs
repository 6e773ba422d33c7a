//! What the tests share. Nothing here uses vdconv's own code: images are built and read by the specifications alone.
#![allow(dead_code)] // each test program uses a part of it

pub mod expect;
pub mod iso;
pub mod judge;
pub mod kinds;
pub mod packed;
#[cfg(unix)]
pub mod process;
pub mod vhd;
pub mod vmdk;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// The program under test, without the environment's influence on results.
pub fn vdconv() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vdconv"));
    command.stdin(Stdio::null()).env_remove("SOURCE_DATE_EPOCH").env_remove("NO_COLOR");
    command
}

/// Runs the program in `folder`.
pub fn run<S: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = S>) -> Ran {
    Ran::of(vdconv().current_dir(folder).args(args))
}

/// How a run ended.
pub struct Ran {
    pub status: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(command: &mut Command) -> Ran {
        Ran::from(command.output().expect("the program starts"))
    }

    /// How a program ended.
    pub fn from(Output { status, stdout, stderr }: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let ran = Ran { status: status.code(), out: text(stdout), err: text(stderr) };
        assert!(!ran.err.contains("panicked at"), "a panic: {}", ran.err);
        ran
    }

    /// It worked, and said nothing but the closing line.
    #[track_caller]
    pub fn succeeds(self) -> Ran {
        assert_eq!(self.status, Some(0), "{}", self.err);
        assert!(!self.err.contains("warning"), "{}", self.err);
        self
    }

    /// It worked, with a warning that contains each of `texts`.
    #[track_caller]
    pub fn warns(self, texts: &[&str]) -> Ran {
        assert_eq!(self.status, Some(0), "{}", self.err);
        let warnings: Vec<_> = self.err.lines().filter(|l| l.starts_with("vdconv: warning: ")).collect();
        assert!(
            warnings.iter().any(|w| texts.iter().all(|t| w.contains(t))),
            "no warning with {texts:?} in:\n{}",
            self.err
        );
        self
    }

    /// It failed with this status; the message is one line `vdconv: ...`, with at most a hint behind it, and contains each of `texts`.
    #[track_caller]
    pub fn fails(self, status: i32, texts: &[&str]) -> Ran {
        assert_eq!(self.status, Some(status), "{}", self.err);
        let message =
            self.err.lines().find(|l| !l.contains("warning: ") && !l.starts_with("hint: ")).unwrap_or_default();
        assert!(message.starts_with("vdconv: "), "{}", self.err);
        for text in texts {
            assert!(self.err.contains(text), "no {text:?} in:\n{}", self.err);
        }
        self
    }
}

/// Runs the program with these bytes on its standard input.
pub fn fed_to(mut command: Command, bytes: &[u8]) -> Output {
    use std::io::Write;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // One that refuses does not read on.
        scope.spawn(move || drop(stdin.write_all(bytes)));
        child.wait_with_output().unwrap()
    })
}

/// The same, in `folder`.
pub fn fed(folder: &Path, args: &[&str], bytes: &[u8]) -> Ran {
    let mut command = vdconv();
    command.current_dir(folder).args(args);
    let end = fed_to(command, bytes);
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { status: end.status.code(), out: text(end.stdout), err: text(end.stderr) }
}

/// An empty folder.
pub fn scratch() -> TempDir {
    tempfile::Builder::new().prefix("vdconv-test-").tempdir().expect("a temporary folder")
}

/// The names in a folder, sorted; hidden ones too.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A file of `fixtures/`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Sectors that carry their own number, so that every shift, loss or stale byte shows. `zero` says which are zero.
pub fn pattern(sectors: u64, zero: impl Fn(u64) -> bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(sectors as usize * 512);
    for n in 0..sectors {
        let mut sector = [if zero(n) { 0 } else { 0xA7 }; 512];
        if !zero(n) {
            let text = format!("sector {n:12}\n");
            sector[..text.len()].copy_from_slice(text.as_bytes());
        }
        bytes.extend(sector);
    }
    bytes
}

/// Bytes that look random, always the same ones: nothing makes them smaller. `len` is whole words of 8.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let words = (0..len / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
}

/// The folder of judges and corpus: VDCONV_SHARED, else `../shared`.
pub fn shared() -> PathBuf {
    std::env::var_os("VDCONV_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from)
}

/// What a test needs and does not find: it says so and is skipped, unless VDCONV_REQUIRE_ALL=1 makes that a failure.
pub fn skipped(what: &str) {
    println!("skipped: {what}");
    assert!(std::env::var_os("VDCONV_REQUIRE_ALL").is_none_or(|v| v != "1"), "skipped: {what}");
}

/// A file of the shared folder, or `None` after saying that the test is skipped.
pub fn shared_file(name: &str) -> Option<PathBuf> {
    let path = shared().join(name);
    if path.exists() {
        return Some(path);
    }
    skipped(&format!("{name} is not there"));
    None
}

/// Is this program on the path? If not, says that the test is skipped.
pub fn has_program(name: &str) -> bool {
    let found = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        skipped(&format!("{name} is not installed"));
    }
    found
}

/// Are all of these on the path? If not, says that the test is skipped, at the first that is not.
pub fn has_programs(names: &[&str]) -> bool {
    names.iter().all(|name| has_program(name))
}
