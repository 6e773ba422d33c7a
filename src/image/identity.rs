//! Identifiers of an output: random, given, or derived from SOURCE_DATE_EPOCH.

use byteorder::{BigEndian, ByteOrder};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What a source gives for derived identifiers.
pub struct IdentifierSource {
    /// Its own identifier.
    pub uuid: Option<Uuid>,
    /// Its first 64 KiB, where it has no identifier.
    pub head: Vec<u8>,
    /// Size of its disk in bytes.
    pub size: u64,
}

/// The identifiers that an output records. Fresh for each output (R21).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identifiers {
    /// The image's unique id: `ddb.uuid.image` of a VMDK.
    pub uuid: Uuid,
    /// The content id of a VMDK; never 0, ffffffff or fffffffe, which have meanings of their own.
    pub cid: u32,
    /// The rest of a VMDK's long content id: 12 bytes in front of the CID.
    pub long: [u8; 12],
    /// The 13 bytes that are free in the guest-visible id `60 00 C2 9x ...`; of the first only the low half is used.
    pub scsi: [u8; 13],
}

impl Identifiers {
    /// Random ones, made now.
    pub fn random() -> Identifiers {
        let mut bytes = [0; 64];
        for part in bytes.chunks_exact_mut(16) {
            // Version 4 fixes 6 of the 128 bits; hashed below, none is left fixed.
            part.copy_from_slice(Uuid::new_v4().as_bytes());
        }
        Identifiers::from_seed(&Sha256::digest(bytes).into())
    }

    /// Derived: the same for the same epoch, source and options, whatever the paths and the machine.
    ///
    /// `epoch` is in seconds since 1970, `options` tells all that shapes the output, never a path.
    pub fn derived(epoch: u32, source: &IdentifierSource, options: &str) -> Identifiers {
        let mut hash = Sha256::new();
        hash.update(u64::from(epoch).to_be_bytes());
        match source.uuid {
            Some(uuid) => hash.update(uuid.as_bytes()),
            None => hash.update(Sha256::digest(&source.head)),
        }
        hash.update(source.size.to_be_bytes());
        hash.update(options.as_bytes());
        Identifiers::from_seed(&hash.finalize().into())
    }

    fn from_seed(seed: &[u8; 32]) -> Identifiers {
        let part = |label: &str| -> [u8; 32] { Sha256::new().chain_update(seed).chain_update(label).finalize().into() };
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&part("uuid")[..16]);
        let mut long = [0; 12];
        long.copy_from_slice(&part("long content id")[..12]);
        let mut scsi = [0; 13];
        scsi.copy_from_slice(&part("scsi id")[..13]);
        let cids = part("content id");
        let cid = cids.chunks_exact(4).map(BigEndian::read_u32).find(|cid| Identifiers::cid_is_free(*cid)).unwrap_or(1);
        Identifiers { uuid: uuid::Builder::from_random_bytes(uuid).into_uuid(), cid, long, scsi }
    }

    /// False for the content ids that mean something: none, no parent, never written.
    pub fn cid_is_free(cid: u32) -> bool {
        !matches!(cid, 0 | 0xFFFF_FFFE | 0xFFFF_FFFF)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uuid: Option<Uuid>, head: &[u8], size: u64) -> IdentifierSource {
        IdentifierSource { uuid, head: head.to_vec(), size }
    }

    #[test]
    fn r21_identifiers_are_fresh_for_each_output() {
        let (a, b) = (Identifiers::random(), Identifiers::random());
        assert!(a.uuid != b.uuid && a.cid != b.cid && a.long != b.long && a.scsi != b.scsi);
        assert_eq!(a.uuid.get_version_num(), 4);
    }

    #[test]
    fn derived_identifiers_depend_on_epoch_source_size_and_options_alone() {
        let id = Uuid::from_u128(7);
        let base = Identifiers::derived(1, &source(Some(id), b"", 512), "x");
        assert_eq!(base, Identifiers::derived(1, &source(Some(id), b"ignored", 512), "x"));
        for other in [
            Identifiers::derived(2, &source(Some(id), b"", 512), "x"),
            Identifiers::derived(1, &source(Some(Uuid::from_u128(8)), b"", 512), "x"),
            Identifiers::derived(1, &source(None, b"a", 512), "x"),
            Identifiers::derived(1, &source(None, b"b", 512), "x"),
            Identifiers::derived(1, &source(Some(id), b"", 1024), "x"),
            Identifiers::derived(1, &source(Some(id), b"", 512), "y"),
        ] {
            assert!(other.uuid != base.uuid && other.cid != base.cid);
        }
    }
}
