//! The MD5 that a disc carries of itself, as isomd5sum implants it into the discs of Fedora, Red Hat and others.
//!
//! Source: isomd5sum, libcheckisomd5.c. A text in the application use area of the primary descriptor, which counts as blanks:
//!
//! ```text
//! ISO MD5SUM = <32 hex>;SKIPSECTORS = 15;RHLISOSTATUS=0;FRAGMENT SUMS = <60 hex>;FRAGMENT COUNT = 20;THIS IS NOT THE SAME ...
//! ```

use std::ops::Range;

use byteorder::{BigEndian, ByteOrder};
use md5::{Digest, Md5};

use super::check::MEDIA_MD5;
use super::volume::SECTOR;
use crate::fault::Fault;
use crate::image::Findings;
use crate::io::InputFile;

/// Where the text stands in the descriptor.
const AREA: Range<usize> = 883..1395;
const SPACE_SIZE_BE: usize = 84;
/// Bytes that isomd5sum hashes at once: its fragments end where such a buffer does.
const BUFFER: usize = 32_768;
const MD5SUM: &str = "ISO MD5SUM = ";
/// Hex digits of all fragments together.
const FRAGMENT_DIGITS: usize = 60;

/// What the text says.
struct Tag<'a> {
    sum: &'a str,
    skip: u64,
    fragments: Option<(&'a str, u64)>,
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    Some(text.split_once(key)?.1.split(';').next().unwrap_or_default().trim())
}

impl Tag<'_> {
    fn parse(text: &str) -> Option<Tag<'_>> {
        let sum = value(text, MD5SUM).filter(|sum| sum.len() == 32 && sum.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let skip = value(text, "SKIPSECTORS = ")?.parse().ok()?;
        let count = value(text, "FRAGMENT COUNT = ").and_then(|count| count.parse::<u64>().ok());
        let fragments = value(text, "FRAGMENT SUMS = ")
            .filter(|sums| sums.len() == FRAGMENT_DIGITS)
            .zip(count.filter(|count| (1..=FRAGMENT_DIGITS as u64).contains(count)));
        Some(Tag { sum, skip, fragments })
    }
}

/// Computes it, where the primary descriptor at byte `base` has one, and holds it against that.
pub fn look(file: &InputFile, base: u64, raw: &[u8; 2048], findings: &mut Findings) -> Result<(), Fault> {
    let area = raw.get(AREA).unwrap_or_default();
    let text = String::from_utf8_lossy(area);
    if !text.contains(MD5SUM) {
        return Ok(());
    }
    let at = base + AREA.start as u64;
    let wrong = |what: &'static str| Fault::damaged(file.name(), at, what);
    let space = u64::from(BigEndian::read_u32(&raw[SPACE_SIZE_BE..]));
    let tag = Tag::parse(&text).and_then(|tag| Some((space.checked_sub(tag.skip)? * SECTOR, tag)));
    let Some((total, tag)) = tag.filter(|(total, _)| *total > 0) else {
        findings.warning(MEDIA_MD5, || wrong("the disc's own MD5 cannot be read").found(text.trim()));
        return Ok(());
    };
    if total > file.len() {
        // That it is cut short the reader tells.
        return Ok(());
    }
    findings.count("bytes_hashed", total);
    let blanks = at..at + AREA.len() as u64;
    let (found, bad) = sums(file, total, &blanks, tag.fragments)?;
    if !found.eq_ignore_ascii_case(tag.sum) {
        findings.error(MEDIA_MD5, || {
            let differs = wrong("the disc's own MD5 is another").found(&found).expected(tag.sum);
            match bad {
                Some(bytes) => differs.advice(format!(
                    "bytes {} to {} are the first that differ: fetch it again",
                    bytes.start, bytes.end
                )),
                None => differs.advice("fetch it again; tools that edit a disc, as isohybrid does, leave it wrong too"),
            }
        });
    }
    Ok(())
}

/// The MD5 of the first `total` bytes, and the first fragment that differs from what was recorded.
fn sums(
    file: &InputFile,
    total: u64,
    blanks: &Range<u64>,
    fragments: Option<(&str, u64)>,
) -> Result<(String, Option<Range<u64>>), Fault> {
    let (mut hash, mut buffer, mut at) = (Md5::new(), vec![0; BUFFER], 0);
    let (mut before, mut digits, mut bad, mut good_until) = (0, String::new(), None, 0);
    while at < total {
        let n = usize::try_from(total - at).unwrap_or(BUFFER).min(BUFFER);
        let bytes = buffer.get_mut(..n).unwrap_or_default();
        file.read_exact(at, bytes)?;
        for (byte, place) in bytes.iter_mut().zip(at..) {
            if blanks.contains(&place) {
                *byte = b' ';
            }
        }
        hash.update(&*bytes);
        if let Some((want, count)) = fragments {
            let fragment = at / (total / (count + 1)).max(1);
            if fragment != before {
                before = fragment;
                let digest = hash.clone().finalize();
                let most = FRAGMENT_DIGITS / usize::try_from(count).unwrap_or(FRAGMENT_DIGITS);
                // The first digit of each byte as it is printed without leading zeroes.
                digits.extend(digest.iter().take(most).filter_map(|byte| format!("{byte:x}").chars().next()));
                let end = at + n as u64;
                match want.get(..digits.len()).is_none_or(|want| want.eq_ignore_ascii_case(&digits)) {
                    true => good_until = end,
                    false => bad = bad.or(Some(good_until..end)),
                }
            }
        }
        at += n as u64;
    }
    let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((digest, bad.or((fragments.is_some()).then_some(good_until..total))))
}
