//! The gate that every input passes.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::handles::{Handles, Reopened};
use super::input::{Bytes, FileId, InputFile, Looks, no_file};
use super::sys::{self, FileKind};
use crate::fault::{Fault, Kind};

/// Opens every input of a run, read-only (R1), and numbers them.
///
/// What the user typed is opened by its path; what an image names is opened beneath the folder of that image and nowhere else (R2),
/// unless the user allowed it. Names are looked up in an overlay first: names that lead to bytes in memory. So an image can be read that has no file yet, or none
/// under that name.
#[derive(Default)]
pub struct Gate {
    overlay: HashMap<PathBuf, Laid>,
    opened: Vec<Arc<InputFile>>,
    folders: HashMap<PathBuf, Arc<Dir>>,
    handles: Arc<Handles>,
    outside: bool,
}

/// What the overlay has under a name.
#[derive(Clone)]
pub(super) struct Laid {
    pub(super) bytes: Arc<[u8]>,
    /// Bytes that a read fails at, as on a medium with bad sectors.
    pub(super) unreadable: Arc<[Range<u64>]>,
}

impl Gate {
    /// A gate without an overlay.
    pub fn new() -> Gate {
        Gate::default()
    }

    /// From now on `name` leads to `bytes`.
    pub fn lay_over(&mut self, name: impl Into<PathBuf>, bytes: impl Into<Arc<[u8]>>) {
        self.lay_over_unreadable(name, bytes, &[]);
    }

    /// From now on `name` leads to `bytes`, of which the sectors (512 bytes) that hold any of these cannot be read, as on a failing medium.
    pub fn lay_over_unreadable(
        &mut self,
        name: impl Into<PathBuf>,
        bytes: impl Into<Arc<[u8]>>,
        unreadable: &[Range<u64>],
    ) {
        let sectors = unreadable.iter().map(|bad| bad.start - bad.start % 512..bad.end.next_multiple_of(512)).collect();
        self.overlay.insert(name.into(), Laid { bytes: bytes.into(), unreadable: sectors });
    }

    /// From now on names in images are followed wherever they lead (`--allow-outside`).
    pub fn allow_outside(&mut self) {
        self.outside = true;
    }

    /// May names in images lead out of their folder?
    pub fn allows_outside(&self) -> bool {
        self.outside
    }

    /// Opens what the user typed: a regular file or a block device. Anything else is refused at once and never waited for (R3).
    pub fn typed(&mut self, name: &Path) -> Result<Arc<InputFile>, Fault> {
        let id = self.next_id(name)?;
        if let Some(laid) = self.overlay.get(name) {
            return Ok(self.opened_as(InputFile::in_memory(id, name, laid)));
        }
        let cannot_open = |error| Fault::io(name, "cannot open", error);
        // Looked at before it is opened, since opening some things fails with a riddle, and after, since it may have been exchanged.
        match sys::kind(&std::fs::metadata(name).map_err(cannot_open)?) {
            FileKind::Regular | FileKind::BlockDevice => {}
            other => return Err(no_file(name, other)),
        }
        let mut file = sys::open_read(name).map_err(cannot_open)?;
        let looks = Looks::at(&mut file).map_err(cannot_open)?.map_err(|kind| no_file(name, kind))?;
        let real = std::fs::canonicalize(name).map_err(cannot_open)?;
        let folder = real.parent().unwrap_or(Path::new("/")).to_path_buf();
        // Names beside the image are shown as the image was typed, unless a link led elsewhere.
        let typed = name.parent().unwrap_or(Path::new(""));
        let here = if typed.as_os_str().is_empty() { Path::new(".") } else { typed };
        let shown = match std::fs::canonicalize(here) {
            Ok(real) if real == folder => typed.to_path_buf(),
            _ => folder.clone(),
        };
        Ok(self.opened_as(InputFile::new(id, name, folder, shown, Bytes::File(file), looks)))
    }

