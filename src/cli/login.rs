//! `rbox login` and `rbox logout`.

use std::io::IsTerminal;
use std::io::Read;
use std::path::PathBuf;

use clap::Args;

use crate::cli::output;
use crate::cli::prompt;
use crate::config::registries::Registries;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::registry::Access;
use crate::image::registry::Credentials;
use crate::image::registry::login;
use crate::image::registry::login::Server;

/// Longer than any password or token.
const PASSWORD_MAX: u64 = 64 << 10;

/// Log in to a registry
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rbox login quay.io
  rbox login --username ann --password-stdin registry.lan:5000 < password")]
pub struct Login {
    /// Keep the credentials in this file
    #[arg(long, value_name = "FILE", conflicts_with = "compat_auth_file")]
    authfile: Option<PathBuf>,

    /// Trust the certificates in this directory too
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,

    /// Keep the credentials in this file, as Docker writes it
    #[arg(long, value_name = "FILE")]
    compat_auth_file: Option<PathBuf>,

    /// Print who is logged in
    #[arg(long)]
    get_login: bool,

    /// The password; other users of this machine can see it
    #[arg(short, long)]
    password: Option<String>,

    /// Read the password from standard input
    #[arg(long, requires = "username", conflicts_with = "password")]
    password_stdin: bool,

    /// Read this in place of registries.conf
    #[arg(long, value_name = "FILE", hide = true)]
    registries_conf: Option<PathBuf>,

    /// Refused: rbox keeps no secrets
    #[arg(long, value_name = "NAME", hide = true, value_parser = no_secrets)]
    secret: Option<String>,

    /// Accept only https with a known certificate; with =false anything
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", action = clap::ArgAction::Set,
        hide_possible_values = true)]
    tls_verify: Option<bool>,

    /// The user
    #[arg(short, long, value_name = "USER")]
    username: Option<String>,

    /// Print where the credentials are kept
    #[arg(short, long)]
    verbose: bool,

    /// The registry, or a repository of it; without one the first that short names are looked for in
    #[arg(value_name = "REGISTRY[/REPOSITORY]")]
    server: Option<Server>,
}

fn no_secrets(_: &str) -> Result<String, String> {
    Err("rbox keeps no secrets; --password-stdin reads a file".to_owned())
}

/// Log out of a registry
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  rbox logout quay.io
  rbox logout --all")]
pub struct Logout {
    /// Forget the credentials of all registries
    #[arg(short, long, conflicts_with = "server")]
    all: bool,

    /// Forget the credentials in this file
    #[arg(long, value_name = "FILE", conflicts_with = "compat_auth_file")]
    authfile: Option<PathBuf>,

    /// Forget the credentials in this file, which is one of Docker
    #[arg(long, value_name = "FILE")]
    compat_auth_file: Option<PathBuf>,

    /// Read this in place of registries.conf
    #[arg(long, value_name = "FILE", hide = true)]
    registries_conf: Option<PathBuf>,

    /// The registry, or a repository of it
    #[arg(value_name = "REGISTRY[/REPOSITORY]")]
    server: Option<Server>,
}

pub fn login(args: Login) -> anyhow::Result<u8> {
    let access = Access {
        tls_verify: args.tls_verify,
        cert_dir: args.cert_dir.clone(),
        // A file of Docker's form is read as any other.
        authfile: args.authfile.clone().or(args.compat_auth_file.clone()),
        registries_conf: args.registries_conf.clone(),
        ..Access::default()
    };
    let registries = Registries::load(access.registries_conf.as_deref())?;
    let server = match &args.server {
        Some(server) => server.clone(),
        None => registries.search().remove(0).parse()?,
    };
    let known = server.known(&access, &registries)?;
    if args.get_login {
        let Some(known) = known.filter(|known| !known.user().is_empty()) else {
            return Err(fail(
                Kind::NotFound,
                format!("not logged into {}", server.key),
            ));
        };
        output::print_line(known.user())?;
        return Ok(0);
    }
    let fresh = args.username.is_none() && args.password.is_none();
    if fresh && known.is_some() && still_good(&server, known.clone(), &access, &registries)? {
        return Ok(0);
    }
    let (user, password) = who(&args, known.as_ref())?;
    let typed = Credentials::Password { user, password };
    let Some(credentials) = server.proven(typed, &access, &registries)? else {
        let text = format!("logging into \"{}\": invalid username/password", server.key);
        return Err(anyhow::anyhow!(text));
    };
    let place = match &args.compat_auth_file {
        Some(path) => server.keep_for_docker(&credentials, path)?,
        None => server.keep(&credentials, &access, &registries)?,
    };
    if args.verbose {
        output::print_line(&format!("Used: {place}"))?;
    }
    output::print_line("Login Succeeded!")?;
    Ok(0)
}

