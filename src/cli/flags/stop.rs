//! How containers are told to end.

use clap::Args;

use crate::engine::stop;
use crate::engine::stop::Limit;
use crate::text::signal;

#[derive(Clone, Debug, Args)]
pub struct StopFlags {
    /// Stop them by this signal instead of their own
    #[arg(short, long, value_name = "SIGNAL", value_parser = signal::parse)]
    signal: Option<i32>,

    /// Seconds to wait before the kill, -1 without end [default: the container's, 10]
    #[arg(short, long, alias = "timeout", value_name = "SECONDS", allow_negative_numbers = true,
        value_parser = Limit::parse)]
    time: Option<Limit>,
}

impl StopFlags {
    pub fn options(&self) -> stop::Options {
        stop::Options {
            signal: self.signal,
            limit: self.time,
        }
    }
}
