//! `rbox manifest annotate`.

use crate::cli::manifest::add::Words;
use crate::cli::output;
use crate::engine::Engine;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::image::lists;

/// Change what a list says of an image, or of itself
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox manifest annotate --arch arm64 --variant v8 app app:arm64
  rbox manifest annotate --index --annotation org.opencontainers.image.version=1.2 app")]
pub struct Args {
    /// Annotate the list, and no image of it
    #[arg(long)]
    index: bool,

    /// The image that the list is about
    #[arg(long, value_name = "IMAGE")]
    subject: Option<String>,

    #[command(flatten)]
    words: Words,

    /// The list
    #[arg(value_name = "LIST")]
    list: String,

    /// An image of it, by digest or name
    #[arg(value_name = "IMAGE")]
    image: Option<String>,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let of_list = args.index || args.subject.is_some();
    if of_list && args.words.has_platform() {
        let text = "--index and --subject are of the list, which is for no platform";
        return Err(fail(Kind::Usage, text));
    }
    if args.index && args.image.is_some() {
        return Err(fail(
            Kind::Usage,
            "--index takes a list, and no image of it",
        ));
    }
    if !of_list && args.image.is_none() {
        return Err(fail(Kind::Usage, "the image of the list is missing"))
            .hint("name one after the list, or use --index to annotate the list itself");
    }
    let subject = match &args.subject {
        Some(text) => {
            let image = image::find(&engine.dirs, text)?;
            let mut entry = lists::entry_of(&engine.dirs, &image)?;
            entry.platform = None;
            Some(entry)
        }
        None => None,
    };
    let list = lists::change(&engine.dirs, &args.list, |list| {
        if subject.is_some() {
            list.index.subject = subject;
        }
        if args.index {
            args.words.annotate(&mut list.index.annotations);
        }
        if let Some(image) = &args.image {
            args.words.apply(list.entry(&engine.dirs, image)?);
        }
        Ok(())
    })?;
    output::print_line(list.digest.hex())?;
    Ok(0)
}
