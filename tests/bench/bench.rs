//! How fast is a conversion, side by side: this program, `qemu-img convert`, `cp`, and what the machine itself can do.
//!
//! `cargo bench --bench bench -- --help`. It makes its own disk (an ext4 file system full of real files) in memory, converts it in turn with
//! each contestant, over and over, and prints medians: A B C D A B C D. A figure is a ratio within one round, so that a noisy machine is
//! noisy for all.

#[cfg(unix)]
mod cells;
#[cfg(unix)]
mod command;
#[cfg(unix)]
mod disk;
#[cfg(unix)]
mod limit;
#[cfg(unix)]
mod race;
#[cfg(unix)]
mod scaling;
#[cfg(unix)]
mod synced;
#[cfg(unix)]
mod table;

#[cfg(unix)]
fn main() -> anyhow::Result<std::process::ExitCode> {
    command::run()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("it measures on Unix alone");
}
