//! Which quota a project gets on the cluster.
//!
//! Invariant: a new or growing quota fits the envelope beside what the siblings hold and stays below the ceiling; one that does not grow is
//! never taken away by somebody else's change.

use crate::refusal::{Refusal, Validated};
use kubeop_core::quota::{self, CPU, MEMORY, PROJECTS, Quotas, Request, check_ceiling};
use kubeop_crds::conditions::reason;

/// Object counts and storage of a project that says nothing about them.
pub const DEFAULTS: [(&str, &str); 11] = [
    ("pods", "200"),
    ("services", "50"),
    ("services.nodeports", "0"),
    ("services.loadbalancers", "0"),
    ("secrets", "200"),
    ("configmaps", "200"),
    ("persistentvolumeclaims", "50"),
    ("requests.storage", "200Gi"),
    ("requests.ephemeral-storage", "100Gi"),
    ("replicationcontrollers", "50"),
    ("resourcequotas", "5"),
];

/// What a project gets of keys that neither it nor its tenant's envelope names.
///
/// # Errors
/// None for the table as it is.
pub fn implied(ceiling: &Quotas) -> kubeop_core::Result<Quotas> {
    let mut compute = Quotas::default();
    for key in [CPU, MEMORY] {
        if let Some(max) = ceiling.get(key) {
            compute.set(key, max.clone());
        }
    }
    Ok(compute.or(&Quotas::parse(DEFAULTS)?))
}

/// The inputs of [`grant`].
#[derive(Clone, Copy, Debug)]
pub struct Ledger<'a> {
    /// What the project's spec asks.
    pub asked: &'a Quotas,
    /// The tenant's envelope.
    pub envelope: &'a Quotas,
    /// What the tenant's other projects hold.
    pub others: &'a [Quotas],
    /// What the project has in force.
    pub live: Option<&'a Quotas>,
    /// The platform's ceiling of one project.
    pub ceiling: &'a Quotas,
}

/// What a project gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Every key of its ResourceQuota.
    pub quotas: Quotas,
    /// Set if it keeps more than the ceiling allows today.
    pub above_ceiling: Option<String>,
}

/// Decides the quota: what is asked; for other keys of the envelope what the project already has, else a slice of what is free; the ceiling for
/// compute that nothing else limits; defaults for the rest.
///
/// # Errors
/// `QuotaExceeded` if it does not fit the envelope or the ceiling.
pub fn grant(ledger: &Ledger<'_>) -> Validated<Grant> {
    let refuse = |error: kubeop_core::Error| Refusal::new(reason::QUOTA_EXCEEDED, error.message());
    let mut wanted = ledger.asked.clone();
    for (key, _) in ledger.envelope.iter().filter(|(key, _)| *key != PROJECTS && ledger.asked.get(key).is_none()) {
        if let Some(kept) = ledger.live.and_then(|live| live.get(key)) {
            let ceiling = ledger.ceiling.get(key).filter(|max| *max < kept);
            wanted.set(key, ceiling.unwrap_or(kept).clone());
        }
    }
    let above_ceiling = match check_ceiling(&wanted, ledger.ceiling) {
        Err(_) if keeps(&wanted, ledger.live, ledger.ceiling) => check_ceiling(&wanted, ledger.ceiling).err(),
        checked => {
            checked.map_err(refuse)?;
            None
        }
    };
    let no_ceiling = Quotas::default();
    let request = Request {
        envelope: ledger.envelope,
        others: ledger.others,
        asked: Some(&wanted),
        held: &Quotas::default(),
        ceiling: if above_ceiling.is_some() { &no_ceiling } else { ledger.ceiling },
    };
    let quotas = match quota::grant(&request) {
        Ok(granted) => granted,
        // Without a key of the envelope it would be unlimited in that, which is no keeping.
        Err(_) if covers(&wanted, ledger.envelope) && keeps(&wanted, ledger.live, &wanted) => wanted,
        Err(error) => return Err(refuse(error)),
    };
    let quotas = quotas.or(&implied(ledger.ceiling).map_err(refuse)?);
    Ok(Grant { quotas, above_ceiling: above_ceiling.map(|error| error.message().to_owned()) })
}

