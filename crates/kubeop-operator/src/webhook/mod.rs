//! Keeping admission's certificate and webhook configuration.
//!
//! Invariant: every API server trusts a CA before a leaf of it is served; `Ignore` turns to `Fail` only after our webhook answered a canary through
//! the API server, and never back. Certificates of somebody else are left alone.

mod certificate;

use crate::Certificates;
use crate::secret::text;
use certificate::decide;
use futures::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{ValidatingWebhook, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use kubeop_cluster::error::Doing;
use kubeop_cluster::status::{Canary, canary};
use kubeop_core::clock::{Clock, IdSource};
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use kubeop_plan::install::names;
use secrecy::ExposeSecret;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between looks: once everything stands, while something is waited for, and after a write of our own.
const STANDING: Duration = Duration::from_secs(30);
const MOVING: Duration = Duration::from_secs(1);
const MOVED: Duration = Duration::from_millis(100);

/// How long a bundle stands in the configuration until every API server goes by it.
const SETTLED: Duration = Duration::from_secs(10);

const FAIL: &str = "Fail";

/// Looks after it for ever: at every change of the configuration, and from time to time.
pub(crate) async fn keep(client: Client, certificates: Certificates, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) {
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let ours = watcher::Config::default().fields(&format!("metadata.name={}", names::WEBHOOK));
    let mut changes = watcher(configurations, ours).default_backoff().touched_objects().boxed();
    let mut keeper = Keeper { client, certificates, clock, ids, standing: Standing::default() };
    loop {
        let pause = match keeper.step().await {
            Ok(Stands::Yes) => STANDING,
            Ok(Stands::Moved) => MOVED,
            Ok(Stands::NotYet) => MOVING,
            Err(error) => {
                tracing::warn!(error = %error.chain(), "admission's webhook is not kept");
                MOVING * 5
            }
        };
        let pause = tokio::time::sleep(pause);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                Some(change) = changes.next() => if change.is_ok() { break },
            }
        }
    }
}

/// Whether there is nothing to do for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Yes,
    Moved,
    NotYet,
}

struct Keeper {
    client: Client,
    certificates: Certificates,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
    standing: Standing,
}

/// The bundle in the configuration, and since when it was seen there.
#[derive(Default)]
struct Standing(Option<(Vec<u8>, Instant)>);

impl Standing {
    /// The bundle, once it has stood there long enough.
    fn settled(&mut self, bundle: Option<&[u8]>) -> Option<Vec<u8>> {
        if self.0.as_ref().map(|(seen, _)| seen.as_slice()) != bundle {
            self.0 = bundle.map(|bundle| (bundle.to_vec(), Instant::now()));
        }
        self.0.as_ref().filter(|(_, since)| since.elapsed() >= SETTLED).map(|(seen, _)| seen.clone())
    }
}

impl Keeper {
    async fn step(&mut self) -> Result<Stands> {
        let configurations: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let Some(configuration) =
            configurations.get_opt(names::WEBHOOK).await.doing("reading the webhook configuration")?
        else {
            // The watch tells when it is installed.
            return Ok(Stands::Yes);
        };
        if self.certificates == Certificates::External {
            return self.close(&configurations, &configuration).await;
        }
        let webhooks = configuration.webhooks.as_deref().unwrap_or_default();
        let wanted = server_names(webhooks)?;
        let trusted = self.standing.settled(bundles(webhooks));
        let kept = self.certificate(&wanted, trusted.as_deref()).await?;
        if self.trust(&configurations, &configuration, &kept.bundle).await? || kept.changed {
            return Ok(Stands::Moved);
        }
        let stands = self.close(&configurations, &configuration).await?;
        // A leaf of a new CA may wait for this.
        Ok(if trusted.is_none() && !webhooks.is_empty() { Stands::NotYet } else { stands })
    }

