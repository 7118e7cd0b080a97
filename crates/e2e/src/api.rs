//! The REST API as a client sees it.

use anyhow::{Context, Result, bail};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use serde_json::Value;
use std::time::Duration;

/// Longer than any `?wait=`.
const LIMIT: Duration = Duration::from_secs(80);

/// A manager and who calls it.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    token: Option<String>,
    http: Client,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Method and path.
    pub request: String,
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
    /// The body as JSON; null if it is none.
    pub json: Value,
}

impl Api {
    /// The API at `base`, as `http://127.0.0.1:8080`.
    pub fn new(base: &str, token: Option<&str>) -> Result<Self> {
        let http = Client::builder().no_proxy().timeout(LIMIT).build().context("cannot make an HTTP client")?;
        Ok(Self { base: base.to_owned(), token: token.map(ToOwned::to_owned), http })
    }

    /// The same API called with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same API called without a token.
    #[must_use]
    pub fn without_token(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// Where it is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request to send by hand.
    pub fn request(&self, method: &str, path: &str) -> Result<reqwest::RequestBuilder> {
        let method = Method::from_bytes(method.as_bytes()).context("a method")?;
        let request = self.http.request(method, format!("{}{path}", self.base));
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    /// Sends a request made by hand.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer> {
        let request = request.build().context("a request")?;
        let told = format!("{} {}", request.method(), request.url().path());
        let answer = self.http.execute(request).await.with_context(|| told.clone())?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let text = answer.text().await.with_context(|| told.clone())?;
        let json = serde_json::from_str(&text).unwrap_or_default();
        Ok(Answer { request: told, status, headers, text, json })
    }

    /// Sends a request with a JSON body.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let request = self.request(method, path)?;
        self.send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.call("GET", path, None).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.call("POST", path, Some(body)).await
    }

    /// PUT.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.call("PUT", path, Some(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.call("DELETE", path, None).await
    }
}

impl Answer {
    /// The answer, if it has this status.
    pub fn expect(self, status: u16) -> Result<Self> {
        if self.status == status {
            return Ok(self);
        }
        bail!("{}: {status} was expected, got {} {}", self.request, self.status, self.text)
    }

    /// Fails unless it has this status, the error shape, and a message with all these parts.
    pub fn expect_error(self, status: u16, parts: &[&str]) -> Result<Self> {
        let answer = self.expect(status)?;
        let message = match answer.json.as_object() {
            Some(fields) if fields.len() == 1 => fields.get("error").and_then(Value::as_str),
            _ => None,
        };
        let Some(message) = message else {
            bail!("{}: not of the shape {{\"error\":...}}: {status} {}", answer.request, answer.text)
        };
        if let Some(missing) = parts.iter().find(|part| !message.contains(**part)) {
            bail!("{}: {missing:?} is missing in the message {message:?}", answer.request);
        }
        Ok(answer)
    }

    /// A text of the body by JSON pointer.
    pub fn text_at(&self, pointer: &str) -> Result<String> {
        let found = self.json.pointer(pointer).and_then(Value::as_str).map(ToOwned::to_owned);
        found.with_context(|| format!("{}: no text at {pointer} of {}", self.request, self.text))
    }

    /// The id in the body.
    pub fn id(&self) -> Result<String> {
        self.text_at("/id")
    }

    /// The phase in the body.
    pub fn phase(&self) -> &str {
        self.json.pointer("/status/phase").and_then(Value::as_str).unwrap_or("no phase")
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
