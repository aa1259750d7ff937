//! `import`: the files of an archive become an image of one layer.

use std::fs::File;
use std::io;
use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Map;

use crate::engine::Engine;
use crate::engine::images;
use crate::image::Image;
use crate::image::change;
use crate::image::commit;
use crate::image::commit::Format;
use crate::image::commit::New;
use crate::image::registry::download;
use crate::image::unpack::stream;
use crate::image::unpack::stream::Memory;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::atomic::with_space_hint;
use crate::store::spool;
use crate::store::temp;

/// More than this is no root file system.
const SIZE_MAX: u64 = 1 << 40;

/// Where the archive is.
pub enum Source {
    Path(PathBuf),
    Url(String),
    Stdin,
}

/// What the user asks for.
pub struct Request<'a> {
    pub source: Source,
    pub name: Option<&'a Reference>,
    pub message: Option<&'a str>,
    pub changes: &'a [String],
    pub platform: Platform,
}

pub fn import(engine: &Engine, request: &Request<'_>) -> Result<Image> {
    let what = match &request.source {
        Source::Path(path) => path.display().to_string(),
        Source::Url(url) => url.clone(),
        Source::Stdin => "-".to_owned(),
    };
    // What is wrong with the wishes shows before anything is read.
    change_config(&mut Map::new(), request)?;
    let import = || {
        let layer = spool(engine, &request.source)?;
        let comment = format!("Imported from {what}");
        commit::make(
            &engine.dirs,
            New {
                base: None,
                base_layers: &[],
                layer,
                change: &|config| change_config(config, request),
                author: None,
                comment: Some(request.message.unwrap_or(&comment)),
                created_by: "",
                format: Format::Oci,
                platform: Some(&request.platform),
                name: request.name,
            },
        )
    };
    let image = import().with_context(|| format!("cannot import {what}"))?;
    images::record(engine, "import", &image.id, &what);
    Ok(image)
}

fn change_config(config: &mut Map<String, serde_json::Value>, request: &Request<'_>) -> Result<()> {
    for instruction in request.changes {
        change::apply(config, instruction)?;
    }
    Ok(())
}

/// The uncompressed tar, in a file without a name.
fn spool(engine: &Engine, source: &Source) -> Result<File> {
    let input: Box<dyn Read + Send> = match source {
        Source::Path(path) => {
            let file = File::open(path)?;
            if file.metadata()?.is_dir() {
                bail!("it is a directory, and not an archive of one");
            }
            Box::new(file)
        }
        Source::Url(url) => Box::new(download::open(url)?),
        Source::Stdin => Box::new(io::stdin()),
    };
    let mut input = stream::decompressed(input, Memory::ARCHIVE)?;
    let mut start = Vec::new();
    (&mut input).take(512).read_to_end(&mut start)?;
    if start.is_empty() {
        bail!("it is empty");
    }
    if !stream::is_tar(&start) {
        bail!("it is no tar archive");
    }
    let mut file = temp::nameless_file(&engine.dirs.tmp())?;
    let copied = spool::copy(&mut start.chain(input).take(SIZE_MAX), &mut file);
    copied.map_err(|err| with_space_hint(err.into()))?;
    Ok(file)
}
