//! VMDKs with one fault each.

use super::case::Case;
use super::common::packed::{Stream, cowd, marker, sesparse, tables_in_front};
use super::common::pattern;
use super::common::vmdk::{Sparse, descriptor};

const NAME: &str = "a.vmdk";
/// Sectors of most disks: five grains and three sectors.
const SECTORS: u64 = 5 * 128 + 3;

fn guest() -> Vec<u8> {
    pattern(SECTORS, |_| false)
}

fn changed(mut file: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

pub fn cases() -> Vec<Case> {
    [header_cases(), table_cases(), stream_cases(), front_cases(), text_cases(), chain_cases(), host_cases()]
        .into_iter()
        .flatten()
        .collect()
}

fn header_cases() -> Vec<Case> {
    let sparse = Sparse::of(&guest());
    let file = sparse.build();
    let error = |id, at: usize, bytes: &[u8]| Case::error(id, at, NAME, changed(file.clone(), at, bytes));
    let warning = |id, at: usize, bytes: &[u8]| Case { severity: "warning", ..error(id, at, bytes) };
    let line = |sectors: u64| descriptor("monolithicSparse", 7, None, &format!("RW {sectors} SPARSE \"x\""));
    let small = Sparse {
        capacity: 8,
        grain: 4,
        descriptor: line(8),
        grains: vec![Some(vec![1; 2048]), Some(vec![2; 2048])],
        ..sparse.clone()
    };
    let with = |descriptor: String| Sparse { descriptor, ..sparse.clone() }.build();
    let named = descriptor("twoGbMaxExtentSparse", 7, None, &format!("RW {SECTORS} SPARSE \"b.vmdk\""));
    let directories = changed(file.clone(), 48, &[0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF]);
    vec![
        Case::error("VMDK-MAGIC", 0, NAME, named.into_bytes())
            .with("b.vmdk", changed(file.clone(), 0, b"KDXV"))
            .in_file(1),
        error("VMDK-VERSION", 4, &[9]),
        error("VMDK-FLAGS", 10, &[0x10]).at(8),
        error("VMDK-NEWLINES", 73, b"\r"),
        // A reader stops at the first.
        Case::error("VMDK-VERSION", 4, NAME, changed(changed(file.clone(), 4, &[9]), 73, b"\r"))
            .also(&["VMDK-NEWLINES"]),
        error("VMDK-GRAIN-SIZE", 20, &[100]),
        Case::warning("VMDK-GRAIN-SIZE", 20, NAME, small.build()),
        error("VMDK-TABLE-SIZE", 44, &[1]),
        Case::warning("VMDK-TABLE-SIZE", 44, NAME, Sparse { gtes: 128, ..sparse.clone() }.build()),
        Case::error("VMDK-CAPACITY", 12, NAME, with(line(2000))),
        Case::warning("VMDK-CAPACITY", 12, NAME, with(line(300))),
        Case::warning("VMDK-ZEROED-GRAINS", 4, NAME, changed(file.clone(), 8, &[7])),
        Case::warning("VMDK-COMPRESSION", 8, NAME, changed(file.clone(), 77, &[1])),
        warning("VMDK-OVERHEAD", 64, &[64]),
        warning("VMDK-UNCLEAN", 72, &[1]),
        Case::error("VMDK-HEADER-CUT", 300, NAME, file[..300].to_vec()),
        Case::error("VMDK-DIRECTORY", 56, NAME, directories),
        Case::warning("VMDK-DIRECTORY", 48, NAME, changed(file.clone(), 48, &[0xFF; 3])),
        // In the descriptor's area, where nothing stands.
        Case::error("VMDK-DIRECTORY", 56, NAME, changed(file.clone(), 56, &[9])).also(&["VMDK-GDE warning"]),
        Case::warning("VMDK-DESCRIPTOR-AREA", 512, NAME, with(format!("{:#<10240}", line(SECTORS)))),
        Case::warning("VMDK-NO-DESCRIPTOR", 0, NAME, with(String::new())).nowhere(),
    ]
}

fn table_cases() -> Vec<Case> {
    let sparse = Sparse::of(&guest());
    let file = sparse.build();
    let (gd, rgd) = (sparse.gd(), sparse.rgd());
    let entry = |grain: u64| sparse.entry_at(gd, grain);
    let first = sparse.overhead() as u32;
    let both = |grain: u64, value: u32| {
        [gd, rgd].into_iter().fold(file.clone(), |file, directory| {
            changed(file, sparse.entry_at(directory, grain), &value.to_le_bytes())
        })
    };
    let one = |directory: u64, grain: u64, value: u32| {
        changed(file.clone(), sparse.entry_at(directory, grain), &value.to_le_bytes())
    };
    let gde = (gd * 512) as usize;
    let rgde = (rgd * 512) as usize;
    let no_tables = changed(changed(file.clone(), gde, &[0xFF; 4]), rgde, &[0xFF; 4]);
    let leftover: &[&str] = &["VMDK-UNREFERENCED warning"];
    let cut = file.len() - 126 * 512;
    let last = (first as usize + 5 * 128) * 512;
    let mut unaligned = both(5, first + 5 * 128 + 1);
    unaligned.splice(last..last, [0; 512]);
    let floor = u64::from(first) * 512;
    vec![
        Case::error("VMDK-GDE", gde, NAME, no_tables).also(leftover),
        Case::warning("VMDK-GDE", gde, NAME, changed(file.clone(), gde, &[0xFF; 4])),
        Case::warning("VMDK-GDE", gde, NAME, changed(file.clone(), gde, &[0; 4])),
        Case::warning("VMDK-GDE-COPY", rgde, NAME, changed(file.clone(), rgde, &file[gde..gde + 4])),
        Case::error("VMDK-GTE", entry(2), NAME, both(2, 5)).also(leftover),
        Case::error("VMDK-GTE", entry(2), NAME, both(2, 0xFFFF_FFFF)).also(leftover),
        Case::error("VMDK-GTE", entry(2), NAME, both(2, 1)).also(leftover),
        Case::warning("VMDK-TABLES-DIFFER", entry(2), NAME, one(rgd, 2, 0)),
        Case::warning("VMDK-TABLES-DIFFER", entry(2), NAME, one(gd, 2, 5)),
        Case::error("VMDK-TABLES-DIFFER", entry(2), NAME, one(rgd, 2, first)).also(leftover),
        Case::error("VMDK-GTE-OVERLAP", entry(1), NAME, both(1, first)).also(leftover),
        Case::error("VMDK-GTE-OVERLAP", entry(1), NAME, both(1, first + 1)).also(&[
            "VMDK-UNREFERENCED",
            "VMDK-GTE-OVERLAP error",
            "VMDK-GTE-UNALIGNED note",
        ]),
        Case::warning("VMDK-GTE-SURPLUS", entry(6), NAME, both(6, first)),
        Case::error("VMDK-GRAIN-CUT", cut, NAME, file[..cut].to_vec()),
        Case::warning("VMDK-GRAIN-CUT", file.len() - 512, NAME, file[..file.len() - 512].to_vec()),
        Case::note("VMDK-GTE-UNALIGNED", entry(5), NAME, unaligned),
        Case::warning("VMDK-UNREFERENCED", floor, NAME, both(4, 0)),
        Case::note("VMDK-UNREFERENCED", floor, NAME, [&file[..], &[0; 65_536]].concat()),
    ]
}

/// Bytes of the markers of a stream's grains.
fn markers(file: &[u8]) -> Vec<usize> {
    let (mut at, mut found) = (65_536, Vec::new());
    loop {
        let size = u32::from_le_bytes(file[at + 8..at + 12].try_into().unwrap()) as usize;
        if size == 0 {
            return found;
        }
        found.push(at);
        at = (at + 12 + size).next_multiple_of(512);
    }
}

fn stream_cases() -> Vec<Case> {
    let stream = Stream::of(&guest());
    let file = stream.build();
    let end = file.len();
    let places = markers(&file);
    let (table_marker, table, footer) = (end - 5120, end - 4608, end - 1024);
    // Two grains that hold the same, so that they can change places.
    let mut twins = guest();
    twins.copy_within(65_536..131_072, 131_072);
    let twins = Stream::of(&twins).build();
    let twin_places = markers(&twins);
    let twin_table = twins.len() - 4608;
    let mut swapped = changed(twins.clone(), twin_places[1], &twins[twin_places[2]..twin_places[2] + 8]);
    swapped = changed(swapped, twin_places[2], &twins[twin_places[1]..twin_places[1] + 8]);
    swapped = changed(swapped, twin_table + 4, &twins[twin_table + 8..twin_table + 12]);
    swapped = changed(swapped, twin_table + 8, &twins[twin_table + 4..twin_table + 8]);
    let old = changed(changed(file.clone(), 4, &[1]), footer + 4, &[1]);
    let owner = stream.build_with(|n, _, lba, _| *lba += u64::from(n == 2));
    let length = stream.build_with(|n, _, _, size| {
        if n == 2 {
            *size = 0x7FFF_FFFF;
        }
    });
    let trailing = stream.build_with(|n, packed, _, size| {
        if n == 2 {
            packed.extend([1; 20]);
            *size += 20;
        }
    });
    let trailing_at = markers(&trailing)[2];
    let short = Stream { short_last: true, ..Stream::of(&guest()) }.build();
    let short_at = markers(&short)[5];
    let longer = Stream { behind: vec![0; 1024], ..Stream::of(&guest()) }.build();
    let junk = Stream { behind: vec![7; 512], ..Stream::of(&guest()) }.build();
    vec![
        Case::error("VMDK-GTE-MISSING", table + 8, NAME, changed(file.clone(), table + 8, &[0; 4])),
        Case::error("VMDK-GRAIN-OWNER", places[2], NAME, owner),
        Case::error("VMDK-GRAIN-LENGTH", places[2], NAME, length).also(&["VMDK-STREAM-END warning"]),
        Case::error("VMDK-GRAIN-DEFLATE", places[2], NAME, changed(file.clone(), places[2] + 14, &[0xFF; 8])),
        Case::warning("VMDK-GRAIN-SHORT", short_at, NAME, short),
        Case::warning("VMDK-GRAIN-TRAILING", trailing_at, NAME, trailing),
        Case::error("VMDK-FOOTER", end - 1536, NAME, file[..end - 1536].to_vec()),
        Case::warning("VMDK-FOOTER-DIFFERS", footer + 12, NAME, changed(file.clone(), footer + 12, &[0xFF, 3])),
        Case::warning("VMDK-FOOTER-DIFFERS", footer + 36, NAME, changed(file.clone(), footer + 36, &[19])),
        Case::warning("VMDK-FOOTER-DIFFERS", footer + 72, NAME, changed(file.clone(), footer + 72, &[1])),
        Case::warning("VMDK-FOOTER-DIFFERS", footer + 300, NAME, changed(file.clone(), footer + 300, &[1])),
        Case::error("VMDK-FOOTER-DIFFERS", footer, NAME, changed(file.clone(), footer + 20, &[64]))
            .also(&["VMDK-FOOTER-DIFFERS warning"]),
        Case::warning("VMDK-STREAM-VERSION", 4, NAME, old),
        Case::warning("VMDK-STREAM-ORDER", twin_places[2], NAME, swapped),
        Case::warning("VMDK-STREAM-END", end - 512, NAME, longer),
        Case::warning("VMDK-STREAM-END", end - 512, NAME, junk),
        Case::warning("VMDK-MARKER", table_marker, NAME, changed(file.clone(), table_marker, &[0])),
        Case::warning("VMDK-MARKER", end - 2560, NAME, changed(file.clone(), end - 2560, &[9])),
        Case::warning("VMDK-OVERHEAD", 64, NAME, changed(changed(file.clone(), 64, &[127]), footer + 64, &[127]))
            .also(&["VMDK-STREAM-END warning"]),
        Case::error("VMDK-GTE-OVERLAP", table + 8, NAME, changed(file.clone(), table + 8, &file[table + 4..table + 8]))
            .also(&["VMDK-GRAIN-OWNER"]),
        // A grain in front of it.
        Case::warning("VMDK-OVERHEAD", 64, NAME, changed(file.clone(), 64, &((places[1] / 512) as u16).to_le_bytes())),
    ]
}

/// Tables in front of packed grains, with markers of the grains or without.
fn front_cases() -> Vec<Case> {
    let guest = pattern(6 * 128, |_| false);
    let mut marked = tables_in_front(&guest, marker);
    marked.extend([0; 512]);
    // The flag of the markers is gone, and with it the markers.
    let bare = changed(tables_in_front(&guest, |_, size| size.to_le_bytes().to_vec()), 10, &[1]);
    let (sparse, odd) = (Sparse::of(&guest), ["VMDK-COMPRESSION warning"]);
    let (gde, rgde) = (sparse.gd() as usize * 512, sparse.rgd() as usize * 512);
    let entry = |grain: u64| sparse.entry_at(sparse.gd(), grain);
    let both = |grain: u64, from: usize| {
        [sparse.gd(), sparse.rgd()]
            .into_iter()
            .fold(bare.clone(), |file, dir| changed(file, sparse.entry_at(dir, grain), &bare[from..from + 4]))
    };
    vec![
        Case::note("VMDK-MARKER", 56, NAME, marked),
        Case::warning("VMDK-COMPRESSION", 8, NAME, bare.clone()),
        Case::warning("VMDK-GDE-COPY", rgde, NAME, changed(bare.clone(), rgde, &bare[gde..gde + 4])).also(&odd),
        Case::warning("VMDK-GTE-SURPLUS", entry(7), NAME, both(7, entry(1))).also(&odd),
        Case::error("VMDK-GTE-OVERLAP", entry(2), NAME, both(2, entry(1))).also(&odd),
        Case::warning("VMDK-TABLES-DIFFER", entry(2), NAME, changed(bare.clone(), entry(2), &[0xFF; 4])).also(&odd),
    ]
}

fn flat(text: &str) -> Case {
    Case::error("", 0, NAME, text.as_bytes().to_vec()).with("a-flat.vmdk", guest())
}

/// A monolithicFlat disk whose text was changed; the finding is at the byte of `at`.
fn text_case(id: &'static str, severity: &'static str, from: &str, to: &str, at: &str) -> Case {
    let text = descriptor("monolithicFlat", 7, None, &format!("RW {SECTORS} FLAT \"a-flat.vmdk\" 0"));
    let text = text.replacen(from, to, 1);
    let byte = text.find(at).unwrap_or_else(|| panic!("{at}")) as u64;
    Case { id, severity, byte: Some(byte), ..flat(&text) }
}

/// A disk whose text declares an encoding, with a byte of windows-1252 for each `\u{1}`.
fn in_bytes(declares: &str, file: &str, at: &str) -> Case {
    let text = descriptor("monolithicFlat", 7, None, &format!("RW {SECTORS} FLAT \"{file}\" 0"));
    let text = text.replacen("createType", &format!("{declares}createType"), 1);
    let byte = text.find(at).unwrap() as u64;
    let bytes = text.bytes().map(|byte| if byte == 1 { 0xFC } else { byte }).collect();
    Case::warning("VMDK-ENCODING", byte, NAME, bytes).with(&file.replace('\u{1}', "\u{fc}"), guest())
}

fn text_cases() -> Vec<Case> {
    let note = |id, from: &str, to: &str, at: &str| text_case(id, "note", from, to, at);
    let warning = |id, from: &str, to: &str, at: &str| text_case(id, "warning", from, to, at);
    let error = |id, from: &str, to: &str, at: &str| text_case(id, "error", from, to, at);
    let mut short = error("VMDK-EXTENT-SHORT", "RW 643", "RW 700", "RW").in_file(1);
    short.byte = Some(SECTORS * 512);
    let mut long = warning("VMDK-EXTENT-LONG", "RW 643", "RW 600", "RW").in_file(1);
    long.byte = Some(600 * 512);
    let mut missing = error("VMDK-EXTENT-MISSING", "a-flat", "b-flat", "RW");
    missing.files.truncate(1);
    vec![
        warning("VMDK-CREATE-TYPE", "monolithicFlat", "monolithicFlatt", "createType"),
        warning("VMDK-CREATE-TYPE", "monolithicFlat", "vmfs", "RW"),
        warning("VMDK-CREATE-TYPE", "createType", "creatTyp", "#"),
        warning("VMDK-FIRST-LINE", "# Disk DescriptorFile", "# Description file", "#"),
        warning("VMDK-LINE-ORDER", "description\n", "description\n\n", "RW"),
        warning("VMDK-LINE-ORDER", "\nparentCID", "\n parentCID", " parentCID"),
        warning("VMDK-LINE-ORDER", "#DDB\n", "#DDB\nencoding=\"UTF-8\"\n", "encoding"),
        warning("VMDK-LINE-ORDER", "version=1\n", "version=1\nddb.uuid = \"\"\n", "ddb.uuid"),
        warning("VMDK-CID", "\nCID=00000007", "", "#"),
        warning("VMDK-CID", "\nCID=00000007\nparentCID=ffffffff", "\nparentCID=ffffffff\nCID=00000007", "CID=00000007"),
        warning("VMDK-KEY-TWICE", "\nparentCID", "\nCID=00000009\nparentCID", "CID=00000009"),
        warning("VMDK-ADAPTER", "lsilogic", "lsilogik", "ddb.adapterType"),
        note(
            "VMDK-LONG-CONTENT-ID",
            "ddb.adapterType",
            "ddb.longContentID = \"0123456789abcdef0123456700000008\"\nddb.adapterType",
            "ddb.longContentID",
        ),
        note("VMDK-GEOMETRY", "cylinders = \"1\"", "cylinders = \"81\"", "ddb.geometry.cylinders"),
        note("VMDK-GEOMETRY", "heads = \"4\"", "heads = \"256\"", "ddb.geometry.heads"),
        note("VMDK-GEOMETRY", "sectors = \"2\"", "sectors = \"64\"", "ddb.geometry.sectors"),
        in_bytes("encoding=\"UTF-8\"\n# \u{1}\n", "a-flat.vmdk", "# \u{1}"),
        in_bytes("encoding=\"klingon\"\n", "\u{1}-flat.vmdk", "RW"),
        error("VMDK-VERSION", "version=1", "version=9", "version=9"),
        error("VMDK-EXTENT-LINE", "RW 643", "RW x43", "RW"),
        error(
            "VMDK-EXTENT-TWICE",
            "0\n\n",
            "0\nRW 643 FLAT \"a-flat.vmdk\" 0\n\n",
            "RW 643 FLAT \"a-flat.vmdk\" 0\n\n",
        ),
        missing,
        short,
        long,
        error("VMDK-EXTENT-NOACCESS", "RW 643", "NOACCESS 643", "NOACCESS"),
        warning("VMDK-PARENT-KEYS", "createType", "parentFileNameHint=\"x\"\ncreateType", "parentFileNameHint"),
        error("VMDK-PARENT-KEYS", "=ffffffff", "=gggggggg", "parentCID"),
    ]
}

fn chain_cases() -> Vec<Case> {
    let base = Sparse::of(&guest()).build();
    let text = |cid: u32, name: &str| {
        descriptor("monolithicSparse", 2, Some((cid, name)), &format!("RW {SECTORS} SPARSE \"x\""))
    };
    let child = |descriptor: String| Sparse { descriptor, ..Sparse::of(&vec![0; SECTORS as usize * 512]) }.build();
    let at = |text: &str, key: &str| 512 + text.find(key).unwrap();
    let (fits, changed, own) = (text(0x1234_5678, "base.vmdk"), text(9, "base.vmdk"), text(2, NAME));
    let larger = Sparse::of(&pattern(SECTORS + 128, |_| false)).build();
    let empty = Sparse::of(&vec![0; SECTORS as usize * 512]);
    let gde = (empty.gd() * 512) as usize;
    let unknown = self::changed(child(fits.clone()), gde, &[0xFF; 4]);
    let entry = empty.entry_at(empty.gd(), 2);
    let unknown_grain = self::changed(child(fits.clone()), entry, &[0xFF; 4]);
    vec![
        // What the copy of a snapshot's table does not have may be the parent's, or newer.
        Case::error("VMDK-GDE", gde, NAME, unknown).with("base.vmdk", base.clone()),
        Case::error("VMDK-TABLES-DIFFER", entry, NAME, unknown_grain).with("base.vmdk", base.clone()),
        // What is wrong with a parent is told of the parent.
        Case::warning("VMDK-TABLE-SIZE", 44, NAME, child(fits.clone()))
            .with("base.vmdk", Sparse { gtes: 128, ..Sparse::of(&guest()) }.build())
            .in_file(1),
        Case::note("VMDK-UNREFERENCED", 65_536, NAME, child(fits.clone()))
            .with("base.vmdk", [&base[..], &[0; 65_536]].concat())
            .in_file(1),
        Case::error("VMDK-PARENT-MISSING", at(&fits, "parentFileNameHint"), NAME, child(fits.clone())),
        Case::error("VMDK-PARENT-ID", at(&changed, "parentCID"), NAME, child(changed)).with("base.vmdk", base.clone()),
        Case::warning("VMDK-PARENT-SIZE", 0, NAME, child(fits.clone())).nowhere().with("base.vmdk", larger),
        Case::error("VMDK-CHAIN", 0, NAME, child(own)).nowhere(),
        Case::warning("VMDK-NEWER", 0, "base.vmdk", base).nowhere().with(NAME, child(fits)),
    ]
}

fn host_cases() -> Vec<Case> {
    let log = cowd(5000, &[(0, 0x11), (4095, 0x12), (4999, 0x14)], &[]);
    let text = descriptor("vmfsSparse", 6, None, "RW 5000 VMFSSPARSE \"a-delta.vmdk\"");
    let delta = |id, severity, byte: u64, log: Vec<u8>| {
        let case = Case::error(id, byte, NAME, text.clone().into_bytes()).with("a-delta.vmdk", log).in_file(1);
        Case { severity, ..case }
    };
    let table = u32::from_le_bytes(log[2048..2052].try_into().unwrap()) as usize * 512;
    let second = u32::from_le_bytes(log[2052..2056].try_into().unwrap()) as usize * 512;
    let on_a_table = changed(log.clone(), table, &((second / 512) as u32).to_le_bytes());
    let at = |n: u64| 3 << 60 | (n & 0xFFF) << 48 | n >> 12;
    let extent = |entries: &[(u64, u64)], journal| sesparse(entries, &[(5, 0x51), (6, 0x61)], journal);
    let se_text = descriptor("seSparse", 6, None, "RW 40000 SESPARSE \"e.vmdk\"");
    let se = |id, byte: u64, file: Vec<u8>| {
        Case::error(id, byte, NAME, se_text.clone().into_bytes()).with("e.vmdk", file).in_file(1)
    };
    let se_warning = |id, byte: u64, file: Vec<u8>| Case { severity: "warning", ..se(id, byte, file) };
    let sound = extent(&[(0, at(5)), (1, at(6))], 0);
    let entry = (64 + 64) * 512;
    vec![
        delta("VMDK-COWD-FLAGS", "warning", 8, changed(log.clone(), 8, &[1])),
        delta("VMDK-COWD-FREE", "error", 28, changed(log.clone(), 30, &[0xFF])),
        delta("VMDK-COWD-DIRECTORY", "warning", 24, changed(log.clone(), 24, &[5])),
        delta("VMDK-COWD-DIRECTORY", "error", 24, changed(log.clone(), 24, &[1])),
        delta("VMDK-COWD-ZERO", "warning", table as u64 + 8, changed(log.clone(), table + 8, &[1])),
        delta("VMDK-GTE", "error", table as u64 + 8, changed(log.clone(), table + 8, &[0xFF; 4])),
        // Which of the two is wrong nobody knows: the table is named, too.
        delta("VMDK-GTE-OVERLAP", "error", table as u64, on_a_table).also(&["VMDK-GDE error"]),
        se("VMDK-SE-HEADER", 512, changed(sound.clone(), 512, &[1])),
        se_warning("VMDK-SE-HEADER", 0x29, changed(sound.clone(), 0x29, &[1])),
        se_warning("VMDK-SE-HEADER", 0x1F0, changed(sound.clone(), 0x1F0, &[1])),
        se_warning("VMDK-SE-HEADER", 512 + 0x30, changed(sound.clone(), 512 + 0x30, &[1])),
        // A journal behind the end, a back map over the tables.
        se_warning("VMDK-SE-HEADER", 0x70, changed(changed(sound.clone(), 0x72, &[1]), 0x78, &[1])),
        se_warning("VMDK-SE-HEADER", 0xB0, changed(changed(sound.clone(), 0xB0, &[70]), 0xB8, &[1])),
        se_warning("VMDK-CAPACITY", 0x10, changed(sound.clone(), 0x10, &45_000u64.to_le_bytes())),
        se_warning("VMDK-SE-GDE", 8 * 512 + 24, changed(sound.clone(), 8 * 512 + 24, &[1])),
        se_warning("VMDK-SE-GTE", 64 * 512 + 904 * 8, extent(&[(0, at(5)), (5000, at(6))], 0)),
        se("VMDK-SE-GTE", entry + 16, extent(&[(0, at(5)), (2, at(128))], 0)),
        se("VMDK-SE-JOURNAL", 512 + 0x18, extent(&[(0, at(5))], 1)),
        se("VMDK-SE-GDE", 8 * 512, changed(sound.clone(), 8 * 512 + 7, &[0x20])),
        se("VMDK-SE-GDE", 8 * 512 + 8, changed(sound.clone(), 8 * 512 + 8, &[1])).also(&["VMDK-SE-OVERLAP"]),
        se("VMDK-SE-GTE", entry + 16, extent(&[(0, at(5)), (2, 4 << 60)], 0)),
        se("VMDK-SE-OVERLAP", entry + 8, extent(&[(0, at(5)), (1, at(5))], 0)),
    ]
}

/// As many as a conversion warns of.
#[test]
fn each_snapshot_on_top_of_a_disk_is_a_finding() {
    let folder = super::common::scratch();
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    put("base.vmdk", &Sparse::of(&guest()).build());
    let names = ["one.vmdk", "three.vmdk", "two.vmdk"];
    for (cid, name) in (2..).zip(names) {
        let parent = Some((0x1234_5678, "base.vmdk"));
        let text = descriptor("monolithicSparse", cid, parent, &format!("RW {SECTORS} SPARSE \"x\""));
        let child = Sparse { descriptor: text, ..Sparse::of(&vec![0; SECTORS as usize * 512]) };
        put(name, &child.build());
    }
    let ran = super::common::run(folder.path(), ["check", "base.vmdk"]).succeeds();
    let mut told: Vec<_> = ran.out.lines().filter(|line| line.starts_with("VMDK-NEWER warning base.vmdk: ")).collect();
    told.sort();
    assert_eq!((told.len(), ran.out.lines().count()), (3, 4), "{}", ran.out);
    assert!(told.iter().zip(names).all(|(line, name)| line.contains(name)), "{}", ran.out);
    assert!(ran.out.ends_with(", 3 warnings\n"), "{}", ran.out);
}
