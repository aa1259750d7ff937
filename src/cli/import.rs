//! `rbox import`.

use std::io::IsTerminal;

use crate::cli::output;
use crate::engine::Engine;
use crate::engine::import;
use crate::engine::import::Request;
use crate::engine::import::Source;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::names;
use crate::oci::platform::Platform;

/// Make an image of an archive of files, such as `export` writes
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The archive is a tar, also one in gzip, zstd or xz; it becomes the only layer, byte for byte.

Examples:
  rbox import rootfs.tar.xz localhost/mine:1
  rbox export web | rbox import -c 'CMD [\"httpd\", \"-f\"]' - web"
)]
pub struct Args {
    /// The architecture that the files are for, instead of the machine's own
    #[arg(long, value_name = "ARCH", conflicts_with = "platform")]
    arch: Option<String>,

    /// Set what the image says of itself by an instruction of a Dockerfile, such as CMD, ENV or WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,

    /// A comment
    #[arg(short, long)]
    message: Option<String>,

    /// The operating system that the files are for
    #[arg(long, value_name = "OS", conflicts_with = "platform")]
    os: Option<String>,

    /// All three: system, architecture and variant
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,

    /// Print nothing but the id
    #[arg(short, long)]
    quiet: bool,

    /// The variant of the architecture
    #[arg(long, value_name = "VARIANT", conflicts_with = "platform")]
    variant: Option<String>,

    /// The archive: a file, a URL (http, https), or - for standard input
    #[arg(value_name = "PATH")]
    path: String,

    /// The name of the image; without a registry it is of localhost
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let name = args.name.as_deref().map(names::parse_new).transpose()?;
    let request = Request {
        source: source(&args.path)?,
        name: name.as_ref(),
        message: args.message.as_deref(),
        changes: &args.change,
        platform: platform(args)?,
    };
    let image = import::import(engine, &request)?;
    output::print_line(&image.id.to_string())?;
    Ok(0)
}

fn source(path: &str) -> anyhow::Result<Source> {
    if path == "-" {
        if std::io::stdin().is_terminal() {
            return Err(fail(Kind::Usage, "cannot import from a terminal"))
                .hint("name the archive, or redirect it to standard input");
        }
        return Ok(Source::Stdin);
    }
    let is_url = path.starts_with("http://") || path.starts_with("https://");
    Ok(if is_url {
        Source::Url(path.to_owned())
    } else {
        Source::Path(path.into())
    })
}

fn platform(args: &Args) -> anyhow::Result<Platform> {
    if let Some(platform) = &args.platform {
        return Ok(platform.clone());
    }
    let host = Platform::host();
    let platform = Platform {
        os: args.os.clone().unwrap_or(host.os),
        architecture: args.arch.clone().unwrap_or(host.architecture),
        variant: args.variant.clone(),
    };
    // The words are those of a platform.
    platform.to_string().parse()
}
