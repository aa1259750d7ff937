//! Layers made to do harm, and layers that merely are odd: unpacked in this process, with a
//! directory beside the root that must stay as it is.

use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use tar::EntryType;

use crate::image::unpack::extract::Limits;
use crate::image::unpack::extract::Owners;
use crate::image::unpack::extract::Unpacked;
use crate::image::unpack::extract::extract;
use crate::store::archive::OWNER_XATTR;
use crate::store::temp::TempDir;
use crate::store::temp::nameless_file;
use crate::store::temp::tests::scratch;

/// A tar made entry by entry, with no check of what goes in.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn header(kind: EntryType, name: &str, size: u64) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(if kind == EntryType::Directory {
            0o755
        } else {
            0o644
        });
        header.set_mtime(1_000_000_000);
        let (uid, gid) = own_ids();
        header.set_uid(uid.into());
        header.set_gid(gid.into());
        header
    }

    fn raw(mut self, mut header: tar::Header, data: &[u8]) -> Self {
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, data: &str) -> Self {
        let header = Self::header(EntryType::Regular, name, data.len() as u64);
        self.raw(header, data.as_bytes())
    }

    fn entry(self, kind: EntryType, name: &str) -> Self {
        self.raw(Self::header(kind, name, 0), b"")
    }

    fn dir(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name)
    }

    fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        let mut header = Self::header(kind, name, 0);
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        self.raw(header, b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, name, target)
    }

    fn hard_link(self, name: &str, target: &str) -> Self {
        self.link(EntryType::Link, name, target)
    }

    /// A PAX header for the next entry.
    fn pax(self, records: &[(&str, &str)]) -> Self {
        let mut data = String::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            let mut length = rest.len() + 1;
            while length != rest.len() + length.to_string().len() {
                length += 1;
            }
            data.push_str(&length.to_string());
            data.push_str(&rest);
        }
        let header = Self::header(EntryType::XHeader, "pax", data.len() as u64);
        self.raw(header, data.as_bytes())
    }

    fn unpack(self) -> (Place, anyhow::Result<Unpacked>) {
        self.unpack_with(Owners::Set)
    }

    fn unpack_with(mut self, owners: Owners) -> (Place, anyhow::Result<Unpacked>) {
        self.0.resize(self.0.len() + 1024, 0);
        let place = Place::new();
        let limits = Limits {
            entries: 1000,
            bytes: 1 << 20,
        };
        let result = extract(
            self.0.as_slice(),
            place.root_fd(),
            place.notes(),
            owners,
            None,
            limits,
        );
        place.check_outside();
        (place, result)
    }

    fn refused(self, why: &str) {
        let (_, result) = self.unpack();
        let text = crate::error::message(&result.unwrap_err());
        assert!(text.contains(why), "{text}");
    }
}

fn own_ids() -> (u32, u32) {
    (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    )
}

/// A root, and beside it what must not be touched.
struct Place {
    base: TempDir,
}

impl Place {
    fn new() -> Self {
        let base = scratch("unpack");
        std::fs::create_dir(base.path().join("root")).unwrap();
        std::fs::create_dir(base.path().join("outside")).unwrap();
        std::fs::write(base.path().join("outside/file"), "untouched").unwrap();
        Self { base }
    }

    fn root_fd(&self) -> rustix::fd::OwnedFd {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(self.path(""), flags, Mode::empty()).unwrap()
    }

    fn notes(&self) -> std::fs::File {
        nameless_file(self.base.path()).unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.base.path().join("root").join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    fn is_whiteout(&self, name: &str) -> bool {
        let metadata = self.path(name).symlink_metadata().unwrap();
        metadata.file_type().is_char_device() && metadata.rdev() == 0
    }

    fn check_outside(&self) {
        let outside = self.base.path().join("outside");
        let names: Vec<_> = std::fs::read_dir(&outside).unwrap().flatten().collect();
        assert_eq!(names.len(), 1);
        let file = outside.join("file");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "untouched");
        assert_eq!(file.metadata().unwrap().nlink(), 1);
        assert_eq!(std::fs::read_dir(self.base.path()).unwrap().count(), 2);
    }
}

