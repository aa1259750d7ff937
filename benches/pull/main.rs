//! How long a pull and a push take and how much memory a pull, beside Debian's podman and skopeo and beside `zstd -d | tar x`.
//!
//! `cargo bench --bench pull [-- ROUNDS]`. As root it does everything as a plain user (RBOX_BENCH_USER, rboxtest, which
//! it makes); as a plain user it is that user. An image of four layers and 665 MiB is made of what the machine has below
//! /usr, compressed by gzip and by zstd, and served by Debian's docker-registry on the loopback. Peers that are not
//! installed are left out. RBOX_BENCH_RBOX names another rbox to measure, and with
//! RBOX_BENCH_ONLY=push nothing but pushes are measured.
//!
//! All rows of a table take turns in one run, medians are compared: on a shared machine only such ratios mean
//! anything. After each pull, outside its time, what it made is removed and the disk is synced: nobody waits for what
//! another has left to be written.
//!
//! Owns on disk /var/tmp/rbox-bench-pull-PID, and removes it.
#![expect(clippy::print_stdout, reason = "the tables are the output")]

#[path = "../startup/archive.rs"]
mod archive;
mod image;
#[path = "../startup/measure.rs"]
#[expect(dead_code, reason = "the other bench uses more of it")]
mod measure;
mod memory;
mod push;
mod registry;

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::measure::Row;
use crate::measure::ratio;
use crate::measure::run;
use crate::measure::table;
use crate::measure::words;
use crate::registry::Registry;

/// What `images` lists.
const MANY: usize = 500;
/// `push`: nothing but the pushes.
const ONLY: &str = "RBOX_BENCH_ONLY";

fn main() -> ExitCode {
    match role() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            println!("pull bench: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn role() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    if let ["inside", rounds, base] = words.as_slice() {
        return rows(Path::new(base), rounds.parse()?);
    }
    // cargo bench adds --bench.
    let rounds = words.iter().find_map(|word| word.parse().ok());
    outside(rounds.unwrap_or(5))
}

fn outside(rounds: usize) -> Result<()> {
    let base = PathBuf::from(format!("/var/tmp/rbox-bench-pull-{}", std::process::id()));
    fs::create_dir_all(base.join("bin"))?;
    let named = env::var_os("RBOX_BENCH_RBOX");
    let rbox: PathBuf = named.map_or_else(|| env!("CARGO_BIN_EXE_rbox").into(), PathBuf::from);
    // The plain user may not be able to reach the build directory.
    fs::copy(&rbox, base.join("bin/rbox"))
        .with_context(|| format!("cannot copy {}", rbox.display()))?;
    fs::copy(env::current_exe()?, base.join("bin/bench"))?;
    let measured = inside(&base, rounds);
    run(&words(&format!("rm -rf {}", base.display())))?;
    measured
}

fn inside(base: &Path, rounds: usize) -> Result<()> {
    let mut inside = if rustix::process::geteuid().is_root() {
        let user = env::var("RBOX_BENCH_USER").unwrap_or_else(|_| "rboxtest".to_owned());
        if !Command::new("id")
            .args(["-u", &user])
            .output()?
            .status
            .success()
        {
            run(&words(&format!("useradd -m {user}")))?;
        }
        run(&words(&format!("chown -R {user}: {}", base.display())))?;
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--init-groups"]);
        command.arg(base.join("bin/bench"));
        command
    } else {
        Command::new(base.join("bin/bench"))
    };
    inside.args(["inside", &rounds.to_string()]).arg(base);
    inside.env_clear().env("HOME", base);
    inside.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    inside.env("XDG_RUNTIME_DIR", base.join("run"));
    if let Some(only) = env::var_os(ONLY) {
        inside.env(ONLY, only);
    }
    // Not interrupted in the middle of its cleaning up.
    let status = inside.process_group(0).status()?;
    if !status.success() {
        bail!("a row could not be measured");
    }
    Ok(())
}

/// The commands of one compression, in the place of this run.
struct Place<'a> {
    base: &'a Path,
    host: &'a str,
}

