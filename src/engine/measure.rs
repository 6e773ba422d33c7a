//! What a conversion would write at most, found without reading the guest's data: for a dry run.

use super::crew::Control;
use super::salvage::Salvage;
use crate::fault::{Fault, Kind};
use crate::image::{Content, Drawn, Feed, Here, Losses, PIECE, Piece, Put, Run, Seen, Verdict, Writer, Writes};

/// What would be written at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// The length of each file of the plan, in bytes.
    pub lens: Vec<u64>,
    /// Bytes that would be written into all of them, holes apart.
    pub written: u64,
}

/// The same of a disk of which nothing is known but its size: all of it may be data.
pub fn measure_unseen(writer: &dyn Writer, control: Control<'_>) -> Result<Option<Measured>, Fault> {
    let plan = writer.plan();
    // Of kinds whose files have a length of their own there is nothing to find out.
    if let Some(lens) = plan.files.iter().map(|file| file.len).collect::<Option<Vec<u64>>>() {
        let written = lens.iter().fold(0, |sum: u64, len| sum.saturating_add(*len));
        return Ok(Some(Measured { lens, written }));
    }
    measure(&mut AllData { at: 0, end: plan.virtual_size }, writer, control)
}

/// Walks over `feed` as a conversion does, and lets the placer place all that may be data. What the map says to be lost is an error, or
/// listed, as in a conversion. `None`: the placer could not place that much, and the data alone tells whether it needs to.
pub fn measure(feed: &mut dyn Feed, writer: &dyn Writer, control: Control<'_>) -> Result<Option<Measured>, Fault> {
    let plan = writer.plan();
    let unit = plan.test_unit.max(1);
    let mut placer = writer.placer();
    let encoded = writer.encoder().map_or(0, |mut encoder| encoder.at_most(unit));
    let mut sum = Sum {
        lens: plan.files.iter().map(|file| file.len.unwrap_or(0)).collect(),
        written: 0,
        holes: plan.holes,
        encoded,
    };
    let salvage = Salvage::of(control.salvage);
    let (mut verdicts, mut sizes, mut writes) = (Vec::new(), Vec::new(), Writes::default());
    placer.begin(&mut writes)?;
    sum.add(&writes);
    while let Some(drawn) = feed.next()? {
        control.go_on()?;
        writes.clear();
        let guest = drawn.guest().clone();
        let seen = match &drawn {
            Drawn::Gap(_, verdict) => Seen::Gap(*verdict),
            Drawn::Lost(lost) => {
                salvage.lose(lost.guest.clone(), &lost.fault)?;
                Seen::Gap(Verdict::Zero)
            }
            Drawn::Piece(piece) => {
                list_lost(piece, salvage)?;
                let units = usize::try_from((guest.end - guest.start).div_ceil(unit)).unwrap_or(usize::MAX);
                verdicts.resize(units, Verdict::Data);
                sizes.resize(units, encoded);
                Seen::Units { verdicts: &verdicts, sizes: &sizes }
            }
        };
        match placer.place(guest, seen, &mut writes) {
            // What is deflated may be smaller.
            Err(fault) if fault.kind() == Kind::OverLimit && encoded > 0 => return Ok(None),
            placed => placed?,
        }
        sum.add(&writes);
    }
    control.salvage.map_or(Ok(()), Losses::settle)?;
    writes.clear();
    placer.finish(&mut writes)?;
    sum.add(&writes);
    for (file, len) in writes.lens() {
        if let Some(known) = sum.lens.get_mut(*file) {
            *known = *len;
        }
    }
    Ok(Some(Measured { lens: sum.lens, written: sum.written }))
}

/// Says to the salvage policy what runs of a piece are lost; of the base nothing may be.
fn list_lost(piece: &Piece, salvage: Salvage<'_>) -> Result<(), Fault> {
    let lose = |runs: &[(usize, Run)], salvage: Salvage<'_>| {
        runs.iter().try_for_each(|(_, run)| match &run.here {
            Here::Lost(fault) => salvage.lose(run.guest.clone(), fault),
            _ => Ok(()),
        })
    };
    if let Content::Runs(runs) = &piece.content {
        lose(runs, salvage)?;
    }
    lose(&piece.base, Salvage::Never)
}

/// What the writes come to.
struct Sum {
    lens: Vec<u64>,
    written: u64,
    holes: bool,
    /// Bytes of an encoded unit at most.
    encoded: u32,
}

impl Sum {
    fn add(&mut self, writes: &Writes) {
        for write in writes.list() {
            let len = match &write.put {
                Put::Guest(guest) => guest.end - guest.start,
                Put::Encoded(_) => self.encoded.into(),
                Put::Meta(bytes) => bytes.len() as u64,
                Put::Zero(len) => *len,
            };
            if !(self.holes && matches!(write.put, Put::Zero(_))) {
                self.written += len;
            }
            if let Some(known) = self.lens.get_mut(write.file) {
                *known = (*known).max(write.at.saturating_add(len));
            }
        }
    }
}

/// A disk that is all data.
struct AllData {
    at: u64,
    end: u64,
}

impl Feed for AllData {
    fn next(&mut self) -> Result<Option<Drawn>, Fault> {
        let guest = self.at..self.at.saturating_add(PIECE).min(self.end);
        self.at = guest.end;
        let piece = Piece { guest, content: Content::Bytes(Vec::new()), base: Vec::new(), lost: Vec::new() };
        Ok(Some(piece).filter(|piece| !piece.guest.is_empty()).map(Drawn::Piece))
    }

    fn finish(&mut self) -> Result<Option<Fault>, Fault> {
        Ok(None)
    }
}
