//! The unit that runs `rbox boot run`.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;

use crate::engine::services;
use crate::error::Kind;
use crate::error::WithHint;
use crate::error::fail;
use crate::store::dirs::Dirs;
use crate::text::unit;

const NAME: &str = "rbox-boot.service";

/// Where units of one systemd are, and what starts those that are enabled.
pub struct Place {
    dir: PathBuf,
    target: &'static str,
}

impl Place {
    pub fn of_caller() -> anyhow::Result<Place> {
        if rustix::process::geteuid().is_root() {
            return Ok(Place {
                dir: "/etc/systemd/system".into(),
                target: "multi-user.target",
            });
        }
        let absolute = |name| {
            let path = std::env::var_os(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let home = absolute("HOME").map(|home| home.join(".config"));
        let Some(config) = absolute("XDG_CONFIG_HOME").or(home) else {
            let text =
                "cannot find the directory of your units: neither XDG_CONFIG_HOME nor HOME is set";
            return Err(fail(Kind::Unsupported, text).hint("set HOME to your home directory"));
        };
        Ok(Place {
            dir: config.join("systemd/user"),
            target: "default.target",
        })
    }

    pub fn unit(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// By it the target starts the unit (systemd.unit(5)).
    fn link(&self) -> PathBuf {
        self.dir.join(format!("{}.wants", self.target)).join(NAME)
    }

    pub fn is_enabled(&self) -> bool {
        self.unit().is_file() && self.link().exists()
    }

    pub fn write(&self, dirs: &Dirs) -> anyhow::Result<()> {
        let (unit, link) = (self.unit(), self.link());
        let text = self.text(dirs)?;
        let cannot = |path: &Path| format!("cannot write {}", path.display());
        let wants = link.parent().unwrap_or(&self.dir);
        std::fs::create_dir_all(wants).with_context(|| cannot(wants))?;
        let new = self.dir.join(format!(".{NAME}.{}", std::process::id()));
        let write = || {
            std::fs::write(&new, text)?;
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o644))?;
            std::fs::File::open(&new)?.sync_all()?;
            std::fs::rename(&new, &unit)
        };
        if let Err(err) = write() {
            std::fs::remove_file(&new).ok();
            return Err(err).with_context(|| cannot(&unit));
        }
        match std::os::unix::fs::symlink(&unit, &link) {
            Err(err) if err.kind() == ErrorKind::AlreadyExists => Ok(()),
            result => result.with_context(|| cannot(&link)),
        }
    }

    /// Whether there was something.
    pub fn remove(&self) -> anyhow::Result<bool> {
        let mut found = false;
        for path in [self.link(), self.unit()] {
            match std::fs::remove_file(&path) {
                Ok(()) => found = true,
                Err(err) if err.kind() == ErrorKind::NotFound => {}
                Err(err) => {
                    return Err(err).with_context(|| format!("cannot remove {}", path.display()));
                }
            }
        }
        Ok(found)
    }

    fn text(&self, dirs: &Dirs) -> anyhow::Result<String> {
        let program = std::env::current_exe().context("cannot tell where rbox is")?;
        let mut text = format!(
            "# made by `rbox boot enable`\n\n[Unit]\nDescription=rbox containers with a restart policy\nRequiresMountsFor={}\n\n[Service]\n",
            unit::path(&dirs.data)
        );
        for variable in services::environment() {
            let _ = writeln!(text, "Environment={}", unit::value(&variable));
        }
        // What runs goes on when the unit is stopped or made again; it belongs to scopes of its own.
        let _ = write!(
            text,
            "Type=oneshot\nRemainAfterExit=yes\nKillMode=process\nTimeoutStartSec=infinity\nExecStart={} boot run\n\n[Install]\nWantedBy={}\n",
            unit::argument(&program.display().to_string()),
            self.target
        );
        Ok(text)
    }
}
