//! What will be executed, in which surroundings.

use crate::container::config::Process;
use crate::container::config::process::Network;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::config::ImageConfig;
use crate::text::signal;

/// What the user asks for. Absent is what the image says.
#[derive(Clone, Debug)]
pub struct Wish {
    pub command: Vec<String>,
    pub entrypoint: Option<Vec<String>>,
    pub env: Vec<String>,
    pub workdir: Option<String>,
    pub hostname: Option<String>,
    pub network: Network,
    pub terminal: bool,
    pub interactive: bool,
    pub stop_signal: Option<i32>,
    pub stop_timeout: Option<u32>,
}

/// `id` is the container's, `name` what the user calls the image.
pub fn decide(wish: Wish, image: &ImageConfig, id: &str, name: &str) -> anyhow::Result<Process> {
    let (entrypoint, command) = match wish.entrypoint {
        // An entrypoint of the user's makes the image's command meaningless.
        Some(entrypoint) => (entrypoint, wish.command),
        None if wish.command.is_empty() => (image.entrypoint.clone(), image.cmd.clone()),
        None => (image.entrypoint.clone(), wish.command),
    };
    if entrypoint.is_empty() && command.is_empty() {
        return Err(fail(
            Kind::Usage,
            format!("image \"{name}\" has no command, and none was given"),
        )
        .hint(format!("give one: `rbox run {name} COMMAND`")));
    }
    // The image's word is taken where it is a signal at all.
    let stop_signal = wish
        .stop_signal
        .or_else(|| signal::parse(&image.stop_signal).ok())
        .unwrap_or(libc::SIGTERM);
    let hostname = wish.hostname.unwrap_or_else(|| match wish.network {
        Network::None => id[..12].to_owned(),
        Network::Host => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
    });
    let workdir = wish.workdir.unwrap_or_else(|| image.working_dir.clone());
    Ok(Process {
        entrypoint,
        command,
        env: merge_env(&image.env, wish.env),
        workdir: absolute(&workdir),
        hostname,
        network: wish.network,
        terminal: wish.terminal,
        interactive: wish.interactive,
        stop_signal,
        stop_timeout: wish.stop_timeout.unwrap_or(10),
    })
}

/// The image's variables, each replaced by the user's of the same name. An entry of the image
/// without `=` is dropped: nothing is looked up on the host for it (CVE-2020-14370).
fn merge_env(image: &[String], user: Vec<String>) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().map(str::to_owned);
    let mut env: Vec<String> = Vec::new();
    let image = image.iter().filter(|variable| variable.contains('='));
    for variable in image.cloned().chain(user) {
        match env.iter_mut().find(|known| name(known) == name(&variable)) {
            Some(known) => *known = variable,
            None => env.push(variable),
        }
    }
    env
}

fn absolute(workdir: &str) -> String {
    if workdir.starts_with('/') {
        workdir.to_owned()
    } else {
        format!("/{workdir}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_variables_win_and_the_images_never_reach_the_host() {
        let image = ["A=1", "SECRET", "B=2", "S*"].map(String::from);
        let user = vec!["B=3".to_owned(), "C=4".to_owned(), "C=5".to_owned()];
        assert_eq!(merge_env(&image, user), ["A=1", "B=3", "C=5"]);
    }

    #[test]
    fn a_working_directory_is_absolute() {
        assert_eq!(absolute(""), "/");
        assert_eq!(absolute("srv"), "/srv");
        assert_eq!(absolute("/srv"), "/srv");
    }
}
