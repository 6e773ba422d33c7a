//! One VMDK of a chain: its descriptor, and the extents that the descriptor names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::beside::{piece_by_name, refusal_of_piece};
use super::cowd;
use super::described::{Described, hold_against_line};
use super::extent::{Access, ExtentLine, ExtentType};
use super::extents::{Body, Extents};
use super::grain_tables::{GrainTables, Kind as TableKind};
use super::header::{self, SparseHeader, Stored};
use super::lock::refuse_locked;
use super::parse::{Parsed, embedded, text};
use super::recorded;
use super::sesparse::{self, SeTables};
use super::stream::{self, FirstGrain, Packing, StreamExtent};
use crate::fault::{Fault, Kind};
use crate::format::parents::base_name;
use crate::format::{Lacks, Opening};
use crate::image::{Facts, SECTOR};
use crate::io::InputFile;

/// Missing files that a message names.
const MOST_NAMED: usize = 5;
/// Types of disks whose flat files hold their extents and nothing else, by every product that makes them.
const WHOLE_FILES: [&str; 6] =
    ["monolithicFlat", "twoGbMaxExtentFlat", "vmfs", "vmfsPreallocated", "vmfsEagerZeroedThick", "vmfsThin"];

/// One image of a chain.
pub struct Image {
    /// What was named: the descriptor, or the file that holds it.
    pub file: Arc<InputFile>,
    /// What it says.
    pub descriptor: Parsed,
    /// Where its data is.
    pub extents: Extents,
    /// Every file of it that was opened.
    pub files: Vec<Arc<InputFile>>,
    /// Extents that are not there.
    pub missing: Vec<Fault>,
    /// Extents' files by the names that the descriptor has, or why they were not opened: one may serve many lines.
    named: HashMap<String, Result<Arc<InputFile>, Fault>>,
    /// First byte and end of the extents in each file, by the names that the descriptor has.
    places: HashMap<String, BTreeMap<u64, u64>>,
}

impl Image {
    /// Opens the descriptor and its extents.
    pub fn open(opening: &mut Opening<'_>, file: Arc<InputFile>) -> Result<Image, Fault> {
        let mut raw = [0; header::LEN];
        let got = file.read_up_to(0, &mut raw)?;
        let sparse = raw.starts_with(&header::MAGIC);
        if !sparse && (raw.starts_with(&cowd::MAGIC) || raw.starts_with(&sesparse::MAGIC)) {
            let alone = || {
                let what = "an extent of an ESXi snapshot, without its descriptor";
                Fault::new(Kind::Unsupported, file.name(), what).advice("give the descriptor that names it")
            };
            return Err(refusal_of_piece(&file).unwrap_or_else(alone));
        }
        if sparse && got < header::LEN {
            return Err(Fault::damaged(file.name(), got as u64, "the VMDK is cut short within its header"));
        }
        let (descriptor, own) = match sparse {
            true if header::is_wrapping(&raw) => {
                let what = "a VMDK header without capacity and directories: its descriptor names the extents";
                opening.ledger.warn(Fault::damaged(file.name(), header::at::CAPACITY as u64, what));
                (embedded(&file, &raw)?, None)
            }
            true => {
                let header = SparseHeader::parse(&raw, file.name(), 0)?;
                (embedded(&file, &raw)?, Some(header))
            }
            false => (text(&file, 0, file.len())?, None),
        };
        if !opening.options.ignore_lock
            && let Err(locked) = refuse_locked(&file)
        {
            match opening.options.lacks {
                // A look takes nothing from the machine, and may show what is about to change.
                Lacks::Files => opening.ledger.warn(locked),
                Lacks::Nothing | Lacks::Data => return Err(locked),
            }
        }
        let mut image = Image {
            file: Arc::clone(&file),
            descriptor,
            extents: Extents::default(),
            files: vec![file],
            missing: Vec::new(),
            named: HashMap::new(),
            places: HashMap::new(),
        };
        image.described().check(&opening.ledger)?;
        match own {
            Some(header) => image.own_extent(opening, header)?,
            None => image.named_extents(opening)?,
        }
        Ok(image)
    }

