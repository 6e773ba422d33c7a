//! Every descriptor of the corpus, as products wrote them: what a table made without vdconv lists is what `info` tells.

mod common;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::{has_programs, run, scratch, shared_file};
use serde_json::Value;

/// The rows of a table, by the names of its columns.
fn rows(table: &Path) -> Vec<HashMap<String, String>> {
    let text = fs::read_to_string(table).unwrap();
    let mut lines = text.lines().map(|line| line.split('\t').map(str::to_string).collect::<Vec<_>>());
    let columns = lines.next().unwrap();
    lines.map(|line| columns.iter().cloned().zip(line).collect()).collect()
}

/// The first file that a descriptor names in an extent line, found by its looks alone; `None` where no byte of it can be compared.
fn first_file(path: &Path) -> Option<String> {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    let line = text.lines().find(|line| ["RW ", "RDONLY "].iter().any(|access| line.starts_with(access)))?.to_string();
    let name = line.split('"').nth(1)?.to_string();
    (!name.contains('\u{fffd}')).then_some(name)
}

#[test]
fn real_descriptors_say_what_their_table_says_and_miss_their_first_file() {
    let (Some(archive), Some(table)) =
        (shared_file("corpus/descriptors.tar.xz"), shared_file("corpus/descriptors.tsv"))
    else {
        return;
    };
    if !has_programs(&["tar", "xz"]) {
        return;
    }
    let folder = scratch();
    assert!(Command::new("tar").args(["-xJf"]).arg(archive).arg("-C").arg(folder.path()).status().unwrap().success());
    let (mut told, mut outside, mut empty) = (0, 0, 0);
    for row in rows(&table) {
        // Each in a folder of its own: what is beside it is not its own.
        let alone = scratch();
        fs::copy(folder.path().join("descriptors").join(&row["file"]), alone.path().join("d.vmdk")).unwrap();
        let ran = run(alone.path(), ["d.vmdk", "o.raw"]);
        assert_eq!(ran.status, Some(1), "{}: {}", row["file"], ran.err);
        if row["sectors"] == "0" {
            assert!(ran.err.contains("0 sectors"), "{}: {}", row["file"], ran.err);
            empty += 1;
            continue;
        }
        if let Some(name) = first_file(&alone.path().join("d.vmdk")) {
            assert!(ran.err.contains(&name), "{}: no {name} in {}", row["file"], ran.err);
            told += 1;
        }
        outside += usize::from(ran.err.contains("a name in the image"));
        let ran = run(alone.path(), ["info", "--json", "d.vmdk"]);
        let value: Value = serde_json::from_str(&ran.out).unwrap();
        let image = &value["images"][0];
        let recorded = |key: &str| {
            let all = image["recorded"].as_array().unwrap();
            all.iter().find(|r| r["name"] == key).map(|r| r["value"].as_str().unwrap().to_string())
        };
        let mut kinds: Vec<_> =
            image["extents"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap().to_string()).collect();
        kinds.sort();
        kinds.dedup();
        let cid = |text: &str| u32::from_str_radix(text, 16).unwrap();
        assert_eq!(image["subformat"], row["createType"].as_str(), "{}", row["file"]);
        assert_eq!(image["extent_count"].to_string(), row["extents"], "{}", row["file"]);
        assert_eq!(kinds.join(","), row["extentTypes"], "{}", row["file"]);
        assert_eq!(image["virtual_size"].as_u64().unwrap() / 512, row["sectors"].parse::<u64>().unwrap());
        assert_eq!(cid(image["cid"].as_str().unwrap()), cid(&row["CID"]), "{}", row["file"]);
        assert_eq!(recorded("parentCID").map(|text| cid(&text)), Some(cid(&row["parentCID"])), "{}", row["file"]);
        assert_eq!(image["adapter"].as_str().unwrap_or("-"), row["adapterType"], "{}", row["file"]);
    }
    assert_eq!((outside, empty), (3, 1), "three lead outside, one is a disk of nothing");
    assert!(told > 85, "{told} descriptors named their first file");
}
