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
