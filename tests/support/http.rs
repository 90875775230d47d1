//! A small HTTP/1.1 client: one connection per request.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::failure::{Failure, Result};
use super::process::PATIENCE;

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or("(not text)"))
    }
}

/// GETs `path` from `address` (`host:port`).
pub async fn get(address: &str, path: &str) -> Result<Response> {
    request(address, "GET", path, &[]).await
}

/// GETs `path` from a server that may take longer than tests wait.
pub async fn get_within(address: &str, path: &str, patience: Duration) -> Result<Response> {
    within(patience, address, "GET", path, &[]).await
}

/// Sends a request without a body.
pub async fn request(address: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Response> {
    within(PATIENCE, address, method, path, headers).await
}

async fn within(
    patience: Duration,
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Response> {
    match tokio::time::timeout(patience, exchange(address, method, path, headers)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {} seconds", patience.as_secs()).into()),
    }
    .map_err(|error| Failure::new(format!("{method} http://{address}{path}: {error}")))
}

async fn exchange(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> std::result::Result<Response, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let (head, body) = answer.into_parts();
    let body = body.collect().await?.to_bytes();
    connection.abort();
    Ok(Response { status: head.status.as_u16(), headers: head.headers, body })
}
