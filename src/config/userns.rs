//! `--userns`, `--uidmap` and their like: what people write, and the id map that comes of it. Pure.
//!
//! Numbers are those of Podman. Where there are sub-ids, a map leads to ids of an intermediate namespace,
//! which is the map that containers have by default: 0 is the user, 1… are the sub-ids in order. For root
//! they are ids of the host. rbox makes no intermediate namespace: the two maps are composed.

use std::path::PathBuf;
use std::str::FromStr;

use crate::config::mapping;
use crate::config::mapping::Span;
use crate::sys::idmap::IdMaps;
use crate::sys::idmap::IdRange;
use crate::sys::idmap::Writer;

/// A value of `--userns`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Default,
    Host,
    Private,
    KeepId(KeepId),
    Auto(Auto),
    NoMap,
    /// That of a container, by name or id.
    Container(String),
    Path(PathBuf),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepId {
    /// What the user's own ids are in the container; absent is what they are outside.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// How many ids are mapped at all.
    pub size: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auto {
    pub size: Option<u32>,
    /// Mapped in any case.
    pub uids: Vec<Triple>,
    pub gids: Vec<Triple>,
}

/// `[+ug]INSIDE:[@]FROM[:COUNT]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Triple {
    pub inside: u32,
    pub from: u32,
    pub count: u32,
    /// `@`: `from` is an id of the host.
    pub of_host: bool,
    /// `+`: added to the map before, whose contradictions go.
    pub extends: bool,
    pub users: bool,
    pub groups: bool,
}

const MODES: &str = "expected host, keep-id, auto, nomap, private, container:NAME or ns:PATH";

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        let (name, options) = match text.split_once(':') {
            Some((name, options)) => (name, Some(options)),
            None => (text, None),
        };
        match (name, options) {
            ("", None) => Ok(Mode::Default),
            ("host", None) => Ok(Mode::Host),
            ("private", None) => Ok(Mode::Private),
            ("nomap", None) => Ok(Mode::NoMap),
            ("keep-id", options) => keep_id(options).map(Mode::KeepId),
            ("auto", options) => auto(options).map(Mode::Auto),
            ("container", Some("") | None) => Err("expected container:NAME".into()),
            ("container", Some(container)) => Ok(Mode::Container(container.to_owned())),
            ("ns", Some("") | None) => Err("expected ns:PATH".into()),
            ("ns", Some(path)) => Ok(Mode::Path(path.into())),
            ("host" | "private" | "nomap" | "", Some(_)) => {
                Err(format!("\"{name}\" takes no options: {MODES}"))
            }
            _ => Err(MODES.into()),
        }
    }
}

/// `name=value` of a list.
fn options(text: Option<&str>, known: &str) -> Result<Vec<(String, String)>, String> {
    let Some(text) = text else {
        return Ok(vec![]);
    };
    let pairs = text.split(',').map(|option| match option.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!("option \"{option}\": expected {known}")),
    });
    pairs.collect()
}

fn keep_id(text: Option<&str>) -> Result<KeepId, String> {
    const KNOWN: &str = "uid=ID, gid=ID or size=COUNT";
    let mut found = KeepId::default();
    for (name, value) in options(text, KNOWN)? {
        let number = |what| number(&value).ok_or_else(|| format!("{name}=\"{value}\": {what}"));
        match name.as_str() {
            "uid" => found.uid = Some(number(AN_ID)?),
            "gid" => found.gid = Some(number(AN_ID)?),
            "size" => {
                let size = number(A_COUNT)?;
                found.size = (size > 0).then_some(size);
                found.size.ok_or_else(|| format!("size=\"0\": {A_COUNT}"))?;
            }
            _ => return Err(format!("option \"{name}\": expected {KNOWN}")),
        }
    }
    Ok(found)
}

