//! VMDKs of packed grains and ESXi's redo logs, built by the specification. Shares no code with the program.

use super::vmdk::{Sparse, descriptor};

/// A zlib stream.
pub fn deflate(bytes: &[u8]) -> Vec<u8> {
    deflate_at(bytes, libdeflater::CompressionLvl::default())
}

/// A zlib stream of this level.
pub fn deflate_at(bytes: &[u8], level: libdeflater::CompressionLvl) -> Vec<u8> {
    let mut packer = libdeflater::Compressor::new(level);
    let mut out = vec![0; packer.zlib_compress_bound(bytes.len())];
    let n = packer.zlib_compress(bytes, &mut out).unwrap();
    out.truncate(n);
    out
}

/// A change of a grain on its way into a stream: its number, packed bytes, and the sector and size in its marker.
pub type Change = fn(u64, &mut Vec<u8>, &mut u64, &mut u32);

/// Makes a packed grain one that inflates to so many bytes, by a sound checksum.
pub fn inflates_to(len: usize, packed: &mut Vec<u8>, size: &mut u32) {
    *packed = deflate(&vec![0x11; len]);
    *size = packed.len() as u32;
}

/// A stream to be: markers, tables behind the grains, footer, end.
pub struct Stream {
    pub guest: Vec<u8>,
    pub capacity: u64,
    /// The last grain is deflated without padding, as QEMU does.
    pub short_last: bool,
    /// Changes the packed bytes of a grain, its lba and its size.
    pub grain: Change,
    /// What stands behind the footer; a sector of zeroes is the end of the stream.
    pub behind: Vec<u8>,
    pub grain_sectors: u64,
}

impl Stream {
    pub fn of(guest: &[u8]) -> Stream {
        let capacity = guest.len() as u64 / 512;
        Stream {
            guest: guest.to_vec(),
            capacity,
            short_last: false,
            grain: |_, _, _, _| (),
            behind: vec![0; 512],
            grain_sectors: 128,
        }
    }

