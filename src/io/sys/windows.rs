//! Windows. Outputs have no holes here (std cannot set the sparse flag), which costs space and nothing else.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::FileKind;

/// CreateFile's flag for "will be read front to back".
const SEQUENTIAL_SCAN: u32 = 0x0800_0000;
/// CreateFile's flag without which a folder cannot be opened.
const BACKUP_SEMANTICS: u32 = 0x0200_0000;

/// ERROR_CRC: a sector does not fit its checksum.
const CRC: i32 = 23;

/// What the metadata says.
pub fn kind(of: &Metadata) -> FileKind {
    match () {
        _ if of.is_file() => FileKind::Regular,
        _ if of.is_dir() => FileKind::Folder,
        _ => FileKind::Other,
    }
}

/// Opens for reading; devices and pipes are refused.
pub fn open_read(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(SEQUENTIAL_SCAN).open(path)?;
    if winapi_util::file::typ(&file)?.is_disk() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file on a disk"))
}

/// Opens a file that was made here for writing, again; never what a link leads to.
pub fn open_write(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

/// Opens a file beneath a folder for reading; devices and pipes are refused.
pub fn open_beneath(folder: &cap_std::fs::Dir, name: &Path) -> io::Result<File> {
    let file = folder.open(name)?.into_std();
    if winapi_util::file::typ(&file)?.is_disk() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file on a disk"))
}

/// There is nothing to ask for.
pub fn write_back(_file: &File, _at: u64, _len: u64) {}

/// No file system here is asked to share blocks.
pub fn share_unit(_folder: &Path) -> Option<u64> {
    None
}

/// Shares nothing.
pub fn share(_from: &File, _at: u64, _to: &File, _to_at: u64, _len: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Nothing can be shared.
pub fn file_system(_of: &Metadata) -> Option<u64> {
    None
}

/// Reads at an offset; may read less. Moves the file's cursor, which nobody uses.
pub fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    file.seek_read(bytes, at)
}

/// Is this the medium's refusal of some bytes, so that others may be read? A file that cannot be opened again is not.
pub fn is_of_medium(error: &io::Error) -> bool {
    // ERROR_CRC, ERROR_SEEK, ERROR_SECTOR_NOT_FOUND, ERROR_READ_FAULT, ERROR_IO_DEVICE, ERROR_FILE_CORRUPT, ERROR_DISK_CORRUPT
    error.raw_os_error().is_some_and(|code| [CRC, 25, 27, 30, 1117, 1392, 1393].contains(&code))
}

/// What a medium says of bytes that it cannot read.
pub fn medium_error() -> io::Error {
    io::Error::from_raw_os_error(CRC)
}

/// Writes at an offset; may write less.
pub fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    file.seek_write(bytes, at)
}

/// Bytes that a file takes up on its disk, as far as std tells.
pub fn allocated(of: &Metadata) -> u64 {
    of.len()
}

/// Holes cannot be asked for: everything is data.
pub fn next_data(_file: &File, at: u64, len: u64) -> io::Result<Option<Range<u64>>> {
    Ok((at < len).then_some(at..len))
}

/// Is `file` what `path` leads to? False where nothing is there.
pub fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let other = match File::open(path) {
        Ok(other) => other,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(same_file::Handle::from_file(file.try_clone()?)? == same_file::Handle::from_file(other)?)
}

/// Bytes that a user may still store in the folder's file system.
pub fn free_space(folder: &Path) -> io::Result<u64> {
    fs4::available_space(folder)
}

/// Makes a list of temporary files, which must not be there.
pub fn make_list(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// Opens a list of temporary files for reading and writing.
pub fn open_list(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Whether a file has other names is not asked here.
pub fn has_one_name(_of: &Metadata) -> bool {
    true
}

/// The number that the file system gave to what bears this name.
pub fn file_number(path: &Path) -> io::Result<u64> {
    Ok(winapi_util::file::information(winapi_util::Handle::from_path_any(path)?)?.file_index())
}

/// Does the file belong to the user that this program runs as? The folder's access list answers for it here.
pub fn is_ours(_of: &Metadata) -> bool {
    true
}

/// A file's name from its bytes; `None` where they are no Unicode.
pub fn name_of_bytes(bytes: Vec<u8>) -> Option<OsString> {
    String::from_utf8(bytes).ok().filter(|name| !name.contains('\0')).map(OsString::from)
}

/// Whether a file can be made in `folder` is not told here before one is made.
pub fn may_write(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// A new file in `folder` under a temporary name, with the folder's access list.
pub fn temporary(folder: &Path, prefix: &str) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(prefix).tempfile_in(folder)
}

/// Makes renames in `folder` last.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).custom_flags(BACKUP_SEMANTICS).open(folder)?.sync_all()
}

/// From now on Ctrl-C, Ctrl-Break and the closing of the console set `flag`; the second one ends the program at once.
pub fn watch_signals(flag: &Arc<AtomicBool>, signal: &Arc<AtomicUsize>) -> io::Result<()> {
    let (flag, signal) = (Arc::clone(flag), Arc::clone(signal));
    ctrlc::set_handler(move || {
        signal.store(2, Ordering::SeqCst);
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    })
    .map_err(io::Error::other)
}

/// There is no ending by a signal; the exit status tells.
pub fn end_by_signal(_signal: usize) {}

/// A limit on a process's address space is a job object's matter here, and not looked at.
pub fn address_space() -> Option<u64> {
    None
}

/// Is standard output a terminal?
pub fn stdout_is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stdout())
}

/// Standard output has no name here.
pub const STDOUT: Option<&str> = None;

/// No name leads to a handle of this process.
pub fn descriptor_name(_path: &Path) -> Option<bool> {
    None
}

/// Standard output as a file of our own handle.
pub fn stdout_file() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(File::from(io::stdout().as_handle().try_clone_to_owned()?))
}

/// Block devices are no files here: nothing is found to be one.
pub fn open_device(_path: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The same for a look alone.
pub fn look_at_device(_path: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// No device is ever opened here.
pub fn share_storage(_file: &File, _device: &File) -> io::Result<bool> {
    Ok(false)
}

/// There are no FIFOs and devices among the files here.
pub fn open_to_write_in_place(path: &Path) -> io::Result<Option<File>> {
    OpenOptions::new().write(true).open(path).map(Some)
}

/// Writes some of `bytes`; waits as long as the receiver does.
pub fn write_within(file: &File, bytes: &[u8], _wait: std::time::Duration) -> io::Result<usize> {
    let mut file = file;
    io::Write::write(&mut file, bytes)
}

/// Standard input as a file of our own handle.
pub fn stdin_file() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(File::from(io::stdin().as_handle().try_clone_to_owned()?))
}

/// Reads what comes; waits as long as the sender does.
pub fn read_within(file: &File, bytes: &mut [u8], _wait: std::time::Duration) -> io::Result<Option<usize>> {
    let mut file = file;
    io::Read::read(&mut file, bytes).map(Some)
}