fn auto(text: Option<&str>) -> Result<Auto, String> {
    const KNOWN: &str = "size=COUNT, uidmapping=MAP or gidmapping=MAP";
    let mut found = Auto::default();
    for (name, value) in options(text, KNOWN)? {
        let map = || -> Result<Triple, String> {
            match triples(&value)?.as_slice() {
                [one] if !one.extends && one.users && one.groups => Ok(*one),
                _ => Err(format!(
                    "{name}=\"{value}\": expected CONTAINER:HOST[:COUNT]"
                )),
            }
        };
        match name.as_str() {
            "size" => {
                let size = number(&value).filter(|size| *size > 0);
                found.size = Some(size.ok_or_else(|| format!("size=\"{value}\": {A_COUNT}"))?);
            }
            "uidmapping" => found.uids.push(map()?),
            "gidmapping" => found.gids.push(map()?),
            _ => return Err(format!("option \"{name}\": expected {KNOWN}")),
        }
    }
    Ok(found)
}

const AN_ID: &str = "expected an id from 0 to 4294967294";
const A_COUNT: &str = "expected a number of ids, at least 1";
const A_TRIPLE: &str = "expected [+][u|g]CONTAINER:[@]FROM[:COUNT], such as 0:1:1000 or +1000:@100";

/// Digits and nothing else: no sign, no blank.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u32 = digits.then(|| text.parse().ok())??;
    (number < u32::MAX).then_some(number)
}

/// One value of `--uidmap` or `--gidmap`: a triple, or several in a row. Two numbers map one id.
pub fn triples(text: &str) -> Result<Vec<Triple>, String> {
    let mut parts: Vec<&str> = text.split(':').collect();
    if parts.len() == 2 {
        parts.push("1");
    }
    if !parts.len().is_multiple_of(3) {
        return Err(A_TRIPLE.into());
    }
    parts.chunks(3).map(triple).collect()
}

fn triple(parts: &[&str]) -> Result<Triple, String> {
    let [inside, from, count] = parts else {
        return Err(A_TRIPLE.into());
    };
    let digits = inside.trim_start_matches(['+', 'u', 'g']);
    let flags = &inside[..inside.len() - digits.len()];
    let (of_host, from) = match from.strip_prefix('@') {
        Some(from) => (true, from),
        None => (false, *from),
    };
    let numbers = (number(digits), number(from), number(count));
    let (Some(inside), Some(from), Some(count @ 1..)) = numbers else {
        return Err(A_TRIPLE.into());
    };
    let both = !flags.contains(['u', 'g']);
    Ok(Triple {
        inside,
        from,
        count,
        of_host,
        extends: flags.contains('+'),
        users: both || flags.contains('u'),
        groups: both || flags.contains('g'),
    })
}

/// One of the two maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Users,
    Groups,
}

impl Side {
    fn flag(self) -> &'static str {
        match self {
            Side::Users => "--uidmap",
            Side::Groups => "--gidmap",
        }
    }

    fn concerns(self, triple: &Triple) -> bool {
        match self {
            Side::Users => triple.users,
            Side::Groups => triple.groups,
        }
    }

    fn of(self, maps: &IdMaps) -> &[IdRange] {
        match self {
            Side::Users => &maps.uids,
            Side::Groups => &maps.gids,
        }
    }
}

/// The maps of `--uidmap` and `--gidmap`; where one is not given, the other counts for both.
pub fn explicit(default: &IdMaps, uids: &[Triple], gids: &[Triple]) -> Result<IdMaps, String> {
    let (for_users, for_groups) = match (uids, gids) {
        ([], gids) => (gids, gids),
        (uids, []) => (uids, uids),
        both => both,
    };
    Ok(with_writer(
        default,
        built(default, Side::Users, for_users)?,
        built(default, Side::Groups, for_groups)?,
    ))
}

fn built(default: &IdMaps, side: Side, triples: &[Triple]) -> Result<Vec<IdRange>, String> {
    let parent = side.of(default);
    let mut map: Vec<IdRange> = vec![];
    // Podman: a map that begins with an extension extends what a container has by default.
    let mut fills = true;
    for triple in triples.iter().filter(|triple| side.concerns(triple)) {
        if map.is_empty() {
            fills = triple.extends && default.writer != Writer::Privileged;
        }
        for range in intermediate(parent, side, triple)? {
            if triple.extends {
                map = mapping::insert(&map, range);
            } else {
                map.push(range);
            }
        }
    }
    if fills {
        let all: Vec<Span> = parent.iter().map(mapping::inside).collect();
        let used: Vec<Span> = map.iter().map(mapping::outside).collect();
        map = mapping::fill(&map, &mapping::without(&all, &used));
    }
    let map = mapping::tidy(&map);
    mapping::check(&map).map_err(|why| format!("cannot use {}: {why}", side.flag()))?;
    let composed = mapping::compose(&map, parent);
    let map = composed.map_err(|id| no_such_id(side, parent, id))?;
    mapping::check(&map).map_err(|why| format!("cannot use {}: {why}", side.flag()))?;
    Ok(map)
}

