//! Unix, with Linux's extras where there are some.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use rustix::fs::{OFlags, major, minor};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

use super::FileKind;

/// What the metadata says.
pub fn kind(of: &Metadata) -> FileKind {
    let t = of.file_type();
    match () {
        _ if t.is_file() => FileKind::Regular,
        _ if t.is_dir() => FileKind::Folder,
        _ if t.is_block_device() => FileKind::BlockDevice,
        _ if t.is_char_device() => FileKind::CharacterDevice,
        _ if t.is_fifo() => FileKind::Fifo,
        _ if t.is_socket() => FileKind::Socket,
        _ => FileKind::Other,
    }
}

/// Opens for reading and never waits: a FIFO put in the file's place after it was looked at does not hang us.
pub fn open_read(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

/// Opens a file that was made here for writing, again; never what a link leads to, and never waits.
pub fn open_write(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(path)
}

/// Opens a file beneath a folder for reading, and never waits.
pub fn open_beneath(folder: &cap_std::fs::Dir, name: &Path) -> io::Result<File> {
    use cap_std::fs::OpenOptionsExt as _;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let options = cap_std::fs::OpenOptions::new().read(true).custom_flags(flags.bits() as i32).clone();
    Ok(folder.open_with(name, &options)?.into_std())
}

/// Reads at an offset; may read less.
pub fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    file.read_at(bytes, at)
}

/// Is this the medium's refusal of some bytes, so that others may be read? A file that cannot be opened again is not.
pub fn is_of_medium(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let found = error.raw_os_error().map(Errno::from_raw_os_error);
    // Disks say EIO and, with the kernel's newer layers, ENODATA or EILSEQ; file systems that keep checksums EBADMSG or EUCLEAN.
    #[cfg(target_os = "linux")]
    let more = [Errno::UCLEAN, Errno::REMOTEIO];
    #[cfg(not(target_os = "linux"))]
    let more = [];
    let known = [Errno::IO, Errno::NODATA, Errno::ILSEQ, Errno::BADMSG, Errno::TIMEDOUT];
    found.is_some_and(|errno| known.contains(&errno) || more.contains(&errno))
}

/// What a medium says of bytes that it cannot read.
pub fn medium_error() -> io::Error {
    rustix::io::Errno::IO.into()
}

/// Writes at an offset; may write less.
pub fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<usize> {
    file.write_at(bytes, at)
}

/// Starts to bring what was written in this range to stable storage, and does not wait. The pages that are there already are let go.
pub fn write_back(file: &File, at: u64, len: u64) {
    // Advice: where it is not taken, the wait at the end is longer.
    #[cfg(target_os = "linux")]
    let _ = rustix::fs::fadvise(file, at, std::num::NonZeroU64::new(len), rustix::fs::Advice::DontNeed);
    #[cfg(not(target_os = "linux"))]
    let _ = (file, at, len);
}

/// The unit in bytes by which files in `folder` can share blocks; `None` where the file system has no such thing. Two files without a
/// name are made for it, and are gone at once.
pub fn share_unit(folder: &Path) -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let unnamed = || {
            let flags = OFlags::TMPFILE.bits() as i32;
            OpenOptions::new().read(true).write(true).mode(0o600).custom_flags(flags).open(folder)
        };
        let (from, to) = (unnamed().ok()?, unnamed().ok()?);
        let unit = rustix::fs::fstatvfs(&from).ok()?.f_bsize;
        from.set_len(unit).ok()?;
        rustix::fs::ioctl_ficlone(&to, &from).ok()?;
        Some(unit).filter(|unit| unit.is_power_of_two())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = folder;
        None
    }
}

/// Makes `to` share `len` bytes of blocks with `from`: all of them, or an error. Nothing is ever copied instead: that would take room and
/// time under another name, and is done better elsewhere.
pub fn share(from: &File, at: u64, to: &File, to_at: u64, len: u64) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let Some(len) = std::num::NonZeroU64::new(len) else { return Ok(()) };
        reflink_copy::ReflinkBlockBuilder::new(from, to, len).from_offset(at).to_offset(to_at).reflink_block()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (from, at, to, to_at, len);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The number of the file system that a file is on, where files of one can share blocks.
pub fn file_system(of: &Metadata) -> Option<u64> {
    Some(of.dev())
}

/// Bytes that a file takes up on its disk.
pub fn allocated(of: &Metadata) -> u64 {
    of.blocks().saturating_mul(512)
}

/// The next stretch of `file` from `at` on that is not a hole, cut to `len`; `None` where only holes follow. File systems that do not
/// know call everything data.
pub fn next_data(file: &File, at: u64, len: u64) -> io::Result<Option<Range<u64>>> {
    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::NOTSUP | Errno::NOTTY | Errno::NOSYS) => return Ok(Some(at..len)),
        Err(error) => return Err(error.into()),
    };
    if start >= len {
        return Ok(None);
    }
    let end = seek(file, SeekFrom::Hole(start))?;
    Ok(Some(start..end.clamp(start + 1, len)))
}

