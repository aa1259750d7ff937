//! zstd:chunked.

use std::collections::BTreeMap;
use std::io::Read;

use anyhow::Result;

use crate::image::compress::Output;

pub fn pack(
    input: &mut dyn Read,
    output: &mut Output<'_>,
    level: Option<i32>,
) -> Result<BTreeMap<String, String>> {
    crate::image::compress::zstd(input, output, level)
}