/// A triple as ranges of ids of the intermediate namespace.
fn intermediate(parent: &[IdRange], side: Side, triple: &Triple) -> Result<Vec<IdRange>, String> {
    let range = IdRange {
        inside: triple.inside,
        outside: triple.from,
        count: triple.count,
    };
    if !triple.of_host {
        return Ok(vec![range]);
    }
    mapping::relative(&[range], parent).map_err(|id| {
        format!(
            "cannot use {}: id {id} of the host is not one that you may map",
            side.flag()
        )
    })
}

fn no_such_id(side: Side, parent: &[IdRange], id: u32) -> String {
    let count: u32 = parent.iter().map(|range| range.count).sum();
    match count {
        1 => format!(
            "cannot use {}: there is no id {id} to map, you have one id, 0",
            side.flag()
        ),
        count => format!(
            "cannot use {}: there is no id {id} to map, you have ids 0 to {}",
            side.flag(),
            count - 1
        ),
    }
}

/// Our own ids can be mapped without help; more needs whoever writes the default map.
fn with_writer(default: &IdMaps, uids: Vec<IdRange>, gids: Vec<IdRange>) -> IdMaps {
    let own = |map: &[IdRange], all: &[IdRange]| match (map, all.first()) {
        ([one], Some(first)) => (one.outside, one.count) == (first.outside, 1),
        _ => false,
    };
    let helped = matches!(default.writer, Writer::Helpers { .. });
    let writer = if helped && own(&uids, &default.uids) && own(&gids, &default.gids) {
        Writer::Single
    } else {
        default.writer.clone()
    };
    IdMaps { writer, uids, gids }
}

/// The maps of `keep-id`, and who the user is in the container.
pub fn kept(default: &IdMaps, own: (u32, u32), wish: KeepId) -> Result<(IdMaps, u32, u32), String> {
    if default.writer == Writer::Privileged {
        // Podman: root keeps all ids that there are.
        return Ok((
            default.clone(),
            wish.uid.unwrap_or(0),
            wish.gid.unwrap_or(0),
        ));
    }
    let (uid, gid) = (wish.uid.unwrap_or(own.0), wish.gid.unwrap_or(own.1));
    let side = |parent: &[IdRange], id: u32| {
        let count: u32 = parent.iter().map(|range| range.count).sum();
        let most = wish.size.map_or(count, |size| size.min(count)) - 1;
        let ranges = [
            (0, 1, id.min(most)),
            (id, 0, 1),
            (
                id.saturating_add(1),
                id.saturating_add(1),
                most.saturating_sub(id),
            ),
        ];
        let ranges = ranges.into_iter().filter(|(_, _, count)| *count > 0);
        let map: Vec<IdRange> = ranges
            .map(|(inside, outside, count)| IdRange {
                inside,
                outside,
                count,
            })
            .collect();
        mapping::compose(&map, parent).map_err(|id| format!("cannot map id {id}"))
    };
    let maps = with_writer(
        default,
        side(&default.uids, uid)?,
        side(&default.gids, gid)?,
    );
    Ok((maps, uid, gid))
}

/// The maps of `nomap`: all ids but the user's own.
pub fn unmapped(default: &IdMaps) -> Result<IdMaps, String> {
    match default.writer {
        Writer::Privileged => Err("mode nomap is for users other than root".into()),
        Writer::Single => Err("mode nomap needs sub-ids, and you have none".into()),
        Writer::Helpers { .. } => {
            let rest = |ranges: &[IdRange]| sequence(ranges[1..].iter().map(mapping::outside));
            Ok(IdMaps {
                writer: default.writer.clone(),
                uids: rest(&default.uids),
                gids: rest(&default.gids),
            })
        }
    }
}

