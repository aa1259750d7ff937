//! Debian's docker-registry on a port of the loopback.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;

/// Ends with this value.
pub struct Registry {
    pub host: String,
    log: PathBuf,
    child: Child,
}

impl Registry {
    pub fn start(base: &Path) -> Result<Self> {
        let config = format!(
            "version: 0.1\nlog:\n  level: info\n  formatter: text\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:0\n",
            base.join("registry").display()
        );
        let file = base.join("registry.yml");
        fs::write(&file, config)?;
        let log = base.join("registry.log");
        let out = File::create(&log)?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .context("Debian's docker-registry is needed")?;
        let mut registry = Registry {
            host: String::new(),
            log,
            child,
        };
        for _ in 0..100 {
            thread::sleep(Duration::from_millis(100));
            let text = fs::read_to_string(&registry.log)?;
            if let Some((_, rest)) = text.split_once("listening on ") {
                let end = rest.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit());
                rest[..end.unwrap_or(rest.len())].clone_into(&mut registry.host);
                return Ok(registry);
            }
        }
        bail!("docker-registry does not say where it listens");
    }

    /// Requests for blobs that it has answered.
    pub fn blobs_fetched(&self) -> Result<usize> {
        let text = fs::read_to_string(&self.log)?;
        Ok(text
            .lines()
            .filter(|line| line.contains("\"GET /v2/") && line.contains("/blobs/"))
            .count())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
