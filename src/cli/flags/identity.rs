//! Flags that say who the container's processes are.

use clap::ArgAction;
use clap::Args;

use crate::config::userns;
use crate::config::userns::Mode;
use crate::config::userns::Triple;
use crate::engine::create::identity::Wish;
use crate::runtime::user;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Users and ids")]
pub struct IdentityFlags {
    /// Map gids, as --uidmap does
    #[arg(long, value_name = "MAP", value_delimiter = ',', value_parser = triples)]
    gidmap: Vec<Triples>,

    /// Add groups to those of the user, by name or gid; keep-groups keeps those of the caller
    #[arg(long, value_name = "GROUP", value_delimiter = ',', value_parser = group)]
    group_add: Vec<String>,

    /// Use this line for /etc/group ($GROUPNAME, $GID, $USERLIST)
    #[arg(long, value_name = "LINE", value_parser = line)]
    group_entry: Option<String>,

    /// Add a user of the host to /etc/passwd
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = host_user)]
    hostuser: Vec<String>,

    /// Add lines to /etc/passwd and /etc/group for users that have none
    #[arg(long, default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, hide_default_value = true, action = ArgAction::Set)]
    passwd: bool,

    /// Use this line for /etc/passwd ($USERNAME, $UID, $GID, $NAME, $HOME)
    #[arg(long, value_name = "LINE", value_parser = line)]
    passwd_entry: Option<String>,

    /// Map the gids that a user has in /etc/subgid
    #[arg(long, value_name = "NAME", value_parser = name)]
    subgidname: Option<String>,

    /// Map the uids that a user has in /etc/subuid
    #[arg(long, value_name = "NAME", value_parser = name)]
    subuidname: Option<String>,

    /// Map uids: [+][u|g]CONTAINER:[@]FROM[:COUNT]; @ for those of the host, + to change the rest only
    #[arg(long, value_name = "MAP", value_delimiter = ',', value_parser = triples)]
    uidmap: Vec<Triples>,

    /// Set the umask of the container's process [default: 0022]
    #[arg(long, value_name = "MASK", value_parser = umask)]
    umask: Option<u32>,

    /// Run as this user: name or uid, and :group
    #[arg(short, long, value_name = "USER[:GROUP]", value_parser = checked_user)]
    user: Option<String>,

    /// Choose the user namespace: host, keep-id, auto, nomap, private, container:NAME or ns:PATH
    #[arg(long, value_name = "MODE", value_parser = userns, default_value = "",
        hide_default_value = true)]
    userns: Mode,
}

impl IdentityFlags {
    pub fn into_wish(self) -> Wish {
        let all = |lists: Vec<Triples>| lists.into_iter().flat_map(|list| list.0).collect();
        Wish {
            user: self.user,
            userns: self.userns,
            uid_map: all(self.uidmap),
            gid_map: all(self.gidmap),
            sub_uid_name: self.subuidname,
            sub_gid_name: self.subgidname,
            groups: self.group_add,
            no_passwd: !self.passwd,
            passwd_entry: self.passwd_entry,
            group_entry: self.group_entry,
            host_users: self.hostuser,
            umask: self.umask,
        }
    }
}

#[derive(Clone, Debug)]
struct Triples(Vec<Triple>);

fn triples(text: &str) -> Result<Triples, String> {
    userns::triples(text).map(Triples)
}

fn userns(text: &str) -> Result<Mode, String> {
    text.parse()
}

pub fn checked_user(text: &str) -> Result<String, String> {
    user::check(text).map(|()| text.to_owned())
}

fn group(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("expected the name or gid of a group, or keep-groups".into());
    }
    user::check_group(text).map(|()| text.to_owned())
}

fn host_user(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains([':', '\n', '\0']) {
        return Err("expected the name or uid of a user of the host".into());
    }
    Ok(text.to_owned())
}

fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains([':', '\n', '\0']) {
        return Err("expected the name of a user".into());
    }
    Ok(text.to_owned())
}

fn line(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(char::is_control) {
        return Err("expected one line".into());
    }
    Ok(text.to_owned())
}

/// Octal, as people write modes; a prefix of 0 or 0o says no more.
fn umask(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mask = (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| u32::from_str_radix(digits, 8).ok())
        .flatten();
    mask.filter(|mask| *mask <= 0o777)
        .ok_or_else(|| "expected an octal number from 0 to 0777".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_umask_is_octal() {
        for (text, mask) in [("0022", 0o22), ("77", 0o77), ("0", 0), ("0o027", 0o27)] {
            assert_eq!(umask(text), Ok(mask), "{text}");
        }
        for wrong in ["", "8", "1000", "-1", "+7", "0x1f", " 0", "u=rwx"] {
            assert!(umask(wrong).is_err(), "{wrong}");
        }
    }
}
