//! What is to be written: by `-O` and `-s`, or by OUTPUT's ending.

use vdconv::fault::{Fault, Kind};
use vdconv::format::{self, FORMATS, Format, Records, Subformat, Takes};

use super::args::ConvertArgs;
use super::usage;

/// What is to be written.
#[derive(Clone, Copy)]
pub struct OutputKind {
    pub format: &'static Format,
    pub subformat: &'static Subformat,
}

impl OutputKind {
    /// By `-O` and `-s`, or by OUTPUT's ending; options that would be without effect are refused.
    pub fn choose(args: &ConvertArgs) -> Result<OutputKind, Fault> {
        let format = args.output_format.or_else(|| format::by_output_ending(&args.output)).ok_or_else(|| {
            let endings: Vec<_> =
                FORMATS.iter().flat_map(|f| f.output_endings).map(|ending| format!(".{ending}")).collect();
            Fault::new(Kind::Usage, &args.output, "the output's ending tells no format that can be written")
                .expected(format!("one of {}, or -O", endings.join(" ")))
        })?;
        let variants = format.subformats;
        let takes = |subformat: &Subformat, what| subformat.takes.contains(&what);
        let default = match &args.base {
            None => variants.first().ok_or_else(|| usage(format!("a {} cannot be written", format.title)))?,
            Some(_) => variants
                .iter()
                .find(|subformat| takes(subformat, Takes::Base))
                .ok_or_else(|| usage(format!("--base: a {} cannot be a delta", format.title)))?,
        };
        let named = !default.name.is_empty();
        let subformat = match &args.subformat {
            None => default,
            Some(_) if !named => return Err(usage(format!("-s: a {} has no variants", format.title))),
            Some(word) => format.subformat(word).ok_or_else(|| {
                let words: Vec<_> = variants.iter().map(|s| s.name).collect();
                usage(format!("-s: no such variant of {}", format.title))
                    .found(word)
                    .expected(format!("one of {}", words.join(", ")))
            })?,
        };
        let kind = OutputKind { format, subformat };
        for (option, given, what) in [
            ("--base", args.base.is_some(), Takes::Base),
            ("--preallocate", args.preallocate, Takes::Preallocate),
            ("--contiguous", args.contiguous, Takes::Contiguous),
            ("--block-size", args.block_size.is_some(), Takes::BlockSize),
            ("--level", args.level.is_some(), Takes::Level),
            ("--fast", args.fast, Takes::Level),
        ] {
            if given {
                kind.must_take(what, option)?;
            }
        }
        for (option, given, what) in [
            ("--adapter", args.adapter.is_some(), Records::Adapter),
            ("--uuid", args.uuid.is_some(), Records::Uuid),
            ("--cid", args.cid.is_some(), Records::Cid),
            ("--hw-version", args.hw_version.is_some(), Records::HwVersion),
        ] {
            if given && !format.records.contains(&what) {
                return Err(usage(format!("{option}: a {} cannot record it", format.title)));
            }
        }
        Ok(kind)
    }

    /// The most bytes of a disk whose size is known at its end alone; refused where it must be known first.
    pub fn open_end(self) -> Result<u64, Fault> {
        self.subformat.open_end().ok_or_else(|| {
            let fit = OutputKind::all().filter(|kind| kind.subformat.open_end().is_some()).map(OutputKind::words);
            usage(format!("how long the raw disk is must be known for a {}: --input-size", self.words()))
                .expected(format!("that, or one of {}", fit.collect::<Vec<_>>().join(", ")))
        })
    }

    fn all() -> impl Iterator<Item = OutputKind> {
        FORMATS.iter().flat_map(|f| f.subformats.iter().map(|s| OutputKind { format: f, subformat: s }))
    }

    /// Refused, naming the kinds that do, where this one does not.
    pub fn must_take(self, what: Takes, why: &str) -> Result<(), Fault> {
        if self.subformat.takes.contains(&what) {
            return Ok(());
        }
        let fit: Vec<_> =
            OutputKind::all().filter(|kind| kind.subformat.takes.contains(&what)).map(OutputKind::words).collect();
        Err(usage(format!("{why}: not for a {}", self.words())).expected(format!("one of {}", fit.join(", "))))
    }

    pub fn words(self) -> String {
        format!("{} {}", self.format.title, self.subformat.name).trim_end().to_string()
    }
}
