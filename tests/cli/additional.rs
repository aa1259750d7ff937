//! Stores of images for all users of a machine: made by one, read by others.
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use crate::support::Rbox;
use crate::support::archive::Entry;
use crate::support::archive::Tar;
use crate::support::call::Call;
use crate::support::hostile;
use crate::support::hostile::Image;
use crate::support::liar;

const FLAGS: &str = "--tls-verify=false";

/// A shared store, and who owns it.
struct Shared {
    owner: Rbox,
    path: PathBuf,
}

impl Shared {
    fn of(owner: Rbox) -> Self {
        let name = owner.dir().file_name().unwrap().to_str().unwrap();
        let path = std::env::temp_dir().join(name.replace("rb.", "rb.shared."));
        owner.args(["system", "share"]).arg(&path).run();
        Self { owner, path }
    }

    fn with(owner: Rbox, image: &Image) -> Self {
        let shared = Self::of(owner);
        let archive = shared.owner.write("odd.tar", image.oci_archive());
        shared.load(&archive);
        shared
    }

    fn load(&self, archive: &Path) {
        self.own(["load", "-q", "-i"])
            .arg(archive)
            .stdout_any()
            .run();
    }

    /// A call of its owner.
    fn own<const N: usize>(&self, args: [&str; N]) -> Call<'_> {
        let call = self.owner.args(["--imagestore"]).arg(&self.path);
        call.args(args)
    }

    /// A call of somebody else.
    fn by<'a, const N: usize>(&self, rbox: &'a Rbox, args: [&str; N]) -> Call<'a> {
        let option = format!("additionalimagestore={}", self.path.display());
        rbox.args(["--storage-opt", &option]).args(args)
    }

    fn layers(&self) -> Vec<PathBuf> {
        entries(&self.path.join("layers"))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.path).ok();
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Bytes on disk.
fn blocks(path: &Path) -> u64 {
    let metadata = path.symlink_metadata().unwrap();
    let below = if metadata.is_dir() {
        entries(path).iter().map(|path| blocks(path)).sum()
    } else {
        0
    };
    metadata.blocks() * 512 + below
}

/// Removes what was unpacked for this user.
fn clean(rbox: &Rbox) {
    rbox.args(["image", "prune", "-f"]).stdout_any().run();
    let left = entries(&rbox.data().join("layers"));
    assert!(left.is_empty(), "{left:?}");
}

fn large(byte: u8) -> Vec<u8> {
    vec![byte; 100_000]
}

/// Busybox, and large files in all the ways in which a tar may have them.
fn image() -> Image {
    let mut tar = Tar::default();
    tar.dir("d", 0o700)
        .file("d/twice", 0o644, &large(b'a'))
        .symlink("link", "d")
        .file("link/through", 0o644, &large(b'b'))
        .file("d/twice", 0o600, &large(b'c'))
        .hardlink("d/other", "d/twice")
        .entry(&Entry {
            path: b"d/set-id",
            mode: 0o4755,
            uid: 8,
            gid: 12,
            content: &large(b'd'),
            ..Entry::default()
        })
        .file("small", 0o644, b"small\n");
    Image::busybox().layer(&mut tar)
}

const LOOK: &str = "b() { /bin/busybox \"$@\"; }
    for file in twice through other set-id; do b head -c 4 /d/$file; b wc -c < /d/$file; done
    cat /small; b stat -c '%a %h %s' /d /d/twice /d/set-id";
const SEEN: &str = "cccc100000\nbbbb100000\ncccc100000\ndddd100000\nsmall\n\
    700 2 4096\n600 2 100000\n4755 1 100000\n";

const CHANGE: &str = "b() { /bin/busybox \"$@\"; }
    echo end >> /d/twice && b chown 33:33 /d/set-id && b chmod 755 /d/set-id && b chmod 644 /d/through && b mv /d/through /d/moved &&
    b ln /d/set-id /d/linked && b rm /small && b mkdir /own && b cp /bin/busybox /own/busybox &&
    b tail -c 5 /d/twice; b wc -c < /d/twice; b stat -c '%a %h %s' /d/moved /d/linked; /own/busybox head -c 2 /d/linked";
