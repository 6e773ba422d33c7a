//! The shapes of `--json`. Sizes and offsets in bytes, keys in snake_case, enums as the words of the command line.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;
use vdconv::engine::Digested;
use vdconv::fault::Fault;
use vdconv::format::Checked;
use vdconv::guest::Guest;
use vdconv::image::{Creator, Disk, Extent, Finding, Geometry, Losses, Lost, Severity};

use super::report_guest::Inside;
use super::{STDOUT, show};

/// Version of these shapes; a key that goes or changes its meaning raises it.
const SCHEMA: u32 = 1;

/// Around every report.
#[derive(Serialize)]
pub struct Envelope<T: Serialize> {
    vdconv: &'static str,
    schema: u32,
    #[serde(flatten)]
    body: T,
}

/// An error or a warning.
#[derive(Serialize)]
pub struct Problem {
    kind: &'static str,
    file: Option<String>,
    offset: Option<u64>,
    message: String,
    hint: Option<String>,
}

impl From<&Fault> for Problem {
    fn from(fault: &Fault) -> Problem {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_string());
        Problem {
            kind: fault.kind().word(),
            file: text(&fault.file().to_string_lossy()),
            offset: fault.byte(),
            message: fault.message(),
            hint: text(fault.hint()),
        }
    }
}

/// `{"error": ...}`
#[derive(Serialize)]
pub struct Failure {
    pub error: Problem,
}

/// What is known about an image.
#[derive(Serialize)]
pub struct Image {
    pub file: String,
    pub format: &'static str,
    pub subformat: Option<&'static str>,
    pub virtual_size: u64,
    pub logical_sector_size: u32,
    pub file_size: u64,
    pub allocated_size: u64,
    pub block_size: Option<u64>,
    pub uuid: Option<String>,
    pub cid: Option<String>,
    pub chain: Vec<String>,
    pub files: Vec<String>,
    pub created: Option<String>,
    pub creator: Option<Creator>,
    pub geometry: Option<Shape>,
    pub adapter: Option<&'static str>,
    /// By the format's own names, which are no keys of ours.
    pub recorded: Vec<Recorded>,
    pub extents: Vec<Extent>,
    pub extent_count: u64,
    pub missing: Vec<Problem>,
    #[serde(flatten)]
    pub inside: Inside,
    pub advice: Vec<String>,
    pub warnings: Vec<Problem>,
}

/// Something that an image records.
#[derive(Serialize)]
pub struct Recorded {
    pub name: &'static str,
    pub value: String,
}

/// A recorded geometry and what it spans.
#[derive(Serialize)]
pub struct Shape {
    #[serde(flatten)]
    pub geometry: Geometry,
    pub bytes: u64,
}

impl Image {
    /// Of an opened disk and the warnings that it gave.
    pub fn of(disk: &Disk, warnings: &[Fault], guest: Guest, advice: Vec<String>) -> Image {
        let facts = &disk.facts;
        Image {
            file: disk.files().first().map(|f| f.name().to_string_lossy().into_owned()).unwrap_or_default(),
            format: facts.format,
            subformat: (!facts.subformat.is_empty()).then_some(facts.subformat),
            virtual_size: facts.virtual_size,
            logical_sector_size: facts.logical_sector_size,
            file_size: disk.files().iter().map(|f| f.len()).sum(),
            allocated_size: disk.files().iter().map(|f| f.allocated()).sum(),
            block_size: facts.block_size,
            uuid: facts.uuid.map(|uuid| uuid.to_string()),
            cid: facts.cid.map(|cid| format!("{cid:08x}")),
            chain: disk.images().iter().map(|image| image.to_string_lossy().into_owned()).collect(),
            files: disk.files().iter().map(|file| file.name().to_string_lossy().into_owned()).collect(),
            created: facts.created.map(|time| humantime::format_rfc3339_seconds(time).to_string()),
            creator: facts.creator.clone(),
            geometry: facts.geometry.map(|geometry| Shape { geometry, bytes: geometry.bytes() }),
            adapter: facts.adapter.map(|adapter| adapter.word()),
            recorded: facts.recorded.iter().map(|(name, value)| Recorded { name, value: value.clone() }).collect(),
            extents: facts.extents.clone(),
            extent_count: facts.extent_count,
            missing: facts.missing.iter().map(Problem::from).collect(),
            inside: Inside::of(guest),
            advice,
            warnings: warnings.iter().map(Problem::from).collect(),
        }
    }
}

/// An image of `info`, or why it could not be opened.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Answer {
    Image(Box<Image>),
    Failure { file: String, error: Problem },
}

/// `{"images": [...]}`
#[derive(Serialize)]
pub struct Images {
    pub images: Vec<Answer>,
}

