//! Discs and raw disks with one fault each.

use md5::{Digest, Md5};

use super::case::Case;
use super::common::iso::{hybrid, iso};
use super::common::pattern;

const NAME: &str = "a.iso";
const PRIMARY: usize = 32_768;
const CATALOG: usize = 20 * 2048;

/// A disc whose boot catalog is sound.
fn sound(blocks: u32) -> Vec<u8> {
    let mut image = iso(blocks);
    let validation = &mut image[CATALOG..CATALOG + 32];
    validation[28..30].copy_from_slice(&0u16.wrapping_sub(0xAA55 + 1).to_le_bytes());
    for (at, value) in [(120, 1), (124, 1), (128, 2048)] {
        image[PRIMARY + at..PRIMARY + at + 2].copy_from_slice(&u16::to_le_bytes(value));
        image[PRIMARY + at + 2..PRIMARY + at + 4].copy_from_slice(&u16::to_be_bytes(value));
    }
    image
}

/// With the MD5 that isomd5sum would implant, by its documentation: the area counts as blanks, 15 sectors are left out.
pub fn with_md5(blocks: u32) -> Vec<u8> {
    let mut image = sound(blocks);
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
    let image = sound(1000);
    let mut gpt = image.clone();
    hybrid(&mut gpt);
    gpt[512..520].copy_from_slice(b"EFI PART");
    let marked = with_md5(1000);
    vec![
        Case::warning("RAW-SIZE", 0, "a.raw", raw[..10_000].to_vec()).nowhere(),
        Case::warning("RAW-DISC", 0, "a.iso", raw).nowhere(),
        Case::error("ISO-TRUNCATED", 800 * 2048, NAME, image[..800 * 2048].to_vec()),
        Case::warning("ISO-TRUNCATED", 900 * 2048, NAME, image[..900 * 2048].to_vec()),
        Case::warning("ISO-GPT", 512, NAME, gpt),
        Case::warning("ISO-BOTH-ENDS", PRIMARY + 80, NAME, changed(image.clone(), PRIMARY + 87, &[9])),
        Case::warning("ISO-BLOCK-SIZE", PRIMARY + 128, NAME, changed(image.clone(), PRIMARY + 128, &[0, 2, 2, 0])),
        Case::warning("ISO-TERMINATOR", PRIMARY + 3 * 2048, NAME, changed(image.clone(), PRIMARY + 3 * 2048, &[0; 7])),
        Case::error("ISO-OUTSIDE", PRIMARY + 158, NAME, changed(image.clone(), PRIMARY + 158, &[0, 0, 1, 0])),
        Case::error("ISO-OUTSIDE", PRIMARY + 140, NAME, changed(image.clone(), PRIMARY + 140, &[0, 0, 1, 0])),
        Case::warning("ISO-BOOT-CATALOG", CATALOG, NAME, changed(image.clone(), CATALOG + 5, &[1])),
        Case::warning("ISO-BOOT-CATALOG", CATALOG + 32, NAME, changed(image.clone(), CATALOG + 40, &[0, 0, 1, 0])),
        Case::warning("ISO-BOOT-CATALOG", PRIMARY + 2048 + 71, NAME, changed(image, PRIMARY + 2048 + 71, &[0, 0, 1])),
        Case::error("ISO-MEDIA-MD5", PRIMARY + 883, NAME, changed(marked.clone(), 900_000, b"!")),
        Case::warning("ISO-MEDIA-MD5", PRIMARY + 883, NAME, changed(marked, PRIMARY + 883 + 13, b"zz")),
    ]
}
