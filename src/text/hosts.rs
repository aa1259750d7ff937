//! The files of resolver(5): lines of /etc/hosts as `--add-host` gives them, and /etc/resolv.conf.

use std::net::IpAddr;

/// `NAME[;NAME…]:ADDRESS` or with `=`; the address is one, or `host-gateway` (`None`).
pub fn added(text: &str) -> Result<(Vec<String>, Option<IpAddr>), String> {
    let form = "expected NAME:ADDRESS, several names with ; between them";
    let at = text.find([':', '=']).ok_or(form)?;
    let (names, address) = (&text[..at], &text[at + 1..]);
    let names: Vec<String> = names.split(';').map(str::to_owned).collect();
    if let Some(name) = names.iter().find(|name| !is_name(name)) {
        return Err(format!("\"{name}\" is no host name: {form}"));
    }
    if address == "host-gateway" {
        return Ok((names, None));
    }
    let bare = address
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
        .unwrap_or(address);
    let address = bare
        .parse()
        .map_err(|_| format!("\"{address}\" is no IP address, nor host-gateway"))?;
    Ok((names, Some(address)))
}

/// Whether it can stand in /etc/hosts and resolv.conf as a name.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The values of all lines of resolv.conf that begin with `keyword`, word by word; of `search`, the
/// last line counts (resolv.conf(5)).
pub fn resolver<'a>(text: &'a str, keyword: &str) -> Vec<&'a str> {
    let mut lines = text
        .lines()
        .filter_map(|line| line.split([';', '#']).next())
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.first() == Some(&keyword))
        .map(|words| words[1..].to_vec());
    match keyword {
        "search" => lines.next_back().unwrap_or_default(),
        _ => lines.flatten().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_added_in_all_forms() {
        let read = |text| added(text).map(|(names, address)| (names.join(" "), address));
        let v4 = Some(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(read("db:10.0.0.1"), Ok(("db".into(), v4)));
        assert_eq!(read("db;db.x:10.0.0.1"), Ok(("db db.x".into(), v4)));
        assert_eq!(read("db=10.0.0.1"), Ok(("db".into(), v4)));
        let v6 = Some("::1".parse().unwrap());
        assert_eq!(read("me:::1"), Ok(("me".into(), v6)));
        assert_eq!(read("me:[::1]"), Ok(("me".into(), v6)));
        assert_eq!(read("up:host-gateway"), Ok(("up".into(), None)));
    }

    #[test]
    fn what_is_no_host_says_why() {
        let wrong = |text| added(text).unwrap_err();
        let form = "expected NAME:ADDRESS, several names with ; between them";
        assert_eq!(wrong("db"), form);
        assert_eq!(wrong(":1.2.3.4"), format!("\"\" is no host name: {form}"));
        assert_eq!(wrong("a;:1.2.3.4"), format!("\"\" is no host name: {form}"));
        assert_eq!(
            wrong("a b:1.2.3.4"),
            format!("\"a b\" is no host name: {form}")
        );
        assert_eq!(
            wrong("db:1.2.3"),
            "\"1.2.3\" is no IP address, nor host-gateway"
        );
        assert_eq!(wrong("db:"), "\"\" is no IP address, nor host-gateway");
    }

    #[test]
    fn a_resolver_file_is_read_by_keyword() {
        let text =
            "# x\nnameserver 1.1.1.1 # y\nsearch a b\nnameserver ::1\nsearch c\noptions x y\n";
        assert_eq!(resolver(text, "nameserver"), ["1.1.1.1", "::1"]);
        assert_eq!(resolver(text, "search"), ["c"]);
        assert_eq!(resolver(text, "options"), ["x", "y"]);
    }
}
