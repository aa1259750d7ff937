//! `--device`, CDI files and `--gpus`.
use crate::support::Rbox;

const CDI: &str = r#"{"cdiVersion": "0.6.0", "kind": "acme.com/thing", "containerEdits": {"env": ["ALL=1"]},
    "devices": [
        {"name": "zero", "containerEdits": {
            "env": ["THING=zero"],
            "deviceNodes": [{"path": "/dev/thing0", "hostPath": "/dev/zero"}],
            "mounts": [{"hostPath": "/etc/hostname", "containerPath": "/opt/thing", "options": ["ro", "nosuid"]}]}},
        {"name": "all", "containerEdits": {"additionalGids": [44]}}]}"#;

const GPU: &str = "cdiVersion: 0.6.0
kind: nvidia.com/gpu
devices:
- name: all
  containerEdits:
    env: [GPUS=all]
    deviceNodes:
    - path: /dev/full
";

#[test]
fn a_device_of_the_host_is_shown() {
    let rbox = Rbox::with_busybox();
    let show = "stat -c '%F %t:%T' $0; head -c 2 $0 | wc -c";
    rbox.args([
        "run",
        "--rm",
        "--device",
        "/dev/zero:/dev/mine",
        "busybox",
        "sh",
        "-c",
        show,
        "/dev/mine",
    ])
    .stdout("character special file 1:5\n2\n")
    .run();
    rbox.args([
        "run",
        "--rm",
        "--device",
        "/dev/zero:/dev/deep/mine:rw",
        "busybox",
        "ls",
        "/dev/deep",
    ])
    .stdout("mine\n")
    .run();
    // Its mode and owner are the host's to set.
    rbox.args([
        "run",
        "--rm",
        "--device",
        "/dev/zero:/dev/mine",
        "busybox",
        "sh",
        "-c",
        "mknod /dev/other c 1 5",
    ])
    .stderr("mknod: /dev/other: Operation not permitted\n")
    .status(1)
    .run();
}

#[test]
fn what_cannot_be_promised_of_a_device_is_refused() {
    let rbox = Rbox::with_busybox();
    let hint = "Hint: `rbox run --help` tells what there is\n";
    for (flags, expected) in [
        (["--device", "/dev/zero:/dev/x:r"], format!("Error: --device=\"/dev/zero:/dev/x:r\": permissions \"r\" cannot be enforced: without root there is no device cgroup, and a device that is shown can be read and written as its mode allows; use rw\n{hint}")),
        (["--device", "/dev/zero:/dev/x:z"], format!("Error: --device=\"/dev/zero:/dev/x:z\": permissions \"z\": expected letters of r, w and m\n{hint}")),
        (["--device", "zero"], format!("Error: --device=\"zero\": expected HOST-PATH[:CONTAINER-PATH[:rwm]], or VENDOR/CLASS=NAME of a device in a CDI file\n{hint}")),
        (["--device", "/etc/passwd"], "Error: cannot create container: /etc/passwd is not a device\n".into()),
        (["--device", "/dev/none"], "Error: cannot create container: cannot use device /dev/none: No such file or directory (os error 2)\n".into()),
        (["--device", "/etc/cron.d"], "Error: cannot create container: there is no device in /etc/cron.d\n".into()),
        (["--device-cgroup-rule", "c 1:3 mr"], "Error: cannot create container: --device-cgroup-rule=\"c 1:3 mr\" is not possible: a container has a user namespace of its own, in which no device can be made, whatever a device cgroup allows\nHint: show the device with `--device`\n".into()),
        (["--gpus", "a b"], format!("Error: --gpus=\"a b\": expected all, or the name of a GPU in a CDI file\n{hint}")),
    ] {
        rbox.args(["run", "--rm"]).args(flags).args(["busybox", "true"]).stderr(expected).status(125).run();
    }
}

#[test]
fn devices_of_cdi_files_bring_what_they_need() {
    let rbox = Rbox::with_busybox();
    let dir = rbox.work("cdi");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("thing.json"), CDI).unwrap();
    std::fs::write(dir.join("gpu.yaml"), GPU).unwrap();
    let dir = dir.display().to_string();
    let script = "echo $ALL $THING; stat -c %t:%T /dev/thing0; cmp /opt/thing /opt/thing && touch /opt/thing";
    rbox.args([
        "run",
        "--rm",
        "--cdi-spec-dir",
        &dir,
        "--device",
        "acme.com/thing=zero",
        "busybox",
        "sh",
        "-c",
        script,
    ])
    .stdout("1 zero\n1:5\n")
    .stderr("touch: /opt/thing: Read-only file system\n")
    .status(1)
    .run();
    rbox.args([
        "run",
        "--rm",
        "--cdi-spec-dir",
        &dir,
        "--device",
        "acme.com/thing=all",
        "busybox",
        "id",
        "-G",
    ])
    .stdout("0 44\n")
    .run();
    rbox.args([
        "run",
        "--rm",
        "--cdi-spec-dir",
        &dir,
        "--gpus",
        "all",
        "busybox",
        "sh",
        "-c",
        "echo $GPUS",
    ])
    .stdout("all\n")
    .run();
    rbox.args(["run", "--rm", "--cdi-spec-dir", &dir, "--gpus", "7", "busybox", "true"])
        .stderr("Error: cannot create container: no CDI device \"nvidia.com/gpu=7\" in [DIR]/work/cdi\nHint: the maker of the device has a program that writes CDI files, such as `nvidia-ctk cdi generate`\n")
        .status(125)
        .run();
}
