//! Pulls that are interrupted go on where they were, those at once share their work, and nothing breaks the other:
//! pull, load, run and prune at the same time.
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;

use crate::support::Rbox;
use crate::support::call::Running;
use crate::support::cutter;
use crate::support::cutter::Cutter;
use crate::support::cutter::Then;
use crate::support::images;
use crate::support::registry;

/// Of the layer of busybox, which has about a million bytes.
const SOME: usize = 400_000;

struct World {
    rbox: Rbox,
    cutter: Cutter,
    layer: String,
}

impl World {
    fn new() -> Self {
        Self::of(Rbox::new(), images::layout("busybox"))
    }

    fn of(rbox: Rbox, layout: PathBuf) -> Self {
        Self {
            rbox,
            layer: cutter::layers(&layout).remove(0),
            cutter: Cutter::start(layout),
        }
    }

    fn image(&self) -> String {
        format!("{}/some/busybox", self.cutter.host)
    }

    fn pull(&self) -> Running<'_> {
        self.rbox
            .args(["pull", "-q", "--tls-verify=false", &self.image()])
            .stdout_any()
            .stderr_any()
            .status_any()
            .spawn()
    }

    fn pull_whole(&self) {
        let pull = ["pull", "-q", "--tls-verify=false", &self.image()];
        self.rbox.args(pull).stdout("[ID]\n").run();
        self.assert_right();
    }

    fn partial(&self) -> PathBuf {
        let digits = self.layer.trim_start_matches("sha256:");
        self.blobs().join(format!(".part-{digits}"))
    }

    fn blobs(&self) -> PathBuf {
        self.rbox.data().join("blobs/sha256")
    }

    fn wait_for_partial(&self, bytes: usize) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.partial().metadata().map_or(0, |file| file.len()) < bytes as u64 {
            assert!(Instant::now() < deadline, "the partial blob stays short");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where the layer was asked for from.
    fn asked(&self) -> Vec<usize> {
        let asked = self.cutter.asked().into_iter();
        asked
            .filter(|(digest, _)| *digest == self.layer)
            .map(|(_, from)| from)
            .collect()
    }

    /// The layer is kept byte for byte, and unpacked.
    fn assert_right(&self) {
        let path = cutter::blob(&images::layout("busybox"), &self.layer);
        let kept = self.blobs().join(self.layer.trim_start_matches("sha256:"));
        assert!(std::fs::read(kept).unwrap() == std::fs::read(path).unwrap());
        assert!(!self.partial().exists());
        self.rbox
            .args(["run", "--rm", "--pull=never", &self.image(), "echo", "hi"])
            .stdout("hi\n")
            .run();
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

#[test]
fn a_pull_goes_on_where_it_was_killed() {
    let world = World::new();
    world.cutter.limit(SOME, Then::Silence);
    let pull = world.pull();
    world.wait_for_partial(SOME);
    pull.signal(Signal::KILL);
    pull.wait();
    assert_eq!(world.asked(), [0]);
    world.cutter.no_limit();
    world.pull_whole();
    assert_eq!(world.asked(), [SOME]);
}

/// Its bytes are not kept as they come once it is whole.
#[test]
fn a_layer_without_compression_is_gone_on_with_too() {
    let rbox = Rbox::with_busybox();
    let layout = rbox.work("plain");
    let place = format!("oci:{}:latest", layout.display());
    rbox.args(["push", "-q", "--compression-format=none", "busybox", &place])
        .run();
    rbox.args(["rmi", "-f", "busybox"]).stdout_any().run();
    let world = World::of(rbox, layout);
    let pull_whole = || {
        let pull = ["pull", "-q", "--tls-verify=false", &world.image()];
        world.rbox.args(pull).stdout("[ID]\n").run();
        assert!(!world.partial().exists());
        world
            .rbox
            .args(["run", "--rm", "--pull=never", &world.image(), "echo", "hi"])
            .stdout("hi\n")
            .run();
    };
    world.cutter.limit(SOME, Then::Silence);
    let pull = world.pull();
    world.wait_for_partial(SOME);
    pull.signal(Signal::KILL);
    pull.wait();
    world.cutter.no_limit();
    pull_whole();
    assert_eq!(world.asked(), [0, SOME]);
    // What an attacker, or a bad disk, has made of the beginning is seen at the end.
    world
        .rbox
        .args(["rmi", "-f", &world.image()])
        .stdout_any()
        .run();
    std::fs::write(world.partial(), vec![b'x'; SOME]).unwrap();
    world.rbox.own(&world.partial());
    pull_whole();
}

#[test]
fn ctrl_c_leaves_what_can_be_gone_on_with_and_nothing_else() {
    for signal in [Signal::INT, Signal::TERM] {
        let world = World::new();
        world.cutter.limit(SOME, Then::Silence);
        let pull = world.pull();
        world.wait_for_partial(SOME);
        pull.signal(signal);
        let ended = std::os::unix::process::ExitStatusExt::signal(&pull.wait().status);
        assert_eq!(ended, Some(signal.as_raw()));
        world.rbox.assert_no_processes();
        let data = world.rbox.data();
        let locks = |name: &String| !name.starts_with(".lock-");
        let mut layers = names_in(&data.join("layers"));
        layers.retain(locks);
        assert_eq!(layers, [""; 0]);
        assert_eq!(names_in(&data.join("tmp")), [""; 0]);
        let partial = world.partial();
        let partial = partial.file_name().unwrap().to_str().unwrap();
        assert_eq!(names_in(&world.blobs()), [partial]);
        world.cutter.no_limit();
        world.pull_whole();
        assert_eq!(world.asked(), [0, SOME]);
    }
}

#[test]
fn connections_that_break_are_taken_up() {
    let world = World::new();
    world.cutter.limit(SOME, Then::Cut);
    world.pull_whole();
    assert_eq!(world.asked(), [0, SOME, 2 * SOME]);
}

#[test]
fn a_damaged_beginning_is_no_obstacle() {
    let world = World::new();
    // Makes the store.
    world.rbox.args(["images", "-q"]).run();
    for garbage in [vec![0; SOME], vec![0x1f; 2_000_000]] {
        let longer = garbage.len() > 1_100_000;
        std::fs::write(world.partial(), garbage).unwrap();
        world.rbox.own(&world.partial());
        world.pull_whole();
        // More than the blob has is not gone on with.
        let expected: &[usize] = if longer { &[0] } else { &[SOME, 0] };
        assert_eq!(world.asked(), expected);
        world.rbox.args(["rmi", &world.image()]).stdout_any().run();
    }
}

#[test]
fn prune_removes_what_was_interrupted() {
    let world = World::new();
    world.cutter.limit(SOME, Then::Silence);
    let pull = world.pull();
    world.wait_for_partial(SOME);
    // In use: it stays.
    world.rbox.args(["image", "prune", "-f"]).run();
    assert!(world.partial().exists());
    pull.signal(Signal::KILL);
    pull.wait();
    world.rbox.assert_no_processes();
    // Removing another image does not spoil the next pull; pruning does.
    world.rbox.load("testinit");
    world.rbox.args(["rmi", "testinit"]).stdout_any().run();
    assert!(world.partial().exists());
    world.rbox.args(["image", "prune", "-f"]).run();
    assert_eq!(names_in(&world.blobs()), [""; 0]);
    assert_eq!(names_in(&world.rbox.data().join("layers")), [""; 0]);
}

#[test]
fn pulls_at_once_share_the_work() {
    let world = World::new();
    world.cutter.limit(SOME, Then::Silence);
    let pulls = [world.pull(), world.pull(), world.pull()];
    world.wait_for_partial(SOME);
    std::thread::sleep(Duration::from_millis(300));
    world.cutter.no_limit();
    for pull in pulls {
        let output = pull.wait();
        assert!(output.status.success(), "{}", output.stderr);
    }
    assert_eq!(world.asked(), [0]);
    world.assert_right();
}

/// The second goes on with what the first, which is killed, has begun.
#[test]
fn who_waits_for_a_killed_pull_goes_on_with_it() {
    let world = World::new();
    world.cutter.limit(SOME, Then::Silence);
    let first = world.pull();
    world.wait_for_partial(SOME);
    let second = world.pull();
    std::thread::sleep(Duration::from_millis(300));
    first.signal(Signal::KILL);
    first.wait();
    world.cutter.no_limit();
    let output = second.wait();
    assert!(output.status.success(), "{}", output.stderr);
    assert_eq!(world.asked(), [0, SOME]);
    world.assert_right();
    // The second swept before there was anything to sweep.
    world.rbox.args(["image", "prune", "-f"]).run();
}

/// Skopeo's zstd:chunked: several frames, and skippable ones with what other tools want to know. It is kept as it is.
#[test]
fn zstd_chunked_layers_are_read_and_kept() {
    let rbox = Rbox::new();
    let data = rbox.work("registry");
    std::fs::create_dir(&data).unwrap();
    let registry = registry::start(&data, false, "");
    let image = registry.reference("chunked/busybox");
    let source = format!("oci:{}:latest", images::layout("busybox").display());
    rbox.program("skopeo")
        .args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"])
        .args(["--dest-compress", "--dest-compress-format", "zstd:chunked"])
        .args([source, format!("docker://{image}")])
        .run();
    let raw = rbox
        .program("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false"])
        .arg(format!("docker://{image}"))
        .stdout_any()
        .run()
        .stdout;
    let manifest: serde_json::Value = serde_json::from_str(&raw).unwrap();
    let layer = &manifest["layers"][0];
    assert!(
        raw.contains("io.containers.zstd-chunked.manifest-position"),
        "{raw}"
    );
    rbox.args(["pull", "-q", "--tls-verify=false", &image])
        .stdout("[ID]\n")
        .run();
    rbox.args(["run", "--rm", "--pull=never", &image, "echo", "chunked"])
        .stdout("chunked\n")
        .run();
    let digits = layer["digest"].as_str().unwrap();
    let digits = digits.trim_start_matches("sha256:");
    let kept = std::fs::read(rbox.data().join("blobs/sha256").join(digits)).unwrap();
    assert_eq!(kept.len() as u64, layer["size"].as_u64().unwrap());
    // RFC 8878: the magic numbers of a frame, and of a skippable one.
    let has = |magic: &[u8]| kept.windows(4).filter(|bytes| *bytes == magic).count();
    assert!(has(&[0x28, 0xb5, 0x2f, 0xfd]) > 1 && has(&[0x50, 0x2a, 0x4d, 0x18]) >= 1);
}

/// How long everything goes on at once.
const STORM: Duration = Duration::from_secs(8);

#[test]
fn pull_load_run_and_prune_at_once() {
    let rbox = Rbox::new();
    let image = registry::http().reference("busybox");
    let archive = images::get("testinit").docker_archive;
    let archive = archive.to_str().unwrap();
    let end = Instant::now() + STORM;
    let again = |args: &[&str], stdout: Option<&str>| {
        while Instant::now() < end {
            let call = rbox.args(args);
            match stdout {
                Some(text) => call.stdout(text).run(),
                None => call.stdout_any().run(),
            };
        }
    };
    let run = [
        "run",
        "--rm",
        "-q",
        "--tls-verify=false",
        &image,
        "echo",
        "hi",
    ];
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                again(
                    &["pull", "-q", "--tls-verify=false", &image],
                    Some("[ID]\n"),
                );
            });
        }
        scope.spawn(|| again(&run, Some("hi\n")));
        scope.spawn(|| again(&["image", "prune", "-f"], None));
        // Removed by its ID while others pull: what they have pulled stays, or they pull again.
        scope.spawn(|| {
            while Instant::now() < end {
                let load = rbox.args(["load", "-q", "-i", archive]);
                load.stdout_any().run();
                rbox.args(["rmi", "testinit"]).stdout_any().run();
            }
        });
    });
    rbox.args(["rmi", &image]).stdout_any().run();
}
