//! The rules of the tree, checked: rows of modules, headers, sizes, where unsafe code may
//! be, what the executable must not have in it.
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Imports point to a larger row only; modules of one row do not know each other.
const ROWS: [&[&str]; 11] = [
    &["main"],
    &["cli"],
    &["compose", "kube", "quadlet", "api"],
    &["engine"],
    &["build", "bundle", "supervisor"],
    &[
        "cgroup",
        "container",
        "image",
        "network",
        "volume",
        "runtime",
    ],
    &["store"],
    &["oci", "config"],
    &["sys"],
    &["text"],
    &["error"],
];

/// Lines of code without tests that a file may have; tables are excepted by name.
const LONGEST_FILE: usize = 800;
const TABLES: [&str; 0] = [];

const UNFINISHED: [&str; 3] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

struct Source {
    /// Relative to the package, such as `src/image/mod.rs`.
    path: String,
    text: String,
}

impl Source {
    /// `image` for `src/image/mod.rs`, `error` for `src/error.rs`.
    fn module(&self) -> &str {
        let path = self.path.trim_start_matches("src/");
        path.split('/').next().unwrap().trim_end_matches(".rs")
    }

    /// What comes before the tests at the end.
    fn code(&self) -> &str {
        self.text
            .split_once("\n#[cfg(test)]\nmod tests {")
            .map_or(&self.text, |(code, _)| code)
    }
}

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let mut paths = Vec::new();
    files_below(&package().join(folder), &mut paths);
    paths.sort();
    let sources: Vec<Source> = paths
        .iter()
        .map(|path| Source {
            path: path.strip_prefix(package()).unwrap().display().to_string(),
            text: fs::read_to_string(path).unwrap(),
        })
        .collect();
    assert!(!sources.is_empty());
    sources
}

#[track_caller]
fn assert_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// `PATH:LINE: MESSAGE` for each line for which `check` has a message.
fn check_lines(sources: &[Source], check: impl Fn(&Source, &str) -> Option<String>) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources {
        for (index, line) in source.text.lines().enumerate() {
            if let Some(message) = check(source, line) {
                problems.push(format!("{}:{}: {message}", source.path, index + 1));
            }
        }
    }
    problems
}

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&module))
}

/// The top modules that a line of code speaks of, as `crate::NAME`.
fn mentioned(line: &str) -> Vec<&str> {
    let code = line.split("//").next().unwrap();
    code.match_indices("crate::")
        .filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, lead)| {
            let rest = &code[at + lead.len()..];
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            &rest[..end]
        })
        .collect()
}

fn wrong_row(module: &str, line: &str) -> Option<String> {
    let own = row(module)?;
    mentioned(line)
        .into_iter()
        .find(|other| *other != module && row(other).is_some_and(|other| other <= own))
        .map(|other| format!("{module} must not use {other}"))
}

#[test]
fn imports_point_down() {
    let sources = sources("src");
    assert_none(&check_lines(&sources, |source, line| {
        wrong_row(source.module(), line)
    }));
    assert_none(&check_lines(&sources, |_, line| {
        let grouped = line.trim_start().starts_with("use crate::{");
        grouped.then(|| "one `use crate::…` for each module".to_owned())
    }));
}

#[test]
fn the_row_check_sees_wrong_imports() {
    let cases = [
        (
            "image",
            "use crate::engine::Engine;",
            "image must not use engine",
        ),
        (
            "image",
            "    crate::runtime::start()",
            "image must not use runtime",
        ),
        ("sys", "use crate::cli;", "sys must not use cli"),
        ("error", "use crate::text;", "error must not use text"),
    ];
    for (module, line, message) in cases {
        assert_eq!(wrong_row(module, line).as_deref(), Some(message));
    }
    for (module, line) in [
        ("image", "use crate::store::Dirs;"),
        ("image", "use crate::image::pull;"),
        ("cli", "use crate::oci::Digest;"),
        ("image", "// crate::engine calls this"),
        ("image", "use my_crate::engine;"),
    ] {
        assert_eq!(wrong_row(module, line), None);
    }
}

#[test]
fn every_top_module_has_a_row() {
    let known: BTreeSet<&str> = ROWS.iter().flat_map(|row| row.iter().copied()).collect();
    let sources = sources("src");
    let problems: Vec<String> = sources
        .iter()
        .filter(|source| !known.contains(source.module()))
        .map(|source| format!("{}: its module has no row", source.path))
        .collect();
    assert_none(&problems);
}

#[test]
fn the_header_of_main_names_each_top_module() {
    let sources = sources("src");
    let main = sources.iter().find(|s| s.path == "src/main.rs").unwrap();
    let header: String = main
        .text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    let words: BTreeSet<&str> = header
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .collect();
    let problems: Vec<String> = sources
        .iter()
        .map(Source::module)
        .filter(|module| *module != "main")
        .collect::<BTreeSet<&str>>()
        .into_iter()
        .filter(|module| !words.contains(module))
        .map(|module| format!("src/main.rs: the header does not name `{module}`"))
        .collect();
    assert_none(&problems);
}