/// Whether, of the keys in `of`, none is wanted larger than it already is in force.
fn keeps(wanted: &Quotas, live: Option<&Quotas>, of: &Quotas) -> bool {
    let Some(live) = live else { return false };
    of.iter()
        .filter_map(|(key, _)| wanted.get(key).map(|amount| (key, amount)))
        .all(|(key, amount)| live.get(key).is_some_and(|has| amount <= has))
}

/// Whether every key of the envelope is limited.
fn covers(wanted: &Quotas, envelope: &Quotas) -> bool {
    envelope.iter().all(|(key, _)| key == PROJECTS || wanted.get(key).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(entries: &[(&str, &str)]) -> Quotas {
        Quotas::parse(entries.iter().copied()).unwrap()
    }

    fn none() -> Quotas {
        Quotas::default()
    }

    #[test]
    fn a_project_that_asks_nothing_gets_the_ceiling_and_the_defaults() {
        let ceiling = quotas(&[("cpu", "4"), ("memory", "8Gi")]);
        let grant =
            grant(&Ledger { asked: &none(), envelope: &none(), others: &[], live: None, ceiling: &ceiling }).unwrap();
        let map = grant.quotas.to_map();
        assert_eq!((map["requests.cpu"].as_str(), map["requests.memory"].as_str()), ("4", "8Gi"));
        assert_eq!((map["pods"].as_str(), map["services.loadbalancers"].as_str(), map.len()), ("200", "0", 13));
    }

    #[test]
    fn what_is_asked_replaces_defaults_and_stays_below_the_ceiling() {
        let (asked, ceiling) = (quotas(&[("pods", "5"), ("cpu", "2")]), quotas(&[("cpu", "4")]));
        let of =
            |asked: &Quotas| grant(&Ledger { asked, envelope: &none(), others: &[], live: None, ceiling: &ceiling });
        let map = of(&asked).unwrap().quotas.to_map();
        assert_eq!((map["pods"].as_str(), map["requests.cpu"].as_str()), ("5", "2"));
        let refusal = of(&quotas(&[("cpu", "5")])).unwrap_err();
        assert_eq!(refusal.reason, reason::QUOTA_EXCEEDED);
        assert!(refusal.may_pass(), "the ceiling may be raised");
    }

    #[test]
    fn a_lowered_ceiling_flags_a_project_that_has_more_and_refuses_growth() {
        let (asked, live, ceiling) = (quotas(&[("cpu", "6")]), quotas(&[("cpu", "6")]), quotas(&[("cpu", "4")]));
        let of = |asked: &Quotas| {
            grant(&Ledger { asked, envelope: &none(), others: &[], live: Some(&live), ceiling: &ceiling })
        };
        let kept = of(&asked).unwrap();
        assert_eq!(kept.quotas.get(CPU).unwrap().as_str(), "6");
        assert!(kept.above_ceiling.unwrap().contains("above the platform's quotaMax 4"));
        assert!(of(&quotas(&[("cpu", "7")])).is_err());
        assert_eq!(of(&quotas(&[("cpu", "3")])).unwrap().above_ceiling, None);
    }

    #[test]
    fn a_slice_once_given_stays_and_a_new_one_fits_beside_the_others() {
        let envelope = quotas(&[("cpu", "8")]);
        let first =
            grant(&Ledger { asked: &none(), envelope: &envelope, others: &[], live: None, ceiling: &none() }).unwrap();
        assert_eq!(first.quotas.get(CPU).unwrap().as_str(), "2");
        let others = [quotas(&[("cpu", "6")])];
        let again = Ledger {
            asked: &none(),
            envelope: &envelope,
            others: &others,
            live: Some(&first.quotas),
            ceiling: &none(),
        };
        assert_eq!(grant(&again).unwrap(), first, "a second look gives the same");
        let full = [quotas(&[("cpu", "8")])];
        assert!(grant(&Ledger { live: None, others: &full, ..again }).is_err());
        assert_eq!(grant(&Ledger { others: &full, ..again }).unwrap(), first, "what it has is not taken away");
    }

    #[test]
    fn a_key_new_in_a_full_envelope_is_never_left_unlimited() {
        let envelope = quotas(&[("memory", "1Gi")]);
        let (live, full) = (quotas(&[("cpu", "1")]), [quotas(&[("memory", "1Gi")])]);
        let ledger = Ledger { asked: &none(), envelope: &envelope, others: &full, live: Some(&live), ceiling: &none() };
        assert_eq!(grant(&ledger).unwrap_err().reason, reason::QUOTA_EXCEEDED);
    }
}
