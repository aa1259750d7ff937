//! How long containers take to start, beside the bare system calls (`floor.rs`) and Debian's podman and crun.
//!
//! `cargo bench --bench startup [-- ROUNDS]`. As root it makes a plain user (RBOX_BENCH_USER, rboxtest) and does everything
//! as that user, in a private mount namespace with a pure cgroup v2 view, which crun insists on; as a plain user it
//! measures what it can. Peers that are not installed are left out. RBOX_BENCH_RBOX names another rbox to measure.
//!
//! All rows of a table take turns in one run, medians are compared: on a shared machine only such ratios mean anything.
//!
//! Processes: bench (root) > sh (mount namespace, cgroup) > bench (plain user) > what is measured. Owns on disk
//! /var/tmp/rbox-bench-PID and /dev/shm/rbox-bench-PID, and removes them.
#![expect(clippy::print_stdout, reason = "the tables are the output")]

mod archive;
mod floor;
mod image;
mod measure;
mod peers;
mod rows;

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::floor::Floor;
use crate::rows::Place;

fn main() -> ExitCode {
    match role() {
        Ok(status) => ExitCode::from(status),
        Err(err) => {
            println!("startup bench: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn role() -> Result<u8> {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["floor", rest @ ..] => run_floor(rest),
        ["inside", rounds, rbox, base, shm] => {
            rows::run(&Place::new(rbox, base, shm)?, rounds.parse()?).map(|()| 0)
        }
        // cargo bench adds --bench.
        others => {
            let rounds = others.iter().find_map(|word| word.parse().ok());
            outside(rounds.unwrap_or(25)).map(|()| 0)
        }
    }
}

fn run_floor(words: &[&str]) -> Result<u8> {
    let [lower, work, numbers @ ..] = words else {
        bail!("floor: too few arguments");
    };
    let numbers = numbers.iter().map(|word| word.parse());
    let numbers = numbers.collect::<Result<Vec<u32>, _>>()?;
    let [uid, gid, subuid, subuids, subgid, subgids] = numbers[..] else {
        bail!("floor: six numbers are needed");
    };
    let status = floor::run(&Floor {
        lower: (*lower).to_owned(),
        work: (*work).to_owned(),
        uid,
        gid,
        subuid: (subuid, subuids),
        subgid: (subgid, subgids),
    })?;
    Ok(u8::try_from(status).unwrap_or(1))
}

/// Prepares what only root can, starts the rows as a plain user, cleans up.
fn outside(rounds: usize) -> Result<()> {
    let rbox = rbox_to_measure();
    let id = std::process::id();
    let base = PathBuf::from(format!("/var/tmp/rbox-bench-{id}"));
    let shm = PathBuf::from(format!("/dev/shm/rbox-bench-{id}"));
    fs::create_dir_all(&base)?;
    fs::create_dir_all(&shm)?;
    // The plain user may not be able to reach the build directory.
    let tools = base.join("bin");
    fs::create_dir(&tools)?;
    fs::copy(&rbox, tools.join("rbox"))
        .with_context(|| format!("cannot copy {}", rbox.display()))?;
    fs::copy(env::current_exe()?, tools.join("bench"))?;
    let status = if rustix::process::geteuid().is_root() {
        as_user(rounds, &base, &shm)
    } else {
        let mut inside = Command::new(tools.join("bench"));
        inside.args(["inside", &rounds.to_string()]);
        inside.args([&tools.join("rbox"), &base, &shm]);
        Ok(inside.status()?.success())
    };
    fs::remove_dir_all(&shm).with_context(|| format!("cannot remove {}", shm.display()))?;
    fs::remove_dir_all(&base).with_context(|| format!("cannot remove {}", base.display()))?;
    if !status? {
        bail!("a row could not be measured");
    }
    Ok(())
}

/// The release build of this tree (cargo's bench profile is release by another name), or the binary that
/// RBOX_BENCH_RBOX names.
fn rbox_to_measure() -> PathBuf {
    let named = env::var_os("RBOX_BENCH_RBOX");
    named.map_or_else(|| env!("CARGO_BIN_EXE_rbox").into(), PathBuf::from)
}

/// Arguments: user, cgroup name, home, run directory, then the command.
const INTO_NAMESPACES: &str = r#"
set -e
user=$1 group=$2 home=$3 run=$4; shift 4
mount --make-rprivate /
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mount --make-rshared /
mkdir /sys/fs/cgroup/$group /sys/fs/cgroup/$group/leaf
chown -R $user: /sys/fs/cgroup/$group
export user group home run
status=0
sh -c 'echo $$ > /sys/fs/cgroup/$group/leaf/cgroup.procs
exec setpriv --reuid $user --regid $user --init-groups \
    env -i USER=$user HOME=$home XDG_RUNTIME_DIR=$run PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"' sh "$@" || status=$?
# What podman keeps running for the user (its pause process) is in here too.
echo 1 > /sys/fs/cgroup/$group/cgroup.kill
while grep -q 'populated 1' /sys/fs/cgroup/$group/cgroup.events; do sleep 0.01; done
find /sys/fs/cgroup/$group -depth -type d -exec rmdir {} \;
exit $status
"#;

fn as_user(rounds: usize, base: &Path, shm: &Path) -> Result<bool> {
    let user = env::var("RBOX_BENCH_USER").unwrap_or_else(|_| "rboxtest".to_owned());
    let known = Command::new("id").args(["-u", &user]).output()?;
    if !known.status.success() {
        let made = Command::new("useradd").args(["-m", &user]).status()?;
        if !made.success() {
            bail!("cannot create user {user}");
        }
    }
    let owner = format!("{user}:");
    let mut give = Command::new("chown");
    give.arg("-R").arg(&owner).args([base, shm]);
    if !give.status()?.success() {
        bail!("cannot give {} to {user}", base.display());
    }
    let mut inside = Command::new("unshare");
    inside.args(["-m", "sh", "-c", INTO_NAMESPACES, "sh"]);
    inside.args([&user, &format!("rbox-bench-{}", std::process::id())]);
    inside.args([base, shm]);
    inside.arg(base.join("bin/bench"));
    inside.args(["inside", &rounds.to_string()]);
    inside.args([&base.join("bin/rbox"), base, shm]);
    Ok(inside.status()?.success())
}
