//! Who the container's processes will be, and which ids of the host they have.

use std::os::fd::AsFd;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use rustix::fs::Mode;
use rustix::fs::OFlags;

use crate::config::ids;
use crate::config::ids::Account;
use crate::config::ids::Ids;
use crate::config::mapping::Span;
use crate::config::userns;
use crate::config::userns::Auto;
use crate::config::userns::KeepId;
use crate::config::userns::Mode as Userns;
use crate::config::userns::Pool;
use crate::config::userns::Side;
use crate::config::userns::Triple;
use crate::container::config::Identity;
use crate::container::config::identity;
use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::ids as of_containers;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::image;
use crate::image::Image;
use crate::runtime::user;
use crate::store::lock::Lock;
use crate::sys::idmap::IdMaps;
use crate::sys::idmap::Writer;
use crate::sys::path;
use crate::sys::userns as namespace;

/// What the user asks for. Absent is what the image says.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    pub user: Option<String>,
    pub userns: Userns,
    pub uid_map: Vec<Triple>,
    pub gid_map: Vec<Triple>,
    /// Of whom all sub-ids are mapped.
    pub sub_uid_name: Option<String>,
    pub sub_gid_name: Option<String>,
    pub groups: Vec<String>,
    pub no_passwd: bool,
    pub passwd_entry: Option<String>,
    pub group_entry: Option<String>,
    pub host_users: Vec<String>,
    pub umask: Option<u32>,
}

/// A group of `--group-add` that means all that the caller has.
const KEEP_GROUPS: &str = "keep-groups";

/// Who root leaves the choice of ids to in mode auto (containers-storage.conf(5)).
const AUTO_USER: &str = "containers";

/// Fewer ids do for no image (as in containers/storage).
const AUTO_SIZE_MIN: u32 = 1024;

/// For those who have one id.
const MORE_IDS: &str = "`rbox doctor` shows how to get more ids";

/// The id of "nobody" says nothing about how many ids an image needs.
const NOBODY: u32 = 65534;

/// A passwd file larger than this is not read to its end.
const FILE_MAX: u64 = 4 << 20;

impl Wish {
    /// Held until the record of the container tells which ids it has: two containers must not get the
    /// same ones.
    pub fn lock(&self, engine: &Engine) -> anyhow::Result<Option<Lock>> {
        match self.userns {
            Userns::Auto(_) => Lock::exclusive(&engine.dirs.auto_ids_lock()).map(Some),
            _ => Ok(None),
        }
    }
}

pub fn decide(engine: &Engine, image: Option<&Image>, wish: Wish) -> anyhow::Result<Identity> {
    let ids = engine.ids()?;
    let mut users = host_users(&wish.host_users)?;
    let mut user = wish.user.clone();
    let chosen = choose(engine, image, &wish, ids)?;
    if let Some((uid, gid)) = chosen.kept {
        user.get_or_insert_with(|| format!("{uid}:{gid}"));
        users.extend(caller(uid, gid));
    }
    let from_image = || image.map(|image| image.config.untrusted().user.clone());
    let user = user.or_else(from_image).unwrap_or_default();
    user::check(&user)
        .map_err(|why| fail(Kind::Usage, format!("user \"{user}\" of the image: {why}")))?;
    let keep_groups = wish.groups.iter().any(|group| group == KEEP_GROUPS);
    if keep_groups && wish.groups.len() > 1 {
        return Err(fail(
            Kind::Usage,
            "--group-add=\"keep-groups\" cannot be used with other groups",
        ));
    }
    let single = chosen.userns.maps().unwrap_or(&ids.maps).is_single();
    if let (true, false, Some(group)) = (single, keep_groups, wish.groups.first()) {
        // Linux: without help nobody may write a map in which setgroups(2) is allowed (user_namespaces(7)).
        return Err(fail(
            Kind::Unsupported,
            format!("--group-add=\"{group}\": with a single id a process can have no other groups"),
        )
        .hint(MORE_IDS));
    }
    Ok(Identity {
        user,
        userns: chosen.userns,
        groups: if keep_groups { vec![] } else { wish.groups },
        keep_groups,
        no_passwd: wish.no_passwd,
        passwd_entry: wish.passwd_entry,
        group_entry: wish.group_entry,
        users,
        umask: wish.umask,
    })
}

/// The user namespace, and who the user is in it where that was asked.
struct Chosen {
    userns: identity::Userns,
    kept: Option<(u32, u32)>,
}

