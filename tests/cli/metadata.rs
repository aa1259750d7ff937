//! What an image says of itself must not steer the engine: whatever stands in its config, labels and
//! annotations, a container of it has the privileges of a container of a bare image.
use serde_json::Value;
use serde_json::json;

use crate::support::Rbox;
use crate::support::hostile::Image;

/// Keys by which other engines were steered (CVE-2026-94603, CVE-2026-121885, CVE-2026-53488), and what
/// might be thought to be our own.
fn keys() -> Value {
    let mut keys = json!({});
    for key in [
        "io.podman.annotations.checkpoint.runtime.name",
        "io.podman.annotations.privileged",
        "io.podman.annotations.seccomp",
        "io.podman.annotations.userns",
        "io.containers.capabilities",
        "io.containers.seccomp.profile",
        "io.kubernetes.cri-o.TrySkipVolumeSELinuxLabel",
        "io.kubernetes.cri-o.userns-mode",
        "run.oci.keep_original_groups",
        "run.oci.handler",
        "run.oci.mount_context_type",
        "org.criu.config",
        "com.docker.compose.project",
        "PODMAN_SYSTEMD_UNIT",
        "io.rbox.privileged",
        "io.rbox.hooks-dir",
        "RUN",
        "INSTALL",
    ] {
        keys[key] = json!("SYS_ADMIN,/etc,true,/bin/sh -c id");
    }
    keys
}

/// The specification of a container of the loaded image, without what names this one container and
/// without what an image is allowed to say: the command, its variables, its directory, its user.
fn spec(rbox: &Rbox) -> Value {
    rbox.args(["run", "--name", "c", "odd", "true"]).run();
    let id = rbox
        .args(["inspect", "--format", "{{.Id}}", "c"])
        .stdout_any()
        .run()
        .stdout;
    let id = id.trim();
    let path = format!("run/rbox/containers/{id}/spec.json");
    let path = rbox.dir().join(path);
    let text = std::fs::read_to_string(path).unwrap();
    rbox.remove(&["c"]);
    rbox.args(["rmi", "odd"]).stdout_any().run();
    let text = text.replace(id, "ID").replace(&id[..12], "SHORT");
    let mut spec: Value = serde_json::from_str(&text).unwrap();
    for own in ["args", "env", "cwd", "user"] {
        spec["process"].as_object_mut().unwrap().remove(own);
    }
    // Sets, in no order.
    let sets = spec["process"]["capabilities"].as_object_mut().unwrap();
    for set in sets.values_mut() {
        set.as_array_mut().unwrap().sort_by_key(ToString::to_string);
    }
    spec
}

#[test]
fn nothing_in_an_image_changes_what_its_container_may_do() {
    let rbox = Rbox::new();
    Image::busybox().load(&rbox);
    let bare = spec(&rbox);
    let mut odd = Image::busybox().with(json!({
        "Labels": keys(),
        "Env": ["PATH=/bin", "LD_PRELOAD=/x.so", "RBOX_PRIVILEGED=1", "_CONTAINERS_USERNS_CONFIGURED=1"],
        "WorkingDir": "/srv",
        "StopSignal": "SIGKILL",
        "ExposedPorts": {"22/tcp": {}, "/../x": {}},
        "Healthcheck": {"Test": ["CMD-SHELL", "id"], "Interval": 1},
        "OnBuild": ["RUN id"],
        "Shell": ["/bin/sh", "-c"],
        "Hostname": "host", "Domainname": "example.org", "MacAddress": "02:00:00:00:00:01",
        "NetworkDisabled": false, "AttachStdin": true, "OpenStdin": true, "Tty": true,
        "Privileged": true, "CapAdd": ["ALL"], "SecurityOpt": ["seccomp=unconfined"],
        "Annotations": keys(), "Devices": ["/dev/kmsg"], "Binds": ["/:/host"],
    }));
    odd.manifest = json!({
        "annotations": keys(),
        "artifactType": "application/vnd.unknown",
        "subject": {"mediaType": "x", "digest": format!("sha256:{}", "a".repeat(64)), "size": 1},
    });
    odd.load(&rbox);
    assert_eq!(spec(&rbox), bare);
}

/// CVE-2026-53488: what the engine itself writes down is not read from where labels are kept.
#[test]
fn labels_of_an_image_are_labels_and_nothing_else() {
    let rbox = Rbox::new();
    Image::busybox().with(json!({"Labels": keys()})).load(&rbox);
    rbox.args([
        "create", "--name", "c", "--label", "RUN=mine", "odd", "true",
    ])
    .stdout_any()
    .run();
    let labels = rbox
        .args(["inspect", "--format", "{{json .Config.Labels}}", "c"])
        .stdout_any()
        .run()
        .stdout;
    let mut expected = keys();
    expected["RUN"] = json!("mine");
    assert_eq!(serde_json::from_str::<Value>(&labels).unwrap(), expected);
    rbox.args(["inspect", "--format"])
        .arg("{{.HostConfig.Privileged}} {{.HostConfig.CapAdd}} {{.HostConfig.SecurityOpt}} {{.HostConfig.AutoRemove}}")
        .arg("c")
        .stdout("false [] [] false\n")
        .run();
    rbox.remove(&["c"]);
}

#[test]
fn inspect_tells_what_was_asked_of_files_and_kernel() {
    let rbox = Rbox::with_busybox();
    rbox.args(["create", "--name", "c", "--tmpfs", "/t:size=1m,ro"])
        .args(["--cap-drop", "all", "--cap-add", "chown,net_raw"])
        .args([
            "--shm-size",
            "2m",
            "--umask",
            "077",
            "--device",
            "/dev/null:/dev/x",
        ])
        .args(["--sysctl", "net.core.somaxconn=99", "busybox", "true"])
        .stdout("[ID]\n")
        .run();
    rbox.args(["inspect", "-f"])
        .arg(
            "{{.Config.Umask}} {{.HostConfig.ShmSize}} {{json .HostConfig.Tmpfs}} \
             {{json .HostConfig.Devices}} {{json .HostConfig.Sysctls}} {{json .EffectiveCaps}}",
        )
        .arg("c")
        .stdout(
            "0077 2097152 {\"/t\":\"ro,size=1048576\"} [{\"PathOnHost\":\"/dev/null\",\
             \"PathInContainer\":\"/dev/x\",\"CgroupPermissions\":\"rwm\"}] \
             {\"net.core.somaxconn\":\"99\"} [\"CAP_CHOWN\",\"CAP_NET_RAW\"]\n",
        )
        .run();
    rbox.remove(&["c"]);
}