/// 0, 1… are these ids.
fn sequence(spans: impl Iterator<Item = Span>) -> Vec<IdRange> {
    let spans: Vec<Span> = spans.collect();
    mapping::tidy(&mapping::fill(&[], &spans))
}

/// The maps of ranges that belong to somebody else by /etc/subuid and /etc/subgid.
pub fn of_name(default: &IdMaps, uids: &[Span], gids: &[Span]) -> Result<IdMaps, String> {
    let side = |side: Side, spans: &[Span]| {
        let map = sequence(spans.iter().copied());
        let flag = match side {
            Side::Users => "--subuidname",
            Side::Groups => "--subgidname",
        };
        mapping::check(&map).map_err(|why| format!("cannot use {flag}: {why}"))?;
        mapping::relative(&map, side.of(default)).map_err(|id| {
            format!("cannot use {flag}: id {id} of the host is not one that you may map")
        })?;
        Ok::<_, String>(map)
    };
    let maps = (side(Side::Users, uids)?, side(Side::Groups, gids)?);
    Ok(with_writer(default, maps.0, maps.1))
}

/// What `auto` chooses from: ids of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    pub all: Vec<Span>,
    /// Those of other containers.
    pub taken: Vec<Span>,
}

/// One map of `auto`: `size` ids of the container are ids of the host that nobody else has.
pub fn chosen(
    default: &IdMaps,
    side: Side,
    pool: &Pool,
    size: u32,
    more: &[Triple],
) -> Result<Vec<IdRange>, String> {
    let parent = side.of(default);
    let mut fixed = vec![];
    for triple in more {
        for range in intermediate(parent, side, triple)? {
            fixed.push(range);
        }
    }
    let fixed = mapping::compose(&fixed, parent).map_err(|id| no_such_id(side, parent, id))?;
    let spoken: Vec<Span> = fixed.iter().map(mapping::outside).collect();
    let free = mapping::without(&mapping::without(&pool.all, &pool.taken), &spoken);
    let Some(spans) = mapping::take(&free, size) else {
        let left: u64 = free.iter().map(|span| u64::from(span.count)).sum();
        return Err(format!(
            "mode auto needs {size} ids that no other container has, and {left} are left"
        ));
    };
    let mut map = sequence(spans.into_iter());
    for range in fixed {
        map = mapping::insert(&map, range);
    }
    let map = mapping::tidy(&map);
    mapping::check(&map).map_err(|why| format!("cannot use mode auto: {why}"))?;
    Ok(map)
}

/// Where the ids of `auto` come from for a user with sub-ids: all of them, not the user's own.
pub fn sub_ids(default: &[IdRange]) -> Vec<Span> {
    default[1..].iter().map(mapping::outside).collect()
}

/// The host's ids of a map.
pub fn hosts(map: &[IdRange]) -> impl Iterator<Item = Span> {
    map.iter().map(mapping::outside)
}