/// It builds all of rbox as a part of each of its targets, which nothing else does.
#[test]
fn the_fuzz_crate_has_all_of_rbox() {
    let read = |path: &str| fs::read_to_string(package().join(path)).unwrap();
    let dependencies = |path: &str| {
        let text = read(path);
        let (_, rest) = text.split_once("\n[dependencies]\n").unwrap();
        let (own, _) = rest.split_once("\n[").unwrap();
        let lines = own.lines().filter(|line| line.contains(" = "));
        let lines = lines.filter(|line| !line.starts_with("libfuzzer-sys"));
        lines.map(str::to_owned).collect::<BTreeSet<String>>()
    };
    assert_eq!(dependencies("Cargo.toml"), dependencies("fuzz/Cargo.toml"));
    let root = read("fuzz/rbox.rs");
    let missing: Vec<String> = read("src/main.rs")
        .lines()
        .filter(|line| line.starts_with("mod ") && *line != "mod fuzz;")
        .filter(|line| !root.lines().any(|other| other == *line))
        .map(|line| format!("fuzz/rbox.rs: {line}"))
        .collect();
    assert_none(&missing);
}

#[test]
fn every_file_says_what_it_is() {
    let mut all = sources("src");
    all.extend(sources("tests"));
    if package().join("benches").is_dir() {
        all.extend(sources("benches"));
    }
    let problems: Vec<String> = all
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| format!("{}: does not begin with a `//!` header", source.path))
        .collect();
    assert_none(&problems);
}

#[test]
fn unsafe_code_is_only_in_sys() {
    assert_none(&check_lines(&sources("src"), |source, line| {
        let opens = line.contains("unsafe_code") && source.module() != "sys";
        opens.then(|| "unsafe code belongs into src/sys".to_owned())
    }));
}

#[test]
fn nothing_is_left_unfinished() {
    let mut all = sources("src");
    all.extend(sources("tests"));
    assert_none(&check_lines(&all, |_, line| {
        let word = UNFINISHED.iter().find(|word| line.contains(**word))?;
        Some(format!("{word} in the tree"))
    }));
}

#[test]
fn paths_in_a_rootfs_are_not_joined() {
    assert_none(&check_lines(&sources("src"), |_, line| {
        let joins = line.contains("rootfs.join(");
        joins.then(|| "resolve it by sys::path, inside the root".to_owned())
    }));
}

#[test]
fn files_are_short() {
    let problems: Vec<String> = sources("src")
        .iter()
        .filter(|source| !TABLES.contains(&source.path.as_str()))
        .filter(|source| !source.path.ends_with("/tests.rs"))
        .map(|source| (source, source.code().lines().count()))
        .filter(|(_, lines)| *lines > LONGEST_FILE)
        .map(|(source, lines)| format!("{}: {lines} lines, by now it is two things", source.path))
        .collect();
    assert_none(&problems);
}

/// Just enough of ELF64, little endian: program headers and the symbol table.
struct Elf {
    bytes: Vec<u8>,
}

impl Elf {
    fn of_rbox() -> Self {
        let bytes = fs::read(env!("CARGO_BIN_EXE_rbox")).unwrap();
        assert_eq!(
            &bytes[..6],
            b"\x7fELF\x02\x01",
            "ELF, 64 bits, little endian"
        );
        Self { bytes }
    }

    fn number(&self, offset: usize, width: usize) -> usize {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(&self.bytes[offset..offset + width]);
        usize::try_from(u64::from_le_bytes(wide)).unwrap()
    }

    fn program_header_types(&self) -> Vec<usize> {
        let (start, size, count) = (self.number(32, 8), self.number(54, 2), self.number(56, 2));
        (0..count)
            .map(|index| self.number(start + index * size, 4))
            .collect()
    }

    /// The names of all symbols that are defined or wanted.
    fn symbols(&self) -> BTreeSet<String> {
        const SYMTAB: usize = 2;
        let (start, size, count) = (self.number(40, 8), self.number(58, 2), self.number(60, 2));
        let section = |index: usize| start + index * size;
        let table = (0..count)
            .map(section)
            .find(|at| self.number(at + 4, 4) == SYMTAB)
            .expect("the binary of the test profile is not stripped");
        let names = self.number(section(self.number(table + 40, 4)) + 24, 8);
        let (offset, length) = (self.number(table + 24, 8), self.number(table + 32, 8));
        (offset..offset + length)
            .step_by(24)
            .map(|symbol| self.text(names + self.number(symbol, 4)))
            .collect()
    }

    fn text(&self, offset: usize) -> String {
        let rest = &self.bytes[offset..];
        let end = rest.iter().position(|byte| *byte == 0).unwrap();
        String::from_utf8_lossy(&rest[..end]).into_owned()
    }
}

#[test]
fn the_executable_is_static() {
    const PT_INTERP: usize = 3;
    assert!(!Elf::of_rbox().program_header_types().contains(&PT_INTERP));
}

/// In a static executable glibc's resolver would load the NSS modules of whatever libc
/// the machine has.
#[test]
fn no_name_service_is_linked() {
    let elf = Elf::of_rbox();
    let symbols = elf.symbols();
    assert!(symbols.contains("main"), "the symbol table was read");
    let problems: Vec<String> = symbols
        .iter()
        .map(|symbol| symbol.trim_start_matches('_'))
        .filter(|symbol| {
            [
                "getaddrinfo",
                "gethostbyname",
                "getpwnam",
                "getpwuid",
                "getpwent",
                "getgrnam",
                "getgrgid",
                "getgrent",
                "getgrouplist",
                "initgroups",
                "nss_lookup",
            ]
            .iter()
            .any(|call| symbol.starts_with(call))
        })
        .map(|symbol| format!("{symbol} is linked into rbox"))
        .collect();
    assert_none(&problems);
    let nsswitch = concat!("/etc/nss", "witch.conf").as_bytes();
    let found = elf.bytes.windows(nsswitch.len()).any(|w| w == nsswitch);
    assert!(!found, "glibc's name service switch is linked into rbox");
}