const CHANGED: &str = "cend\n100004\n644 1 100000\n755 2 100000\ndd";

#[test]
fn an_image_of_a_shared_store_is_as_one_of_ones_own() {
    let pairs = [
        (Rbox::as_root(), Some(Rbox::new())),
        (Rbox::as_root(), Rbox::without_subids()),
        (Some(Rbox::new()), Rbox::as_root()),
        (Rbox::without_subids(), Some(Rbox::new())),
    ];
    for (owner, rbox) in pairs {
        let (Some(owner), Some(rbox)) = (owner, rbox) else {
            return;
        };
        let has_ids = rbox.account().name != "rboxnosub";
        owner.args(["version"]).stdout_any().stderr_any().run();
        let shared = Shared::of(owner);
        let archive = shared.owner.write("odd.tar", image().oci_archive());
        shared
            .own(["load", "-q", "-i"])
            .arg(&archive)
            .stdout_any()
            .stderr_any()
            .run();
        shared
            .by(&rbox, ["run", "--rm", "odd", "sh", "-c", LOOK])
            .stdout(SEEN)
            .stderr_any()
            .run();
        if has_ids {
            shared
                .by(&rbox, ["run", "--rm", "odd", "/bin/busybox", "stat"])
                .args(["-c", "%u:%g", "/d/set-id", "/d"])
                .stdout("8:12\n0:0\n")
                .run();
        }
        let own = blocks(&rbox.data().join("layers"));
        assert!(
            own < 200_000,
            "{own} bytes of 400,000 and a busybox are copied"
        );
        shared
            .by(&rbox, ["run", "--name", "c", "odd", "sh", "-c", CHANGE])
            .stdout(CHANGED)
            .run();
        // Once more: of a container that exists nothing need be said.
        rbox.args(["start", "-a", "c"])
            .stdout_any()
            .stderr_any()
            .status_any()
            .run();
        rbox.args(["diff", "c"])
            .stdout_has("C /d/twice")
            .stdout_has("D /small")
            .stdout_has("A /d/moved")
            .stdout_has("D /d/through")
            .run();
        shared
            .by(&rbox, ["commit", "-q", "c", "more"])
            .stdout_any()
            .run();
        shared
            .by(&rbox, ["run", "--rm", "more", "sh", "-c"])
            .arg("/own/busybox tail -c 5 /d/twice; /bin/busybox head -c 2 /d/linked")
            .stdout("\nend\ndd")
            .run();
        shared
            .by(
                &rbox,
                ["run", "--rm", "--mount", "type=image,src=odd,dst=/i"],
            )
            .args(["odd", "sh", "-c", "/bin/busybox head -c 2 /i/d/twice"])
            .stdout("cc")
            .run();
        rbox.remove(&["c"]);
        shared.by(&rbox, ["rmi", "more"]).stdout_any().run();
        clean(&rbox);
    }
}

#[test]
fn ids_of_ones_own_choice_work_on_shared_images() {
    let Some(owner) = Rbox::as_root() else { return };
    let (shared, rbox) = (Shared::with(owner, &image()), Rbox::new());
    shared
        .by(
            &rbox,
            [
                "run",
                "--rm",
                "--userns=keep-id",
                "-u",
                "0",
                "odd",
                "sh",
                "-c",
                LOOK,
            ],
        )
        .stdout(SEEN)
        .stderr_any()
        .run();
    clean(&rbox);
}

