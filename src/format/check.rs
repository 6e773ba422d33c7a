//! Checks an image: every structure, by the format's own rules, and all that a conversion would say of it.
//!
//! Two looks. The format's own goes over the file, and over those of its parents: it goes on where a reader stops at the first fault. Then
//! the image is opened and its map walked as a conversion does, compressed units inflated: what is refused, lost or warned about there is a
//! finding too, so that an image is never called sound that a conversion refuses.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::{FORMATS, Format, OpenOptions, Opening, by_content, recognise, refuse_surplus_parents};
use crate::fault::{Fault, Kind};
use crate::image::{Disk, Findings, Here, Ledger, Rule, Severity};
use crate::io::{Gate, InputFile, in_memory, is_zero};

/// Lost runs of the map after which the walk ends: the look at the file found them all, and a map may have a run a sector.
const MOST_LOST: u32 = 64;
/// Bytes that are looked through at once for data.
const LOOK: u64 = 1 << 20;

/// What readers tell of whatever the format.
pub const COMMON: &[Rule] = &[Rule::new(DAMAGED), Rule::new(UNREADABLE)];
const DAMAGED: &str = "IMAGE-DAMAGED";
const UNREADABLE: &str = "IMAGE-UNREADABLE";

/// How a format checks its images.
pub struct Checker {
    /// All that it looks for.
    pub rules: &'static [Rule],
    /// The look at an image of the chain, by its file.
    pub look: fn(&mut Opening<'_>, &Arc<InputFile>, &mut Findings) -> Result<(), Fault>,
    /// A look at a unit that was unpacked: the file, its marker's byte, the packed bytes and what came out, padded to a unit.
    pub unpacked: Option<Unpacked>,
    /// What readers warn of and a check does better.
    pub left_out: &'static [&'static str],
}

/// A look at a unit that was unpacked.
pub type Unpacked = fn(&Path, u64, &[u8], &[u8], &mut Findings);

/// An image that was checked.
pub struct Checked {
    /// What it is.
    pub format: &'static Format,
    /// What was found.
    pub findings: Findings,
}

/// Checks the image that the user named. An error: it could not be checked.
pub fn check(gate: &mut Gate, name: &Path, options: &OpenOptions) -> Result<Checked, Fault> {
    if options.allow_outside {
        gate.allow_outside();
    }
    let file = gate.typed(name)?;
    let mut findings = Findings::default();
    let format = match options.format {
        Some(format) => format,
        None => claimant(&file)?,
    };
    let (Some(checker), Some(open)) = (&format.check, format.open) else {
        return Err(Fault::new(Kind::Unsupported, name, format!("a {}: this version does not check it", format.title)));
    };
    let tell = Tell { checker };
    tell.look(gate, options, &file, &mut findings)?;
    let ledger = Arc::default();
    let mut opening = Opening { gate, options, ledger: Arc::clone(&ledger), images: Vec::new() };
    let opened = open(&mut opening, file);
    // As far as the chain could be followed. What a parent is its child says, not the user.
    let parents = std::mem::take(&mut opening.images);
    let of_parents = OpenOptions { format: None, ..options.clone() };
    for parent in parents.iter().skip(1) {
        tell.look(gate, &of_parents, parent, &mut findings)?;
    }
    match opened {
        Ok(disk) => {
            refuse_surplus_parents(&disk, name, options)?;
            walk(&disk, &tell, &mut findings)?;
            tell.warnings(&ledger, &mut findings);
            disk.unchanged()?;
        }
        Err(fault) => {
            tell.warnings(&ledger, &mut findings);
            tell.refusal(&fault, &mut findings)?;
        }
    }
    Ok(Checked { format, findings })
}

/// The format of a file, also where it cannot be trusted.
fn claimant(file: &InputFile) -> Result<&'static Format, Fault> {
    let refusal = match by_content(file) {
        Ok(_) => return recognise(file),
        Err(fault) => fault,
    };
    let (head, _) = super::head_of(file)?;
    let probe = super::Probe { file, head: &head };
    let claims = |format: &&Format| (format.recognise)(&probe).is_err_and(|fault| fault.kind() != Kind::Io);
    FORMATS.iter().find(claims).ok_or(refusal)
}

/// Turns what readers say into findings.
struct Tell {
    checker: &'static Checker,
}

impl Tell {
    /// The format's own look at an image of the chain.
    fn look(
        &self,
        gate: &mut Gate,
        options: &OpenOptions,
        file: &Arc<InputFile>,
        findings: &mut Findings,
    ) -> Result<(), Fault> {
        let mut opening = Opening { gate, options, ledger: Arc::default(), images: Vec::new() };
        match (self.checker.look)(&mut opening, file, findings) {
            Err(fault) => self.refusal(&fault, findings)?,
            Ok(()) => self.warnings(&opening.ledger, findings),
        }
        Ok(())
    }

