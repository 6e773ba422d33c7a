//! Moves guest data from a disk into an output: one walk over the map, worker threads, order without a queue. Knows no format.

mod convert;
mod measure;
mod reader;
mod salvage;
mod turnstile;
mod walk;

pub use convert::{Control, Sources, Tally, convert};
pub use measure::{Measured, measure, measure_unseen};
pub use turnstile::Turnstile;
pub use walk::MapFeed;