fn choose(
    engine: &Engine,
    image: Option<&Image>,
    wish: &Wish,
    ids: &Ids,
) -> anyhow::Result<Chosen> {
    check_combination(wish)?;
    let default = &ids.maps;
    let usage = |text: String| fail(Kind::Usage, text);
    let own = |maps: IdMaps| identity::Userns::Own { maps };
    let mut kept = None;
    let userns = match &wish.userns {
        Userns::Default | Userns::Private => match asked_maps(default, wish)? {
            Some(maps) => own(maps),
            None => identity::Userns::Default,
        },
        // Podman: without root it is the map that containers have anyhow.
        Userns::Host if default.writer != Writer::Privileged => identity::Userns::Default,
        Userns::Host => identity::Userns::Host,
        Userns::KeepId(wish) => {
            let (maps, uid, gid) = keep_id(default, *wish).map_err(usage)?;
            kept = Some((uid, gid));
            own(maps)
        }
        Userns::NoMap => own(userns::unmapped(default).map_err(|text| {
            let err = usage(text);
            if default.is_single() {
                err.hint(MORE_IDS)
            } else {
                err
            }
        })?),
        Userns::Auto(auto) => own(auto_maps(engine, image, wish, default, auto)?),
        Userns::Container(name) => of_container(engine, name)?,
        Userns::Path(path) => of_path(default, path)?,
    };
    Ok(Chosen { userns, kept })
}

fn check_combination(wish: &Wish) -> anyhow::Result<()> {
    let maps = !wish.uid_map.is_empty() || !wish.gid_map.is_empty();
    let names = wish.sub_uid_name.is_some() || wish.sub_gid_name.is_some();
    let conflict = |one: &str, other: &str| {
        Err(fail(
            Kind::Usage,
            format!("{one} cannot be used with {other}"),
        ))
    };
    match wish.userns {
        _ if maps && names => conflict("--uidmap or --gidmap", "--subuidname or --subgidname"),
        Userns::Default | Userns::Private => Ok(()),
        _ if maps => conflict("--userns", "--uidmap or --gidmap"),
        _ if names => conflict("--userns", "--subuidname or --subgidname"),
        _ => Ok(()),
    }
}

fn asked_maps(default: &IdMaps, wish: &Wish) -> anyhow::Result<Option<IdMaps>> {
    let usage = |text: String| fail(Kind::Usage, text);
    if !wish.uid_map.is_empty() || !wish.gid_map.is_empty() {
        let maps = userns::explicit(default, &wish.uid_map, &wish.gid_map).map_err(usage)?;
        return Ok(Some(maps));
    }
    let (uid_name, gid_name) = match (&wish.sub_uid_name, &wish.sub_gid_name) {
        (None, None) => return Ok(None),
        (Some(one), None) | (None, Some(one)) => (one, one),
        (Some(uid_name), Some(gid_name)) => (uid_name, gid_name),
    };
    let uids = ranges_of("/etc/subuid", uid_name)?;
    let gids = ranges_of("/etc/subgid", gid_name)?;
    Ok(Some(userns::of_name(default, &uids, &gids).map_err(usage)?))
}

/// The ranges that a file of sub-ids gives to a name.
fn ranges_of(file: &str, name: &str) -> anyhow::Result<Vec<Span>> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // By name alone: no uid is the largest number.
    let ranges = ids::sub_id_ranges(&text, Some(name), u32::MAX);
    if ranges.is_empty() {
        return Err(
            fail(Kind::NotFound, format!("\"{name}\" has no range in {file}")).hint(format!(
                "`grep -H : {file}` lists who has one; `--subuidname` and `--subgidname` take these names"
            )),
        );
    }
    let spans = ranges.into_iter();
    Ok(spans.map(|(start, count)| Span { start, count }).collect())
}

