//! What is measured, as the plain user.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use anyhow::Result;

use crate::image;
use crate::measure::Row;
use crate::measure::command;
use crate::measure::output;
use crate::measure::ratio;
use crate::measure::run as once;
use crate::measure::table;
use crate::measure::words;
use crate::peers;

/// Containers in the store that is full.
const MANY: u32 = 1000;

/// Where things are and who measures.
pub struct Place {
    rbox: String,
    base: PathBuf,
    shm: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub subuid: (u32, u32),
    pub subgid: (u32, u32),
}

impl Place {
    pub fn new(rbox: &str, base: &str, shm: &str) -> Result<Self> {
        let user = output(&words("id -un"))?;
        Ok(Place {
            rbox: rbox.to_owned(),
            base: base.into(),
            shm: shm.into(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            subuid: range("/etc/subuid", &user)?,
            subgid: range("/etc/subgid", &user)?,
        })
    }

    pub fn path(&self, name: &str) -> String {
        self.base.join(name).to_string_lossy().into_owned()
    }

    /// One of several at once has a directory of its own.
    fn floor(&self, lane: usize) -> Vec<String> {
        let (uid, gid) = (self.uid, self.gid);
        let ((subuid, subuids), (subgid, subgids)) = (self.subuid, self.subgid);
        let (bench, rootfs) = (self.path("bin/bench"), self.path("rootfs"));
        let work = self.path(&format!("floor{lane}"));
        words(&format!(
            "{bench} floor {rootfs} {work} {uid} {gid} {subuid} {subuids} {subgid} {subgids}"
        ))
    }

    /// rbox with a store of its own.
    fn rbox(&self, store: &str, command: &str) -> Vec<String> {
        let (data, run) = (self.path(store), self.shm.join(store));
        let run = run.to_string_lossy();
        let mut all = words(&format!(
            "XDG_DATA_HOME={data} XDG_RUNTIME_DIR={run} {}",
            self.rbox
        ));
        all.extend(words(command));
        all
    }

    /// podman, told not to want systemd.
    fn podman(&self, command: &str) -> Vec<String> {
        let (graph, run) = (self.path("podman"), self.shm.join("podman"));
        let run = run.to_string_lossy();
        words(&format!(
            "podman --root {graph} --runroot {run} --cgroup-manager cgroupfs --events-backend none {command}"
        ))
    }
}

fn range(file: &str, user: &str) -> Result<(u32, u32)> {
    let text = fs::read_to_string(file)?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(user)?.strip_prefix(':'));
    let (start, count) = line
        .and_then(|rest| rest.split_once(':'))
        .with_context(|| format!("{file} has no range for {user}"))?;
    Ok((start.parse()?, count.parse()?))
}

pub fn run(place: &Place, rounds: usize) -> Result<()> {
    let rootfs = place.base.join("rootfs");
    image::unpacked(&rootfs)?;
    image::archive(&place.base.join("busybox.tar"), &rootfs)?;
    for store in ["store", "full"] {
        fs::create_dir(place.base.join(store))?;
        fs::create_dir(place.shm.join(store))?;
        let load = format!("load -i {}", place.path("busybox.tar"));
        if let Err(err) = once(&place.rbox(store, &load)) {
            println!("rbox cannot load the image: {err:#}");
        }
    }
    let done = tables(place, rounds);
    clear(place);
    done
}

fn tables(place: &Place, rounds: usize) -> Result<()> {
    starts(place, rounds)?;
    for (name, table) in [
        ("exec", exec as fn(&Place, usize) -> Result<()>),
        ("ps", ps),
        ("one of many", one_of_many),
        ("containers per second", rate),
        ("memory", memory),
    ] {
        if let Err(err) = table(place, rounds) {
            println!("left out: {name}: {err:#}");
        }
    }
    Ok(())
}

