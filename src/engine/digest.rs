//! The digest of a guest's content, taken in guest order while pieces are read in any.

use std::fmt;
use std::ops::Range;

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use sha2::{Digest as _, Sha256};

use super::crew::Control;
use crate::fault::Fault;
use crate::image::PIECE;

/// What holes are hashed from: they are not read.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];
/// Zeroes that are hashed between two looks at the stop flag.
const STEP: u64 = 1 << 20;

/// How a digest is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256: one stream, hashed by whoever has the turn.
    Sha256,
    /// BLAKE3: a tree, whose branches of 1 MiB the workers hash side by side.
    Blake3,
}

impl Algorithm {
    /// Its word on the command line and in reports.
    pub fn word(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Blake3 => "blake3",
        }
    }
}

/// A digest that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digested {
    /// How.
    pub algorithm: Algorithm,
    /// Its bytes.
    pub value: [u8; 32],
}

impl fmt::Display for Digested {
    /// In hex.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

/// A digest on its way. It is told of the guest from its first byte to its last, each byte once.
pub enum Digest {
    /// SHA-256 of what came.
    Sha256(Box<Sha256>),
    /// BLAKE3 of what came.
    Blake3(Tree),
}

/// What a worker makes of a piece or a gap before its turn.
pub enum Part<'a> {
    /// Bytes that are hashed in the turn.
    Bytes(&'a [u8]),
    /// So many zeroes, the same.
    Zeroes(u64),
    /// Branches of a tree that were hashed already.
    Branches(Vec<ChainingValue>),
    /// All of a disk that is no larger than a branch.
    Root(blake3::Hash),
}

/// What workers need to know to make parts.
#[derive(Clone, Copy)]
pub struct Maker {
    algorithm: Algorithm,
    /// Bytes of the guest; of those that BLAKE3 is taken of.
    end: u64,
}

impl Maker {
    /// For a guest of `end` bytes. Only SHA-256 does without knowing that.
    pub fn new(algorithm: Algorithm, end: u64) -> Maker {
        Maker { algorithm, end }
    }

    /// The digest that the parts are for.
    pub fn digest(self) -> Digest {
        match self.algorithm {
            Algorithm::Sha256 => Digest::Sha256(Box::default()),
            Algorithm::Blake3 => Digest::Blake3(Tree::default()),
        }
    }

    /// A part of the guest: these bytes, or none that were read and all zero.
    pub fn part<'a>(self, guest: &Range<u64>, bytes: Option<&'a [u8]>) -> Result<Part<'a>, Fault> {
        let len = guest.end - guest.start;
        if bytes.is_some_and(|bytes| bytes.len() as u64 != len) {
            return Err(Fault::bug("a digest is told of fewer bytes than there are"));
        }
        match (self.algorithm, bytes) {
            (Algorithm::Sha256, Some(bytes)) => Ok(Part::Bytes(bytes)),
            (Algorithm::Sha256, None) => Ok(Part::Zeroes(len)),
            (Algorithm::Blake3, _) if !guest.start.is_multiple_of(PIECE) || (bytes.is_some() && len > PIECE) => {
                Err(Fault::bug("a branch of a tree that does not lie on its grid"))
            }
            (Algorithm::Blake3, _) if self.end <= PIECE => {
                let mut hasher = blake3::Hasher::new();
                fed(&mut hasher, bytes, len);
                Ok(Part::Root(hasher.finalize()))
            }
            (Algorithm::Blake3, _) => {
                let starts = (guest.start..guest.end).step_by(PIECE as usize);
                Ok(Part::Branches(starts.map(|start| branch(start, bytes, (guest.end - start).min(PIECE))).collect()))
            }
        }
    }
}

/// The branch that begins at `start`, of these bytes or of so many zeroes.
fn branch(start: u64, bytes: Option<&[u8]>, len: u64) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(start);
    fed(&mut hasher, bytes, len);
    hasher.finalize_non_root()
}

fn fed(hasher: &mut blake3::Hasher, bytes: Option<&[u8]>, len: u64) {
    if let Some(bytes) = bytes {
        hasher.update(bytes);
        return;
    }
    for zeroes in zeroes(len) {
        hasher.update(zeroes);
    }
}

/// So many zeroes.
fn zeroes(len: u64) -> impl Iterator<Item = &'static [u8]> {
    let mut left = len;
    std::iter::from_fn(move || {
        let zeroes = ZEROES.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(&ZEROES);
        left -= zeroes.len() as u64;
        (!zeroes.is_empty()).then_some(zeroes)
    })
}

