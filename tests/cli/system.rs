//! The store as a whole: `system df`, `prune`, `check`, `reset`.
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::Rbox;
use crate::support::account;
use crate::support::skip::skip;

impl Rbox {
    fn out<const N: usize>(&self, args: [&str; N]) -> String {
        self.args(args).stdout_any().run().stdout
    }

    /// By its type, a row of `system df`.
    fn df(&self, kind: &str) -> Value {
        let rows: Value =
            serde_json::from_str(&self.out(["system", "df", "--format", "json"])).unwrap();
        let rows = rows.as_array().unwrap().iter();
        rows.clone()
            .find(|row| row["Type"] == kind)
            .unwrap()
            .clone()
    }

    /// What the disk gives for a directory of the store, by `du`.
    fn du(&self, dirs: &[&str]) -> u64 {
        let paths = dirs.iter().map(|dir| self.data().join(dir));
        let call = self.program("du").args(["-s", "-B1"]).args(paths);
        let text = call.stdout_any().stderr_any().status_any().run().stdout;
        let sizes = text.lines().filter_map(|line| line.split('\t').next());
        sizes.map(|size| size.parse::<u64>().unwrap()).sum()
    }

    fn only_in(&self, dir: &str) -> PathBuf {
        let mut entries: Vec<PathBuf> = std::fs::read_dir(self.data().join(dir))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.pop().unwrap()
    }

    fn check(&self, args: &[&str], stdout: &str, status: i32) {
        let call = self.args(["system", "check"]).args(args);
        let call = call.stdout(stdout).status(status);
        match status {
            0 => call.run(),
            _ => call.stderr_has("Error: the store is damaged\n").run(),
        };
    }
}

#[test]
fn what_the_disk_gives_is_counted() {
    let rbox = Rbox::with_busybox();
    rbox.load("busybox:labels");
    rbox.args([
        "create", "--name", "one", "-v", "data:/d", "busybox", "true",
    ])
    .stdout("[ID]\n")
    .run();
    rbox.args(["volume", "create", "spare"])
        .stdout("spare\n")
        .run();
    let images = rbox.df("Images");
    assert_eq!(
        (&images["Total"], &images["Active"]),
        (&2.into(), &1.into())
    );
    let size = images["RawSize"].as_u64().unwrap();
    let inside = rbox.du(&["layers", "blobs", "images"]);
    // Directories of the store itself are not counted, and are all that is between.
    assert!(
        size <= inside && inside - size <= 7 * 4096,
        "{size} {inside}"
    );
    // The layer is of both: what is of the unused one alone is its documents.
    let spare = images["RawReclaimable"].as_u64().unwrap();
    assert!((1..=16384).contains(&spare), "{spare}");
    let containers = rbox.df("Containers");
    assert_eq!(
        (&containers["Total"], &containers["Active"]),
        (&1.into(), &0.into())
    );
    assert_eq!(containers["RawSize"], containers["RawReclaimable"]);
    let volumes = rbox.df("Local Volumes");
    assert_eq!(
        (&volumes["Total"], &volumes["Active"]),
        (&2.into(), &1.into())
    );
    assert_eq!(rbox.df("Build Cache")["Size"], "0B");
    // What was promised is what is freed.
    let before = rbox.du(&["layers", "blobs", "images"]);
    let promised = rbox.df("Images")["RawReclaimable"].as_u64().unwrap();
    rbox.args(["image", "prune", "-af"]).stdout("[ID]\n").run();
    let after = rbox.du(&["layers", "blobs", "images"]);
    let freed = before - after;
    assert!(
        freed >= promised && freed <= promised + 2 * 4096,
        "{promised} {freed}"
    );
    assert_eq!(rbox.df("Images")["RawReclaimable"], 0);
    let table = rbox.out(["system", "df"]);
    let head = "TYPE           TOTAL       ACTIVE      SIZE        RECLAIMABLE\nImages         1           1           ";
    assert!(table.starts_with(head), "{table}");
    let text = rbox.out(["system", "df", "--verbose"]);
    for line in [
        "Images space usage:\n\nREPOSITORY                 TAG         IMAGE ID      CREATED",
        "Containers space usage:\n\nCONTAINER ID  IMAGE                             COMMAND     LOCAL VOLUMES  SIZE ",
        "Local Volumes space usage:\n\nVOLUME NAME  LINKS       SIZE\ndata         1           ",
        "spare        0           ",
    ] {
        assert!(text.contains(line), "{text}");
    }
    rbox.remove(&["one"]);
    rbox.args(["volume", "rm", "data", "spare"])
        .stdout_any()
        .run();
}

