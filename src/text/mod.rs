//! Text in and out: sizes, durations, times, signals, tables, `--format` templates.
//! Pure functions without IO.

pub mod cidr;
pub mod duration;
pub mod egress;
pub mod escape;
pub mod glob;
pub mod hosts;
pub mod keys;
pub mod publish;
pub mod rate;
pub mod signal;
pub mod size;
pub mod table;
pub mod template;
pub mod time;
pub mod ulimit;
pub mod unit;
pub mod variables;
