//! The one error type: what is wrong, in which file, at which byte, what was found, what was expected, what to do.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What sort of thing went wrong. Decides the exit status; one word in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The file is something else than what was asked for, or than anything that vdconv reads.
    NotThisFormat,
    /// The file breaks its format's rules, or is cut short.
    Damaged,
    /// Legal, and not read or written by this version.
    Unsupported,
    /// Larger than the target format, or vdconv, can hold.
    OverLimit,
    /// A file is not there.
    NotFound,
    /// A name in an image leads out of the image's folder.
    Outside,
    /// The source changed while it was read, or an identity does not match.
    Changed,
    /// Somebody else has the image in use.
    Locked,
    /// The output exists.
    Exists,
    /// The disk is full, or a quota or size limit is reached.
    NoSpace,
    /// The system refused to read or write.
    Io,
    /// A signal came.
    Interrupted,
    /// The command line asks for what cannot be.
    Usage,
}

impl Kind {
    /// The word that `--json` prints.
    pub fn word(self) -> &'static str {
        match self {
            Kind::NotThisFormat => "not_this_format",
            Kind::Damaged => "damaged",
            Kind::Unsupported => "unsupported",
            Kind::OverLimit => "over_limit",
            Kind::NotFound => "not_found",
            Kind::Outside => "outside",
            Kind::Changed => "changed",
            Kind::Locked => "locked",
            Kind::Exists => "exists",
            Kind::NoSpace => "no_space",
            Kind::Io => "io",
            Kind::Interrupted => "interrupted",
            Kind::Usage => "usage",
        }
    }
}

/// Characters of what was found, or expected, that are kept: both may come from a file, which may say megabytes.
const MOST_TOLD: usize = 4096;

/// A text that ends where it becomes too long to be read.
#[derive(Default)]
struct Short {
    text: String,
    chars: usize,
}

impl Short {
    fn of(told: impl fmt::Display) -> String {
        let mut short = Short::default();
        // The one error is that it is full.
        if write!(short, "{told}").is_err() {
            short.text.push('…');
        }
        short.text
    }
}

impl fmt::Write for Short {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = MOST_TOLD - self.chars;
        match part.char_indices().nth(room) {
            None => {
                self.chars += part.chars().count();
                self.text.push_str(part);
                Ok(())
            }
            Some((end, _)) => {
                self.chars = MOST_TOLD;
                self.text.push_str(part.get(..end).unwrap_or_default());
                Err(fmt::Error)
            }
        }
    }
}

/// An error or a warning. Cheap to clone and small to return.
#[derive(Debug, Clone)]
pub struct Fault(Arc<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    kind: Kind,
    file: PathBuf,
    byte: Option<u64>,
    field: Cow<'static, str>,
    found: String,
    expected: String,
    advice: Cow<'static, str>,
    source: Option<Arc<io::Error>>,
    /// The medium does not give the bytes: trying elsewhere may succeed.
    medium: bool,
}

impl Fault {
    /// A fault in `file`; `field` names the structure or says what is wrong.
    pub fn new(kind: Kind, file: impl Into<PathBuf>, field: impl Into<Cow<'static, str>>) -> Fault {
        Fault(Arc::new(Inner {
            kind,
            file: file.into(),
            byte: None,
            field: field.into(),
            found: String::new(),
            expected: String::new(),
            advice: Cow::Borrowed(""),
            source: None,
            medium: false,
        }))
    }

    /// The system's refusal; its code decides the kind.
    pub fn io(file: impl Into<PathBuf>, doing: impl Into<Cow<'static, str>>, source: io::Error) -> Fault {
        let kind = match source.kind() {
            io::ErrorKind::NotFound => Kind::NotFound,
            io::ErrorKind::AlreadyExists => Kind::Exists,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Kind::NoSpace,
            _ => Kind::Io,
        };
        Fault::new(kind, file, doing).edit(|f| f.source = Some(Arc::new(source)))
    }

    /// A file is damaged at `byte`.
    pub fn damaged(file: &Path, byte: u64, field: impl Into<Cow<'static, str>>) -> Fault {
        Fault::new(Kind::Damaged, file, field).at(byte)
    }

