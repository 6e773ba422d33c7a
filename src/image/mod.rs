//! The shared vocabulary of readers, writers and the engine.
//!
//! A **layer** is one image of a chain and may say `Absent` (ask the parent); a **disk** is the chain resolved, where `Absent`
//! cannot appear. Readers answer [`Layer::run_at`]; writers make a [`Plan`] and a [`Placer`]; neither moves guest data.

mod adapter;
mod chain;
mod check;
mod claims;
mod contract;
mod disk;
mod feed;
mod files;
mod geometry;
mod gpt_header;
mod identity;
mod layer;
mod ledger;
mod losses;
mod overlaps;
mod region;
mod run;
mod writer;

pub use adapter::Adapter;
pub use chain::{Chain, Resolver};
pub use check::{Finding, Findings, Rule, Severity};
pub use contract::Contract;
pub use disk::{Creator, Disk, Extent, Facts};
pub use feed::{Content, Decode, Drawn, Feed, PIECE, PackedUnit, Piece, ROW, Rows, lost_tail};
pub use files::Files;
pub use geometry::Geometry;
pub use gpt_header::{GptHeader, GptLook};
pub use identity::{IdentifierSource, Identifiers};
pub use layer::{Layer, Unpack};
pub use ledger::Ledger;
pub use losses::{Losses, Lost};
pub use overlaps::{Named, Overlaps};
pub use region::{Region, Regions, between};
pub use run::{Here, Run};
pub use writer::{Encoder, Order, Phase, Placer, Plan, PlannedFile, Put, Seen, Verdict, Write, Writer, Writes};

/// Bytes of the sector that VHD and VMDK count in, whatever the guest's logical sector is.
pub const SECTOR: u64 = 512;
/// The logical sector of nearly all disks, in bytes.
pub const LOGICAL_SECTOR: u32 = 512;
