//! Opens an ISO image.

use std::sync::Arc;

use super::hybrid::is_hybrid;
use super::udf::{self, Udf};
use super::volume::{self, Volume};
use crate::fault::{Fault, Kind};
use crate::format::Opening;
use crate::format::linear::{Linear, Rest};
use crate::image::{Disk, Facts, GptHeader, GptLook, SECTOR};
use crate::io::InputFile;

/// What to do about an image that ends too early.
const NOT_WHOLE: &str = "a download that was cut off? fetch it again, and compare the sizes; a disk that an ISO was once written to: -f raw";
/// The system area and the first descriptor.
const HEAD: usize = 34_816;
/// How much may be missing that is padding only: 150 optical sectors, which burning programs append and drives do not always read back.
const PADDING: u64 = 150 * volume::SECTOR;

/// Opens `file` as the disk that its bytes are; refused where it is shorter than its volume.
pub fn open(opening: &mut Opening<'_>, file: Arc<InputFile>) -> Result<Disk, Fault> {
    let mut head = vec![0; HEAD];
    let got = file.read_up_to(0, &mut head)?;
    head.truncate(got);
    if !volume::is_one(&head) {
        return Err(Fault::new(Kind::NotThisFormat, file.name(), "no ISO 9660 or UDF volume descriptor")
            .at(volume::SYSTEM_AREA)
            .advice("if it is a raw disk: -f raw"));
    }
    let mut volume = volume::read(&file)?;
    let udf = match &volume.udf {
        Some(_) => udf::volume(&file)?,
        None => Udf::default(),
    };
    if volume.id.is_empty() {
        volume.id = udf.id;
    }
    if volume.udf.is_some() && udf.end.is_none() {
        let lost = Fault::damaged(
            file.name(),
            file.len(),
            "where the UDF volume ends cannot be read: is the image cut short?",
        );
        match volume.size {
            // Nothing else tells how long it should be.
            None => return Err(lost.advice(NOT_WHOLE)),
            Some(_) => opening.ledger.warn(lost),
        }
    }
    let gpt_end = match GptHeader::look(head.get(512..1024).unwrap_or_default()) {
        GptLook::None => None,
        GptLook::Sound(header) => header.end(SECTOR),
        GptLook::Damaged => None,
    };
    if gpt_end.is_none() && head.get(512..520) == Some(b"EFI PART") {
        opening.ledger.warn(Fault::damaged(file.name(), 512, "the GPT header of the hybrid image is damaged"));
    }
    let cut = hold_against_length(opening, &file, [volume.size, udf.end, gpt_end])?;
    let end = cut.as_ref().map_or(file.len(), |(end, _)| *end);

    let size = end.checked_next_multiple_of(SECTOR).filter(|size| i64::try_from(*size).is_ok());
    let size = size
        .ok_or_else(|| Fault::new(Kind::OverLimit, file.name(), "the file is larger than a disk can be").found(end))?;
    let hybrid = is_hybrid(&head);
    let facts = Facts {
        recorded: recorded(&volume, hybrid),
        disc_boots: Some(volume.boots.clone()),
        unfit_for_machines: (!hybrid).then_some(
            "an optical disc without a partition table: machines do not boot it as a hard disk; attach the ISO as a CD",
        ),
        ..Facts::new(super::FORMAT.name, super::FORMAT.title, size)
    };
    let rest = cut.map_or(Rest::Zero, |(_, lost)| Rest::Lost(lost));
    let layer = Linear::new(Arc::clone(&file), file.len(), size, rest);
    Disk::single(Arc::new(layer), facts, vec![file], Arc::clone(&opening.ledger))
}

/// A file that ends before its volume was cut off; one that lacks less than burning programs append is read with a warning. Where the end
/// may be missing: the byte at which it should be, and why all up to there is lost.
fn hold_against_length(
    opening: &Opening<'_>,
    file: &InputFile,
    ends: [Option<u64>; 3],
) -> Result<Option<(u64, Fault)>, Fault> {
    let Some(expected) = ends.into_iter().flatten().max().filter(|end| *end > file.len()) else { return Ok(None) };
    let short = |what: &'static str| {
        Fault::damaged(file.name(), file.len(), what).found(format!("{} bytes", file.len())).expected(expected)
    };
    if expected - file.len() <= PADDING {
        opening.ledger.warn(short("the ISO image ends within its padding"));
        return Ok(None);
    }
    let lost = short("the ISO image is truncated").advice(NOT_WHOLE);
    match opening.options.expects_losses() {
        true => Ok(Some((expected, lost))),
        false => Err(lost),
    }
}

fn recorded(volume: &Volume, hybrid: bool) -> Vec<(&'static str, String)> {
    let mut kinds = Vec::new();
    kinds.extend(volume.size.map(|_| "ISO 9660".to_string()));
    kinds.extend(volume.joliet.then(|| "Joliet".to_string()));
    kinds.extend(volume.udf.as_ref().map(|nsr| format!("UDF ({nsr})")));
    let boots = match volume.boots.as_slice() {
        [] => "nothing".to_string(),
        platforms => format!("El Torito: {}", platforms.join(", ")),
    };
    let all = [
        ("volume id", volume.id.clone()),
        ("file systems", kinds.join(", ")),
        ("boot record", boots),
        ("hybrid", if hybrid { "yes: it is a disk too" } else { "no" }.to_string()),
    ];
    all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}
