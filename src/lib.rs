//! vdconv converts virtual disks.
//!
//! A tour, from the outside in:
//!
//! * [`format::open`] opens an image: the content decides what it is, and one [`io::Gate`] opens every file, read-only.
//! * The result is an [`image::Disk`]: a chain of layers, each of which answers where a stretch of the guest is kept
//!   ([`image::Layer::run_at`]), and the facts that `info` prints.
//! * [`format::check`] looks at every structure of an image, and gives [`image::Findings`].
//! * A [`format::Subformat`] makes an [`image::Writer`]: a plan, made before the first byte, and a placer that decides where things go.
//! * [`engine::convert`] walks the map (beside that of a base, where the output is a delta), reads, tests for zero, and writes at the
//!   places given, on several threads.
//! * [`engine::compare`] walks over two maps in the same way, and holds what it reads against each other;
//!   [`engine::hash`] takes a disk's digest.
//! * [`guest::look`] says what lies inside: partitions, file systems, what boots.
//! * [`engine::Extents`] lists the map as `map` prints it.
//! * [`io::Outputs`] holds the files under temporary names until [`io::Outputs::publish`] gives them their own.
//!
//! What the library promises: an input is never written to; a final name never holds a partial file; what cannot be read is an error
//! that names file and byte, or, where the user asked to go on, a listed loss; never zeroes without a word; the output's bytes depend on the source and the options alone; memory does not grow with
//! the size of a disk. The rules that hold for every format, R1 to R27, stand at the head of `tests/rules.rs`. Every error is a [`fault::Fault`].

pub mod engine;
pub mod fault;
#[warn(clippy::cast_possible_truncation, clippy::indexing_slicing, clippy::unwrap_used)]
pub mod format;
#[warn(clippy::cast_possible_truncation, clippy::indexing_slicing, clippy::unwrap_used)]
pub mod guest;
pub mod image;
pub mod io;
