//! Prometheus and Alertmanager with the shipped configuration, and the receivers of the notifications.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::scaled::scaled;
use crate::support::alertmanager::Alertmanager;
use crate::support::database::Database;
use crate::support::exporter::Exporter;
use crate::support::prometheus::Prometheus;
use crate::support::webhook::Webhook;

pub const EXECUTIONS: &str = include_str!("../../../../alerts/rsolv-executions.rules.yml");
pub const EXPORTER: &str = include_str!("../../../../alerts/rsolv-exporter.rules.yml");
pub const ALERTMANAGER: &str = include_str!("../../../../alerts/alertmanager.yml");
pub const PROMETHEUS: &str = include_str!("../../../../alerts/prometheus.yml");

/// Where a job begins in the scrape configuration.
const JOB: &str = "  - job_name: rsolv-exporter\n";
const TOKEN: &str = "token-of-the-webhook";

/// The exporter's times on the same scale, but a hold that outlasts a scrape.
const FLAGS: [&str; 4] = ["--poll.interval", "250ms", "--series.birth-hold", "3s"];

/// Everything that watches one exporter, with times a sixtieth of the shipped ones.
pub struct Stack {
    pub prometheus: Prometheus,
    pub alertmanager: Alertmanager,
    inbox: Webhook,
}

impl Stack {
    /// Starts it, and waits for the first scrape of the exporter at `target`.
    pub async fn watching(target: &str) -> Self {
        let inbox = Webhook::start().await;
        let at = |path: &str| format!("http://{}/{path}", inbox.address);
        // Addresses. Mail goes nowhere.
        let mut config = scaled(ALERTMANAGER);
        for (shipped, ours) in [
            ("global:\n", format!("global:\n  pagerduty_url: {}\n", at("pagerduty"))),
            ("http://localhost:8060/alerts", at("webhook")),
            ("smtp.example.com:587", "127.0.0.1:9".into()),
        ] {
            config = replaced(&config, shipped, &ours);
        }
        assert!(config.contains("/etc/alertmanager/secrets/"));
        let config = config.replace("/etc/alertmanager/secrets/", "secrets/");
        let secrets = [
            ("secrets/slack-url", at("slack")),
            ("secrets/smtp-password", "password".into()),
            ("secrets/pagerduty-routing-key", "key-of-pagerduty".into()),
            ("secrets/webhook-token", TOKEN.into()),
        ];
        let secrets = secrets.each_ref().map(|(name, secret)| (*name, secret.as_str()));
        let alertmanager = Alertmanager::start(&config, &secrets).await.expect("a running Alertmanager");
        let prometheus = scraping(target, &alertmanager.address).await;
        Self { prometheus, alertmanager, inbox }
    }

    /// The alert as the webhook got it; `status` is `firing` or `resolved`.
    pub async fn notified(&self, status: &str, name: &str) -> Value {
        let what = format!("{name}, {status}");
        let (alert, authorization) = self
            .inbox
            .wait_for(&what, "/webhook", |message| {
                let mut alerts = message.body["alerts"].as_array()?.iter();
                let alert = alerts.find(|a| a["status"] == status && a["labels"]["alertname"] == name)?;
                Some((alert.clone(), message.authorization.clone()))
            })
            .await;
        assert_eq!(authorization, format!("Bearer {TOKEN}"));
        alert
    }

    /// Waits until the alert `name` fires, and looks at everything that the webhook was told of it. The description may
    /// go on after `description`.
    pub async fn fires(&self, name: &str, class: (&str, &str), summary: &str, description: &str) {
        let alert = self.notified("firing", name).await;
        let (severity, component) = class;
        let mut labels = alert["labels"].clone();
        for label in ["source", "column"] {
            labels.as_object_mut().expect("labels are an object").remove(label);
        }
        let expected = json!({"alertname": name, "severity": severity, "component": component,
                              "environment": "production", "job": "rsolv-exporter"});
        assert_eq!(labels, expected);
        let dashboard = if component == "exporter" { "rsolv-exporter" } else { "rsolv-executions" };
        let mut told = alert["annotations"].clone();
        let text = told["description"].take();
        assert!(text.as_str().is_some_and(|text| text.starts_with(description)), "{text}, not {description}");
        let expected = json!({
            "summary": summary,
            "description": null,
            "runbook_url": runbook(name),
            "dashboard_url": format!("https://grafana.example.com/d/{dashboard}?var-environment=production"),
        });
        assert_eq!(told, expected);
    }

