//! The quota ledger of a tenant: envelope, granted per project, used.
//!
//! Invariant: a project counts with what its quota has in force or, before that, with what its spec asks, so that nothing granted is overlooked.

use super::validate::{ValidTenant, validate};
use kubeop_core::quantity::Quantity;
use kubeop_core::quota::{Quotas, check_envelope};
use kubeop_crds::conditions::{self, Finding, READY, WITHIN_QUOTA, reason};
use kubeop_crds::{Amount, Project, Tenant, TenantStatus, amounts};
use std::collections::BTreeMap;

/// The content of a Tenant's status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    /// Conditions found.
    pub findings: Vec<Finding>,
    /// How many projects there are.
    pub projects: usize,
    /// The envelope.
    pub envelope: Quotas,
    /// What each project holds, by the name of its resource.
    pub granted: BTreeMap<String, Quotas>,
    /// What the projects use.
    pub used: Quotas,
}

/// Condition types that this module decides.
pub const OWNED: [&str; 4] = [READY, WITHIN_QUOTA, conditions::RECONCILING, conditions::STALLED];

/// Makes up the ledger from the tenant and all projects that name it.
pub fn ledger(tenant: &Tenant, projects: &[Project]) -> Ledger {
    let mine = || projects.iter().filter(|p| Some(&p.spec.tenant) == tenant.metadata.name.as_ref());
    let mut ledger = Ledger { projects: mine().count(), ..Ledger::default() };
    for project in mine() {
        let name = project.metadata.name.clone().unwrap_or_default();
        ledger.granted.insert(name, held(project));
        if let Some(status) = &project.status {
            add(&mut ledger.used, &parse_each(amounts(&status.used)));
        }
    }
    let valid = match validate(tenant) {
        Ok(valid) => valid,
        Err(refusal) => {
            ledger.findings = vec![
                Finding::new(READY, false, refusal.reason, refusal.message.clone()),
                Finding::new(conditions::STALLED, true, refusal.reason, refusal.message.clone()),
                Finding::new(WITHIN_QUOTA, conditions::Truth::Unknown, refusal.reason, refusal.message),
            ];
            return ledger;
        }
    };
    let within = within_quota(&valid, &ledger);
    let ready = if tenant.metadata.deletion_timestamp.is_some() {
        let (reason, message) = match ledger.projects {
            0 => (reason::DELETING, String::new()),
            n => (reason::PROJECTS_EXIST, format!("{n} projects of the tenant must be deleted first")),
        };
        Finding::new(READY, false, reason, message)
    } else if valid.suspended {
        Finding::new(READY, false, reason::SUSPENDED, "the tenant is suspended")
    } else if within.truth == conditions::Truth::True {
        Finding::new(READY, true, reason::READY, "")
    } else {
        Finding::new(READY, false, within.reason, within.message.clone())
    };
    ledger.envelope = valid.envelope;
    ledger.findings = vec![ready, within];
    ledger
}

fn within_quota(tenant: &ValidTenant, ledger: &Ledger) -> Finding {
    if tenant.envelope.is_empty() {
        return Finding::new(WITHIN_QUOTA, true, reason::NO_ENVELOPE, "the tenant has no envelope");
    }
    let granted: Vec<Quotas> = ledger.granted.values().cloned().collect();
    match check_envelope(&tenant.envelope, &granted) {
        Ok(()) => Finding::new(WITHIN_QUOTA, true, reason::WITHIN_ENVELOPE, ""),
        Err(error) => Finding::new(WITHIN_QUOTA, false, reason::QUOTA_EXCEEDED, error.message()),
    }
}

/// What a project holds: key by key the larger of what is in force and what its spec asks (a quota that is being shrunk still holds the old
/// amount, one that is being grown already claims the new one).
pub fn held(project: &Project) -> Quotas {
    let mut held = parse_each(amounts(&project.spec.quotas));
    let in_force = project.status.iter().flat_map(|status| amounts(&status.granted));
    for (key, amount) in parse_each(in_force).iter() {
        if held.get(key).is_none_or(|asked| asked < amount) {
            held.set(key, amount.clone());
        }
    }
    held
}

