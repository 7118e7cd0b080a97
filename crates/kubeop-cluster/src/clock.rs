//! What time it is on a cluster.
//!
//! Invariant: whatever a cluster stamped or enforces (tokens, creation times, managed fields) is judged by this clock, never by this machine's.

use crate::error::Doing;
use http::HeaderMap;
use jiff::Timestamp;
use kube::Client;
use kubeop_core::{Error, Result};

/// The API server's own time, to the second, from the `Date` of an answer (RFC 9110, 6.6.1).
pub async fn server_time(client: &Client) -> Result<Timestamp> {
    let what = "reading the API server's time";
    let request = http::Request::get("/version").body(kube::client::Body::empty()).map_err(Error::internal)?;
    let answer = client.send(request).await.doing(what)?;
    date(answer.headers()).ok_or_else(|| Error::unavailable(format!("{what}: its answer has no readable Date")))
}

/// When an answer was made, as its server says.
pub(crate) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(http::header::DATE)?.to_str().ok()?;
    jiff::fmt::rfc2822::parse(text).ok().map(|zoned| zoned.timestamp())
}
