//! SIGKILL at random moments of pull, load, rmi and prune: an image is there and right, every file of it, or it is not
//! there; `system check` finds nothing to repair, and what is left over goes with the next prune.
//!
//! RBOX_TEST_IMAGE_KILLS says how often (40), RBOX_TEST_SEED makes a run like an earlier one.
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::Rbox;
use crate::support::account;
use crate::support::hostile;
use crate::support::images;
use crate::support::random;
use crate::support::random::Random;
use crate::support::registry;
use crate::support::skip::skip;

/// In the longest, a pull by a debug build is over.
const LONGEST: Duration = Duration::from_millis(700);
/// Kills between two prunes.
const EPOCH: u32 = 10;

#[test]
fn images_are_whole_or_not_there() {
    if !account::is_root() {
        skip("only root can read files of sub-ids, to hash them");
        return;
    }
    random::repeatable(kill_and_look);
}

fn kill_and_look(random: &mut Random) {
    let count = random::count("RBOX_TEST_IMAGE_KILLS", 40);
    let right = reference();
    let rbox = Rbox::new();
    rbox.allow_orphans();
    let mut done = 0;
    while done < count {
        for _ in 0..EPOCH.min(count - done) {
            let words = command(random);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let call = rbox.args(&words).stdout_any().stderr_any().status_any();
            let running = call.spawn();
            let moment = random.time(LONGEST);
            std::thread::sleep(moment);
            running.signal(Signal::KILL);
            running.wait();
            random.tell(format!("{} for {moment:?}", words.join(" ")));
            assert_right(&rbox, &right);
            done += 1;
            // It sweeps: most commands meet what the killed one has left.
            if random.below(4) == 0 {
                assert_whole(&rbox, &["--quick"]);
            }
        }
        rbox.assert_no_processes();
        assert_whole(&rbox, &[]);
        rbox.args(["image", "prune", "-f"]).stdout_any().run();
        assert_clean(&rbox);
        rbox.args(["system", "check"]).run();
    }
    for words in every_command() {
        let call = rbox.args(&words).stdout_any().stderr_any().status_any();
        call.run();
        assert_right(&rbox, &right);
    }
}

fn command(random: &mut Random) -> Vec<String> {
    let mut all = every_command();
    let chosen = random.below(all.len());
    all.swap_remove(chosen)
}

fn every_command() -> Vec<Vec<String>> {
    let registry = registry::http();
    let pull = |name: &str| {
        let image = registry.reference(name);
        vec![
            "pull".into(),
            "-q".into(),
            "--tls-verify=false".into(),
            image,
        ]
    };
    let load = |path: std::path::PathBuf| {
        vec![
            "load".into(),
            "-q".into(),
            "-i".into(),
            path.display().to_string(),
        ]
    };
    let words = |text: &str| text.split(' ').map(String::from).collect();
    vec![
        pull("busybox"),
        pull("zstd/busybox"),
        pull("testinit"),
        load(images::get("busybox").docker_archive),
        load(images::get("testinit").oci_archive),
        words("rmi -f busybox testinit"),
        words("rmi -a -f"),
        words("image prune -f"),
        words("image prune -a -f"),
    ]
}

type Tree = BTreeMap<String, String>;

/// The files of all layers as they must be, from a store in which nothing was killed.
fn reference() -> BTreeMap<String, Tree> {
    let rbox = Rbox::new();
    rbox.load("busybox");
    rbox.load("testinit");
    let right = layers(&rbox);
    rbox.args(["rmi", "-a", "-f"]).stdout_any().run();
    right
}

fn layers(rbox: &Rbox) -> BTreeMap<String, Tree> {
    let mut layers = BTreeMap::new();
    for entry in fs::read_dir(rbox.data().join("layers"))
        .into_iter()
        .flatten()
    {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !name.starts_with('.') {
            let mut tree = Tree::new();
            describe(&path.join("diff"), "", &mut tree);
            layers.insert(name, tree);
        }
    }
    layers
}

fn describe(root: &Path, at: &str, tree: &mut Tree) {
    for entry in fs::read_dir(root.join(at)).unwrap().flatten() {
        let name = format!("{at}{}", entry.file_name().to_string_lossy());
        let path = root.join(&name);
        let file = path.symlink_metadata().unwrap();
        let content = if file.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if file.is_file() {
            hostile::digest(&fs::read(&path).unwrap())
        } else {
            String::new()
        };
        // A directory that the layer does not name has the time at which it was made.
        let time = if file.is_dir() { 0 } else { file.mtime() };
        let told = (file.mode(), file.uid(), file.gid(), time, content);
        tree.insert(name.clone(), format!("{told:?}"));
        if file.is_dir() {
            describe(root, &format!("{name}/"), tree);
        }
    }
}

/// What has its place is right: layers by their files, blobs by their digests, images by what belongs to them.
fn assert_right(rbox: &Rbox, right: &BTreeMap<String, Tree>) {
    let found = layers(rbox);
    for (name, tree) in &found {
        let right = right.get(name).expect("a layer of one of the images");
        assert_eq!(tree, right, "layer {name} is damaged");
    }
    for path in fs::read_dir(rbox.data().join("blobs/sha256"))
        .into_iter()
        .flatten()
    {
        let path = path.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !name.starts_with('.') {
            let bytes = fs::read(&path).unwrap();
            assert_eq!(hostile::hex(&bytes), name, "a blob is damaged");
        }
    }
    for path in fs::read_dir(rbox.data().join("images/ids"))
        .into_iter()
        .flatten()
    {
        let path = path.unwrap().path();
        if path
            .file_name()
            .unwrap()
            .as_encoded_bytes()
            .starts_with(b".")
        {
            continue;
        }
        let record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for layer in record["layers"].as_array().unwrap() {
            let digits = layer.as_str().unwrap().trim_start_matches("sha256:");
            assert!(found.contains_key(digits), "an image lacks layer {digits}");
        }
        let manifest = record["manifest_digest"].as_str().unwrap();
        let manifest = manifest.trim_start_matches("sha256:");
        assert!(rbox.data().join("blobs/sha256").join(manifest).exists());
    }
    rbox.args(["images", "-q"]).stdout_any().run();
}

/// Nothing is to be repaired; what nothing refers to is no damage.
fn assert_whole(rbox: &Rbox, options: &[&str]) {
    let check = rbox.args(["system", "check"]).args(options);
    let found = check.stdout_any().run().stdout;
    let is_left_over = |line: &str| line.starts_with("Unreferenced ");
    assert!(found.lines().all(is_left_over), "{found}");
}

/// Nothing but what images refer to, which the check of leaks looks at more closely.
fn assert_clean(rbox: &Rbox) {
    for dir in ["layers", "blobs/sha256", "images/ids", "images/refs", "tmp"] {
        for entry in fs::read_dir(rbox.data().join(dir)).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            assert!(!name.starts_with('.'), "{dir}/{name} is left over");
        }
    }
}
