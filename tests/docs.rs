//! The man pages and completion scripts in the tree are those of the program.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Names and texts of the files in a directory.
fn files(dir: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect()
}

#[test]
fn man_pages_and_completions_are_up_to_date() {
    let fresh = std::env::temp_dir().join(format!("rbox-docs-{}", std::process::id()));
    let output = Command::new(env!("CARGO_BIN_EXE_rbox"))
        .arg("generate-docs")
        .arg(&fresh)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let committed = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut different = Vec::new();
    for dir in ["man", "completions"] {
        let (old, new) = (files(&committed.join(dir)), files(&fresh.join(dir)));
        assert!(!new.is_empty(), "{dir} is empty");
        let names = old.keys().chain(new.keys());
        different.extend(
            names
                .filter(|name| old.get(*name) != new.get(*name))
                .map(|name| format!("{dir}/{name}")),
        );
    }
    fs::remove_dir_all(&fresh).unwrap();
    different.sort();
    different.dedup();
    assert!(
        different.is_empty(),
        "{different:?} differ from the program: run `cargo run -- generate-docs .`"
    );
}