/// The entries that are quotas, one by one: a project whose spec is partly nonsense still holds the rest.
fn parse_each<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> Quotas {
    let mut all = Quotas::default();
    for parsed in entries.filter_map(|entry| Quotas::parse([entry]).ok()) {
        for (key, amount) in parsed.iter() {
            all.set(key, amount.clone());
        }
    }
    all
}

fn add(sum: &mut Quotas, more: &Quotas) {
    for (key, amount) in more.iter() {
        let before = sum.get(key).map_or(0, Quantity::nanos);
        let total = before.saturating_add(amount.nanos());
        let binary = amount.is_binary() || sum.get(key).is_some_and(Quantity::is_binary);
        sum.set(key, if binary { Quantity::from_nanos_binary(total) } else { Quantity::from_nanos(total) });
    }
}

impl Ledger {
    /// The status to write: conditions merged with the current ones, everything else as found.
    pub fn status(&self, tenant: &Tenant, now: jiff::Timestamp) -> TenantStatus {
        let current = tenant.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let generation = tenant.metadata.generation;
        let mut total = Quotas::default();
        for quotas in self.granted.values() {
            add(&mut total, quotas);
        }
        TenantStatus {
            conditions: conditions::merge(current, &self.findings, &OWNED, generation, now),
            observed_generation: generation,
            projects: i64::try_from(self.projects).ok(),
            envelope: written(&self.envelope),
            granted: self.granted.iter().map(|(project, quotas)| (project.clone(), written(quotas))).collect(),
            granted_total: written(&total),
            used: written(&self.used),
        }
    }
}

/// Quotas as a status shows them.
pub(crate) fn written(quotas: &Quotas) -> BTreeMap<String, Amount> {
    quotas.to_map().into_iter().map(|(key, text)| (key, Amount(text))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{project, tenant};

    #[test]
    fn the_ledger_adds_up_what_is_in_force_or_asked() {
        let mut one = project("acme.web", &[("cpu", "2"), ("memory", "1Gi")]);
        one.status = Some(kubeop_crds::ProjectStatus {
            granted: [("requests.cpu".to_owned(), Amount::from("3"))].into(),
            used: [("requests.cpu".to_owned(), Amount::from("500m"))].into(),
            ..Default::default()
        });
        let two = project("acme.api", &[("requests.cpu", "4"), ("nonsense", "1")]);
        let other = project("other.web", &[("cpu", "100")]);
        let acme = tenant("acme", &[("cpu", "8"), ("memory", "16Gi"), ("projects", "2")]);
        let ledger = ledger(&acme, &[one, two, other]);
        let status = ledger.status(&acme, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(status.projects, Some(2));
        assert_eq!(status.granted_total["requests.cpu"].as_str(), "7");
        assert_eq!(status.granted_total["requests.memory"].as_str(), "1Gi");
        assert_eq!(status.used["requests.cpu"].as_str(), "500m");
        assert!(conditions::is_true(&status.conditions, WITHIN_QUOTA, acme.metadata.generation));
        assert!(conditions::is_true(&status.conditions, READY, acme.metadata.generation));
    }

    #[test]
    fn more_than_the_envelope_is_said_with_both_numbers() {
        let acme = tenant("acme", &[("cpu", "1")]);
        let ledger = ledger(&acme, &[project("acme.web", &[("cpu", "2")])]);
        let within = ledger.findings.iter().find(|f| f.type_ == WITHIN_QUOTA).unwrap();
        assert_eq!((within.truth, within.reason), (conditions::Truth::False, reason::QUOTA_EXCEEDED));
        assert!(within.message.contains("requests.cpu 1 is below the 2"), "{}", within.message);
    }

    #[test]
    fn an_envelope_that_is_no_quota_stalls() {
        let acme = tenant("acme", &[("cpus", "1")]);
        let ledger = ledger(&acme, &[]);
        assert!(ledger.findings.iter().any(|f| f.type_ == conditions::STALLED));
        assert!(ledger.findings[0].message.contains("quotas of tenant acme: "), "{}", ledger.findings[0].message);
    }
}