fn xattr(path: &Path, name: &str) -> Option<String> {
    let mut value = [0u8; 64];
    let count = rustix::fs::lgetxattr(path, name, &mut value).ok()?;
    Some(String::from_utf8_lossy(&value[..count]).into_owned())
}

#[test]
fn an_ordinary_layer_comes_out_as_it_was() {
    let mut setuid = Tar::header(EntryType::Regular, "bin/su", 2);
    setuid.set_mode(0o4755);
    let (place, result) = Tar::default()
        .dir("./")
        .dir("bin/")
        .raw(setuid, b"su")
        .symlink("bin/sh", "su")
        .hard_link("bin/su2", "./bin/su")
        .hard_link("bin/sh2", "/bin/sh")
        .entry(EntryType::Fifo, "pipe")
        .file("deep/er/file", "x")
        .unpack();
    let done = result.unwrap();
    assert_eq!((done.size, done.entries), (3, 8));
    let su = place.path("bin/su").metadata().unwrap();
    assert_eq!(
        (su.mode() & 0o7777, su.nlink(), su.mtime()),
        (0o4755, 2, 1_000_000_000)
    );
    assert_eq!(place.path("bin").metadata().unwrap().mtime(), 1_000_000_000);
    assert_eq!(place.path("").metadata().unwrap().mtime(), 1_000_000_000);
    assert_eq!(
        std::fs::read_link(place.path("bin/sh2")).unwrap(),
        Path::new("su")
    );
    let sh = place.path("bin/sh").symlink_metadata().unwrap();
    assert_eq!((sh.nlink(), sh.mtime()), (2, 1_000_000_000));
    assert!(place.path("pipe").metadata().unwrap().file_type().is_fifo());
    assert_eq!(
        place.path("deep").metadata().unwrap().mode() & 0o7777,
        0o755
    );
}

#[test]
fn names_that_lead_out_are_refused_and_absolute_ones_stay_in() {
    Tar::default()
        .file("../outside/file", "bad")
        .refused("leads out of the layer");
    Tar::default()
        .file("a/../../outside/file", "bad")
        .refused("leads out of the layer");
    Tar::default().dir("..").refused("leads out of the layer");
    Tar::default()
        .pax(&[("path", "../outside/file")])
        .file("x", "bad")
        .refused("leads out of the layer");
    let (place, result) = Tar::default().file("/etc//./passwd", "in").unpack();
    result.unwrap();
    assert_eq!(place.read("etc/passwd"), "in");
}

#[test]
fn writing_through_a_symlink_stays_inside() {
    for target in [
        "../outside",
        "/outside",
        "../../../../../outside",
        "/proc/self/cwd/../outside",
    ] {
        let (place, result) = Tar::default()
            .symlink("link", target)
            .file("link/file", "bad")
            .dir("link/dir")
            .unpack();
        // It went into the layer, or nowhere.
        if result.is_ok() {
            assert!(place.path("outside").exists(), "{target}");
        }
    }
    // Where the target is in the layer, it is followed, as other engines do.
    let (place, result) = Tar::default()
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .file("lib/file", "x")
        .unpack();
    result.unwrap();
    assert_eq!(place.read("usr/lib/file"), "x");
}

#[test]
fn an_entry_replaces_a_symlink_and_does_not_follow_it() {
    let (place, result) = Tar::default()
        .symlink("file", "../outside/file")
        .file("file", "mine")
        .symlink("dir", "../outside")
        .dir("dir")
        .file("dir/new", "x")
        .unpack();
    result.unwrap();
    assert_eq!(place.read("file"), "mine");
    assert!(place.path("dir").symlink_metadata().unwrap().is_dir());
}

