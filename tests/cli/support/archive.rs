//! Writes tar archives byte by byte, the honest ones of fixtures and those that no
//! honest tool writes. Independent of the tar library that rbox reads with.
use std::io::Write;

#[derive(Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

pub struct Entry<'a> {
    pub path: &'a [u8],
    /// '0' file, '1' hard link, '2' symlink, '3' character device, '5' directory, '6' fifo.
    pub kind: u8,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub link: &'a [u8],
    pub device: (u32, u32),
    pub content: &'a [u8],
    /// Records of a PAX header in front, such as `SCHILY.xattr.user.name`.
    pub pax: &'a [(&'a str, &'a [u8])],
    /// What the header says instead of the content's real size.
    pub size: Option<u64>,
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Entry {
            path: b"",
            kind: b'0',
            mode: 0o644,
            uid: 0,
            gid: 0,
            link: b"",
            device: (0, 0),
            content: b"",
            pax: &[],
            size: None,
        }
    }
}

impl Tar {
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> &mut Self {
        self.entry(&Entry {
            path: path.as_bytes(),
            mode,
            content,
            ..Entry::default()
        })
    }

    pub fn dir(&mut self, path: &str, mode: u32) -> &mut Self {
        self.entry(&Entry {
            path: path.as_bytes(),
            kind: b'5',
            mode,
            ..Entry::default()
        })
    }

    pub fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.entry(&Entry {
            path: path.as_bytes(),
            kind: b'2',
            mode: 0o777,
            link: target.as_bytes(),
            ..Entry::default()
        })
    }

    pub fn hardlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.entry(&Entry {
            path: path.as_bytes(),
            kind: b'1',
            link: target.as_bytes(),
            ..Entry::default()
        })
    }

    pub fn entry(&mut self, entry: &Entry) -> &mut Self {
        let mut pax: Vec<u8> = Vec::new();
        for (key, value) in entry.pax {
            pax_record(&mut pax, key, value);
        }
        if entry.path.len() > 100 {
            pax_record(&mut pax, "path", entry.path);
        }
        if entry.link.len() > 100 {
            pax_record(&mut pax, "linkpath", entry.link);
        }
        if !pax.is_empty() {
            self.one(&Entry {
                path: b"PaxHeaders/entry",
                kind: b'x',
                content: &pax,
                ..Entry::default()
            });
        }
        self.one(entry);
        self
    }

    /// The archive with its two closing blocks.
    pub fn finish(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.extend_from_slice(&[0; 1024]);
        bytes
    }

    fn one(&mut self, entry: &Entry) {
        let mut header = [0_u8; 512];
        let mut put = |offset: usize, bytes: &[u8]| {
            header[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        let size = entry.size.unwrap_or(entry.content.len() as u64);
        put(0, &entry.path[..entry.path.len().min(100)]);
        put(100, format!("{:07o}\0", entry.mode).as_bytes());
        put(108, format!("{:07o}\0", entry.uid).as_bytes());
        put(116, format!("{:07o}\0", entry.gid).as_bytes());
        put(124, format!("{size:011o}\0").as_bytes());
        put(136, b"14727130425\0");
        put(148, b"        ");
        put(156, &[entry.kind]);
        put(157, &entry.link[..entry.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}\0", entry.device.0).as_bytes());
        put(337, format!("{:07o}\0", entry.device.1).as_bytes());
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(entry.content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }
}

/// `LENGTH key=value\n`, where LENGTH counts itself.
fn pax_record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    write!(out, "{length} {key}=").unwrap();
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[test]
fn gnu_tar_reads_what_we_write() {
    let long = "d/".repeat(80) + "file";
    let mut tar = Tar::default();
    tar.dir("d", 0o755)
        .file(&long, 0o4755, b"content")
        .symlink("link", "/target")
        .hardlink("hard", &long)
        .entry(&Entry {
            path: b"attributed",
            uid: 12345,
            pax: &[("SCHILY.xattr.user.key", b"value")],
            ..Entry::default()
        });
    let path = std::env::temp_dir().join(format!("rb.tar.{}", std::process::id()));
    std::fs::write(&path, tar.finish()).unwrap();
    let output = std::process::Command::new("tar")
        .args(["--numeric-owner", "--xattrs", "-tvvf"])
        .arg(&path)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    assert!(lines[1].starts_with("-rwsr-xr-x  0/0"), "{text}");
    assert!(lines[1].ends_with(&long), "{text}");
    assert!(lines[2].ends_with("link -> /target"), "{text}");
    assert!(lines[3].contains("hard link to"), "{text}");
    assert!(lines[4].starts_with("-rw-r--r--* 12345/0"), "{text}");
    assert!(lines[5].ends_with("user.key"), "{text}");
}
