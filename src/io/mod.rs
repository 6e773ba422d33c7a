//! Files: the gate that every input passes, outputs that are never half done, and what differs per platform.

mod input;
mod output;
mod size;
pub mod sys;
mod zero;

pub use input::{FileId, Gate, InputFile};
pub use output::{OutputFile, OutputOptions, Outputs, Target};
pub use size::in_memory;
pub use zero::is_zero;
