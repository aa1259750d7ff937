//! A host of its own beside this one: a network namespace that is joined to this one's by a pair of interfaces, or by
//! a wire that loses, delays and reorders what goes over it.
use std::io::BufRead;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use super::account;
use super::skip::skip;

pub struct Remote {
    /// The interface of this host that leads there.
    pub name: String,
    /// What has that network namespace. It dies with the test, also where that is killed; with it goes the namespace,
    /// and with that both interfaces.
    holder: Child,
    /// Of this host, and of that one.
    pub ours: String,
    pub theirs: String,
    pub ours6: String,
    pub theirs6: String,
    wire: Option<Child>,
}

/// What a wire does to frames, in both directions alike: one of so many is lost, one of so many comes late (0: none);
/// and in milliseconds how long each is on its way.
pub struct Faults {
    pub lost: u32,
    pub late: u32,
    pub delay: u32,
}

/// Carries frames between two TAP devices, which it makes: their names, and the three numbers of `Faults`. What is
/// late is three times as long on its way, and so comes after what was sent after it.
const WIRE: &str = r"use strict; use Time::HiRes 'time'; my ($first, $second, $lost, $late, $delay) = @ARGV;
    my @taps = map { open my $tap, '+<', '/dev/net/tun' or die $!;
        my $request = pack 'a16 S x22', $_, 0x1002; ioctl $tap, 0x400454ca, $request or die $!; $tap } $first, $second;
    $| = 1; print qq(ready\n);
    my ($count, @queues) = (0, [], [], [], []);
    while (1) {
        my $wait; my $now = time;
        for my $at (0 .. 3) {
            my $queue = $queues[$at];
            while (@$queue && $queue->[0][0] <= $now) { syswrite $taps[$at >> 1], (shift @$queue)->[1] }
            my $left = @$queue ? $queue->[0][0] - $now : next;
            $wait = $left if !defined $wait || $left < $wait;
        }
        my $ready = ''; vec($ready, fileno $_, 1) = 1 for @taps;
        select $ready, undef, undef, $wait;
        for my $from (0, 1) {
            vec($ready, fileno $taps[$from], 1) && sysread $taps[$from], my $frame, 70000 or next;
            $count++; next if $lost && $count % $lost == 0;
            my $is_late = $late && $count % $late == 0;
            push @{$queues[(1 - $from) * 2 + $is_late]}, [time + $delay / 1000 * ($is_late ? 3 : 1), $frame];
        }
    }";

impl Remote {
    /// `None` (and a SKIP line) where the tests do not run as root.
    pub fn new() -> Option<Remote> {
        Self::made(None)
    }

    pub fn behind(faults: &Faults) -> Option<Remote> {
        Self::made(Some(faults))
    }

    fn made(faults: Option<&Faults>) -> Option<Remote> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !account::is_root() {
            skip("only root can make another host");
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rbt{}.{number}", std::process::id());
        // RFC 2544 gives 198.18.0.0/15 to tests between networks; other test runs have other parts of it.
        let block = (std::process::id() * 16 + number) % 0x8000;
        let at = |last: u32| {
            let address = std::net::Ipv4Addr::from(0xc612_0000 | (block << 2) | last);
            address.to_string()
        };
        let holder = ready(&[
            "unshare",
            "--net",
            "sh",
            "-c",
            "echo ready; exec sleep infinity",
        ]);
        let there = holder.id().to_string();
        let peer = format!("{name}p");
        let wire = faults.map(|faults| wire(&name, &peer, faults));
        let remote = Remote {
            name: name.clone(),
            holder,
            ours: at(1),
            theirs: at(2),
            ours6: format!("2001:db8:77:{block:x}::1"),
            theirs6: format!("2001:db8:77:{block:x}::2"),
            wire,
        };
        if remote.wire.is_some() {
            ip(&format!("link set {peer} netns {there}"));
        } else {
            ip(&format!(
                "link add {name} type veth peer name {peer} netns {there}"
            ));
        }
        ip(&format!("addr add {}/30 dev {name}", remote.ours));
        ip(&format!("addr add {}/64 dev {name} nodad", remote.ours6));
        ip(&format!("link set {name} up"));
        let (theirs, theirs6) = (&remote.theirs, &remote.theirs6);
        remote.run(&format!(
            "ip addr add {theirs}/30 dev {peer}; ip addr add {theirs6}/64 dev {peer} nodad
             ip link set {peer} up; ip link set lo up"
        ));
        Some(remote)
    }

    /// A script that runs there.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        let there = self.holder.id().to_string();
        command.args(["-t", &there, "-n", "sh", "-c", script]);
        command
    }

    /// What it prints.
    pub fn run(&self, script: &str) -> String {
        text(&self.command(script).output().unwrap())
    }
}

fn ip(command: &str) {
    let done = Command::new("ip")
        .args(command.split(' '))
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "ip {command}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

fn text(done: &Output) -> String {
    String::from_utf8_lossy(&done.stdout).into_owned()
}

fn wire(first: &str, second: &str, faults: &Faults) -> Child {
    let numbers = [faults.lost, faults.late, faults.delay].map(|number| number.to_string());
    let [lost, late, delay] = &numbers;
    ready(&["perl", "-e", WIRE, first, second, lost, late, delay])
}

/// A command that goes on when it has said that it is ready, and ends with this thread.
fn ready(command: &[&str]) -> Child {
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .args(command)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

impl Drop for Remote {
    fn drop(&mut self) {
        // The namespace itself goes a little later than its last process.
        Command::new("ip")
            .args(["link", "delete", &self.name])
            .output()
            .ok();
        for child in self.wire.iter_mut().chain([&mut self.holder]) {
            child.kill().ok();
            child.wait().ok();
        }
    }
}
