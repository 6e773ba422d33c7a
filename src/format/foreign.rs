//! What other files begin with: refused by name, with what to do. A disk is never made of a picture, a package or a text.

use std::borrow::Cow;

use byteorder::{BigEndian, ByteOrder, LittleEndian};

use super::Probe;
use crate::fault::{Fault, Kind};

const UNPACK: &str = "unpack it first";
const OTHER_TOOL: &str = "convert it to raw with the tool that made it, then give vdconv the raw disk";
const NO_DISK: &str = "give the disk image itself; if this really is a raw disk: -f raw";

/// Disks of a machine that a message names.
const MOST_DISKS: usize = 8;

/// Magic bytes: where, which, what it is, what to do.
const MAGICS: &[(usize, &[u8], &str, &str)] = &[
    (0, b"QFI\xFB", "a QEMU qcow disk", "qemu-img convert -O raw FILE disk.raw, then convert disk.raw"),
    (0, b"QED\0", "a QEMU QED disk", "qemu-img convert -O raw FILE disk.raw, then convert disk.raw"),
    (
        64,
        b"\x7F\x10\xDA\xBE",
        "a VirtualBox VDI disk",
        "VBoxManage clonemedium FILE disk.vhd --format VHD, then convert disk.vhd",
    ),
    (0, b"vhdxfile", "a VHDX disk", "Convert-VHD or qemu-img makes a VHD of it, which this version reads"),
    (0, b"WithoutFreeSpace", "a Parallels disk", OTHER_TOOL),
    (0, b"WithouFreSpacExt", "a Parallels disk", OTHER_TOOL),
    (0, b"Bochs Virtual HD Image", "a Bochs disk", OTHER_TOOL),
    (0, b"EVF\x09\x0D\x0A\xFF\x00", "an EnCase E01 image", "ewfexport -f raw FILE, then convert the raw disk"),
    (0, b"EVF2\x0D\x0A\x81\x00", "an EnCase Ex01 image", "ewfexport -f raw FILE, then convert the raw disk"),
    (0, b"LVF\x09\x0D\x0A\xFF\x00", "an EnCase L01 image", "it holds files, no disk"),
    (0, b"AFF10\r\n\0", "an AFF image", OTHER_TOOL),
    (0, b"MSWIM\0\0\0", "a Windows WIM image", "it holds files, no disk"),
    (0, b"\x1F\x8B", "packed with gzip", "gzip -dc FILE > UNPACKED, then convert UNPACKED"),
    (0, b"\xFD7zXZ\0", "packed with xz", "xz -dc FILE > UNPACKED, then convert UNPACKED"),
    (0, b"\x28\xB5\x2F\xFD", "packed with zstd", "zstd -dc FILE > UNPACKED, then convert UNPACKED"),
    (0, b"BZh", "packed with bzip2", "bzip2 -dc FILE > UNPACKED, then convert UNPACKED"),
    (0, b"\x04\x22\x4D\x18", "packed with lz4", "lz4 -dc FILE > UNPACKED, then convert UNPACKED"),
    (0, b"LZIP", "packed with lzip", UNPACK),
    (0, b"PK\x03\x04", "a zip archive", UNPACK),
    (0, b"PK\x05\x06", "an empty zip archive", NO_DISK),
    (0, b"7z\xBC\xAF\x27\x1C", "a 7z archive", UNPACK),
    (0, b"Rar!\x1A\x07", "a RAR archive", UNPACK),
    (257, b"ustar", "a tar archive or OVA", "tar -xf FILE, then convert the disk in it"),
    (0, b"MSCF\0\0\0\0", "a cabinet archive", UNPACK),
    (0, b"!<arch>\n", "a package or library", NO_DISK),
    (0, b"\xFF\xD8\xFF", "a JPEG picture", NO_DISK),
    (0, b"\x89PNG\r\n\x1A\n", "a PNG picture", NO_DISK),
    (0, b"GIF8", "a GIF picture", NO_DISK),
    (0, b"%PDF-", "a PDF document", NO_DISK),
    (0, b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "an old Office document or installer", NO_DISK),
    (0, b"\x7FELF", "a program", NO_DISK),
    (0, b"\x3A\xFF\x26\xED", "an Android sparse image", "simg2img FILE disk.raw, then convert disk.raw"),
    (0, b"ANDROID!", "an Android boot image", NO_DISK),
    (0, b"CrAU", "an Android update", NO_DISK),
    (0, b"\x27\x05\x19\x56", "a U-Boot image", NO_DISK),
    (0, b"070701", "a cpio archive or initrd", NO_DISK),
    (0, b"070702", "a cpio archive or initrd", NO_DISK),
    (0, b"070707", "a cpio archive or initrd", NO_DISK),
    (0, b"sprs", "an Apple sparse image", "hdiutil convert FILE -format UDTO makes a raw disk of it"),
    (0, b"CISO", "a CISO image", UNPACK),
    (0, b"PK\x07\x08", "a zip archive", UNPACK),
    (0, b"\x5D\0\0\x80\0", "packed with lzma", UNPACK),
    (0, b"\x5D\0\0\x10\0", "packed with lzma", UNPACK),
    (0, b"\x89LZO\0\r\n\x1A\n", "packed with lzop", UNPACK),
    (0, b"\x1F\x9D\x90", "packed with compress", UNPACK),
    (0, b"xar!", "a xar archive", UNPACK),
    (0, b"\xED\xAB\xEE\xDB", "an RPM package", NO_DISK),
    (0, b"II*\0", "a TIFF picture", NO_DISK),
    (0, b"MM\0*", "a TIFF picture", NO_DISK),
    (0, b"RIFF", "a picture, a sound or a film", NO_DISK),
    (0, b"OggS", "a sound or a film", NO_DISK),
    (0, b"fLaC", "a sound", NO_DISK),
    (0, b"ID3", "a sound", NO_DISK),
    (4, b"ftyp", "a film or a picture", NO_DISK),
    (0, b"\x1A\x45\xDF\xA3", "a film", NO_DISK),
    (0, b"SQLite format 3\0", "an SQLite database", NO_DISK),
    (0, b"!BDN", "an Outlook mailbox", NO_DISK),
    (0, b"\xCA\xFE\xBA\xBE", "a program", NO_DISK),
    (0, b"\xCF\xFA\xED\xFE", "a program", NO_DISK),
    (0, b"\xCE\xFA\xED\xFE", "a program", NO_DISK),
    (0, b"\xA2\x72\x19\xF6", "a VMware changed-block map (-ctk.vmdk)", "give the descriptor, without -ctk in its name"),
    (
        0,
        b"\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0",
        "a CD image with sectors of 2352 bytes",
        "bchunk or ccd2iso makes an ISO of it",
    ),
];

