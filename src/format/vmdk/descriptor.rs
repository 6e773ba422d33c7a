//! The descriptor: a text that tells what a VMDK is made of.
//!
//! Written so that the strictest readers take it: QEMU wants `# Disk DescriptorFile` and `version=1` first, CID before parentCID, and
//! no blank line right before an extent; libvmdk wants the comments `# Extent description` and `# The Disk Data Base` letter for letter;
//! VirtualBox wants header keys, extents, ddb keys in this order, and `ddb.uuid.image` in hosted kinds.

use std::ffi::OsStr;
use std::fmt::Write as _;

use super::parse::NO_PARENT;
use super::recorded::HOSTED;
use crate::fault::{Fault, Kind};
use crate::format::Wish;
use crate::image::{Adapter, Facts};
use crate::io::set_name;

/// Whose descriptor it is: that decides which lines it has, and their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Of a kind of VMware's hosted products; the `createType`.
    Hosted(&'static str),
    /// Of a stream, as ESXi and vCenter export it.
    Stream,
    /// On a datastore of ESXi.
    Vmfs {
        /// Blocks are allocated when they are written.
        thin: bool,
    },
}

/// What a descriptor says of one disk.
pub struct Descriptor<'a> {
    /// Whose it is.
    style: Style,
    /// Sectors.
    capacity: u64,
    /// The extent lines.
    extents: Vec<String>,
    /// The controller.
    adapter: Adapter,
    /// Why that one.
    why: String,
    /// Content id and path of the parent, in a delta.
    pub parent: Option<(u32, String)>,
    /// Where identifiers are taken from.
    wish: &'a Wish,
}

impl<'a> Descriptor<'a> {
    /// The adapter: the user's, the one that the source recorded, in a hosted kind the one that machines of the source's format boot
    /// from, else LSI Logic.
    pub fn new(style: Style, capacity: u64, extents: Vec<String>, facts: &Facts, wish: &'a Wish) -> Descriptor<'a> {
        let (adapter, why) = match (wish.adapter, facts.adapter, facts.usual_adapter) {
            (Some(adapter), _, _) => (adapter, "asked for".to_string()),
            (_, Some(adapter), _) => (adapter, "recorded in the source".to_string()),
            (_, _, Some(adapter)) if matches!(style, Style::Hosted(_)) => {
                (adapter, format!("machines with a {} boot from it", facts.title))
            }
            _ => (Adapter::LsiLogic, "the usual one".to_string()),
        };
        Descriptor { style, capacity, extents, adapter, why, parent: None, wish }
    }

    /// What was decided where the user left it open.
    pub fn decisions(&self) -> Vec<String> {
        vec![format!("adapter {} ({})", self.adapter, self.why)]
    }

    /// What the user should know: ESXi takes no IDE disk from a datastore or a stream without trouble, and the guest may have booted from
    /// one.
    pub fn notes(&self, facts: &Facts) -> Vec<String> {
        let usual = facts
            .usual_adapter
            .filter(|usual| facts.adapter.is_none() && self.wish.adapter.is_none() && *usual != self.adapter);
        let note = usual.map(|usual| {
            format!(
                "the controller is {}, as ESXi wants it; a {} boots from {usual}: --adapter chooses",
                self.adapter, facts.title
            )
        });
        note.into_iter().collect()
    }

    /// The text.
    pub fn text(&self) -> String {
        let ids = &self.wish.identifiers;
        let (cylinders, heads, sectors) = geometry(self.adapter, self.capacity);
        let mut text = String::new();
        let mut line = |line: std::fmt::Arguments<'_>| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "{line}");
        };
        let create_type = match self.style {
            Style::Hosted(create_type) => create_type,
            Style::Stream => "streamOptimized",
            Style::Vmfs { .. } => "vmfs",
        };
        line(format_args!("# Disk DescriptorFile"));
        line(format_args!("version=1"));
        if self.style != Style::Stream {
            line(format_args!("encoding=\"UTF-8\""));
        }
        line(format_args!("CID={:08x}", ids.cid));
        line(format_args!("parentCID={:08x}", self.parent.as_ref().map_or(NO_PARENT, |(cid, _)| *cid)));
        if matches!(self.style, Style::Vmfs { .. }) {
            line(format_args!("isNativeSnapshot=\"no\""));
        }
        line(format_args!("createType=\"{create_type}\""));
        if let Some((_, hint)) = &self.parent {
            line(format_args!("parentFileNameHint=\"{hint}\""));
        }
        line(format_args!(""));
        line(format_args!("# Extent description"));
        for extent in &self.extents {
            line(format_args!("{extent}"));
        }
        line(format_args!(""));
        line(format_args!("# The Disk Data Base"));
        line(format_args!("#DDB"));
        line(format_args!(""));
        // By their names, as ESXi writes them.
        line(format_args!("ddb.adapterType = \"{}\"", self.adapter));
        line(format_args!("ddb.geometry.cylinders = \"{cylinders}\""));
        line(format_args!("ddb.geometry.heads = \"{heads}\""));
        line(format_args!("ddb.geometry.sectors = \"{sectors}\""));
        line(format_args!("ddb.longContentID = \"{}{:08x}\"", hex(&ids.long), ids.cid));
        if self.style == (Style::Vmfs { thin: true }) {
            line(format_args!("ddb.thinProvisioned = \"1\""));
        }
        if self.style != Style::Stream {
            line(format_args!("ddb.uuid = \"{}\"", scsi_id(&ids.scsi)));
        }
        if matches!(self.style, Style::Hosted(_)) {
            // Without it VirtualBox calls a disk inaccessible; VMware's datastores and streams have none.
            line(format_args!("ddb.uuid.image = \"{}\"", ids.uuid));
        }
        line(format_args!("ddb.virtualHWVersion = \"{}\"", self.wish.hw_version.unwrap_or(HW_VERSION)));
        text
    }
}