#[test]
fn pruning_frees_what_it_says() {
    let rbox = Rbox::with_busybox();
    rbox.args([
        "run",
        "--name",
        "ended",
        "-v",
        "/anonymous",
        "busybox",
        "sh",
        "-c",
        "head -c 3000000 /dev/zero > /file",
    ])
    .run();
    rbox.sleeper("runs");
    rbox.load("testinit");
    rbox.args(["untag", "testinit"]).run();
    rbox.args(["system", "prune"])
        .stdin("\n")
        .stdout(
            "WARNING! This command removes:\n\t- all stopped containers\n\t- all networks not used by at least one container\n\t- all dangling images\n\nAre you sure you want to continue? [y/N] ",
        )
        .run();
    let before = rbox.du(&["."]);
    let text = rbox.out(["system", "prune", "--volumes", "--force"]);
    let after = rbox.du(&["."]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        [lines[0], lines[2], lines[4]],
        ["Deleted Containers", "Deleted Volumes", "Deleted Images"],
        "{text}"
    );
    let said = lines[6].strip_prefix("Total reclaimed space: ").unwrap();
    let megabytes: f64 = said.strip_suffix("MB").unwrap().parse().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let freed = (before - after) as f64 / 1e6;
    assert!((megabytes - freed).abs() < 0.1, "{said} {freed}");
    assert_eq!(rbox.out(["ps", "-a", "--format", "{{.Names}}"]), "runs\n");
    rbox.args(["system", "prune", "-f"])
        .stdout("Total reclaimed space: 0B\n")
        .run();
    rbox.args(["system", "prune", "--external", "--all"])
        .status(125)
        .stderr_any()
        .run();
    rbox.args(["system", "prune", "--filter", "name=x"])
        .status(125)
        .stderr("Error: --filter=\"name=x\": expected one of the keys label, label!, until\n")
        .run();
    // What a killed command has left.
    let left = rbox.data().join("layers").join("0".repeat(64));
    std::fs::create_dir(&left).unwrap();
    rbox.own(&left);
    rbox.args(["system", "prune", "--external", "-f"])
        .stdout("Total reclaimed space: 4.096kB\n")
        .run();
    assert!(!left.exists());
    rbox.remove(&["runs"]);
}

#[test]
fn a_reset_leaves_nothing() {
    for rbox in [Some(Rbox::new()), Rbox::without_subids()] {
        let Some(rbox) = rbox else { continue };
        rbox.load("debian");
        rbox.load("busybox");
        rbox.sleeper("runs");
        rbox.args(["run", "-v", "data:/d", "debian", "true"]).run();
        rbox.args(["image", "mount", "debian"]).stdout_any().run();
        rbox.args(["system", "reset"])
            .stdin("n\n")
            .stdout_has(
                "        - all volumes\n        - the data directory: \"[DIR]/data/rbox\"\n",
            )
            .run();
        assert!(rbox.data().exists());
        rbox.args(["system", "reset", "--force"]).run();
        assert!(!rbox.data().exists());
        assert!(!rbox.dir().join("run/rbox").exists());
        rbox.assert_no_processes();
        rbox.args(["images", "-q"]).stderr_any().run();
    }
}

/// The only file of that name in a directory of the test's layers; given to the test to change.
fn open_up(path: &Path) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, mode).unwrap();
}

