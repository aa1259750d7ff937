//! The bodies of the fuzz targets with changed good input, for a bounded time: in the unit tests, where
//! neither a nightly compiler nor cargo-fuzz is needed. `RBOX_FUZZ_SECONDS` makes it longer.

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::time::Duration;
use std::time::Instant;

use rustix::fs::Timespec;
use tar::EntryType;

use crate::store::archive::Entry;
use crate::store::archive::Writer;

const BLOCK: usize = 512;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % end.max(1)
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..start + self.below((length - start).min(64) + 1)
    }
}

/// One change of some bytes.
fn change(bytes: &mut Vec<u8>, words: &[&[u8]], random: &mut Random) {
    let here = random.range(bytes.len());
    match random.below(7) {
        0 if !bytes.is_empty() => {
            let place = random.below(bytes.len());
            bytes[place] ^= 1 << random.below(8);
        }
        1 if !bytes.is_empty() => {
            let place = random.below(bytes.len());
            bytes[place] = [0, 1, 0x2f, 0x2e, 0x7f, 0x80, 0xff, b'7'][random.below(8)];
        }
        2 => drop(bytes.drain(here)),
        3 => {
            let part = bytes[here.clone()].to_vec();
            bytes.splice(here.start..here.start, part);
        }
        4 => {
            let word = words[random.below(words.len())];
            bytes.splice(here.start..here.start, word.iter().copied());
        }
        5 => {
            let word = words[random.below(words.len())];
            let end = (here.start + word.len()).min(bytes.len());
            bytes.splice(here.start..end, word.iter().copied());
        }
        // Whole blocks, which is what a tar is made of.
        _ => {
            let blocks = bytes.len() / BLOCK;
            let (one, other) = (random.below(blocks) * BLOCK, random.below(blocks) * BLOCK);
            if bytes.len() >= one.max(other) + BLOCK {
                let block = bytes[one..one + BLOCK].to_vec();
                if random.below(2) == 0 {
                    bytes.splice(other..other, block);
                } else {
                    bytes[other..other + BLOCK].copy_from_slice(&block);
                }
            }
        }
    }
}

/// Makes the checksums right of all that looks like a header.
fn sum_up(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(BLOCK) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

fn run(name: &str, body: fn(&[u8]), seeds: &[&[u8]], words: &[&str]) {
    let seconds = std::env::var("RBOX_FUZZ_SECONDS");
    let seconds = seconds.map_or(4, |text| text.parse().unwrap());
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let mut number = [0; 8];
    rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty()).unwrap();
    let mut random = Random(u64::from_ne_bytes(number) | 1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut count = 0;
    for seed in seeds {
        body(seed);
    }
    while Instant::now() < end {
        let mut bytes = seeds[random.below(seeds.len())].to_vec();
        for _ in 0..=random.below(6) {
            change(&mut bytes, &words, &mut random);
        }
        if random.below(8) > 0 {
            sum_up(&mut bytes);
        }
        count += 1;
        if catch_unwind(AssertUnwindSafe(|| body(&bytes))).is_err() {
            let path = std::env::temp_dir().join(format!("rbox-fuzz-{name}"));
            std::fs::write(&path, &bytes).unwrap();
            panic!("{name}: number {count}, written to {}", path.display());
        }
    }
    assert!(count > 10, "{count} inputs only");
}

/// Entries of all kinds.
fn layer() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    let xattrs = [(b"user.a".to_vec(), b"b".to_vec())];
    let long = [b'l'; 150];
    for (name, kind, link) in [
        (&b"d/"[..], EntryType::Directory, &b""[..]),
        (b"d/f", EntryType::Regular, b""),
        (b"s", EntryType::Symlink, b"../outside"),
        (b"s/file", EntryType::Regular, b""),
        (b"d/.wh.f", EntryType::Regular, b""),
        (b"d/.wh..wh..opq", EntryType::Regular, b""),
        (b"h", EntryType::Link, b"d/f"),
        (b"s2", EntryType::Symlink, b"/d"),
        (b"s2/x", EntryType::Fifo, b""),
        (&long, EntryType::Regular, b""),
        (b"c", EntryType::Char, b""),
        (b"d", EntryType::Regular, b""),
        (b"/abs/../deep/er", EntryType::Regular, b""),
    ] {
        let size = u64::from(kind == EntryType::Regular) * 3;
        let entry = Entry {
            name,
            kind,
            mode: 0o4755,
            link,
            size,
            modified: Timespec {
                tv_sec: 1,
                tv_nsec: 5,
            },
            xattrs: &xattrs,
            ..Entry::default()
        };
        writer.entry(&entry).unwrap();
        if size > 0 {
            writer.data(b"abc").unwrap();
        }
    }
    writer.finish().unwrap();
    bytes
}

