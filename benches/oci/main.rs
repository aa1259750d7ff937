//! How long an OCI runtime takes for what its callers ask of it, beside Debian's crun and runc: a bundle as Docker
//! 20.10 makes it (`docker.json`, without its hook and the files of /etc), with Docker's own seccomp profile.
//!
//! `cargo bench --bench oci [-- ROUNDS]`, as root, in a private mount namespace with a pure cgroup v2 view, which crun
//! insists on. Peers that are not installed are left out. RBOX_BENCH_RBOX names another rbox to measure.
//!
//! All rows of a table take turns in one run, medians are compared: on a shared machine only such ratios mean anything.
//!
//! Processes: bench > sh (mount namespace) > bench > what is measured. Owns on disk /var/tmp/rbox-bench-PID and
//! /dev/shm/rbox-bench-PID, and the control groups /rbox-bench-PID; removes them.
#![expect(clippy::print_stdout, reason = "the tables are the output")]

#[path = "../startup/archive.rs"]
mod archive;
#[path = "../startup/image.rs"]
#[expect(dead_code, reason = "the tree of the image is enough here")]
mod image;
#[path = "../startup/measure.rs"]
#[expect(dead_code, reason = "what measures users' commands is not needed")]
mod measure;

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use serde_json::json;

use crate::measure::Row;
use crate::measure::median;
use crate::measure::ratio;
use crate::measure::words;

const BUNDLE: &str = include_str!("docker.json");

/// What ends a container may still be going on in the kernel; it must not fall into the next row's time.
const SETTLE: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["inside", rounds, base] => inside(rounds.parse().unwrap_or(25), Path::new(base)),
        // cargo bench adds --bench.
        others => outside(
            others
                .iter()
                .find_map(|word| word.parse().ok())
                .unwrap_or(25),
        ),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            println!("oci bench: {err:#}");
            ExitCode::FAILURE
        }
    }
}

/// Arguments: the name of the control group, then the command.
const INTO_NAMESPACES: &str = r#"
set -e
group=$1; shift
mount --make-rprivate /
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mount --make-rshared /
status=0
"$@" || status=$?
[ ! -d /sys/fs/cgroup/$group ] || find /sys/fs/cgroup/$group -depth -type d -exec rmdir {} \;
exit $status
"#;

fn outside(rounds: usize) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("it needs root, for the view of the control groups");
    }
    let name = format!("rbox-bench-{}", std::process::id());
    let places = [
        PathBuf::from("/var/tmp").join(&name),
        PathBuf::from("/dev/shm").join(&name),
    ];
    for place in &places {
        fs::create_dir_all(place)?;
    }
    let mut sh = Command::new("unshare");
    sh.args(["-m", "sh", "-c", INTO_NAMESPACES, "sh", &name]);
    sh.arg(env::current_exe()?);
    sh.args(["inside", &rounds.to_string()]).arg(&places[0]);
    let status = sh.status()?;
    for place in places {
        fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    }
    if !status.success() {
        bail!("a row could not be measured");
    }
    Ok(())
}

/// One of those that are compared.
struct Runtime {
    name: &'static str,
    /// The program and its global options.
    words: Vec<String>,
    bundle: String,
}

impl Runtime {
    fn new(name: &'static str, program: &str, base: &Path) -> Result<Self> {
        let bench = base.file_name().context("a strange directory")?;
        let group = format!("/{}/{name}", bench.to_string_lossy());
        let root = Path::new("/dev/shm").join(bench).join(name);
        let bundle = base.join(name);
        fs::create_dir(&bundle)?;
        let mut spec: Value = serde_json::from_str(BUNDLE)?;
        spec["root"]["path"] = json!(base.join("rootfs"));
        spec["linux"]["cgroupsPath"] = json!(group);
        fs::write(bundle.join("config.json"), spec.to_string())?;
        // One that stays, for `exec` and `state`.
        spec["linux"]["cgroupsPath"] = json!(format!("{group}-stays"));
        spec["process"]["args"] = json!(["sleep", "1000"]);
        fs::create_dir(bundle.join("stays"))?;
        fs::write(bundle.join("stays/config.json"), spec.to_string())?;
        Ok(Self {
            name,
            words: words(&format!("{program} --root {}", root.display())),
            bundle: bundle.to_string_lossy().into_owned(),
        })
    }

    fn call(&self, command: &str) -> Vec<String> {
        let mut all = self.words.clone();
        all.extend(words(command));
        all
    }

