//! `rbox image tree`.

use crate::cli::output;
use crate::engine::Engine;
use crate::image;
use crate::image::Image;
use crate::image::layers;
use crate::oci::digest::Digest;
use crate::text::size;

/// Show the layers of an image, and which images end with each
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rbox image tree debian
  rbox image tree --whatrequires debian")]
pub struct Args {
    /// Show the layers and images that were put on top of it instead
    #[arg(long)]
    whatrequires: bool,

    /// Name or id
    #[arg(value_name = "IMAGE")]
    image: String,
}

pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<u8> {
    let id = image::find(&engine.dirs, &args.image)?.id;
    let all = image::list(&engine.dirs, |err| output::print_damaged(&[err]))?;
    let Some(image) = all.iter().find(|image| image.id == id) else {
        anyhow::bail!("image \"{}\" was removed meanwhile", args.image);
    };
    let mut text = format!(
        "Image ID: {}\nTags:     [{}]\nSize:     {}\n",
        image.id.short(),
        tags(image),
        size::human_with(image.size, 4, ""),
    );
    let tree = Tree {
        engine,
        images: &all,
    };
    if image.layers.is_empty() {
        text.push_str("No Image Layers\n");
    } else if args.whatrequires {
        text.push_str("Image Layers\n");
        tree.above(&image.layers, "", true, &mut text);
    } else {
        text.push_str("Image Layers\n");
        let last = image.layers.len() - 1;
        for (index, layer) in image.layers.iter().enumerate() {
            let branch = if index == last {
                "└── "
            } else {
                "├── "
            };
            let line = tree.line(layer, &image.layers[..=index]);
            text.extend([branch, &line, "\n"]);
        }
    }
    output::print(&text)?;
    Ok(0)
}

fn tags(image: &Image) -> String {
    let tags: Vec<String> = image.names.iter().map(ToString::to_string).collect();
    tags.join(" ")
}

struct Tree<'a> {
    engine: &'a Engine,
    images: &'a [Image],
}

impl Tree<'_> {
    /// A layer on top of those below it, and the images that end with it.
    fn line(&self, layer: &Digest, stack: &[Digest]) -> String {
        let size = layers::size(&self.engine.dirs, layer);
        let line = format!(
            "ID: {} Size: {}",
            layer.short(),
            size::human_with(size, 4, "")
        );
        let ending = self.images.iter().filter(|image| image.layers == stack);
        let tops: Vec<String> = ending
            .map(|image| match tags(image) {
                tags if tags.is_empty() => image.id.short().to_owned(),
                tags => tags,
            })
            .collect();
        if tops.is_empty() {
            line
        } else {
            format!("{line} Top Layer of: [{}]", tops.join(" "))
        }
    }

    /// The top layer of a stack, and below it those that were put on top.
    fn above(&self, stack: &[Digest], indent: &str, last: bool, text: &mut String) {
        let Some(top) = stack.last() else {
            return;
        };
        let branch = if last { "└── " } else { "├── " };
        text.extend([indent, branch, &self.line(top, stack), "\n"]);
        let mut next: Vec<&Digest> = self
            .images
            .iter()
            .filter(|image| image.layers.starts_with(stack))
            .filter_map(|image| image.layers.get(stack.len()))
            .collect();
        next.sort();
        next.dedup();
        let indent = format!("{indent}{}", if last { "     " } else { "│    " });
        for (index, layer) in next.iter().enumerate() {
            let stack = [stack, &[(*layer).clone()]].concat();
            self.above(&stack, &indent, index + 1 == next.len(), text);
        }
    }
}