#[test]
fn hard_links_reach_nothing_outside() {
    Tar::default()
        .hard_link("x", "../outside/file")
        .refused("leads out of the layer");
    Tar::default()
        .hard_link("x", "/nothing")
        .refused("cannot find its target");
    Tar::default()
        .symlink("dir", "../outside")
        .hard_link("x", "dir/file")
        .refused("cannot unpack");
    // The link gets a second name, not what it points to.
    let (place, result) = Tar::default()
        .symlink("link", "../outside/file")
        .hard_link("x", "link")
        .file("x", "mine")
        .unpack();
    result.unwrap();
    assert_eq!(place.read("x"), "mine");
    Tar::default()
        .dir("d")
        .hard_link("x", "d")
        .refused("cannot unpack");
    let (place, result) = Tar::default().file("a", "x").hard_link("a", "./a").unpack();
    result.unwrap();
    assert_eq!(place.read("a"), "x");
}

#[test]
fn devices_are_left_out_and_cannot_pose_as_whiteouts() {
    let (place, result) = Tar::default()
        .entry(EntryType::Char, "null")
        .entry(EntryType::Block, "sda")
        .file("after", "x")
        .unpack();
    assert_eq!(result.unwrap().devices_skipped, 2);
    assert!(!place.path("null").exists() && !place.path("sda").exists());
    assert_eq!(place.read("after"), "x");
}

#[test]
fn whiteouts_become_overlayfs_ones() {
    let (place, result) = Tar::default()
        .dir("dir")
        .file("dir/.wh.gone", "")
        .file(".wh.top", "")
        .file("dir/kept", "x")
        .file("dir/.wh.kept", "")
        .file("new/.wh..wh..opq", "")
        .file("new/file", "x")
        .file(".wh..wh.plnk", "")
        .unpack();
    assert!(!result.unwrap().opaque_root);
    assert!(place.is_whiteout("dir/gone") && place.is_whiteout("top"));
    assert_eq!(place.read("dir/kept"), "x");
    assert_eq!(
        xattr(&place.path("new"), "user.overlay.opaque").as_deref(),
        Some("y")
    );
    assert_eq!(xattr(&place.path("dir"), "user.overlay.opaque"), None);
    assert_eq!(std::fs::read_dir(place.path("")).unwrap().count(), 3);
}

#[test]
fn a_directory_after_its_own_whiteout_hides_what_is_below() {
    for tar in [
        Tar::default().file(".wh.d", "").file("d/new", "x"),
        Tar::default().file(".wh.d", "").dir("d").file("d/new", "x"),
        Tar::default().file("d/new", "x").file(".wh.d", ""),
    ] {
        let (place, result) = tar.unpack();
        result.unwrap();
        assert_eq!(place.read("d/new"), "x");
        assert_eq!(
            xattr(&place.path("d"), "user.overlay.opaque").as_deref(),
            Some("y")
        );
    }
}

#[test]
fn an_opaque_root_is_told() {
    let (_, result) = Tar::default().file(".wh..wh..opq", "").unpack();
    assert!(result.unwrap().opaque_root);
}

#[test]
fn whiteouts_of_no_file_are_refused() {
    for name in [".wh.", "a/.wh..", ".wh..."] {
        Tar::default().file(name, "").refused("hides no file");
    }
    // Through a symlink they stay in the layer.
    let (_, result) = Tar::default()
        .symlink("link", "../outside")
        .file("link/.wh.file", "")
        .file("link/.wh..wh..opq", "")
        .unpack();
    drop(result);
}

