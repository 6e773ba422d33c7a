//! Every fixture, to every output, by its README's table.

mod common;

use common::{fixture, names, run, scratch, sha256, vhd, vmdk};

struct Row {
    file: String,
    digest: String,
    /// Size and digest of the guest; a piece of another fixture has none.
    guest: Option<(u64, String)>,
}

const FOLDERS: [&str; 3] = ["iso", "vhd", "vmdk"];

fn rows() -> Vec<Row> {
    let readme = std::fs::read_to_string(fixture("README.md")).unwrap();
    let cells = readme
        .lines()
        .filter(|l| FOLDERS.iter().any(|folder| l.starts_with(&format!("| {folder}/"))))
        .map(|l| l.split('|').map(str::trim).collect::<Vec<_>>());
    cells
        .map(|c| Row {
            file: c[1].into(),
            digest: c[2].into(),
            guest: c[3].parse().ok().map(|size| (size, c[4].into())),
        })
        .collect()
}

#[test]
fn every_fixture_is_in_the_table_and_is_the_very_file_that_it_names() {
    let mut listed: Vec<_> = rows().iter().map(|r| r.file.clone()).collect();
    listed.sort();
    let there: Vec<_> =
        FOLDERS.iter().flat_map(|f| names(&fixture(f)).into_iter().map(move |n| format!("{f}/{n}"))).collect();
    assert_eq!(listed, there);
    for row in rows() {
        assert_eq!(sha256(&std::fs::read(fixture(&row.file)).unwrap()), row.digest, "{}", row.file);
    }
}

#[test]
fn every_fixture_comes_out_whole_in_every_kind() {
    for row in rows() {
        let Some(want) = row.guest else { continue };
        let folder = scratch();
        let source = fixture(&row.file);
        let before = std::fs::metadata(&source).unwrap().modified().unwrap();
        let check = |guest: &[u8], what: &str| {
            assert_eq!((guest.len() as u64, sha256(guest)), want, "{} to {what}", row.file);
        };
        run(folder.path(), [source.as_os_str(), "a.raw".as_ref()]).succeeds();
        check(&std::fs::read(folder.path().join("a.raw")).unwrap(), "raw");
        for (subformat, file) in [("monolithicSparse", "s.vmdk"), ("monolithicFlat", "f.vmdk")] {
            run(folder.path(), [source.as_os_str(), file.as_ref(), "-s".as_ref(), subformat.as_ref()]).succeeds();
            let disk = vmdk::read(&folder.path().join(file));
            check(&disk.guest, subformat);
            if !row.file.starts_with("iso/") {
                assert_eq!(disk.keys["ddb.adapterType"], "ide", "as VHDs boot, and as these VMDKs record");
            }
        }
        for (subformat, file) in [("dynamic", "d.vhd"), ("fixed", "x.vhd")] {
            run(folder.path(), [source.as_os_str(), file.as_ref(), "-s".as_ref(), subformat.as_ref()]).succeeds();
            check(&vhd::strict(&std::fs::read(folder.path().join(file)).unwrap(), None).guest, subformat);
        }
        assert_eq!(names(folder.path()), ["a.raw", "d.vhd", "f-flat.vmdk", "f.vmdk", "s.vmdk", "x.vhd"]);
        assert_eq!(sha256(&std::fs::read(&source).unwrap()), row.digest, "R1: the source is as it was");
        assert_eq!(std::fs::metadata(&source).unwrap().modified().unwrap(), before);
    }
}