#[test]
fn images_of_others_are_listed_and_not_changed() {
    let Some(owner) = Rbox::as_root() else { return };
    let (shared, rbox) = (Shared::with(owner, &Image::busybox()), Rbox::new());
    let store = shared.path.display().to_string();
    let table = "{{.Repository}} {{.ReadOnly}}";
    let list = |text: &str| {
        shared
            .by(&rbox, ["images", "--format", table])
            .stdout(text)
            .run();
    };
    list("localhost/odd true\n");
    rbox.args(["images", "-q"]).stdout("").run();
    for (wanted, count) in [("true", 1), ("false", 0)] {
        let filter = format!("readonly={wanted}");
        let ids = shared.by(&rbox, ["images", "-q", "--filter"]);
        let ids = ids.arg(filter).stdout_any().run().stdout;
        assert_eq!(ids.lines().count(), count, "{ids}");
    }
    for (verb, kind) in [("rmi", "remove"), ("untag", "untag")] {
        shared
            .by(&rbox, [verb, "odd"])
            .stderr(format!(
                "Error: cannot {kind} image \"odd\": it is in additional store \"{store}\", which is read-only\n\
                 Hint: the owner of the store removes it with `rbox --imagestore {store} rmi`\n"
            ))
            .status(125)
            .run();
    }
    shared
        .by(&rbox, ["rmi", "-f", "odd"])
        .stderr_has("which is read-only")
        .status(125)
        .run();
    shared.by(&rbox, ["rmi", "-a"]).run();
    shared.by(&rbox, ["image", "prune", "-a", "-f"]).run();
    shared.by(&rbox, ["system", "check"]).run();
    shared
        .by(
            &rbox,
            ["system", "df", "--format", "{{.Type}} {{.TotalCount}}"],
        )
        .stdout_has("Images 0\n")
        .run();
    shared
        .by(&rbox, ["info", "-f", "{{.store.additionalImageStores}}"])
        .stdout(format!("[{store}]\n"))
        .run();
    shared
        .by(&rbox, ["history", "-q", "--no-trunc", "odd"])
        .stdout_any()
        .run();
    let saved = rbox.work("saved.tar");
    shared
        .by(&rbox, ["save", "-q", "--format", "oci-archive", "-o"])
        .arg(&saved)
        .arg("odd")
        .run();
    let config = Image::busybox().config_bytes();
    let tar = std::fs::read(saved).unwrap();
    assert!(tar.windows(config.len()).any(|bytes| bytes == config));
    // A name of his own makes it his own.
    shared.by(&rbox, ["tag", "odd", "mine"]).run();
    shared
        .by(&rbox, ["images", "--format", table, "mine"])
        .stdout("localhost/mine false\n")
        .run();
    shared
        .by(&rbox, ["run", "--rm", "mine", "echo", "own"])
        .stdout("own\n")
        .run();
    shared.by(&rbox, ["rmi", "mine"]).stdout_any().run();
    list("localhost/odd true\n");
    clean(&rbox);
}

#[test]
fn what_a_shared_store_has_is_not_fetched() {
    let Some(owner) = Rbox::as_root() else { return };
    let (shared, rbox) = (Shared::with(owner, &Image::busybox()), Rbox::new());
    let mut more = Tar::default();
    let more = Image::busybox().layer(more.file("more", 0o644, b"more\n"));
    let (host, seen) = liar::start_seen(liar::truth(&more));
    let name = format!("{host}/odd:latest");
    shared
        .by(&rbox, ["pull", "-q", FLAGS, &name])
        .stdout_any()
        .run();
    let asked = seen.lock().unwrap().join("\n");
    let was_asked = |bytes: &[u8]| asked.contains(&format!("GET {}", liar::blob(bytes)));
    assert!(!was_asked(&more.layers[0]), "{asked}");
    assert!(was_asked(&more.layers[1]), "{asked}");
    shared
        .by(&rbox, ["run", "--rm", &name, "cat", "/more"])
        .stdout("more\n")
        .run();
    shared.by(&rbox, ["rmi", &name]).stdout_any().run();
    clean(&rbox);
}

#[test]
fn many_users_share_a_store_at_once() {
    let Some(owner) = Rbox::as_root() else { return };
    let shared = Shared::with(owner, &image());
    let users = [
        Some(Rbox::new()),
        Some(Rbox::new()),
        Rbox::without_subids(),
        Rbox::as_root(),
    ];
    let users: Vec<Rbox> = users.into_iter().flatten().collect();
    let started: Vec<_> = users
        .iter()
        .flat_map(|rbox| [rbox, rbox])
        .map(|rbox| {
            let call = shared.by(rbox, ["run", "--rm", "odd", "sh", "-c", LOOK]);
            call.stdout(SEEN).stderr_any().spawn()
        })
        .collect();
    for running in started {
        running.wait();
    }
    users.iter().for_each(clean);
}

