//! Finds the parent of a differencing VHD, and makes sure that it is the one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::header::{self, DynamicHeader};
use super::locate::{Located, locate};
use super::locator::{Locator, Way};
use crate::fault::{Fault, Kind};
use crate::format::Opening;
use crate::format::parents::{self, Candidate, base_name};
use crate::io::{InputFile, neighbours};

/// What a child says of its parent.
pub struct Child<'a> {
    /// The child.
    pub file: &'a Arc<InputFile>,
    /// Its header.
    pub header: &'a DynamicHeader,
    /// Byte of the header in the file.
    pub header_at: u64,
}

/// A parent that was found.
pub struct Parent {
    /// Its file.
    pub file: Arc<InputFile>,
    /// Its footer; none where it is a raw disk.
    pub located: Option<Located>,
}

impl Child<'_> {
    fn fault(&self, kind: Kind, field: usize, what: &'static str) -> Fault {
        Fault::new(kind, self.file.name(), what).at(self.header_at + field as u64)
    }

    /// The parent of this image, the one at `depth` of the chain: what the user gave, else what the child names.
    pub fn parent(&self, opening: &mut Opening<'_>, depth: usize) -> Result<Parent, Fault> {
        if let Some(parent) = parents::given(opening, depth, |file| self.look(file))? {
            return Ok(parent);
        }
        let Names { names, unreadable } = self.names();
        unreadable.iter().for_each(|fault| opening.ledger.warn(fault.clone()));
        // The folder is listed only where no name leads anywhere as it is.
        let tries: [&dyn Fn() -> Vec<PathBuf>; 2] = [&|| candidates(&names), &|| self.in_another_case(&names)];
        // Where no name leads anywhere, one that cannot be read is the reason.
        let refusal = unreadable.into_iter().next();
        let found = tries.into_iter().flat_map(|find| find());
        let look = |_: &Path, file| self.look(file).map(Some);
        parents::search(opening, self.file, found, refusal, look)?.ok_or_else(|| {
            let best = names.first().map_or("no name at all", |(_, name)| name.as_str());
            self.fault(Kind::NotFound, header::at::PARENT_NAME, "the parent of this differencing VHD is not there")
                .found(best)
                .advice("put the parent beside it, under that name; or --parent names it")
        })
    }

    /// Is `file` what the child was made on? If not, why.
    fn look(&self, file: Arc<InputFile>) -> Result<Candidate<Parent>, Fault> {
        let located = locate(&file, false)?;
        let found = located.as_ref().map(|located| located.footer.unique_id);
        let wanted = self.header.parent_id;
        // XenServer's way: a parent without an identity is a raw disk, and nothing that holds one.
        if located.is_none() && wanted.is_nil() {
            let format = crate::format::by_content(&file)?.filter(|format| !["raw", "iso"].contains(&format.name));
            if let Some(format) = format {
                return Err(Fault::new(Kind::NotThisFormat, file.name(), "the parent of a VHD is a VHD or a raw disk")
                    .found(format!("a {}", format.title)));
            }
        }
        let fits = found == Some(wanted) || (found.is_none() && wanted.is_nil());
        let show = |id: Option<Uuid>| id.map_or("no VHD".to_string(), |id| format!("unique id {id}"));
        let wrong = (!fits).then(|| {
            self.fault(
                Kind::Changed,
                header::at::PARENT_ID,
                "this is not the disk that the differencing VHD was made on",
            )
            .found(format!("{} in {}", show(found), file.name().display()))
            .expected(if wanted.is_nil() { "a raw disk".into() } else { format!("unique id {wanted}") })
            .advice("--parent names another; --ignore-cid takes this one")
        });
        match (found, wrong) {
            (None, Some(fault)) if !wanted.is_nil() => Err(fault.of_kind(Kind::NotThisFormat)),
            (_, wrong) => Ok(Candidate { parent: Parent { file, located }, wrong }),
        }
    }

    /// The names of the parent, as far as they can be read, in the order in which they are believed.
    fn names(&self) -> Names {
        let mut locators: Vec<&Locator> = self.header.locators.iter().collect();
        locators.sort_by_key(|locator| locator.way);
        let (mut names, mut unreadable) = (Vec::new(), Vec::new());
        for locator in locators {
            match locator.name(self.file) {
                Ok(name) => names.push((locator.way, name)),
                Err(fault) => unreadable.push(fault),
            }
        }
        // A bare name, or a full path in .avhd files.
        names.push((Way::WindowsAbsolute, self.header.parent_name.clone()));
        names.retain(|(_, name)| !name.is_empty());
        Names { names, unreadable }
    }

    /// Files beside the child whose names are those of the parent but for their case.
    fn in_another_case(&self, names: &[(Way, String)]) -> Vec<PathBuf> {
        let bases: Vec<String> = names.iter().map(|(_, name)| base_name(name).to_lowercase()).collect();
        let mut endings: Vec<&str> = bases.iter().filter_map(|base| Path::new(base).extension()?.to_str()).collect();
        endings.sort_unstable();
        endings.dedup();
        let beside = endings.into_iter().flat_map(|ending| neighbours(self.file, ending));
        let same = beside.filter(|neighbour| bases.contains(&neighbour.name().to_string_lossy().to_lowercase()));
        same.map(|neighbour| neighbour.name().into()).collect()
    }
}

/// The recorded names of a parent.
struct Names {
    names: Vec<(Way, String)>,
    /// Why others cannot be read.
    unreadable: Vec<Fault>,
}

/// Where names may lead: each as it is, and its last part beside the child.
fn candidates(names: &[(Way, String)]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let mut add = |name: PathBuf| {
        if !found.contains(&name) {
            found.push(name);
        }
    };
    for (way, name) in names {
        match way {
            // With a drive, or on another machine: whole where those are known, its last part elsewhere.
            Way::WindowsAbsolute | Way::OldAbsolute if !cfg!(windows) && is_absolute(name) => {}
            Way::MacUrl => add(name.into()),
            _ => add(name.replace('\\', "/").into()),
        }
        add(base_name(name).into());
    }
    found
}

/// Does a name of Windows begin at a drive, at a machine or at a root?
fn is_absolute(name: &str) -> bool {
    name.starts_with(['\\', '/']) || name.as_bytes().get(1) == Some(&b':')
}
