//! Which footer counts: the one at the end, its copy at the head, or one with something appended behind it.

use super::footer::{self, DiskType, Footer};
use super::header;
use crate::fault::{Fault, Kind};
use crate::image::{Ledger, SECTOR};
use crate::io::InputFile;

/// How far from the end a footer is looked for behind which something was appended, in bytes.
const SEARCH: u64 = 1 << 20;
/// A footer of Virtual PC before 2004 lacks the last byte, which is zero.
const SHORT_LEN: u64 = 511;

/// The footer that counts.
pub struct Located {
    /// It.
    pub footer: Footer,
    /// Where the data ends at the latest: the byte of the trailing footer, or the file's end where that is lost.
    pub data_end: u64,
    /// What is odd and does not hinder.
    pub warnings: Vec<Fault>,
}

impl Located {
    /// Hands the warnings over.
    pub fn report(&mut self, ledger: &Ledger) {
        self.warnings.drain(..).for_each(|w| ledger.warn(w));
    }
}

/// Finds the footer. `None`: nothing in the file claims to be a VHD. An error: something does, and cannot be trusted.
///
/// `asked_for`: the user said that this is a VHD, so a fixed footer counts whatever its size says.
pub fn locate(file: &InputFile, asked_for: bool) -> Result<Option<Located>, Fault> {
    let head = candidate(file, 0, footer::LEN as u64)?;
    let (end_at, end) = trailing(file)?;
    match end {
        Candidate::Sound(footer) if footer.disk_type == DiskType::Fixed => {
            if footer.current_size == end_at {
                return Ok(Some(Located { footer, data_end: end_at, warnings: Vec::new() }));
            }
            // A dynamic disk that lost its footer may end in a block that holds somebody's fixed VHD.
            if let Some(copy) = sound_copy(head) {
                return Ok(Some(from_copy(file, copy, file.len(), missing(file, end_at))));
            }
            match asked_for {
                true => Ok(Some(fixed_by_request(file, footer, end_at))),
                false => Err(ambiguous(file, end_at, "fixed VHD footer whose size is not its own place")
                    .found(format!("size {}", footer.current_size))
                    .against(format!("the footer stands at byte {end_at}"))),
            }
        }
        Candidate::Sound(footer) => dynamic_by_its_end(file, footer, end_at, head),
        Candidate::Unsound(fault) => {
            if let Some(copy) = sound_copy(head) {
                return Ok(Some(from_copy(file, copy, end_at, fault.clone())));
            }
            match appended(file)? {
                Some(found) => Ok(Some(found)),
                None => Err(fault.advice("if this is a raw disk: -f raw")),
            }
        }
        Candidate::Nothing => {
            let unsound = match &head {
                Candidate::Unsound(fault) => Some(fault.clone()),
                _ => None,
            };
            let found = appended(file)?;
            if let Some(copy) = sound_copy(head) {
                let (data_end, why) = match found {
                    Some(found) => (found.data_end, behind(file, found.data_end)),
                    None => (file.len(), missing(file, end_at)),
                };
                return Ok(Some(from_copy(file, copy, data_end, why)));
            }
            match (found, unsound) {
                (Some(found), _) => Ok(Some(found)),
                (None, Some(fault)) => Err(fault.advice("if this is a raw disk: -f raw")),
                (None, None) => Ok(None),
            }
        }
    }
}

enum Candidate {
    /// Cookie, checksum, version and type are right.
    Sound(Footer),
    /// The cookie is there, the rest is not right.
    Unsound(Fault),
    /// No cookie.
    Nothing,
}

/// Looks at `len` bytes from `at`; what is missing to 512 counts as zero.
fn candidate(file: &InputFile, at: u64, len: u64) -> Result<Candidate, Fault> {
    let mut raw = [0; footer::LEN];
    if file.len() < len || at > file.len() - len {
        return Ok(Candidate::Nothing);
    }
    file.read_exact(at, &mut raw[..len as usize])?;
    Ok(judge(&raw, file, at))
}

fn judge(raw: &[u8; footer::LEN], file: &InputFile, at: u64) -> Candidate {
    if !Footer::claims(raw) {
        return Candidate::Nothing;
    }
    match Footer::parse(raw, file.name(), at) {
        Ok(footer) => Candidate::Sound(footer),
        Err(fault) => Candidate::Unsound(fault),
    }
}

/// The footer at the end and its byte: 512 bytes long, or 511 where the file's length says so.
fn trailing(file: &InputFile) -> Result<(u64, Candidate), Fault> {
    let at = file.len().saturating_sub(footer::LEN as u64);
    let end = candidate(file, at, footer::LEN as u64)?;
    if matches!(end, Candidate::Nothing) && file.len() % SECTOR == SHORT_LEN {
        let at = file.len() - SHORT_LEN;
        return Ok((at, candidate(file, at, SHORT_LEN)?));
    }
    Ok((at, end))
}