    /// What its descriptor decides.
    pub fn described(&self) -> Described<'_> {
        Described { name: self.file.name(), descriptor: &self.descriptor }
    }

    /// The one extent of a file that holds its own descriptor: the file itself, whatever name stands there.
    fn own_extent(&mut self, opening: &mut Opening<'_>, header: SparseHeader) -> Result<(), Fault> {
        let file = Arc::clone(&self.file);
        if self.descriptor.extents.is_empty()
            && let Some(refusal) = refusal_of_piece(&file).or_else(|| lost_piece(&file))
        {
            return Err(refusal);
        }
        let line = self.described().own_line(header.capacity, &opening.ledger)?;
        let len = self.extent_len(&line)?;
        if len == 0 {
            return Err(Fault::damaged(file.name(), header::at::CAPACITY as u64, "a VMDK of 0 sectors"));
        }
        match line.access {
            Access::None => self.extents.push(len, Body::Lost(self.described().no_access(&line))),
            _ => self.push_sparse(opening, file, header, len)?,
        }
        self.whole(opening)
    }

    fn named_extents(&mut self, opening: &mut Opening<'_>) -> Result<(), Fault> {
        let lines = self.descriptor.extents.clone();
        for line in &lines {
            let len = self.extent_len(line)?;
            if len == 0 {
                continue;
            }
            match self.named_extent(opening, line, len) {
                // The others that are not there are named too.
                Err(fault) if is_missing(opening, &fault) => {
                    self.extents.push(len, Body::Lost(fault));
                }
                done => done?,
            }
        }
        match self.missing.split_first() {
            Some((first, others)) if opening.options.lacks == Lacks::Nothing => {
                let names: Vec<_> = others.iter().take(MOST_NAMED).map(|fault| fault.found_text()).collect();
                Err(match others.len() {
                    0 => first.clone(),
                    n if n <= MOST_NAMED => first.clone().against(format!("nor are {}", names.join(", "))),
                    n => first.clone().against(format!("nor are {} and {} more", names.join(", "), n - names.len())),
                })
            }
            _ => {
                self.warn_of_rest(opening);
                self.whole(opening)
            }
        }
    }

    fn named_extent(&mut self, opening: &mut Opening<'_>, line: &ExtentLine, len: u64) -> Result<(), Fault> {
        let refuse = |what: &'static str| Err(Fault::new(Kind::Unsupported, self.file.name(), what).at(line.byte));
        match line.kind {
            ExtentType::Zero => {
                // Hand-made descriptors name a device here; a file that is there has data that the type leaves out.
                if let Some(name) = &line.file
                    && self.open_extent(opening, line, name).is_ok()
                {
                    let what = "a VMDK extent of zeroes names a file that is there: it is not read";
                    opening.ledger.warn(Fault::damaged(self.file.name(), line.byte, what).found(name));
                }
                self.extents.push(len, Body::Zero);
                return Ok(());
            }
            ExtentType::VmfsRdm | ExtentType::VmfsRaw => {
                return refuse("a raw device mapping: the data is on the LUN that it names");
            }
            ExtentType::VsanSparse => return refuse("an object of vSAN: the data is not in files"),
            _ if line.access == Access::None => {
                self.extents.push(len, Body::Lost(self.described().no_access(line)));
                return Ok(());
            }
            _ => {}
        }
        let Some(name) = &line.file else {
            return Err(Fault::damaged(self.file.name(), line.byte, "VMDK descriptor: an extent without a file"));
        };
        if ["vsan://", "vvol://"].iter().any(|scheme| name.to_ascii_lowercase().starts_with(scheme)) {
            return refuse("an object of vSAN or VVol: the data is not in files");
        }
        let file = match self.named.get(name) {
            Some(known) => known.clone()?,
            None => {
                let opened = self.open_extent(opening, line, name);
                if let Err(fault) = &opened
                    && is_missing(opening, fault)
                {
                    self.missing.push(fault.clone());
                }
                self.named.insert(name.clone(), opened.clone());
                let file = opened?;
                self.files.push(Arc::clone(&file));
                file
            }
        };
        if !matches!(line.kind, ExtentType::Flat | ExtentType::Vmfs) {
            self.claim(line, name, 0..file.len())?;
        }
        let mut raw = [0; header::LEN];
        let got = match line.kind {
            ExtentType::Flat | ExtentType::Vmfs => 0,
            _ => file.read_up_to(0, &mut raw)?,
        };
        if line.kind == ExtentType::VmfsSparse && raw.starts_with(&cowd::MAGIC) {
            let header = cowd::read(&file, opening)?;
            return self.push_tables(opening, file, header, len, TableKind::PlainSomeTables);
        }
        if line.kind == ExtentType::SeSparse {
            let tables = SeTables::open(
                Arc::clone(&file),
                Arc::clone(&opening.ledger),
                self.extents.len(),
                opening.options.ignore_log,
            )?;
            if opening.options.expects_losses() {
                tables.look_through()?;
            }
            let stored = len.min(tables.capacity.saturating_mul(SECTOR));
            let short = Fault::damaged(file.name(), 16, "VMDK extent capacity is less than the descriptor says")
                .found(format!("{} sectors", tables.capacity))
                .expected(len / SECTOR);
            self.extents.push(stored, Body::SeSparse(Box::new(tables)));
            self.extents.push(len - stored, Body::Lost(short));
            return Ok(());
        }
        if matches!(line.kind, ExtentType::Flat | ExtentType::Vmfs) {
            let at = line.offset.checked_mul(SECTOR).filter(|at| at.checked_add(len).is_some()).ok_or_else(|| {
                Fault::new(Kind::OverLimit, self.file.name(), "VMDK extent offset").at(line.byte).found(line.offset)
            })?;
            self.claim(line, name, at..at + len)?;
            self.extents.push(len, Body::Flat { file, at });
            return Ok(());
        }
        if got < header::LEN {
            return Err(Fault::damaged(file.name(), got as u64, "the VMDK extent is cut short within its header"));
        }
        let header = SparseHeader::parse(&raw, file.name(), 0)?;
        self.push_sparse(opening, file, header, len)
    }

    /// Refuses an extent that has bytes of a file which an earlier one has (R8): a line that was doubled makes the disk longer, and moves
    /// what follows. Lines that share a file have places of their own in it.
    fn claim(&mut self, line: &ExtentLine, name: &str, bytes: Range<u64>) -> Result<(), Fault> {
        let places = self.places.entry(name.to_string()).or_default();
        if places.range(..bytes.end).next_back().is_some_and(|(_, end)| *end > bytes.start) {
            let what = "two extents of the VMDK have the same bytes of a file";
            return Err(Fault::damaged(self.file.name(), line.byte, what).found(name));
        }
        places.insert(bytes.start, bytes.end);
        Ok(())
    }

    /// A warning for a file of data that is longer than its extents, where products make it just as long (R7): a line that lost a digit
    /// would cut the disk without a word. Whoever mixes extents by hand may mean a part of a file.
    fn warn_of_rest(&self, opening: &Opening<'_>) {
        let made = self
            .descriptor
            .get("createType")
            .is_some_and(|kind| WHOLE_FILES.iter().any(|whole| kind.eq_ignore_ascii_case(whole)));
        let flat =
            self.descriptor.extents.iter().filter(|line| matches!(line.kind, ExtentType::Flat | ExtentType::Vmfs));
        let mut told = HashSet::new();
        for line in flat.filter(|_| made) {
            let Some(name) = line.file.as_ref().filter(|name| told.insert(name.as_str())) else { continue };
            let end = self.places.get(name).and_then(|places| places.last_key_value()).map_or(0, |(_, end)| *end);
            if let Some(Ok(file)) = self.named.get(name)
                && !file.is_block_device()
                && file.len() >= end.saturating_add(SECTOR)
            {
                let what = "the file of a VMDK extent is longer than the descriptor says: the rest is left out";
                let found = Fault::damaged(file.name(), end, what).found(format!("{} bytes", file.len()));
                opening.ledger.warn(found.against(format!("the descriptor says {end}")));
            }
        }
    }

    /// Opens the file that an extent line names; one that Windows wrote may lie in a folder by its separators.
    fn open_extent(&self, opening: &mut Opening<'_>, line: &ExtentLine, name: &str) -> Result<Arc<InputFile>, Fault> {
        let opened = match opening.gate.named(&self.file, Path::new(name)) {
            Err(fault) if fault.kind() == Kind::NotFound && name.contains('\\') => {
                opening.gate.named(&self.file, Path::new(&name.replace('\\', "/")))
            }
            opened => opened,
        };
        opened.map_err(|fault| self.not_opened(opening, line, name, fault))
    }

    /// Why an extent's file was not opened, with what helps.
    fn not_opened(&self, opening: &mut Opening<'_>, line: &ExtentLine, name: &str, fault: Fault) -> Fault {
        match fault.kind() {
            Kind::NotFound => Fault::new(Kind::NotFound, self.file.name(), "an extent is not there")
                .at(line.byte)
                .found(name)
                .advice("put it beside the descriptor, under that name"),
            Kind::Outside => {
                let base = base_name(name);
                let beside = base != name && opening.gate.named(&self.file, Path::new(base)).is_ok();
                let fault = fault.at(line.byte);
                match beside {
                    true => fault.advice(format!(
                        "{base} lies beside the descriptor: if that is the one, let the line name it; --allow-outside follows the name"
                    )),
                    false => fault,
                }
            }
            _ => fault,
        }
    }

    fn push_sparse(
        &mut self,
        opening: &mut Opening<'_>,
        file: Arc<InputFile>,
        header: SparseHeader,
        len: u64,
    ) -> Result<(), Fault> {
        let packing = self.packing(opening, &file, &header)?;
        let (kind, header) = match packing {
            None if header.gd_offset.is_none() => {
                return Err(Fault::damaged(file.name(), 56, "VMDK without a grain directory"));
            }
            None => (TableKind::Plain, header),
            Some(packing) => {
                // Without an extent line nothing but header and footer says how long the extent is.
                let named = (!self.descriptor.extents.is_empty()).then_some(len);
                (TableKind::Packed(packing), stream::complete(&opening.ledger, &file, header, named)?)
            }
        };
        if header.unclean_shutdown {
            let warning =
                Fault::new(Kind::Damaged, file.name(), "the program that wrote this VMDK did not come to its end")
                    .at(72);
            opening.ledger.warn(warning.against("its grain tables are held against their copies"));
        }
        self.push_tables(opening, file, header, len, kind)
    }

    /// What stands in front of each deflated grain; `None`: grains are stored as they are. Where the header's flags and its algorithm
    /// contradict each other, the first grain tells.
    fn packing(
        &self,
        opening: &Opening<'_>,
        file: &Arc<InputFile>,
        header: &SparseHeader,
    ) -> Result<Option<Packing>, Fault> {
        let (compressed, markers, algorithm) = match header.grains_are {
            Stored::Plain => return Ok(None),
            Stored::Deflated => return Ok(Some(Packing::Marker)),
            Stored::Unknown { compressed, markers, algorithm } => (compressed, markers, algorithm),
        };
        let odd = Fault::damaged(file.name(), 8, "VMDK compression flags and algorithm contradict each other")
            .found(format!("compressed {compressed}, markers {markers}, algorithm {algorithm}"));
        let first = match algorithm {
            0 | 1 => stream::first_grain(file, header)?,
            _ => FirstGrain::Unclear,
        };
        let packing = match first {
            FirstGrain::Packed(packing) => Some(packing),
            FirstGrain::Plain if !compressed && !markers => None,
            _ => return Err(odd.of_kind(Kind::Unsupported)),
        };
        opening.ledger.warn(odd.against("the first grain decides"));
        Ok(packing)
    }

    fn push_tables(
        &mut self,
        opening: &mut Opening<'_>,
        file: Arc<InputFile>,
        header: SparseHeader,
        len: u64,
        kind: TableKind,
    ) -> Result<(), Fault> {
        // The line decides how much of the disk the extent is; what the header lacks of it cannot be had.
        let stored = len.min(header.capacity.saturating_mul(SECTOR));
        let short = hold_against_line(file.name(), &header, len / SECTOR, &opening.ledger);
        let start = self.extents.len();
        if stored > 0 {
            // Where that cannot be told, the chain is refused later.
            let is_child = !matches!(self.described().link(), Ok(None));
            let ledger = Arc::clone(&opening.ledger);
            let tables = GrainTables::open(Arc::clone(&file), ledger, header, start, kind, is_child)?;
            if opening.options.expects_losses() {
                tables.look_through()?;
            }
            let tables = Box::new(tables);
            self.extents.push(
                stored,
                match kind {
                    TableKind::Packed(packing) => Body::Stream(tables, StreamExtent { file, len: stored, packing }),
                    _ => Body::Sparse(tables),
                },
            );
        }
        self.extents.push(len - stored, Body::Lost(short));
        Ok(())
    }

    /// An extent's length in bytes, with which the disk is still a file's size at most.
    fn extent_len(&self, line: &ExtentLine) -> Result<u64, Fault> {
        let total = line.sectors.checked_mul(SECTOR).and_then(|len| self.extents.len().checked_add(len));
        match total.filter(|total| i64::try_from(*total).is_ok()) {
            Some(total) => Ok(total - self.extents.len()),
            None => Err(Fault::new(
                Kind::OverLimit,
                self.file.name(),
                "the extents of the VMDK are larger than a disk can be",
            )
            .at(line.byte)),
        }
    }

    fn whole(&self, opening: &Opening<'_>) -> Result<(), Fault> {
        if self.extents.len() == 0 {
            return Err(Fault::new(Kind::Damaged, self.file.name(), "a VMDK of 0 sectors: it has no extent"));
        }
        // Of what may lack data something must be left.
        let nothing_left = self.extents.all_lost().filter(|_| opening.options.lacks == Lacks::Data);
        nothing_left.map_or(Ok(()), Err)
    }

    /// What `info` tells.
    pub fn facts(&self) -> Facts {
        recorded::facts(&self.descriptor, self.extents.len())
    }
}

/// Is a file that was not opened missing, so that the others are looked for all the same?
fn is_missing(opening: &Opening<'_>, fault: &Fault) -> bool {
    fault.kind() == Kind::NotFound || opening.options.may_lack_extent(fault)
}

/// The refusal of a file that is called as pieces are (`-s001`, `-000001-s001`), where no descriptor names it.
fn lost_piece(file: &InputFile) -> Option<Fault> {
    piece_by_name(file.name()).then(|| {
        Fault::new(Kind::NotFound, file.name(), "a piece of a VMDK, and no descriptor beside it names it")
            .advice("give the descriptor that names the pieces")
    })
}
