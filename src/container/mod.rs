//! A container as it is on disk: what the user asked for, its name, its status, its log.

pub mod name;
mod words;
