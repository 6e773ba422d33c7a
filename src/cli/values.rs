//! The values of options: words, sizes, identifiers.

use uuid::Uuid;
use vdconv::format::{self, FORMATS, Format};
use vdconv::image::Identifiers;

fn one_of(word: &str, fits: impl Fn(&Format) -> bool) -> Result<&'static Format, String> {
    format::by_name(word).filter(|format| fits(format)).ok_or_else(|| {
        let words: Vec<_> = FORMATS.iter().filter(|format| fits(format)).map(|format| format.name).collect();
        format!("known here: {}", words.join(", "))
    })
}

/// A format that is read.
pub fn input_format(word: &str) -> Result<&'static Format, String> {
    one_of(word, |format| format.open.is_some())
}

/// A format that is written.
pub fn output_format(word: &str) -> Result<&'static Format, String> {
    one_of(word, |format| !format.subformats.is_empty())
}

/// Bytes, as a number or with a unit of 1024.
pub fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..).unwrap_or_default().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err("a number of bytes, or one with K, M, G or T".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "a number of bytes, or one with K, M, G or T".to_string())?;
    match number.checked_mul(1 << shift).filter(|bytes| i64::try_from(*bytes).is_ok()) {
        Some(0) => Err("a disk has at least one byte".into()),
        Some(bytes) => Ok(bytes),
        None => Err("larger than a disk can be".into()),
    }
}

/// Bytes in whole sectors.
pub fn size(text: &str) -> Result<u64, String> {
    match bytes(text)? {
        size if size.is_multiple_of(512) => Ok(size),
        _ => Err("a disk is a whole number of sectors of 512 bytes".into()),
    }
}

/// A UUID that may name a disk.
pub fn unique_id(text: &str) -> Result<Uuid, String> {
    match Uuid::parse_str(text) {
        Ok(uuid) if !uuid.is_nil() => Ok(uuid),
        Ok(_) => Err("the nil UUID names no disk".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// A VMDK's content id that is free.
pub fn content_id(text: &str) -> Result<u32, String> {
    let digits = (1..=8).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    match u32::from_str_radix(text, 16).map_err(drop).and_then(|cid| if digits { Ok(cid) } else { Err(()) }) {
        Ok(cid) if Identifiers::cid_is_free(cid) => Ok(cid),
        Ok(_) => Err("0, fffffffe and ffffffff have meanings of their own".into()),
        Err(()) => Err("a content id is up to 8 hex digits".into()),
    }
}
