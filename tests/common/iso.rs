//! ISO 9660 images, built by the specification: descriptors alone, around any bytes.

/// An image of `blocks` blocks of 2,048 bytes: a primary descriptor that says so, one of Joliet, a boot record, the end.
pub fn iso(blocks: u32) -> Vec<u8> {
    let mut image: Vec<u8> = (0..blocks * 2048).map(|n| (n / 512 % 251) as u8 | 1).collect();
    let descriptor = |kind: u8| {
        let mut d = vec![0u8; 2048];
        d[0] = kind;
        d[1..6].copy_from_slice(b"CD001");
        d[6] = 1;
        d
    };
    let mut primary = descriptor(1);
    primary[40..72].copy_from_slice(b"A VOLUME                        ");
    primary[80..84].copy_from_slice(&blocks.to_le_bytes());
    primary[84..88].copy_from_slice(&blocks.to_be_bytes());
    primary[128..130].copy_from_slice(&2048u16.to_le_bytes());
    let mut boot = descriptor(0);
    boot[7..30].copy_from_slice(b"EL TORITO SPECIFICATION");
    boot[71..75].copy_from_slice(&20u32.to_le_bytes());
    let mut joliet = descriptor(2);
    joliet[88..91].copy_from_slice(b"%/E");
    image[..32_768].fill(0);
    for (n, d) in [primary, boot, joliet, descriptor(255)].iter().enumerate() {
        image[32_768 + n * 2048..][..2048].copy_from_slice(d);
    }
    // A catalog with something for a BIOS and for EFI.
    let catalog = &mut image[20 * 2048..21 * 2048];
    catalog.fill(0);
    catalog[0] = 1;
    catalog[30..32].copy_from_slice(&[0x55, 0xAA]);
    catalog[32] = 0x88;
    (catalog[64], catalog[65], catalog[66]) = (0x91, 0xEF, 1);
    catalog[96] = 0x88;
    image
}

/// Makes a hybrid of it: an MBR with one entry.
pub fn hybrid(image: &mut [u8]) {
    image[446 + 4] = 0x17;
    image[446 + 12] = 64;
    image[510..512].copy_from_slice(&[0x55, 0xAA]);
}