/// As Podman: what is known is tried where nothing else was given.
fn still_good(
    server: &Server,
    known: Option<Credentials>,
    access: &Access,
    registries: &Registries,
) -> anyhow::Result<bool> {
    let Some(known) = known else {
        return Ok(false);
    };
    output::print_line(&format!(
        "Authenticating with existing credentials for {}",
        server.key
    ))?;
    if server.proven(known, access, registries)?.is_some() {
        output::print_line(&format!(
            "Existing credentials are valid. Already logged in to {}",
            server.registry
        ))?;
        return Ok(true);
    }
    output::print_line(
        "Existing credentials are invalid, please enter valid username and password",
    )?;
    Ok(false)
}

/// User and password, as far as they were not given from the person at the terminal.
fn who(args: &Login, known: Option<&Credentials>) -> anyhow::Result<(String, String)> {
    let user = match (&args.username, known) {
        (Some(user), _) => user.clone(),
        (None, Some(Credentials::Password { user, .. })) => {
            let typed = prompt::line(&format!("Username ({user}): "))?;
            if typed.is_empty() {
                user.clone()
            } else {
                typed
            }
        }
        (None, _) => prompt::line("Username: ")?,
    };
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => from_stdin()?,
        None => prompt::secret("Password: ")?,
    };
    if user.is_empty() || user.contains(':') {
        let text = format!("user name {user:?} is empty or has a colon, which no registry takes");
        return Err(fail(Kind::Usage, text));
    }
    if password.is_empty() {
        return Err(fail(Kind::Usage, "the password is empty"));
    }
    Ok((user, password))
}

/// All of it but the end of the last line.
fn from_stdin() -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        return Err(fail(
            Kind::Usage,
            "--password-stdin: standard input is a terminal",
        ))
        .hint("leave the flag out to be asked");
    }
    let mut text = String::new();
    let mut stdin = std::io::stdin().take(PASSWORD_MAX);
    stdin.read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

pub fn logout(args: Logout) -> anyhow::Result<u8> {
    let access = Access {
        authfile: args.authfile.clone(),
        registries_conf: args.registries_conf.clone(),
        ..Access::default()
    };
    let registries = Registries::load(access.registries_conf.as_deref())?;
    let in_docker = Access {
        authfile: args.compat_auth_file.clone(),
        ..access.clone()
    };
    if args.all {
        match &args.compat_auth_file {
            Some(_) => login::forget_all(&in_docker, &registries)?,
            None => login::forget_all(&access, &registries)?,
        }
        output::print_line("Removed login credentials for all registries")?;
        return Ok(0);
    }
    let server = match args.server {
        Some(server) => server,
        None => registries.search().remove(0).parse()?,
    };
    let forgotten = match &args.compat_auth_file {
        Some(path) => server.forget_in(path)?,
        None => server.forget(&access, &registries)?,
    };
    if forgotten {
        output::print_line(&format!("Removed login credentials for {}", server.key))?;
        return Ok(0);
    }
    let elsewhere = args.compat_auth_file.is_none() && args.authfile.is_none();
    if elsewhere && server.known(&access, &registries)?.is_some() {
        output::print_line(&format!(
            "Not logged into {} with current tool. Existing credentials were established via docker login. Please use docker logout instead.",
            server.key
        ))?;
        return Ok(0);
    }
    Err(fail(
        Kind::NotFound,
        format!("not logged into {}", server.key),
    ))
}
