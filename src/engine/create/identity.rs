//! Who the container's processes will be.

use crate::container::config::Identity;
use crate::image::config::ImageConfig;

/// What the user asks for. Absent is what the image says.
#[derive(Clone, Debug)]
pub struct Wish {
    pub user: Option<String>,
}

pub fn decide(wish: Wish, image: &ImageConfig) -> anyhow::Result<Identity> {
    Ok(Identity {
        user: wish.user.unwrap_or_else(|| image.user.clone()),
        ..Identity::default()
    })
}