fn starts(place: &Place, rounds: usize) -> Result<()> {
    for (name, seccomp) in [("crun", true), ("crun-plain", false)] {
        if let Err(err) = peers::crun_bundle(place, &place.base.join(name), seccomp) {
            println!("left out: {name}: {err:#}");
        }
    }
    let podman = once(&place.podman(&format!("load -q -i {}", place.path("busybox.tar"))));
    if let Err(err) = podman {
        println!("left out: podman: {err:#}");
    }
    let crun = |bundle| {
        let (root, bundle) = (place.shm.join("crun"), place.path(bundle));
        words(&format!(
            "crun --root {} run -b {bundle} bench",
            root.display()
        ))
    };
    let rows = [
        Row::new("floor", place.floor(0)),
        Row::new(
            "rbox run --rm --network none",
            place.rbox("store", "run --rm --network none busybox true"),
        ),
        Row::new(
            "rbox run -d",
            place.rbox(
                "store",
                "run -d --name bench --network none busybox sleep 1000",
            ),
        )
        .after(place.rbox("store", "rm -f bench")),
        Row::new("rbox version (one exec)", place.rbox("store", "version")),
        Row::new("crun run, seccomp", crun("crun")),
        Row::new("crun run, no seccomp", crun("crun-plain")),
        Row::new(
            "podman run --rm --network none",
            place.podman("run --rm --network none busybox true"),
        )
        .every(3),
        Row::new(
            "rbox run --rm, the default network",
            place.rbox("store", "run --rm busybox true"),
        ),
        // Nobody else is on it: what joins its containers is made and goes with each.
        Row::new(
            "rbox run --rm --network lan",
            place.rbox("store", "run --rm --network lan busybox true"),
        ),
    ];
    once(&place.rbox("store", "network create lan"))?;
    let times = table("start of a container", &rows, rounds)?;
    let (floor, run, detached) = (times[0], times[1], times[2]);
    ratio("run/floor", run, floor, "target <= 1.6");
    ratio("run -d/floor", detached, floor, "target <= 1.6");
    ratio("podman/run", times[6], run, "target >= 12");
    ratio("crun/run", times[4], run, "no target");
    ratio("default network/floor", times[7], floor, "target <= 2");
    ratio("network with a name/floor", times[8], floor, "target <= 3");
    Ok(())
}

fn exec(place: &Place, rounds: usize) -> Result<()> {
    once(&place.rbox(
        "store",
        "run -d --name exec --network none busybox sleep 1000",
    ))?;
    let pid = output(&place.rbox("store", "inspect --format {{.State.Pid}} exec"))?;
    let nsenter = format!("nsenter -t {pid} -U -m -p -n -i -u -C --root --wd true");
    let rows = [
        Row::new("nsenter", words(&nsenter)),
        Row::new("rbox exec", place.rbox("store", "exec exec true")),
    ];
    let times = table("exec into a running container", &rows, rounds * 2)?;
    ratio("exec/nsenter", times[1], times[0], "target <= 2.5");
    once(&place.rbox("store", "rm -f exec"))?;
    Ok(())
}

fn ps(place: &Place, rounds: usize) -> Result<()> {
    let mut there = 0;
    for (count, target) in [(1, 3.0), (50, 4.0), (200, 8.0), (MANY, 30.0)] {
        while there < count {
            once(&place.rbox("full", "create --network none busybox true"))?;
            there += 1;
        }
        let row = Row::new("rbox ps -a", place.rbox("full", "ps -a"));
        let times = table(&format!("list of {count} containers"), &[row], rounds)?;
        ratio(
            "milliseconds",
            times[0],
            Some(1.0),
            &format!("target <= {target}"),
        );
    }
    Ok(())
}

/// What is done with one container, beside ten others and beside a thousand (see `ps`).
fn one_of_many(place: &Place, rounds: usize) -> Result<()> {
    for _ in 0..10 {
        once(&place.rbox("store", "create --network none busybox true"))?;
    }
    let create = "create --network none --name gone busybox true";
    for store in ["store", "full"] {
        once(&place.rbox(store, "create --network none --name here busybox true"))?;
        once(&place.rbox(store, create))?;
    }
    let start = |name, store| {
        Row::new(name, place.rbox(store, "start here")).after(place.rbox(store, "wait here"))
    };
    let rm =
        |name, store| Row::new(name, place.rbox(store, "rm gone")).after(place.rbox(store, create));
    let rows = [
        start("start, beside 10", "store"),
        start("start, beside 1000", "full"),
        rm("rm, beside 10", "store"),
        rm("rm, beside 1000", "full"),
    ];
    let times = table("one of many containers", &rows, rounds)?;
    ratio("start, 1000/10", times[1], times[0], "target <= 1.1");
    ratio("rm, 1000/10", times[3], times[2], "target <= 1.1");
    Ok(())
}

