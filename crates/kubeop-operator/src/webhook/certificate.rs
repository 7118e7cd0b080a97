//! What admission's Secret is to hold: the CA, and the leaf that is served.
//!
//! Invariant: a leaf is made only of a CA that the API server already trusts, unless the one before is of no use any more.

use crate::secret::text;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kubeop_cluster::certificate::{Facts, Pair, make_ca, make_leaf, proves};
use kubeop_core::Result;
use secrecy::SecretString;

/// Names in the certificates, for people.
const CA: &str = "kubeOP admission CA";
const LEAF: &str = "kubeop-admission";

/// What the Secret is to hold next.
pub(super) struct Next {
    pub(super) leaf: Pair,
    /// The CA that signs first, then the one before it while it still holds.
    pub(super) bundle: String,
    pub(super) ca_key: SecretString,
}

/// Decides the Secret's next content from its present one; `None` if it serves.
pub(super) fn decide(
    secret: Option<&Secret>,
    names: &[String],
    trusted: Option<&[u8]>,
    now: Timestamp,
) -> Result<Option<Next>> {
    let read = |key: &str| secret.and_then(|secret| text(secret, key));
    let (bundle, ca_key, leaf, leaf_key) = (read("ca.crt"), read("ca.key"), read("tls.crt"), read("tls.key"));
    let present = match (bundle, ca_key, leaf, leaf_key) {
        (Some(bundle), Some(ca_key), Some(leaf), Some(leaf_key)) => Some((bundle, ca_key, leaf, leaf_key)),
        _ => None,
    };
    let Some((bundle, ca_key, leaf, leaf_key)) = present else { return first(names, now).map(Some) };
    let (Ok(ca_facts), Ok(leaf_facts)) = (Facts::read(&bundle), Facts::read(&leaf)) else {
        return first(names, now).map(Some);
    };
    if now >= ca_facts.not_after || now < ca_facts.not_before {
        return first(names, now).map(Some);
    }
    let ca_key = SecretString::from(ca_key);
    if now >= ca_facts.renewal() && certificates(&bundle).len() == 1 {
        // The next CA stands in front; the leaf stays until the API server trusts both.
        let ca = make_ca(CA, now)?;
        let leaf = Pair { certificate: leaf, key: SecretString::from(leaf_key) };
        return Ok(Some(Next { leaf, bundle: format!("{}{bundle}", ca.certificate), ca_key: ca.key }));
    }
    let is_trusted = trusted.is_some_and(|trusted| trusted == bundle.as_bytes());
    let Some(signer) = certificates(&bundle).first().cloned() else { return first(names, now).map(Some) };
    let served = Pair { certificate: leaf.clone(), key: SecretString::from(leaf_key.clone()) };
    let fresh = leaf_facts.serves(names, now) && proves(&served, &signer, names, now);
    if fresh || (!is_trusted && leaf_facts.holds(names, now)) {
        // A CA that has ended is taken out of the bundle.
        let still: Vec<String> = certificates(&bundle)
            .into_iter()
            .filter(|one| Facts::read(one).is_ok_and(|facts| now < facts.not_after))
            .collect();
        if fresh && still.len() < certificates(&bundle).len() {
            return Ok(Some(Next { leaf: served, bundle: still.concat(), ca_key }));
        }
        return Ok(None);
    }
    let ca = Pair { certificate: signer, key: ca_key.clone() };
    Ok(Some(Next { leaf: make_leaf(&ca, LEAF, names, now)?, bundle, ca_key }))
}

/// Nothing usable is there: a CA and a leaf at once.
fn first(names: &[String], now: Timestamp) -> Result<Next> {
    let ca = make_ca(CA, now)?;
    Ok(Next { leaf: make_leaf(&ca, LEAF, names, now)?, bundle: ca.certificate, ca_key: ca.key })
}

/// The certificates of a bundle, each as PEM.
fn certificates(bundle: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    bundle
        .split_inclusive(END)
        .filter(|part| part.contains("-----BEGIN"))
        .map(|part| format!("{}\n", part.trim()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use k8s_openapi::ByteString;
    use kubeop_cluster::certificate::CA_LIFE;
    use secrecy::ExposeSecret;
    use std::collections::BTreeMap;

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
        let old_leaf =
            make_leaf(&Pair { certificate: made.bundle.clone(), key: made.ca_key.clone() }, LEAF, &names, at).unwrap();
        let live = secret(&Next { leaf: old_leaf.clone(), bundle: made.bundle.clone(), ca_key: made.ca_key.clone() });
        let at = at + SignedDuration::from_hours(24);
        let both = decide(Some(&live), &names, Some(&trusts(&made)), at).unwrap().unwrap();
        assert_eq!(certificates(&both.bundle).len(), 2);
        assert_eq!(both.leaf.certificate, old_leaf.certificate);
        let live = secret(&both);
        assert!(
            decide(Some(&live), &names, Some(&trusts(&made)), at).unwrap().is_none(),
            "the API server does not trust both yet"
        );
        let switched = decide(Some(&live), &names, Some(&trusts(&both)), at).unwrap().unwrap();
        assert_ne!(switched.leaf.certificate, old_leaf.certificate);
        assert_eq!(switched.bundle, both.bundle);
        let live = secret(&switched);
        assert!(decide(Some(&live), &names, Some(&trusts(&switched)), at).unwrap().is_none());

        // A leaf that is due waits for the trust too; one that has ended does not.
        let day = SignedDuration::from_hours(24);
        let due = |age: SignedDuration| {
            let ca = Pair { certificate: made.bundle.clone(), key: made.ca_key.clone() };
            let leaf = make_leaf(&ca, LEAF, &names, at - age).unwrap();
            secret(&Next { leaf, bundle: both.bundle.clone(), ca_key: both.ca_key.clone() })
        };
        assert!(decide(Some(&due(day * 61)), &names, Some(&trusts(&made)), at).unwrap().is_none());
        assert!(decide(Some(&due(day * 61)), &names, Some(&trusts(&both)), at).unwrap().is_some());
        assert!(decide(Some(&due(day * 91)), &names, Some(&trusts(&made)), at).unwrap().is_some());

        // The old CA ends: it leaves the bundle.
        let end = start + CA_LIFE + SignedDuration::from_hours(1);
        let leaf = make_leaf(
            &Pair { certificate: certificates(&switched.bundle)[0].clone(), key: switched.ca_key.clone() },
            LEAF,
            &names,
            end,
        )
        .unwrap();
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
}
