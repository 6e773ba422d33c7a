//! Files: the gate that every input passes, outputs that are never half done, and what differs per platform.

mod gate;
mod handles;
mod input;
mod input_pipe;
mod neighbours;
mod output;
mod pipe;
mod size;
pub mod sys;
mod zero;

pub use gate::Gate;
pub use input::{FileId, InputFile};
pub use input_pipe::InputPipe;
pub use neighbours::{Neighbour, neighbours};
pub use output::{OutputFile, OutputOptions, Outputs, Target, set_name};
pub use pipe::Pipe;
pub use size::in_memory;
pub use zero::is_zero;
