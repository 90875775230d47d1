//! A server that keeps whatever is posted to it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

use super::process::{PATIENCE, TICK};

/// What was posted in one request.
#[derive(Clone, Debug)]
pub struct Message {
    pub path: String,
    /// The header, empty without one.
    pub authorization: String,
    /// The body; `Null` when it is no JSON.
    pub body: Value,
}

/// A server for the senders of notifications, gone when the test ends.
pub struct Webhook {
    /// Where it listens, `127.0.0.1:port`.
    pub address: String,
    messages: Arc<Mutex<Vec<Message>>>,
}

impl Webhook {
    /// Starts one on a port of its own choosing.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let messages = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&messages);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                let service = service_fn(move |request| receive(request, Arc::clone(&kept)));
                let connection = hyper::server::conn::http1::Builder::new();
                // A sender that hangs up has nothing more to say.
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, messages }
    }

    /// What has arrived at `path` so far, in order.
    pub fn at(&self, path: &str) -> Vec<Message> {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.iter().filter(|message| message.path == path).cloned().collect()
    }

    /// The first thing that `choose` finds in what has arrived at `path`.
    ///
    /// # Panics
    /// When there is none in time; the text says that
    /// `what` was waited for, and what came instead.
    pub async fn wait_for<T>(&self, what: &str, path: &str, choose: impl Fn(&Message) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let messages = self.at(path);
            if let Some(found) = messages.iter().find_map(&choose) {
                return found;
            }
            if Instant::now() >= deadline {
                let bodies: Vec<String> = messages.iter().map(|message| message.body.to_string()).collect();
                panic!("waited {PATIENCE:?} in vain for {what}; at {path} arrived:\n{}", bodies.join("\n"));
            }
            tokio::time::sleep(TICK * 10).await;
        }
    }
}

/// Keeps a request; the answer is one that Slack gives, and the others take for success.
async fn receive(
    request: Request<Incoming>,
    messages: Arc<Mutex<Vec<Message>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let header = request.headers().get("authorization");
    let authorization = header.map_or("", |value| value.to_str().unwrap_or("(not text)")).to_owned();
    let Ok(body) = request.into_body().collect().await else {
        return Ok(answer(StatusCode::BAD_REQUEST));
    };
    let body = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    messages.lock().unwrap_or_else(PoisonError::into_inner).push(Message { path, authorization, body });
    Ok(answer(StatusCode::ACCEPTED))
}

fn answer(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(Bytes::from_static(b"ok")));
    *answer.status_mut() = status;
    answer
}