/// By GNU tar, in its own form and with maps in front of the bytes.
fn sparse(form: &[&str]) -> Vec<u8> {
    let place = crate::store::temp::tests::scratch("fuzz");
    let file = std::fs::File::create(place.path().join("f")).unwrap();
    for piece in 0..10 {
        std::os::unix::fs::FileExt::write_at(&file, b"x", piece * 8192).unwrap();
    }
    let tar = std::process::Command::new("tar")
        .args(["-cSC"])
        .arg(place.path())
        .args(form)
        .arg("f")
        .output();
    tar.unwrap().stdout
}

#[test]
fn fuzz_tar() {
    let seeds = [
        layer(),
        sparse(&["--format=gnu"]),
        sparse(&["--format=posix", "--sparse-version=0.0"]),
        sparse(&["--format=posix", "--sparse-version=1.0"]),
    ];
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let words = [
        "..",
        "/",
        "../",
        "outside/file",
        "s",
        "d",
        ".wh.",
        ".wh..wh..opq",
        "\0",
        "ustar\0",
        "ustar  \0",
        "11 size=9\n",
        "20 path=../outside\n",
        "77777777777",
        "GNU.sparse.map=",
        "\u{80}\0\0\0",
        "0",
        "1",
        "2",
        "5",
        "6",
        "7",
        "L",
        "K",
        "x",
        "g",
        "S",
    ];
    run("tar", super::tar, &seeds, &words);
}

const JSON: [&str; 14] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "\"\"",
    "-1",
    "18446744073709551615",
    "1e99",
    "\"layers\"",
    "\"manifests\"",
    "\\u0000",
];

#[test]
fn fuzz_manifest() {
    let hex = "a".repeat(64);
    let descriptor = format!(
        r#"{{"mediaType":"x","digest":"sha256:{hex}","size":3,"platform":{{"os":"linux","architecture":"amd64"}},"annotations":{{"a":"b"}}}}"#
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{descriptor},"layers":[{descriptor},{descriptor}]}}"#
    );
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{descriptor},{descriptor}]}}"#);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z","config":{{"User":"0:0","Env":["A=b"],"Cmd":["sh"],"Entrypoint":null,"ExposedPorts":{{"80/tcp":{{}}}},"Volumes":{{"/v":{{}}}},"Healthcheck":{{"Test":["CMD","x"],"Interval":1}}}},"rootfs":{{"type":"layers","diff_ids":["sha256:{hex}"]}},"history":[{{"created_by":"x","empty_layer":true}}]}}"#
    );
    let seeds = [manifest.as_bytes(), index.as_bytes(), config.as_bytes()];
    run("manifest", super::manifest, &seeds, &JSON);
}

#[test]
fn fuzz_reference() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let whole = format!("registry.example.com:5000/a/b-c__d:tag@{digest}");
    let seeds: [&[u8]; 6] = [
        whole.as_bytes(),
        digest.as_bytes(),
        b"busybox",
        b"localhost/a:1",
        b"[::1]:5000/a",
        b"linux/arm64/v8",
    ];
    let words = [
        "..", "/", "//", ":", "@", "sha256:", "sha512:", "A", "_", "-", ".", "\0", "é", " ",
    ];
    run("reference", super::reference, &seeds, &words);
}