/// What was found in an image.
#[derive(Serialize)]
pub struct Checkup {
    pub file: String,
    pub format: &'static str,
    pub sound: bool,
    pub errors: u64,
    pub warnings: u64,
    pub notes: u64,
    pub findings: Vec<FindingLine>,
    /// By id, how many more there are than are listed.
    pub more: BTreeMap<&'static str, u64>,
    /// What was looked at, by name.
    pub counters: BTreeMap<&'static str, u64>,
}

/// One thing that was found.
#[derive(Serialize)]
pub struct FindingLine {
    id: &'static str,
    severity: &'static str,
    file: Option<String>,
    offset: Option<u64>,
    message: String,
    found: Option<String>,
    expected: Option<String>,
    hint: Option<String>,
}

impl Checkup {
    /// Of a check of the image `name`.
    pub fn of(name: &Path, checked: &Checked) -> Checkup {
        let findings = &checked.findings;
        let text = |text: &str| (!text.is_empty()).then(|| text.to_string());
        let line = |finding: &Finding| FindingLine {
            id: finding.id,
            severity: finding.severity.word(),
            file: text(&finding.fault.file().to_string_lossy()),
            offset: finding.fault.byte(),
            message: finding.fault.sort().message(),
            found: text(finding.fault.found_text()),
            expected: text(finding.fault.expected_text()),
            hint: text(finding.fault.hint()),
        };
        Checkup {
            file: name.to_string_lossy().into_owned(),
            format: checked.format.name,
            sound: findings.is_sound(),
            errors: findings.number(Severity::Error),
            warnings: findings.number(Severity::Warning),
            notes: findings.number(Severity::Note),
            findings: findings.list().into_iter().map(line).collect(),
            more: findings.surplus().collect(),
            counters: findings.counts().clone(),
        }
    }
}

/// A range that was lost.
#[derive(Serialize)]
struct LostRange {
    start: u64,
    length: u64,
    kind: &'static str,
    file: Option<String>,
    offset: Option<u64>,
    message: String,
}

/// The ranges that were lost, one by one: there may be a million.
pub struct LostRanges<'a>(pub &'a Losses);

impl Serialize for LostRanges<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(self.0.iter().map(|Lost { guest, fault }| {
            let Problem { kind, file, offset, message, .. } = Problem::from(&fault);
            LostRange { start: guest.start, length: guest.end - guest.start, kind, file, offset, message }
        }))
    }
}

/// A digest of a guest's content.
#[derive(Serialize)]
pub struct Digest {
    algorithm: &'static str,
    value: String,
}

impl From<Digested> for Digest {
    fn from(digest: Digested) -> Digest {
        Digest { algorithm: digest.algorithm.word(), value: digest.to_string() }
    }
}

/// What a conversion did.
#[derive(Serialize)]
pub struct Conversion<'a> {
    pub input: Source,
    pub output: Product,
    pub seconds: f64,
    /// Of them waiting for stable storage.
    pub seconds_syncing: f64,
    pub jobs: usize,
    pub bytes_read: u64,
    pub bytes_written: u64,
    /// Blocks of the output that are the inputs' own.
    pub bytes_shared: u64,
    pub digest: Option<Digest>,
    pub warnings: Vec<Problem>,
    pub lost_bytes: u64,
    pub lost: LostRanges<'a>,
}

#[derive(Serialize)]
pub struct Source {
    pub file: String,
    pub format: &'static str,
    pub subformat: Option<&'static str>,
    pub virtual_size: u64,
    pub stored: u64,
}

#[derive(Serialize)]
pub struct Product {
    pub files: Vec<String>,
    pub format: &'static str,
    pub subformat: Option<&'static str>,
    pub file_size: u64,
    pub allocated_size: u64,
    pub uuid: Option<String>,
    pub cid: Option<String>,
}

/// What deceives the eye stands in strings alone, and JSON takes it there in this form.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> std::io::Result<()> {
        for c in fragment.chars() {
            match show::deceives(c) {
                true => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?,
                false => write!(out, "{c}")?,
            }
        }
        Ok(())
    }
}

/// Prints a report as one line.
pub fn print(body: impl Serialize) -> std::io::Result<()> {
    let envelope = Envelope { vdconv: env!("CARGO_PKG_VERSION"), schema: SCHEMA, body };
    // A list may be long: written as it is made.
    let mut out = BufWriter::new(std::io::stdout().lock());
    envelope.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Escaping))?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Prints a failure as JSON, after its message was printed as text.
pub fn print_error(fault: &Fault) {
    if let Err(error) = print(Failure { error: fault.into() }) {
        show::error(&Fault::io(STDOUT, "cannot write", error));
    }
}