/// The copy at the head, if it is one: a dynamic disk's, with a dynamic header where it says. A fixed disk's guest may begin with
/// anything, a footer included.
fn sound_copy(head: Candidate) -> Option<Footer> {
    match head {
        Candidate::Sound(copy) if copy.disk_type != DiskType::Fixed => Some(copy),
        _ => None,
    }
}

/// Is there a dynamic header where the footer says?
fn has_header(file: &InputFile, footer: &Footer) -> Result<bool, Fault> {
    let mut cookie = [0; header::COOKIE.len()];
    if footer.data_offset > file.len() {
        return Ok(false);
    }
    let got = file.read_up_to(footer.data_offset, &mut cookie)?;
    Ok(got == cookie.len() && cookie == header::COOKIE)
}

fn dynamic_by_its_end(
    file: &InputFile,
    footer: Footer,
    end_at: u64,
    head: Candidate,
) -> Result<Option<Located>, Fault> {
    let located = |footer, warnings| Ok(Some(Located { footer, data_end: end_at, warnings }));
    let other = |copy: &Footer| {
        Fault::damaged(file.name(), 0, "the two VHD footers differ").found(copy.differences(&footer).join(", "))
    };
    if has_header(file, &footer)? {
        return match head {
            Candidate::Sound(copy) if copy.differences(&footer).is_empty() => located(footer, vec![]),
            Candidate::Sound(copy) => {
                let warning = other(&copy).against("the one at the end counts");
                located(footer, vec![warning])
            }
            Candidate::Unsound(fault) => {
                let warning = fault.advice("the footer at the end is sound and counts");
                located(footer, vec![warning])
            }
            Candidate::Nothing => {
                let warning = Fault::damaged(file.name(), 0, "the copy of the VHD footer is missing")
                    .advice("the footer at the end is sound and counts");
                located(footer, vec![warning])
            }
        };
    }
    match head {
        // The trailing footer leads nowhere and the copy leads to a header: the copy counts.
        Candidate::Sound(copy) if copy.disk_type != DiskType::Fixed && has_header(file, &copy)? => {
            let warning = other(&copy).against("the copy at byte 0 counts, it leads to the dynamic header");
            located(copy, vec![warning])
        }
        // A VHD whose header is damaged: opening it says so.
        Candidate::Sound(_) | Candidate::Unsound(_) => located(footer, vec![]),
        Candidate::Nothing => Err(ambiguous(file, end_at, "dynamic VHD footer without a dynamic header")
            .against(format!("none at byte {}", footer.data_offset))),
    }
}

fn from_copy(file: &InputFile, copy: Footer, data_end: u64, why: Fault) -> Located {
    let warning = why.advice("the copy at byte 0 is sound and counts");
    Located { footer: copy, data_end: data_end.min(file.len()), warnings: vec![warning] }
}

fn missing(file: &InputFile, end_at: u64) -> Fault {
    Fault::damaged(file.name(), end_at, "the VHD footer at the end is missing")
}

fn behind(file: &InputFile, data_end: u64) -> Fault {
    let end = data_end + footer::LEN as u64;
    Fault::damaged(file.name(), end, "something was appended to the VHD")
        .found(format!("{} bytes behind the footer", file.len().saturating_sub(end)))
}

fn fixed_by_request(file: &InputFile, footer: Footer, end_at: u64) -> Located {
    let warning = Fault::damaged(file.name(), end_at, "fixed VHD footer whose size is not its own place")
        .found(format!("size {}", footer.current_size))
        .against(format!("the footer stands at byte {end_at}; data is taken from byte 0"));
    Located { footer, data_end: end_at, warnings: vec![warning] }
}

/// A raw disk whose last sector happens to hold somebody's VHD footer, or a damaged VHD: the user knows, we do not.
fn ambiguous(file: &InputFile, at: u64, what: &'static str) -> Fault {
    Fault::new(Kind::Damaged, file.name(), what).at(at).advice(
        "if this is a VHD: -f vhd (data from byte 0); if it is a raw disk that holds a VHD in its last sectors: -f raw",
    )
}

/// Something was appended behind the footer: looks for one on the file's sectors in its last MiB. One read.
///
/// A VHD stored in a guest's file system must not turn a raw disk into a VHD: a fixed footer counts only at its own size, a dynamic
/// one only with a dynamic header where it says.
fn appended(file: &InputFile) -> Result<Option<Located>, Fault> {
    let start = file.len().saturating_sub(SEARCH).next_multiple_of(SECTOR);
    let mut bytes = vec![0; usize::try_from(file.len().saturating_sub(start)).unwrap_or(0)];
    file.read_exact(start, &mut bytes)?;
    let (sectors, _) = bytes.as_chunks::<{ footer::LEN }>();
    for (index, raw) in sectors.iter().enumerate().rev() {
        let at = start + index as u64 * SECTOR;
        let Candidate::Sound(footer) = judge(raw, file, at) else { continue };
        let counts = match footer.disk_type {
            DiskType::Fixed => footer.current_size == at,
            _ => at != 0 && has_header(file, &footer)?,
        };
        if counts {
            return Ok(Some(Located { footer, data_end: at, warnings: vec![behind(file, at)] }));
        }
    }
    Ok(None)
}