    pub fn header(&self, gd: u64) -> Vec<u8> {
        let mut h = vec![0; 512];
        h[..4].copy_from_slice(b"KDMV");
        h[4] = 3;
        h[8..12].copy_from_slice(&0x30001u32.to_le_bytes());
        for (at, value) in
            [(12, self.capacity), (20, self.grain_sectors), (28, 1), (36, 20), (48, 0), (56, gd), (64, 128)]
        {
            h[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        h[44..48].copy_from_slice(&512u32.to_le_bytes());
        h[73..77].copy_from_slice(b"\n \r\n");
        h[77] = 1;
        h
    }

    pub fn build(&self) -> Vec<u8> {
        self.build_with(self.grain)
    }

    pub fn build_with(&self, grain: impl Fn(u64, &mut Vec<u8>, &mut u64, &mut u32)) -> Vec<u8> {
        let marker = |count: u64, kind: u32| {
            let mut m = vec![0; 512];
            m[..8].copy_from_slice(&count.to_le_bytes());
            m[12..16].copy_from_slice(&kind.to_le_bytes());
            m
        };
        let mut file = self.header(u64::MAX);
        let text = descriptor(
            "streamOptimized",
            7,
            None,
            &format!("RDONLY {} SPARSE \"generated-stream.vmdk\"", self.guest.len() / 512),
        );
        file.extend(text.as_bytes());
        file.resize(65_536, 0);
        let (mut table, mut directory) = (vec![0; 2048], vec![0; 512]);
        // Each table behind its grains, as products write them.
        let put_table = |file: &mut Vec<u8>, directory: &mut [u8], table: &mut Vec<u8>, number: usize| {
            file.extend(marker(4, 1));
            directory[number * 4..number * 4 + 4].copy_from_slice(&(file.len() as u32 / 512).to_le_bytes());
            file.append(table);
            table.resize(2048, 0);
        };
        let mut number = 0;
        for (n, unit) in self.guest.chunks(65_536).enumerate().filter(|(_, unit)| unit.iter().any(|b| *b != 0)) {
            if n / 512 > number {
                put_table(&mut file, &mut directory, &mut table, number);
                number = n / 512;
            }
            let mut whole = unit.to_vec();
            if !self.short_last {
                whole.resize(65_536, 0);
            }
            let (mut packed, mut lba) = (deflate(&whole), n as u64 * 128);
            let mut size = packed.len() as u32;
            grain(n as u64, &mut packed, &mut lba, &mut size);
            let entry = n % 512 * 4;
            table[entry..entry + 4].copy_from_slice(&(file.len() as u32 / 512).to_le_bytes());
            file.extend(lba.to_le_bytes());
            file.extend(size.to_le_bytes());
            file.extend(packed);
            file.resize(file.len().next_multiple_of(512), 0);
        }
        put_table(&mut file, &mut directory, &mut table, number);
        file.extend(marker(1, 2));
        let gd = file.len() as u64 / 512;
        file.extend(directory);
        file.extend(marker(1, 3));
        file.extend(self.header(gd));
        file.extend(&self.behind);
        file
    }
}

/// A VMDK with its tables in front, as QEMU and open-vmdk lay it out: the plain layout, with packed grains behind what `front` makes
/// of their number and their length.
pub fn tables_in_front(guest: &[u8], front: fn(u64, u32) -> Vec<u8>) -> Vec<u8> {
    let mut image = Sparse::of(guest);
    (image.version, image.flags) = (3, 0x30003);
    let mut file = Sparse { grains: vec![None; 6], ..image.clone() }.build();
    file[77] = 1;
    for (n, unit) in guest.chunks(65_536).enumerate().filter(|(_, unit)| unit.iter().any(|b| *b != 0)) {
        let (packed, sector) = (deflate(unit), (file.len() / 512) as u32);
        for directory in [image.rgd(), image.gd()] {
            let at = image.entry_at(directory, n as u64);
            file[at..at + 4].copy_from_slice(&sector.to_le_bytes());
        }
        file.extend(front(n as u64 * 128, packed.len() as u32));
        file.extend(packed);
        file.resize(file.len().next_multiple_of(512), 0);
    }
    file
}

/// The marker of a grain.
pub fn marker(lba: u64, size: u32) -> Vec<u8> {
    [lba.to_le_bytes().as_slice(), &size.to_le_bytes()].concat()
}

/// A COWD extent of `sectors`, with these sectors stored (filled with a byte) and these that are zero by an entry of 1.
pub fn cowd(sectors: u64, stored: &[(u64, u8)], zero: &[u64]) -> Vec<u8> {
    let tables = sectors.div_ceil(4096);
    let gd_sectors = (tables * 4).div_ceil(512);
    let mut file = vec![0; (4 + gd_sectors as usize) * 512];
    file[..4].copy_from_slice(b"COWD");
    for (at, value) in [(4, 1u32), (8, 3), (12, sectors as u32), (16, 1), (20, 4), (24, tables as u32)] {
        file[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let entry = |file: &mut Vec<u8>, sector: u64, value: Option<u8>| {
        let gde = 2048 + (sector / 4096) as usize * 4;
        if file[gde..gde + 4] == [0; 4] {
            let at = file.len() as u32 / 512;
            file[gde..gde + 4].copy_from_slice(&at.to_le_bytes());
            file.resize(file.len() + 16_384, 0);
        }
        let table = u32::from_le_bytes(file[gde..gde + 4].try_into().unwrap()) as usize * 512;
        let place = match value {
            None => 1,
            Some(byte) => {
                file.extend([byte; 512]);
                file.len() as u32 / 512 - 1
            }
        };
        let at = table + (sector % 4096) as usize * 4;
        file[at..at + 4].copy_from_slice(&place.to_le_bytes());
    };
    stored.iter().for_each(|(sector, byte)| entry(&mut file, *sector, Some(*byte)));
    zero.iter().for_each(|sector| entry(&mut file, *sector, None));
    let free = file.len() as u32 / 512;
    file[28..32].copy_from_slice(&free.to_le_bytes());
    file
}

/// A seSparse extent of two tables' worth; entries by grain of 4 KiB: the raw value, and the data at grain numbers.
pub fn sesparse(entries: &[(u64, u64)], data: &[(u64, u8)], journal: u64) -> Vec<u8> {
    let mut file = vec![0; 2048 * 512];
    let put = |file: &mut Vec<u8>, at: usize, value: u64| file[at..at + 8].copy_from_slice(&value.to_le_bytes());
    let fields = [
        (0, 0xCAFE_BABE),
        (8, 0x2_0000_0001),
        (16, 40_000),
        (24, 8),
        (32, 64),
        (0x50, 1),
        (0x58, 1),
        (0x80, 8),
        (0x88, 8),
        (0x90, 64),
        (0x98, 128),
        (0xC0, 512),
        (0xC8, 1024),
    ];
    fields.iter().for_each(|(at, value)| put(&mut file, *at, *value));
    put(&mut file, 512, 0xCAFE_CAFE);
    put(&mut file, 512 + 0x18, journal);
    // The first 16 MiB have table 1, the rest table 0.
    put(&mut file, 8 * 512, 0x1000_0000_0000_0001);
    put(&mut file, 8 * 512 + 8, 0x1000_0000_0000_0000);
    for (grain, value) in entries {
        let table = if *grain < 4096 { 1 } else { 0 };
        put(&mut file, (64 + table * 64) * 512 + (*grain % 4096) as usize * 8, *value);
    }
    for (number, byte) in data {
        let at = (512 + *number as usize * 8) * 512;
        file[at..at + 4096].fill(*byte);
    }
    file
}
