//! The disk controller that a VMDK records (`ddb.adapterType`).

use std::fmt;
use std::str::FromStr;

/// A controller. The words are VMware's; VirtualBox takes all six.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Adapter {
    /// Parallel ATA; what Virtual PC and generation 1 Hyper-V machines boot from.
    Ide,
    /// BusLogic SCSI.
    BusLogic,
    /// LSI Logic parallel SCSI.
    LsiLogic,
    /// LSI Logic SAS.
    LsiSas,
    /// VMware's paravirtual SCSI.
    PvScsi,
    /// Old ESX.
    LegacyEsx,
}

impl Adapter {
    /// Every adapter, in the order that help texts list them.
    pub const ALL: [Adapter; 6] =
        [Adapter::Ide, Adapter::BusLogic, Adapter::LsiLogic, Adapter::LsiSas, Adapter::PvScsi, Adapter::LegacyEsx];

    /// The word in descriptors and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Adapter::Ide => "ide",
            Adapter::BusLogic => "buslogic",
            Adapter::LsiLogic => "lsilogic",
            Adapter::LsiSas => "lsisas1068",
            Adapter::PvScsi => "pvscsi",
            Adapter::LegacyEsx => "legacyESX",
        }
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

impl FromStr for Adapter {
    type Err = String;

    fn from_str(word: &str) -> Result<Adapter, String> {
        Adapter::ALL.into_iter().find(|a| a.word().eq_ignore_ascii_case(word)).ok_or_else(|| {
            let words: Vec<_> = Adapter::ALL.iter().map(|a| a.word()).collect();
            format!("no such adapter; known: {}", words.join(", "))
        })
    }
}