#[test]
fn what_runs_is_not_taken_away_by_the_owner() {
    let Some(owner) = Rbox::as_root() else { return };
    let (shared, rbox) = (Shared::with(owner, &image()), Rbox::new());
    shared
        .by(&rbox, ["run", "-d", "--name", "c", "odd", "sleep", "1000"])
        .stdout("[ID]\n")
        .run();
    let before = shared.layers();
    shared.own(["rmi", "odd"]).stdout_any().run();
    shared.own(["image", "prune", "-f"]).run();
    assert_eq!(shared.layers(), before);
    rbox.args(["exec", "c", "sh", "-c", LOOK])
        .stdout(SEEN)
        .run();
    rbox.args(["stop", "-t", "0", "c"]).stdout_any().run();
    // Its supervisor ends a moment after it.
    let deadline = Instant::now() + Duration::from_secs(5);
    while !shared.layers().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", shared.layers());
        shared.own(["image", "prune", "-f"]).run();
    }
    let path = shared.path.display();
    let why = format!("layer [ID] is no longer in additional store \"{path}\"");
    for verb in ["start", "mount"] {
        rbox.args([verb, "c"])
            .stderr_has(&why)
            .stderr_has("create the container anew")
            .status(125)
            .run();
    }
    rbox.remove(&["c"]);
    clean(&rbox);
}

#[test]
fn nothing_but_images_comes_to_others() {
    let Some(owner) = Rbox::as_root() else { return };
    let (shared, rbox) = (Shared::with(owner, &image()), Rbox::new());
    let path = shared.path.to_str().unwrap();
    rbox.program("find")
        .args([
            path, "(", "-perm", "/7000", "-o", "-perm", "/022", "-o", "-type", "f",
        ])
        .args(["-perm", "/111", ")", "-not", "-type", "d", "-print"])
        .stdout("")
        .stderr_any()
        .status_any()
        .run();
    for place in ["cache", "containers", "events", "names", "tmp"] {
        let mode = shared.path.join(place).metadata().unwrap().mode();
        assert_eq!(mode & 0o777, 0o700, "{place}");
    }
    rbox.program("cat")
        .arg(shared.path.join("lock"))
        .stderr_has("Permission denied")
        .status(1)
        .run();
    // Containers are not in it, and it becomes nobody's own store.
    shared
        .own(["run", "odd", "true"])
        .stderr(
            "Error: --imagestore: a store of images for all users has images alone\n\
             Hint: use its images with `rbox --storage-opt additionalimagestore=PATH`\n",
        )
        .status(125)
        .run();
    rbox.args(["--imagestore", path, "images"])
        .stderr(format!(
            "Error: cannot use image store \"{path}\": it belongs to uid 0, and you are uid {}\n",
            rbox.account().uid
        ))
        .status(125)
        .run();
    let above = shared.owner.work("above");
    std::fs::create_dir(&above).unwrap();
    std::os::unix::fs::symlink(&shared.path, above.join("rbox")).unwrap();
    shared
        .owner
        .args(["images"])
        .env("XDG_DATA_HOME", &above)
        .stderr_has("holds images for all users")
        .status(125)
        .run();
    assert_eq!(shared.path.metadata().unwrap().mode() & 0o777, 0o755);
}

#[test]
fn stores_that_cannot_be_used_say_why() {
    let Some(owner) = Rbox::as_root() else { return };
    owner.args(["images", "-q"]).run();
    let rbox = Rbox::new();
    let shared = Shared::of(owner);
    let says = |path: &Path, why: &str| {
        let option = format!("additionalimagestore={}", path.display());
        rbox.args(["--storage-opt", &option, "images"])
            .stderr_has(format!(
                "Error: cannot use additional store \"{}\": {why}",
                path.display()
            ))
            .stderr_has("Hint: ")
            .status(125)
            .run();
    };
    says(Path::new("/nowhere"), "there is no such directory\n");
    says(&shared.owner.data(), "Permission denied (os error 13)\n");
    says(Path::new("/usr"), "it is no store to be shared\n");
    let layers = shared.path.join("layers");
    let mode = |mode| std::fs::set_permissions(&layers, PermissionsExt::from_mode(mode)).unwrap();
    mode(0o777);
    let why = format!("others than its owner can write to {}\n", layers.display());
    says(&shared.path, &why);
    mode(0o755);
    for word in ["size=1", "additionalimagestore=a"] {
        rbox.args(["--storage-opt", word, "images"])
            .stderr_has(word)
            .status(125)
            .run();
    }
}