impl Digest {
    /// Takes the next part. Of zeroes, which may be many, `told` is told how far it is; a stop ends it.
    pub fn take(&mut self, part: Part<'_>, control: &Control<'_>, told: &mut dyn FnMut(u64)) -> Result<(), Fault> {
        match (self, part) {
            (Digest::Sha256(hasher), Part::Bytes(bytes)) => hasher.update(bytes),
            (Digest::Sha256(hasher), Part::Zeroes(len)) => {
                for start in (0..len).step_by(STEP as usize) {
                    control.go_on()?;
                    let step = (len - start).min(STEP);
                    zeroes(step).for_each(|zeroes| hasher.update(zeroes));
                    told(step);
                }
            }
            (Digest::Blake3(tree), Part::Branches(branches)) => branches.into_iter().for_each(|next| tree.push(next)),
            (Digest::Blake3(tree), Part::Root(hash)) => tree.root = Some(hash),
            _ => return Err(Fault::bug("a part of another digest")),
        }
        Ok(())
    }

    /// The digest of all that came.
    pub fn finish(self) -> Digested {
        match self {
            Digest::Sha256(hasher) => Digested { algorithm: Algorithm::Sha256, value: hasher.finalize().into() },
            Digest::Blake3(tree) => Digested { algorithm: Algorithm::Blake3, value: *tree.finish().as_bytes() },
        }
    }
}

/// A BLAKE3 tree that grows to the right: the roots of its whole subtrees, the largest first.
#[derive(Default)]
pub struct Tree {
    whole: Vec<ChainingValue>,
    /// Branches that came.
    count: u64,
    /// Where the guest is one branch.
    root: Option<blake3::Hash>,
}

impl Tree {
    /// One more branch. What is on the left of it can be merged now: before, nobody knew whether it was the root.
    fn push(&mut self, branch: ChainingValue) {
        while self.whole.len() > self.count.count_ones() as usize {
            self.merge();
        }
        self.whole.push(branch);
        self.count += 1;
    }

    fn merge(&mut self) {
        if let (Some(right), Some(left)) = (self.whole.pop(), self.whole.pop()) {
            self.whole.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
    }

    fn finish(mut self) -> blake3::Hash {
        while self.whole.len() > 2 {
            self.merge();
        }
        match (self.root, self.whole.as_slice()) {
            (None, [left, right]) => merge_subtrees_root(left, right, Mode::Hash),
            (root, _) => root.unwrap_or_else(|| blake3::hash(&[])),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Pieces and gaps of whole windows, as the walk hands them out, and the same bytes in one.
    #[test]
    fn parts_make_the_digest_of_the_whole() {
        let control =
            Control { jobs: 1, stop: &AtomicBool::new(false), progress: &|_| (), salvage: None, digest: false };
        let mib = 1u64 << 20;
        for end in [512, mib - 512, mib, mib + 512, 2 * mib, 3 * mib, 5 * mib + 1536, 7 * mib, 8 * mib, 9 * mib + 512] {
            // Windows 2 and 5 to 7 are gaps; so is a last one.
            let zero = |window: u64| matches!(window, 2 | 5..8) || end == 3 * mib;
            let byte = |at: u64| if zero(at / mib) { 0 } else { (at % 253) as u8 };
            let guest: Vec<u8> = (0..end).map(byte).collect();
            for algorithm in [Algorithm::Sha256, Algorithm::Blake3] {
                let maker = Maker::new(algorithm, end);
                let (mut digest, mut at, mut told) = (maker.digest(), 0, 0);
                while at < end {
                    let mut until = (at + mib).min(end);
                    while zero(at / mib) && until < end && zero(until / mib) {
                        until = (until + mib).min(end);
                    }
                    let bytes = (!zero(at / mib)).then(|| &guest[at as usize..until as usize]);
                    let part = maker.part(&(at..until), bytes).unwrap();
                    digest.take(part, &control, &mut |bytes| told += bytes).unwrap();
                    at = until;
                }
                let want: [u8; 32] = match algorithm {
                    Algorithm::Sha256 => Sha256::digest(&guest).into(),
                    Algorithm::Blake3 => *blake3::hash(&guest).as_bytes(),
                };
                assert_eq!(digest.finish().value, want, "{end} {algorithm:?}");
                assert!(told <= end);
            }
        }
    }

    /// The values of the algorithms' own documents: FIPS 180 and the BLAKE3 test vectors, input 0, 1, 2 ... 250, 0, ...
    #[test]
    fn known_values() {
        let control =
            Control { jobs: 1, stop: &AtomicBool::new(false), progress: &|_| (), salvage: None, digest: false };
        let of = |algorithm, bytes: &[u8]| {
            let (maker, guest) = (Maker::new(algorithm, bytes.len() as u64), 0..bytes.len() as u64);
            let mut digest = maker.digest();
            digest.take(maker.part(&guest, Some(bytes)).unwrap(), &control, &mut |_| ()).unwrap();
            digest.finish().to_string()
        };
        let sha = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of(Algorithm::Sha256, b"abc"), sha);
        let vector: Vec<u8> = (0..1024u32).map(|n| (n % 251) as u8).collect();
        let blake = "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7";
        assert_eq!(of(Algorithm::Blake3, &vector), blake);
    }
}
