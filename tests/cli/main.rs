//! The command line, driven as its users drive it: one test binary, one file for each
//! subject. `support` is what the tests stand on; nothing here knows rbox from inside.
mod support;

mod harness;
mod run;
