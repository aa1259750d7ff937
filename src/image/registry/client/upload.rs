//! The requests of a push (distribution specification 1.1, "Pushing"): blobs, mounts, uploads, manifests.
//!
//! A registry chooses where a blob is sent (`Location`). Credentials go to the registry's own origin
//! alone, and what was begun by https does not go on by http.

use std::io;
use std::io::Read;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use anyhow::bail;
use ureq::Body;
use ureq::SendBody;
use ureq::http::Method;
use ureq::http::Request;
use ureq::http::Response;
use ureq::http::Uri;

use crate::image::registry::client::Client;
use crate::image::registry::client::is_transient;
use crate::image::registry::client::plain;
use crate::image::registry::client::wait_told;
use crate::image::registry::http::origin;
use crate::image::registry::http::resolve;
use crate::oci::digest::Digest;

/// A registry may have to copy the whole blob to its place before it answers: so many times longer than
/// usual it may take.
const ANSWER_WAIT: u32 = 10;
const REDIRECTS_MAX: usize = 5;

/// An upload that the registry has opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Where the next bytes go; another after each request.
    url: String,
    /// The smallest part that the registry takes, where it says so.
    pub part_min: u64,
}

pub enum Started {
    /// The blob was in another repository, and is now in this one too.
    Mounted,
    Open(Upload),
}

/// Bytes to be sent: all that the reader gives, which must be `length`.
pub struct Payload<'a> {
    pub reader: &'a mut (dyn Read + 'a),
    pub length: u64,
}

/// What came of sending a part of a blob.
pub enum Sent {
    /// The blob is there, verified by the registry.
    Whole,
    /// All before `offset` is there.
    Part { upload: Upload, offset: u64 },
    /// The registry takes no body of that size at once.
    TooLarge,
    /// It may be tried again, from where the registry says.
    Broken(anyhow::Error),
}

/// What a registry says to a manifest.
pub enum Put {
    Accepted,
    /// It does not take this manifest; one of another type perhaps.
    Refused(anyhow::Error),
}

struct Call<'a> {
    method: Method,
    url: &'a str,
    headers: &'a [(&'a str, &'a str)],
}