fn keep_id(default: &IdMaps, wish: KeepId) -> Result<(IdMaps, u32, u32), String> {
    let own = (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    userns::kept(default, own, wish)
}

fn auto_maps(
    engine: &Engine,
    image: Option<&Image>,
    wish: &Wish,
    default: &IdMaps,
    auto: &Auto,
) -> anyhow::Result<IdMaps> {
    let (all_uids, all_gids) = match default.writer {
        Writer::Single => {
            return Err(
                fail(Kind::Usage, "mode auto needs sub-ids, and you have none")
                    .hint("`rbox doctor` shows how to get them"),
            );
        }
        Writer::Helpers { .. } => (
            userns::sub_ids(&default.uids),
            userns::sub_ids(&default.gids),
        ),
        Writer::Privileged => (
            ranges_of("/etc/subuid", AUTO_USER)?,
            ranges_of("/etc/subgid", AUTO_USER)?,
        ),
    };
    let mut pools = [all_uids, all_gids].map(|all| Pool { all, taken: vec![] });
    let mut holders = vec![];
    for other in Container::list(&engine.dirs, drop)? {
        if let Some(maps) = other.config.identity.userns.maps() {
            pools[0].taken.extend(userns::hosts(&maps.uids));
            pools[1].taken.extend(userns::hosts(&maps.gids));
            holders.push(other.name);
        }
    }
    let size = match auto.size {
        Some(size) => size,
        None => image_size(engine, image, wish)?,
    };
    let map = |side: Side, pool: &Pool, more: &[Triple]| {
        userns::chosen(default, side, pool, size, more).map_err(|why| {
            let err = fail(Kind::Conflict, why);
            if holders.is_empty() {
                return err;
            }
            err.hint(format!(
                "these containers have ids of their own: {}; `--userns=keep-id:size=N` takes fewer",
                holders.join(", ")
            ))
        })
    };
    Ok(IdMaps {
        writer: default.writer.clone(),
        uids: map(Side::Users, &pools[0], &auto.uids)?,
        gids: map(Side::Groups, &pools[1], &auto.gids)?,
    })
}

/// How many ids the image and the user need.
fn image_size(engine: &Engine, image: Option<&Image>, wish: &Wish) -> anyhow::Result<u32> {
    let tag = engine.ids()?.maps.tag();
    let lower = match image {
        Some(image) => image::additional::layers(&engine.dirs, image, &tag, &engine.note)?.lower,
        None => vec![],
    };
    let mut largest = AUTO_SIZE_MIN - 1;
    for file in ["etc/passwd", "etc/group"] {
        let text = top_file(&engine.dirs.data, &lower, Path::new(file));
        let ids = text.lines().flat_map(|line| {
            let fields = line.split(':').skip(2).take(2);
            fields.filter_map(|field| field.parse::<u32>().ok())
        });
        largest = ids.filter(|id| *id < NOBODY).fold(largest, u32::max);
    }
    let from_image = image.map(|image| &image.config.untrusted().user);
    let asked = wish.user.as_ref().or(from_image);
    let asked = asked.map_or("", String::as_str).split(':');
    let ids = asked.filter_map(|id| id.parse::<u32>().ok());
    Ok(ids.filter(|id| *id < u32::MAX - 1).fold(largest, u32::max) + 1)
}

/// A file as the topmost layer has it that has one. Every look-up stays in its layer, and what is no
/// regular file is none (CVE-2024-9676).
fn top_file(data: &Path, lower: &[PathBuf], file: &Path) -> String {
    let read = |layer: &PathBuf| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let layer = rustix::fs::open(data.join(layer), flags, Mode::empty()).ok()?;
        path::read_in_root(layer.as_fd(), file, FILE_MAX).ok()?
    };
    lower.iter().find_map(read).unwrap_or_default()
}

fn of_container(engine: &Engine, name: &str) -> anyhow::Result<identity::Userns> {
    let other = Container::find(&engine.dirs, name)?;
    of_containers::of_container(&other)?;
    Ok(match &other.config.identity.userns {
        identity::Userns::Host => identity::Userns::Host,
        userns => identity::Userns::Container {
            maps: match userns.maps() {
                Some(maps) => maps.clone(),
                None => engine.ids()?.maps.clone(),
            },
            id: other.config.id,
        },
    })
}

fn of_path(default: &IdMaps, path: &Path) -> anyhow::Result<identity::Userns> {
    let cannot = || format!("cannot join user namespace \"{}\"", path.display());
    let path = std::path::absolute(path).with_context(cannot)?;
    let userns = of_containers::open(&path)?;
    let (found, ours) = (
        rustix::fs::fstat(&userns)?,
        rustix::fs::stat("/proc/self/ns/user")?,
    );
    if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino) {
        if default.writer == Writer::Privileged {
            return Ok(identity::Userns::Host);
        }
        return Err(fail(
            Kind::Usage,
            "it is that of rbox itself, in which you are not root",
        ))
        .with_context(cannot);
    }
    let (uids, gids) = namespace::maps_of(userns.as_fd()).with_context(cannot)?;
    let maps = userns::existing(default, uids, gids)
        .map_err(|why| fail(Kind::Unsupported, why))
        .with_context(cannot)?;
    Ok(identity::Userns::Path { path, maps })
}

fn host_users(names: &[String]) -> anyhow::Result<Vec<Account>> {
    let found = names.iter().map(|name| {
        ids::account(name).ok_or_else(|| {
            fail(
                Kind::NotFound,
                format!("--hostuser=\"{name}\": there is no such user on the host"),
            )
        })
    });
    found.collect()
}

/// The caller as a user of the container, with these ids.
fn caller(uid: u32, gid: u32) -> Option<Account> {
    let own = rustix::process::getuid();
    if own.is_root() {
        return None;
    }
    Some(Account {
        uid,
        gid,
        group: ids::group_name(rustix::process::getgid().as_raw()),
        ..ids::account(&own.as_raw().to_string())?
    })
}