    /// Waits until Slack shows a message with all these `parts`, and says the channel.
    pub async fn slack(&self, title: &str, parts: &[&str]) -> String {
        let what = format!("a message {title:?} with {parts:?}");
        let shown = self.inbox.wait_for(&what, "/slack", |message| {
            let attachment = &message.body["attachments"][0];
            let text = attachment["text"].as_str()?;
            let found = attachment["title"] == title && parts.iter().all(|part| text.contains(part));
            found.then(|| message.body["channel"].as_str().unwrap_or_default().to_owned())
        });
        shown.await
    }

    /// Waits for an event at PagerDuty: `trigger` or `resolve`.
    pub async fn pagerduty(&self, action: &str, summary: &str) -> Value {
        let what = format!("{action} {summary}");
        let event = self.inbox.wait_for(&what, "/pagerduty", |message| {
            let event = &message.body;
            let text = event["payload"]["summary"].as_str().unwrap_or_default();
            (event["event_action"] == action && text.contains(summary)).then(|| event.clone())
        });
        let event = event.await;
        assert_eq!(event["routing_key"], "key-of-pagerduty");
        event
    }

    /// How many messages have come to `path`.
    pub fn count(&self, path: &str) -> usize {
        self.inbox.at(path).len()
    }

    /// Titles of all messages in Slack.
    pub fn titles(&self) -> Vec<String> {
        let title = |body: &Value| body["attachments"][0]["title"].as_str().unwrap_or_default().to_owned();
        self.inbox.at("/slack").iter().map(|message| title(&message.body)).collect()
    }

    /// Names of all alerts that the webhook has been told of.
    pub fn names(&self) -> BTreeSet<String> {
        let messages = self.inbox.at("/webhook");
        let alerts = messages.iter().flat_map(|message| message.body["alerts"].as_array().into_iter().flatten());
        alerts.map(|alert| alert["labels"]["alertname"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// An exporter whose times are on the scale of the rules.
pub async fn exporter(database: &Database<'_>, more: &[&str]) -> Exporter {
    Exporter::start(&database.url(), &[&FLAGS, more].concat()).await
}

/// The same on an address that an earlier one had.
pub async fn exporter_at(address: &str, database: &Database<'_>, more: &[&str]) -> Exporter {
    let own = ["--database.url", &database.url(), "--web.listen-address", address];
    Exporter::launch(&[&own, &FLAGS[..], more].concat(), &[]).await.expect("an exporter that listens")
}

/// Prometheus with the shipped configuration and rules, and other addresses, once it has scraped `target`.
pub async fn scraping(target: &str, alertmanager: &str) -> Prometheus {
    scraping_with(&[], "", target, alertmanager).await
}

/// The same with further flags, and more in the job.
pub async fn scraping_with(flags: &[&str], job: &str, target: &str, alertmanager: &str) -> Prometheus {
    let config = replaced(&scaled(PROMETHEUS), "rsolv-exporter:10060", target);
    let config = replaced(&config, JOB, &format!("{JOB}{job}"));
    let config = replaced(&config, "alertmanager:9093", alertmanager);
    let rules = [("executions.rules.yml", scaled(EXECUTIONS)), ("exporter.rules.yml", scaled(EXPORTER))];
    let rules = rules.each_ref().map(|(name, rules)| (*name, rules.as_str()));
    let prometheus = Prometheus::start_with(flags, &config, &rules).await.expect("a running Prometheus");
    prometheus.wait_up("rsolv-exporter").await;
    prometheus
}

/// The address of an alert's runbook, which is in the repository.
pub fn runbook(name: &str) -> String {
    let page = format!("alerts/runbooks/{name}.md");
    assert!(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(&page).is_file(), "there is no {page}");
    format!("https://github.com/RSOLV-dev/rsolv-exporter/blob/main/{page}")
}

/// `text` with something in it, which is there once, replaced.
fn replaced(text: &str, shipped: &str, ours: &str) -> String {
    assert_eq!(text.matches(shipped).count(), 1, "{shipped} in {text}");
    text.replace(shipped, ours)
}