#[test]
fn damage_is_found_and_repaired() {
    if !account::is_root() {
        skip("only root can damage files of sub-ids");
        return;
    }
    let rbox = Rbox::with_busybox();
    rbox.check(&[], "", 0);
    let layer = rbox.only_in("layers");
    let file = layer.join("diff/etc/passwd");
    let old = std::fs::read(&file).unwrap();
    let time = std::fs::metadata(&file).unwrap().modified().unwrap();
    let mut bytes = old.clone();
    bytes[0] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let handle = std::fs::File::options().write(true).open(&file).unwrap();
    handle.set_modified(time).unwrap();
    // By reading alone it can be seen.
    rbox.check(&["--quick"], "", 0);
    let found = "Damaged layer [ID]: /etc/passwd: it has other content";
    rbox.check(&[], &format!("{found}\n"), 125);
    rbox.check(&["--repair"], &format!("{found} (repaired)\n"), 0);
    assert_eq!(std::fs::read(&file).unwrap(), old);
    rbox.check(&[], "", 0);
    for (what, change) in [
        (
            "/bin/busybox: it has another mode",
            &open_up as &dyn Fn(&Path),
        ),
        ("/bin/busybox: it should be there", &|path| {
            std::fs::remove_file(path).unwrap();
        }),
    ] {
        let path = layer.join("diff/bin/busybox");
        if what.ends_with("mode") {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            std::fs::set_permissions(&path, mode).unwrap();
        } else {
            change(&path);
        }
        rbox.check(
            &["--repair"],
            &format!("Damaged layer [ID]: {what} (repaired)\n"),
            0,
        );
        rbox.check(&[], "", 0);
    }
    // The record, and all of it.
    std::fs::write(layer.join("layer.json"), "{").unwrap();
    rbox.args(["system", "check", "--repair", "--quick"])
        .stdout_has("Damaged layer [ID]: cannot read layer record ")
        .stdout_has(" (repaired)\n")
        .run();
    rbox.check(&[], "", 0);
    rbox.args(["run", "--rm", "busybox", "echo", "works"])
        .stdout("works\n")
        .run();
}

/// Records are what is believed when a container is made: what they say of an image must be what the image says.
#[test]
fn records_that_say_something_else_are_found_and_repaired() {
    let rbox = Rbox::with_busybox();
    let layer = rbox.only_in("layers").join("layer.json");
    let image = rbox.only_in("images/ids");
    let layer_says = "Damaged layer [ID]: its record says something else than its files";
    let image_says = "Damaged image [ID]: its record says something else than its config";
    for (path, from, to, found) in [
        // It would hide the layers below.
        (
            &layer,
            "\"opaque_root\":false",
            "\"opaque_root\":true",
            layer_says,
        ),
        (&layer, "\"tar_size\":", "\"tar_size\":1", layer_says),
        (
            &image,
            "\"Env\":[",
            "\"Env\":[\"LD_PRELOAD=/x\",",
            image_says,
        ),
        (&image, "\"User\":\"\"", "\"User\":\"1000\"", image_says),
        (&image, "\"os\":\"linux\"", "\"os\":\"plan9\"", image_says),
    ] {
        let right = std::fs::read_to_string(path).unwrap();
        let wrong = right.replacen(from, to, 1);
        assert_ne!(wrong, right, "{from}");
        std::fs::write(path, wrong).unwrap();
        rbox.check(&[], &format!("{found}\n"), 125);
        rbox.check(&["--repair"], &format!("{found} (repaired)\n"), 0);
        assert_eq!(std::fs::read_to_string(path).unwrap(), right);
        rbox.check(&[], "", 0);
    }
    // What is no record at all, where one should be, hangs nothing.
    for kind in ["fifo", "dir", "link"] {
        std::fs::remove_file(&image).unwrap();
        match kind {
            "fifo" => drop(rbox.program("mkfifo").arg(&image).run()),
            "dir" => std::fs::create_dir(&image).unwrap(),
            _ => std::os::unix::fs::symlink("/dev/zero", &image).unwrap(),
        }
        rbox.own(&image);
        rbox.args(["images", "-q"]).stderr_any().run();
        let check = rbox.args(["system", "check"]).stdout_has("Damaged image ");
        check.stderr_any().status(125).run();
        rbox.args(["system", "check", "--repair"])
            .stdout_has(" (removed")
            .run();
        rbox.check(&[], "", 0);
        rbox.load("busybox");
    }
}

