//! Discs and raw disks with one fault each.

use md5::{Digest, Md5};

use super::case::Case;
use super::common::iso::{OWN, block, bridge, directory, hybrid, hybrid_gpt, iso, iso_of, record};
use super::common::pattern;

const NAME: &str = "a.iso";
const PRIMARY: usize = block::PRIMARY * 2048;
const JOLIET: usize = block::JOLIET * 2048;
const CATALOG: usize = block::CATALOG * 2048;
const ROOT: usize = block::ROOT * 2048;
/// The records of the root's file, and of its folder behind it.
const FILE: usize = ROOT + 2 * OWN;
const FOLDER: usize = FILE + 44;

/// With the MD5 that isomd5sum would implant, by its documentation: the area counts as blanks, 15 sectors are left out.
pub fn with_md5(blocks: u32) -> Vec<u8> {
    let mut image = iso(blocks);
    let area = PRIMARY + 883..PRIMARY + 883 + 512;
    image[area.clone()].fill(b' ');
    let total = (blocks as usize - 15) * 2048;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let sum = hex(&Md5::digest(&image[..total]));
    let (mut fragments, mut before) = (String::new(), 0);
    for at in (0..total).step_by(32_768) {
        let fragment = at / (total / 21);
        if fragment != before {
            before = fragment;
            let digest = Md5::digest(&image[..(at + 32_768).min(total)]);
            fragments.extend(digest.iter().take(3).map(|byte| format!("{byte:x}").chars().next().unwrap()));
        }
    }
    let text = format!(
        "ISO MD5SUM = {sum};SKIPSECTORS = 15;RHLISOSTATUS=0;FRAGMENT SUMS = {fragments:0<60};FRAGMENT COUNT = 20;THIS IS NOT THE SAME AS RUNNING MD5SUM ON THIS ISO!!"
    );
    image[area.start..area.start + text.len()].copy_from_slice(text.as_bytes());
    image
}