/// The refusal, where the content is something else than a disk.
pub fn recognise(probe: &Probe<'_>) -> Result<Option<Fault>, Fault> {
    let refuse = |what: &'static str, advice: &'static str| {
        let fault = Fault::new(Kind::NotThisFormat, probe.file.name(), Cow::Owned(format!("this is {what}")));
        Ok(Some(fault.advice(advice)))
    };
    for (at, magic, what, advice) in MAGICS {
        if probe.head.get(*at..).is_some_and(|rest| rest.starts_with(magic)) {
            return refuse(what, advice);
        }
    }
    if ends_with_koly(probe)? {
        return refuse("an Apple DMG image", "hdiutil convert FILE -format UDTO, or dmg2img, makes a raw disk of it");
    }
    if is_windows_program(probe.head) {
        return refuse("a Windows program", NO_DISK);
    }
    if is_text(probe.head) {
        if let Some(disks) = disks_of_machine(probe.head) {
            let fault =
                Fault::new(Kind::NotThisFormat, probe.file.name(), "this is a VMware machine (.vmx), not a disk");
            return Ok(Some(match disks.as_slice() {
                [] => fault.advice(NO_DISK),
                disks => fault.advice(format!("give its disk: {}", disks.join(", "))),
            }));
        }
        return refuse("a text", "an error page? download it again; if it really is a raw disk: -f raw");
    }
    Ok(None)
}

