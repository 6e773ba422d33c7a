//! Which footer counts: the one at the end, its copy at the head, or one with something appended behind it.
//!
//! A guest may hold VHDs of its own, and any sector of a block may look like a footer. So a trailing footer is believed where nothing
//! speaks against it: a fixed one at its own size; a dynamic one that belongs to the copy at the head; without a copy, one that no
//! allocated block covers.

use super::bat::UNALLOCATED;
use super::footer::{self, DiskType, Footer};
use super::header::{self, DynamicHeader};
use crate::fault::{Fault, Kind};
use crate::image::SECTOR;
use crate::io::{InputFile, in_memory};

use byteorder::{BigEndian, ByteOrder};

/// How far from the end a footer is looked for behind which something was appended, in bytes.
const SEARCH: u64 = 1 << 20;
/// A footer of Virtual PC before 2004 lacks the last byte, which is zero.
const SHORT_LEN: usize = 511;
/// Dynamic footers behind which something was appended that are held against the table: each costs a look through it.
const MOST_CANDIDATES: usize = 8;
/// Where every writer puts the dynamic header.
const USUAL_HEADER: u64 = 512;
/// Bytes in which a damaged footer may differ from its copy; one that differs in more is another disk's.
const MOST_DAMAGED: usize = 12;
/// Bytes of the block allocation table that are looked at in one read.
const TABLE_READ: u64 = 1 << 20;

/// The footer that counts.
pub struct Located {
    /// It.
    pub footer: Footer,
    /// Its byte.
    pub at: u64,
    /// Where the data ends at the latest: the byte of the trailing footer, or the file's end where that is lost.
    pub data_end: u64,
    /// What is odd and does not hinder.
    pub warnings: Vec<Fault>,
}

/// Finds the footer. `None`: nothing in the file claims to be a VHD. An error: something does, and cannot be trusted.
///
/// `asked_for`: the user said that this is a VHD, so what is at the end counts although something speaks against it.
pub fn locate(file: &InputFile, asked_for: bool) -> Result<Option<Located>, Fault> {
    let search = Search { file, asked_for };
    let (end_at, end) = search.trailing()?;
    if let Candidate::Sound(footer) = &end
        && footer.disk_type == DiskType::Fixed
        && footer.current_size == end_at
    {
        // Whatever the guest's first sector holds.
        return Ok(Some(Located { footer: footer.clone(), at: end_at, data_end: end_at, warnings: Vec::new() }));
    }
    let head = search.candidate(0, footer::LEN)?;
    for candidate in [&end, &head] {
        if let Candidate::Disabled(fault) = candidate {
            return Err(fault.clone());
        }
    }
    // A copy is a dynamic disk's: a fixed disk's guest may begin with anything, a footer included.
    match head {
        Candidate::Sound(copy) if copy.disk_type != DiskType::Fixed => search.with_copy(copy, end_at, end),
        head => search.without_copy(head, end_at, end),
    }
}

/// What 512 bytes are.
enum Candidate {
    /// Cookie, checksum, version and type are right.
    Sound(Footer),
    /// They claim to be a footer, and are not right.
    Unsound(Fault, Box<[u8; footer::LEN]>),
    /// XenServer says that the disk must not be used.
    Disabled(Fault),
    /// The medium does not give them. Told apart only where the user said that this is a VHD: else it may be anything.
    Unread(Fault),
    /// No footer.
    Nothing,
}

/// What a place in a file is, by a table of blocks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Behind all blocks: a footer can stand there.
    End,
    /// Inside a block that is all there: whatever stands there is the guest's.
    Guest,
    /// In front of a block: whatever stands there is old.
    Old,
    /// Where a block that the file cuts short should go on.
    CutBlock,
}

struct Search<'a> {
    file: &'a InputFile,
    asked_for: bool,
}