/// The virtual hardware that every product takes.
const HW_VERSION: u32 = 4;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The guest-visible id: `60 00 C2 9x`, then twelve bytes, a dash in the middle.
fn scsi_id(random: &[u8; 13]) -> String {
    let mut bytes = [0x60, 0x00, 0xC2, 0x90 | random[0] & 0x0F, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[4..].copy_from_slice(&random[1..]);
    let half = |bytes: &[u8]| bytes.iter().map(|b| hex(&[*b])).collect::<Vec<_>>().join(" ");
    format!("{}-{}", half(&bytes[..8]), half(&bytes[8..]))
}

/// Cylinders, heads, sectors as VMware's own products choose them for a controller and a capacity in sectors.
fn geometry(adapter: Adapter, capacity: u64) -> (u64, u64, u64) {
    const GIB_SECTORS: u64 = (1 << 30) / 512;
    /// The most that readers take for a SCSI disk.
    const MAX_SCSI_CYLINDERS: u64 = 65_535;
    let (heads, sectors, most) = match adapter {
        Adapter::Ide => (16, 63, u64::MAX),
        _ if capacity < GIB_SECTORS => (64, 32, MAX_SCSI_CYLINDERS),
        _ if capacity < 2 * GIB_SECTORS => (128, 32, MAX_SCSI_CYLINDERS),
        _ => (255, 63, MAX_SCSI_CYLINDERS),
    };
    ((capacity / (heads * sectors)).clamp(1, most), heads, sectors)
}

/// A name as an extent line can hold it, if it can: UTF-8, no quote, no control character.
fn holdable(name: &OsStr) -> Option<&str> {
    name.to_str().filter(|name| !name.chars().any(|c| c == '"' || c.is_control()))
}

/// What a delta on top of the wish's base records of it.
pub fn parent(wish: &Wish, facts: &Facts) -> Result<Option<(u32, String)>, Fault> {
    if wish.base.is_none() {
        return Ok(None);
    }
    let base = wish.base_of(&super::FORMAT, facts)?;
    // On a datastore only the host makes snapshots; on a stream nobody can.
    if !HOSTED.contains(&base.facts.subformat) {
        return Err(base
            .refused("--base: a delta can lie on hosted kinds only")
            .found(base.facts.subformat)
            .expected(format!("one of {}", HOSTED.join(", "))));
    }
    let cid = base.facts.cid.ok_or_else(|| base.refused("--base: a VMDK without a content id cannot have children"))?;
    let hint = base.relative_text()?;
    match hint.chars().any(|c| c == '"' || c.is_control()) {
        true => Err(base.refused("--base: a descriptor cannot hold this name").found(hint)),
        false => Ok(Some((cid, hint))),
    }
}

/// The name for a kind of one file. Readers take the file itself whatever the name says, so a substitute serves.
pub fn own_name(wish: &Wish) -> String {
    match holdable(&wish.file_name) {
        Some(name) => name.to_string(),
        None => {
            wish.file_name.to_string_lossy().chars().map(|c| if c == '"' || c.is_control() { '_' } else { c }).collect()
        }
    }
}

/// The name of a file beside the descriptor: that of OUTPUT with `suffix` in place of its ending. Refused where an extent line cannot
/// hold it.
pub fn name_beside(wish: &Wish, suffix: &str) -> Result<String, Fault> {
    let name = set_name(&wish.file_name, suffix);
    holdable(&name).map(str::to_string).ok_or_else(|| {
        let what = "a descriptor cannot hold this name: it must be UTF-8 without quotes or control characters";
        Fault::new(Kind::Usage, &wish.output, what)
            .advice("choose another name, or -s monolithicSparse, which is one file")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometry_is_what_vmware_wrote_for_the_same_capacity() {
        for (adapter, capacity, want) in [
            (Adapter::LsiLogic, 61_440, (30, 64, 32)),
            (Adapter::LsiLogic, 4096, (2, 64, 32)),
            (Adapter::LsiLogic, 41_943_040, (2610, 255, 63)),
            (Adapter::BusLogic, 125_829_120, (7832, 255, 63)),
            (Adapter::Ide, 1_048_576, (1040, 16, 63)),
            (Adapter::LsiLogic, 1_048_576_000, (65_270, 255, 63)),
            (Adapter::Ide, 1, (1, 16, 63)),
        ] {
            assert_eq!(geometry(adapter, capacity), want, "{adapter} {capacity}");
        }
    }

    #[test]
    fn a_scsi_id_has_vmwares_prefix_and_form() {
        assert_eq!(
            scsi_id(&[0xF8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
            "60 00 c2 98 01 02 03 04-05 06 07 08 09 0a 0b 0c"
        );
    }
}