    /// What cannot be unless our own code is wrong; an error all the same, so that nothing is published.
    pub fn bug(what: &'static str) -> Fault {
        Fault::new(Kind::Io, "", what).advice("this is a fault of vdconv itself; please report it")
    }

    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Fault {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// The byte offset in the file.
    pub fn at(self, byte: u64) -> Fault {
        self.edit(|f| f.byte = Some(byte))
    }

    /// What stands there.
    pub fn found(self, found: impl fmt::Display) -> Fault {
        self.edit(|f| f.found = Short::of(found))
    }

    /// What should stand there; printed after "expected".
    pub fn expected(self, expected: impl fmt::Display) -> Fault {
        self.edit(|f| f.expected = Short::of(format_args!("expected {expected}")))
    }

    /// What was found is held against this; printed as it is.
    pub fn against(self, expected: impl fmt::Display) -> Fault {
        self.edit(|f| f.expected = Short::of(expected))
    }

    /// What the user can do: the hint line.
    pub fn advice(self, advice: impl Into<Cow<'static, str>>) -> Fault {
        self.edit(|f| f.advice = advice.into())
    }

    /// The medium does not give these bytes, while others of the file may be had.
    pub fn of_medium(self) -> Fault {
        self.edit(|f| f.medium = true)
    }

    /// Does the medium refuse these bytes, and these alone?
    pub fn is_of_medium(&self) -> bool {
        self.0.medium
    }

    /// Is it about bytes that are damaged or unreadable, so that all else of the disk may be had? A source that changes, a file that
    /// went away and a fault of our own say nothing about bytes.
    pub fn is_about_bytes(&self) -> bool {
        self.0.kind == Kind::Damaged || (self.0.kind == Kind::Io && self.0.medium)
    }

    /// The same fault of another kind.
    pub fn of_kind(self, kind: Kind) -> Fault {
        self.edit(|f| f.kind = kind)
    }

    /// What sort of fault it is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The file it lies in; empty where none is concerned.
    pub fn file(&self) -> &Path {
        &self.0.file
    }

    /// The byte offset in the file.
    pub fn byte(&self) -> Option<u64> {
        self.0.byte
    }

    /// The structure, or what is wrong, without numbers: the same for all faults of one sort.
    pub fn field(&self) -> &str {
        &self.0.field
    }

    /// What stands there; empty where that is not told.
    pub fn found_text(&self) -> &str {
        &self.0.found
    }

    /// What should stand there, or what that is held against; empty where that is not told.
    pub fn expected_text(&self) -> &str {
        self.0.expected.strip_prefix("expected ").unwrap_or(&self.0.expected)
    }

    /// What to do; empty where there is nothing.
    pub fn hint(&self) -> &str {
        &self.0.advice
    }

    /// What is wrong without the numbers of this place: field and the system's reason. The same for all faults of one sort.
    pub fn sort(&self) -> Fault {
        let Inner { kind, file, field, source, medium, .. } = &*self.0;
        let fault = Fault::new(*kind, file.clone(), field.clone());
        fault.edit(|f| (f.source, f.medium) = (source.clone(), *medium))
    }

    /// Is it of the same sort as `other`: the same but for the place and its numbers? Asked of millions of them: nothing is made for it.
    pub fn is_like(&self, other: &Fault) -> bool {
        let reason = |fault: &Fault| fault.0.source.as_ref().map(|source| source.to_string());
        let (a, b) = (&*self.0, &*other.0);
        Arc::ptr_eq(&self.0, &other.0)
            || (a.kind == b.kind
                && a.field == b.field
                && a.medium == b.medium
                && a.file == b.file
                && (a.source.is_none() && b.source.is_none() || reason(self) == reason(other)))
    }

    /// The message without the file.
    pub fn message(&self) -> String {
        let f = &*self.0;
        let mut text = String::new();
        if let Some(byte) = f.byte {
            text.push_str(&format!("at byte {byte}: "));
        }
        text.push_str(&f.field);
        match (f.found.as_str(), f.expected.as_str()) {
            ("", "") => {}
            (found, "") => text.push_str(&format!(" (found {found})")),
            ("", expected) => text.push_str(&format!(" ({expected})")),
            (found, expected) => text.push_str(&format!(" (found {found}, {expected})")),
        }
        if let Some(source) = &f.source {
            text.push_str(&format!(": {}", reason(source)));
        }
        text
    }
}

/// The system's words, without the "(os error N)" that Rust appends.
fn reason(source: &io::Error) -> String {
    let text = source.to_string();
    match text.find(" (os error") {
        Some(cut) => text[..cut].to_string(),
        None => text,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.file.as_os_str().is_empty() {
            return out.write_str(&self.message());
        }
        write!(out, "{}: {}", self.0.file.display(), self.message())
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_file_byte_found_and_what_it_is_held_against() {
        let fault = Fault::damaged(Path::new("a.vmdk"), 512, "grain directory lies outside the file")
            .found("sector 90112")
            .against("the file has 2048");
        assert_eq!(
            fault.to_string(),
            "a.vmdk: at byte 512: grain directory lies outside the file (found sector 90112, the file has 2048)"
        );
        let fault = Fault::damaged(Path::new("a.vhd"), 64, "VHD footer checksum").found("0x1").expected("0x2");
        assert_eq!(fault.to_string(), "a.vhd: at byte 64: VHD footer checksum (found 0x1, expected 0x2)");
    }

    #[test]
    fn what_a_file_says_is_told_as_far_as_it_can_be_read() {
        let told = |text: &str| Fault::damaged(Path::new("a"), 0, "x").found(text).expected(text).against(text);
        for fits in ["", "short", &"é".repeat(MOST_TOLD)] {
            assert_eq!((told(fits).found_text(), told(fits).expected_text()), (fits, fits));
        }
        let cut = format!("{}…", "é".repeat(MOST_TOLD));
        let fault = told(&"é".repeat(MOST_TOLD + 1));
        assert_eq!((fault.found_text(), fault.expected_text()), (cut.as_str(), cut.as_str()));
        let parts = Fault::damaged(Path::new("a"), 0, "x").found(format_args!("{}{}", "é".repeat(MOST_TOLD), "yy"));
        assert_eq!(parts.found_text(), cut);
    }

    #[test]
    fn a_full_disk_is_no_space_and_keeps_the_systems_reason() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let fault = Fault::io("out.vmdk", "cannot write", full);
        assert_eq!(fault.kind(), Kind::NoSpace);
        assert_eq!(fault.to_string(), "out.vmdk: cannot write: no storage space");
        #[cfg(unix)]
        assert_eq!(
            Fault::io("o", "cannot write", io::Error::from_raw_os_error(28)).to_string(),
            "o: cannot write: No space left on device"
        );
    }
}
