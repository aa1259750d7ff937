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
    name: String,
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
        let mut remote = Remote {
            name: name.clone(),
            ours: at(1),
            theirs: at(2),
            ours6: format!("2001:db8:77:{block:x}::1"),
            theirs6: format!("2001:db8:77:{block:x}::2"),
            wire: None,
        };
        let peer = format!("{name}p");
        ip(&format!("netns add {name}"));
        if let Some(faults) = faults {
            remote.wire = Some(wire(&name, &peer, faults));
            ip(&format!("link set {peer} netns {name}"));
        } else {
            ip(&format!(
                "link add {name} type veth peer name {peer} netns {name}"
            ));
        }
        for command in [
            format!("addr add {}/30 dev {name}", remote.ours),
            format!("addr add {}/64 dev {name} nodad", remote.ours6),
            format!("link set {name} up"),
            format!("-n {name} addr add {}/30 dev {peer}", remote.theirs),
            format!("-n {name} addr add {}/64 dev {peer} nodad", remote.theirs6),
            format!("-n {name} link set {peer} up"),
            format!("-n {name} link set lo up"),
        ] {
            ip(&command);
        }
        Some(remote)
    }

    /// A script that runs there.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "sh", "-c", script]);
        command
    }

    /// What it prints.
    pub fn run(&self, script: &str) -> String {
        text(&self.command(script).output().unwrap())
    }
}

pub fn ip(command: &str) {
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
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "perl", "-e", WIRE, first, second])
        .args(numbers)
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
        if let Some(wire) = &mut self.wire {
            wire.kill().ok();
            wire.wait().ok();
        }
        for what in ["netns", "link"] {
            Command::new("ip")
                .args([what, "delete", &self.name])
                .output()
                .ok();
        }
    }
}