    fn id(&self, fault: &Fault) -> Option<&'static str> {
        if fault.is_of_medium() {
            return Some(UNREADABLE);
        }
        let rule = self.checker.rules.iter().find(|rule| rule.is_about(fault.field()));
        rule.map(|rule| rule.id).or((fault.kind() == Kind::Damaged).then_some(DAMAGED))
    }

    /// Why an image cannot be opened: a finding where it is about the image, an error where it says that nobody can tell.
    fn refusal(&self, fault: &Fault, findings: &mut Findings) -> Result<(), Fault> {
        match self.id(fault).filter(|id| *id != UNREADABLE) {
            Some(id) => findings.told(id, Severity::Error, fault),
            None => return Err(fault.clone()),
        }
        Ok(())
    }

    fn warnings(&self, ledger: &Ledger, findings: &mut Findings) {
        for fault in ledger.drain() {
            if !self.checker.left_out.contains(&fault.field()) {
                findings.told(self.id(&fault).unwrap_or(DAMAGED), Severity::Warning, &fault);
            }
        }
    }
}

/// Walks the map of each layer to its end, inflating what is packed.
fn walk(disk: &Disk, tell: &Tell, findings: &mut Findings) -> Result<(), Fault> {
    for layer in disk.chain.layers() {
        let (mut at, end, mut lost) = (0, layer.guest_len(), 0);
        let mut unpacker = layer.unpacker();
        let (mut buffer, mut unit_before) = (Vec::new(), None);
        while at < end && lost < MOST_LOST {
            let run = layer.run_at(at, end)?;
            let found = match &run.here {
                Here::Lost(fault) => {
                    lost += 1;
                    Err(fault.clone())
                }
                Here::Packed { file, at: marker, unit, skip } => {
                    let start = run.guest.start.saturating_sub(*skip);
                    match unpacker.as_mut().filter(|_| unit_before.replace(start) != Some(start)) {
                        Some(unpacker) => {
                            findings.count("compressed_units", 1);
                            buffer.resize(in_memory(*unit), 0);
                            let done = unpacker.unpack(*file, *marker, start, &mut buffer);
                            if let (Ok(()), Some(look), Some(file)) = (&done, tell.checker.unpacked, disk.file(*file)) {
                                look(file.name(), *marker, unpacker.packed(), &buffer, findings);
                            }
                            done
                        }
                        None => Ok(()),
                    }
                }
                _ => Ok(()),
            };
            if let Err(fault) = found {
                match tell.id(&fault) {
                    Some(id) => findings.told(id, Severity::Error, &fault),
                    None => tell.refusal(&fault, findings)?,
                }
            }
            at = run.guest.end;
        }
    }
    findings.count("images", disk.images().len() as u64);
    findings.count("files", disk.files().len() as u64);
    Ok(())
}

/// The first byte of `bytes` that is not zero, as far as the file can be read.
pub fn first_data(file: &InputFile, bytes: Range<u64>) -> Result<Option<u64>, Fault> {
    let (mut at, end) = (bytes.start, bytes.end.min(file.len()));
    let mut buffer = Vec::new();
    while at < end {
        let Some(data) = file.next_data(at)? else { break };
        at = data.start.max(at);
        let n = end.min(data.end).saturating_sub(at).min(LOOK);
        if n == 0 {
            break;
        }
        buffer.resize(in_memory(n), 0);
        file.read_around(at, &mut buffer)?;
        if !is_zero(&buffer) {
            let first = buffer.iter().position(|byte| *byte != 0).unwrap_or(0);
            return Ok(Some(at + first as u64));
        }
        at += n;
    }
    Ok(None)
}

/// Units that were met whose places others have too: of each place the first.
#[derive(Default)]
pub struct Met(BTreeMap<u32, u64>);

impl Met {
    /// A unit at `place`, by its number, each of which reaches so many places: the number of one that was met before and overlaps it.
    pub fn meet(&mut self, place: u32, number: u64, reach: u32) -> Option<u64> {
        let behind = reach.saturating_sub(1);
        let near = place.saturating_sub(behind)..=place.saturating_add(behind);
        let other = self.0.range(near).map(|(_, number)| *number).min();
        self.0.entry(place).or_insert(number);
        other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No fault of a reader is known that comes to this: what one forgets to name in a rule is a finding all the same.
    #[test]
    fn damage_that_no_rule_names_is_a_finding_all_the_same() {
        let checker = FORMATS.iter().find_map(|format| format.check.as_ref()).unwrap();
        let (tell, ledger) = (Tell { checker }, Ledger::default());
        let of = |kind| Fault::new(kind, "x", "a fault that nobody knows").at(7);
        let mut findings = Findings::default();
        tell.refusal(&of(Kind::Damaged), &mut findings).unwrap();
        ledger.warn(of(Kind::OverLimit).at(9));
        tell.warnings(&ledger, &mut findings);
        assert!(tell.refusal(&of(Kind::Unsupported), &mut findings).is_err());
        let list: Vec<_> = findings.list().iter().map(|f| (f.id, f.severity, f.fault.byte())).collect();
        assert_eq!(list, [(DAMAGED, Severity::Error, Some(7)), (DAMAGED, Severity::Warning, Some(9))]);
    }

    #[test]
    fn of_units_that_overlap_the_first_is_named() {
        let mut met = Met::default();
        assert_eq!(met.meet(100, 7, 10), None);
        assert_eq!(met.meet(110, 8, 10), None);
        assert_eq!(met.meet(109, 9, 10), Some(7));
        assert_eq!(met.meet(100, 10, 10), Some(7));
        assert_eq!(met.meet(u32::MAX, 11, 10), None);
    }
}
