//! A response of one line of text.

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::body::Body;

/// A response of one line of text.
pub fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
