//! `doctor`: looks at a cluster from where the user is, and says what is wrong and what to do.
//!
//! [`facts`] asks every member and judges nothing; [`rules`] judges and asks nothing, so each rule is tested
//! without a cluster.

mod certificate;
mod facts;
mod rules;

use super::cli::{Command, Invocation};
use super::exit::{Failure, code};
use super::print::{Display, Out, Printable, Printed, push_text};
use std::io::IsTerminal;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "doctor",
    group: super::commands::MAINTENANCE,
    short: "Finds out what is wrong with a cluster, and what to do",
    long: "Finds out what is wrong with a cluster, and what to do.

It looks at the endpoints and at every member they name: connections, certificates, clocks, leader
and quorum, alarms, space, disk and network latency, versions. Nothing is changed.

It exits with 1 when something needs to be done, and with 0 when nothing does. The formats are simple
and json.",
    beyond: true,
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

/// How urgent a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    /// Something does not work.
    Critical,
    /// Something will not work, or works badly.
    Warning,
    /// Good to know.
    Notice,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Critical => "\x1b[31m",
            Self::Warning => "\x1b[33m",
            Self::Notice => "\x1b[36m",
        }
    }
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    severity: Severity,
    /// A name for scripts.
    code: &'static str,
    /// The endpoint, member or file it is about.
    subject: String,
    /// What is the matter.
    problem: String,
    /// What to do.
    fix: String,
}

/// All findings, the worst first.
struct Report {
    looked_at: Vec<String>,
    findings: Vec<Finding>,
}

impl Report {
    fn is_healthy(&self) -> bool {
        self.findings
            .iter()
            .all(|finding| finding.severity == Severity::Notice)
    }
}

async fn run(mut invocation: Invocation) -> Result<(), Failure> {
    let (spec, display) = invocation.spec().await?;
    let timeout = invocation.duration("command-timeout");
    let facts = facts::gather(&spec, timeout).await?;
    let looked_at = facts
        .endpoints
        .iter()
        .map(|endpoint| endpoint.endpoint.clone())
        .collect();
    let report = Report {
        looked_at,
        findings: rules::diagnose(&facts),
    };
    let healthy = report.is_healthy();
    display.show(&report)?;
    if healthy {
        Ok(())
    } else {
        Err(Failure::silent(code::ERROR))
    }
}

/// Whether colour is wanted and seen.
pub(super) fn in_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::stdout().is_terminal()
}

impl Printable for Report {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        let (bold, end) = if in_colour() {
            ("\x1b[1m", "\x1b[0m")
        } else {
            ("", "")
        };
        for finding in &self.findings {
            let colour = if in_colour() {
                finding.severity.colour()
            } else {
                ""
            };
            let Finding {
                severity,
                subject,
                problem,
                fix,
                code,
            } = finding;
            writeln!(
                out,
                "{colour}{}{end} {bold}{subject}{end}: {problem}",
                severity.name()
            )?;
            writeln!(out, "    fix: {fix} [{code}]")?;
        }
        let verdict = match (self.findings.len(), self.is_healthy()) {
            (0, _) => "nothing to do",
            (_, true) => "nothing urgent",
            _ => "needs attention",
        };
        let looked_at = self.looked_at.join(", ");
        Ok(writeln!(
            out,
            "{} findings, {verdict} (looked at {looked_at})",
            self.findings.len()
        )?)
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        out.push_str("{\"healthy\":");
        out.push_str(if self.is_healthy() { "true" } else { "false" });
        out.push_str(",\"endpoints\":[");
        for (index, endpoint) in self.looked_at.iter().enumerate() {
            out.push_str(if index == 0 { "" } else { "," });
            push_text(out, endpoint);
        }
        out.push_str("],\"findings\":[");
        for (index, finding) in self.findings.iter().enumerate() {
            out.push_str(if index == 0 { "{" } else { ",{" });
            let fields = [
                ("severity", finding.severity.name()),
                ("code", finding.code),
                ("subject", &finding.subject),
                ("problem", &finding.problem),
                ("fix", &finding.fix),
            ];
            for (index, (key, text)) in fields.into_iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                push_text(out, key);
                out.push(':');
                push_text(out, text);
            }
            out.push('}');
        }
        out.push_str("]}");
        Ok(())
    }
}
