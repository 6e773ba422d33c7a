//! What differs per platform: the only place with `cfg` for systems. Both halves offer the same names.

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub use unix::*;

#[cfg(windows)]
mod windows;
#[cfg(windows)]
pub use windows::*;

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A folder.
    Folder,
    /// A block device: a disk or an optical drive.
    BlockDevice,
    /// A character device: a terminal, /dev/null.
    CharacterDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// Something else.
    Other,
}

impl FileKind {
    /// In words, for messages.
    pub fn words(self) -> &'static str {
        match self {
            FileKind::Regular => "a regular file",
            FileKind::Folder => "a folder",
            FileKind::BlockDevice => "a block device",
            FileKind::CharacterDevice => "a character device",
            FileKind::Fifo => "a named pipe",
            FileKind::Socket => "a socket",
            FileKind::Other => "no regular file",
        }
    }
}

/// Writes all of `bytes` at an offset; the bytes that went out before the error.
pub fn write_all_at(file: &std::fs::File, bytes: &[u8], at: u64) -> Result<(), (u64, std::io::Error)> {
    use std::io::ErrorKind;
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        match write_at(file, rest, at + done as u64) {
            Ok(0) => return Err((done as u64, ErrorKind::WriteZero.into())),
            Ok(n) => done += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err((done as u64, error)),
        }
    }
    Ok(())
}
