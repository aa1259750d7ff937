//! Flags of `run` and `exec` that pass descriptors of the caller on to the command.

use clap::Args;

use crate::error::Kind;
use crate::error::fail;
use crate::runtime::Preserved;
use crate::sys::fd;

/// Linux: the highest number is below fs.nr_open, whose own limit is this (sysctl_nr_open_max).
const LAST: i32 = 1 << 30;

#[derive(Clone, Debug, Args)]
pub struct PreserveFlags {
    /// Pass these descriptors on to the command, by their numbers
    #[arg(long, value_name = "FD", value_delimiter = ',', value_parser = number)]
    preserve_fd: Vec<i32>,

    /// Pass this many descriptors on to the command, from 3 on
    #[arg(long, value_name = "COUNT")]
    preserve_fds: Option<u32>,
}

fn number(text: &str) -> Result<i32, String> {
    let number = text.parse::<i32>().ok();
    let number = number.filter(|number| (3..LAST).contains(number));
    number.ok_or("expected the number of an open descriptor, from 3 on".into())
}

impl PreserveFlags {
    /// Copies of them.
    pub fn open(self) -> anyhow::Result<Vec<Preserved>> {
        let mut all = Vec::new();
        for number in (3..).take(self.preserve_fds.unwrap_or(0) as usize) {
            let count = self.preserve_fds.unwrap_or(0);
            let text = || format!("--preserve-fds=\"{count}\": descriptor {number} is not open");
            all.push(open(number, text)?);
        }
        for number in self.preserve_fd {
            if all.iter().all(|known| known.number != number) {
                let text = || format!("--preserve-fd=\"{number}\": it is not open");
                all.push(open(number, text)?);
            }
        }
        Ok(all)
    }
}

fn open(number: i32, text: impl Fn() -> String) -> anyhow::Result<Preserved> {
    match fd::of_caller(number) {
        Some(fd) => Ok(Preserved { number, fd }),
        None => Err(fail(Kind::Usage, text())),
    }
}
