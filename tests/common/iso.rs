//! ISO 9660 images, built by the specifications: a small disc with a folder, in the names of ISO 9660 and of Joliet, around any bytes.

/// Where the structures of [`iso`] are, in blocks of 2,048 bytes.
pub mod block {
    pub const PRIMARY: usize = 16;
    pub const JOLIET: usize = 18;
    pub const CATALOG: usize = 20;
    pub const TABLES: [usize; 4] = [21, 22, 23, 24];
    pub const ROOT: usize = 25;
    pub const FOLDER: usize = 26;
    pub const JOLIET_ROOT: usize = 27;
    pub const JOLIET_FOLDER: usize = 28;
    pub const CONTENT: usize = 29;
    pub const UDF_MAIN: usize = 32;
    pub const UDF_RESERVE: usize = 40;
    pub const UDF_ANCHOR: usize = 256;
}

/// Bytes of a directory's record of itself, and of the one that it is in.
pub const OWN: usize = 34;

fn both(value: u32) -> [u8; 8] {
    (u64::from(value) | u64::from(value.swap_bytes()) << 32).to_le_bytes()
}

fn both_short(value: u16) -> [u8; 4] {
    (u32::from(value) | u32::from(value.swap_bytes()) << 16).to_le_bytes()
}

/// A directory record.
pub fn record(name: &[u8], first: u32, len: u32, flags: u8) -> Vec<u8> {
    let mut raw = vec![0; (33 + name.len()).next_multiple_of(2)];
    raw[0] = raw.len() as u8;
    raw[2..10].copy_from_slice(&both(first));
    raw[10..18].copy_from_slice(&both(len));
    raw[25] = flags;
    raw[28..32].copy_from_slice(&both_short(1));
    raw[32] = name.len() as u8;
    raw[33..33 + name.len()].copy_from_slice(name);
    raw
}

/// A directory of these records, in the one at `parent`.
pub fn directory(own: u32, parent: u32, records: &[Vec<u8>]) -> Vec<u8> {
    let mut raw = [record(&[0], own, 2048, 2), record(&[1], parent, 2048, 2), records.concat()].concat();
    raw.resize(2048, 0);
    raw
}

fn put(image: &mut [u8], block: usize, bytes: &[u8]) {
    image[block * 2048..][..bytes.len()].copy_from_slice(bytes);
}

/// A path table of the root and one folder.
fn table(big: bool, root: u32, folder: u32, name: &[u8]) -> Vec<u8> {
    let number = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
    let parent = if big { [0, 1] } else { [1, 0] };
    let one = |name: &[u8], first: u32| [&[name.len() as u8, 0][..], &number(first), &parent, name].concat();
    let mut raw = [one(&[0], root), vec![0], one(name, folder)].concat();
    raw.resize(raw.len().next_multiple_of(2), 0);
    raw
}

/// An image of `blocks` blocks of 2,048 bytes: a primary descriptor that says so, one of Joliet, a boot record, what they lead to.
pub fn iso(blocks: u32) -> Vec<u8> {
    iso_of(blocks, 2048)
}

/// One whose volumes count in blocks of `size` bytes.
pub fn iso_of(blocks: u32, size: u16) -> Vec<u8> {
    let mut image: Vec<u8> = (0..blocks * 2048).map(|n| (n / 512 % 251) as u8 | 1).collect();
    let descriptor = |kind: u8| {
        let mut d = vec![0u8; 2048];
        d[0] = kind;
        d[1..6].copy_from_slice(b"CD001");
        d[6] = 1;
        d
    };
    let per_block = 2048 / u32::from(size);
    let at = |block: usize| block as u32 * per_block;
    let wide = |name: &str| name.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
    let mut volumes = Vec::new();
    for (kind, tables, root, folder, file, name) in [
        (1, [21, 22], block::ROOT, block::FOLDER, b"FILE.TXT;1".to_vec(), b"FOLDER".to_vec()),
        (2, [23, 24], block::JOLIET_ROOT, block::JOLIET_FOLDER, wide("file.txt"), wide("folder")),
    ] {
        let mut d = descriptor(kind);
        let little = table(false, at(root), at(folder), &name);
        d[80..88].copy_from_slice(&both(blocks * per_block));
        d[120..124].copy_from_slice(&both_short(1));
        d[124..128].copy_from_slice(&both_short(1));
        d[128..132].copy_from_slice(&both_short(size));
        d[132..140].copy_from_slice(&both(little.len() as u32));
        d[140..144].copy_from_slice(&at(tables[0]).to_le_bytes());
        d[148..152].copy_from_slice(&at(tables[1]).to_be_bytes());
        d[156..190].copy_from_slice(&record(&[0], at(root), 2048, 2));
        let content = record(&file, at(block::CONTENT), 2000, 0);
        let in_root = [content.clone(), record(&name, at(folder), 2048, 2)];
        put(&mut image, root, &directory(at(root), at(root), &in_root));
        put(&mut image, folder, &directory(at(folder), at(root), &[content]));
        put(&mut image, tables[0], &little);
        put(&mut image, tables[1], &table(true, at(root), at(folder), &name));
        volumes.push(d);
    }
    let [mut primary, mut joliet] = <[_; 2]>::try_from(volumes).unwrap();
    primary[40..72].copy_from_slice(b"A VOLUME                        ");
    joliet[88..91].copy_from_slice(b"%/E");
    let mut boot = descriptor(0);
    boot[7..30].copy_from_slice(b"EL TORITO SPECIFICATION");
    boot[71..75].copy_from_slice(&(block::CATALOG as u32).to_le_bytes());
    image[..32_768].fill(0);
    for (n, d) in [primary, boot, joliet, descriptor(255)].iter().enumerate() {
        put(&mut image, block::PRIMARY + n, d);
    }
    // A catalog with something for a BIOS and for EFI.
    let catalog = &mut image[block::CATALOG * 2048..][..2048];
    catalog.fill(0);
    catalog[0] = 1;
    catalog[28..30].copy_from_slice(&0u16.wrapping_sub(0xAA55 + 1).to_le_bytes());
    catalog[30..32].copy_from_slice(&[0x55, 0xAA]);
    catalog[32] = 0x88;
    (catalog[64], catalog[65], catalog[66]) = (0x91, 0xEF, 1);
    catalog[96] = 0x88;
    image
}

