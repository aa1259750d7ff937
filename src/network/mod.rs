//! Networks of containers, without a process of their own. Of a container it knows the id, the names and the place on
//! each network; what else it is stands above (`engine::interfaces`).
//!
//! | module | what |
//! |---|---|
//! | `record` | networks that a user defines, on disk |
//! | `subnet` | the addresses of a network |
//! | `members` | who is on which network now |
//! | `place` | what a container has of a network |
//! | `hub` | the namespace of all bridges |
//! | `wire` | the bridges, and the cables between them and the containers |
//! | `direct` | interfaces of containers on one of the host's |
//! | `setting` | what the kernel is told beside |
//! | `names` | the names of those on a network |
//! | `dns` | questions and answers, as bytes |
//! | `stub` | a server of DNS on an address of the host |
//! | `stack` | a container's way to the world: frames on its side, ordinary sockets on the host's |

pub mod direct;
pub mod dns;
pub mod hub;
pub mod members;
pub mod names;
pub mod place;
pub mod record;
pub mod setting;
pub mod stack;
pub mod stub;
pub mod subnet;
pub mod wire;
