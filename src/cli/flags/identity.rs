//! Flags that say who the container's processes are.

use clap::Args;

use crate::engine::create::identity::Wish;

#[derive(Clone, Debug, Args)]
pub struct IdentityFlags {
    /// Run as this user: name or uid, and :group
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
}

impl IdentityFlags {
    pub fn into_wish(self) -> anyhow::Result<Wish> {
        Ok(Wish { user: self.user })
    }
}
