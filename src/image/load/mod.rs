//! Images from files: docker-archive (`docker save`, skopeo), oci-archive, OCI layouts, and
//! directories of skopeo's. Every byte is verified against the digest that names it.

use std::io::Read;
use std::path::Component;
use std::path::Path;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::archive::Archive;
use crate::image::archive::Part as Bytes;
use crate::image::ingest;
use crate::image::ingest::Sink;
use crate::image::layout::Layout;
use crate::image::manifest::MANIFEST_MAX;
use crate::image::names;
use crate::image::progress::Progress;
use crate::image::record::Image;
use crate::image::transport::Files;
use crate::image::transport::Form;
use crate::image::transport::Part;
use crate::oci::platform::Platform;
use crate::oci::reference::Reference;
use crate::store::dirs::Dirs;
use crate::store::lock::Lock;

mod dir;
mod docker;
mod oci;

const COPY_BUFFER: usize = 256 << 10;

/// What to load from.
pub enum Input<'a> {
    /// An archive or a layout directory.
    Path(&'a Path),
    Stream(Box<dyn Read + Send>),
}

/// What is common to all images of one archive.
struct Load<'a> {
    dirs: &'a Dirs,
    archive: Archive,
    /// Which image, where not all.
    part: Option<&'a Part>,
    /// Where not the machine's own.
    platform: Option<&'a Platform>,
    /// The name of an image that has none of its own.
    name: Option<Reference>,
    /// Whether images get their names.
    named: bool,
    progress: &'a dyn Progress,
}

/// Loads all images of an archive, with the names it gives them.
pub fn load(
    dirs: &Dirs,
    input: Input<'_>,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Vec<Image>> {
    let _lock = Lock::shared(&dirs.lock_file())?;
    ingest::sweep(dirs);
    let (archive, name, what) = match input {
        Input::Path(path) => (
            Archive::open(dirs, path),
            path_name(path),
            path.display().to_string(),
        ),
        Input::Stream(stream) => {
            let archive = Archive::read(dirs, stream);
            (archive, None, "standard input".to_owned())
        }
    };
    let load = || {
        let archive = archive?;
        let form = form(&archive)?;
        let load = Load {
            dirs,
            archive,
            part: None,
            platform,
            name: name.filter(|_| form == Form::Dir),
            named: true,
            progress,
        };
        load.run(form)
    };
    load().with_context(|| format!("cannot load {what}"))
}

/// Loads what a transport names: `pull`, `run`, `create`. An image of a directory is named by the
/// path of that, as Podman does it.
pub fn pull(
    dirs: &Dirs,
    files: &Files,
    platform: Option<&Platform>,
    progress: &dyn Progress,
) -> Result<Vec<Image>> {
    let _lock = Lock::shared(&dirs.lock_file())?;
    ingest::sweep(dirs);
    let load = || {
        let load = Load {
            dirs,
            archive: Archive::open(dirs, &files.path)?,
            part: files.part.as_ref(),
            platform,
            name: path_name(&files.path).filter(|_| matches!(files.form, Form::Oci | Form::Dir)),
            named: true,
            progress,
        };
        load.run(files.form)
    };
    load().with_context(|| format!("cannot pull \"{files}\""))
}

/// Loads images for a list, without their names: all, or the only one, or that for this machine.
pub fn for_list(
    dirs: &Dirs,
    files: &Files,
    all: bool,
    progress: &dyn Progress,
) -> Result<Vec<Image>> {
    let _lock = Lock::shared(&dirs.lock_file())?;
    ingest::sweep(dirs);
    let load = || {
        let load = Load {
            dirs,
            archive: Archive::open(dirs, &files.path)?,
            part: files.part.as_ref(),
            platform: None,
            name: None,
            named: false,
            progress,
        };
        let every = match files.form {
            Form::DockerArchive => vec![],
            Form::OciArchive | Form::Oci => oci::every(&load)?,
            Form::Dir => dir::every(&load)?,
        };
        if every.is_empty() || !all && every.len() > 1 {
            return load.run(files.form);
        }
        let layout = match files.form {
            Form::Dir => Layout::Flat,
            _ => Layout::Blobs,
        };
        let images = every
            .iter()
            .map(|found| oci::load_image(&load, layout, found));
        images.collect()
    };
    let images: Vec<Image> = load().with_context(|| format!("cannot load \"{files}\""))?;
    if all {
        return Ok(images);
    }
    Ok(vec![one(files, images)?])
}

/// The image of a new container, where only one is meant.
pub fn one(files: &Files, mut images: Vec<Image>) -> Result<Image> {
    match (images.pop(), images.len()) {
        (Some(image), 0) => Ok(image),
        (_, others) => {
            let text = format!("\"{files}\" holds {} images", others + 1);
            Err(fail(Kind::Usage, text)).hint(format!("name one of them: {files}:@0 is the first"))
        }
    }
}

/// What an archive is, by what is in it.
fn form(archive: &Archive) -> Result<Form> {
    // Docker writes both forms into one archive; the names are whole in its own.
    if archive.has("manifest.json")? {
        let bytes = archive.small("manifest.json", MANIFEST_MAX)?;
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        return Ok(match first {
            Some(b'{') => Form::Dir,
            _ => Form::DockerArchive,
        });
    }
    if archive.has("index.json")? {
        return Ok(Form::Oci);
    }
    bail!("it is no image archive: it has neither manifest.json nor index.json");
}

impl Load<'_> {
    fn run(&self, form: Form) -> Result<Vec<Image>> {
        match form {
            Form::DockerArchive => docker::load(self),
            Form::OciArchive | Form::Oci => oci::load(self),
            Form::Dir => Ok(vec![dir::load(self)?]),
        }
    }

    fn name_image(&self, mut image: Image, mut references: Vec<Reference>) -> Result<Image> {
        if !self.named {
            references.clear();
        }
        for reference in &references {
            names::save(self.dirs, reference, &image)?;
        }
        image.names = references;
        Ok(image)
    }

    fn wanted_platform(&self) -> Platform {
        self.platform.cloned().unwrap_or_else(Platform::host)
    }

    /// Whether an image is what the user asks for, by what its config says. Without a wish, any is.
    fn is_for_platform(&self, found: &Platform) -> bool {
        let fits = |wanted: &Platform| wanted.rank(found).is_some();
        self.platform.is_none_or(fits)
    }

    /// None of the images there is the one that was asked for.
    fn nothing(&self, others: &[String]) -> anyhow::Error {
        let wanted = match (self.part, self.platform) {
            (Some(Part::Name(name)), _) => format!("image \"{name}\""),
            (Some(Part::Index(index)), _) => format!("image @{index}"),
            (None, Some(platform)) => format!("image for {platform}"),
            (None, None) => "image".to_owned(),
        };
        let others = match others {
            [] => String::new(),
            others => format!(", only {}", others.join(", ")),
        };
        fail(
            Kind::NotFound,
            format!("there is no {wanted} in it{others}"),
        )
    }
}

/// `/tmp/some/image` becomes `localhost/tmp/some/image:latest`, where that can be a name.
fn path_name(path: &Path) -> Option<Reference> {
    let parts: Vec<&str> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(part) => Some(part.to_str()),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let text = format!("{}/{}", names::LOCAL, parts.join("/"));
    text.parse().ok()
}

fn copy_part(mut part: Bytes, sink: &mut Sink<'_>) -> Result<()> {
    let mut buffer = vec![0; COPY_BUFFER];
    loop {
        let count = part.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        sink(&buffer[..count])?;
    }
}
