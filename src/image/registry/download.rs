//! A file of the web, as `import URL` takes it.

use std::io::Read;

use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use ureq::http::Uri;

use crate::error::Kind;
use crate::error::fail;
use crate::image::registry::access::Access;
use crate::image::registry::http::Http;

/// The bytes under a URL; fewer than the server promised are an error at their end.
pub fn open(url: &str) -> Result<impl Read + Send + use<>> {
    let uri: Uri = url
        .parse()
        .map_err(|err| fail(Kind::Usage, format!("{url:?} is no URL: {err}")))?;
    let Some(authority) = uri.authority() else {
        return Err(fail(
            Kind::Usage,
            format!("{url:?} is no URL: there is no host"),
        ));
    };
    let host = match authority.port() {
        Some(port) => format!("{}:{port}", authority.host()),
        None => authority.host().to_owned(),
    };
    let http = Http::new(&host, &Access::default(), true)?;
    let answer = http
        .get(url, &[], None)
        .map_err(|err| anyhow!("cannot reach {host}: {err}"))?;
    match answer.response.status().as_u16() {
        200 => Ok(answer.response.into_body().into_reader()),
        status => bail!("{host} answers with status {status}"),
    }
}
