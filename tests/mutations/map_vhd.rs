//! The structures of a VHD, by the specification, from the file's own fields.

use super::subject::{Guard, Structure, number};

/// Fields of a footer: offset and width.
const FOOTER: [(usize, usize); 17] = [
    (0, 8),
    (8, 4),
    (12, 4),
    (16, 8),
    (24, 4),
    (28, 4),
    (32, 4),
    (36, 4),
    (40, 8),
    (48, 8),
    (56, 4),
    (60, 4),
    (64, 4),
    (68, 8),
    (76, 8),
    (84, 1),
    (85, 1),
];

/// Fields of a dynamic header, but for the locators.
const HEADER: [(usize, usize); 12] =
    [(0, 8), (8, 8), (16, 8), (24, 4), (28, 4), (32, 4), (36, 4), (40, 8), (48, 8), (56, 4), (60, 4), (64, 2)];

/// Where the checksums stand.
const FOOTER_SUM: usize = 64;
const HEADER_SUM: usize = 36;

/// The structures of `bytes`, which is file number `file`; their names begin with `of`.
pub fn map(file: usize, bytes: &[u8], of: &str) -> Vec<Structure> {
    let be = |at: usize, width: usize| number(&bytes[at..at + width], true);
    let name = |what: &str| format!("{of}{what}");
    let footer_at = bytes.len() - 512;
    assert_eq!(&bytes[footer_at..footer_at + 8], b"conectix");
    let footer = |what: &str, at: usize| {
        Structure::of(&name(what), file, at..at + 512, Guard::Checked).fields(true, &FOOTER).sum(FOOTER_SUM)
    };
    let size = be(footer_at + 48, 8) as usize;
    let mut all = vec![footer("footer", footer_at)];
    if be(footer_at + 60, 4) == 2 {
        all.push(Structure::of(&name("data"), file, 0..footer_at, Guard::Data));
        return all;
    }
    all.push(footer("footer's copy", 0));
    let header = be(footer_at + 16, 8) as usize;
    let mut fields = HEADER.to_vec();
    for locator in 0..8 {
        fields.extend([(0, 4), (4, 4), (8, 4), (12, 4), (16, 8)].map(|(at, width)| (576 + locator * 24 + at, width)));
    }
    let structure = Structure::of(&name("header"), file, header..header + 1024, Guard::Checked);
    all.push(structure.fields(true, &fields).sum(HEADER_SUM));
    for locator in 0..8 {
        let entry = header + 576 + locator * 24;
        let (len, at) = (be(entry + 8, 4) as usize, be(entry + 16, 8) as usize);
        all.push(Structure::of(&name("locator's text"), file, at..at + len, Guard::Open));
    }
    let (table, entries, block) =
        (be(header + 16, 8) as usize, be(header + 28, 4) as usize, be(header + 32, 4) as usize);
    all.push(Structure::of(&name("block table"), file, table..table + entries * 4, Guard::Open).table(true, 4));
    let bitmap_len = (block / 512).div_ceil(8).next_multiple_of(512);
    for index in 0..entries {
        let sector = be(table + index * 4, 4) as usize;
        if sector == 0xFFFF_FFFF {
            continue;
        }
        let bitmap = sector * 512;
        // Bits behind the disk's end mean nothing.
        let sectors = (block / 512).min(size.div_ceil(512).saturating_sub(index * block / 512));
        all.push(Structure::of(&name("bitmap"), file, bitmap..bitmap + sectors.div_ceil(8), Guard::Open));
        let is_set = |n: usize| n < sectors && bytes[bitmap + n / 8] & 0x80 >> (n % 8) != 0;
        let mut n = 0;
        while n < sectors {
            let run = (n..sectors).take_while(|other| is_set(*other) == is_set(n)).count();
            let at = bitmap + bitmap_len + n * 512;
            let end = at + (run * 512).min(size - index * block - n * 512);
            all.extend(is_set(n).then(|| Structure::of(&name("data"), file, at..end, Guard::Data)));
            n += run;
        }
    }
    all
}