#[test]
fn what_is_beyond_repair_goes_and_is_named() {
    let rbox = Rbox::with_busybox();
    rbox.load("busybox:labels");
    let blob = |format: &str| {
        let digest = rbox.out(["images", "--format", format, "busybox:labels"]);
        let hex = digest.trim().trim_start_matches("sha256:").to_owned();
        rbox.data().join("blobs/sha256").join(hex)
    };
    let config = blob("{{.ConfigDigest}}");
    let bytes = std::fs::read(&config).unwrap();
    std::fs::write(&config, [bytes.as_slice(), b" "].concat()).unwrap();
    rbox.own(&config);
    rbox.args(["create", "--name", "one", "busybox:labels", "true"])
        .stdout("[ID]\n")
        .run();
    let image = "Damaged image [ID]: cannot read blob sha256:[ID]: its bytes have changed on disk";
    let blob = "Damaged blob sha256:[ID]: its bytes have changed on disk";
    rbox.check(&[], &format!("{blob}\n{image}\n"), 125);
    let stays = format!("{image}; it stays, since container \"one\" uses it");
    rbox.check(&["--repair"], &format!("{blob} (removed)\n{stays}\n"), 125);
    let gone = "Damaged image [ID]: cannot read blob sha256:[ID]: it is not in the store (removed, with \"docker.io/library/busybox:labels\", container \"one\")\n";
    rbox.check(&["--repair", "--force"], gone, 0);
    rbox.check(&[], "", 0);
    assert_eq!(
        rbox.out(["images", "--format", "{{.Repository}}:{{.Tag}}"]),
        "docker.io/library/busybox:latest\n"
    );
    rbox.args(["run", "--rm", "busybox", "echo", "works"])
        .stdout("works\n")
        .run();
    // Names that lead nowhere, and those that cannot be read.
    let refs = rbox.data().join("images/refs");
    let name = std::fs::read_to_string(rbox.only_in("images/refs")).unwrap();
    let id = rbox.out(["images", "-q", "--no-trunc"]);
    let lost = name
        .replace(id.trim(), &format!("sha256:{}", "0".repeat(64)))
        .replace("busybox:latest", "lost:1");
    let file = refs.join("docker.io%2Flibrary%2Flost:1");
    std::fs::write(&file, lost).unwrap();
    rbox.own(&file);
    std::fs::write(refs.join("bad"), "").unwrap();
    rbox.own(&refs.join("bad"));
    let call = rbox
        .args(["system", "check", "--repair"])
        .stdout_any()
        .run();
    let mut lines: Vec<&str> = call.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines[0],
        "Damaged name \"docker.io/library/lost:1\": it leads to image 000000000000, which is missing (removed)"
    );
    assert!(
        lines[1].starts_with("Damaged name bad: cannot read image name record "),
        "{lines:?}"
    );
    rbox.check(&[], "", 0);
}

#[test]
fn what_nothing_refers_to_is_named_and_no_damage() {
    let rbox = Rbox::with_busybox();
    rbox.allow_orphans();
    let left = rbox.data().join("layers").join("0".repeat(64));
    std::fs::create_dir(&left).unwrap();
    rbox.own(&left);
    let unfinished = rbox.data().join("layers/.tmp-1-1");
    std::fs::create_dir(&unfinished).unwrap();
    rbox.own(&unfinished);
    rbox.check(&[], "Unreferenced layer [ID]\n", 0);
    assert!(!unfinished.exists());
    // It is too young to be taken.
    rbox.check(&["--repair"], "Unreferenced layer [ID]\n", 0);
    assert!(left.exists());
    rbox.check(
        &["--repair", "--max", "0s"],
        "Unreferenced layer [ID] (removed)\n",
        0,
    );
    assert!(!left.exists());
    rbox.check(&[], "", 0);
}
