//! Layers as they lie on disk: `layers/<diff-id>/{diff/, layer.json}`, and their packed form. Made beside
//! their place and renamed into it once their files are durable; `diff/` is never changed after that.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use rustix::fd::AsFd;
use serde::Deserialize;
use serde::Serialize;

use crate::config::ids::Ids;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image::additional;
use crate::image::packed;
use crate::image::record::Image;
use crate::image::shifted;
use crate::image::unpack;
use crate::oci::digest::Digest;
use crate::store::atomic;
use crate::store::atomic::Durability;
use crate::store::blobs;
use crate::store::dirs::Dirs;
use crate::store::helper::Helper;
use crate::store::partial::Partial;
use crate::store::record;
use crate::store::record::Record;
use crate::store::temp::TempDir;

const RECORD: &str = "layer.json";
/// Beside it, where the layer came uncompressed.
pub const ZSTD: &str = "tar.zst";

/// What is kept of a layer besides its files: the exact bytes of its tar.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packed {
    /// The blob as it came.
    Blob(Digest),
    /// [`ZSTD`]: the tar came as it is, and was compressed here.
    Zstd,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    pub diff_id: Digest,
    /// Bytes of all files.
    pub size: u64,
    /// Bytes of the uncompressed tar.
    pub tar_size: u64,
    /// The id map under which the files have their owners (`IdMaps::tag`).
    pub ids: String,
    /// Overlayfs does not look at the root of a lower directory: layers below such a one are
    /// left out of the stack instead.
    pub opaque_root: bool,
    /// Absent in stores of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<Packed>,
    /// The layers of a shared store, which has the contents of its large files (see `unpack::contents`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<PathBuf>,
}

impl Record for Layer {
    const NOUN: &'static str = "layer";
    const VERSION: u32 = 1;
    const OPEN: bool = true;
}

/// The id map of what a shared store has: contents without owners.
pub const SHARED: &str = "shared";

/// The id map that layers of this store are unpacked for.
pub fn ids_tag(dirs: &Dirs) -> Result<String> {
    if dirs.shared {
        return Ok(SHARED.to_owned());
    }
    Ok(Ids::detect()?.maps.tag())
}

impl Layer {
    /// Whether the contents are there that it refers to.
    pub fn has_contents(&self) -> bool {
        let place = self.contents.as_ref();
        place.is_none_or(|place| place.join(self.diff_id.hex()).join(unpack::DIFF).exists())
    }
}

pub fn dir(dirs: &Dirs, diff_id: &Digest) -> PathBuf {
    dirs.layers().join(diff_id.hex())
}

/// Where the files of a layer are.
pub fn files(dirs: &Dirs, diff_id: &Digest) -> PathBuf {
    dir(dirs, diff_id).join(unpack::DIFF)
}

/// The layer, whatever id map it is of.
pub fn load(dirs: &Dirs, diff_id: &Digest) -> Result<Option<Layer>> {
    record::load_if_present(&dir(dirs, diff_id).join(RECORD))
}

/// The layer, where it is in the store, with all its contents, and of this id map.
pub fn find(dirs: &Dirs, diff_id: &Digest, ids_tag: &str) -> Result<Option<Layer>> {
    Ok(load(dirs, diff_id)?.filter(|layer| layer.ids == ids_tag && layer.has_contents()))
}

/// Bytes of its files; 0 where that is not known.
pub fn size(dirs: &Dirs, diff_id: &Digest) -> u64 {
    let mut found = dirs.all().filter_map(|dirs| load(dirs, diff_id).ok()?);
    found.next().map_or(0, |layer| layer.size)
}

/// What is stacked to be the files of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// Directories, relative to the data directory, the top layer first.
    pub lower: Vec<PathBuf>,
    /// Where contents are that these refer to, absolute.
    pub contents: Vec<PathBuf>,
}

/// The layers of an image, to be stacked.
pub fn stack(dirs: &Dirs, image: &Image, ids_tag: &str) -> Result<Stack> {
    let mut found = Vec::new();
    let mut contents: Vec<PathBuf> = Vec::new();
    for diff_id in image.layers.iter().rev() {
        let Some(layer) = find(dirs, diff_id, ids_tag)? else {
            return Err(unusable(dirs, image, diff_id));
        };
        if let Some(place) = layer.contents
            && !contents.contains(&place)
        {
            contents.push(place);
        }
        let path = PathBuf::from("layers")
            .join(diff_id.hex())
            .join(unpack::DIFF);
        // Overlayfs takes no directory twice, and the upper one decides anyhow.
        if !found.contains(&path) {
            found.push(path);
        }
        if layer.opaque_root {
            break;
        }
    }
    Ok(Stack {
        lower: found,
        contents,
    })
}

