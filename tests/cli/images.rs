//! What is told of images, and how they go: `images`, `image …`, `history`, `rmi`, `untag`.
use serde_json::Value;

use crate::support::Rbox;

/// Three names of one image, and another image on the same layer.
fn with_several() -> Rbox {
    let rbox = Rbox::with_busybox();
    rbox.load("busybox:labels");
    rbox.args(["tag", "busybox", "a/b:1", "c:2"]).run();
    rbox
}

impl Rbox {
    fn text<const N: usize>(&self, args: [&str; N]) -> String {
        self.args(args).stdout_any().run().stdout
    }

    fn json<const N: usize>(&self, args: [&str; N]) -> Value {
        serde_json::from_str(&self.text(args)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let text = self.text(["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.sort();
        names
    }
}

const BUSYBOX: &str = "docker.io/library/busybox";

#[test]
fn lists_are_chosen_and_ordered() {
    let rbox = with_several();
    let list = |args: &[&str]| {
        let format = ["images", "--format", "{{.Repository}}:{{.Tag}}"];
        let text = rbox.args(format).args(args).stdout_any().run().stdout;
        let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
        names.sort();
        names.join(" ").replace("docker.io/library/", "")
    };
    let all = "busybox:labels busybox:latest localhost/a/b:1 localhost/c:2";
    let one = "busybox:latest localhost/a/b:1 localhost/c:2";
    for (args, expected) in [
        (&[][..], all),
        (&["--all"], all),
        (&["busybox"], "busybox:labels busybox:latest"),
        (&["busybox:labels"], "busybox:labels"),
        (
            &["docker.io/library/busybox"],
            "busybox:labels busybox:latest",
        ),
        (&["busy*:l?test"], "busybox:latest"),
        (&["c", "b"], "localhost/a/b:1 localhost/c:2"),
        (&["b:1"], "localhost/a/b:1"),
        (&["nosuch"], ""),
        (
            &["--filter", "reference=*/*/b*"],
            "busybox:labels busybox:latest localhost/a/b:1",
        ),
        (
            &["--filter", "reference=c:2", "--filter", "reference=b:1"],
            "localhost/a/b:1 localhost/c:2",
        ),
        (&["--filter", "label=org.example.title"], "busybox:labels"),
        (
            &["--filter", "label=org.example.title=A title"],
            "busybox:labels",
        ),
        (&["--filter", "label=org.example.title=B"], ""),
        (&["--filter", "label!=org.example.title"], one),
        (
            &[
                "--filter",
                "label=org.example.title",
                "--filter",
                "reference=c",
            ],
            "",
        ),
        (&["--filter", "dangling=true"], ""),
        (&["--filter", "dangling=false"], all),
        (&["--filter", "intermediate=true"], ""),
        (&["--filter", "readonly=true"], ""),
        (&["--filter", "manifest=true"], ""),
        (&["--filter", "containers=true"], ""),
        (&["--filter", "containers=false"], all),
        (
            &["--filter", "until=1h"],
            if rbox.is_old() { all } else { "" },
        ),
        (&["--filter", "until=2001-01-01"], ""),
    ] {
        assert_eq!(list(args), expected, "{args:?}");
    }
    let id = rbox.text(["images", "-q", "busybox:labels"]);
    let id = id.trim();
    assert_eq!(list(&["--filter", &format!("id={id}")]), "busybox:labels");
    assert_eq!(list(&[id]), "busybox:labels");
    let digest = rbox.text(["images", "--format", "{{.Digest}}", "c"]);
    assert_eq!(
        list(&["--filter", &format!("digest={}", digest.trim())]),
        one
    );
    rbox.load("testinit");
    let mut made = rbox.json(["images", "--format", "json", "testinit", "c"]);
    made.as_array_mut()
        .unwrap()
        .sort_by_key(|one| one["CreatedAt"].to_string());
    let name = |at: usize| made[at]["RepoTags"][0].as_str().unwrap().to_owned();
    let (older, newer) = (name(0), name(1));
    for (filter, found) in [
        (format!("before={newer}"), older.clone()),
        (format!("since={older}"), newer.clone()),
        (format!("after={older}"), newer.clone()),
        (format!("before={older}"), String::new()),
        (format!("since={newer}"), String::new()),
    ] {
        let found = found.replace("docker.io/library/", "");
        assert_eq!(list(&["testinit", "c", "--filter", &filter]), found);
    }
    rbox.args(["rmi", "testinit"]).stdout_any().run();
    for (sort, first) in [("repository", BUSYBOX), ("tag", "localhost/a/b")] {
        let text = rbox.text(["images", "--sort", sort, "--format", "{{.Repository}}"]);
        assert_eq!(text.lines().next(), Some(first), "{sort}");
    }
    rbox.args(["images", "--filter", "dangling=perhaps"])
        .status(125)
        .stderr("Error: --filter=\"dangling=perhaps\": expected true or false\n")
        .run();
    rbox.args(["images", "--filter", "colour=red"])
        .status(125)
        .stderr_has("Error: --filter=\"colour=red\": expected one of the keys before, containers,")
        .run();
}

impl Rbox {
    /// Fixtures are made once on a machine.
    fn is_old(&self) -> bool {
        let created = self.json(["images", "--format", "json", "c"])[0]["Created"].as_i64();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        created.unwrap() + 3600 < i64::try_from(now.unwrap().as_secs()).unwrap()
    }
}

#[test]
fn tables_are_podmans() {
    let rbox = with_several();
    let size = rbox.text(["images", "--format", "{{.Size}}", "c"]);
    let size = size.trim();
    rbox.args(["images", "--sort", "repository"])
        .stdout(
            format!(
                "REPOSITORY                 TAG         IMAGE ID      CREATED       SIZE\n\
             {BUSYBOX}  labels      [ID]  [AGO]  {size}\n\
             {BUSYBOX}  latest      [ID]  [AGO]  {size}\n\
             localhost/a/b              1           [ID]  [AGO]  {size}\n\
             localhost/c                2           [ID]  [AGO]  {size}\n"
            )
            .replace("CREATED       SIZE", &created_heading(&rbox)),
        )
        .run();
    rbox.args(["images", "--noheading", "--history", "c"])
        .stdout_has("localhost/c:2\n")
        .run();
    rbox.args(["images", "-q", "c", "a/b"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["image", "ls", "-q", "--no-trunc", "c"])
        .stdout("sha256:[ID]\n")
        .run();
    rbox.args(["images", "--tree", "c"])
        .stdout(format!(
            "IMAGE           ID            SIZE\n\
             localhost/c:2   [ID]  {size}\n\
             └─ linux/amd64  [ID]  {size}\n"
        ))
        .run();
    let format = "{{.Repository}} {{.Tag}} {{.Containers}} {{.SharedSize}} {{.UniqueSize}} {{.Dangling}} {{.Os}}/{{.Arch}} {{.Names}}";
    rbox.args(["images", "--format", format, "c"])
        .stdout(format!(
            "localhost/c 2 0 {size} 0 B false linux/amd64 [localhost/c:2]\n"
        ))
        .run();
}

/// The column is as wide as the age of the fixtures.
fn created_heading(rbox: &Rbox) -> String {
    let age = rbox.text(["images", "--format", "{{.Created}}", "c"]);
    format!("{:1$}SIZE", "CREATED", age.trim().len().max(10) + 2)
}

#[test]
fn json_has_the_fields_of_both_engines() {
    let rbox = with_several();
    let all = rbox.json([
        "images",
        "--format",
        "json",
        "--filter",
        "reference=busybox",
    ]);
    let labels = all.as_array().unwrap().iter();
    let labels: Vec<&Value> = labels
        .filter(|one| one["RepoTags"][0] == format!("{BUSYBOX}:labels"))
        .collect();
    let parent = rbox.text(["images", "-q", "--no-trunc", "c"]);
    assert_eq!(
        labels[0]["ParentId"],
        parent.trim().strip_prefix("sha256:").unwrap()
    );
    assert_eq!(labels[0]["SharedSize"], labels[0]["Size"]);
    assert_eq!(labels[0]["Labels"]["org.example.title"], "A title");
    let inspected = rbox.json(["image", "inspect", "c:2"]);
    let one = &inspected[0];
    let digest = one["Digest"].as_str().unwrap();
    assert_eq!(
        one["RepoTags"],
        serde_json::json!([
            format!("{BUSYBOX}:latest"),
            "localhost/a/b:1",
            "localhost/c:2"
        ])
    );
    assert_eq!(
        one["RepoDigests"],
        serde_json::json!([
            format!("{BUSYBOX}@{digest}"),
            format!("localhost/a/b@{digest}"),
            format!("localhost/c@{digest}")
        ])
    );
    for (key, kind) in [
        ("Id", "string"),
        ("Parent", "string"),
        ("Comment", "string"),
        ("Created", "string"),
        ("Config", "object"),
        ("Version", "string"),
        ("Author", "string"),
        ("Architecture", "string"),
        ("Os", "string"),
        ("Size", "number"),
        ("VirtualSize", "number"),
        ("GraphDriver", "object"),
        ("RootFS", "object"),
        ("Labels", "object"),
        ("Annotations", "object"),
        ("ManifestType", "string"),
        ("User", "string"),
        ("History", "array"),
        ("NamesHistory", "array"),
    ] {
        let found = match &one[key] {
            Value::String(_) => "string",
            Value::Object(_) => "object",
            Value::Array(_) => "array",
            Value::Number(_) => "number",
            _ => "nothing",
        };
        assert_eq!(found, kind, "{key}");
    }
    assert_eq!(one["History"][0]["created_by"], "umoci raw add-layer");
    // The same by the other name of the command.
    assert_eq!(rbox.json(["inspect", "--type", "image", "c:2"]), inspected);
}

#[test]
fn histories_and_trees_are_podmans() {
    let rbox = Rbox::new();
    rbox.load("debian");
    let sizes = rbox.text(["history", "--format", "{{.Size}}", "debian"]);
    let bottom = sizes.lines().last().unwrap();
    let text = rbox.text([
        "history",
        "--human=false",
        "--format",
        "{{.ID}} {{.CreatedBy}} {{.Size}}",
        "debian",
    ]);
    let whole = text.lines().last().unwrap().rsplit(' ').next().unwrap();
    assert!(whole.parse::<u64>().unwrap() > 10_000_000, "{text}");
    rbox.args(["history", "--format", "{{.ID}}|{{.CreatedSince}}|{{.CreatedBy}}|{{.Size}}|{{.Comment}}", "debian"])
        .stdout(format!(
            "[ID]|[AGO]|umoci config|0 B|\n<missing>|[AGO]|umoci raw add-layer|3 B|\n<missing>|[AGO]|umoci raw add-layer|49 B|\n<missing>|[AGO]|umoci raw add-layer|{bottom}|\n"
        ))
        .run();
    rbox.args(["image", "history", "-q", "debian"])
        .stdout("[ID]\n<missing>\n<missing>\n<missing>\n")
        .run();
    let values = rbox.json(["history", "--format", "json", "debian"]);
    assert_eq!(values.as_array().unwrap().len(), 4);
    assert_eq!(values[0]["tags"][0], "docker.io/library/debian:latest");
    let size = bottom.replace(' ', "");
    let tree = rbox.text(["image", "tree", "debian"]);
    let sizes: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split("Size: ").nth(1))
        .collect();
    assert!(sizes[1].starts_with(&size[..2]), "{tree}");
    assert!(
        tree.ends_with("Size: 3B Top Layer of: [docker.io/library/debian:latest]\n"),
        "{tree}"
    );
    let above = rbox.text(["image", "tree", "--whatrequires", "debian"]);
    assert_eq!(above.lines().count(), 5, "{above}");
    rbox.args(["image", "diff", "debian"])
        .stdout("C /etc\nD /etc/debian_version\nC /gone\nD /gone/dir\nD /gone/file\nC /gone/opaque\nA /gone/opaque/new\nD /gone/opaque/old\n")
        .run();
    let value = rbox.json(["image", "diff", "--format", "json", "debian"]);
    assert_eq!(value["added"], serde_json::json!(["/gone/opaque/new"]));
    rbox.load("busybox:user");
    rbox.load("busybox");
    rbox.args(["image", "diff", "busybox:user", "busybox"])
        .run();
    rbox.args(["image", "exists", "busybox"]).run();
    rbox.args(["image", "exists", "nosuch"]).status(1).run();
}

#[test]
fn names_go_and_the_image_stays() {
    let rbox = with_several();
    rbox.args(["untag", "busybox", "c:2"]).run();
    assert_eq!(
        rbox.names(),
        [
            &format!("{BUSYBOX}:labels"),
            &format!("{BUSYBOX}:latest"),
            "localhost/a/b:1"
        ]
    );
    rbox.args(["untag", "busybox", "busybox:labels"])
        .status(125)
        .stderr("Error: cannot untag image \"busybox\": \"busybox:labels\" is the name of another image\n")
        .run();
    rbox.args(["untag", "busybox"]).run();
    // The other was made from it: it is intermediate.
    assert_eq!(rbox.names(), [format!("{BUSYBOX}:labels")]);
    let all = rbox.text(["images", "--all", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert_eq!(all.lines().count(), 2, "{all}");
    assert!(all.contains("<none>:<none>"), "{all}");
    rbox.args(["images", "--filter", "intermediate=true", "-q"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["images", "--filter", "dangling=true", "-q"])
        .run();
    // It goes with the last that was made from it, unless it is to stay.
    rbox.args(["rmi", "busybox:labels"])
        .stdout(format!(
            "Untagged: {BUSYBOX}:labels\nDeleted: [ID]\nDeleted: [ID]\n"
        ))
        .run();
    assert_eq!(rbox.text(["images", "--all", "-q"]), "");
}

#[test]
fn what_is_in_use_is_not_removed() {
    let rbox = with_several();
    for name in ["one", "two"] {
        rbox.args(["create", "--name", name, "c:2", "true"])
            .stdout("[ID]\n")
            .run();
    }
    rbox.args(["rmi", "busybox", "nosuch", "a/b:1", "c:2"])
        .stdout(format!(
            "Untagged: {BUSYBOX}:latest\nUntagged: localhost/a/b:1\n"
        ))
        .stderr(
            "Error: there is no image \"nosuch\"\n\
             Hint: `rbox images` lists those in the store, `rbox pull` fetches one\n\
             Error: cannot remove image \"c:2\": containers \"one\", \"two\" use it\n\
             Hint: remove the container with `rbox rm one two`, or use `rbox rmi -f c:2`\n",
        )
        .status(2)
        .run();
    rbox.args(["rmi", "nosuch"]).stderr_any().status(1).run();
    rbox.args(["rmi", "--ignore", "nosuch"]).run();
    rbox.args(["rmi", "--platform", "linux/s390x", "c:2"])
        .stderr(
            "Error: image \"c:2\" is in the store for linux/amd64, and not for linux/s390x\n\
             Hint: `rbox pull --platform linux/s390x` fetches it\n",
        )
        .status(1)
        .run();
    rbox.args(["image", "prune", "--all", "--force"])
        .stdout("[ID]\n")
        .run();
    assert_eq!(rbox.names(), ["localhost/c:2"]);
    rbox.args(["image", "rm", "--force", "c:2"])
        .stdout("Untagged: localhost/c:2\nDeleted: [ID]\n")
        .run();
    rbox.args(["ps", "-aq"]).run();
    let left = std::fs::read_dir(rbox.data().join("layers")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn all_go_at_once() {
    let rbox = with_several();
    let id = rbox.text(["images", "-q", "--no-trunc", "c"]);
    rbox.args(["rmi", id.trim()])
        .stderr_has("it has 3 names")
        .status(2)
        .run();
    let text = rbox.text(["rmi", "--all"]);
    assert_eq!(text.matches("Untagged: ").count(), 4, "{text}");
    assert_eq!(text.matches("Deleted: ").count(), 2, "{text}");
    rbox.args(["rmi", "--all"]).run();
    rbox.args(["rmi", "--all", "busybox"])
        .status(125)
        .stderr_any()
        .run();
}

#[test]
fn pruning_asks_and_keeps_what_has_a_name() {
    let rbox = with_several();
    rbox.args(["image", "prune"])
        .stdin("n\n")
        .stdout("WARNING! This command removes all dangling images.\nAre you sure you want to continue? [y/N] ")
        .run();
    rbox.args(["image", "prune", "--force"]).run();
    assert_eq!(rbox.names().len(), 4);
    rbox.args(["untag", "busybox:labels"]).run();
    rbox.args(["image", "prune", "--force", "--filter", "label=nosuch"])
        .run();
    rbox.args(["image", "prune"])
        .stdin("y\n")
        .stdout("WARNING! This command removes all dangling images.\nAre you sure you want to continue? [y/N] [ID]\n")
        .run();
    rbox.args(["image", "prune", "--all"])
        .stdin("y\n")
        .stdout("WARNING! This command removes all images without at least one container associated with them.\nAre you sure you want to continue? [y/N] [ID]\n")
        .run();
    assert!(rbox.names().is_empty());
    rbox.args(["image", "prune", "--build-cache"])
        .status(125)
        .stderr("Error: --build-cache: rbox keeps no build cache\n")
        .run();
}

#[test]
fn images_are_mounted_read_only() {
    for rbox in [Some(Rbox::new()), Rbox::without_subids(), Rbox::as_root()] {
        let Some(rbox) = rbox else { continue };
        rbox.load("debian");
        let path = rbox.text(["image", "mount", "debian"]);
        let path = path.trim();
        let program = |program: &str, file: &str| {
            let call = rbox.program(program).arg(format!("{path}/{file}"));
            call.stdout_any().stderr_any().status_any().run()
        };
        // The top layer hides it.
        assert!(!program("cat", "etc/debian_version").status.success());
        assert!(program("cat", "etc/passwd").stdout.contains("root:x:0:0:"));
        assert!(
            program("touch", "file")
                .stderr
                .contains("Read-only file system")
        );
        assert_eq!(rbox.text(["image", "mount", "debian"]).trim(), path);
        rbox.args(["image", "mount"])
            .stdout(format!("docker.io/library/debian:latest  {path}\n"))
            .run();
        let rows = rbox.json(["image", "mount", "--format", "json"]);
        assert_eq!(rows[0]["mountpoint"], path);
        rbox.args(["rmi", "debian"])
            .stderr_has("cannot remove image \"debian\": it is mounted\n")
            .status(2)
            .run();
        rbox.args(["image", "prune", "-af"]).run();
        rbox.args(["image", "unmount", "debian"])
            .stdout("[ID]\n")
            .run();
        rbox.args(["image", "unmount", "--all"])
            .stdout("[ID]\n")
            .run();
        rbox.args(["image", "mount"]).run();
        rbox.args(["image", "umount", "debian"])
            .stderr("Error: cannot unmount image [ID]: it is not mounted\n")
            .status(125)
            .run();
        rbox.args(["image", "mount", "debian"]).stdout_any().run();
        rbox.args(["rmi", "--force", "debian"]).stdout_any().run();
        rbox.assert_no_processes();
    }
}
