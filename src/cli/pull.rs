//! `rbox pull`, and how `run` and `create` come by their image.

use std::io::IsTerminal;

use clap::Args as ClapArgs;

use crate::cli::flags::PlatformFlags;
use crate::cli::flags::RegistryFlags;
use crate::cli::output;
use crate::cli::progress::Bars;
use crate::cli::prompt;
use crate::config::registries::Registries;
use crate::config::registries::ShortNameMode;
use crate::engine::Engine;
use crate::engine::images;
use crate::error;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::image::Image;
use crate::image::load;
use crate::image::registry;
use crate::image::registry::PullOptions;
use crate::image::registry::short;
use crate::image::registry::short::Candidates;
use crate::image::transport;
use crate::image::transport::Files;
use crate::image::transport::Transport;
use crate::image::variant;
use crate::oci::reference;
use crate::oci::reference::Reference;

/// Pull images from a registry
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  rbox pull debian
  rbox pull --tls-verify=false registry.lan:5000/team/app:1.2
  rbox pull --all-tags --platform linux/arm64 quay.io/podman/hello")]
pub struct Args {
    /// Pull all tags of the repositories
    #[arg(short, long)]
    all_tags: bool,

    /// When to pull
    #[arg(long, value_name = "POLICY", default_value = "always", value_enum)]
    policy: Policy,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    platform: PlatformFlags,

    #[command(flatten)]
    registry: RegistryFlags,

    /// References, such as debian:12 or registry.lan:5000/app@sha256:…
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Policy {
    /// Also when it is in the store
    #[value(alias = "true")]
    Always,
    /// When it is not in the store
    #[value(alias = "ifnotpresent")]
    Missing,
    /// Use the store alone
    #[value(alias = "false")]
    Never,
    /// Also when it is in the store, if the registry has another one
    #[value(alias = "ifnewer")]
    Newer,
}

pub fn run(engine: &Engine, args: Args) -> anyhow::Result<u8> {
    let options = PullOptions {
        access: args.registry.access()?,
        platform: args.platform.platform()?,
    };
    let pulling = Pulling {
        engine,
        options,
        quiet: args.quiet,
    };
    output::each(&args.images, |name| {
        if args.all_tags {
            let name = name.strip_prefix("docker://").unwrap_or(name);
            return pulling.all_tags(name);
        }
        if let Some(Transport::Files(files)) = transport::parse(name)? {
            let images = pulling.files(&files)?;
            let mut ids = images.iter().map(|image| image.id.hex());
            return ids.try_for_each(output::print_line);
        }
        let image = pulling.image(name, args.policy)?;
        output::print_line(image.id.hex())
    })
}

/// What holds for all images of one command.
struct Pulling<'a> {
    engine: &'a Engine,
    options: PullOptions,
    quiet: bool,
}

