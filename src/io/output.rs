//! Outputs that are never half done: temporary names, positional writes, stable storage, and final names last of all.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempPath;

use super::device::Device;
use super::handles::Handles;
use super::input::{FileId, InputFile};
use super::journal::{Identity, Journal, Move};
use super::lease::{Lease, Pending};
use super::pipe::Pipe;
use super::publish::{changed, exists, publish};
use super::share::Sharing;
use super::sys::{self, FileKind};
use crate::fault::{Fault, Kind};

/// Zeroes are written from a buffer of this many bytes.
const ZEROES: usize = 64 << 10;
/// After as many bytes what was written is sent on its way to stable storage.
const WRITE_BACK: u64 = 16 << 20;

/// A file that is asked for.
#[derive(Debug, Clone)]
pub struct OutputFile {
    /// Its final path.
    pub path: PathBuf,
    /// Its length in bytes, where that is known.
    pub len: Option<u64>,
}

struct Temporary {
    path: PathBuf,
    name: TempPath,
    /// What it is, so that nothing else is written to under its name.
    number: Option<u64>,
    /// What bore the final name when the run began.
    before: Option<u64>,
    written: AtomicU64,
    /// Blocks that it shares with an input, in bytes.
    shared: AtomicU64,
    /// Up to here it was asked to be brought to stable storage.
    on_its_way: AtomicU64,
}

impl Temporary {
    /// Counts what was written, and has it brought to stable storage while the rest is made: what is left for the end is little.
    fn wrote(&self, file: &File, end: u64, len: u64, sync: bool) {
        let before = self.written.fetch_add(len, Ordering::Relaxed);
        if sync && before / WRITE_BACK < (before + len) / WRITE_BACK {
            let start = self.on_its_way.swap(end, Ordering::Relaxed);
            if start < end {
                sys::write_back(file, start, end - start);
            }
        }
    }

    /// The open file; opened again where its handle was given to another piece of the set meanwhile.
    fn file(&self, handles: &Handles) -> Result<Arc<File>, Fault> {
        if let Some(file) = handles.kept(&self.name) {
            return Ok(file);
        }
        let cannot = |e| Fault::io(&self.path, "cannot open the output again", e);
        let file = sys::open_write(&self.name).map_err(cannot)?;
        if sys::file_number(&self.name).ok() != self.number {
            return Err(cannot(io::Error::other("it was exchanged while it was written")));
        }
        Ok(handles.keep(&self.name, file))
    }
}

/// How outputs are made.
#[derive(Debug, Clone, Copy)]
pub struct OutputOptions {
    /// Replace what is there.
    pub force: bool,
    /// Wait for stable storage.
    pub sync: bool,
    /// What is not written may stay a hole.
    pub holes: bool,
}

/// Where all of one conversion goes.
pub struct Outputs {
    sink: Sink,
    /// How long it was waited for stable storage, in nanoseconds.
    waited: AtomicU64,
}

enum Sink {
    Files(Files),
    /// Everything goes in its order: nothing can be taken back, and nothing is a hole.
    Pipe(Pipe),
    Device(Device),
}

/// All files of one conversion, which are removed where they are dropped before they are published.
struct Files {
    files: Vec<Temporary>,
    /// A set may have a thousand pieces.
    handles: Handles,
    options: OutputOptions,
    /// Files of an old output that the new one has no use for.
    surplus: Vec<PathBuf>,
    /// Can files here share blocks? Looked for when that is asked first.
    sharing: OnceLock<Option<Sharing>>,
    /// Behind the files: given up when they are gone.
    lease: Lease,
}

