//! What is answered to whom.

use std::sync::Arc;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::task::JoinError;

use super::Client;
use super::access::AccessControl;
use super::body::Body;
use super::host;
use super::plain_text::plain;
use super::protection::Protection;
use super::status_page::{self, View};
use crate::exposition::gzip;
use crate::exposition::{Format, accept};
use crate::snapshot::SnapshotStore;
use crate::source::Source;
use crate::telemetry::self_metrics::Metrics;

/// Everything that a response is made of.
#[derive(Debug)]
pub struct AppState {
    /// The newest pages.
    pub published: Arc<SnapshotStore>,
    /// The exporter's own metrics.
    pub metrics: Metrics,
    /// Where the metrics are.
    pub telemetry_path: String,
    /// The definitions.
    pub sources: Vec<Source>,
    /// The role that reads the database.
    pub user: String,
    /// Settings for people: key, value without secrets, origin.
    pub settings: Vec<(String, String, String)>,
    /// True if the status page shows everything to everyone.
    pub show_details: bool,
    /// Who may come in.
    pub access: Arc<AccessControl>,
}

impl AppState {
    /// Answers a request, without the database; locks are held only for moments: while pages are swapped, and to count
    /// requests against a limit.
    pub async fn respond<B>(&self, request: &Request<B>, client: Client, protection: &Protection) -> Response<Body> {
        let mut response = if host::is_named(request) {
            match self.access.admit(request, protection, client.address.ip()).await {
                Ok(is_user) => self.answer(request, is_user || client.is_certified).await,
                Err(refusal) => refusal,
            }
        } else {
            let text = "400: the header Host must be there once, with a name or an address\n".to_owned();
            plain(StatusCode::BAD_REQUEST, text)
        };
        if protection.tls.is_some() {
            response.body_mut().over_tls();
        }
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        AccessControl::decorate(protection, headers);
        response
    }

    async fn answer<B>(&self, request: &Request<B>, is_known: bool) -> Response<Body> {
        let path = request.uri().path();
        let known = path == self.telemetry_path || ["/", "/-/healthy", "/-/ready"].contains(&path);
        if !known {
            let text = match path {
                "/-/reload" => "404: not offered, for nothing here changes over HTTP: the web configuration and its \
                     certificates are read again when they change and on SIGHUP, settings and definitions at a restart, \
                     over which state.file keeps the totals\n"
                    .to_owned(),
                _ => format!("404: there is nothing at this path; see / and {}\n", self.telemetry_path),
            };
            return plain(StatusCode::NOT_FOUND, text);
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "405: only GET and HEAD\n".to_owned());
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/" => self.status(request, is_known),
            "/-/healthy" => plain(StatusCode::OK, "healthy\n".to_owned()),
            "/-/ready" => self.ready(),
            _ => self.metrics(request).await,
        }
    }

    fn ready(&self) -> Response<Body> {
        let newest = self.published.newest();
        if newest.pages.iter().any(|page| page.is_fresh()) {
            return plain(StatusCode::OK, "ready\n".to_owned());
        }
        let reason = if newest.pages.is_empty() {
            "not ready: nothing has been read from the database yet\n"
        } else {
            "not ready: the data is stale; the log and rsolv_exporter_poll_failures_total say why\n"
        };
        plain(StatusCode::SERVICE_UNAVAILABLE, reason.to_owned())
    }

    async fn metrics<B>(&self, request: &Request<B>) -> Response<Body> {
        let format = accept::format(&listed(request, header::ACCEPT));
        let packed = accept::gzip(&listed(request, header::ACCEPT_ENCODING));
        let Ok(body) = self.exposition(format, packed, request.method() == Method::GET).await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "503: stopping\n".to_owned());
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        if packed {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    /// The metrics as they are asked for; series count as seen once one that `is_get` is answered. Fails only when the
    /// process ends.
    async fn exposition(&self, format: Format, packed: bool, is_get: bool) -> Result<Body, JoinError> {
        self.published.mark_asked(format, packed);
        let response = self.published.response(format, &self.metrics, self.sources.len()).await?;
        let body = if packed { Body::from(response.packed().await?) } else { Body::of(response.plain()) };
        if is_get {
            self.published.mark_scraped(&response);
        }
        Ok(body)
    }

    fn status<B>(&self, request: &Request<B>, is_known: bool) -> Response<Body> {
        let view = View {
            published: &self.published,
            sources: &self.sources,
            settings: &self.settings,
            telemetry_path: &self.telemetry_path,
            user: &self.user,
            web_config: self.access.problem(),
            // Whoever is on this machine is nobody in particular: a proxy there makes everyone look like that.
            details: self.show_details || is_known,
        };
        let html = view.render();
        let packed = accept::gzip(&listed(request, header::ACCEPT_ENCODING));
        let mut response =
            Response::new(if packed { Body::of(gzip::member(&[], html.as_bytes())) } else { Body::from(html) });
        let headers = response.headers_mut();
        if packed {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let Ok(policy) = HeaderValue::from_str(&status_page::POLICY) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        for (name, value) in [
            (header::CONTENT_TYPE, "text/html; charset=utf-8"),
            (header::VARY, "Accept-Encoding"),
            (header::CACHE_CONTROL, "no-store"),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_FRAME_OPTIONS, "DENY"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

/// All values of a header that is a list, as one list.
fn listed<B>(request: &Request<B>, name: HeaderName) -> String {
    let values: Vec<&str> = request.headers().get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}
