//! `rbox doctor`.

use std::io::Write;

use anyhow::Result;
use clap::Args;

use crate::cli::format;
use crate::engine::doctor;
use crate::engine::doctor::Finding;
use crate::engine::doctor::State;
use crate::text::escape;

/// Check what this machine allows, and show the commands that mend what it does not
#[derive(Args, Debug)]
#[command(
    after_long_help = "The exit status is 0 when `rbox run` works here, and 1 when it does not."
)]
pub struct Doctor {
    /// Print as json or by a Go template
    #[arg(short, long, value_name = "json|TEMPLATE")]
    format: Option<String>,
}

/// Returns the exit status.
pub fn run(args: &Doctor, out: &mut dyn Write) -> Result<u8> {
    let findings = doctor::examine();
    let works = doctor::run_works(&findings);
    let text = match &args.format {
        Some(format) => {
            let rows = findings.iter().map(serde_json::to_value);
            format::rows(&rows.collect::<Result<Vec<_>, _>>()?, format, &[])?
        }
        None => report(&findings, works),
    };
    out.write_all(text.as_bytes())?;
    Ok(u8::from(!works))
}

fn report(findings: &[Finding], works: bool) -> String {
    let widest = findings.iter().map(|finding| finding.name.len()).max();
    let width = widest.unwrap_or(0);
    let mut lines = Vec::new();
    for finding in findings {
        let state = match finding.state {
            State::Ok => "ok  ",
            State::Warn => "warn",
            State::Fail => "FAIL",
        };
        let what = escape::line(&finding.what);
        lines.push(format!("{state}  {:width$}  {what}", finding.name));
        let fix = finding.fix.iter().flat_map(|fix| fix.lines());
        lines.extend(fix.map(|line| format!("        {}", escape::line(line))));
    }
    lines.push(String::new());
    let verdict = if works {
        "`rbox run` works here\n"
    } else {
        "`rbox run` does not work here: see FAIL above\n"
    };
    lines.push(verdict.to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_has_a_line_and_its_fix_below() {
        let findings = [
            Finding {
                name: "kernel",
                state: State::Ok,
                what: "Linux 6".to_owned(),
                fix: None,
            },
            Finding {
                name: "sub-ids",
                state: State::Fail,
                what: "none\x1b".to_owned(),
                fix: Some("one\ntwo".to_owned()),
            },
        ];
        assert_eq!(
            report(&findings, false),
            "ok    kernel   Linux 6\n\
             FAIL  sub-ids  none\\x1b\n        one\n        two\n\
             \n`rbox run` does not work here: see FAIL above\n"
        );
        assert!(!doctor::run_works(&findings));
        assert!(doctor::run_works(&findings[..1]));
    }
}