impl Outputs {
    /// Refuses outputs that are an input, by whatever name (R16).
    pub fn refuse_inputs<'a>(
        outputs: impl Iterator<Item = &'a PathBuf>,
        inputs: &[Arc<InputFile>],
    ) -> Result<(), Fault> {
        for path in outputs {
            for input in inputs {
                if input.is_at(path)? {
                    return Err(is_input(path, input));
                }
            }
        }
        Ok(())
    }

    /// Refuses, before a byte is written, outputs that exist, unless `force` (R15), and what is no regular file (R27). `pending`: what
    /// a dry run knows of a killed run's files.
    pub fn refuse_existing(wanted: &[OutputFile], force: bool, pending: &Pending) -> Result<(), Fault> {
        for OutputFile { path, .. } in wanted {
            if pending.back.contains(path) && !force {
                return Err(exists(path));
            }
            if pending.gone.contains(path) {
                continue;
            }
            match fs::symlink_metadata(path) {
                Ok(meta) if sys::kind(&meta) != FileKind::Regular => {
                    let what = if meta.is_symlink() { "a link" } else { sys::kind(&meta).words() };
                    return Err(Fault::new(Kind::Unsupported, path, "the output must be a regular file").found(what));
                }
                Ok(_) if !force => return Err(exists(path)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Fault::io(path, "cannot look at the output", error)),
            }
        }
        Ok(())
    }

    /// Makes the files under temporary names, beside where they will be. The last of `wanted` is the one that names the others.
    /// `surplus`: what is removed when they have their names.
    pub fn create(
        lease: Lease,
        wanted: &[OutputFile],
        surplus: Vec<PathBuf>,
        options: OutputOptions,
    ) -> Result<Outputs, Fault> {
        let handles = Handles::default();
        let mut outputs = Files { files: Vec::new(), handles, options, surplus, sharing: OnceLock::new(), lease };
        for OutputFile { path, len } in wanted {
            let (file, name) = outputs.lease.temporary()?.into_parts();
            if let Some(len) = len {
                file.set_len(*len).map_err(|e| Fault::io(path, "cannot set the length of the output", e).found(len))?;
            }
            outputs.handles.keep(&name, file);
            let (number, before) = (sys::file_number(&name).ok(), sys::file_number(path).ok());
            outputs.files.push(Temporary {
                path: path.clone(),
                name,
                number,
                before,
                written: AtomicU64::new(0),
                shared: AtomicU64::new(0),
                on_its_way: AtomicU64::new(0),
            });
        }
        Ok(Outputs::of(Sink::Files(outputs)))
    }

    /// The one file of a conversion goes into a pipe.
    pub fn into_pipe(pipe: Pipe) -> Outputs {
        Outputs::of(Sink::Pipe(pipe))
    }

    /// The one file of a conversion goes onto a device.
    pub fn onto_device(device: Device) -> Outputs {
        Outputs::of(Sink::Device(device))
    }

    fn of(sink: Sink) -> Outputs {
        Outputs { sink, waited: AtomicU64::new(0) }
    }

    /// Writes all of `bytes` at byte `at`.
    pub fn write(&self, index: usize, at: u64, bytes: &[u8]) -> Result<(), Fault> {
        match &self.sink {
            Sink::Pipe(pipe) => pipe.write(at, bytes),
            Sink::Device(device) => device.write(at, bytes),
            Sink::Files(files) => {
                let out = files.file(index)?;
                let file = out.file(&files.handles)?;
                sys::write_all_at(&file, bytes, at)
                    .map_err(|(done, error)| Fault::io(&out.path, "cannot write", error).at(at + done))?;
                let len = bytes.len() as u64;
                out.wrote(&file, at + len, len, files.options.sync);
                Ok(())
            }
        }
    }

    /// With which of these the outputs may share blocks, and the bytes of one; `None`: with none, or all of the outputs is to be allocated.
    pub fn shares_with(&self, inputs: &[Arc<InputFile>]) -> Option<(Vec<FileId>, u64)> {
        let (_, sharing) = self.sharing()?;
        let files: Vec<_> = inputs.iter().filter(|input| sharing.is_with(input)).map(|input| input.id()).collect();
        (!files.is_empty()).then_some((files, sharing.unit()))
    }

    fn sharing(&self) -> Option<(&Files, Sharing)> {
        let Sink::Files(files) = &self.sink else { return None };
        let look = || Sharing::look(files.lease.folder());
        let sharing = files.options.holes.then(|| *files.sharing.get_or_init(look)).flatten()?;
        Some((files, sharing))
    }

    /// Makes `len` bytes at byte `at` be the same blocks as those of `input` at byte `from`, without reading or writing them: those of the
    /// `len` for which that was possible. Behind the input's end there are none.
    pub fn share(&self, index: usize, at: u64, input: &InputFile, from: u64, len: u64) -> Result<Range<u64>, Fault> {
        let Some((files, sharing)) = self.sharing().filter(|(_, sharing)| sharing.is_with(input)) else {
            return Ok(0..0);
        };
        let len = len.min(input.len().saturating_sub(from));
        let Some(whole) = sharing.whole(from, at, len) else { return Ok(0..0) };
        let out = files.file(index)?;
        let file = out.file(&files.handles)?;
        let (start, len) = (whole.start, whole.end - whole.start);
        if !input.share(from + start, &file, at + start, len) {
            return Ok(0..0);
        }
        out.shared.fetch_add(len, Ordering::Relaxed);
        Ok(whole)
    }

    /// Makes `len` bytes from `at` read as zero. Files are fresh: where holes may stay there is nothing to do.
    pub fn write_zeroes(&self, index: usize, at: u64, len: u64) -> Result<(), Fault> {
        if matches!(&self.sink, Sink::Files(files) if files.options.holes) {
            return Ok(());
        }
        let zeroes = [0; ZEROES];
        let mut done = 0;
        while done < len {
            let n = (len - done).min(ZEROES as u64);
            self.write(index, at + done, &zeroes[..n as usize])?;
            done += n;
        }
        Ok(())
    }

    /// Sets a file's length; a pipe has the length that went out, and a device its own.
    pub fn set_len(&self, index: usize, len: u64) -> Result<(), Fault> {
        let Sink::Files(files) = &self.sink else { return Ok(()) };
        let out = files.file(index)?;
        out.file(&files.handles)?
            .set_len(len)
            .map_err(|e| Fault::io(&out.path, "cannot set the length of the output", e).found(len))
    }

    /// Waits until all that was written is on stable storage; nothing under `--no-sync`.
    pub fn sync(&self) -> Result<(), Fault> {
        let began = Instant::now();
        let synced = self.sink.sync();
        let waited = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.waited.fetch_add(waited, Ordering::Relaxed);
        synced
    }

    /// How long it was waited for stable storage.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }

    /// Bytes that are the inputs' own blocks: neither read nor written.
    pub fn bytes_shared(&self) -> u64 {
        match &self.sink {
            Sink::Files(files) => files.files.iter().map(|f| f.shared.load(Ordering::Relaxed)).sum(),
            Sink::Pipe(_) | Sink::Device(_) => 0,
        }
    }
}

