//! A disk's map as people and programs read it: stretch by stretch, neighbours joined.

use std::ops::Range;

use super::walk::Cursor;
use crate::fault::Fault;
use crate::image::{Disk, Here};
use crate::io::FileId;

/// How a stretch of the disk is kept.
#[derive(Debug, Clone)]
pub enum Kept {
    /// Stored as it is, from this byte of the file on.
    Data(FileId, u64),
    /// In encoded units of this file, of which the first has its marker at this byte.
    Packed(FileId, u64),
    /// The image says that it is zero.
    Zero,
    /// Nothing is stored: in a hole of the file, from this byte on, or in no image of the chain.
    Hole(Option<(FileId, u64)>),
    /// It belongs to an image of the chain and cannot be had.
    Lost(Fault),
}

impl Kept {
    /// Where it is kept.
    pub fn place(&self) -> Option<(FileId, u64)> {
        match self {
            Kept::Data(file, at) | Kept::Packed(file, at) => Some((*file, *at)),
            Kept::Hole(place) => *place,
            Kept::Zero | Kept::Lost(_) => None,
        }
    }

    /// Does `next`, kept `len` bytes further on, go on where this was?
    fn goes_on(&self, len: u64, next: &Kept) -> bool {
        let follows = |(file, at): (FileId, u64), next: (FileId, u64)| (file, at.saturating_add(len)) == next;
        match (self, next) {
            (Kept::Data(a, x), Kept::Data(b, y)) => follows((*a, *x), (*b, *y)),
            (Kept::Packed(a, _), Kept::Packed(b, _)) => a == b,
            (Kept::Zero, Kept::Zero) | (Kept::Hole(None), Kept::Hole(None)) => true,
            (Kept::Hole(Some(a)), Kept::Hole(Some(b))) => follows(*a, *b),
            // As in the list of a conversion that goes on over losses: the place is that of the first.
            (Kept::Lost(a), Kept::Lost(b)) => a.is_like(b),
            _ => false,
        }
    }
}

/// A stretch of the disk that one image keeps in one way.
#[derive(Debug, Clone)]
pub struct MapExtent {
    /// The guest bytes.
    pub guest: Range<u64>,
    /// The depth of the image that has it: 0 is the youngest. Of what none has: that at which the search ended.
    pub depth: usize,
    /// How it is kept.
    pub kept: Kept,
}

/// All of a disk's map in guest order, in the memory of one stretch; reads tables and no guest data. Ends behind the first error.
pub struct Extents {
    cursor: Cursor,
    at: u64,
    end: u64,
    /// The one that the next is held against.
    held: Option<MapExtent>,
    /// It came to its end, by itself or by an error.
    ended: bool,
}

impl Extents {
    /// Over all of `disk`.
    pub fn new(disk: &Disk) -> Extents {
        Extents { cursor: Cursor::new(disk), at: 0, end: disk.facts.virtual_size, held: None, ended: false }
    }

    fn draw(&mut self) -> Result<MapExtent, Fault> {
        let (depth, run, hole) = self.cursor.found(self.at, self.end)?;
        let kept = match run.here {
            Here::Plain { file, at } if hole => Kept::Hole(Some((file, at))),
            Here::Plain { file, at } => Kept::Data(file, at),
            Here::Packed { file, at, .. } => Kept::Packed(file, at),
            Here::Zero => Kept::Zero,
            Here::Absent => Kept::Hole(None),
            Here::Lost(fault) => Kept::Lost(fault),
        };
        self.at = run.guest.end;
        Ok(MapExtent { guest: run.guest, depth, kept })
    }
}

impl Iterator for Extents {
    type Item = Result<MapExtent, Fault>;

    fn next(&mut self) -> Option<Result<MapExtent, Fault>> {
        while self.at < self.end {
            let next = match self.draw() {
                Ok(next) => next,
                Err(fault) => {
                    self.at = self.end;
                    (self.held, self.ended) = (None, true);
                    return Some(Err(fault));
                }
            };
            match &mut self.held {
                Some(held)
                    if held.depth == next.depth && held.kept.goes_on(held.guest.end - held.guest.start, &next.kept) =>
                {
                    held.guest.end = next.guest.end;
                }
                held => {
                    if let Some(done) = held.replace(next) {
                        return Some(Ok(done));
                    }
                }
            }
        }
        if !std::mem::replace(&mut self.ended, true)
            && let Err(fault) = self.cursor.walked()
        {
            return Some(Err(fault));
        }
        self.held.take().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::image::{Contract, Facts, Layer, Run, Unpack};

    /// A layer given sector by sector: 0 absent, 1 zero, 2 packed, 3 lost.
    struct Toy(Vec<u8>);

    impl Layer for Toy {
        fn guest_len(&self) -> u64 {
            self.0.len() as u64 * 512
        }

        fn run_at(&self, from: u64, limit: u64) -> Result<Run, Fault> {
            let sector = (from / 512) as usize;
            let here = match self.0[sector] {
                0 => Here::Absent,
                1 => Here::Zero,
                2 => Here::Packed { file: FileId(0), at: sector as u64, unit: 512, skip: from % 512 },
                // Each names its own place, as entries of a table do.
                _ => Here::Lost(Fault::damaged("toy".as_ref(), from, "lost").found(format!("number {sector}"))),
            };
            Ok(Run::new(from..limit.min((sector as u64 + 1) * 512), here))
        }

        fn walked(&self) -> Result<(), Fault> {
            Ok(())
        }

        fn unpacker(&self) -> Option<Box<dyn Unpack>> {
            None
        }
    }

    proptest! {
        /// Stretches follow each other, cover the disk, say of each sector what the youngest layer with an answer says, and no two
        /// neighbours could be one.
        #[test]
        fn the_list_says_what_the_layers_say(
            layers in prop::collection::vec(prop::collection::vec(0u8..4, 24), 1..4),
        ) {
            let chain: Vec<Arc<dyn Layer>> =
                layers.iter().map(|states| Arc::new(Contract(Arc::new(Toy(states.clone())) as Arc<dyn Layer>)) as Arc<dyn Layer>).collect();
            let mut disk = Disk::single(Arc::clone(&chain[0]), Facts::new("toy", "toy", 24 * 512), Vec::new(), Arc::default()).unwrap();
            let mut older = chain.into_iter().rev();
            disk.chain = crate::image::Chain::single(older.next().unwrap());
            for layer in older {
                disk.chain = crate::image::Chain::over(layer, disk.chain.clone());
            }
            let list: Vec<MapExtent> = Extents::new(&disk).map(Result::unwrap).collect();
            let mut at = 0;
            for extent in &list {
                prop_assert_eq!(extent.guest.start, at);
                at = extent.guest.end;
                for sector in extent.guest.clone().step_by(512).map(|byte| (byte / 512) as usize) {
                    let owner = layers.iter().position(|layer| layer[sector] != 0);
                    let state = match extent.kept {
                        Kept::Hole(None) => 0,
                        Kept::Zero => 1,
                        Kept::Packed(..) => 2,
                        Kept::Lost(_) => 3,
                        _ => 9,
                    };
                    prop_assert_eq!(state, owner.map_or(0, |depth| layers[depth][sector]));
                    prop_assert_eq!(extent.depth, owner.unwrap_or(layers.len() - 1));
                }
            }
            prop_assert_eq!(at, 24 * 512);
            for pair in list.windows(2) {
                let same = std::mem::discriminant(&pair[0].kept) == std::mem::discriminant(&pair[1].kept);
                prop_assert!(!same || pair[0].depth != pair[1].depth);
            }
        }
    }
}
