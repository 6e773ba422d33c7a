//! Looks for the parent of a snapshot: the same for every format that knows snapshots.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Opening;
use crate::fault::{Fault, Kind};
use crate::io::InputFile;

/// A file that may be the parent, looked at.
pub struct Candidate<P> {
    /// What it is opened as.
    pub parent: P,
    /// Why it is not what the child was made on; `None`: it is.
    pub wrong: Option<Fault>,
}

/// The parent that the user gave for the image at this depth of the chain, where one was given.
pub fn given<P>(
    opening: &mut Opening<'_>,
    depth: usize,
    look: impl FnOnce(Arc<InputFile>) -> Result<Candidate<P>, Fault>,
) -> Result<Option<P>, Fault> {
    let Some(name) = opening.options.parents.get(depth) else { return Ok(None) };
    let Candidate { parent, wrong } = look(opening.gate.typed(name)?)?;
    match wrong {
        Some(fault) if !opening.options.ignore_cid => Err(fault),
        _ => Ok(Some(parent)),
    }
}

/// The first of `names` beside `child`, the likeliest first, that leads to its parent; `None`: none leads anywhere. Where what is found
/// is not the parent, the fault is that of the likeliest; `refusal`: of a name that could not even be tried. `look` says `None` of a file
/// that is not meant.
pub fn search<P>(
    opening: &mut Opening<'_>,
    child: &InputFile,
    names: impl IntoIterator<Item = PathBuf>,
    mut refusal: Option<Fault>,
    look: impl Fn(&Path, Arc<InputFile>) -> Result<Option<Candidate<P>>, Fault>,
) -> Result<Option<P>, Fault> {
    let mut wrong = None;
    for name in names {
        let file = match opening.gate.named(child, &name) {
            Ok(file) => file,
            // What is not there says least.
            Err(fault) if fault.kind() == Kind::NotFound => continue,
            Err(fault) => {
                refusal = refusal.or(Some(fault));
                continue;
            }
        };
        match look(&name, file) {
            Ok(Some(Candidate { parent, wrong: None })) => return Ok(Some(parent)),
            Ok(Some(Candidate { parent, wrong: Some(fault) })) => wrong = wrong.or(Some((parent, fault))),
            Ok(None) => {}
            Err(fault) => refusal = refusal.or(Some(fault)),
        }
    }
    match (wrong, refusal) {
        (Some((parent, _)), _) if opening.options.ignore_cid => Ok(Some(parent)),
        (Some((_, fault)), _) | (None, Some(fault)) => Err(fault),
        (None, None) => Ok(None),
    }
}

/// The last part of a name, whatever system wrote it.
pub fn base_name(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_a_name_is_told_whatever_system_wrote_it() {
        assert_eq!(base_name("C:\\a\\b.vmdk"), "b.vmdk");
        assert_eq!(base_name("/a/b.vmdk"), "b.vmdk");
    }
}
