//! The `--log` file, in runc's forms.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::text::time;

/// Where to write, and how.
pub struct Log {
    file: Option<File>,
    json: bool,
    debug: bool,
}

impl Log {
    pub fn none() -> Log {
        Log {
            file: None,
            json: false,
            debug: false,
        }
    }

    pub fn open(path: Option<&Path>, format: &str, debug: bool) -> anyhow::Result<Log> {
        let open = |path: &Path| {
            let mut options = File::options();
            options.append(true).create(true);
            options
                .open(path)
                .with_context(|| format!("cannot open log file {}", path.display()))
        };
        Ok(Log {
            file: path.map(open).transpose()?,
            json: format == "json",
            debug,
        })
    }

    pub fn is_open(&self) -> bool {
        self.file.is_some()
    }

    pub fn error(&self, message: &str) {
        self.write("error", message);
    }

    pub fn warning(&self, message: &str) {
        self.write("warning", message);
    }

    pub fn debug(&self, message: impl FnOnce() -> String) {
        if self.debug {
            self.write("debug", &message());
        }
    }

    fn write(&self, level: &str, message: &str) {
        let Some(mut file) = self.file.as_ref() else {
            return;
        };
        let time = time::rfc3339_nano(now(), &TimeZone::UTC);
        let line = if self.json {
            json!({"level": level, "msg": message, "time": time}).to_string()
        } else {
            format!("time=\"{time}\" level={level} msg={}", json!(message))
        };
        // One write: lines of several processes do not mix. A log that cannot be written stops nothing.
        file.write_all(format!("{line}\n").as_bytes()).ok();
    }
}

fn now() -> Timestamp {
    // Whole seconds, as logrus has them.
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
