//! Flags before a command: which stores images are in.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::cli::Verb;
use crate::config::storage;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::store::dirs::Wish;

#[derive(Debug, clap::Args)]
pub struct Flags {
    /// Use this store of images for all users in place of your own: to fill it, and to look after it
    #[arg(long, value_name = "PATH")]
    imagestore: Option<PathBuf>,

    /// Use the images of another store too, in place of those that storage.conf names: additionalimagestore=PATH
    #[arg(long, value_name = "OPTION=VALUE", value_parser = storage_opt)]
    storage_opt: Vec<Opt>,
}

/// An empty word names no store.
#[derive(Clone, Debug)]
pub struct Opt(Option<PathBuf>);

fn storage_opt(word: &str) -> Result<Opt, String> {
    storage::option(word).map(Opt)
}

impl Flags {
    pub fn wish(self, verb: &Verb) -> anyhow::Result<Wish> {
        if self.imagestore.is_some() && !is_of_images(verb) {
            return Err(fail(
                Kind::Usage,
                "--imagestore: a store of images for all users has images alone",
            )
            .hint("use its images with `rbox --storage-opt additionalimagestore=PATH`"));
        }
        let given = !self.storage_opt.is_empty();
        let additional = self.storage_opt.into_iter().filter_map(|opt| opt.0);
        Ok(Wish {
            additional: given.then(|| additional.collect()),
            image_store: self.imagestore,
        })
    }
}

fn is_of_images(verb: &Verb) -> bool {
    matches!(
        verb,
        Verb::Exists(_)
            | Verb::History(_)
            | Verb::Image(_)
            | Verb::Images(_)
            | Verb::Import(_)
            | Verb::Info(_)
            | Verb::Inspect(_)
            | Verb::Load(_)
            | Verb::Manifest(_)
            | Verb::Pull(_)
            | Verb::Push(_)
            | Verb::Rmi(_)
            | Verb::Save(_)
            | Verb::System(_)
            | Verb::Tag(_)
            | Verb::Untag(_)
    )
}

/// The place of the first word after these flags and their values.
pub fn first_word(args: &[OsString]) -> usize {
    let mut at = 1;
    while let Some(word) = args.get(at).and_then(|word| word.to_str()) {
        at += match word {
            "--imagestore" | "--storage-opt" => 2,
            _ if word.starts_with("--imagestore=") || word.starts_with("--storage-opt=") => 1,
            _ => break,
        };
    }
    at
}