impl Place<'_> {
    fn line(&self, text: &str) -> Vec<String> {
        let base = self.base.display().to_string();
        words(&text.replace("BASE", &base).replace("HOST", self.host))
    }

    fn shell(&self, text: &str) -> Vec<String> {
        let base = self.base.display().to_string();
        let text = text.replace("BASE", &base).replace("HOST", self.host);
        vec!["sh".into(), "-ec".into(), text]
    }

    fn rows(&self, form: &str, unpack: &str) -> Vec<Row> {
        let with = |text: &str| text.replace("FORM", form).replace("UNPACK", unpack);
        let rbox = with("BASE/bin/rbox pull -q --tls-verify=false HOST/bench:FORM");
        let podman = "podman --root BASE/podman --runroot BASE/run/podman";
        let pull = format!("{podman} pull -q --tls-verify=false HOST/bench:{form}");
        let skopeo =
            with("skopeo copy -q --src-tls-verify=false docker://HOST/bench:FORM dir:BASE/dir");
        let tar = with(
            "for blob in BASE/FORM/*.layer; do UNPACK <$blob | tar -x -C BASE/tree --no-same-owner; done",
        );
        vec![
            Row::new("rbox pull", self.line(&rbox))
                .after(self.shell(&with("BASE/bin/rbox rmi HOST/bench:FORM; sync"))),
            Row::new("podman pull", self.line(&pull))
                .after(self.shell(&format!("{podman} rmi -a -f; sync"))),
            Row::new("skopeo copy (unpacks nothing)", self.line(&skopeo))
                .after(self.shell("rm -rf BASE/dir && sync")),
            Row::new(
                "unpack | tar x, no registry",
                self.shell(&format!("mkdir BASE/tree; {tar}")),
            )
            .after(self.shell("chmod -R u+w BASE/tree; rm -rf BASE/tree && sync")),
        ]
    }
}

fn rows(base: &Path, rounds: usize) -> Result<()> {
    for dir in ["run", "registry", "gzip", "zstd"] {
        fs::create_dir(base.join(dir))?;
    }
    run(&words(&format!("chmod 700 {}", base.join("run").display())))?;
    if env::var_os(ONLY).is_some_and(|only| only == "push") {
        return push::alone(base, rounds);
    }
    let registry = Registry::start(base)?;
    let place = Place {
        base,
        host: &registry.host,
    };
    let size = image::push(base, &registry.host)?;
    println!("four layers, {} MiB", size >> 20);
    for (form, unpack, target) in [
        ("gzip", "gzip -dc", "target <= 0.40"),
        ("zstd", "zstd -dqc", "target <= 0.45"),
    ] {
        let rows = place.rows(form, unpack);
        let found = table(&format!("Pull, {form}"), &rows, rounds)?;
        ratio("rbox/podman", found[0], found[1], target);
        ratio("rbox/(unpack | tar x)", found[0], found[3], "-");
        let peak = memory::peak(&rows[0].command, &base.join("bin/rbox"))?;
        println!(
            "  peak memory of all its processes: {} MiB (target < 100)",
            peak >> 20
        );
        again(&place, &registry, &rows[0], rounds)?;
    }
    push::rows(&place, rounds)?;
    many(&place, rounds)
}

/// The image is in the store.
fn again(place: &Place<'_>, registry: &Registry, first: &Row, rounds: usize) -> Result<()> {
    let before = registry.blobs_fetched()?;
    let rows = [Row::new("rbox pull, again", first.command.clone())];
    table("A second pull (target < 50 ms)", &rows, rounds)?;
    let fetched = registry.blobs_fetched()? - before;
    println!("  blobs fetched: {fetched}");
    run(first
        .after
        .as_ref()
        .context("it is removed after its turn")?)?;
    if fetched > 0 {
        bail!("a second pull fetched {fetched} blobs of {}", place.host);
    }
    Ok(())
}

fn many(place: &Place<'_>, rounds: usize) -> Result<()> {
    let archive = place.base.join("many.tar");
    image::many(&archive, MANY)?;
    run(&place.line("BASE/bin/rbox load -q -i BASE/many.tar"))?;
    let rows = [Row::new("rbox images", place.line("BASE/bin/rbox images"))];
    table(
        &format!("{MANY} images (target < 20 ms)"),
        &rows,
        rounds * 4,
    )?;
    // What belongs to sub-ids goes as it came.
    run(&place.shell("BASE/bin/rbox images -q | xargs BASE/bin/rbox rmi -f"))?;
    Ok(())
}