/// A descriptor of UDF, in its place: its tag, checksum and CRC.
pub fn tagged(kind: u16, block: usize, mut raw: Vec<u8>) -> Vec<u8> {
    raw.resize(512, 0);
    let crc = raw[16..].iter().fold(0u16, |mut crc, byte| {
        for bit in (0..8).rev() {
            let carry = (crc >> 15) ^ u16::from(byte >> bit & 1);
            crc = (crc << 1) ^ (carry * 0x1021);
        }
        crc
    });
    raw[..16].fill(0);
    raw[..2].copy_from_slice(&kind.to_le_bytes());
    raw[2] = 2;
    raw[8..10].copy_from_slice(&crc.to_le_bytes());
    raw[10..12].copy_from_slice(&496u16.to_le_bytes());
    raw[12..16].copy_from_slice(&(block as u32).to_le_bytes());
    raw[4] = raw[..16].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    raw
}

/// A bridge: an ISO 9660 volume without Joliet and boot record, and beside it one of UDF, whose partition ends with the image.
pub fn bridge(blocks: u32) -> Vec<u8> {
    let mut image = iso(blocks);
    for (n, identifier) in [b"\xFFCD001", b"\0BEA01", b"\0NSR02", b"\0TEA01"].iter().enumerate() {
        let mut raw = vec![0; 2048];
        raw[..6].copy_from_slice(*identifier);
        raw[6] = 1;
        put(&mut image, 17 + n, &raw);
    }
    let mut partition = vec![0; 512];
    partition[188..192].copy_from_slice(&270u32.to_le_bytes());
    partition[192..196].copy_from_slice(&(blocks - 270).to_le_bytes());
    let mut logical = vec![0; 512];
    logical[212..216].copy_from_slice(&2048u32.to_le_bytes());
    for start in [block::UDF_MAIN, block::UDF_RESERVE] {
        for (n, (kind, raw)) in [(5, partition.clone()), (6, logical.clone()), (8, vec![])].into_iter().enumerate() {
            put(&mut image, start + n, &tagged(kind, start + n, raw));
        }
    }
    let mut anchor = vec![0; 32];
    for (at, start) in [(16, block::UDF_MAIN), (24, block::UDF_RESERVE)] {
        anchor[at..at + 4].copy_from_slice(&(8u32 * 2048).to_le_bytes());
        anchor[at + 4..at + 8].copy_from_slice(&(start as u32).to_le_bytes());
    }
    for at in [block::UDF_ANCHOR, blocks as usize - 1] {
        put(&mut image, at, &tagged(2, at, anchor.clone()));
    }
    image
}

/// Makes a hybrid of it with a GPT of one partition, its copy at the end, and the MBR that guards them.
pub fn hybrid_gpt(image: &mut [u8]) {
    let last = image.len() as u64 / 512 - 1;
    let mut entries = vec![0; 128 * 128];
    entries[..16].fill(0x11);
    entries[32..40].copy_from_slice(&64u64.to_le_bytes());
    entries[40..48].copy_from_slice(&(last - 40).to_le_bytes());
    for (here, other, at) in [(1, last, 2), (last, 1, last - 32)] {
        let mut header = vec![0; 92];
        header[..12].copy_from_slice(b"EFI PART\0\0\x01\0");
        header[12] = 92;
        for (place, value) in [(24, here), (32, other), (40, 34), (48, last - 33), (72, at)] {
            header[place..place + 8].copy_from_slice(&value.to_le_bytes());
        }
        (header[80], header[84]) = (128, 128);
        header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
        let sum = crc32fast::hash(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        header.resize(512, 0);
        image[here as usize * 512..][..512].copy_from_slice(&header);
        image[at as usize * 512..][..entries.len()].copy_from_slice(&entries);
    }
    image[446..462].fill(0);
    image[450] = 0xEE;
    image[454] = 1;
    image[458..462].copy_from_slice(&(last as u32).to_le_bytes());
    image[510..512].copy_from_slice(&[0x55, 0xAA]);
}

/// Makes a hybrid of it: an MBR with one entry.
pub fn hybrid(image: &mut [u8]) {
    image[446 + 4] = 0x17;
    image[446 + 12] = 64;
    image[510..512].copy_from_slice(&[0x55, 0xAA]);
}
