//! Archives by GNU tar, and archives that readers could take for different ones.

use super::*;

/// Header blocks with right checksums.
fn block(kind: u8, name: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    header.as_mut_bytes()[156] = kind;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn with_data(kind: u8, name: &str, data: &[u8]) -> Vec<u8> {
    [block(kind, name, data.len() as u64), padded(data)].concat()
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        super::super::record(&mut bytes, key.as_bytes(), value.as_bytes());
    }
    with_data(b'x', "pax", &bytes)
}

const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// All entries with their bytes, zeros of holes included.
fn read_all(archive: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut reader = Reader::new(archive);
    let mut entries = Vec::new();
    let mut buffer = [0; 1000];
    while let Some(entry) = reader.next()? {
        let mut bytes = vec![0; usize::try_from(entry.size)?];
        while let Some((offset, count)) = reader.data(&mut buffer)? {
            let offset = usize::try_from(offset)?;
            bytes[offset..offset + count].copy_from_slice(&buffer[..count]);
        }
        entries.push((String::from_utf8(entry.name)?, bytes));
    }
    Ok(entries)
}

fn names(archive: &[&[u8]]) -> String {
    let archive = [&archive.concat()[..], &END].concat();
    match read_all(&archive) {
        Ok(entries) => {
            let names: Vec<_> = entries.into_iter().map(|(name, _)| name).collect();
            names.join(" ")
        }
        Err(err) => format!("{err:#}"),
    }
}

#[test]
fn no_entry_is_smuggled_in_by_sizes_that_disagree() {
    let hidden = with_data(b'0', "hidden", b"");
    let last = with_data(b'0', "last", b"");
    // The records' size wins (CVE-2025-62518, CVE-2026-33055).
    let outer = |size: u64| [block(b'0', "outer", size), hidden.clone()].concat();
    assert_eq!(
        names(&[&pax(&[("size", "512")]), &outer(0), &last]),
        "outer last"
    );
    assert_eq!(
        names(&[&pax(&[("size", "0")]), &outer(512), &last]),
        "outer hidden last"
    );
    // A later record takes an earlier one back.
    let twice = pax(&[("size", "512"), ("size", "")]);
    assert_eq!(names(&[&twice, &outer(0), &last]), "outer hidden last");
    // What describes an entry is not itself described.
    let long = with_data(b'L', "long", b"renamed\0");
    assert_eq!(
        names(&[&pax(&[("size", "512")]), &long, &outer(0), &last]),
        "renamed last"
    );
    // What is no file has no bytes, in Go's reader and in GNU tar.
    for kind in *b"123456" {
        let odd = block(kind, "odd", 512);
        assert_eq!(names(&[&odd, &hidden, &last]), "odd hidden last");
        let odd = block(kind, "odd", 0);
        assert_eq!(
            names(&[&pax(&[("size", "512")]), &odd, &hidden]),
            "odd hidden"
        );
    }
    let old = block(0, "directory/", 512);
    assert_eq!(names(&[&old, &hidden]), "directory/ hidden");
}

#[test]
fn where_readers_disagree_the_archive_is_refused() {
    let file = with_data(b'0', "file", b"x");
    let long = with_data(b'L', "long", b"name\0");
    let link = with_data(b'K', "long", b"name\0");
    let records = pax(&[("path", "p")]);
    let global = with_data(b'g', "global", b"17 path=/etc/evil\n");
    for twice in [
        [&long, &long],
        [&link, &link],
        [&records, &records],
        [&records, &global],
    ] {
        let found = names(&[&twice.map(Vec::as_slice).concat(), &file]);
        assert_eq!(found, "the tar describes one entry twice");
    }
    assert_eq!(names(&[&global, &file]), "file");
    assert_eq!(names(&[&records, &long, &file]), "name");
    assert_eq!(names(&[&long]), "the tar ends where it announced an entry");
    let lone = [0; BLOCK];
    assert_eq!(
        names(&[&file, &lone, &file]),
        "the tar goes on after its end"
    );
    assert_eq!(names(&[&file, &END, &file]), "file");
    let mut wrong = file.clone();
    wrong[0] = b'g';
    assert!(names(&[&wrong]).contains("the checksum of a header does not match"));
}