    /// Opens a file that `image` names: beneath the image's folder, whatever links are met on the way. `sub/../a` stays inside and is
    /// fine. Refused by name unless the user allowed it: what is absolute, names a drive or another machine, or leads out. Always
    /// refused: what is no name at all.
    pub fn named(&mut self, image: &InputFile, name: &Path) -> Result<Arc<InputFile>, Fault> {
        let refused = |why: &'static str, advice: &'static str| {
            Fault::new(Kind::Outside, image.name(), why).found(name.display()).advice(advice)
        };
        let out = "put the file beside the image; --allow-outside follows the name";
        match beneath(name) {
            Ok(inside) => {
                let (path, shown) = (image.folder().join(&inside), image.shown_folder().join(&inside));
                let opened = self.beneath_folder(image.folder(), inside, &path, &shown);
                match opened {
                    // cap-std's own refusal has no code of the system's.
                    Err(Refusal::Io(error))
                        if error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none() =>
                    {
                        match self.outside {
                            true => self.anywhere(&path, &shown),
                            false => Err(refused("a name in the image leads out of its folder", out)),
                        }
                    }
                    opened => opened.map_err(|refusal| refusal.fault(&shown)),
                }
            }
            Err(NotBeneath::Outside(_)) if self.outside => {
                self.anywhere(&image.folder().join(name), &image.shown_folder().join(name))
            }
            Err(NotBeneath::Outside(why)) => Err(refused(why, out)),
            Err(NotBeneath::NoName(why)) => Err(refused(why, "")),
        }
    }

    /// Opens a file wherever it lies, as one that an image named.
    fn anywhere(&mut self, path: &Path, shown: &Path) -> Result<Arc<InputFile>, Fault> {
        let cannot_open = |error| Fault::io(shown, "cannot open", error);
        if let Some(laid) = self.overlay.get(path) {
            let id = self.next_id(path)?;
            return Ok(self.opened_as(InputFile::in_memory(id, path, laid)));
        }
        match sys::kind(&std::fs::metadata(path).map_err(cannot_open)?) {
            FileKind::Regular | FileKind::BlockDevice => {}
            other => return Err(no_file(shown, other)),
        }
        let real = std::fs::canonicalize(path).map_err(cannot_open)?;
        let (Some(folder), Some(name)) = (real.parent(), real.file_name()) else {
            return Err(no_file(shown, FileKind::Folder));
        };
        self.beneath_folder(folder, name.into(), &real, shown).map_err(|refusal| refusal.fault(shown))
    }

    /// Opens `inside`, a relative name, beneath `folder`.
    fn beneath_folder(
        &mut self,
        folder: &Path,
        inside: PathBuf,
        path: &Path,
        shown: &Path,
    ) -> Result<Arc<InputFile>, Refusal> {
        let id = self.next_id(path).map_err(Refusal::Fault)?;
        if let Some(laid) = self.overlay.get(path) {
            return Ok(self.opened_as(InputFile::in_memory(id, path, laid)));
        }
        let folder = self.folder(folder).map_err(Refusal::Io)?;
        let mut file = sys::open_beneath(&folder, &inside).map_err(Refusal::Io)?;
        let looks = Looks::at(&mut file).map_err(Refusal::Io)?.map_err(|kind| Refusal::Fault(no_file(shown, kind)))?;
        self.handles.keep(path, file);
        let handles = Arc::clone(&self.handles);
        let bytes = Bytes::Reopened(Reopened { handles, folder, name: inside, path: path.to_path_buf(), looks });
        let beside = |path: &Path| path.parent().unwrap_or(Path::new("")).to_path_buf();
        Ok(self.opened_as(InputFile::new(id, shown, beside(path), beside(shown), bytes, looks)))
    }

    /// The files opened so far.
    pub fn opened(&self) -> &[Arc<InputFile>] {
        &self.opened
    }

    fn folder(&mut self, path: &Path) -> io::Result<Arc<Dir>> {
        if let Some(folder) = self.folders.get(path) {
            return Ok(Arc::clone(folder));
        }
        let folder = Arc::new(Dir::open_ambient_dir(path, ambient_authority())?);
        self.folders.insert(path.to_path_buf(), Arc::clone(&folder));
        Ok(folder)
    }