/// The disks that the configuration of a VMware machine names; `None`: the text is none.
fn disks_of_machine(head: &[u8]) -> Option<Vec<String>> {
    let text = String::from_utf8_lossy(head);
    let keys = text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        Some((key.trim(), value.trim().trim_matches('"')))
    });
    let is_disk = |value: &str| value.to_ascii_lowercase().ends_with(".vmdk");
    keys.clone().any(|(key, _)| key.eq_ignore_ascii_case("virtualHW.version")).then(|| {
        let files = keys.filter(|(key, value)| key.to_ascii_lowercase().ends_with(".filename") && is_disk(value));
        files.map(|(_, value)| value.to_string()).take(MOST_DISKS).collect()
    })
}

/// A DMG's trailer: 512 bytes that begin with `koly`.
fn ends_with_koly(probe: &Probe<'_>) -> Result<bool, Fault> {
    let Some(at) = probe.file.len().checked_sub(512) else { return Ok(false) };
    let mut trailer = [0; 8];
    probe.file.read_exact(at, &mut trailer)?;
    Ok(trailer.starts_with(b"koly\0\0\0\x04"))
}

/// `MZ`, and `PE` where it points; with a boot sector's mark at its end it may still be a disk.
fn is_windows_program(head: &[u8]) -> bool {
    if !head.starts_with(b"MZ") || head.get(510..512) == Some(&[0x55, 0xAA]) {
        return false;
    }
    let Some(field) = head.get(60..64) else { return false };
    let at = LittleEndian::read_u32(field) as usize;
    head.get(at..).is_some_and(|rest| rest.starts_with(b"PE\0\0"))
}

/// All that was read of the file is text: UTF-8 or UTF-16 of any language, or mostly ASCII. A disk may begin with a sector of text.
fn is_text(head: &[u8]) -> bool {
    let printable = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\x0C' | '\x1B');
    let utf16 = |read: fn(&[u8]) -> u16| {
        let units = head.chunks_exact(2).skip(1).map(read);
        char::decode_utf16(units).all(|c| c.is_ok_and(printable))
    };
    match head {
        [] => false,
        [0xFF, 0xFE, ..] => utf16(LittleEndian::read_u16),
        [0xFE, 0xFF, ..] => utf16(BigEndian::read_u16),
        _ => match std::str::from_utf8(head) {
            Ok(text) => text.chars().all(printable),
            // The cut behind what was read may go through a letter.
            Err(error) if error.error_len().is_none() => {
                let text = head.get(..error.valid_up_to()).unwrap_or_default();
                !text.is_empty() && text.iter().all(|b| *b >= 0x80 || printable(char::from(*b)))
            }
            // A code page: no control character at all, and more ASCII than letters of others.
            Err(_) => {
                head.iter().all(|b| *b >= 0x80 || printable(char::from(*b)))
                    && head.iter().filter(|b| **b < 0x80).count() * 2 > head.len()
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_told_from_boot_sectors() {
        assert!(is_text(b"<html><body>404</body></html>\n"));
        assert!(is_text("# Gr\u{fc}\u{df}e\r\n".as_bytes()));
        assert!(is_text(b"\xFF\xFEa\0b\0"));
        assert!(is_text("\u{434}\u{438}\u{441}\u{43a}".as_bytes()));
        assert!(is_text(b"\xFF\xFE\x34\x04\x38\x04\x41\x04"), "UTF-16 of another alphabet");
        assert!(is_text(&[b"a".as_slice(), &"\u{e4}".repeat(400).into_bytes()].concat()), "a letter cut at the end");
        let disk = [b"text ".repeat(103).as_slice(), &[0; 4096]].concat();
        assert!(!is_text(&disk), "a disk that begins with a sector of text");
        assert!(is_text(b"caf\xE9, in a code page\n"));
        assert!(!is_text(&[0; 512]));
        assert!(!is_text(b"\xEB\x63\x90\x10\x8E\xD0\xBC\0\xB0"), "the beginning of GRUB");
        assert!(!is_text(&[0xF6; 512]), "a formatted floppy");
    }
}
