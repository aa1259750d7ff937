//! The verbs: create, start, stop, rm… across images, containers and the runtime. Never prints.

pub mod doctor;
pub mod info;
