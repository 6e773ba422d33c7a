//! Finds the parent of a snapshot, and makes sure that it is the one.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use uuid::Uuid;

use super::beside::with_uuid;
use super::image::Image;
use super::parse::{Parsed, descriptor_of};
use crate::fault::{Fault, Kind};
use crate::format::Opening;
use crate::format::parents::{self, Candidate, base_name};
use crate::io::InputFile;

/// How an image knows its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// VMware's way: the parent's content id when the snapshot was taken.
    ContentId(u32),
    /// VirtualBox's way, which looks like a base by VMware's rules: the parent's uuid.
    Uuid(Uuid),
}

/// The parent of `child`, the image at this depth of the chain; `None` where it has none.
pub fn of(child: &Image, opening: &mut Opening<'_>, depth: usize) -> Result<Option<Arc<InputFile>>, Fault> {
    let Some(link) = child.described().link()? else { return Ok(None) };
    if let Some(file) = parents::given(opening, depth, |file| look(child, link, file))? {
        return Ok(Some(file));
    }
    match link {
        Link::Uuid(uuid) => Err(child
            .described()
            .fault(
                Kind::NotFound,
                "ddb.uuid.parent",
                "a differencing VMDK of VirtualBox, which knows its parent by the uuid alone",
            )
            .found(uuid)
            .advice(match with_uuid(&child.file, uuid) {
                Some(name) => format!("--parent {name} has that uuid"),
                None => "--parent names the disk that VirtualBox shows as its parent".into(),
            })),
        Link::ContentId(_) => search(child, link, opening).map(Some),
    }
}

/// Looks for the parent that the descriptor names.
fn search(child: &Image, link: Link, opening: &mut Opening<'_>) -> Result<Arc<InputFile>, Fault> {
    let Some(hint) = child.descriptor.said("parentFileNameHint") else {
        return Err(child
            .described()
            .fault(Kind::NotFound, "parentCID", "a snapshot that does not name its parent")
            .advice("--parent names it"));
    };
    let names = candidates(hint, opening.gate.allows_outside());
    // The bare name of a parent that lies elsewhere may be the child's own.
    let own = |name: &Path, file: &InputFile| match name == Path::new(hint) {
        true => Ok(false),
        false => file.is_at(child.file.name()),
    };
    let found = parents::search(opening, &child.file, names, None, |name, file| match own(name, &file)? {
        true => Ok(None),
        false => look(child, link, file).map(Some),
    })?;
    found.ok_or_else(|| {
        child
            .described()
            .fault(Kind::NotFound, "parentFileNameHint", "the parent of this snapshot is not there")
            .found(hint)
            .advice("put the parent beside the snapshot, under that name; or --parent names it")
    })
}

/// Where a recorded name may lead, the likeliest first: as it is, its bare name beside the child; outside, where that is allowed, also
/// its last folder beside the child's. Each also without its percent signs, which URLs leave.
fn candidates(hint: &str, outside: bool) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = Vec::new();
    let decoded = percent_decode_str(hint).decode_utf8().unwrap_or(Cow::Borrowed(hint));
    for hint in [hint, &decoded] {
        let base = base_name(hint);
        let mut add = |name: PathBuf| {
            if !names.contains(&name) {
                names.push(name);
            }
        };
        add(hint.into());
        add(hint.replace('\\', "/").into());
        add(base.into());
        let folder = hint.strip_suffix(base).map(|front| base_name(front.trim_end_matches(['/', '\\'])));
        if let Some(folder) = folder.filter(|folder| outside && !folder.is_empty()) {
            add(Path::new("..").join(folder).join(base));
        }
    }
    names
}

/// Is `parent` what the child was made on? If not, why.
fn look(child: &Image, link: Link, parent: Arc<InputFile>) -> Result<Candidate<Arc<InputFile>>, Fault> {
    let Some(descriptor) = descriptor_of(&parent)? else {
        return Err(Fault::new(Kind::NotThisFormat, parent.name(), "the parent of a VMDK must be a VMDK")
            .against(format!("{} names it as its parent", child.file.name().display())));
    };
    let wrong = match link {
        Link::ContentId(recorded) => other_content(child, recorded, &parent, &descriptor),
        Link::Uuid(recorded) => {
            let found = descriptor.uuid("ddb.uuid.image");
            (found != Some(recorded)).then(|| {
                let found = found.map_or("none".into(), |uuid| uuid.to_string());
                child
                    .described()
                    .fault(Kind::Changed, "ddb.uuid.parent", "this is not the disk that the child was made on")
                    .found(format!("uuid {found} in {}", parent.name().display()))
                    .expected(recorded)
                    .advice("--ignore-cid goes on")
            })
        }
    };
    Ok(Candidate { parent, wrong })
}

fn other_content(child: &Image, recorded: u32, parent: &InputFile, descriptor: &Parsed) -> Option<Fault> {
    let found = descriptor.cid("CID");
    if found == Some(recorded) {
        return None;
    }
    let what = "the parent was changed since the snapshot was taken, or is another disk";
    let advice =
        "look for the parent as it was: what lies under the snapshot is not what the machine saw; --ignore-cid goes on";
    let found = found.map_or("none".to_string(), |cid| format!("{cid:08x}"));
    Some(
        child
            .described()
            .fault(Kind::Changed, "parentCID", what)
            .found(format!("CID {found} in {}", parent.name().display()))
            .expected(format!("parentCID {recorded:08x}"))
            .advice(advice),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_name_leads_beside_the_child_and_only_where_allowed_elsewhere() {
        let names = |hint, outside| -> Vec<String> {
            candidates(hint, outside).iter().map(|name| name.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names("base.vmdk", false), ["base.vmdk"]);
        assert_eq!(names("base.vmdk", true), ["base.vmdk"]);
        assert_eq!(
            names("C:\\vms\\a b\\base.vmdk", false),
            ["C:\\vms\\a b\\base.vmdk", "C:/vms/a b/base.vmdk", "base.vmdk"]
        );
        assert_eq!(names("/vmfs/vm/base.vmdk", true), ["/vmfs/vm/base.vmdk", "base.vmdk", "../vm/base.vmdk"]);
        assert_eq!(names("a%20b.vmdk", false), ["a%20b.vmdk", "a b.vmdk"]);
    }
}
