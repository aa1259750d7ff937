//! The ways to a server: loopback, a port that rbox publishes, and those of the peers.

use std::env;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::image;
use crate::load;

/// Of the servers, from loopback's on.
const PORT: u16 = 25_301;
const NAME: &str = "bench-network";
const BARE: &str = "bare splice(2)";

pub struct Place {
    dir: PathBuf,
    rbox: PathBuf,
    /// Who runs everything, where it is not who runs this.
    user: Option<String>,
}

impl Place {
    pub fn new() -> Result<Place> {
        let dir = PathBuf::from(format!(
            "/var/tmp/rbox-bench-network-{}",
            std::process::id()
        ));
        let rbox = env::var_os("RBOX_BENCH_RBOX")
            .map_or_else(|| env!("CARGO_BIN_EXE_rbox").into(), PathBuf::from);
        let is_root = rustix::process::getuid().is_root();
        let name = env::var("RBOX_BENCH_USER").unwrap_or_else(|_| "rboxtest".into());
        let place = Place {
            dir,
            rbox,
            user: is_root.then_some(name),
        };
        for name in ["data", "run", "root"] {
            fs::create_dir_all(place.dir.join(name))?;
        }
        // The user may not be able to read what cargo has built.
        fs::copy(env::current_exe()?, place.path("bench"))?;
        fs::copy(&place.rbox, place.path("rbox")).context("cannot read rbox")?;
        image::unpacked(&place.dir.join("root"))?;
        image::archive(&place.dir.join("image.tar"), &place.dir.join("root"))?;
        if let Some(user) = &place.user {
            let owner = format!("{user}:");
            run(Command::new("chown").args(["-R", &owner]).arg(&place.dir))?;
        }
        run(Command::new("chmod")
            .args(["700"])
            .arg(place.dir.join("run")))?;
        Ok(place)
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// A command of the user's, with a store of its own.
    fn command(&self, words: &[&str]) -> Command {
        let mut words = words.to_vec();
        if let Some(user) = &self.user {
            let switch = ["setpriv", "--reuid", user, "--regid", user, "--init-groups"];
            words.splice(0..0, switch);
        }
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command.env("HOME", &self.dir);
        command.env("XDG_DATA_HOME", self.path("data"));
        command.env("XDG_RUNTIME_DIR", self.path("run"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let rbox = self.path("rbox");
        self.command(&[&rbox, "rm", "-f", NAME]).status().ok();
        self.command(&[&rbox, "image", "prune", "-af"])
            .status()
            .ok();
        fs::remove_dir_all(&self.dir).ok();
    }
}

pub struct Way {
    pub name: &'static str,
    port: u16,
    /// What runs a command beside the server, and what is the host there.
    out: Option<(Vec<String>, String)>,
    /// Killed when it is over.
    children: Vec<Child>,
}

impl Way {
    pub fn measure(&self, kind: &str) -> Result<f64> {
        load::measure(kind, (Ipv4Addr::LOCALHOST, self.port).into())
            .with_context(|| format!("{}, {kind}", self.name))
    }

    /// The least that carries anything carries connections alone.
    pub fn carries(&self, kind: &str) -> bool {
        self.name != BARE || !kind.starts_with("udp")
    }

    /// What others made may fail.
    pub fn is_peer(&self) -> bool {
        ["pasta", "slirp4netns"].contains(&self.name)
    }

    pub fn reaches_out(&self) -> bool {
        self.out.is_some()
    }

    /// From beside the server to the one on the host.
    pub fn measure_out(&self, kind: &str) -> Result<f64> {
        let (words, host) = self.out.as_ref().context("there is no way out")?;
        let target = format!("{host}:{PORT}");
        let done = Command::new(&words[0])
            .args(&words[1..])
            .args(["load", kind, &target])
            .output()?;
        if !done.status.success() {
            bail!("{}: {}", self.name, String::from_utf8_lossy(&done.stdout));
        }
        Ok(String::from_utf8_lossy(&done.stdout).trim().parse()?)
    }

    fn when_ready(self) -> Result<Way> {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        for _ in 0..100 {
            // A peer may take a connection before there is a server.
            if TcpStream::connect_timeout(&target, Duration::from_secs(1)).is_ok()
                && self.measure("latency").is_ok()
            {
                return Ok(self);
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("{} does not serve", self.name)
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        for child in &mut self.children {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Loopback first.
pub fn all(place: &Place) -> Result<Vec<Way>> {
    let mut ways = vec![loopback(place)?, rbox(place)?];
    if is_installed("pasta") {
        ways.push(pasta(place)?);
    }
    if is_installed("slirp4netns") {
        ways.push(slirp(place)?);
    }
    // The last one, for it has not all figures.
    ways.push(bare(place)?);
    Ok(ways)
}

fn loopback(place: &Place) -> Result<Way> {
    let bench = place.path("bench");
    let server = place
        .command(&[&bench, "serve", &PORT.to_string()])
        .spawn()?;
    Way {
        name: "loopback",
        port: PORT,
        out: Some((vec![bench], "127.0.0.1".into())),
        children: vec![server],
    }
    .when_ready()
}

fn rbox(place: &Place) -> Result<Way> {
    let port = PORT + 1;
    let (rbox, bench) = (place.path("rbox"), place.path("bench"));
    run(&mut place.command(&[&rbox, "load", "-i", &place.path("image.tar")]))?;
    let publish = [
        format!("127.0.0.1:{port}:{port}"),
        format!("127.0.0.1:{port}:{port}/udp"),
    ];
    let volume = format!("{bench}:/bench:ro");
    let network = "private:host-loopback";
    let words = [
        &rbox,
        "run",
        "-d",
        "--name",
        NAME,
        "--network",
        network,
        "-p",
        &publish[0],
        "-p",
        &publish[1],
        "-v",
        &volume,
        "busybox",
        "/bench",
        "serve",
        &port.to_string(),
    ];
    run(&mut place.command(&words))?;
    let mut words = vec![];
    let inside = place.command(&[&rbox, "exec", NAME, "/bench"]);
    words.extend(["env".to_owned()]);
    let set = inside
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.display(), value?.display())));
    words.extend(set);
    words.push(inside.get_program().display().to_string());
    words.extend(inside.get_args().map(|arg| arg.display().to_string()));
    Way {
        name: "rbox",
        port,
        out: Some((words, "10.0.2.2".into())),
        children: vec![],
    }
    .when_ready()
}

/// It carries on connections of the loopback as they are (splice), which hides the client's address.
fn pasta(place: &Place) -> Result<Way> {
    let port = PORT + 2;
    let number = port.to_string();
    let bench = place.path("bench");
    let words = [
        "pasta",
        "--config-net",
        "-f",
        "-t",
        &number,
        "-u",
        &number,
        "--",
        &bench,
        "serve",
        &number,
    ];
    let child = place.command(&words).stderr(Stdio::null()).spawn()?;
    Way {
        name: "pasta",
        port,
        out: None,
        children: vec![child],
    }
    .when_ready()
}

/// With its own forwarding of ports.
fn slirp(place: &Place) -> Result<Way> {
    let port = PORT + 4;
    let number = port.to_string();
    let (bench, api) = (place.path("bench"), place.path("run/slirp"));
    let words = ["unshare", "-r", "-n", "--", &bench, "serve", &number];
    let server = place.command(&words).spawn()?;
    let target = server.id().to_string();
    // Its namespaces are those of this process until it has made them.
    let own = |kind: &str| fs::read_link(format!("/proc/{target}/ns/{kind}")).ok();
    let ours = fs::read_link("/proc/self/ns/net").ok();
    while own("net") == ours {
        thread::sleep(Duration::from_millis(1));
    }
    let words = [
        "slirp4netns",
        "--configure",
        "--mtu=65520",
        "--api-socket",
        &api,
        &target,
        "tap0",
    ];
    let slirp = place.command(&words).stderr(Stdio::null()).spawn()?;
    let way = Way {
        name: "slirp4netns",
        port,
        out: None,
        children: vec![slirp, server],
    };
    for protocol in ["tcp", "udp"] {
        let order = format!(
            r#"{{"execute":"add_hostfwd","arguments":{{"proto":"{protocol}","host_addr":"127.0.0.1","host_port":{port},"guest_port":{port}}}}}"#
        );
        tell(&api, &order)?;
    }
    way.when_ready()
}

/// Gives an order to a socket file, which may not be there yet.
fn tell(socket: &str, order: &str) -> Result<()> {
    for _ in 0..200 {
        if let Ok(mut stream) = UnixStream::connect(socket) {
            stream.write_all(order.as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            let mut said = String::new();
            stream.read_to_string(&mut said)?;
            if said.contains("error") {
                bail!("{socket} says {said}");
            }
            return Ok(());
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("nobody listens at {socket}")
}

/// From a port of the loopback to the server there.
fn bare(place: &Place) -> Result<Way> {
    let port = PORT + 3;
    let target = format!("127.0.0.1:{PORT}");
    let words = [&place.path("bench"), "relay", &port.to_string(), &target];
    Way {
        name: BARE,
        port,
        out: None,
        children: vec![place.command(&words).spawn()?],
    }
    .when_ready()
}

fn is_installed(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    found.is_ok_and(|status| status.success())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status()?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