    fn next_id(&self, name: &Path) -> Result<FileId, Fault> {
        let id = u32::try_from(self.opened.len());
        id.map(FileId).map_err(|_| Fault::new(Kind::OverLimit, name, "too many files"))
    }

    fn opened_as(&mut self, file: InputFile) -> Arc<InputFile> {
        let file = Arc::new(file);
        self.opened.push(Arc::clone(&file));
        file
    }
}

/// Why a file beneath a folder was not opened.
enum Refusal {
    /// The system's refusal, or cap-std's.
    Io(io::Error),
    /// Our own.
    Fault(Fault),
}

impl Refusal {
    fn fault(self, shown: &Path) -> Fault {
        match self {
            Refusal::Io(error) => Fault::io(shown, "cannot open", error),
            Refusal::Fault(fault) => fault,
        }
    }
}

/// Why a name is none beneath the image's folder.
enum NotBeneath {
    /// It leads elsewhere.
    Outside(&'static str),
    /// It is no file's name anywhere.
    NoName(&'static str),
}

/// A name as an image holds it, as a path beneath the image's folder; or why it cannot be one. The same on every system: a drive
/// letter is one everywhere.
fn beneath(name: &Path) -> Result<PathBuf, NotBeneath> {
    let bytes = name.as_os_str().as_encoded_bytes();
    let drive = bytes.first().is_some_and(u8::is_ascii_alphabetic) && bytes.get(1) == Some(&b':');
    match bytes {
        [] => return Err(NotBeneath::NoName("a name in the image is empty")),
        _ if bytes.contains(&0) => return Err(NotBeneath::NoName("a name in the image holds a zero byte")),
        [b'/', ..] | [b'\\', ..] => return Err(NotBeneath::Outside("a name in the image is absolute")),
        _ if drive => return Err(NotBeneath::Outside("a name in the image names a drive")),
        _ => {}
    }
    let mut inside = PathBuf::new();
    for component in name.components() {
        match component {
            Component::Normal(part) => inside.push(part),
            Component::CurDir => {}
            // What is left again must have been entered before; the link that it may have been is the folder's own handle's concern.
            Component::ParentDir if inside.pop() => {}
            _ => return Err(NotBeneath::Outside("a name in the image leads out of its folder")),
        }
    }
    match inside.as_os_str().is_empty() {
        true => Err(NotBeneath::NoName("a name in the image is a folder's")),
        false => Ok(inside),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn image(gate: &mut Gate, folder: &Path) -> Arc<InputFile> {
        fs::write(folder.join("image"), "image").unwrap();
        gate.typed(&folder.join("image")).unwrap()
    }

    #[test]
    fn r2_names_are_opened_beneath_the_images_folder_and_nowhere_else() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("in");
        fs::create_dir_all(folder.join("sub")).unwrap();
        for name in ["a", "sub/b", "with space", "dots..", "..c"] {
            fs::write(folder.join(name), name).unwrap();
        }
        fs::write(outer.path().join("secret"), "secret").unwrap();
        let mut gate = Gate::new();
        let image = image(&mut gate, &folder);
        for (name, file) in [
            ("a", "a"),
            ("./a", "a"),
            ("sub/../a", "a"),
            ("sub/b", "sub/b"),
            ("with space", "with space"),
            ("dots..", "dots.."),
            ("..c", "..c"),
        ] {
            let opened = gate.named(&image, Path::new(name)).unwrap();
            let mut bytes = vec![0; 20];
            let got = opened.read_up_to(0, &mut bytes).unwrap();
            assert_eq!(&bytes[..got], file.as_bytes());
        }
        let absolute = outer.path().join("secret").to_str().unwrap().to_string();
        for name in [
            "",
            ".",
            "..",
            "../secret",
            "sub/../../secret",
            &absolute,
            "C:\\x",
            "c:x",
            "\\x",
            "\\\\host\\share\\x",
            "//x",
            "/dev/null",
            "a\0b",
        ] {
            let fault = gate.named(&image, Path::new(name)).err().expect(name);
            assert_eq!(fault.kind(), Kind::Outside, "{name}: {fault}");
        }
        assert_eq!(gate.named(&image, Path::new("none")).err().unwrap().kind(), Kind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn r2_and_r3_links_that_lead_out_and_what_is_no_file_are_refused_and_never_waited_for() {
        use std::os::unix::fs::symlink;
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("in");
        fs::create_dir_all(folder.join("sub")).unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        fs::write(folder.join("a"), "a").unwrap();
        symlink("../secret", folder.join("out")).unwrap();
        symlink(outer.path().join("secret"), folder.join("absolute")).unwrap();
        symlink("..", folder.join("up")).unwrap();
        symlink("sub/../a", folder.join("stays")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(folder.join("fifo")).status().unwrap().success());
        let mut gate = Gate::new();
        let image = image(&mut gate, &folder);
        for name in ["out", "absolute", "up/secret"] {
            assert_eq!(gate.named(&image, Path::new(name)).err().expect(name).kind(), Kind::Outside);
        }
        assert!(gate.named(&image, Path::new("stays")).is_ok());
        for (name, what) in [("fifo", "a named pipe"), ("sub", "a folder")] {
            let fault = gate.named(&image, Path::new(name)).err().expect(name);
            assert!(fault.to_string().contains(what), "{fault}");
        }
        // Allowed by the user, all of these are opened; what is no file stays refused.
        let mut open_gate = Gate::new();
        open_gate.allow_outside();
        let absolute = outer.path().join("secret").to_str().unwrap().to_string();
        for name in ["out", "absolute", "up/secret", "../secret", &absolute] {
            let opened = open_gate.named(&image, Path::new(name)).unwrap();
            let mut bytes = [0; 6];
            opened.read_exact(0, &mut bytes).unwrap();
            assert_eq!(&bytes, b"secret");
        }
        for name in ["/dev/null", "../in/fifo", "..", ""] {
            assert!(open_gate.named(&image, Path::new(name)).is_err(), "{name}");
        }
        // An image that is reached through a link names files beside itself, not beside the link.
        let elsewhere = tempfile::tempdir().unwrap();
        symlink(folder.join("image"), elsewhere.path().join("link")).unwrap();
        let linked = gate.typed(&elsewhere.path().join("link")).unwrap();
        assert!(gate.named(&linked, Path::new("a")).is_ok());
    }

    #[test]
    fn r24_more_files_than_handles_are_read_and_one_that_was_exchanged_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut gate = Gate::new();
        let image = image(&mut gate, folder.path());
        let files: Vec<_> = (0..300)
            .map(|n| {
                fs::write(folder.path().join(format!("x{n}")), format!("content {n}")).unwrap();
                gate.named(&image, Path::new(&format!("x{n}"))).unwrap()
            })
            .collect();
        let read = |n: usize| {
            let mut bytes = vec![0; 30];
            files[n].read_up_to(0, &mut bytes).map(|got| String::from_utf8_lossy(&bytes[..got]).into_owned())
        };
        for n in (0..300).chain((0..300).rev().step_by(7)) {
            assert_eq!(read(n).unwrap(), format!("content {n}"));
        }
        #[cfg(target_os = "linux")]
        assert!(fs::read_dir("/proc/self/fd").unwrap().count() < 150);
        fs::write(folder.path().join("other"), "other content").unwrap();
        fs::rename(folder.path().join("other"), folder.path().join("x1")).unwrap();
        for n in 100..200 {
            read(n).unwrap();
        }
        assert!(read(1).unwrap_err().to_string().contains("exchanged"));
    }

    #[test]
    fn the_overlay_comes_first_for_typed_and_for_named() {
        let mut gate = Gate::new();
        gate.lay_over("/nowhere/image", b"image".to_vec());
        gate.lay_over("/nowhere/sub/extent", b"extent".to_vec());
        let image = gate.typed(Path::new("/nowhere/image")).unwrap();
        let extent = gate.named(&image, Path::new("sub/extent")).unwrap();
        assert_eq!((extent.len(), extent.id()), (6, FileId(1)));
        assert_eq!(gate.opened().len(), 2);
    }
}
