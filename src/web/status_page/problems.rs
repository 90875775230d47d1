//! What is wrong, since when, what happens next, and what to do: the first thing on the page.

use std::sync::Arc;
use std::time::SystemTime;

use maud::{Markup, html};
use tokio::time::{Duration, Instant};

use super::format::{age, count, left, since};
use super::{DOCS, View};
use crate::postgres::remedy::remedy;
use crate::snapshot::SourceSnapshot;
use crate::snapshot::{PollHistory, Trouble};

/// Something that is wrong.
#[derive(Default)]
pub struct Problem {
    /// True if it makes numbers absent; else they are less than they could be.
    pub is_failure: bool,
    /// The source that it is about.
    source: Option<String>,
    what: &'static str,
    /// Of the failure: its reason, and its words, which not everyone may see.
    why: Option<(&'static str, String)>,
    since: Option<SystemTime>,
    /// When it is tried again.
    next: Option<Instant>,
    /// When data is withdrawn from the metrics, or has been.
    withdrawn: Option<Instant>,
    /// What to do, for those who may see the words.
    remedy: Option<String>,
    /// None where there is no alert.
    runbook: &'static str,
}

/// Everything that is wrong, failures first.
pub fn problems(view: &View, pages: &[Arc<SourceSnapshot>], history: &PollHistory) -> Vec<Problem> {
    let stale_at = |name: &str| pages.iter().find(|page| page.source.name == name).map(|page| page.stale_at);
    let failure = |trouble: &Trouble, source: Option<&str>| Problem {
        is_failure: true,
        source: source.map(str::to_owned),
        what: if source.is_some() { "cannot be read" } else { "The database cannot be read" },
        why: Some((trouble.failure.reason.as_str(), trouble.failure.message.clone())),
        since: Some(trouble.since),
        next: history.next,
        withdrawn: match source {
            Some(name) => stale_at(name),
            None => pages.iter().map(|page| page.stale_at).min(),
        },
        remedy: remedy(view.user, &trouble.failure),
        runbook: "RsolvExporterDatabaseUnreachable",
    };
    let mut problems: Vec<Problem> = history.failure.iter().map(|trouble| failure(trouble, None)).collect();
    problems.extend(history.sources.iter().map(|(name, trouble)| failure(trouble, Some(name))));
    if problems.is_empty() && pages.iter().any(|page| !page.is_fresh()) {
        let withdrawn = pages.iter().map(|page| page.stale_at).min();
        problems.push(Problem {
            is_failure: true,
            what: "A poll takes longer than data may be old",
            withdrawn,
            runbook: "RsolvExporterDataStale",
            ..Problem::default()
        });
    }
    if history.saved.1 {
        problems.push(Problem {
            is_failure: true,
            what: "The state cannot be saved: a restart would count from the last state saved",
            since: history.saved.0,
            remedy: Some(
                "make room on the disk of state.file, or give the exporter's user the right to write there".into(),
            ),
            runbook: "RsolvExporterStateNotSaved",
            ..Problem::default()
        });
    }
    problems.extend(view.web_config.iter().map(|problem| Problem {
        is_failure: true,
        what: "The web configuration has changed and is not in force",
        why: Some(("web.config_file", (**problem).clone())),
        remedy: Some("correct the file, or restart to take it as it is".into()),
        ..Problem::default()
    }));
    for page in pages.iter().filter(|page| page.summary().overflowed > 0) {
        problems.push(Problem {
            source: Some(page.source.name.clone()),
            what: "has more label sets than series.limit: the rows of the others are counted under __overflow__",
            why: Some(("overflow", format!("{} rows", count(page.summary().overflowed)))),
            remedy: Some("raise series.limit, or find the label that has too many values".into()),
            runbook: "RsolvExporterSeriesLimitReached",
            ..Problem::default()
        });
    }
    problems
}

impl Problem {
    /// The problem for people; `details` says whether they may see the words of errors.
    pub fn render(&self, details: bool) -> Markup {
        let class = if self.is_failure { "bad" } else { "warn" };
        html! {
            section.problem.(class) role="alert" {
                p {
                    @if let Some(source) = &self.source { a href={ "#source-" (source) } { (source) } " " }
                    b { (self.what) }
                    @if let Some((reason, words)) = &self.why { " (" (reason) ")" @if details { ": " (words) } }
                    "."
                }
                p.when {
                    @if let Some(begin) = self.since { span { "since " (since(begin)) } }
                    @if let Some(next) = self.next { span { (next_try(next)) } }
                    @if let Some(at) = self.withdrawn {
                        @match at.checked_duration_since(Instant::now()) {
                            Some(more) => span { "its data is withdrawn in " (left(more)) },
                            None => span { "its data was withdrawn " (age(at.elapsed())) " ago" },
                        }
                    }
                    @if !self.runbook.is_empty() {
                        a href={ (DOCS) "/alerts/runbooks/" (self.runbook) ".md" } { "Runbook" }
                    }
                }
                @if let (Some(remedy), true) = (&self.remedy, details) {
                    p.remedy { "→ " (remedy) }
                } @else if self.remedy.is_some() {
                    p.remedy { "→ " code { "rsolv-exporter check" } " says what to do" }
                }
            }
        }
    }
}

fn next_try(next: Instant) -> Markup {
    match next.checked_duration_since(Instant::now()) {
        Some(more) if more > Duration::ZERO => html! { "next try in " (left(more)) },
        _ => html! { "trying now" },
    }
}