/// The ids of a namespace that exists, as whoever may write a map would have written it.
pub fn existing(
    default: &IdMaps,
    uids: Vec<IdRange>,
    gids: Vec<IdRange>,
) -> Result<IdMaps, String> {
    for (side, map) in [(Side::Users, &uids), (Side::Groups, &gids)] {
        mapping::relative(map, side.of(default)).map_err(|id| {
            format!("its user namespace has id {id} of the host, which is not yours")
        })?;
    }
    let (uids, gids) = (mapping::tidy(&uids), mapping::tidy(&gids));
    Ok(with_writer(default, uids, gids))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(inside: u32, outside: u32, count: u32) -> IdRange {
        IdRange {
            inside,
            outside,
            count,
        }
    }

    fn helpers() -> IdMaps {
        let map = vec![range(0, 1000, 1), range(1, 100_000, 65536)];
        IdMaps {
            writer: Writer::Helpers {
                newuidmap: "/usr/bin/newuidmap".into(),
                newgidmap: "/usr/bin/newgidmap".into(),
            },
            uids: map.clone(),
            gids: map,
        }
    }

    fn single() -> IdMaps {
        crate::config::ids::single(1000, 100)
    }

    fn root() -> IdMaps {
        let all = vec![range(0, 0, u32::MAX)];
        IdMaps {
            writer: Writer::Privileged,
            uids: all.clone(),
            gids: all,
        }
    }

    fn read(texts: &[&str]) -> Vec<Triple> {
        texts
            .iter()
            .flat_map(|text| triples(text).unwrap())
            .collect()
    }

    #[test]
    fn modes_are_podmans() {
        let keep = |uid, gid, size| Ok(Mode::KeepId(KeepId { uid, gid, size }));
        let table = [
            ("", Ok(Mode::Default)),
            ("host", Ok(Mode::Host)),
            ("private", Ok(Mode::Private)),
            ("nomap", Ok(Mode::NoMap)),
            ("keep-id", keep(None, None, None)),
            ("keep-id:uid=200,gid=210", keep(Some(200), Some(210), None)),
            ("keep-id:size=70", keep(None, None, Some(70))),
            ("auto", Ok(Mode::Auto(Auto::default()))),
            ("container:web", Ok(Mode::Container("web".into()))),
            (
                "ns:/proc/1/ns/user",
                Ok(Mode::Path("/proc/1/ns/user".into())),
            ),
        ];
        for (text, mode) in table {
            assert_eq!(text.parse::<Mode>(), mode, "{text}");
        }
        let Ok(Mode::Auto(auto)) = "auto:size=8192,uidmapping=5:@1000:1,gidmapping=7:0".parse()
        else {
            panic!();
        };
        assert_eq!(auto.size, Some(8192));
        assert!(auto.uids[0].of_host && auto.uids[0].inside == 5);
        assert_eq!((auto.gids[0].inside, auto.gids[0].count), (7, 1));
    }

    #[test]
    fn wrong_modes_are_told_what_is_right() {
        let table = [
            ("hots", MODES),
            (
                "host:x",
                "\"host\" takes no options: expected host, keep-id, auto, nomap, private, container:NAME or ns:PATH",
            ),
            (
                "keep-id:",
                "option \"\": expected uid=ID, gid=ID or size=COUNT",
            ),
            (
                "keep-id:uid",
                "option \"uid\": expected uid=ID, gid=ID or size=COUNT",
            ),
            (
                "keep-id:uid=-1",
                "uid=\"-1\": expected an id from 0 to 4294967294",
            ),
            (
                "keep-id:uid=4294967295",
                "uid=\"4294967295\": expected an id from 0 to 4294967294",
            ),
            (
                "keep-id:uid=+1",
                "uid=\"+1\": expected an id from 0 to 4294967294",
            ),
            (
                "keep-id:pid=1",
                "option \"pid\": expected uid=ID, gid=ID or size=COUNT",
            ),
            (
                "keep-id:size=0",
                "size=\"0\": expected a number of ids, at least 1",
            ),
            (
                "auto:size=0",
                "size=\"0\": expected a number of ids, at least 1",
            ),
            (
                "auto:size=x",
                "size=\"x\": expected a number of ids, at least 1",
            ),
            ("auto:uidmapping=1", A_TRIPLE),
            (
                "auto:uidmapping=+1:2",
                "uidmapping=\"+1:2\": expected CONTAINER:HOST[:COUNT]",
            ),
            ("container", "expected container:NAME"),
            ("ns:", "expected ns:PATH"),
        ];
        for (text, message) in table {
            assert_eq!(text.parse::<Mode>(), Err(message.to_owned()), "{text}");
        }
        for text in [
            "",
            ":",
            "1",
            "1:2:3:4",
            "a:b:c",
            "-1:0:1",
            "0:0:0",
            "1: 2:3",
            "0:0:4294967295",
            "0:@:1",
            "0:0x0:1",
            "x0:0:1",
            "0:0:1:",
            "٠:0:1",
            "4294967296:0:1",
            "0::1",
        ] {
            assert_eq!(triples(text), Err(A_TRIPLE.to_owned()), "{text}");
        }
    }

    #[test]
    fn numbers_are_ids_of_the_intermediate_namespace() {
        let maps = |uids: &[&str], gids: &[&str]| {
            explicit(&helpers(), &read(uids), &read(gids)).map(|maps| (maps.uids, maps.gids))
        };
        let both = |map: Vec<IdRange>| Ok((map.clone(), map));
        let table = [
            (vec!["0:0:1"], both(vec![range(0, 1000, 1)])),
            (
                vec!["0:1:1000", "1000:0:1"],
                both(vec![range(0, 100_000, 1000), range(1000, 1000, 1)]),
            ),
            // Across the border of the two ranges of the host.
            (
                vec!["0:0:10"],
                both(vec![range(0, 1000, 1), range(1, 100_000, 9)]),
            ),
            (vec!["7:@100005:2"], both(vec![range(7, 100_005, 2)])),
            (vec!["7:@1000"], both(vec![range(7, 1000, 1)])),
            (
                vec!["0:0:65000", "+100000:1:1"],
                both(vec![
                    range(0, 1000, 1),
                    range(2, 100_001, 64998),
                    range(100_000, 100_000, 1),
                ]),
            ),
            // An extension first: the rest is as by default.
            (
                vec!["+1000:0:1"],
                both(vec![
                    range(0, 100_000, 1000),
                    range(1000, 1000, 1),
                    range(1001, 101_000, 64536),
                ]),
            ),
        ];
        for (texts, expected) in table {
            assert_eq!(maps(&texts, &[]), expected, "{texts:?}");
            assert_eq!(maps(&[], &texts), expected, "{texts:?}");
        }
        assert_eq!(
            maps(&["0:1:5"], &["0:2:5"]),
            Ok((vec![range(0, 100_000, 5)], vec![range(0, 100_001, 5)]))
        );
        // `g` is not copied to the users, which keep what they have by default.
        assert_eq!(
            maps(&[], &["+g10000:@165535"]),
            Ok((
                helpers().uids,
                vec![
                    range(0, 1000, 1),
                    range(1, 100_000, 9999),
                    range(10_000, 165_535, 1),
                    range(10_001, 109_999, 55536)
                ]
            ))
        );
        assert_eq!(
            maps(&[], &["0:0:1000", "g2000:2000:1"]).unwrap().0,
            [range(0, 1000, 1), range(1, 100_000, 999)]
        );
    }

    #[test]
    fn maps_that_cannot_be_say_why() {
        let refused = |default: &IdMaps, uids: &[&str]| {
            explicit(default, &read(uids), &[])
                .map(|maps| maps.uids)
                .unwrap_err()
        };
        let table = [
            (
                helpers(),
                vec!["0:0:65538"],
                "cannot use --uidmap: there is no id 65537 to map, you have ids 0 to 65536",
            ),
            (
                helpers(),
                vec!["0:@7:1"],
                "cannot use --uidmap: id 7 of the host is not one that you may map",
            ),
            (
                helpers(),
                vec!["0:@100000:65537"],
                "cannot use --uidmap: id 165536 of the host is not one that you may map",
            ),
            (
                helpers(),
                vec!["0:0:5", "4:10:1"],
                "cannot use --uidmap: it gives id 4 of the container twice",
            ),
            (
                helpers(),
                vec!["0:0:5", "10:4:1"],
                "cannot use --uidmap: id 4 is mapped twice",
            ),
            (
                single(),
                vec!["0:1:1"],
                "cannot use --uidmap: there is no id 1 to map, you have one id, 0",
            ),
            (
                root(),
                vec!["4294967290:0:10"],
                "cannot use --uidmap: it goes beyond the largest id, 4294967294",
            ),
        ];
        for (default, texts, message) in table {
            assert_eq!(refused(&default, &texts), message);
        }
    }

    #[test]
    fn one_id_needs_no_helper() {
        let maps = explicit(&helpers(), &read(&["1000:0:1"]), &[]).unwrap();
        assert_eq!(maps.writer, Writer::Single);
        let maps = explicit(&helpers(), &read(&["1000:1:1"]), &[]).unwrap();
        assert_eq!(maps.writer, helpers().writer);
        let maps = explicit(&single(), &read(&["1000:0:1"]), &[]).unwrap();
        assert_eq!(
            (maps.uids, maps.gids),
            (vec![range(1000, 1000, 1)], vec![range(1000, 100, 1)])
        );
        // For root numbers are ids of the host, and `+` extends nothing.
        let maps = explicit(&root(), &read(&["+0:100000:10"]), &[]).unwrap();
        assert_eq!(
            (maps.writer, maps.uids),
            (Writer::Privileged, vec![range(0, 100_000, 10)])
        );
    }

    #[test]
    fn keep_id_moves_the_user_to_his_own_number() {
        let keep = |default: &IdMaps, wish| kept(default, (1000, 1000), wish).unwrap();
        let (maps, uid, gid) = keep(&helpers(), KeepId::default());
        assert_eq!((uid, gid), (1000, 1000));
        let expected = [
            range(0, 100_000, 1000),
            range(1000, 1000, 1),
            range(1001, 101_000, 64536),
        ];
        assert_eq!(maps.uids, expected);
        let wish = |uid, size| KeepId {
            uid: Some(uid),
            gid: Some(uid),
            size,
        };
        assert_eq!(keep(&helpers(), wish(0, None)).0.uids, helpers().uids);
        assert_eq!(
            keep(&helpers(), wish(200, Some(300))).0.uids,
            [
                range(0, 100_000, 200),
                range(200, 1000, 1),
                range(201, 100_200, 99)
            ]
        );
        assert_eq!(
            keep(&helpers(), wish(70000, None)).0.uids,
            [range(0, 100_000, 65536), range(70000, 1000, 1)]
        );
        let (maps, ..) = keep(&helpers(), wish(7, Some(1)));
        assert_eq!(
            (maps.writer, maps.uids),
            (Writer::Single, vec![range(7, 1000, 1)])
        );
        let (maps, ..) = keep(&single(), KeepId::default());
        assert_eq!(
            (maps.writer, maps.gids),
            (Writer::Single, vec![range(1000, 100, 1)])
        );
        assert_eq!(keep(&root(), KeepId::default()), (root(), 0, 0));
    }

    #[test]
    fn nomap_leaves_the_user_out() {
        assert_eq!(
            unmapped(&helpers()).unwrap().uids,
            [range(0, 100_000, 65536)]
        );
        assert!(unmapped(&root()).is_err() && unmapped(&single()).is_err());
    }

    #[test]
    fn ranges_of_a_name_must_be_ours() {
        let span = |start, count| [Span { start, count }];
        let maps = of_name(&helpers(), &span(100_000, 10), &span(100_005, 7)).unwrap();
        assert_eq!(
            (maps.uids, maps.gids),
            (vec![range(0, 100_000, 10)], vec![range(0, 100_005, 7)])
        );
        assert_eq!(
            of_name(&helpers(), &span(100_000, 10), &span(7, 7)).unwrap_err(),
            "cannot use --subgidname: id 7 of the host is not one that you may map"
        );
        assert!(of_name(&root(), &span(7, 7), &span(7, 7)).is_ok());
    }

    #[test]
    fn auto_takes_what_no_other_has() {
        let span = |start, count| Span { start, count };
        let mut pool = Pool {
            all: sub_ids(&helpers().uids),
            taken: vec![],
        };
        let mut maps = vec![];
        for _ in 0..3 {
            let map = chosen(&helpers(), Side::Users, &pool, 1024, &[]).unwrap();
            pool.taken.extend(hosts(&map));
            maps.push(map);
        }
        assert_eq!(maps[2], [range(0, 102_048, 1024)]);
        // The hole that a removed one leaves is used again.
        pool.taken.retain(|taken| taken.start != 101_024);
        let map = chosen(&helpers(), Side::Users, &pool, 1000, &[]).unwrap();
        assert_eq!(map, [range(0, 101_024, 1000)]);
        pool.taken.push(span(103_072, 62_464));
        assert_eq!(
            chosen(&helpers(), Side::Users, &pool, 2000, &[]).unwrap_err(),
            "mode auto needs 2000 ids that no other container has, and 1024 are left"
        );
        let more = read(&["5:0:1", "2000:@100000:1"]);
        let map = chosen(&helpers(), Side::Users, &pool, 10, &more).unwrap();
        assert_eq!(
            map,
            [
                range(0, 101_024, 5),
                range(5, 1000, 1),
                range(6, 101_030, 4),
                range(2000, 100_000, 1)
            ]
        );
    }
}