/// Is `file` what `path` leads to? False where nothing is there.
pub fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let (a, b) = match std::fs::metadata(path) {
        Ok(b) => (file.metadata()?, b),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    // A device may have several nodes.
    let one_device = kind(&a) == FileKind::BlockDevice && kind(&b) == FileKind::BlockDevice && a.rdev() == b.rdev();
    Ok(one_device || (a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Bytes that a user may still store in the folder's file system.
pub fn free_space(folder: &Path) -> io::Result<u64> {
    let s = rustix::fs::statvfs(folder)?;
    Ok(s.f_bavail.saturating_mul(s.f_frsize))
}

/// Makes a list of temporary files, which must not be there; for its owner alone, whatever the umask.
pub fn make_list(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
    // File systems without modes are content.
    let _ = file.set_permissions(Permissions::from_mode(0o600));
    Ok(file)
}

/// Opens a list of temporary files for reading and writing; never what a link leads to, and never waits.
pub fn open_list(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().read(true).write(true).custom_flags(flags.bits() as i32).open(path)
}

/// Is the file reached by one name alone?
pub fn has_one_name(of: &Metadata) -> bool {
    of.nlink() == 1
}

/// The number that the file system gave to what bears this name; of a link itself.
pub fn file_number(path: &Path) -> io::Result<u64> {
    Ok(std::fs::symlink_metadata(path)?.ino())
}

/// Does the file belong to the user that this program runs as?
pub fn is_ours(of: &Metadata) -> bool {
    of.uid() == rustix::process::geteuid().as_raw()
}

/// A file's name from its bytes; `None` where no name has them.
pub fn name_of_bytes(bytes: Vec<u8>) -> Option<OsString> {
    use std::os::unix::ffi::OsStringExt;
    (!bytes.contains(&0)).then(|| OsString::from_vec(bytes))
}

/// An error where no file can be made in `folder`, as far as that can be told without making one.
pub fn may_write(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(folder, rustix::fs::Access::WRITE_OK)?)
}

/// A new file in `folder` under a temporary name. Its mode follows the umask, as that of any new file.
pub fn temporary(folder: &Path, prefix: &str) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(prefix).permissions(Permissions::from_mode(0o666)).tempfile_in(folder)
}

/// Makes renames in `folder` last. File systems without that notion are content.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

/// From now on SIGINT, SIGTERM and SIGHUP set `flag`, and `signal` to the signal's number. A signal that was ignored when the program
/// started stays ignored (nohup, a shell's background job). A SIGINT that comes when the flag is set already ends the program at once:
/// who presses Ctrl-C twice does not want to wait. SIGXFSZ becomes an error of the write that met the limit.
pub fn watch_signals(flag: &Arc<AtomicBool>, signal: &Arc<AtomicUsize>) -> io::Result<()> {
    let ignored = ignored_signals();
    for number in [SIGINT, SIGTERM, SIGHUP] {
        if ignored & 1 << (number - 1) == 0 {
            if number == SIGINT {
                signal_hook::flag::register_conditional_default(number, Arc::clone(flag))?;
            }
            // Registered first, so that the number is there when the flag is seen.
            signal_hook::flag::register_usize(number, Arc::clone(signal), number as usize)?;
            signal_hook::flag::register(number, Arc::clone(flag))?;
        }
    }
    signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    Ok(())
}

/// The signals that this process ignores, as the kernel's mask; 0 where the kernel does not tell.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or_default();
    u64::from_str_radix(mask.trim(), 16).unwrap_or(0)
}

/// Ends the process as the signal would have, so that a shell's loop stops too. Returns only if that failed.
pub fn end_by_signal(signal: usize) {
    if let Ok(signal) = i32::try_from(signal) {
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
}

/// The most address space that the process may take (`ulimit -v`), where there is a limit.
pub fn address_space() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::As).current
}

/// Is standard output a terminal?
pub fn stdout_is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stdout())
}

/// A name of standard output, for what is asked of files by their names.
pub const STDOUT: Option<&str> = Some("/dev/stdout");

/// Does a name lead to a descriptor of this process, and is that standard output?
pub fn descriptor_name(path: &Path) -> Option<bool> {
    let name = path.to_str()?;
    let number = match name {
        "/dev/stdin" => 0,
        "/dev/stdout" => 1,
        "/dev/stderr" => 2,
        _ => ["/dev/fd/", "/proc/self/fd/"].iter().find_map(|front| name.strip_prefix(front))?.parse().ok()?,
    };
    Some(number == 1)
}

/// Standard output as a file of our own handle. Where it is closed, Rust's runtime opened the null device for reading and writing in
/// its place, as no shell does: what is written there would be lost without a word.
pub fn stdout_file() -> io::Result<File> {
    let file = File::from(rustix::io::dup(rustix::stdio::stdout())?);
    let null = std::fs::metadata("/dev/null")
        .is_ok_and(|null| file.metadata().is_ok_and(|own| own.rdev() == null.rdev() && own.ino() == null.ino()));
    if null && rustix::fs::fcntl_getfl(&file)?.contains(OFlags::RDWR) {
        return Err(rustix::io::Errno::BADF.into());
    }
    Ok(file)
}

