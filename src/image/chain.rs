//! A chain of layers, resolved: the youngest layer that is not `Absent` answers.

use std::sync::Arc;

use super::{Here, Layer, Run, Unpack};
use crate::fault::Fault;

/// Layers of one disk, the youngest first.
#[derive(Clone)]
pub struct Chain(Vec<Arc<dyn Layer>>);

impl Chain {
    /// A disk of one layer.
    pub fn single(layer: Arc<dyn Layer>) -> Chain {
        Chain(vec![layer])
    }

    /// This layer on top of `parents`.
    pub fn over(layer: Arc<dyn Layer>, parents: Chain) -> Chain {
        let mut layers = vec![layer];
        layers.extend(parents.0);
        Chain(layers)
    }

    /// The same disk, `len` bytes long: what lies behind its old end is zero.
    pub fn grown(self, len: u64) -> Chain {
        Chain::over(Arc::new(Nothing { len }), self)
    }

    /// The layers, the youngest first.
    pub fn layers(&self) -> &[Arc<dyn Layer>] {
        &self.0
    }

    /// A cursor over the chain.
    pub fn resolver(&self) -> Resolver {
        Resolver { layers: self.0.clone(), last: vec![None; self.0.len()] }
    }
}

/// A layer that has nothing of its own.
struct Nothing {
    len: u64,
}

impl Layer for Nothing {
    fn guest_len(&self) -> u64 {
        self.len
    }

    fn run_at(&self, from: u64, limit: u64) -> Result<Run, Fault> {
        Ok(Run::new(from..limit, Here::Absent))
    }

    fn walked(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn unpacker(&self) -> Option<Box<dyn Unpack>> {
        None
    }
}

/// A cursor over a chain; what comes out of [`Resolver::at`] is never `Absent`.
///
/// It keeps the last run of each depth and asks a layer only where that run ends: asked at every run of its parent, a child that
/// says "absent up to the end" would make the walk quadratic.
pub struct Resolver {
    layers: Vec<Arc<dyn Layer>>,
    last: Vec<Option<Run>>,
}

impl Resolver {
    /// The run that holds `from`, cut to `from..limit`, and the depth of the layer that answered (0 is the youngest).
    ///
    /// `from < limit`, and `limit` is not past the youngest layer's end. A parent shorter than its child reads as zero.
    pub fn at(&mut self, from: u64, limit: u64) -> Result<(usize, Run), Fault> {
        let (depth, run) = self.found(from, limit)?;
        match run.here {
            Here::Absent => Ok((0, Run::new(run.guest, Here::Zero))),
            _ => Ok((depth, run)),
        }
    }

    /// The same, where what no layer has stays `Absent`, with the depth at which the search ended.
    pub fn found(&mut self, from: u64, limit: u64) -> Result<(usize, Run), Fault> {
        let (mut limit, mut last) = (limit, 0);
        for depth in 0..self.layers.len() {
            let len = self.layers[depth].guest_len();
            if from >= len {
                break;
            }
            last = depth;
            let run = self.run_of(depth, from, limit.min(len))?;
            if !matches!(run.here, Here::Absent) {
                return Ok((depth, run));
            }
            limit = run.guest.end; // what the parent answers may not outrun what the child left open
        }
        Ok((last, Run::new(from..limit, Here::Absent)))
    }

    /// The whole disk was walked.
    pub fn walked(&self) -> Result<(), Fault> {
        self.layers.iter().try_for_each(|layer| layer.walked())
    }

