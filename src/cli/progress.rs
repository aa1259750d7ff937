//! The progress of a pull or load: a bar a layer on a terminal; elsewhere a pull or push prints a line for each, and
//! a load nothing.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::PoisonError;

use indicatif::MultiProgress;
use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;

use crate::cli::output;
use crate::image::progress::Progress;
use crate::oci::digest::Digest;
use crate::text::size;

pub struct Bars {
    all: MultiProgress,
    layers: Mutex<HashMap<Digest, ProgressBar>>,
    /// What is done is told in lines.
    lines: bool,
}

impl Bars {
    pub fn new(quiet: bool) -> Bars {
        let target = if quiet || !std::io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(10)
        };
        Bars {
            all: MultiProgress::with_draw_target(target),
            layers: Mutex::new(HashMap::new()),
            lines: false,
        }
    }

    /// Of a pull, whose name comes first.
    pub fn of_pull(quiet: bool, name: &str) -> Bars {
        Bars::after(quiet, &format!("Trying to pull {name}..."))
    }

    /// Of a push, likewise.
    pub fn of_push(quiet: bool, name: &str) -> Bars {
        Bars::after(quiet, &format!("Pushing to {name}..."))
    }

    fn after(quiet: bool, line: &str) -> Bars {
        if !quiet {
            output::print_progress(line);
        }
        Bars {
            lines: !quiet && !std::io::stderr().is_terminal(),
            ..Bars::new(quiet)
        }
    }

    /// Takes the bars away, before something else is printed.
    pub fn clear(&self) {
        // A terminal that is gone has nothing to be cleared.
        self.all.clear().ok();
    }

    fn with(&self, layer: &Digest, act: impl FnOnce(&ProgressBar)) {
        let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = layers.get(layer) {
            act(bar);
        }
    }

    fn add(&self, layer: &Digest, bar: ProgressBar) {
        let bar = self.all.add(bar);
        bar.set_prefix(layer.short().to_owned());
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.insert(layer.clone(), bar);
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants of this file; the default serves where one were wrong.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress for Bars {
    fn started(&self, layer: &Digest, size: Option<u64>) {
        let (bar, template) = match size {
            Some(size) => (
                ProgressBar::new(size),
                "{prefix} [{bar:30}] {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec}",
            ),
            None => (
                ProgressBar::no_length(),
                "{prefix} {decimal_bytes} {decimal_bytes_per_sec}",
            ),
        };
        bar.set_style(style(template));
        self.add(layer, bar);
    }

    fn advanced(&self, layer: &Digest, bytes: u64) {
        self.with(layer, |bar| bar.inc(bytes));
    }

    fn finished(&self, layer: &Digest) {
        self.with(layer, |bar| {
            if self.lines {
                let bytes = size::human(bar.position());
                output::print_progress(&format!("layer {}: {bytes} done", layer.short()));
            }
            bar.set_style(style("{prefix} {decimal_bytes} done"));
            bar.finish();
        });
    }

    fn present(&self, layer: &Digest) {
        if self.lines {
            output::print_progress(&format!("layer {}: present", layer.short()));
        }
        let bar = ProgressBar::no_length();
        bar.set_style(style("{prefix} present"));
        self.add(layer, bar);
        self.with(layer, ProgressBar::finish);
    }
}