/// Opens a FIFO or a character device for writing and does not wait; `None`: nobody reads the FIFO yet.
pub fn open_to_write_in_place(path: &Path) -> io::Result<Option<File>> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    match OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a block device for reading and writing, for this program alone: the system refuses one that is mounted, or that another
/// program holds so.
pub fn open_device(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(OFlags::EXCL.bits() as i32).open(path)
}

/// The same for a look alone.
pub fn look_at_device(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlags::EXCL.bits() as i32).open(path)
}

/// Do two open files, the second a device, lie on the same storage, or one under the other? As far as the system tells what devices are
/// made of. Two partitions of one disk, and two volumes on it, do not.
pub fn share_storage(file: &File, device: &File) -> io::Result<bool> {
    let (a, b) = (file.metadata()?, device.metadata()?);
    let (under_a, under_b) = (Storage::under(&a), Storage::under(&b));
    let within = |meta: &Metadata, other: &Storage| {
        kind(meta) == FileKind::BlockDevice && other.devices.contains(&(major(meta.rdev()), minor(meta.rdev())))
    };
    let same_file = under_a.files.iter().any(|file| under_b.files.contains(file));
    let parts_of_one = under_a.disk.is_some() && under_a.disk == under_b.disk;
    Ok(within(&a, &under_b) || within(&b, &under_a) || (same_file && !parts_of_one))
}

/// What a file or device is made of.
#[derive(Default)]
struct Storage {
    /// Major and minor numbers of the device itself, the disk that it is a partition of, the devices below.
    devices: Vec<(u32, u32)>,
    /// The files below loop devices, or the file itself.
    files: Vec<(u64, u64)>,
    /// The disk that it is a partition of.
    disk: Option<(u32, u32)>,
}

impl Storage {
    fn under(of: &Metadata) -> Storage {
        use std::os::unix::ffi::OsStringExt;
        let mut found = Storage::default();
        // A file lies on the device that its file system is made of.
        let own = if kind(of) == FileKind::BlockDevice { of.rdev() } else { of.dev() };
        if kind(of) != FileKind::BlockDevice {
            found.files.push((of.dev(), of.ino()));
        }
        let mut left = vec![(major(own), minor(own))];
        while let Some(number) = left.pop() {
            if found.devices.contains(&number) {
                continue;
            }
            found.devices.push(number);
            let Ok(folder) = std::fs::canonicalize(format!("/sys/dev/block/{}:{}", number.0, number.1)) else {
                continue;
            };
            if folder.join("partition").exists()
                && let Some(disk) = folder.parent().and_then(device_number)
            {
                found.disk = found.disk.or(Some(disk));
                left.push(disk);
            }
            let slaves = std::fs::read_dir(folder.join("slaves")).into_iter().flatten().flatten();
            left.extend(slaves.filter_map(|slave| device_number(&slave.path())));
            if let Ok(mut name) = std::fs::read(folder.join("loop/backing_file")) {
                name.truncate(name.trim_ascii_end().len());
                match std::fs::metadata(OsString::from_vec(name)) {
                    // A loop device over another device.
                    Ok(meta) if kind(&meta) == FileKind::BlockDevice => {
                        left.push((major(meta.rdev()), minor(meta.rdev())))
                    }
                    Ok(meta) => found.files.push((meta.dev(), meta.ino())),
                    Err(_) => {}
                }
            }
        }
        found
    }
}

/// The numbers of a device, from its folder in /sys.
fn device_number(folder: &Path) -> Option<(u32, u32)> {
    let text = std::fs::read_to_string(folder.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Writes some of `bytes` where that is possible within `wait`; 0 where it is not. No more than a pipe takes at once goes into
/// anything but a regular file, since the write would wait for the rest.
pub fn write_within(file: &File, bytes: &[u8], wait: std::time::Duration) -> io::Result<usize> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    if kind(&file.metadata()?) == FileKind::Regular {
        return Ok(rustix::io::write(file, bytes)?);
    }
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
    let mut fds = [PollFd::new(file, PollFlags::OUT)];
    if poll(&mut fds, Some(&timeout))? == 0 {
        return Ok(0);
    }
    let most = bytes.len().min(rustix::pipe::PIPE_BUF);
    Ok(rustix::io::write(file, &bytes[..most])?)
}

/// Standard input as a file of our own handle.
pub fn stdin_file() -> io::Result<File> {
    Ok(File::from(rustix::io::dup(rustix::stdio::stdin())?))
}

/// Reads what comes within `wait`; `None` where nothing does.
pub fn read_within(file: &File, bytes: &mut [u8], wait: std::time::Duration) -> io::Result<Option<usize>> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
    let mut fds = [PollFd::new(file, PollFlags::IN)];
    if poll(&mut fds, Some(&timeout))? == 0 {
        return Ok(None);
    }
    Ok(Some(rustix::io::read(file, bytes)?))
}
