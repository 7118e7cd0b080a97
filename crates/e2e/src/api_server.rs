//! An API server as its administrator sees it, without kubectl: for what has to be done a thousand times.

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures::{StreamExt, TryStreamExt};
use reqwest::{Certificate, Client, Identity, Method, RequestBuilder};
use serde_json::{Value, json};
use std::time::Duration;

/// Requests at once of [`ApiServer::each`].
const AT_ONCE: usize = 8;
/// Objects of a page.
const PAGE: usize = 500;
/// Where kubeOP's kinds are.
pub const GROUP: &str = "/apis/platform.kubeop.io/v1alpha1";

/// The server of a kubeconfig as kind writes it.
#[derive(Clone, Debug)]
pub struct ApiServer {
    base: String,
    administrator: Client,
    bearer: Client,
}

impl ApiServer {
    /// Of this kubeconfig, which embeds authority and client certificate.
    pub fn new(kubeconfig: &str) -> Result<Self> {
        let value = |key: &str| {
            let line = kubeconfig.lines().find_map(|line| line.trim().strip_prefix(key));
            line.map(str::trim).with_context(|| format!("the kubeconfig has no {key}"))
        };
        let decoded = |key: &str| BASE64_STANDARD.decode(value(key)?).with_context(|| format!("{key} is not base64"));
        let authority = Certificate::from_pem(&decoded("certificate-authority-data:")?).context("the authority")?;
        let mut pair = decoded("client-certificate-data:")?;
        pair.extend(decoded("client-key-data:")?);
        let identity = Identity::from_pem(&pair).context("the client certificate")?;
        let builder = || Client::builder().no_proxy().tls_certs_only([authority.clone()]);
        Ok(Self {
            base: value("server:")?.to_owned(),
            administrator: builder().identity(identity).build().context("cannot make an HTTPS client")?,
            bearer: builder().build().context("cannot make an HTTPS client")?,
        })
    }

    /// Where it is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request as administrator, or as whoever the request's own token says.
    pub(crate) fn request(&self, method: Method, path: &str, with_token: bool) -> RequestBuilder {
        let client = if with_token { &self.bearer } else { &self.administrator };
        client.request(method, format!("{}{path}", self.base))
    }

    async fn send(&self, request: RequestBuilder, what: &str) -> Result<(u16, Value)> {
        let answer =
            request.timeout(Duration::from_mins(1)).send().await.with_context(|| format!("{what}: no answer"))?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.with_context(|| format!("{what}: no whole answer"))?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    async fn expect(&self, request: RequestBuilder, what: &str) -> Result<Value> {
        let (status, body) = self.send(request, what).await?;
        if !(200..300).contains(&status) {
            bail!("{what}: {status} {body}");
        }
        Ok(body)
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.expect(self.request(Method::GET, path, false), &format!("GET {path}")).await
    }

    /// Creates.
    pub async fn post(&self, path: &str, object: &Value) -> Result<Value> {
        self.expect(self.request(Method::POST, path, false).json(object), &format!("POST {path}")).await
    }

    /// Deletes; what is gone already is gone.
    pub async fn delete(&self, path: &str) -> Result<()> {
        let (status, body) = self.send(self.request(Method::DELETE, path, false), &format!("DELETE {path}")).await?;
        if status == 404 || (200..300).contains(&status) { Ok(()) } else { bail!("DELETE {path}: {status} {body}") }
    }

    /// Changes by a merge patch.
    pub async fn merge(&self, path: &str, change: &Value) -> Result<Value> {
        let request = self.request(Method::PATCH, path, false).body(change.to_string());
        let request = request.header("content-type", "application/merge-patch+json");
        self.expect(request, &format!("PATCH {path}")).await
    }

    /// Every object of a list, page by page.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let mut page = self.get(&format!("{path}?limit={PAGE}&continue={token}")).await?;
            if let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) {
                all.extend(items);
            }
            match page.pointer("/metadata/continue").and_then(Value::as_str) {
                Some(next) if !next.is_empty() => next.clone_into(&mut token),
                _ => return Ok(all),
            }
        }
    }

    /// Does the same to each, some at a time.
    pub async fn each<T, F: Future<Output = Result<()>>>(
        &self,
        all: impl IntoIterator<Item = T>,
        act: impl Fn(T) -> F,
    ) -> Result<()> {
        futures::stream::iter(all.into_iter().map(act)).buffer_unordered(AT_ONCE).try_collect::<()>().await
    }

    /// Reports on an object of kubeOP's as the operator does when all is well.
    pub async fn report(&self, object: &Value) -> Result<()> {
        let path = path_of(object)?;
        let generation = object.pointer("/metadata/generation").cloned().unwrap_or(Value::Null);
        let now = "2026-03-01T00:00:00Z";
        let conditions: Vec<Value> = ["Ready", "NamespaceReady"]
            .iter()
            .map(|kind| json!({"type": kind, "status": "True", "reason": "Succeeded", "message": "", "lastTransitionTime": now, "observedGeneration": generation}))
            .collect();
        let status = json!({"status": {"observedGeneration": generation, "conditions": conditions}});
        self.merge(&format!("{path}/status"), &status).await.map(|_| ())
    }
}

/// The plural of one of kubeOP's kinds.
pub fn plural(kind: &str) -> String {
    format!("{}s", kind.to_lowercase())
}

/// Where an object of kubeOP's is.
pub fn path_of(object: &Value) -> Result<String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let kinds = plural(text("/kind").context("the object has no kind")?);
    let name = text("/metadata/name").context("the object has no name")?;
    Ok(match text("/metadata/namespace") {
        Some(namespace) => format!("{GROUP}/namespaces/{namespace}/{kinds}/{name}"),
        None => format!("{GROUP}/{kinds}/{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_says_where_it_is() {
        let app = json!({"kind": "App", "metadata": {"name": "a", "namespace": "n"}});
        assert_eq!(path_of(&app).unwrap(), format!("{GROUP}/namespaces/n/apps/a"));
        let tenant = json!({"kind": "Tenant", "metadata": {"name": "t"}});
        assert_eq!(path_of(&tenant).unwrap(), format!("{GROUP}/tenants/t"));
    }
}