impl Search<'_> {
    fn judge(&self, raw: &[u8; footer::LEN], at: u64) -> Candidate {
        match footer::claim(raw) {
            footer::Claim::None if footer::is_fixed_with_a_damaged_cookie(raw, at) => {}
            footer::Claim::None => return Candidate::Nothing,
            footer::Claim::Disabled => return Candidate::Disabled(footer::disabled(self.file.name(), at)),
            footer::Claim::Footer => {}
        }
        match Footer::parse(raw, self.file.name(), at) {
            Ok(footer) => Candidate::Sound(footer),
            Err(fault) => Candidate::Unsound(fault, Box::new(*raw)),
        }
    }

    /// Looks at `len` bytes from `at`; what is missing to 512 counts as zero.
    fn candidate(&self, at: u64, len: usize) -> Result<Candidate, Fault> {
        let mut raw = [0; footer::LEN];
        Ok(match self.file.read_up_to(at, raw.get_mut(..len).unwrap_or_default()) {
            Ok(got) if got < len => Candidate::Nothing,
            Ok(_) => self.judge(&raw, at),
            Err(fault) if fault.is_of_medium() && self.asked_for => Candidate::Unread(fault),
            Err(fault) => return Err(fault),
        })
    }

    /// The footer at the end and its byte: 512 bytes long, or 511 where the file's length says so.
    fn trailing(&self) -> Result<(u64, Candidate), Fault> {
        let len = self.file.len();
        let at = len.saturating_sub(footer::LEN as u64);
        let end = self.candidate(at, footer::LEN)?;
        if matches!(end, Candidate::Nothing | Candidate::Unread(_)) && len % SECTOR == SHORT_LEN as u64 {
            let at = len - SHORT_LEN as u64;
            return Ok((at, self.candidate(at, SHORT_LEN)?));
        }
        // A fixed disk that was cut within its footer.
        let rest = in_memory(len % SECTOR);
        if matches!(end, Candidate::Nothing) && rest >= footer::COOKIE.len() {
            let (at, mut cut) = (len - len % SECTOR, [0; footer::COOKIE.len()]);
            self.file.read_exact(at, &mut cut)?;
            if cut == footer::COOKIE {
                let fault = Fault::damaged(self.name(), at, "the VHD footer is cut short")
                    .found(format!("{rest} bytes"))
                    .expected(512);
                return Ok((at, Candidate::Unsound(fault, Box::new([0; footer::LEN]))));
            }
        }
        Ok((at, end))
    }

    fn name(&self) -> &std::path::Path {
        self.file.name()
    }

    /// The copy at the head is sound and a dynamic disk's: its table tells whether what looks like a trailing footer can be one.
    fn with_copy(&self, copy: Footer, end_at: u64, end: Candidate) -> Result<Option<Located>, Fault> {
        let copy_counts = |copy: Footer, data_end: u64, why: Fault| {
            let warning = why.advice("the copy at byte 0 is sound and counts");
            Ok(Some(Located { footer: copy, at: 0, data_end, warnings: vec![warning] }))
        };
        let missing = || Fault::damaged(self.name(), end_at, "the VHD footer at the end is missing");
        match end {
            Candidate::Sound(footer) if copy.differences(&footer).is_empty() => {
                Ok(Some(Located { footer, at: end_at, data_end: end_at, warnings: vec![] }))
            }
            Candidate::Sound(footer) => {
                let first = copy.first_difference(&footer) as u64;
                let differ = Fault::damaged(self.name(), first, "the two VHD footers differ").found(format!(
                    "{}; the other at byte {}",
                    copy.differences(&footer).join(", "),
                    end_at + first
                ));
                match self.place(&copy, end_at)? {
                    Place::Guest | Place::Old => copy_counts(copy, self.file.len(), missing()),
                    Place::CutBlock => copy_counts(copy, end_at, differ),
                    // Never the smaller of two sizes, and never another kind than the dynamic header that is there.
                    Place::End if footer.unique_id == copy.unique_id => {
                        let alike = footer.disk_type == copy.disk_type && footer.data_offset == copy.data_offset;
                        if !alike || footer.current_size < copy.current_size {
                            return copy_counts(copy, end_at, differ);
                        }
                        let warnings = vec![differ.against("the one at the end counts")];
                        Ok(Some(Located { footer, at: end_at, data_end: end_at, warnings }))
                    }
                    Place::End if footer.disk_type == DiskType::Fixed => Err(self.ambiguous(differ.at(end_at))),
                    Place::End => {
                        let why = Fault::damaged(self.name(), end_at, "the footer at the end is another disk's")
                            .found(footer.unique_id)
                            .expected(copy.unique_id);
                        copy_counts(copy, end_at, why)
                    }
                }
            }
            Candidate::Unsound(fault, raw) => match self.place(&copy, end_at)? {
                Place::Guest | Place::Old => copy_counts(copy, self.file.len(), missing()),
                Place::End | Place::CutBlock => {
                    let bytes_differ = copy.bytes_that_differ(&raw);
                    if footer::looks_fixed_at(&raw, end_at) || bytes_differ > MOST_DAMAGED {
                        return Err(self.ambiguous(fault));
                    }
                    copy_counts(copy, end_at, fault)
                }
            },
            Candidate::Unread(fault) => copy_counts(copy, end_at, fault),
            Candidate::Nothing | Candidate::Disabled(_) => match self.appended(Some(&copy))? {
                // A fixed footer at its own size: the copy is what the guest begins with.
                Some(found) if found.footer.disk_type == DiskType::Fixed => Ok(Some(found)),
                Some(found) => copy_counts(copy, found.data_end, self.behind(found.data_end)),
                None => copy_counts(copy, self.file.len(), missing()),
            },
        }
    }

    /// There is no sound copy at the head.
    fn without_copy(&self, head: Candidate, end_at: u64, end: Candidate) -> Result<Option<Located>, Fault> {
        let head_fault = match head {
            Candidate::Unsound(fault, _) | Candidate::Unread(fault) => Some(fault),
            _ => None,
        };
        match end {
            Candidate::Sound(footer) if footer.disk_type == DiskType::Fixed => {
                let odd = Fault::damaged(self.name(), end_at, "fixed VHD footer whose size is not its own place")
                    .found(format!("size {}", footer.current_size));
                if !self.asked_for {
                    return Err(self.ambiguous(odd.against(format!("the footer stands at byte {end_at}"))));
                }
                let odd = odd.against(format!("the footer stands at byte {end_at}; data is taken from byte 0"));
                Ok(Some(Located { footer, at: end_at, data_end: end_at, warnings: vec![odd] }))
            }
            Candidate::Sound(footer) => {
                let bad_head = head_fault.is_some();
                let missing = Fault::damaged(self.name(), 0, "the copy of the VHD footer is missing");
                let warning = head_fault.unwrap_or(missing).advice("the footer at the end is sound and counts");
                if !self.asked_for
                    && let Some(doubt) = self.doubt(&footer, end_at)?
                {
                    // A damaged header behind a damaged copy is a damaged VHD; anything else may be a raw disk.
                    return Err(if bad_head { doubt } else { self.ambiguous(doubt) });
                }
                Ok(Some(Located { footer, at: end_at, data_end: end_at, warnings: vec![warning] }))
            }
            Candidate::Unread(fault) => Err(fault),
            Candidate::Unsound(fault, raw) if footer::looks_fixed_at(&raw, end_at) => Err(or_raw(fault)),
            Candidate::Unsound(fault, _) => match self.appended(None)? {
                Some(found) => Ok(Some(found)),
                None => Err(or_raw(fault)),
            },
            Candidate::Nothing | Candidate::Disabled(_) => match (self.appended(None)?, head_fault) {
                (Some(found), _) => Ok(Some(found)),
                (None, Some(fault)) => Err(or_raw(fault)),
                // A dynamic header in its usual place is no accident: both footers are lost.
                (None, None) if header::read(self.file, USUAL_HEADER, self.file.len()).is_ok() => {
                    let what = "a VHD that lost both its footers: its dynamic header is there";
                    Err(or_raw(Fault::damaged(self.name(), USUAL_HEADER, what)))
                }
                (None, None) => Ok(None),
            },
        }
    }

    /// What the place `at` is, by the blocks of the disk whose footer this is.
    fn place(&self, footer: &Footer, at: u64) -> Result<Place, Fault> {
        let Ok(header) = self.header(footer) else { return Ok(Place::End) };
        let blocks = footer.current_size.div_ceil(header.block_size.into());
        let whole = header::bitmap_len(header.block_size) + u64::from(header.block_size);
        let mut place = Place::End;
        self.each_entry(&header, |block, sector| {
            let start = u64::from(sector) * SECTOR;
            let end = start + whole;
            if block < blocks && start <= self.file.len() && at < end {
                place = match (start <= at, end <= self.file.len()) {
                    (true, true) => Place::Guest,
                    (true, false) => Place::CutBlock,
                    (false, _) if place == Place::End => Place::Old,
                    (false, _) => place,
                };
            }
            Ok(())
        })?;
        Ok(place)
    }

    /// Calls `each` for every allocated entry of the table, as far as the file has it: block and sector.
    fn each_entry(
        &self,
        header: &DynamicHeader,
        mut each: impl FnMut(u64, u32) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let table_len = u64::from(header.max_table_entries) * 4;
        let end = header.table_offset.saturating_add(table_len).min(self.file.len());
        let (mut from, mut block, mut buffer) = (header.table_offset, 0u64, Vec::new());
        while from < end {
            buffer.resize(in_memory((end - from).min(TABLE_READ) / 4 * 4), 0);
            if buffer.is_empty() {
                break;
            }
            self.file.read_exact(from, &mut buffer)?;
            for entry in buffer.chunks_exact(4).map(BigEndian::read_u32) {
                if entry != UNALLOCATED {
                    each(block, entry)?;
                }
                block += 1;
            }
            from += buffer.len() as u64;
        }
        Ok(())
    }

    fn header(&self, footer: &Footer) -> Result<DynamicHeader, Fault> {
        header::read(self.file, footer.data_offset, self.file.len())
    }

    fn has_header_cookie(&self, footer: &Footer) -> Result<bool, Fault> {
        let mut cookie = [0; header::COOKIE.len()];
        Ok(self.file.read_up_to(footer.data_offset, &mut cookie)? == cookie.len() && cookie == header::COOKIE)
    }

    /// What speaks against a dynamic footer at `at` that no copy confirms: no header where it says, blocks that its size does not
    /// have, or a block that covers it, so that it is guest data.
    fn doubt(&self, footer: &Footer, at: u64) -> Result<Option<Fault>, Fault> {
        let header = match self.header(footer) {
            Ok(header) => header,
            Err(fault) if fault.kind() == Kind::Io => return Err(fault),
            Err(fault) if self.has_header_cookie(footer)? => return Ok(Some(fault)),
            Err(_) => {
                let none = Fault::damaged(self.name(), at, "dynamic VHD footer without a dynamic header");
                return Ok(Some(none.against(format!("none at byte {}", footer.data_offset))));
            }
        };
        let block_size = u64::from(header.block_size);
        let blocks = footer.current_size.div_ceil(block_size);
        let mut doubt = None;
        self.each_entry(&header, |block, sector| {
            let needed = footer.current_size.saturating_sub(block.saturating_mul(block_size)).min(block_size);
            let start = u64::from(sector) * SECTOR;
            if block >= blocks {
                doubt = Some("dynamic VHD footer whose size is less than the blocks that are there");
            } else if start <= at && at < start + header::bitmap_len(header.block_size) + needed {
                doubt = Some("dynamic VHD footer inside a block");
            }
            Ok(())
        })?;
        Ok(doubt.map(|what| Fault::damaged(self.name(), at, what)))
    }

    /// Something was appended behind the footer: looks for one on the file's sectors in its last MiB. One read.
    ///
    /// A VHD stored in a guest's file system must not turn a raw disk into a VHD: a fixed footer counts only at its own size, a dynamic
    /// one only where nothing speaks against it.
    fn appended(&self, copy: Option<&Footer>) -> Result<Option<Located>, Fault> {
        let start = self.file.len().saturating_sub(SEARCH).next_multiple_of(SECTOR);
        let mut bytes = vec![0; in_memory(self.file.len().saturating_sub(start))];
        self.file.read_exact(start, &mut bytes)?;
        let mut candidates = 0;
        let (sectors, _) = bytes.as_chunks::<{ footer::LEN }>();
        for (index, raw) in sectors.iter().enumerate().rev() {
            let at = start + index as u64 * SECTOR;
            let footer = match (self.judge(raw, at), copy) {
                (Candidate::Sound(footer), _) => footer,
                (Candidate::Disabled(fault), Some(copy)) if at != 0 && self.place(copy, at)? == Place::End => {
                    return Err(fault);
                }
                _ => continue,
            };
            if footer.disk_type == DiskType::Fixed {
                if footer.current_size == at {
                    return Ok(Some(Located { footer, at, data_end: at, warnings: vec![self.behind(at)] }));
                }
                continue;
            }
            candidates += 1;
            if at == 0 || candidates > MOST_CANDIDATES {
                continue;
            }
            let counts = match copy {
                // The disk's own footer inside a block is no guest's: the block was cut, and something appended.
                Some(copy) if copy.differences(&footer).is_empty() => self.place(copy, at)? != Place::Old,
                Some(copy) => match self.place(copy, at)? {
                    Place::Guest | Place::Old => false,
                    Place::End => footer.unique_id == copy.unique_id,
                    Place::CutBlock => true,
                },
                None => self.asked_for || self.doubt(&footer, at)?.is_none(),
            };
            if counts {
                return Ok(Some(Located { footer, at, data_end: at, warnings: vec![self.behind(at)] }));
            }
        }
        Ok(None)
    }

    fn behind(&self, data_end: u64) -> Fault {
        let end = data_end + footer::LEN as u64;
        Fault::damaged(self.name(), end, "something was appended to the VHD")
            .found(format!("{} bytes behind the footer", self.file.len().saturating_sub(end)))
    }

    /// A raw disk whose last sector happens to hold somebody's VHD footer, or a damaged VHD: the user knows, we do not.
    fn ambiguous(&self, fault: Fault) -> Fault {
        match self.asked_for {
            true => fault,
            false => fault
                .advice("if this is a VHD: -f vhd; if it is a raw disk that holds a VHD in its last sectors: -f raw"),
        }
    }
}

/// Damage may mean that it never was a VHD; what is legal and not read is one.
fn or_raw(fault: Fault) -> Fault {
    match fault.kind() {
        Kind::Damaged => fault.advice("if this is a raw disk: -f raw"),
        _ => fault,
    }
}
