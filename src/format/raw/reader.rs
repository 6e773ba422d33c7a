//! Opens a raw disk.

use std::sync::Arc;

use crate::fault::{Fault, Kind};
use crate::format::Opening;
use crate::format::linear::{Linear, Rest};
use crate::image::{Disk, Facts, SECTOR};
use crate::io::InputFile;

/// Opens `file` as a raw disk; one that is no whole number of sectors is padded with zeroes.
pub fn open(opening: &mut Opening<'_>, file: Arc<InputFile>) -> Result<Disk, Fault> {
    let size =
        file.len().checked_next_multiple_of(SECTOR).filter(|size| i64::try_from(*size).is_ok()).ok_or_else(|| {
            Fault::new(Kind::OverLimit, file.name(), "the file is larger than a disk can be").found(file.len())
        })?;
    if size == 0 {
        return Err(Fault::new(Kind::NotThisFormat, file.name(), "the file is empty"));
    }
    if size != file.len() {
        let warning = Fault::new(Kind::Damaged, file.name(), "the raw disk is no whole number of sectors")
            .found(format!("{} bytes", file.len()))
            .against(format!("{} zeroes are added", size - file.len()));
        opening.ledger.warn(warning);
    }
    if opening.options.format.is_none() && is_called_a_disc(&file) {
        let warning = Fault::new(Kind::Damaged, file.name(), "called an ISO image, and no volume descriptor is in it");
        let warning = warning.against("it is read as a raw disk");
        opening.ledger.warn(warning.advice("a download cut short? compare the sizes; a raw disk all the same: -f raw"));
    }
    let facts = Facts { padding: size - file.len(), ..Facts::new(super::FORMAT.name, super::FORMAT.title, size) };
    let layer = Linear::new(Arc::clone(&file), file.len(), size, Rest::Zero);
    Disk::single(Arc::new(layer), facts, vec![file], Arc::clone(&opening.ledger))
}

/// A disc is known by its descriptors: of one that was cut in front of them, or lost them, the name alone is left, and nothing else says
/// how long it was.
fn is_called_a_disc(file: &InputFile) -> bool {
    file.name().extension().is_some_and(|ending| ending.eq_ignore_ascii_case("iso"))
}
