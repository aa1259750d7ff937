//! `--log-opt tag=`: a template over the container, with Docker's names and those of `inspect`.

use serde_json::json;

use crate::container::record::Container;
use crate::text::template::Template;

/// The tag of a container; without a template of its own, its name.
pub fn of(container: &Container) -> anyhow::Result<String> {
    match &container.config.log.tag {
        None => Ok(container.name.clone()),
        Some(template) => render(template, container),
    }
}

/// Checks a template as far as that is possible without a container.
pub fn check(template: &str) -> anyhow::Result<()> {
    Template::parse(template).map(drop)
}

fn render(template: &str, container: &Container) -> anyhow::Result<String> {
    let config = &container.config;
    let image = config.image_id.trim_start_matches("sha256:");
    let command = config.process.args().join(" ");
    let text = Template::parse(template)?.execute(&json!({
        "ID": config.short_id(),
        "FullID": config.id,
        "Id": config.id,
        "Name": container.name,
        "FullName": container.name,
        "Command": command,
        "ImageID": image.get(..12).unwrap_or(image),
        "ImageFullID": config.image_id,
        "Image": config.image_id,
        "ImageName": config.image,
        "DaemonName": "rbox",
        "Config": { "Image": config.image, "Labels": config.labels },
    }))?;
    Ok(text.replace('\n', " "))
}
