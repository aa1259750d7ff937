//! The helper process that unpacks layers.
use crate::store::helper;
use crate::store::remove;
use std::ffi::OsString;
use std::process::ExitCode;
/// The process role.
pub fn main(args: &[OsString]) -> ExitCode {
    let args: Vec<&str> = args.iter().filter_map(|a| a.to_str()).collect();
    let result = match args.as_slice() {
        ["remove", ids, name] => helper::enter(ids).and_then(|()| remove::remove_here(name)),
        _ => return ExitCode::from(125),
    };
    let line = match result {
        Ok(()) => "{}".to_owned(),
        Err(err) => helper::refusal(&err),
    };
    match helper::say(&line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(125),
    }
}