#[test]
fn an_archive_may_lack_its_last_padding_and_its_end_but_no_byte() {
    let whole = with_data(b'0', "file", &[b'x'; 700]);
    for end in [whole.len(), BLOCK + 700] {
        assert_eq!(read_all(&whole[..end]).unwrap()[0].1.len(), 700);
    }
    for end in [BLOCK + 699, BLOCK, BLOCK - 1, 1] {
        let err = read_all(&whole[..end]).unwrap_err().to_string();
        assert!(
            err.starts_with("the tar ends ") || err.contains("cut off"),
            "{err}"
        );
        let mut reader = Reader::new(&whole[..end]);
        let passed_over = reader.next().and_then(|_| reader.next());
        assert!(passed_over.is_err(), "{end}");
    }
    assert!(read_all(b"").unwrap().is_empty());
}

#[test]
fn what_describes_an_entry_is_bounded() {
    for kind in *b"LKx" {
        let found = names(&[&block(kind, "huge", 1 << 40)]);
        assert!(found.contains("1048576 are allowed"), "{found}");
    }
    // CVE-2026-32288: a map without end.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(0);
    header.as_gnu_mut().unwrap().isextended = [1];
    header.set_cksum();
    let mut more = [0; BLOCK];
    for place in 0..42 {
        more[place * 12..place * 12 + 11].copy_from_slice(b"00000000000");
    }
    more[504] = 1;
    let archive = [&header.as_bytes()[..], &more.repeat(5000)].concat();
    let err = read_all(&archive).unwrap_err().to_string();
    assert!(err.contains("more pieces than are allowed"), "{err}");
    let map = format!("999999999\n{}", "0\n0\n".repeat(1 << 19));
    let records = pax(&[
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.realsize", "9"),
    ]);
    let found = names(&[&records, &with_data(b'0', "map", map.as_bytes())]);
    assert!(found.contains("more pieces than are allowed"), "{found}");
}

#[test]
fn maps_of_sparse_files_must_fit_their_bytes() {
    let sparse = |map: &str, size: &str| {
        pax(&[
            ("GNU.sparse.map", map),
            ("GNU.sparse.size", size),
            ("GNU.sparse.name", "real"),
        ])
    };
    let stored = with_data(b'0', "GNUSparseFile.0/x", b"abc");
    assert_eq!(names(&[&sparse("1,2,7,1", "9"), &stored]), "real");
    for (map, size) in [
        ("1,2", "9"),
        ("1,2,7,2", "9"),
        ("7,2,1,1", "9"),
        ("1,2,2,1", "9"),
        ("1,2,7,1", "7"),
        ("1,2,7", "9"),
        ("1,2,18446744073709551615,1", "9"),
        ("1,2,9223372036854775807,1", "9"),
    ] {
        let found = names(&[&sparse(map, size), &stored]);
        assert!(
            found.starts_with("the tar ") || found.starts_with("cannot"),
            "{map}: {found}"
        );
    }
    let directory = block(b'5', "d", 0);
    let found = names(&[&sparse("0,0", "0"), &directory]);
    assert_eq!(found, "the tar has a sparse file that is no file");
}

/// By the tool that made these forms.
#[test]
fn sparse_files_of_gnu_tar_are_read_in_every_form() {
    use crate::store::temp::tests::scratch;
    use std::os::unix::fs::FileExt;
    let base = scratch("sparse");
    let path = base.path().join("sparse");
    let file = File::create(&path).unwrap();
    for piece in 0..200u64 {
        file.write_at(format!("piece {piece}").as_bytes(), piece * 16384 + 5)
            .unwrap();
    }
    file.set_len(200 * 16384 + 77).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for form in [
        ["--format=gnu", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ] {
        let output = std::process::Command::new("tar")
            .args(["-cS", "-C"])
            .arg(base.path())
            .args(form)
            .arg("sparse")
            .output()
            .unwrap();
        let archive = output.stdout;
        assert!(archive.len() < whole.len() / 2, "{form:?}");
        let entries = read_all(&archive).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].0, "sparse");
        assert!(entries[0].1 == whole, "{form:?}");
    }
}