#[test]
fn only_harmless_attributes_are_set() {
    let (place, result) = Tar::default()
        .pax(&[
            ("SCHILY.xattr.user.note", "hi"),
            ("SCHILY.xattr.user.overlay.opaque", "y"),
            ("SCHILY.xattr.user.overlay.redirect", "/etc"),
            ("SCHILY.xattr.user.containers.override_stat", "0:0:4777"),
            ("SCHILY.xattr.trusted.overlay.opaque", "y"),
            ("mtime", "1000000000.25"),
        ])
        .dir("dir")
        .unpack();
    result.unwrap();
    let dir = place.path("dir");
    assert_eq!(xattr(&dir, "user.note").as_deref(), Some("hi"));
    for name in [
        "user.overlay.opaque",
        "user.overlay.redirect",
        OWNER_XATTR,
        "trusted.overlay.opaque",
    ] {
        assert_eq!(xattr(&dir, name), None, "{name}");
    }
    assert_eq!(dir.metadata().unwrap().mtime_nsec(), 250_000_000);
}

#[test]
fn with_one_id_owners_are_recorded() {
    let mut header = Tar::header(EntryType::Regular, "shadow", 1);
    header.set_uid(0);
    header.set_gid(42);
    header.set_mode(0o2640);
    let (place, result) = Tar::default().raw(header, b"x").unpack_with(Owners::Record);
    result.unwrap();
    let path = place.path("shadow");
    assert_eq!(xattr(&path, OWNER_XATTR).as_deref(), Some("0:42:2640"));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn types_change_and_duplicates_count_last() {
    let (place, result) = Tar::default()
        .file("a", "first")
        .file("a", "second")
        .dir("b")
        .file("b/c/d", "x")
        .file("b", "a file now")
        .file("e", "x")
        .dir("e")
        .file("e/f", "y")
        .unpack();
    result.unwrap();
    assert_eq!(place.read("a"), "second");
    assert_eq!(place.read("b"), "a file now");
    assert_eq!(place.read("e/f"), "y");
}

#[test]
fn a_file_in_the_way_of_a_directory_is_an_error() {
    Tar::default()
        .file("a", "x")
        .file("a/b", "y")
        .refused("cannot unpack \"a/b\"");
    Tar::default()
        .file("./", "x")
        .refused("can only be a directory");
}

#[test]
fn bombs_stop_at_the_limits() {
    let header = Tar::header(EntryType::Regular, "big", 1 << 40);
    Tar::default()
        .raw(header, b"")
        .refused("more than 1048576 bytes");
    let mut many = Tar::default();
    for number in 0..1001 {
        many = many.file(&format!("f{number}"), "");
    }
    many.refused("more than 1000 entries");
    let mut sparse = Tar::header(EntryType::GNUSparse, "sparse", 0);
    let gnu = sparse.as_gnu_mut().unwrap();
    gnu.set_real_size(1 << 40);
    gnu.sparse[0].set_offset(1 << 40);
    Tar::default().raw(sparse, b"").refused("cannot");
}

#[test]
fn pax_sizes_decide() {
    let (place, result) = Tar::default()
        .pax(&[("size", "600")])
        .raw(Tar::header(EntryType::Regular, "a", 3), &[b'x'; 600])
        .file("b", "y")
        .unpack();
    result.unwrap();
    assert_eq!(place.read("a").len(), 600);
    assert_eq!(place.read("b"), "y");
}

#[test]
fn a_truncated_tar_is_an_error() {
    let mut tar = Tar::default().file("a", &"x".repeat(2000)).0;
    tar.truncate(1024);
    let place = Place::new();
    let limits = Limits {
        entries: 10,
        bytes: 1 << 20,
    };
    let result = extract(
        tar.as_slice(),
        place.root_fd(),
        place.notes(),
        Owners::Set,
        None,
        limits,
    );
    let text = crate::error::message(&result.unwrap_err());
    assert!(text.contains("the tar ends 1488 bytes too early"), "{text}");
}

#[test]
fn unknown_types_and_broken_links_are_refused() {
    Tar::default()
        .entry(EntryType::new(b'Q'), "x")
        .refused("entries of type 'Q' are unknown");
    Tar::default()
        .entry(EntryType::Symlink, "x")
        .refused("link without a target");
}
