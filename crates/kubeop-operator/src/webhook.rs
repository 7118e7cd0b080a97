//! Keeping admission's certificate and webhook configuration (`shared/design.md` §6).
//!
//! Invariant: the API server trusts a CA before a leaf of it is served; `Ignore` turns to `Fail` only after our webhook answered a canary through
//! the API server, and never back.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{ValidatingWebhook, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use kubeop_cluster::certificate::{Facts, Pair, make_ca, make_leaf};
use kubeop_cluster::error::Doing;
use kubeop_cluster::status::{Canary, canary};
use kubeop_core::clock::{Clock, IdSource};
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use kubeop_plan::install::names;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Between looks once everything stands, and before.
const STANDING: Duration = Duration::from_secs(30);
const MOVING: Duration = Duration::from_secs(1);

/// Looks after it for ever.
pub(crate) async fn keep(client: Client, clock: Arc<dyn Clock>, ids: Arc<dyn IdSource>) {
    let keeper = Keeper { client, clock, ids };
    loop {
        let pause = match keeper.step().await {
            Ok(Stands::Yes) => STANDING,
            Ok(Stands::NotYet) => MOVING,
            Err(error) => {
                tracing::warn!(error = %error.chain(), "admission's webhook is not kept");
                MOVING * 5
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Whether there is nothing to do for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Yes,
    NotYet,
}

struct Keeper {
    client: Client,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn IdSource>,
}

impl Keeper {
    async fn step(&self) -> Result<Stands> {
        let configurations: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let Some(configuration) = configurations.get_opt(names::WEBHOOK).await.doing("reading the webhook configuration")? else {
            // It may be installed at any time; looking costs one small read.
            return Ok(Stands::NotYet);
        };
        let webhooks = configuration.webhooks.as_deref().unwrap_or_default();
        let wanted = server_names(webhooks)?;
        let kept = self.certificate(&wanted, bundles(webhooks)).await?;
        if self.trust(&configurations, &configuration, &kept.bundle).await? {
            return Ok(Stands::NotYet);
        }
        if kept.changed {
            return Ok(Stands::NotYet);
        }
        self.close(&configurations, &configuration).await
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
        match live {
            Some(live) => {
                let secret = Secret { data: Some(data), ..live };
                secrets.replace(names::TLS_SECRET, &PostParams::default(), &secret).await.doing(what)?;
            }
            None => {
                let marks = [(labels::MANAGED_BY, labels::OPERATOR), (labels::PART_OF, labels::PART_OF_KUBEOP)];
                let metadata = ObjectMeta {
                    name: Some(names::TLS_SECRET.to_owned()),
                    labels: Some(marks.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                    ..ObjectMeta::default()
                };
                let secret = Secret { metadata, type_: Some("kubernetes.io/tls".to_owned()), data: Some(data), ..Secret::default() };
                secrets.create(&PostParams::default(), &secret).await.doing(what)?;
            }
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
            let mut change = json!({ "clientConfig": { "caBundle": ByteString(bundle.as_bytes().to_vec()) } });
            if webhook.name == names::WEBHOOK_CANARY {
                change["failurePolicy"] = json!("Fail");
            } else if let Some(policy) = &webhook.failure_policy {
                change["failurePolicy"] = json!(policy);
            }
            change
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
        self.write(api, configuration, |webhook| {
            json!({ "clientConfig": { "caBundle": webhook.client_config.ca_bundle }, "failurePolicy": "Fail" })
        })
        .await?;
        tracing::info!("admission answers: its webhook fails closed from now on");
        Ok(Stands::Yes)
    }

    /// Applies a change of each webhook to the configuration that was read.
    async fn write(
        &self,
        api: &Api<ValidatingWebhookConfiguration>,
        configuration: &ValidatingWebhookConfiguration,
        change: impl Fn(&ValidatingWebhook) -> serde_json::Value,
    ) -> Result<()> {
        let webhooks: Vec<serde_json::Value> = configuration
            .webhooks
            .iter()
            .flatten()
            .map(|webhook| {
                let mut change = change(webhook);
                change["name"] = json!(webhook.name);
                change
            })
            .collect();
        let patch = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": names::WEBHOOK, "uid": configuration.uid(), "resourceVersion": configuration.resource_version() },
            "webhooks": webhooks,
        });
        let params = PatchParams::apply(labels::OPERATOR).force();
        api.patch(names::WEBHOOK, &params, &Patch::Apply(&patch)).await.doing("writing the webhook configuration").map(drop)
    }
}

/// The Secret's bundle after a look.
struct Kept {
    bundle: String,
    changed: bool,
}

/// What the Secret is to hold next.
struct Next {
    leaf: Pair,
    /// The CA that signs first, then the one before it while it still holds.
    bundle: String,
    ca_key: SecretString,
}

/// Decides the Secret's next content from its present one; `None` if it serves.
fn decide(secret: Option<&Secret>, names: &[String], trusted: Option<&[u8]>, now: Timestamp) -> Result<Option<Next>> {
    let read = |key: &str| secret.and_then(|secret| text(secret, key));
    let (bundle, ca_key, leaf, leaf_key) = (read("ca.crt"), read("ca.key"), read("tls.crt"), read("tls.key"));
    let present = match (bundle, ca_key, leaf, leaf_key) {
        (Some(bundle), Some(ca_key), Some(leaf), Some(leaf_key)) => Some((bundle, ca_key, leaf, leaf_key)),
        _ => None,
    };
    let Some((bundle, ca_key, leaf, leaf_key)) = present else { return first(names, now).map(Some) };
    let (Ok(ca_facts), Ok(leaf_facts)) = (Facts::read(&bundle), Facts::read(&leaf)) else { return first(names, now).map(Some) };
    if now >= ca_facts.not_after || now < ca_facts.not_before {
        return first(names, now).map(Some);
    }
    let ca_key = SecretString::from(ca_key);
    if now >= ca_facts.renewal() && certificates(&bundle).len() == 1 {
        // The next CA stands in front; the leaf stays until the API server trusts both.
        let ca = make_ca(now)?;
        let leaf = Pair { certificate: leaf, key: SecretString::from(leaf_key) };
        return Ok(Some(Next { leaf, bundle: format!("{}{bundle}", ca.certificate), ca_key: ca.key }));
    }
    let is_trusted = trusted.is_some_and(|trusted| trusted == bundle.as_bytes());
    let Some(signer) = certificates(&bundle).first().cloned() else { return first(names, now).map(Some) };
    // A leaf that is older than the signing CA was made by the one before.
    let by_signer = leaf_facts.not_before >= ca_facts.not_before;
    if leaf_facts.serves(names, now) && (by_signer || !is_trusted) {
        // A CA that has ended is taken out of the bundle.
        let still: Vec<String> =
            certificates(&bundle).into_iter().filter(|one| Facts::read(one).is_ok_and(|facts| now < facts.not_after)).collect();
        if by_signer && still.len() < certificates(&bundle).len() {
            let leaf = Pair { certificate: leaf, key: SecretString::from(leaf_key) };
            return Ok(Some(Next { leaf, bundle: still.concat(), ca_key }));
        }
        return Ok(None);
    }
    let ca = Pair { certificate: signer, key: ca_key.clone() };
    Ok(Some(Next { leaf: make_leaf(&ca, names, now)?, bundle, ca_key }))
}

/// Nothing usable is there: a CA and a leaf at once.
fn first(names: &[String], now: Timestamp) -> Result<Next> {
    let ca = make_ca(now)?;
    Ok(Next { leaf: make_leaf(&ca, names, now)?, bundle: ca.certificate, ca_key: ca.key })
}

/// The names that the API server will look for in the certificate.
fn server_names(webhooks: &[ValidatingWebhook]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for webhook in webhooks {
        let config = &webhook.client_config;
        match (&config.url, &config.service) {
            (Some(url), _) => {
                let uri: http::Uri = url.parse().map_err(|_| Error::invalid(format!("webhook {}: its URL cannot be read", webhook.name)))?;
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
    webhook.failure_policy.as_deref() == Some("Fail")
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok().filter(|text| !text.is_empty())
}

/// The certificates of a bundle, each as PEM.
fn certificates(bundle: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    bundle.split_inclusive(END).filter(|part| part.contains("-----BEGIN")).map(|part| format!("{}\n", part.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use kubeop_cluster::certificate::CA_LIFE;

    fn secret(next: &Next) -> Secret {
        let entry = |key: &str, text: &str| (key.to_owned(), ByteString(text.as_bytes().to_vec()));
        Secret {
            data: Some(BTreeMap::from([
                entry("tls.crt", &next.leaf.certificate),
                entry("tls.key", next.leaf.key.expose_secret()),
                entry("ca.crt", &next.bundle),
                entry("ca.key", next.ca_key.expose_secret()),
            ])),
            ..Secret::default()
        }
    }

    #[test]
    fn a_certificate_is_made_kept_and_renewed_with_overlapping_cas() {
        let names = vec!["a.svc".to_owned()];
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let made = decide(None, &names, None, start).unwrap().unwrap();
        let live = secret(&made);
        let trusts = |next: &Next| next.bundle.clone().into_bytes();
        assert!(decide(Some(&live), &names, Some(&trusts(&made)), start).unwrap().is_none());

        // Another name: a new leaf of the same CA.
        let moved = decide(Some(&live), &["b.svc".to_owned()], Some(&trusts(&made)), start).unwrap().unwrap();
        assert_eq!(moved.bundle, made.bundle);
        assert_ne!(moved.leaf.certificate, made.leaf.certificate);

        // Two thirds of the leaf's life: a new leaf of the same CA.
        let later = start + SignedDuration::from_hours(61 * 24);
        let renewed = decide(Some(&live), &names, Some(&trusts(&made)), later).unwrap().unwrap();
        assert_eq!(renewed.bundle, made.bundle);

        // Two thirds of the CA's life: first both CAs are published with the old leaf, then the leaf is made anew.
        let at = start + CA_LIFE * 2 / 3;
        let old_leaf = make_leaf(&Pair { certificate: made.bundle.clone(), key: made.ca_key.clone() }, &names, at).unwrap();
        let live = secret(&Next { leaf: old_leaf.clone(), bundle: made.bundle.clone(), ca_key: made.ca_key.clone() });
        let at = at + SignedDuration::from_hours(24);
        let both = decide(Some(&live), &names, Some(&trusts(&made)), at).unwrap().unwrap();
        assert_eq!(certificates(&both.bundle).len(), 2);
        assert_eq!(both.leaf.certificate, old_leaf.certificate);
        let live = secret(&both);
        assert!(decide(Some(&live), &names, Some(&trusts(&made)), at).unwrap().is_none(), "the API server does not trust both yet");
        let switched = decide(Some(&live), &names, Some(&trusts(&both)), at).unwrap().unwrap();
        assert_ne!(switched.leaf.certificate, old_leaf.certificate);
        assert_eq!(switched.bundle, both.bundle);
        let live = secret(&switched);
        assert!(decide(Some(&live), &names, Some(&trusts(&switched)), at).unwrap().is_none());

        // The old CA ends: it leaves the bundle.
        let end = start + CA_LIFE + SignedDuration::from_hours(1);
        let leaf = make_leaf(&Pair { certificate: certificates(&switched.bundle)[0].clone(), key: switched.ca_key.clone() }, &names, end).unwrap();
        let live = secret(&Next { leaf, bundle: switched.bundle.clone(), ca_key: switched.ca_key.clone() });
        let alone = decide(Some(&live), &names, Some(&trusts(&switched)), end).unwrap().unwrap();
        assert_eq!(certificates(&alone.bundle).len(), 1);
    }

    #[test]
    fn nonsense_in_the_secret_is_replaced() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let names = vec!["a.svc".to_owned()];
        let mut odd = secret(&first(&names, now).unwrap());
        odd.data.as_mut().unwrap().insert("ca.crt".to_owned(), ByteString(b"nonsense".to_vec()));
        assert!(decide(Some(&odd), &names, None, now).unwrap().is_some());
        assert!(decide(Some(&Secret::default()), &names, None, now).unwrap().is_some());
    }

    #[test]
    fn names_come_from_urls_and_services() {
        let config = |target| kubeop_plan::install::webhook::build(&target).webhooks.unwrap();
        use kubeop_plan::install::WebhookTarget;
        let names = |target| server_names(&config(target)).unwrap();
        assert_eq!(names(WebhookTarget::Url("https://127.0.0.1:9443".into())), ["127.0.0.1"]);
        assert_eq!(names(WebhookTarget::Url("https://[::1]:9443".into())), ["::1"]);
        let service = WebhookTarget::Service { name: "kubeop-admission".into(), port: 443 };
        assert_eq!(names(service), ["kubeop-admission.kubeop-system.svc", "kubeop-admission.kubeop-system.svc.cluster.local"]);
    }
}