impl Client {
    /// Whether the repository has a blob.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool> {
        let url = format!("{}/v2/{}/blobs/{digest}", self.base, self.repository);
        let mut url = url;
        for _ in 0..REDIRECTS_MAX {
            let response = self.ask(&Call {
                method: Method::HEAD,
                url: &url,
                headers: &[],
            })?;
            match response.status().as_u16() {
                200 => return Ok(true),
                404 => return Ok(false),
                // Where blobs lie elsewhere, a registry points to them.
                301 | 302 | 307 | 308 => url = self.next(&url, &response, 0)?.url,
                _ => return Err(self.refusal(response, &format!("blob {digest}"))),
            }
        }
        bail!("the registry points from place to place for blob {digest}")
    }

    /// Opens an upload, unless the blob can be had from another repository of the registry.
    pub fn start_upload(&self, mount: Option<(&Digest, &str)>) -> Result<Started> {
        let mut url = format!("{}/v2/{}/blobs/uploads/", self.base, self.repository);
        if let Some((digest, from)) = mount {
            url = with_query(&url, &format!("mount={digest}&from={from}"));
        }
        let response = self.ask(&Call {
            method: Method::POST,
            url: &url,
            headers: &[("Content-Length", "0")],
        })?;
        match response.status().as_u16() {
            201 if mount.is_some() => Ok(Started::Mounted),
            202 => Ok(Started::Open(self.next(&url, &response, 0)?)),
            _ => Err(self.refusal(response, &format!("uploads to {}", self.repository))),
        }
    }

    /// How far an upload is; `None` where the registry knows it no more.
    pub fn upload_status(&self, upload: &Upload) -> Result<Option<(Upload, u64)>> {
        let response = self.ask(&Call {
            method: Method::GET,
            url: &upload.url,
            headers: &[],
        })?;
        if response.status().as_u16() != 204 {
            return Ok(None);
        }
        // "0-0" may stand for one byte or for none: such an upload is begun anew.
        let offset = told_offset(&response).filter(|offset| *offset > 1);
        let next = self.next(&upload.url, &response, upload.part_min)?;
        Ok(offset.map(|offset| (next, offset)))
    }

    /// Ends an upload that is not gone on with. The registry forgets it sooner or later anyhow.
    pub fn cancel_upload(&self, upload: &Upload) {
        self.ask(&Call {
            method: Method::DELETE,
            url: &upload.url,
            headers: &[],
        })
        .ok();
    }

    /// The whole blob by one request.
    pub fn send_whole(
        &self,
        upload: &Upload,
        digest: &Digest,
        payload: Payload<'_>,
    ) -> Result<Sent> {
        let url = with_query(&upload.url, &format!("digest={digest}"));
        let call = Call {
            method: Method::PUT,
            url: &url,
            headers: &[("Content-Type", "application/octet-stream")],
        };
        let response = match self.send_body(&call, payload)? {
            Ok(response) => response,
            Err(err) => return Ok(Sent::Broken(err)),
        };
        match response.status().as_u16() {
            201 | 204 => check_digest(&response, digest).map(|()| Sent::Whole),
            413 => Ok(Sent::TooLarge),
            _ => self.broken_or_refused(response, digest),
        }
    }

    /// A part of the blob from `offset` on.
    pub fn send_part(
        &self,
        upload: &Upload,
        digest: &Digest,
        offset: u64,
        payload: Payload<'_>,
    ) -> Result<Sent> {
        let end = offset + payload.length;
        let range = format!("{offset}-{}", end.saturating_sub(1));
        let call = Call {
            method: Method::PATCH,
            url: &upload.url,
            headers: &[
                ("Content-Type", "application/octet-stream"),
                ("Content-Range", &range),
            ],
        };
        let response = match self.send_body(&call, payload)? {
            Ok(response) => response,
            Err(err) => return Ok(Sent::Broken(err)),
        };
        match response.status().as_u16() {
            201 | 202 | 204 => {
                let told = told_offset(&response).unwrap_or(end);
                if told > end {
                    bail!(
                        "the registry says that it has {told} bytes of {digest}, after {end} were sent"
                    );
                }
                let upload = self.next(&upload.url, &response, upload.part_min)?;
                Ok(Sent::Part {
                    upload,
                    offset: told,
                })
            }
            413 => Ok(Sent::TooLarge),
            _ => self.broken_or_refused(response, digest),
        }
    }

    /// Says that all parts have been sent.
    pub fn end_upload(&self, upload: &Upload, digest: &Digest) -> Result<Sent> {
        self.send_whole(
            upload,
            digest,
            Payload {
                reader: &mut io::empty(),
                length: 0,
            },
        )
    }

    pub fn put_manifest(&self, name: &str, media_type: &str, bytes: &[u8]) -> Result<Put> {
        let url = format!("{}/v2/{}/manifests/{name}", self.base, self.repository);
        let call = Call {
            method: Method::PUT,
            url: &url,
            headers: &[("Content-Type", media_type)],
        };
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut reader = bytes;
            let payload = Payload {
                reader: &mut reader,
                length: bytes.len() as u64,
            };
            let response = match self.send_body(&call, payload)? {
                Ok(response) => response,
                Err(_) if attempt <= self.access.retries => {
                    std::thread::sleep(self.access.wait(attempt));
                    continue;
                }
                Err(err) => return Err(err),
            };
            match response.status().as_u16() {
                200..=204 => {
                    check_digest(&response, &Digest::sha256_of(bytes))?;
                    return Ok(Put::Accepted);
                }
                429 | 500..=599 if attempt <= self.access.retries => {
                    let told = wait_told(&response);
                    std::thread::sleep(self.access.wait_told(attempt, told));
                }
                400 | 415 => return Ok(Put::Refused(self.refusal(response, "such a manifest"))),
                _ => return Err(self.refusal(response, &format!("manifest {name}"))),
            }
        }
    }

    fn broken_or_refused(&self, response: Response<Body>, digest: &Digest) -> Result<Sent> {
        match response.status().as_u16() {
            // An upload that is forgotten, a part out of order, and what may pass.
            404 | 408 | 416 | 429 | 500..=599 => {
                if let Some(told) = wait_told(&response) {
                    std::thread::sleep(self.access.wait_told(1, Some(told)));
                }
                Ok(Sent::Broken(
                    self.refusal(response, &format!("blob {digest}")),
                ))
            }
            _ => Err(self.refusal(response, &format!("blob {digest}"))),
        }
    }

    /// A request without a body, repeated while that may help.
    fn ask(&self, call: &Call<'_>) -> Result<Response<Body>> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut nothing = io::empty();
            let payload = Payload {
                reader: &mut nothing,
                length: 0,
            };
            let response = match self.authorized(call, payload, &mut true)? {
                Ok(response) => response,
                Err(err) if attempt <= self.access.retries && is_transient(&err) => {
                    std::thread::sleep(self.access.wait(attempt));
                    continue;
                }
                Err(err) => return Err(self.unreachable(err)),
            };
            match response.status().as_u16() {
                429 | 500..=599 if attempt <= self.access.retries => {
                    let told = wait_told(&response);
                    std::thread::sleep(self.access.wait_told(attempt, told));
                }
                _ => return Ok(response),
            }
        }
    }

    /// A request with a body, once. The inner error is one of the connection.
    fn send_body(
        &self,
        call: &Call<'_>,
        payload: Payload<'_>,
    ) -> Result<Result<Response<Body>, anyhow::Error>> {
        let mut source = Source {
            inner: payload.reader,
            left: payload.length,
            failed: None,
        };
        let wrapped = Payload {
            reader: &mut source,
            length: payload.length,
        };
        let outcome = self.authorized(call, wrapped, &mut false)?;
        if let Some(err) = source.failed {
            return Err(err).context("cannot read what is to be sent");
        }
        Ok(outcome
            .map_err(|err| anyhow!("cannot reach registry {}: {}", self.registry, plain(err))))
    }

    /// Answers a 401 of the registry itself. Where a body went with it, the caller begins again:
    /// the answer counts as a broken connection, and the next attempt has the new token.
    fn authorized(
        &self,
        call: &Call<'_>,
        payload: Payload<'_>,
        again: &mut bool,
    ) -> Result<Result<Response<Body>, ureq::Error>> {
        let own = self.is_own(call.url);
        let response = match self.one(call, own, payload) {
            Ok(response) => response,
            Err(err) => return Ok(Err(err)),
        };
        if response.status().as_u16() != 401 || !own {
            return Ok(Ok(response));
        }
        self.authorize(&response)?;
        if !*again {
            let text = "the registry asked who we are";
            return Ok(Err(ureq::Error::Io(io::Error::other(text))));
        }
        let mut nothing = io::empty();
        let payload = Payload {
            reader: &mut nothing,
            length: 0,
        };
        Ok(self.one(call, own, payload))
    }

    fn one(
        &self,
        call: &Call<'_>,
        own: bool,
        payload: Payload<'_>,
    ) -> Result<Response<Body>, ureq::Error> {
        let mut request = Request::builder().method(&call.method).uri(call.url);
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        if let Some(value) = self.authorization().filter(|_| own) {
            request = request.header("Authorization", value);
        }
        let uri: Uri = call.url.parse().map_err(ureq::http::Error::from)?;
        let proxy = self.http.proxies().of(&uri)?;
        let agent = self.http.agent();
        if !matches!(call.method, Method::PUT | Method::PATCH) {
            let request = agent.configure_request(request.body(())?);
            return agent.run(request.proxy(proxy).build());
        }
        let body = SendBody::from_reader(payload.reader);
        let request = request
            .header("Content-Length", payload.length)
            .body(body)?;
        let patience = self.access.patience;
        let request = agent
            .configure_request(request)
            .proxy(proxy)
            .timeout_per_write(Some(patience))
            .timeout_recv_response(Some(patience * ANSWER_WAIT))
            .timeout_per_read(Some(patience * ANSWER_WAIT))
            .build();
        agent.run(request)
    }

    /// Whether two clients speak to the same registry, so that blobs can be mounted.
    pub fn is_same_registry(&self, other: &Self) -> bool {
        self.base == other.base
    }

    /// Whether credentials may be sent there.
    fn is_own(&self, url: &str) -> bool {
        match (self.base.parse::<Uri>(), url.parse::<Uri>()) {
            (Ok(own), Ok(uri)) => uri.host().is_some() && origin(&own) == origin(&uri),
            _ => false,
        }
    }

    /// The upload as it goes on: `Location` may be relative, and another after each request.
    fn next(&self, asked: &str, response: &Response<Body>, part_min: u64) -> Result<Upload> {
        let header = |name: &str| response.headers().get(name)?.to_str().ok();
        let url = match header("location") {
            Some(location) => self.resolve(asked, location)?,
            None if part_min > 0 || asked.contains("/blobs/uploads/") => asked.to_owned(),
            None => bail!("the registry does not say where to upload"),
        };
        let told = header("oci-chunk-min-length").and_then(|text| text.parse().ok());
        Ok(Upload {
            url,
            part_min: told.unwrap_or(part_min),
        })
    }

    fn resolve(&self, asked: &str, location: &str) -> Result<String> {
        let asked: Uri = asked.parse()?;
        let Some(uri) = resolve(&asked, location) else {
            bail!("the registry wants the image sent to {location:?}, which is no URL");
        };
        let plain = self.base.starts_with("http:") && uri.scheme_str() == Some("http");
        if uri.scheme_str() != Some("https") && !plain {
            bail!("the registry wants the image sent to {location:?}, without encryption");
        }
        Ok(uri.to_string())
    }
}

