//! What the container's processes will be allowed to do.

use crate::container::config::Security;
use crate::container::config::security::Seccomp;

/// What the user asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    pub seccomp: Seccomp,
    pub no_new_privileges: bool,
}

pub fn decide(wish: Wish) -> anyhow::Result<Security> {
    Ok(Security {
        seccomp: wish.seccomp,
        no_new_privileges: wish.no_new_privileges,
    })
}