    /// The certificate in its Secret, made or renewed where need be. A new CA is published first; its first leaf comes in a later step.
    async fn certificate(&self, names: &[String], trusted: Option<&[u8]>) -> Result<Kept> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let live = secrets.get_opt(names::TLS_SECRET).await.doing("reading admission's certificate")?;
        let now = self.clock.now();
        let next = decide(live.as_ref(), names, trusted, now)?;
        let Some(next) = next else {
            let bundle = live.as_ref().and_then(|secret| text(secret, "ca.crt")).unwrap_or_default();
            return Ok(Kept { bundle, changed: false });
        };
        let data = BTreeMap::from([
            ("tls.crt".to_owned(), ByteString(next.leaf.certificate.clone().into_bytes())),
            ("tls.key".to_owned(), ByteString(next.leaf.key.expose_secret().as_bytes().to_vec())),
            ("ca.crt".to_owned(), ByteString(next.bundle.clone().into_bytes())),
            ("ca.key".to_owned(), ByteString(next.ca_key.expose_secret().as_bytes().to_vec())),
        ]);
        let what = "writing admission's certificate";
        if let Some(live) = live {
            let secret = Secret { data: Some(data), ..live };
            secrets.replace(names::TLS_SECRET, &PostParams::default(), &secret).await.doing(what)?;
        } else {
            let marks = [(labels::MANAGED_BY, labels::OPERATOR), (labels::PART_OF, labels::PART_OF_KUBEOP)];
            let metadata = ObjectMeta {
                name: Some(names::TLS_SECRET.to_owned()),
                labels: Some(marks.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                ..ObjectMeta::default()
            };
            let type_ = Some("kubernetes.io/tls".to_owned());
            let secret = Secret { metadata, type_, data: Some(data), ..Secret::default() };
            secrets.create(&PostParams::default(), &secret).await.doing(what)?;
        }
        tracing::info!(?names, "admission's certificate written");
        Ok(Kept { bundle: next.bundle, changed: true })
    }

    /// Makes the API server trust the bundle; whether that was a change. The canary's webhook fails closed at once: it meets only canaries, and
    /// an API server that cannot call it then says why.
    async fn trust(
        &self,
        api: &Api<ValidatingWebhookConfiguration>,
        configuration: &ValidatingWebhookConfiguration,
        bundle: &str,
    ) -> Result<bool> {
        let webhooks = configuration.webhooks.as_deref().unwrap_or_default();
        let done = webhooks.iter().all(|webhook| {
            let trusts = webhook.client_config.ca_bundle.as_ref().is_some_and(|ca| ca.0 == bundle.as_bytes());
            trusts && (webhook.name != names::WEBHOOK_CANARY || fails_closed(webhook))
        });
        if done {
            return Ok(false);
        }
        self.write(api, configuration, |webhook| {
            let closed = webhook.name == names::WEBHOOK_CANARY || fails_closed(webhook);
            (Some(ByteString(bundle.as_bytes().to_vec())), closed)
        })
        .await?;
        Ok(true)
    }

    /// Turns `Ignore` to `Fail` once the canary was answered.
    async fn close(
        &self,
        api: &Api<ValidatingWebhookConfiguration>,
        configuration: &ValidatingWebhookConfiguration,
    ) -> Result<Stands> {
        let webhooks = configuration.webhooks.as_deref().unwrap_or_default();
        if webhooks.iter().all(fails_closed) {
            return Ok(Stands::Yes);
        }
        match canary(&self.client, self.ids.next()).await? {
            Canary::Ours => {}
            Canary::Unanswered => return Ok(Stands::NotYet),
            Canary::Failing(why) => {
                tracing::debug!(%why, "admission does not answer yet");
                return Ok(Stands::NotYet);
            }
        }
        self.write(api, configuration, |webhook| (webhook.client_config.ca_bundle.clone(), true)).await?;
        tracing::info!("admission answers: its webhook fails closed from now on");
        Ok(Stands::Yes)
    }

