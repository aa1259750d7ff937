//! Pushing into an empty registry, beside podman and skopeo.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::Place;
use crate::measure::Row;
use crate::measure::ratio;
use crate::measure::run;
use crate::measure::table;
use crate::registry::Registry;

/// `place` has the image as `HOST/bench:gzip`.
pub fn rows(place: &Place<'_>, rounds: usize) -> Result<()> {
    let second = place.base.join("second");
    fs::create_dir_all(second.join("registry"))?;
    let target = Registry::start(&second)?;
    let podman = "podman --root BASE/podman --runroot BASE/run/podman";
    let setup = format!(
        "skopeo copy -q --src-tls-verify=false docker://HOST/bench:gzip docker-archive:BASE/made.tar:bench:made
         skopeo copy -q --src-tls-verify=false docker://HOST/bench:gzip dir:BASE/dir
         {podman} pull -q --tls-verify=false HOST/bench:gzip
         BASE/bin/rbox load -q -i BASE/made.tar"
    );
    run(&place.shell(&setup))?;
    let rows = |image: &str| rows_of(place, &target.host, image);
    let made = rows("docker.io/library/bench:made");
    let found = table("Push of an image that was made here, gzip", &made, rounds)?;
    ratio("rbox/podman", found[0], found[1], "-");
    run(&place.shell(
        "BASE/bin/rbox rmi bench:made; BASE/bin/rbox pull -q --tls-verify=false HOST/bench:gzip",
    ))?;
    let pulled = rows("HOST/bench:gzip");
    let found = table("Push of an image that was pulled, gzip", &pulled, rounds)?;
    ratio("rbox/podman", found[0], found[1], "-");
    ratio("rbox/skopeo", found[0], found[2], "-");
    run(&place.shell(&format!(
        "BASE/bin/rbox rmi -f HOST/bench:gzip; {podman} rmi -a -f; rm -rf BASE/dir BASE/made.tar"
    )))?;
    Ok(())
}

/// After each push the registry is empty again, and rbox does not remember what it made.
fn rows_of(place: &Place<'_>, target: &str, image: &str) -> Vec<Row> {
    let with = |text: &str| text.replace("TARGET", target).replace("IMAGE", image);
    let empty = "rm -rf BASE/second/registry/docker BASE/.local/share/rbox/cache/packed; sync";
    let row = |name: &'static str, text: &str| {
        Row::new(name, place.line(&with(text))).after(place.shell(empty))
    };
    vec![
        row(
            "rbox push",
            "BASE/bin/rbox push -q --tls-verify=false IMAGE TARGET/push:x",
        ),
        row(
            "podman push",
            "podman --root BASE/podman --runroot BASE/run/podman push -q --tls-verify=false HOST/bench:gzip TARGET/push:x",
        ),
        row(
            "skopeo copy of a directory",
            "skopeo copy -q --dest-tls-verify=false dir:BASE/dir docker://TARGET/push:x",
        ),
    ]
}

/// Only what is above: the image is made for it.
pub fn alone(base: &Path, rounds: usize) -> Result<()> {
    let registry = Registry::start(base)?;
    let size = crate::image::push(base, &registry.host)?;
    println!("four layers, {} MiB", size >> 20);
    let place = Place {
        base,
        host: &registry.host,
    };
    rows(&place, rounds)
}
