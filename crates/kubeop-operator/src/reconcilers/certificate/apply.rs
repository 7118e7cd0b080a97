//! Issuing into the Secret, where what is there does not serve.
//!
//! Invariant: a Secret without this Certificate's uid is never written; a write carries the version that was judged.

use crate::context::Context;
use crate::failure::Blocked;
use crate::objects::blocked;
use crate::providers::Authority;
use crate::secret::{pair, text};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use kubeop_cluster::certificate::{Facts, make_leaf, proves};
use kubeop_cluster::error::Doing;
use kubeop_core::Result;
use kubeop_crds::conditions::reason;
use kubeop_crds::labels;
use kubeop_plan::Refusal;
use kubeop_plan::certificate::{Material, ValidCertificate, secret};
use kubeop_plan::providers::Issuer;
use secrecy::ExposeSecret;

/// Makes the Secret hold a certificate that serves; what stands in it.
pub(super) async fn apply(ctx: &Context, name: &str, valid: &ValidCertificate) -> std::result::Result<Facts, Blocked> {
    let secrets: Api<Secret> = Api::namespaced(ctx.client.clone(), &valid.namespace);
    let what = format!("Secret {}/{}", valid.namespace, valid.secret);
    let live = secrets.get_opt(&valid.secret).await.doing(format_args!("reading {what}"))?;
    if let Some(live) = &live {
        judge(live, valid, &what)?;
    }
    let authority = match valid.issuer {
        Issuer::SelfSigned => ctx.self_signed.authority(ctx).await?,
    };
    let (names, now) = (names(valid), ctx.clock.now());
    if let Some(facts) = live.as_ref().and_then(|live| serving(live, &authority, &names, now)) {
        return Ok(facts);
    }
    let (wanted, facts) = issue(name, valid, &authority, &names, now)?;
    let params = PostParams { field_manager: Some(labels::OPERATOR.to_owned()), ..PostParams::default() };
    ctx.metrics.wrote("Secret", if live.is_some() { "update" } else { "create" });
    let written = match live {
        Some(live) => {
            let mut wanted = wanted;
            wanted.metadata.resource_version = live.metadata.resource_version;
            secrets.replace(&valid.secret, &params, &wanted).await
        }
        None => secrets.create(&params, &wanted).await,
    };
    written.map_err(|error| blocked(error, &what))?;
    tracing::info!(certificate = name, hosts = ?names, until = %facts.not_after, "certificate issued");
    Ok(facts)
}

/// Whether the live Secret may be written.
fn judge(live: &Secret, valid: &ValidCertificate, what: &str) -> std::result::Result<(), Refusal> {
    if !valid.owner.owns(&live.metadata) {
        return Err(Refusal::new(reason::NOT_OURS, format!("{what} exists and is not ours; it is left alone")));
    }
    if live.metadata.deletion_timestamp.is_some() {
        return Err(Refusal::new(
            reason::DELETING,
            format!("{what} is being deleted; it is made again when it is gone"),
        ));
    }
    Ok(())
}

fn names(valid: &ValidCertificate) -> Vec<String> {
    valid.hosts.iter().map(ToString::to_string).collect()
}

/// What stands in the Secret, if it serves these names under this CA for a while yet.
fn serving(live: &Secret, authority: &Authority, names: &[String], now: Timestamp) -> Option<Facts> {
    let leaf = pair(live)?;
    let facts = Facts::read(&leaf.certificate).ok()?;
    let current = text(live, "ca.crt")? == authority.bundle;
    let serves = facts.serves(names, now) && proves(&leaf, &authority.signer.certificate, names, now);
    (current && serves).then_some(facts)
}

/// A new certificate, as Secret.
fn issue(
    name: &str,
    valid: &ValidCertificate,
    authority: &Authority,
    names: &[String],
    now: Timestamp,
) -> Result<(Secret, Facts)> {
    // A common name has at most 64 characters (RFC 5280, ub-common-name); clients go by the alternative names.
    let common = names.first().filter(|first| first.len() <= 64).map_or("kubeOP", String::as_str);
    let leaf = make_leaf(&authority.signer, common, names, now)?;
    let facts = Facts::read(&leaf.certificate)?;
    let material =
        Material { certificate: &leaf.certificate, key: leaf.key.expose_secret(), authority: &authority.bundle };
    Ok((secret(valid, name, material), facts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use k8s_openapi::ByteString;
    use kubeop_cluster::certificate::{LEAF_LIFE, make_ca};
    use kubeop_core::name::Host;
    use kubeop_plan::identity::OwnedBy;

    fn authority(now: Timestamp) -> Authority {
        let signer = make_ca("CA", now).unwrap();
        Authority { bundle: signer.certificate.clone(), signer }
    }

    #[test]
    fn a_secret_serves_until_its_names_life_key_or_ca_say_otherwise() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let valid = ValidCertificate {
            owner: OwnedBy { uid: "uid".to_owned(), name: "n.shop".to_owned() },
            issuer: Issuer::SelfSigned,
            namespace: "n".to_owned(),
            secret: "s".to_owned(),
            hosts: vec![Host::parse("b.local").unwrap(), Host::parse("a.local").unwrap()],
        };
        let (ca, names) = (authority(now), names(&valid));
        let (live, facts) = issue("n.shop", &valid, &ca, &names, now).unwrap();
        assert_eq!(serving(&live, &ca, &names, now).unwrap(), facts);
        assert_eq!(facts.names, ["a.local", "b.local"]);
        assert!(judge(&live, &valid, "it").is_ok());

        let renewal = now + LEAF_LIFE * 2 / 3 - SignedDuration::from_hours(1);
        assert!(serving(&live, &ca, &names, renewal).is_some());
        assert!(serving(&live, &ca, &names, renewal + SignedDuration::from_hours(1)).is_none());
        assert!(serving(&live, &ca, &names[..1], now).is_none());
        assert!(serving(&live, &authority(now), &names, now).is_none());
        let (other, _) = issue("n.shop", &valid, &ca, &names, now).unwrap();
        for (key, value) in [("tls.key", other.data.unwrap()["tls.key"].clone()), ("ca.crt", ByteString(b"x".to_vec()))]
        {
            let mut odd = live.clone();
            odd.data.as_mut().unwrap().insert(key.to_owned(), value);
            assert!(serving(&odd, &ca, &names, now).is_none(), "{key}");
        }

        let mut foreign = live.clone();
        foreign.metadata.annotations = None;
        assert_eq!(judge(&foreign, &valid, "it").unwrap_err().reason, reason::NOT_OURS);
    }
}
