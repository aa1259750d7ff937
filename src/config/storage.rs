//! What storage.conf says of image stores (containers-storage.conf(5)): one file counts, the user's before the
//! machine's, and nothing is inherited. Its other settings are those of another store, and mean nothing here.

use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;

/// In place of all other files.
const VARIABLE: &str = "CONTAINERS_STORAGE_CONF";
const FILE: &str = "containers/storage.conf";
/// The first that has the file.
const SYSTEM: [&str; 2] = ["/etc", "/usr/share"];

#[derive(Default, Deserialize)]
struct File {
    #[serde(default)]
    storage: Storage,
}

#[derive(Default, Deserialize)]
struct Storage {
    #[serde(default)]
    options: Options,
}

#[derive(Default, Deserialize)]
struct Options {
    #[serde(default)]
    additionalimagestores: Vec<PathBuf>,
}

/// The stores that the file names which counts. An error is a text for people, after the file that it is in.
pub fn additional_stores() -> Result<Vec<PathBuf>, (PathBuf, String)> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    let paths = if let Some(path) = variable(VARIABLE).filter(|path| !path.as_os_str().is_empty()) {
        vec![path]
    } else {
        let home = absolute("HOME").map(|home| home.join(".config"));
        let own = absolute("XDG_CONFIG_HOME").or(home);
        let places = own.into_iter().chain(SYSTEM.map(PathBuf::from));
        places.map(|place| place.join(FILE)).collect()
    };
    for path in paths {
        match std::fs::read_to_string(&path) {
            Ok(text) => return parse(&text).map_err(|why| (path, why)),
            Err(err) if is_absent(&err) => {}
            Err(err) => return Err((path, err.to_string())),
        }
    }
    Ok(vec![])
}

/// A file that this user may not even see is none of his.
fn is_absent(err: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        err.kind(),
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::PermissionDenied
    )
}

fn parse(text: &str) -> Result<Vec<PathBuf>, String> {
    let file: File = toml::from_str(text).map_err(|err| err.message().replace('\n', " "))?;
    let stores = file.storage.options.additionalimagestores;
    match stores.iter().find(|path| !path.is_absolute()) {
        Some(path) => Err(format!("\"{}\" is no absolute path", path.display())),
        None => Ok(stores),
    }
}

/// The store that a word of `--storage-opt` names; an empty word names none, and stands against the file.
pub fn option(word: &str) -> Result<Option<PathBuf>, String> {
    if word.is_empty() {
        return Ok(None);
    }
    let (key, value) = word.split_once('=').unwrap_or((word, ""));
    let key = key.strip_prefix("overlay.").unwrap_or(key);
    match key {
        "additionalimagestore" | "imagestore" if Path::new(value).is_absolute() => {
            Ok(Some(value.into()))
        }
        "additionalimagestore" | "imagestore" => {
            Err(format!("\"{value}\" is no absolute path of a store"))
        }
        _ => Err("expected additionalimagestore=PATH".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_of_a_file_are_found_among_what_else_it_says() {
        let text = "[storage]\ndriver = \"overlay\"\ngraphroot = \"/x\"\n[storage.options]\nsize = \"\"\n\
            additionalimagestores = [\n \"/a\", \"/b\",\n]\npull_options = {enable_partial_images = \"true\"}\n\
            [storage.options.overlay]\nmountopt = \"nodev\"\n";
        assert_eq!(parse(text), Ok(vec!["/a".into(), "/b".into()]));
        assert_eq!(parse(""), Ok(vec![]));
        assert_eq!(parse("[storage]\ndriver = \"vfs\"\n"), Ok(vec![]));
        let relative = "[storage.options]\nadditionalimagestores = [\"a\"]\n";
        assert_eq!(parse(relative), Err("\"a\" is no absolute path".to_owned()));
        assert!(parse("[storage.options]\nadditionalimagestores = 7\n").is_err());
        assert!(parse("[storage").is_err());
    }

    #[test]
    fn options_name_stores_and_nothing_else() {
        assert_eq!(option(""), Ok(None));
        for word in ["additionalimagestore=/a", "overlay.imagestore=/a"] {
            assert_eq!(option(word), Ok(Some("/a".into())));
        }
        for word in [
            "additionalimagestore=a",
            "additionalimagestore",
            "overlay.size=1",
            "x",
        ] {
            assert!(option(word).is_err(), "{word}");
        }
    }
}