#[test]
fn fuzz_challenge() {
    let seeds: [&[u8]; 3] = [
        br#"Bearer realm="https://auth.example.com/token?a=b",service="s",scope="repository:a/b:pull,push""#,
        b"bearer realm=https://127.0.0.1/,service=x",
        b"Basic realm=\"x\"",
    ];
    let words = [
        "realm=",
        "\"",
        ",",
        "@",
        "//",
        "http:",
        "https:",
        "\\",
        "\r\n",
        " ",
        "#",
        "?",
        "localhost",
        "[::1]",
        "é",
    ];
    run("challenge", super::challenge, &seeds, &words);
}

#[test]
fn fuzz_registries() {
    let seeds: [&[u8]; 2] = [
        b"unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"enforcing\"\n[aliases]\n\"a\" = \"b.example/c\"\n[[registry]]\nprefix = \"*.example.com\"\nlocation = \"x.example/y\"\ninsecure = true\nblocked = false\n[[registry.mirror]]\nlocation = \"m.example\"\npull-from-mirror = \"digest-only\"\n",
        b"[registries.search]\nregistries = ['docker.io']\n[registries.insecure]\nregistries = []\n",
    ];
    let words = [
        "[", "]", "[[", "\"", "=", "\n", "*", "*.", "true", "1", "registry", "{", "\\", "\0",
    ];
    run("registries", super::registries, &seeds, &words);
}

#[test]
fn fuzz_authfile() {
    let seeds: [&[u8]; 2] = [
        br#"{"auths":{"registry.example.com":{"auth":"dXNlcjpwYXNz"},"registry.example.com/a":{"identitytoken":"t","username":"u","password":"p"}}}"#,
        br#"{"auths":{"https://registry.example.com/v1/":{"auth":""}},"HttpHeaders":{}}"#,
    ];
    let words = [&JSON[..], &["dXNlcjpwYXNz", "auth", "===="]].concat();
    run("authfile", super::authfile, &seeds, &words);
}

#[test]
fn fuzz_config() {
    let seed: &[u8] = br#"{"ociVersion":"1.2.0","process":{"args":["sh"],"cwd":"/","user":{"uid":0,"gid":0},"env":["A=b"],"rlimits":[{"type":"RLIMIT_NOFILE","hard":1,"soft":1}],"capabilities":{"bounding":["CAP_CHOWN"]}},"root":{"path":"rootfs"},"mounts":[{"destination":"/proc","type":"proc","source":"proc","options":["ro"]}],"linux":{"namespaces":[{"type":"pid"}],"resources":{"memory":{"limit":1}},"seccomp":{"defaultAction":"SCMP_ACT_ALLOW"}}}"#;
    run("config", super::config, &[seed], &JSON);
}

#[test]
fn fuzz_dns() {
    let seeds: [&[u8]; 3] = [
        b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x03web\x03dns\x06podman\0\0\x01\0\x01\0\0\x29\x10\0\0\0\x80\0\0\0",
        b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0\x01a\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\xc0\0\x02\x01",
        b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x012\x010\x0289\x0210\x07in-addr\x04arpa\0\0\x0c\0\x01",
    ];
    let words = [
        "\0",
        "\x01",
        "\x3f",
        "\x04arpa",
        "\x03ip6",
        "\0\x29",
        "\0\0\x29\x10",
        "\x01a",
        ".",
        "\\",
    ];
    run("dns", super::dns, &seeds, &words);
}

#[test]
fn fuzz_network() {
    let seeds = super::container::seeds();
    let seeds: Vec<&[u8]> = seeds.iter().map(Vec::as_slice).collect();
    let words = [
        "\0",
        "\x01",
        "\x02",
        "\x04",
        "\x05",
        "\x06",
        "\x07",
        "\x10",
        "\x11",
        "E",
        "`",
        "\x2c",
        "\x3c",
        "\x08\0",
        "\u{80}",
        "dns",
        "\x06podman",
    ];
    run("network", super::network, &seeds, &words);
}
