//! Files: the gate that every input passes, outputs that are never half done, and what differs per platform.

mod around;
mod device;
mod gate;
mod handles;
mod input;
mod input_pipe;
mod journal;
mod lease;
mod neighbours;
mod output;
mod pipe;
mod publish;
mod share;
mod size;
pub mod sys;
mod target;
mod zero;

pub use around::Unread;
pub use device::Device;
pub use gate::Gate;
pub use input::{FileId, InputFile};
pub use input_pipe::InputPipe;
pub use lease::{Found, Lease, Pending};
pub use neighbours::{Neighbour, neighbours};
pub use output::{OutputFile, OutputOptions, Outputs};
pub use pipe::Pipe;
pub use share::Sharing;
pub use size::in_memory;
pub use target::{Target, set_name};
pub use zero::is_zero;
