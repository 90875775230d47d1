//! What is answered to whom.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::exposition::{Encoder, Format, accept, own};
use crate::metrics::Metrics;
use crate::published::Published;

/// Everything that a response is made of.
#[derive(Debug)]
pub struct Site {
    /// The newest pages.
    pub published: Arc<Published>,
    /// The exporter's own metrics.
    pub metrics: Metrics,
    /// Where the metrics are.
    pub telemetry_path: String,
    /// How many sources there are.
    pub sources: usize,
}

impl Site {
    /// Answers a request; nothing in here waits.
    pub fn respond<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        let known = path == self.telemetry_path || ["/", "/-/healthy", "/-/ready"].contains(&path);
        if !known {
            return plain(
                StatusCode::NOT_FOUND,
                format!("404: there is nothing at this path; see / and {}\n", self.telemetry_path),
            );
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "405: only GET and HEAD\n".to_owned());
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match path {
            "/" => self.index(),
            "/-/healthy" => plain(StatusCode::OK, "healthy\n".to_owned()),
            "/-/ready" => self.ready(),
            _ => self.metrics(request),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        if !self.published.fresh().is_empty() {
            return plain(StatusCode::OK, "ready\n".to_owned());
        }
        let reason = if self.published.is_empty() {
            "not ready: nothing has been read from the database yet\n"
        } else {
            "not ready: the data is stale; the log and rsolv_exporter_poll_failures_total say why\n"
        };
        plain(StatusCode::SERVICE_UNAVAILABLE, reason.to_owned())
    }

    fn metrics<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let header = |name| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let format = accept::format(header(header::ACCEPT));
        let pages = self.published.fresh();
        let own = self.own(format, pages.len() == self.sources);
        let length = pages.iter().map(|page| page.body(format).len()).sum::<usize>() + own.len() + format.end().len();
        let mut body = BytesMut::with_capacity(length);
        pages.iter().for_each(|page| body.put_slice(page.body(format)));
        body.put_slice(own.as_bytes());
        body.put_slice(format.end().as_bytes());
        if request.method() == Method::GET {
            pages.iter().for_each(|page| self.published.served(page));
        }
        let mut response = Response::new(Full::new(body.freeze()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
        response
    }

    /// The exporter's own metrics as of now; with data withdrawn it is not up.
    fn own(&self, format: Format, complete: bool) -> String {
        if !complete {
            self.metrics.up.set(0);
        }
        let mut encoder = Encoder::new(format, false);
        own::encode(&mut encoder, &self.metrics.gather());
        encoder.finish()
    }

    fn index(&self) -> Response<Full<Bytes>> {
        let metrics = &self.telemetry_path;
        let body = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>rsolv-exporter</title></head>\n<body>\n\
             <h1>rsolv-exporter {}</h1>\n<ul>\n<li><a href=\"{metrics}\">Metrics</a></li>\n\
             <li><a href=\"/-/healthy\">Healthy</a></li>\n<li><a href=\"/-/ready\">Ready</a></li>\n</ul>\n</body>\n</html>\n",
            env!("CARGO_PKG_VERSION")
        );
        let mut response = plain(StatusCode::OK, body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        response
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