#[test]
fn storage_conf_names_stores_and_breaks_nothing() {
    let Some(owner) = Rbox::as_root() else { return };
    let (shared, rbox) = (Shared::with(owner, &Image::busybox()), Rbox::new());
    let list = |conf: &str| {
        let conf = rbox.write("storage.conf", conf);
        let list = rbox.args(["images", "--format", "{{.Repository}}"]);
        let list = list.env("CONTAINERS_STORAGE_CONF", conf);
        list.stdout_any().run().stdout
    };
    let path = shared.path.display();
    let conf = format!(
        "[storage]\ndriver = \"overlay\"\nrunroot = \"/r\"\n[storage.options]\n\
         additionalimagestores = [\"/nowhere\", \"{path}\"]\n[storage.options.overlay]\nmountopt = \"nodev\"\n"
    );
    assert_eq!(list(&conf), "localhost/odd\n");
    assert_eq!(list("[storage]\ndriver = \"vfs\"\n"), "");
    assert_eq!(list("no toml"), "");
    // What is not there may be in the store that cannot be used.
    let conf = rbox.write("storage.conf", conf);
    rbox.args(["run", "--pull", "never", "--rm", "other"])
        .env("CONTAINERS_STORAGE_CONF", &conf)
        .stderr_any()
        .status(125)
        .run();
    rbox.args(["inspect", "--type", "image", "other"])
        .env("CONTAINERS_STORAGE_CONF", &conf)
        .stdout_any()
        .stderr_has("cannot use additional store \"/nowhere\": there is no such directory")
        .status(125)
        .run();
    rbox.args(["info", "-f", "{{.store.additionalImageStores}}"])
        .env("CONTAINERS_STORAGE_CONF", &conf)
        .stdout(format!(
            "[{path} /nowhere: cannot be used: there is no such directory]\n"
        ))
        .run();
    // The command line stands against the file.
    rbox.args(["--storage-opt=", "images", "-q"])
        .env("CONTAINERS_STORAGE_CONF", &conf)
        .stdout("")
        .run();
}

#[test]
fn a_hostile_owner_keeps_nobody_waiting() {
    let Some(owner) = Rbox::as_root() else { return };
    let (shared, rbox) = (Shared::with(owner, &Image::busybox()), Rbox::new());
    let config = Image::busybox().config_bytes();
    let blob = shared.path.join("blobs/sha256").join(hostile::hex(&config));
    let packed = shared.layers()[0].join("tar.zst");
    let fifo = |path: &Path| {
        let kept = path.with_extension("kept");
        std::fs::rename(path, kept).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o644.into()).unwrap();
    };
    fifo(&packed);
    shared
        .by(&rbox, ["run", "--rm", "odd", "true"])
        .stderr_has("cannot take it from additional store \"/tmp/")
        .stderr_has("it is no regular file\nHint: `rbox pull --policy always`")
        .status(125)
        .run();
    // Other bytes are no better.
    std::fs::remove_file(&packed).unwrap();
    std::fs::write(&packed, "zstd").unwrap();
    shared
        .by(&rbox, ["run", "--rm", "odd", "true"])
        .stderr_has("cannot take it from additional store \"/tmp/")
        .status(125)
        .run();
    fifo(&blob);
    shared
        .by(&rbox, ["history", "odd"])
        .stderr_has("it is no regular file")
        .status(125)
        .run();
    let record = entries(&shared.path.join("images/ids")).remove(0);
    fifo(&record);
    shared
        .by(&rbox, ["images", "-q"])
        .stderr_has("it is no regular file")
        .run();
    clean(&rbox);
}