    fn row(&self, title: &'static str, command: &str) -> Row {
        Row::new(title, self.call(command))
    }
}

fn inside(rounds: usize, base: &Path) -> Result<()> {
    image::unpacked(&base.join("rootfs"))?;
    let rbox = env::var("RBOX_BENCH_RBOX").unwrap_or_else(|_| env!("CARGO_BIN_EXE_rbox").into());
    let all = [
        Runtime::new("rbox", &format!("{rbox} oci"), base)?,
        // In crun's favour: it insists on raising RLIMIT_MEMLOCK for its filter of devices, which root of some machines
        // (without CAP_SYS_RESOURCE) may not.
        Runtime::new("crun", "crun --cgroup-manager=disabled", base)?,
        Runtime::new("runc", "runc", base)?,
    ];
    let installed = |runtime: &&Runtime| {
        Command::new(&runtime.words[0])
            .arg("--version")
            .output()
            .is_ok()
    };
    let runtimes: Vec<&Runtime> = all.iter().filter(installed).collect();
    lifecycle(&runtimes, rounds)?;
    whole(&runtimes, rounds)?;
    inside_one(&runtimes, rounds)
}

/// What podman and containerd call for one container.
fn lifecycle(runtimes: &[&Runtime], rounds: usize) -> Result<()> {
    const STEPS: [&str; 3] = ["create", "start", "delete"];
    let mut times = vec![[const { Vec::new() }; 4]; runtimes.len()];
    for round in 0..=rounds {
        for (runtime, times) in runtimes.iter().zip(&mut times) {
            let took = one_life(runtime)?;
            // The first one of each only warms up.
            if round > 0 {
                for (times, took) in times.iter_mut().zip(took) {
                    times.push(took.as_secs_f64() * 1000.0);
                }
            }
        }
    }
    println!("\ncreate, start and delete of a container, ms");
    let medians: Vec<[f64; 4]> = times.into_iter().map(|times| times.map(median)).collect();
    for (runtime, [create, start, delete, all]) in runtimes.iter().zip(&medians) {
        println!(
            "  {:<6} {all:>7.2} = {} {create:.2} + {} {start:.2} + {} {delete:.2}",
            runtime.name, STEPS[0], STEPS[1], STEPS[2]
        );
    }
    compare(
        runtimes,
        &medians
            .iter()
            .map(|times| Some(times[3]))
            .collect::<Vec<_>>(),
    );
    Ok(())
}

/// The times of the three steps, and of all of them.
fn one_life(runtime: &Runtime) -> Result<[Duration; 4]> {
    let create = measure::run(&runtime.call(&format!("create --bundle {} life", runtime.bundle)))?;
    let start = measure::run(&runtime.call("start life"))?;
    // As callers do, after the end of the command; by force, as podman does, should it not have ended yet.
    thread::sleep(SETTLE);
    let delete = measure::run(&runtime.call("delete --force life"))?;
    thread::sleep(SETTLE);
    Ok([create, start, delete, create + start + delete])
}

fn whole(runtimes: &[&Runtime], rounds: usize) -> Result<()> {
    let rows: Vec<Row> = runtimes
        .iter()
        .map(|runtime| {
            runtime.row(
                runtime.name,
                &format!("run --bundle {} whole", runtime.bundle),
            )
        })
        .collect();
    let times = measure::table("run", &rows, rounds)?;
    compare(runtimes, &times);
    Ok(())
}

fn inside_one(runtimes: &[&Runtime], rounds: usize) -> Result<()> {
    for runtime in runtimes {
        measure::run(&runtime.call(&format!(
            "run --detach --bundle {}/stays stays",
            runtime.bundle
        )))?;
    }
    for (title, command) in [("state", "state stays"), ("exec", "exec stays true")] {
        let rows: Vec<Row> = runtimes
            .iter()
            .map(|runtime| runtime.row(runtime.name, command))
            .collect();
        let times = measure::table(title, &rows, rounds)?;
        compare(runtimes, &times);
    }
    for runtime in runtimes {
        measure::run(&runtime.call("delete --force stays"))?;
    }
    Ok(())
}

/// The first one beside the others.
fn compare(runtimes: &[&Runtime], times: &[Option<f64>]) {
    for (runtime, time) in runtimes.iter().zip(times).skip(1) {
        let target = match runtime.name {
            "crun" => "target <= 0.6",
            _ => "no target",
        };
        ratio(&format!("rbox/{}", runtime.name), times[0], *time, target);
    }
}
