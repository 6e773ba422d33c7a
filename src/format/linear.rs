//! A layer whose data lies in one row from byte 0: a raw disk, a fixed VHD.

use std::sync::Arc;

use crate::fault::Fault;
use crate::image::{Here, Layer, Run, Unpack};
use crate::io::InputFile;

/// What the guest reads behind the data.
pub enum Rest {
    /// Zeroes: a file that is no whole number of sectors is padded.
    Zero,
    /// Nothing: the file is too short.
    Lost(Fault),
}

/// Data in a row.
pub struct Linear {
    file: Arc<InputFile>,
    data_len: u64,
    guest_len: u64,
    rest: Rest,
}

impl Linear {
    /// The first `data_len` bytes of `file`, then `rest` up to `guest_len`.
    pub fn new(file: Arc<InputFile>, data_len: u64, guest_len: u64, rest: Rest) -> Linear {
        let data_len = data_len.min(file.len());
        Linear { file, data_len, guest_len, rest }
    }
}

impl Layer for Linear {
    fn guest_len(&self) -> u64 {
        self.guest_len
    }

    fn run_at(&self, from: u64, limit: u64) -> Result<Run, Fault> {
        if from < self.data_len {
            return Ok(Run::new(from..limit.min(self.data_len), Here::Plain { file: self.file.id(), at: from }));
        }
        let here = match &self.rest {
            Rest::Zero => Here::Zero,
            Rest::Lost(fault) => Here::Lost(fault.clone()),
        };
        Ok(Run::new(from..limit, here))
    }

    fn walked(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn unpacker(&self) -> Option<Box<dyn Unpack>> {
        None
    }
}