impl Sink {
    fn sync(&self) -> Result<(), Fault> {
        match self {
            Sink::Pipe(_) => Ok(()),
            Sink::Device(device) => device.sync(),
            Sink::Files(files) if !files.options.sync => Ok(()),
            Sink::Files(files) => files.files.iter().try_for_each(|out| {
                out.file(&files.handles)?
                    .sync_all()
                    .map_err(|e| Fault::io(&out.path, "cannot bring the output to stable storage", e))
            }),
        }
    }
}

impl Outputs {
    /// Bytes written so far.
    pub fn bytes_written(&self) -> u64 {
        match &self.sink {
            Sink::Pipe(pipe) => pipe.written(),
            Sink::Device(device) => device.written(),
            Sink::Files(files) => files.files.iter().map(|f| f.written.load(Ordering::Relaxed)).sum(),
        }
    }

    /// The sum of the files' lengths, and of what they take up on disk.
    pub fn sizes(&self) -> (u64, u64) {
        let files = match &self.sink {
            Sink::Pipe(pipe) => return (pipe.written(), pipe.written()),
            Sink::Device(device) => return (device.reach(), device.reach()),
            Sink::Files(files) => files,
        };
        let metas = files.files.iter().filter_map(|f| fs::metadata(&f.name).ok());
        metas.fold((0, 0), |(len, allocated), meta| (len + meta.len(), allocated + sys::allocated(&meta)))
    }

