//! What the built-in image `hello` runs: it tells where it is.

use crate::cli::output;

/// Greet from inside a container
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: &Args) -> anyhow::Result<u8> {
    let pid = rustix::process::getpid().as_raw_pid();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let (outside, count) = root_of(&map);
    let ids = if count == 1 { "id" } else { "ids" };
    output::print(&format!(
        "Hello from a container.

It is process {pid} of its own process tree, on its own root file system, and root of its own
user namespace: uid 0 here is uid {outside} outside, with {count} {ids} in all. No daemon was asked.

Try next:
  rbox run -it --rm debian bash
  rbox doctor
"
    ))?;
    Ok(0)
}

/// Who uid 0 is outside, and how many ids there are, by a uid_map (user_namespaces(7)).
fn root_of(map: &str) -> (u64, u64) {
    let mut outside = 0;
    let mut count = 0;
    for line in map.lines() {
        let fields: Vec<u64> = line
            .split_whitespace()
            .filter_map(|field| field.parse().ok())
            .collect();
        if let [inside, start, length] = fields.as_slice() {
            if *inside == 0 {
                outside = *start;
            }
            count += length;
        }
    }
    (outside, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_in_the_map() {
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(root_of(map), (1000, 65537));
    }
}
