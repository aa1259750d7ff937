//! Credentials that are kept for later: tried with the registry first, written down where the user keeps
//! them, and forgotten again.

use std::path::Path;

use anyhow::Result;

use crate::config::registries::AUTH_FILES;
use crate::config::registries::Registries;
use crate::image::registry::access::Access;
use crate::image::registry::auth::Credentials;
use crate::image::registry::authfile;
use crate::image::registry::authfile::AuthFile;
use crate::image::registry::client::Client;
use crate::image::registry::client::Denied;
use crate::image::registry::helper;
use crate::oci::reference::Reference;

/// A registry, or a part of it, as auth files name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub key: String,
    pub registry: String,
}

impl std::str::FromStr for Server {
    type Err = anyhow::Error;

    /// `HOST[:PORT][/REPOSITORY]`. Docker's form is a URL, whose path says nothing.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || anyhow::anyhow!("{text:?} is no registry: expected HOST[:PORT][/REPOSITORY]");
        let key = match text.split_once("://") {
            Some(("https" | "http", rest)) => rest.split('/').next().unwrap_or(rest),
            Some(_) => return Err(bad()),
            None => text.trim_end_matches('/'),
        };
        let key = match key {
            "index.docker.io" | "registry-1.docker.io" => "docker.io",
            other => other,
        };
        let (registry, path) = key.split_once('/').unwrap_or((key, "x"));
        // What is no name can be no part of a URL either.
        let name = format!("{registry}/{path}:x").parse::<Reference>();
        let fits = name.is_ok_and(|name| name.registry() == registry);
        if !fits && registry != key {
            return Err(bad());
        }
        // A host without dot and port is one where nothing else follows.
        if !fits && format!("{registry}:443/x").parse::<Reference>().is_err() {
            return Err(bad());
        }
        Ok(Self {
            key: key.to_owned(),
            registry: registry.to_owned(),
        })
    }
}

impl Server {
    fn repository(&self) -> &str {
        self.key[self.registry.len()..].trim_start_matches('/')
    }

    /// What is known already.
    pub fn known(&self, access: &Access, registries: &Registries) -> Result<Option<Credentials>> {
        // A file that login is about to make is not there yet.
        let file = access.authfile.clone().filter(|path| path.exists());
        let access = Access {
            authfile: file.clone(),
            ..access.clone()
        };
        authfile::find(&self.registry, self.repository(), &access, registries)
    }

    /// What is to be kept of credentials, once the registry lets them in: the token that its token server gives
    /// for a password, as with Docker, or they themselves. `None` where it does not.
    pub fn proven(
        &self,
        credentials: Credentials,
        access: &Access,
        registries: &Registries,
    ) -> Result<Option<Credentials>> {
        let sources = registries.sources(&format!("{}/x", self.key))?;
        let insecure = sources.last().is_some_and(|source| source.insecure);
        let shown = Some(credentials.clone());
        let client = Client::open(&self.registry, "", insecure, access, shown)?;
        match client.log_in() {
            Ok(None) => Ok(Some(credentials)),
            Ok(Some(token)) => Ok(Some(Credentials::IdentityToken {
                user: credentials.user().to_owned(),
                token,
            })),
            Err(err) if err.is::<Denied>() => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Keeps credentials. Returns where.
    pub fn keep(
        &self,
        credentials: &Credentials,
        access: &Access,
        registries: &Registries,
    ) -> Result<String> {
        let helper = authfile::helpers(registries)[0];
        if helper != AUTH_FILES && access.authfile.is_none() {
            helper::store(helper, &self.registry, credentials)?;
            return Ok(format!("credential helper {helper}"));
        }
        let path = authfile::places(access).remove(0);
        authfile::change(&path, |file| file.set(&self.key, credentials))
    }

    /// Keeps them in a file as Docker writes it.
    pub fn keep_for_docker(&self, credentials: &Credentials, path: &Path) -> Result<String> {
        let key = match self.repository() {
            "" => authfile::docker_key(&self.registry),
            _ => &self.key,
        };
        authfile::change(path, |file| file.set(key, credentials))
    }

    /// Forgets it; whether there was one.
    pub fn forget(&self, access: &Access, registries: &Registries) -> Result<bool> {
        let mut forgotten = false;
        for helper in authfile::helpers(registries) {
            if helper == AUTH_FILES {
                let path = authfile::places(access).remove(0);
                forgotten |= self.forget_in(&path)?;
            } else if access.authfile.is_none() {
                forgotten |= helper::erase(helper, &self.registry)?;
            }
        }
        Ok(forgotten)
    }

    /// The same in one file.
    pub fn forget_in(&self, path: &Path) -> Result<bool> {
        if !path.exists() {
            return Ok(false);
        }
        authfile::change(path, |file| file.remove(&self.key))
    }
}

/// Forgets the credentials of all registries, of one file where one is given.
pub fn forget_all(access: &Access, registries: &Registries) -> Result<()> {
    for helper in authfile::helpers(registries) {
        if helper == AUTH_FILES {
            let path = authfile::places(access).remove(0);
            if path.exists() {
                authfile::change(&path, AuthFile::remove_all)?;
            }
        } else if access.authfile.is_none() {
            for server in helper::list(helper)? {
                helper::erase(helper, &server)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_named_in_several_ways() {
        for (text, key, registry) in [
            ("a.org", "a.org", "a.org"),
            ("localhost", "localhost", "localhost"),
            ("127.0.0.1:5000", "127.0.0.1:5000", "127.0.0.1:5000"),
            ("a.org/team/app", "a.org/team/app", "a.org"),
            ("https://index.docker.io/v1/", "docker.io", "docker.io"),
            ("https://a.org:5000/v2", "a.org:5000", "a.org:5000"),
        ] {
            let server: Server = text.parse().unwrap();
            assert_eq!((&*server.key, &*server.registry), (key, registry), "{text}");
        }
        for text in ["", "ftp://a.org", "a.org/x:1", "a.org/X", "a b", "a.org:x"] {
            assert!(text.parse::<Server>().is_err(), "{text}");
        }
    }
}
