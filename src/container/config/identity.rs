//! Who the container's processes are.

use serde::Deserialize;
use serde::Serialize;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    /// As `name`, `uid`, `name:group`…; looked up in the container.
    pub user: String,
}