impl Pulling<'_> {
    fn candidates(&self, name: &str) -> anyhow::Result<Candidates> {
        let registries = Registries::load(self.options.access.registries_conf.as_deref())?;
        short::candidates(name, &registries)
    }

    /// The image of a name, which may say its transport.
    fn image(&self, name: &str, policy: Policy) -> anyhow::Result<Image> {
        match transport::parse(name)? {
            None => self.by_policy(name, policy),
            Some(Transport::Registry(name)) => self.by_policy(&name, policy),
            Some(Transport::Store(name)) => image::find(&self.engine.dirs, &name),
            Some(Transport::Files(files)) => {
                // `oci:latest` may be the name of an image.
                if policy != Policy::Always
                    && let Ok(image) = image::find(&self.engine.dirs, name)
                {
                    return Ok(image);
                }
                if policy == Policy::Never {
                    let text = format!("\"{files}\" is to be loaded, which the policy forbids");
                    return Err(fail(Kind::Usage, text));
                }
                load::one(&files, self.files(&files)?)
            }
        }
    }

    /// All images of an archive or a directory.
    fn files(&self, files: &Files) -> anyhow::Result<Vec<Image>> {
        let bars = Bars::of_pull(self.quiet, &files.to_string());
        let platform = self.options.platform.as_ref();
        let images = load::pull(&self.engine.dirs, files, platform, &bars);
        bars.clear();
        let images = images?;
        for image in &images {
            images::record(self.engine, "pull", &image.id, &files.to_string());
        }
        Ok(images)
    }

    /// The image of a name, fetched if the policy says so.
    fn by_policy(&self, name: &str, policy: Policy) -> anyhow::Result<Image> {
        let found = match policy {
            Policy::Always => None,
            _ => self.in_store(name)?,
        };
        match (policy, found) {
            (Policy::Missing | Policy::Never, Some(image)) => Ok(image),
            (Policy::Never, None) => Err(fail(
                Kind::NotFound,
                format!("image \"{name}\" is not in the store, and the policy forbids to pull it"),
            )
            .hint(format!("get it with `rbox pull {name}`"))),
            (Policy::Newer, Some(image)) => self.newer(name, image),
            _ => {
                // It may be there.
                let unusable = self.engine.dirs.unusable.iter();
                for store in unusable.filter(|store| !store.foreign) {
                    output::print_warning(&store.to_string());
                }
                self.always(name)
            }
        }
    }

    /// One that is there, for the platform that is wanted.
    fn in_store(&self, name: &str) -> anyhow::Result<Option<Image>> {
        let wanted = self.options.platform.as_ref();
        let found = |name: &str| match variant::find(&self.engine.dirs, name, wanted) {
            Ok(image) => Ok(Some(image)),
            Err(err) if error::kind(&err) == Some(Kind::NotFound) => Ok(None),
            Err(err) => Err(err),
        };
        Ok(match found(name)? {
            Some(image) => Some(image),
            // A short name may have an alias.
            None if !reference::is_qualified(name) && name.parse::<Reference>().is_ok() => {
                let mut all = self.candidates(name)?.references.into_iter();
                all.find_map(|one| found(&one.to_string()).transpose())
                    .transpose()?
            }
            None => None,
        })
    }

    /// What the registry has, if that is another one; a registry that cannot be asked is no obstacle.
    fn newer(&self, name: &str, image: Image) -> anyhow::Result<Image> {
        let Some(known) = image.names.first() else {
            return Ok(image);
        };
        let ours = image::names::digest(&self.engine.dirs, known)?;
        match registry::digest(known, &self.options) {
            Ok(theirs) if Some(&theirs) != ours.as_ref() => {
                self.one(known, name).or_else(|_| Ok(image))
            }
            _ => Ok(image),
        }
    }

    fn always(&self, name: &str) -> anyhow::Result<Image> {
        let candidates = self.candidates(name)?;
        if let [one] = candidates.references.as_slice() {
            return self.one(one, name);
        }
        let can_ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        match candidates.mode {
            ShortNameMode::Enforcing | ShortNameMode::Permissive if can_ask => {
                let names = candidates.references.iter().map(ToString::to_string);
                let names: Vec<String> = names.collect();
                let chosen = prompt::choose("Which image is meant?", &names)?;
                let chosen = &candidates.references[chosen];
                let image = self.one(chosen, name)?;
                candidates.record(chosen)?;
                Ok(image)
            }
            ShortNameMode::Enforcing => Err(ambiguous(name, &candidates)),
            _ => self.first_of(name, &candidates),
        }
    }

    fn first_of(&self, name: &str, candidates: &Candidates) -> anyhow::Result<Image> {
        let mut failed = Vec::new();
        for reference in &candidates.references {
            match self.one(reference, name) {
                Ok(image) => return Ok(image),
                Err(err) => failed.push(error::message(&err)),
            }
        }
        Err(anyhow::anyhow!(failed.join("; ")))
    }

    fn one(&self, reference: &Reference, name: &str) -> anyhow::Result<Image> {
        let bars = Bars::of_pull(self.quiet, &reference.to_string());
        let image = image::pull(&self.engine.dirs, reference, &self.options, &bars);
        bars.clear();
        let image = image?;
        images::record(self.engine, "pull", &image.id, name);
        Ok(image)
    }

    fn all_tags(&self, name: &str) -> anyhow::Result<()> {
        let candidates = self.candidates(name)?;
        let [reference] = candidates.references.as_slice() else {
            return Err(ambiguous(name, &candidates));
        };
        let typed = name.rsplit('/').next().unwrap_or(name);
        if typed.contains([':', '@']) {
            let text = format!("\"{name}\" has a tag or a digest, and --all-tags wants all tags");
            return Err(fail(Kind::Usage, text));
        }
        let access = &self.options.access;
        let registries = Registries::load(access.registries_conf.as_deref())?;
        let tags = registry::search::tags(reference, access, &registries)?;
        if tags.is_empty() {
            let text = format!("repository {} has no tags", reference.name());
            return Err(fail(Kind::NotFound, text));
        }
        for tag in tags {
            let reference = format!("{}:{tag}", reference.name()).parse()?;
            let image = self.one(&reference, &reference.to_string())?;
            output::print_line(image.id.hex())?;
        }
        Ok(())
    }
}

fn ambiguous(name: &str, candidates: &Candidates) -> anyhow::Error {
    let names = candidates.references.iter().map(ToString::to_string);
    let names: Vec<String> = names.collect();
    let text = format!("short name \"{name}\" may mean {}", names.join(" or "));
    fail(Kind::Usage, text).hint("give the full name, or make an alias in registries.conf")
}

const BUILT_IN: &str = "hello";

/// The image that a new container is made of.
pub fn for_container(
    engine: &Engine,
    name: &str,
    policy: Policy,
    registry: &RegistryFlags,
    platform: &PlatformFlags,
    quiet: bool,
) -> anyhow::Result<Image> {
    // The image that rbox brings along, unless there is another one of that name.
    if name == BUILT_IN && policy != Policy::Never {
        let other = image::find(&engine.dirs, name).is_ok_and(|image| {
            !image
                .names
                .iter()
                .any(|name| name.to_string() == image::hello::REFERENCE)
        });
        if !other {
            return images::built_in(engine);
        }
    }
    let options = PullOptions {
        access: registry.access()?,
        platform: platform.platform()?,
    };
    let pulling = Pulling {
        engine,
        options,
        quiet,
    };
    pulling.image(name, policy)
}
