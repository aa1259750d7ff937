//! `rbox save`.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::PathBuf;

use crate::cli::progress::Bars;
use crate::engine::Engine;
use crate::engine::images;
use crate::error;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::compress::Format;
use crate::image::names;
use crate::image::registry::push::Wish;
use crate::image::save;
use crate::image::save::Saved;
use crate::image::save::Target;
use crate::image::transport::Form;
use crate::image::variant;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;

/// Save images as an archive or a directory
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A further IMAGE that is in the store is saved too; one that is not is a further name for the first.
The forms of OCI, and docker-dir, hold manifest and layers byte for byte as they were pulled.

Examples:
  rbox save -o nginx.tar nginx
  rbox save --format oci-archive nginx redis | zstd > both.tar.zst"
)]
pub struct Args {
    /// Compress layers that are not (with --format docker-dir)
    #[arg(long)]
    compress: bool,

    /// What is written: docker-archive, oci-archive, oci-dir or docker-dir
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive",
        value_parser = ["docker-archive", "oci-archive", "oci-dir", "docker-dir"],
        hide_possible_values = true)]
    format: String,

    /// Take every IMAGE for an image, and none for a further name
    #[arg(short, long)]
    multi_image_archive: bool,

    /// The archive or directory to write, instead of standard output
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,

    /// Of an image that is in the store for several platforms, save the one for this
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<Platform>,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,

    /// Write layers without compression (with the forms of OCI)
    #[arg(long)]
    uncompressed: bool,

    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let form = match args.format.as_str() {
        "oci-archive" => Form::OciArchive,
        "oci-dir" => Form::Oci,
        "docker-dir" => Form::Dir,
        _ => Form::DockerArchive,
    };
    let wish = wish(args, form)?;
    let images = find(engine, args)?;
    let target = target(args, form)?;
    let stdout = matches!(target, Target::Stream(_));
    let bars = Bars::new(args.quiet || stdout);
    let saved = save::save(&engine.dirs, &images, form, target, &wish, &bars);
    bars.clear();
    saved?;
    let to = args.output.as_deref();
    let to = to.map_or("-".into(), |path| path.to_string_lossy());
    for saved in &images {
        images::record(engine, "save", &saved.image.id, &to);
    }
    Ok(0)
}

fn wish(args: &Args, form: Form) -> anyhow::Result<Wish> {
    match (args.compress, args.uncompressed, form) {
        (false, false, _) => Ok(Wish::default()),
        (true, false, Form::Dir) => Ok(Wish {
            compression: Some(Format::Gzip),
            ..Wish::default()
        }),
        (false, true, Form::Oci | Form::OciArchive) => Ok(Wish {
            compression: Some(Format::None),
            force: true,
            ..Wish::default()
        }),
        (true, _, _) => Err(fail(
            Kind::Usage,
            "--compress is for --format docker-dir alone",
        )),
        _ => Err(fail(
            Kind::Usage,
            "--uncompressed is for --format oci-archive and oci-dir alone",
        )),
    }
}

fn target(args: &Args, form: Form) -> anyhow::Result<Target<'_>> {
    if let Some(path) = &args.output {
        return Ok(Target::Path(path));
    }
    if matches!(form, Form::Oci | Form::Dir) {
        let text = format!(
            "--format {} makes a directory: give --output DIR",
            args.format
        );
        return Err(fail(Kind::Usage, text));
    }
    let stdout = std::io::stdout();
    if stdout.is_terminal() {
        return Err(fail(Kind::Usage, "cannot write an archive to a terminal"))
            .hint("redirect standard output, or use `--output FILE`");
    }
    let stdout = stdout.as_fd().try_clone_to_owned()?;
    Ok(Target::Stream(File::from(stdout)))
}

/// The images, each once, with the names by which they were asked for.
fn find(engine: &Engine, args: &Args) -> anyhow::Result<Vec<Saved>> {
    let mut found: Vec<Saved> = Vec::new();
    for text in &args.images {
        let image = match variant::find(&engine.dirs, text, args.platform.as_ref()) {
            Err(err) if error::kind(&err) == Some(Kind::NotFound) && !args.multi_image_archive => {
                let Some(first) = found.first_mut() else {
                    return Err(err);
                };
                // As podman: a name that the first image has in the archive alone.
                let name = Reference::parse_in(text, names::LOCAL)?;
                first.names.push(name.to_string());
                continue;
            }
            image => image?,
        };
        let tagged = image.names.iter().filter(|name| name.digest().is_none());
        let names: Vec<String> = tagged.map(ToString::to_string).collect();
        match found.iter_mut().find(|saved| saved.image.id == image.id) {
            Some(saved) => {
                for name in names {
                    if !saved.names.contains(&name) {
                        saved.names.push(name);
                    }
                }
            }
            None => found.push(Saved { image, names }),
        }
    }
    Ok(found)
}
