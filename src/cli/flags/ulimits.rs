//! `--ulimit`, which `update` has too.

use clap::Args;

use crate::container::config::process::Ulimit;
use crate::error::Kind;
use crate::error::fail;
use crate::text::ulimit;

#[derive(Clone, Debug, Args)]
pub struct UlimitFlags {
    /// Set a resource limit, as nofile=1024:2048; -1 is none; host leaves all as they are
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = one_ulimit, value_delimiter = ',')]
    ulimit: Vec<OneUlimit>,
}

#[derive(Clone, Debug)]
enum OneUlimit {
    Host,
    Limit(Ulimit),
}

fn one_ulimit(text: &str) -> Result<OneUlimit, String> {
    if text == "host" {
        return Ok(OneUlimit::Host);
    }
    let limit = ulimit::parse(text)?;
    Ok(OneUlimit::Limit(Ulimit {
        name: format!("RLIMIT_{}", limit.name.to_ascii_uppercase()),
        soft: limit.soft,
        hard: limit.hard,
    }))
}

impl UlimitFlags {
    /// The last of each name counts; none at all is the host's.
    pub fn into_ulimits(self) -> anyhow::Result<Option<Vec<Ulimit>>> {
        if self.ulimit.is_empty() {
            return Ok(None);
        }
        let several = self.ulimit.len() > 1;
        let mut limits: Vec<Ulimit> = Vec::new();
        for one in self.ulimit {
            match one {
                OneUlimit::Host if several => {
                    let text = "--ulimit=\"host\": expected no other limit beside it";
                    return Err(fail(Kind::Usage, text));
                }
                OneUlimit::Host => {}
                OneUlimit::Limit(limit) => {
                    limits.retain(|known| known.name != limit.name);
                    limits.push(limit);
                }
            }
        }
        Ok(Some(limits))
    }
}