    /// Sets CA bundle and whether it fails closed of each webhook in the configuration that was read.
    async fn write(
        &self,
        api: &Api<ValidatingWebhookConfiguration>,
        configuration: &ValidatingWebhookConfiguration,
        decide: impl Fn(&ValidatingWebhook) -> (Option<ByteString>, bool),
    ) -> Result<()> {
        let change = |webhook: &ValidatingWebhook| {
            let (bundle, closed) = decide(webhook);
            let policy = if closed { FAIL } else { "Ignore" };
            json!({ "name": webhook.name, "clientConfig": { "caBundle": bundle }, "failurePolicy": policy })
        };
        let webhooks: Vec<serde_json::Value> = configuration.webhooks.iter().flatten().map(change).collect();
        let patch = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": names::WEBHOOK, "uid": configuration.uid(), "resourceVersion": configuration.resource_version() },
            "webhooks": webhooks,
        });
        let params = PatchParams::apply(labels::OPERATOR).force();
        api.patch(names::WEBHOOK, &params, &Patch::Apply(&patch))
            .await
            .doing("writing the webhook configuration")
            .map(drop)
    }
}

/// The Secret's bundle after a look.
struct Kept {
    bundle: String,
    changed: bool,
}

/// The names that the API server will look for in the certificate.
fn server_names(webhooks: &[ValidatingWebhook]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for webhook in webhooks {
        let config = &webhook.client_config;
        match (&config.url, &config.service) {
            (Some(url), _) => {
                let uri: http::Uri = url
                    .parse()
                    .map_err(|_| Error::invalid(format!("webhook {}: its URL cannot be read", webhook.name)))?;
                let host = uri.host().unwrap_or_default();
                names.push(host.trim_start_matches('[').trim_end_matches(']').to_owned());
            }
            (None, Some(service)) => {
                let short = format!("{}.{}.svc", service.name, service.namespace);
                names.push(format!("{short}.cluster.local"));
                names.push(short);
            }
            (None, None) => {}
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// The bundle that every webhook has, if they agree.
fn bundles(webhooks: &[ValidatingWebhook]) -> Option<&[u8]> {
    let mut all = webhooks.iter().map(|webhook| webhook.client_config.ca_bundle.as_ref().map(|ca| ca.0.as_slice()));
    let first = all.next()??;
    all.all(|other| other == Some(first)).then_some(first)
}

fn fails_closed(webhook: &ValidatingWebhook) -> bool {
    webhook.failure_policy.as_deref() == Some(FAIL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubeop_plan::install::WebhookTarget;

    #[tokio::test(start_paused = true)]
    async fn a_bundle_is_trusted_after_it_stood_for_a_while() {
        let (mut standing, mut told) = (Standing::default(), Vec::new());
        for (wait, bundle) in
            [(0, Some("a")), (9, Some("a")), (1, Some("a")), (0, Some("b")), (9, Some("b")), (5, None), (5, Some("b"))]
        {
            tokio::time::advance(Duration::from_secs(wait)).await;
            told.push(standing.settled(bundle.map(str::as_bytes)).is_some());
        }
        assert_eq!(told, [false, false, true, false, false, false, false]);
    }

    #[test]
    fn names_come_from_urls_and_services() {
        let config = |target| kubeop_plan::install::webhook::build(&target).webhooks.unwrap();
        let names = |target| server_names(&config(target)).unwrap();
        assert_eq!(names(WebhookTarget::Url("https://127.0.0.1:9443".into())), ["127.0.0.1"]);
        assert_eq!(names(WebhookTarget::Url("https://[::1]:9443".into())), ["::1"]);
        let service = WebhookTarget::Service { name: "kubeop-admission".into(), port: 443 };
        assert_eq!(
            names(service),
            ["kubeop-admission.kubeop-system.svc", "kubeop-admission.kubeop-system.svc.cluster.local"]
        );
    }
}