fn unusable(dirs: &Dirs, image: &Image, diff_id: &Digest) -> anyhow::Error {
    let name = match image.names.first() {
        Some(name) => name.familiar(),
        None => image.id.short().to_owned(),
    };
    if dirs.shared {
        let text = format!("cannot use image \"{name}\" in a store that is shared");
        return fail(Kind::Unsupported, text).hint(format!(
            "use it from a store of your own: `rbox --storage-opt additionalimagestore={} run {name}`",
            dirs.data.display()
        ));
    }
    let why = match load(dirs, diff_id) {
        Ok(Some(layer)) if !layer.has_contents() => {
            let place = layer.contents.unwrap_or_default();
            let store = place.parent().unwrap_or(&place).display();
            format!("is no longer in additional store \"{store}\"")
        }
        _ if dir(dirs, diff_id).exists() => "was unpacked for another range of ids".to_owned(),
        _ => "is missing".to_owned(),
    };
    fail(
        Kind::NotFound,
        format!(
            "cannot use image \"{name}\": layer {} {why}",
            diff_id.short()
        ),
    )
    .hint(format!(
        "fetch it again with `rbox pull {name}` or `rbox load`"
    ))
}

/// A layer that is being unpacked. Dropped, it leaves nothing.
pub struct Unfinished {
    // In this order: the helper is dead before its directory is removed.
    helper: Helper,
    temp: TempDir,
    diff_id: Digest,
    ids: String,
    contents: Option<PathBuf>,
}

/// A packed form that is there, but not yet durable nor in its place.
#[derive(Debug)]
pub enum NewPacked {
    /// A blob, whose bytes have this digest.
    Blob(Partial, Digest),
    /// In the directory of the unfinished layer, or in one of its own.
    Zstd(Option<TempDir>),
    /// It was in its place already.
    Old(Packed),
    /// An additional store has it.
    Elsewhere,
}

impl NewPacked {
    /// The layer that it belongs to is wrong.
    pub fn give_up(mut self) {
        if let Self::Blob(partial, _) = &mut self {
            partial.give_up();
        }
    }

    fn form(&self) -> Option<Packed> {
        match self {
            Self::Blob(_, digest) => Some(Packed::Blob(digest.clone())),
            Self::Zstd(_) => Some(Packed::Zstd),
            Self::Old(packed) => Some(packed.clone()),
            Self::Elsewhere => None,
        }
    }
}

/// What is there of a layer, but not yet durable nor in its place.
pub struct Finished {
    diff_id: Digest,
    /// `None` where only its packed form was missing.
    files: Option<(TempDir, Layer)>,
    packed: NewPacked,
}

impl Unfinished {
    /// Its large files refer to `contents`, where that is given.
    pub fn start(
        dirs: &Dirs,
        diff_id: &Digest,
        ids_tag: &str,
        contents: Option<&Path>,
    ) -> Result<Self> {
        let temp = TempDir::create_in(&dirs.layers())?;
        let whole = diff_id.to_string();
        let algorithm = diff_id.algorithm().name();
        let (verb, what) = match contents {
            _ if dirs.shared => ("contents", algorithm),
            Some(_) => ("refer", whole.as_str()),
            None => ("extract", algorithm),
        };
        let helper = Helper::start(verb, temp.path(), &[what])?;
        Ok(Self {
            helper,
            temp,
            diff_id: diff_id.clone(),
            ids: ids_tag.to_owned(),
            contents: contents.map(Path::to_owned),
        })
    }

    /// Where its packed form may be written.
    pub fn path(&self) -> &Path {
        self.temp.path()
    }

    /// The next bytes of the layer, compressed or not.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.helper.send(bytes)
    }

    /// Its files, and the packed form that is kept with them.
    pub fn finish(self, packed: NewPacked) -> Result<Finished> {
        let form = packed.form();
        match self.finish_files(form) {
            Ok(files) => Ok(Finished {
                diff_id: files.1.diff_id.clone(),
                files: Some(files),
                packed,
            }),
            Err(err) => {
                packed.give_up();
                Err(err)
            }
        }
    }

    fn finish_files(self, form: Option<Packed>) -> Result<(TempDir, Layer)> {
        let answer = self.helper.finish()?;
        let report: unpack::Report =
            serde_json::from_str(&answer).context("cannot understand the unpacker")?;
        if report.diff_id != self.diff_id {
            bail!(
                "its files have the digest {}, and the image wants {}",
                report.diff_id,
                self.diff_id
            );
        }
        let layer = Layer {
            diff_id: self.diff_id,
            size: report.size,
            tar_size: report.tar_size,
            ids: self.ids,
            opaque_root: report.opaque_root,
            packed: form,
            contents: self.contents.filter(|_| report.referring > 0),
        };
        let path = self.temp.path().join(RECORD);
        // Made durable with all the other files, in `commit`.
        record::save(&path, &layer, Durability::Volatile)?;
        Ok((self.temp, layer))
    }
}

