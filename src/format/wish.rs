//! What is asked of an output.

use std::path::PathBuf;
use std::time::SystemTime;

use super::Format;
use crate::fault::{Fault, Kind};
use crate::image::{Adapter, Facts, Identifiers};

/// How hard an output is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// `--level`: 1 to 12.
    Level(i32),
    /// `--fast`: the most speed at little more size.
    Fast,
}

/// What the user, and the names of the files, ask of an output.
pub struct Wish {
    /// OUTPUT as typed; for messages.
    pub output: PathBuf,
    /// The file name that OUTPUT gets.
    pub file_name: std::ffi::OsString,
    /// `--adapter`.
    pub adapter: Option<Adapter>,
    /// Identifiers to record.
    pub identifiers: Identifiers,
    /// When the output is made, as it records that: SOURCE_DATE_EPOCH, or now.
    pub time: SystemTime,
    /// SOURCE_DATE_EPOCH is set: nothing of the machine or its folders may stand in the output.
    pub reproducible: bool,
    /// `--preallocate`.
    pub preallocate: bool,
    /// `--contiguous`.
    pub contiguous: bool,
    /// `--block-size`, in bytes.
    pub block_size: Option<u64>,
    /// `--level` or `--fast`.
    pub effort: Option<Effort>,
    /// `--hw-version`.
    pub hw_version: Option<u32>,
    /// The output cannot seek: it is a pipe.
    pub stream: bool,
    /// `--base`: what the output is a delta on top of.
    pub base: Option<Base>,
}

/// The image that an output is a delta on top of.
pub struct Base {
    /// As typed; for messages.
    pub name: PathBuf,
    /// What is known of it.
    pub facts: Facts,
    /// Its path from OUTPUT's folder.
    pub relative: PathBuf,
    /// Its path from the root.
    pub absolute: PathBuf,
    /// When it was last written to, where the system knows.
    pub modified: Option<SystemTime>,
}

impl Base {
    /// The refusal of a base that a child could not name, or that readers would refuse.
    pub fn refused(&self, what: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
        Fault::new(Kind::Unsupported, &self.name, what)
    }

    /// Its path from OUTPUT's folder, as a text of `/`.
    pub fn relative_text(&self) -> Result<String, Fault> {
        let parts: Option<Vec<&str>> = self.relative.iter().map(|part| part.to_str()).collect();
        parts
            .map(|parts| parts.join("/"))
            .ok_or_else(|| self.refused("--base: a name that is no Unicode cannot be recorded"))
    }
}

impl Wish {
    /// Of a user who asked for nothing in particular.
    pub fn new(output: PathBuf, file_name: std::ffi::OsString, identifiers: Identifiers) -> Wish {
        Wish {
            output,
            file_name,
            adapter: None,
            identifiers,
            time: SystemTime::now(),
            reproducible: false,
            preallocate: false,
            contiguous: false,
            block_size: None,
            effort: None,
            hw_version: None,
            stream: false,
            base: None,
        }
    }

    /// The base of a delta of this format for a disk of these facts; refused where the format's own readers would refuse the pair.
    pub fn base_of(&self, format: &Format, facts: &Facts) -> Result<&Base, Fault> {
        let Some(base) = &self.base else {
            return Err(Fault::new(
                Kind::Usage,
                &self.output,
                "this variant is a delta: --base names what it is on top of",
            ));
        };
        if base.facts.format != format.name {
            return Err(base
                .refused("--base: a delta is of its base's format")
                .found(format!("a {}", base.facts.title))
                .expected(format!("a {}", format.title)));
        }
        match base.facts.virtual_size == facts.virtual_size {
            true => Ok(base),
            false => Err(base
                .refused("--base: the base's disk has another size")
                .found(format!("{} bytes", base.facts.virtual_size))
                .expected(facts.virtual_size)),
        }
    }
}