fn with_query(url: &str, query: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{query}")
}

/// How many bytes the registry has: `Range: 0-<last>`.
fn told_offset(response: &Response<Body>) -> Option<u64> {
    let text = response.headers().get("range")?.to_str().ok()?;
    let text = text.strip_prefix("bytes=").unwrap_or(text);
    let last: u64 = text.strip_prefix("0-")?.parse().ok()?;
    last.checked_add(1)
}

fn check_digest(response: &Response<Body>, digest: &Digest) -> Result<()> {
    let header = response.headers().get("docker-content-digest");
    let told: Option<Digest> = header
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    match told {
        // Another algorithm says nothing about this one.
        Some(told) if told.algorithm() == digest.algorithm() && told != *digest => {
            bail!("wrong digest: the registry has got {told} where {digest} was sent")
        }
        _ => Ok(()),
    }
}

/// Gives exactly the promised number of bytes, and keeps its own errors apart from those of the
/// connection.
struct Source<'a> {
    inner: &'a mut (dyn Read + 'a),
    left: u64,
    failed: Option<anyhow::Error>,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let read = match self.inner.read(&mut buffer[..most]) {
            Ok(0) if most > 0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            other => other,
        };
        match read {
            Ok(count) => {
                self.left -= count as u64;
                Ok(count)
            }
            Err(err) => {
                let told = io::Error::other(err.to_string());
                self.failed = Some(err.into());
                Err(told)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_ends_early_is_an_error() {
        let mut bytes: &[u8] = b"abc";
        let mut source = Source {
            inner: &mut bytes,
            left: 4,
            failed: None,
        };
        let mut all = Vec::new();
        assert!(source.read_to_end(&mut all).is_err());
        assert_eq!(all, b"abc");
        assert!(source.failed.is_some());
    }
}