    fn run_of(&mut self, depth: usize, from: u64, limit: u64) -> Result<Run, Fault> {
        let window = from..limit;
        if let Some(kept) = &self.last[depth]
            && kept.guest.contains(&from)
            && let Some(run) = kept.cut(&window)
        {
            return Ok(run);
        }
        // Asked up to the layer's end, not up to `limit`, so that the answer serves the next calls too.
        let run = self.layers[depth].run_at(from, self.layers[depth].guest_len())?;
        let cut = run.cut(&window);
        self.last[depth] = Some(run);
        // A layer that breaks its contract: never read on as if nothing were there.
        cut.filter(|run| run.guest.start == from)
            .ok_or_else(|| Fault::bug("the map does not hold the byte that was asked for"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::fault::Kind;
    use crate::io::FileId;

    /// A layer given sector by sector: None absent, Some(0) zero, Some(n) plain at n sectors, Some(255) lost.
    struct Toy {
        sectors: Vec<Option<u8>>,
        asked: AtomicUsize,
    }

    impl Toy {
        fn new(sectors: Vec<Option<u8>>) -> Arc<Toy> {
            Arc::new(Toy { sectors, asked: AtomicUsize::new(0) })
        }

        fn here(&self, sector: usize) -> Here {
            match self.sectors[sector] {
                None => Here::Absent,
                Some(0) => Here::Zero,
                Some(255) => Here::Lost(Fault::new(Kind::Damaged, "toy", "lost")),
                Some(n) => Here::Plain { file: FileId(0), at: u64::from(n) * 1_000_000 + sector as u64 * 512 },
            }
        }
    }

    impl Layer for Toy {
        fn guest_len(&self) -> u64 {
            self.sectors.len() as u64 * 512
        }

        fn run_at(&self, from: u64, limit: u64) -> Result<Run, Fault> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let first = (from / 512) as usize;
            let same = self.sectors[first..].iter().take_while(|s| **s == self.sectors[first]).count();
            let mut run = Run::new(from..limit.min((first + same) as u64 * 512), self.here(first));
            if let Here::Plain { at, .. } = &mut run.here {
                *at += from % 512;
            }
            Ok(run)
        }

        fn walked(&self) -> Result<(), Fault> {
            Ok(())
        }

        fn unpacker(&self) -> Option<Box<dyn Unpack>> {
            None
        }
    }

    fn chain(layers: &[Vec<Option<u8>>]) -> Chain {
        Chain(layers.iter().map(|l| Arc::new(crate::image::Contract(Toy::new(l.clone()))) as Arc<dyn Layer>).collect())
    }

    #[test]
    fn loss_in_the_child_hides_the_parent() {
        let chain = chain(&[vec![Some(255)], vec![Some(7)]]);
        let (depth, run) = chain.resolver().at(0, 512).unwrap();
        assert_eq!(depth, 0);
        assert!(matches!(run.here, Here::Lost(_)));
    }

    #[test]
    fn an_empty_child_is_asked_once_however_many_runs_its_parent_has() {
        let child = Toy::new(vec![None; 4000]);
        let parent = Toy::new((0..4000).map(|n| Some((n % 2) as u8)).collect());
        let chain = Chain::over(child.clone(), Chain::single(parent));
        let (mut at, mut resolver, end) = (0, chain.resolver(), 4000 * 512);
        while at < end {
            at = resolver.at(at, end).unwrap().1.guest.end;
        }
        assert_eq!(child.asked.load(Ordering::Relaxed), 1);
    }

    fn sectors(max: usize) -> impl Strategy<Value = Vec<Option<u8>>> {
        let one = prop_oneof![3 => Just(None), 1 => Just(Some(0)), 2 => (1u8..4).prop_map(Some), 1 => Just(Some(255))];
        prop::collection::vec(one, 1..max)
    }

    proptest! {
        /// The law of a chain: each sector comes from the youngest layer that is not absent there, whatever is asked in whatever order.
        #[test]
        fn every_sector_comes_from_the_youngest_layer_that_has_it(
            layers in prop::collection::vec(sectors(40), 1..5),
            asks in prop::collection::vec((0u64..40 * 512, 1u64..9000), 1..40),
        ) {
            let chain = chain(&layers);
            let len = chain.layers()[0].guest_len();
            let mut resolver = chain.resolver();
            for (from, count) in asks {
                let from = from % len;
                let limit = (from + count).min(len);
                let (depth, run) = resolver.at(from, limit).unwrap();
                prop_assert!(run.guest.start == from && run.guest.end > from && run.guest.end <= limit);
                for byte in run.guest.clone().step_by(512).chain([run.guest.end - 1]) {
                    let sector = (byte / 512) as usize;
                    // A shorter parent ends the search: what lies deeper does not shine through behind its end.
                    let reach = layers.iter().position(|l| sector >= l.len()).unwrap_or(layers.len());
                    let owner = layers[..reach].iter().position(|l| l[sector].is_some());
                    let want = owner.map(|d| layers[d][sector].unwrap());
                    match (want, run.cut(&(byte..byte + 1)).unwrap().here) {
                        (None | Some(0), Here::Zero) => prop_assert_eq!(depth, owner.unwrap_or(0)),
                        (Some(255), Here::Lost(_)) => prop_assert_eq!(depth, owner.unwrap()),
                        (Some(n), Here::Plain { at, .. }) => {
                            prop_assert_eq!(depth, owner.unwrap());
                            prop_assert_eq!(at, u64::from(n) * 1_000_000 + byte);
                        }
                        (want, got) => prop_assert!(false, "sector {sector}: want {want:?}, got {got:?}"),
                    }
                }
            }
        }
    }
}