/// Containers that begin and end per second, one and two at a time, beside what the bare system calls reach.
fn rate(place: &Place, _: usize) -> Result<()> {
    println!("\ncontainers per second, run --rm");
    let one = place.rbox("store", "run --rm --network none busybox true");
    // What is to be reached is 70 and 110 where the floor is 142 and 188.
    for (at_once, target) in [(1, 70.0 / 142.0), (2, 110.0 / 188.0)] {
        let lanes: Vec<_> = (0..at_once).map(|lane| place.floor(lane)).collect();
        let floor = per_second(&lanes)?;
        let rate = per_second(&vec![one.clone(); at_once])?;
        let ratio = rate / floor;
        println!(
            "  {at_once} at a time: {rate:.0}, floor {floor:.0}: {ratio:.2} (target >= {target:.2})"
        );
    }
    Ok(())
}

/// How often the commands end when each is begun again and again, all beside each other.
fn per_second(commands: &[Vec<String>]) -> Result<f64> {
    let start = Instant::now();
    let end = start + Duration::from_secs(2);
    let done = thread::scope(|scope| {
        let workers: Vec<_> = commands
            .iter()
            .map(|command| {
                scope.spawn(move || {
                    let mut done = 0_u32;
                    while Instant::now() < end {
                        once(command)?;
                        done += 1;
                    }
                    anyhow::Ok(done)
                })
            })
            .collect();
        let counts = workers
            .into_iter()
            .map(|worker| worker.join().expect("a worker does not panic"));
        counts.sum::<Result<u32>>()
    })?;
    Ok(f64::from(done) / start.elapsed().as_secs_f64())
}

/// What rbox's own processes take for containers that only sleep.
fn memory(place: &Place, _: usize) -> Result<()> {
    for (what, network) in [
        ("no network", "none"),
        ("a network and a published port", "private -p 80"),
    ] {
        sleepers(place, what, network)?;
    }
    Ok(())
}

fn sleepers(place: &Place, what: &str, network: &str) -> Result<()> {
    let containers = 10;
    for n in 0..containers {
        let run = format!("run -d --name m{n} --network {network} busybox sleep 1000");
        once(&place.rbox("store", &run))?;
    }
    // They make themselves small when they have had nothing to do for a second; the kernel of a container looks for
    // routers and neighbours in the first ones.
    thread::sleep(Duration::from_secs(5));
    let (mut pss, mut dirty, mut processes) = (0, 0, 0);
    for entry in fs::read_dir("/proc")? {
        if let Some(rollup) = engine_memory(&entry?.path(), &place.rbox) {
            pss += field(&rollup, "Pss:");
            dirty += field(&rollup, "Private_Dirty:");
            processes += 1;
        }
    }
    println!(
        "\nmemory of {containers} detached containers with {what}, {processes} processes of rbox"
    );
    let each = |total: u32| f64::from(total) / f64::from(containers) / 1024.0;
    println!("  {:.2} MiB Pss per container (target <= 0.5)", each(pss));
    println!("  {:.2} MiB of that private and dirty", each(dirty));
    for n in 0..containers {
        once(&place.rbox("store", &format!("rm -f -t 0 m{n}")))?;
    }
    Ok(())
}

/// The summary of a process's memory, if it runs rbox.
fn engine_memory(process: &Path, rbox: &str) -> Option<String> {
    let exe = fs::read_link(process.join("exe")).ok()?;
    if exe != Path::new(rbox) {
        return None;
    }
    fs::read_to_string(process.join("smaps_rollup")).ok()
}

/// A number of KiB in that summary.
fn field(rollup: &str, name: &str) -> u32 {
    let value = rollup.lines().find_map(|line| line.strip_prefix(name));
    let number = value.and_then(|value| value.split_ascii_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Leaves nothing behind that root would have to unmount or kill. What failed before may be left to clear, so errors
/// do not matter here: the caller removes the directories, and says so when it cannot.
fn clear(place: &Place) {
    let memory = (0..10).map(|n| format!("m{n}"));
    for name in memory.chain(["bench".to_owned(), "exec".to_owned()]) {
        let rm = place.rbox("store", &format!("rm -f {name}"));
        command(&rm).output().ok();
    }
    let reset = place.podman("unshare rm -rf");
    let trees = [
        place.path("podman"),
        place.path("store"),
        place.path("full"),
    ];
    command(&reset).args(trees).output().ok();
}