fn changed(mut file: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

pub fn cases() -> Vec<Case> {
    let raw = pattern(20, |_| false);
    let image = iso(1000);
    let mut gpt = image.clone();
    hybrid(&mut gpt);
    gpt[512..520].copy_from_slice(b"EFI PART");
    let marked = with_md5(1000);
    // A block outside the file, in both forms.
    let far = [0, 0, 1, 0, 0, 1, 0, 0];
    vec![
        Case::warning("RAW-SIZE", 0, "a.raw", raw[..10_000].to_vec()).nowhere(),
        Case::warning("RAW-DISC", 0, "a.iso", raw).nowhere(),
        Case::error("ISO-TRUNCATED", 800 * 2048, NAME, image[..800 * 2048].to_vec()),
        Case::warning("ISO-TRUNCATED", 900 * 2048, NAME, image[..900 * 2048].to_vec()),
        Case::warning("ISO-GPT", 512, NAME, gpt),
        Case::warning("ISO-BOTH-ENDS", PRIMARY + 80, NAME, changed(image.clone(), PRIMARY + 87, &[9])),
        Case::warning("ISO-BOTH-ENDS", JOLIET + 120, NAME, changed(image.clone(), JOLIET + 121, &[9])),
        Case::warning("ISO-BOTH-ENDS", PRIMARY + 156 + 10, NAME, changed(image.clone(), PRIMARY + 156 + 14, &[9])),
        Case::warning("ISO-BOTH-ENDS", FILE + 2, NAME, changed(image.clone(), FILE + 6, &[1])),
        Case::warning("ISO-BLOCK-SIZE", PRIMARY + 128, NAME, iso_of(1000, 512)).also(&["ISO-BLOCK-SIZE warning"]),
        Case::warning("ISO-TERMINATOR", PRIMARY + 3 * 2048, NAME, changed(image.clone(), PRIMARY + 3 * 2048, &[0; 7])),
        Case::error("ISO-OUTSIDE", PRIMARY + 158, NAME, changed(image.clone(), PRIMARY + 158, &far)),
        Case::error("ISO-OUTSIDE", JOLIET + 158, NAME, changed(image.clone(), JOLIET + 158, &far)),
        Case::error("ISO-OUTSIDE", PRIMARY + 140, NAME, changed(image.clone(), PRIMARY + 140, &far[..4])),
        Case::error("ISO-OUTSIDE", JOLIET + 148, NAME, changed(image.clone(), JOLIET + 148, &far[4..])),
        Case::error("ISO-OUTSIDE", FOLDER + 2, NAME, changed(image.clone(), FOLDER + 2, &far)),
        Case::warning("ISO-BOOT-CATALOG", CATALOG, NAME, changed(image.clone(), CATALOG + 5, &[1])),
        Case::warning("ISO-BOOT-CATALOG", CATALOG + 32, NAME, changed(image.clone(), CATALOG + 40, &[0, 0, 1, 0])),
        Case::warning("ISO-BOOT-CATALOG", PRIMARY + 2048 + 71, NAME, changed(image, PRIMARY + 2048 + 71, &[0, 0, 1])),
        Case::error("ISO-MEDIA-MD5", PRIMARY + 883, NAME, changed(marked.clone(), 900_000, b"!")),
        Case::warning("ISO-MEDIA-MD5", PRIMARY + 883, NAME, changed(marked, PRIMARY + 883 + 13, b"zz")),
    ]
    .into_iter()
    .chain(tree())
    .chain(path_tables())
    .chain(udf())
    .chain(gpt_cases())
    .collect()
}

/// Both forms of a number.
fn both(value: u32) -> [u8; 8] {
    (u64::from(value) | u64::from(value.swap_bytes()) << 32).to_le_bytes()
}

fn tree() -> Vec<Case> {
    let image = iso(1000);
    let joliet = block::JOLIET_FOLDER * 2048 + 2 * OWN;
    let folder = block::FOLDER * 2048;
    // Folders in each other, one too deep: the first is that of the disc.
    let (mut deep, first, last) = (image.clone(), 100, 100 + 128);
    deep[folder..folder + 2048].copy_from_slice(&directory(26, 25, &[record(b"D", first, 2048, 2)]));
    for at in first..last {
        let bytes = directory(at, if at == first { 26 } else { at - 1 }, &[record(b"D", at + 1, 2048, 2)]);
        deep[at as usize * 2048..][..2048].copy_from_slice(&bytes);
    }
    let too_deep = (first as usize + 126) * 2048 + 2 * OWN;
    vec![
        Case::error("ISO-FILE-OUTSIDE", FILE + 2, NAME, changed(image.clone(), FILE + 10, &both(3_000_000))),
        Case::error("ISO-FILE-OUTSIDE", joliet + 2, NAME, changed(image.clone(), joliet + 2, &both(1000))),
        Case::error("ISO-DIRECTORY", PRIMARY + 156, NAME, changed(image.clone(), PRIMARY + 156, &[0])),
        Case::error("ISO-DIRECTORY", FILE, NAME, changed(image.clone(), FILE + 32, &[12])),
        Case::error("ISO-DIRECTORY", FILE, NAME, changed(image.clone(), FILE, &[33])),
        Case::warning("ISO-DIRECTORY", folder, NAME, changed(image.clone(), folder + 2, &both(25))),
        Case::warning("ISO-DIRECTORY", folder, NAME, changed(image.clone(), folder, &[0; 2048])),
        Case::error("ISO-DIRECTORY-TWICE", FOLDER + 2, NAME, changed(image.clone(), FOLDER + 2, &both(25))),
        Case::warning("ISO-DIRECTORY-TWICE", FOLDER + 2, NAME, {
            let twice = changed(image.clone(), FILE + 2, &both(26));
            changed(changed(twice, FILE + 10, &both(2048)), FILE + 25, &[2])
        }),
        Case::error("ISO-MULTI-EXTENT", FILE, NAME, changed(image.clone(), FILE + 25, &[0x80])),
        Case::error("ISO-MULTI-EXTENT", joliet, NAME, changed(image, joliet + 25, &[0x80])),
        Case::note("ISO-UNFINISHED", too_deep, NAME, deep),
    ]
}

fn path_tables() -> Vec<Case> {
    let image = iso(1000);
    let [little, big, _, joliet] = block::TABLES.map(|at| at * 2048);
    let outside = changed(image.clone(), little + 12, &[0, 0, 1, 0]);
    vec![
        Case::warning("ISO-PATH-TABLES", big + 10, NAME, changed(image.clone(), big + 17, &[2])),
        Case::warning("ISO-PATH-TABLES", joliet + 10, NAME, changed(image.clone(), joliet + 18, b"\xFF")),
        Case::warning("ISO-PATH-TABLES", little, NAME, {
            changed(changed(image.clone(), little + 2, &[26]), big + 5, &[26])
        }),
        Case::warning("ISO-PATH-TABLES", little + 10, NAME, changed(outside, big + 12, &[0, 1, 0, 0])),
        Case::warning("ISO-PATH-TABLES", little + 10, NAME, {
            changed(changed(image, little + 10, &[0]), big + 10, &[0])
        }),
    ]
}

fn udf() -> Vec<Case> {
    let image = bridge(1000);
    let [main, reserve, anchor] = [block::UDF_MAIN, block::UDF_RESERVE, block::UDF_ANCHOR].map(|at| at * 2048);
    // What is summed, the tag's own sum, and the block that it says it is in.
    let logical = main + 2048;
    let lost = changed(image.clone(), logical + 300, &[1]);
    let lost = Case::error("ISO-UDF-SEQUENCE", logical, NAME, changed(lost, reserve + 2048 + 300, &[1]));
    let mut none = image.clone();
    none.copy_within(main + 2 * 2048..main + 2 * 2048 + 512, main);
    vec![
        Case::warning("ISO-UDF-ANCHOR", anchor, NAME, changed(image.clone(), anchor, &[0; 512])),
        Case::warning("ISO-UDF-ANCHOR", anchor, NAME, changed(image.clone(), anchor + 30, &[1])),
        Case::warning("ISO-UDF-SEQUENCE", main, NAME, changed(image.clone(), main + 400, &[1])),
        Case::warning("ISO-UDF-SEQUENCE", reserve, NAME, changed(image.clone(), reserve + 4, &[1])),
        Case::warning("ISO-UDF-SEQUENCE", main, NAME, none),
        // Nothing was recorded where the sequence should begin.
        Case::warning("ISO-UDF-SEQUENCE", anchor + 24, NAME, changed(image.clone(), reserve, &[0; 512])),
        lost.also(&["ISO-UDF-SEQUENCE error"]),
        Case::error("ISO-TRUNCATED", 600 * 2048, NAME, {
            let mut short = image[..600 * 2048].to_vec();
            short[PRIMARY + 80..PRIMARY + 88].copy_from_slice(&both(600));
            short
        }),
    ]
}

fn gpt_cases() -> Vec<Case> {
    let mut image = iso(1000);
    hybrid_gpt(&mut image);
    let (last, entries) = (image.len() - 512, image.len() - 33 * 512);
    let mut bare = image.clone();
    bare[512..1024].fill(0);
    vec![
        Case::warning("ISO-GPT", 1024, NAME, changed(image.clone(), 1024 + 60, b"!")),
        Case::warning("ISO-GPT-BACKUP", last, NAME, changed(image.clone(), last, &[0; 512])),
        Case::warning("ISO-GPT-BACKUP", last, NAME, changed(image.clone(), last + 60, b"!")),
        Case::warning("ISO-GPT-BACKUP", entries, NAME, changed(image.clone(), entries + 60, b"!")),
        Case::warning("ISO-PROTECTIVE-MBR", 446, NAME, changed(image.clone(), 446, &[0; 66])),
        Case::warning("ISO-PROTECTIVE-MBR", 454, NAME, changed(image, 454, &[2])),
        Case::warning("ISO-PROTECTIVE-MBR", 446, NAME, bare),
    ]
}
