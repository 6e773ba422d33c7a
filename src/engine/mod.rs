//! What is done with the guest data of disks: one walk over the map, worker threads, order without a queue. Knows no format.

mod compare;
mod convert;
mod crew;
mod digest;
mod extents;
mod hash;
mod measure;
mod reader;
mod salvage;
mod turnstile;
mod walk;

pub use compare::{Compared, compare};
pub use convert::{Sources, Tally, convert};
pub use crew::{Control, workers};
pub use digest::{Algorithm, Digested};
pub use extents::{Extents, Kept, MapExtent};
pub use hash::{Hashed, hash};
pub use measure::{Measured, measure, measure_unseen};
pub use turnstile::Turnstile;
pub use walk::MapFeed;
