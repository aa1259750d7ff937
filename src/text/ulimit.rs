//! `--ulimit`: `NAME=SOFT[:HARD]`.

/// A limit by the name that `ulimit`, Docker and Podman have for it; `u64::MAX` is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ulimit {
    pub name: String,
    pub soft: u64,
    pub hard: u64,
}

/// In the order of the alphabet; setrlimit(2) calls `nofile` `RLIMIT_NOFILE`.
pub const NAMES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

pub fn parse(text: &str) -> Result<Ulimit, String> {
    let (name, limits) = text
        .split_once('=')
        .ok_or("expected NAME=SOFT[:HARD], or host")?;
    if !NAMES.contains(&name) {
        return Err(format!(
            "no limit is called \"{name}\": expected one of {}",
            NAMES.join(", ")
        ));
    }
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (limit(soft)?, limit(hard)?),
        None => (limit(limits)?, limit(limits)?),
    };
    if soft > hard {
        return Err("the soft limit is above the hard one".into());
    }
    Ok(Ulimit {
        name: name.to_owned(),
        soft,
        hard,
    })
}

fn limit(text: &str) -> Result<u64, String> {
    match text {
        "-1" | "unlimited" => Ok(u64::MAX),
        _ => text
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse().ok())
            .flatten()
            .ok_or_else(|| format!("\"{text}\" is no limit: expected a number, -1 or unlimited")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_soft_and_hard() {
        let read = |text: &str| parse(text).map(|limit| (limit.soft, limit.hard));
        assert_eq!(read("nofile=10"), Ok((10, 10)));
        assert_eq!(read("core=0:-1"), Ok((0, u64::MAX)));
        assert_eq!(read("as=unlimited"), Ok((u64::MAX, u64::MAX)));
    }

    #[test]
    fn what_is_none_says_why() {
        let wrong = |text: &str| parse(text).unwrap_err();
        assert_eq!(wrong("nofile"), "expected NAME=SOFT[:HARD], or host");
        assert!(wrong("files=1").starts_with("no limit is called \"files\": expected one of as, "));
        assert_eq!(wrong("core=2:1"), "the soft limit is above the hard one");
        for limit in [
            "",
            "x",
            "-2",
            "+1",
            "1:",
            ":1",
            "1:2:3",
            "99999999999999999999",
        ] {
            let why = wrong(&format!("core={limit}"));
            assert!(
                why.ends_with("is no limit: expected a number, -1 or unlimited"),
                "{why}"
            );
        }
    }
}
