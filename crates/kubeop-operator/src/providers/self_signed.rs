//! The stand-in for a certificate authority: a CA of this cluster's own, in Secret `kubeop-issuer-ca`.
//!
//! Invariant: a CA serves for two thirds of its life; the one before stays in the bundle while certificates of it may be met. A Secret that the operator
//! did not make is never used nor written.

use crate::context::Context;
use crate::secret::{pair, text};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use kubeop_cluster::certificate::{Facts, Pair, belong, make_ca};
use kubeop_cluster::error::Doing;
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use kubeop_plan::install::names::ISSUER_SECRET;
use secrecy::ExposeSecret;

/// Its name in its certificate.
const NAME: &str = "kubeOP self-signed issuer";

/// The issuer; its CA is looked after one at a time.
#[derive(Debug, Default)]
pub(crate) struct SelfSigned(tokio::sync::Mutex<()>);

/// The CA.
#[derive(Clone, Debug)]
pub(crate) struct Authority {
    /// What signs.
    pub(crate) signer: Pair,
    /// What to trust: the signer's certificate, and the one before.
    pub(crate) bundle: String,
}

impl SelfSigned {
    /// The CA in force, made or renewed if need be.
    pub(crate) async fn authority(&self, ctx: &Context) -> Result<Authority> {
        let _one = self.0.lock().await;
        let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), SYSTEM_NAMESPACE);
        let live = secrets.get_opt(ISSUER_SECRET).await.doing("reading the issuer's CA")?;
        let ours = |secret: &Secret| {
            let by = secret.metadata.labels.as_ref().and_then(|all| all.get(labels::MANAGED_BY));
            by.is_some_and(|by| by == labels::OPERATOR)
        };
        if live.as_ref().is_some_and(|secret| !ours(secret)) {
            let told = format!(
                "Secret {SYSTEM_NAMESPACE}/{ISSUER_SECRET} is not ours: it is left alone, and nothing is issued"
            );
            return Err(Error::conflict(told));
        }
        let now = ctx.clock.now();
        if let Some(standing) = live.as_ref().and_then(|secret| standing(secret, now)) {
            return Ok(standing);
        }
        let next = next(live.as_ref(), now)?;
        let wanted = secret(&next, live.as_ref().map(|live| live.metadata.clone()));
        let params = PostParams { field_manager: Some(labels::OPERATOR.to_owned()), ..PostParams::default() };
        ctx.metrics.wrote("Secret", if live.is_some() { "update" } else { "create" });
        let written = match live {
            Some(_) => secrets.replace(ISSUER_SECRET, &params, &wanted).await,
            None => secrets.create(&params, &wanted).await,
        };
        written.doing("writing the issuer's CA")?;
        tracing::info!("the self-signed issuer has a new CA");
        Ok(next)
    }
}

/// The CA in a Secret, if it still signs.
fn standing(secret: &Secret, now: Timestamp) -> Option<Authority> {
    let signer = pair(secret)?;
    let facts = Facts::read(&signer.certificate).ok()?;
    let serves = now >= facts.not_before && now < facts.renewal() && belong(&signer);
    let bundle = text(secret, "ca.crt").filter(|bundle| bundle.starts_with(&signer.certificate))?;
    serves.then_some(Authority { signer, bundle })
}

/// A new CA, with the one before in its bundle while that holds.
fn next(before: Option<&Secret>, now: Timestamp) -> Result<Authority> {
    let signer = make_ca(NAME, now)?;
    let old = before.and_then(|secret| text(secret, "tls.crt"));
    let old = old.filter(|old| Facts::read(old).is_ok_and(|facts| now < facts.not_after)).unwrap_or_default();
    Ok(Authority { bundle: format!("{}{old}", signer.certificate), signer })
}

fn secret(authority: &Authority, live: Option<ObjectMeta>) -> Secret {
    let entry = |key: &str, text: &str| (key.to_owned(), ByteString(text.as_bytes().to_vec()));
    let marks = [(labels::MANAGED_BY, labels::OPERATOR), (labels::PART_OF, labels::PART_OF_KUBEOP)];
    let new = || ObjectMeta {
        name: Some(ISSUER_SECRET.to_owned()),
        labels: Some(marks.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        ..ObjectMeta::default()
    };
    Secret {
        metadata: live.unwrap_or_else(new),
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(
            [
                entry("tls.crt", &authority.signer.certificate),
                entry("tls.key", authority.signer.key.expose_secret()),
                entry("ca.crt", &authority.bundle),
            ]
            .into(),
        ),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use kubeop_cluster::certificate::CA_LIFE;

    #[test]
    fn a_ca_serves_two_thirds_of_its_life_and_is_trusted_to_its_end() {
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let first = next(None, start).unwrap();
        let kept = secret(&first, None);
        assert_eq!(standing(&kept, start).unwrap().bundle, first.bundle);
        let later = start + CA_LIFE * 2 / 3 + SignedDuration::from_hours(24);
        assert!(standing(&kept, later).is_none());
        let second = next(Some(&kept), later).unwrap();
        assert_eq!(second.bundle, format!("{}{}", second.signer.certificate, first.signer.certificate));
        assert!(standing(&secret(&second, None), later).is_some());
        let end = start + CA_LIFE + SignedDuration::from_hours(1);
        let third = next(Some(&kept), end).unwrap();
        assert_eq!(third.bundle, third.signer.certificate, "what has ended is not trusted");
    }

    #[test]
    fn what_is_broken_does_not_serve() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let good = secret(&next(None, now).unwrap(), None);
        let other = secret(&next(None, now).unwrap(), None);
        for key in ["tls.crt", "tls.key", "ca.crt"] {
            let mut odd = good.clone();
            odd.data.as_mut().unwrap().remove(key);
            assert!(standing(&odd, now).is_none(), "{key} is missing");
            odd.data.as_mut().unwrap().insert(key.to_owned(), other.data.as_ref().unwrap()[key].clone());
            assert!(standing(&odd, now).is_none(), "{key} is another's");
        }
    }
}