    /// What became of the output when a run failed, where that is not nothing: told with the fault.
    pub fn after(&self, fault: Fault) -> Fault {
        let Sink::Device(device) = &self.sink else { return fault };
        match (device.is_touched(), fault.kind()) {
            (false, _) => fault,
            (true, Kind::Interrupted) => {
                Fault::new(Kind::Interrupted, device.path(), "interrupted; the device holds no whole disk now")
            }
            (true, _) => fault.advice(format!("{} holds no whole disk now", device.path().display())),
        }
    }

    /// Gives the files their final names, all or none of them. The warnings are about what could not be cleaned away or brought to
    /// stable storage afterwards.
    pub fn publish(self) -> Result<Vec<Fault>, Fault> {
        match self.sink {
            Sink::Pipe(_) => Ok(Vec::new()),
            Sink::Device(ref device) => device.finish().map(|()| Vec::new()).map_err(|fault| self.after(fault)),
            Sink::Files(files) => files.publish(),
        }
    }
}

impl Files {
    fn file(&self, index: usize) -> Result<&Temporary, Fault> {
        self.files.get(index).ok_or_else(|| Fault::bug("a write to a file that the plan does not have"))
    }

    fn publish(self) -> Result<Vec<Fault>, Fault> {
        // The lease first: it is given up when all others are gone.
        let Files { mut lease, files, handles, options, surplus, .. } = self;
        // Handles are closed before any rename: some systems refuse to rename an open file.
        handles.close();
        let identity = |path: &Path, name: &Path| {
            Identity::at(path).ok_or_else(|| Fault::new(Kind::Io, name, "cannot look at the file again"))
        };
        let mut journal = Journal::default();
        for Temporary { path, name, before, .. } in &files {
            // What another run made meanwhile is not what the user wanted to be replaced.
            if options.force && sys::file_number(path).ok() != *before {
                return Err(changed(path));
            }
            journal.new.push(Move { from: name.to_path_buf(), to: path.clone(), id: identity(name, path)? });
        }
        journal.surplus.extend(surplus.into_iter().filter_map(|path| Identity::at(&path).map(|id| (path, id))));
        // The old files, the one that names the others first. A single file is exchanged in one step.
        let (mut places, several) = (Vec::new(), files.len() > 1);
        for Temporary { path, .. } in files.iter().rev().filter(|_| options.force && several) {
            let Some(id) = Identity::at(path) else { continue };
            let place = lease.place_for_old()?.into_temp_path();
            journal.old.push(Move { from: path.clone(), to: place.to_path_buf(), id });
            places.push(place);
        }
        let folder = lease.folder().to_path_buf();
        let mut note = |journal: Option<&Journal>| {
            lease.note(journal, options.sync)?;
            // From here on the list tells what is to become of the old files, and no longer who made a place for them.
            for place in places.drain(..) {
                place.keep().map_err(|e| Fault::io(e.path.to_path_buf(), "cannot keep a file", e.error))?;
            }
            Ok(())
        };
        publish(journal, &folder, options.force, options.sync, &mut note)
    }
}

/// The refusal of an output that is an input, by whatever name (R16).
pub(super) fn is_input(path: &Path, input: &InputFile) -> Fault {
    Fault::new(Kind::Usage, path, "the output is the input, or a file of it")
        .found(input.name().display())
        .advice("name another output")
}