impl Finished {
    /// Where its files are, in the directory of layers, until it is put in its place.
    pub fn temporary(&self) -> Option<String> {
        let (temp, _) = self.files.as_ref()?;
        Some(temp.path().file_name()?.to_string_lossy().into_owned())
    }

    /// Whether a record says of its files what is so.
    pub fn is_told_by(&self, record: Option<&Layer>) -> bool {
        match (&self.files, record) {
            (Some((_, layer)), Some(record)) => {
                let said = |layer: &Layer| (layer.size, layer.tar_size, layer.opaque_root);
                said(layer) == said(record)
            }
            _ => true,
        }
    }

    /// The packed form of a layer whose files are there, or are being made elsewhere.
    pub fn packed(diff_id: &Digest, packed: NewPacked) -> Self {
        Self {
            diff_id: diff_id.clone(),
            files: None,
            packed,
        }
    }
}

/// Puts a layer that was unpacked anew in the place of one that is damaged, whatever its record says.
pub fn replace(dirs: &Dirs, finished: Finished) -> Result<()> {
    let Some((temp, layer)) = finished.files else {
        return Ok(());
    };
    atomic::open_dir_to_all(temp.as_fd())?;
    let place = dir(dirs, &layer.diff_id);
    // A link: whatever happens until the exchange, one of them has it.
    match std::fs::hard_link(place.join(ZSTD), temp.path().join(ZSTD)) {
        Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
            return Err(err).with_context(|| format!("cannot link {ZSTD}"));
        }
        _ => {}
    }
    for kept in [additional::MERGED, shifted::SHIFTED] {
        match std::fs::rename(place.join(kept), temp.path().join(kept)) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                return Err(err).with_context(|| format!("cannot move {kept}"));
            }
            _ => {}
        }
    }
    atomic::sync_file_system(&dirs.layers())?;
    if place.exists() {
        temp.exchange_with(&place)?;
    } else {
        temp.rename_to(&place).map(drop)?;
    }
    atomic::sync_dir(&dirs.layers())
}

/// Puts layers and blobs in their place, after one sync for all of them.
pub fn commit(dirs: &Dirs, finished: Vec<Finished>) -> Result<()> {
    if finished.is_empty() {
        return Ok(());
    }
    let device = atomic::sync_file_system(&dirs.layers())?;
    let mut files = Vec::new();
    let mut forms = Vec::new();
    let mut tars = Vec::new();
    for Finished {
        diff_id,
        files: new,
        packed,
    } in finished
    {
        let form = packed.form();
        match packed {
            NewPacked::Blob(partial, digest) => {
                partial.sync_beside(device)?;
                partial.move_to(&blobs::path(dirs, &digest))?;
            }
            NewPacked::Zstd(Some(temp)) => tars.push((temp, dir(dirs, &diff_id))),
            NewPacked::Zstd(None) | NewPacked::Old(_) | NewPacked::Elsewhere => {}
        }
        forms.push((diff_id, form));
        files.extend(new);
    }
    for algorithm in ["sha256", "sha512"] {
        atomic::sync_dir(&dirs.blobs().join(algorithm))?;
    }
    for (temp, layer) in files {
        place_files(dirs, temp, &layer)?;
    }
    atomic::sync_dir(&dirs.layers())?;
    // Their layers may have come with them.
    for (temp, layer) in tars {
        place_zstd(&temp, &layer)?;
    }
    for (diff_id, form) in forms {
        if let Some(form) = form {
            note_packed(dirs, &diff_id, form)?;
        }
    }
    Ok(())
}

fn place_zstd(temp: &TempDir, layer: &Path) -> Result<()> {
    let place = layer.join(ZSTD);
    std::fs::rename(temp.path().join(ZSTD), &place)
        .with_context(|| format!("cannot create {}", place.display()))?;
    atomic::sync_dir(layer)
}

fn place_files(dirs: &Dirs, temp: TempDir, layer: &Layer) -> Result<()> {
    atomic::open_dir_to_all(temp.as_fd())?;
    let place = dir(dirs, &layer.diff_id);
    let whole = find(dirs, &layer.diff_id, &layer.ids).ok().flatten();
    if place.exists() && whole.is_none() {
        // There under another id map, or damaged.
        temp.exchange_with(&place)
    } else {
        temp.rename_to(&place).map(drop)
    }
}

/// A layer whose packed form was not kept by an older version, or was lost, has one now.
fn note_packed(dirs: &Dirs, diff_id: &Digest, form: Packed) -> Result<()> {
    let Some(mut layer) = load(dirs, diff_id)? else {
        return Ok(());
    };
    if packed::path(dirs, &layer).is_none_or(|path| !path.exists()) {
        layer.packed = Some(form);
        let path = dir(dirs, diff_id).join(RECORD);
        record::save(&path, &layer, Durability::Durable)?;
    }
    Ok(())
}
