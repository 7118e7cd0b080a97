//! What was decided to be granted, project by project, ahead of what the watches have shown.
//!
//! Invariant: decisions about projects of one tenant are made one at a time and each counts what the earlier ones gave, so that reconciles at
//! the same time never give the same free quota twice.

use k8s_openapi::api::core::v1::ResourceQuota;
use kubeop_core::quota::Quotas;
use kubeop_crds::{Project, amounts};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

type Decided = Arc<Mutex<HashMap<String, Quotas>>>;

/// The decisions, by tenant and project.
#[derive(Debug, Default)]
pub(crate) struct Grants(Mutex<HashMap<String, Decided>>);

impl Grants {
    /// Decides for one project while nobody else of the tenant does. `decide` gets what was decided for the others, and answers with the grant.
    pub(crate) fn decide<T, E>(
        &self,
        tenant: &str,
        project: &str,
        decide: impl FnOnce(&HashMap<String, Quotas>) -> Result<(Quotas, T), E>,
    ) -> Result<T, E> {
        let decided =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(tenant.to_owned()).or_default().clone();
        let mut decided = decided.lock().unwrap_or_else(PoisonError::into_inner);
        let own = decided.remove(project);
        match decide(&decided) {
            Ok((granted, answer)) => {
                decided.insert(project.to_owned(), granted);
                Ok(answer)
            }
            Err(error) => {
                // What it was given before it still has.
                if let Some(own) = own {
                    decided.insert(project.to_owned(), own);
                }
                Err(error)
            }
        }
    }

    /// Forgets the projects that are no more.
    pub(crate) fn keep(&self, exists: impl Fn(&str) -> bool) {
        let tenants: Vec<Decided> = self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for decided in tenants {
            decided.lock().unwrap_or_else(PoisonError::into_inner).retain(|project, _| exists(project));
        }
    }

    /// Forgets a project that is gone.
    pub(crate) fn forget(&self, tenant: &str, project: &str) {
        let mut tenants = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(decided) = tenants.get(tenant).cloned() else { return };
        let mut decided = decided.lock().unwrap_or_else(PoisonError::into_inner);
        decided.remove(project);
        if decided.is_empty() {
            tenants.remove(tenant);
        }
    }
}

/// What a project holds for certain: key by key the largest of what its live quota asks and has in force, and of what its status reports. What its
/// spec asks beyond that is not held: whoever is decided first gets it.
pub(crate) fn held(project: &Project, quota: Option<&ResourceQuota>) -> Quotas {
    let mut held = Quotas::default();
    let mut raise_to = |entries: &mut dyn Iterator<Item = (&str, &str)>| {
        // What is no quota holds nothing; one by one, so that it hides no other.
        for one in entries.filter_map(|entry| Quotas::parse([entry]).ok()) {
            raise(&mut held, &one);
        }
    };
    if let Some(status) = &project.status {
        raise_to(&mut amounts(&status.granted));
    }
    let spec = quota.and_then(|quota| quota.spec.as_ref()?.hard.as_ref());
    let status = quota.and_then(|quota| quota.status.as_ref()?.hard.as_ref());
    for hard in [spec, status].into_iter().flatten() {
        raise_to(&mut hard.iter().map(|(key, amount)| (key.as_str(), amount.0.as_str())));
    }
    held
}

/// Raises `held` to `more`, key by key.
pub(crate) fn raise(held: &mut Quotas, more: &Quotas) {
    for (key, amount) in more.iter() {
        if held.get(key).is_none_or(|has| has < amount) {
            held.set(key, amount.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(amount: &str) -> Quotas {
        Quotas::parse([("cpu", amount)]).unwrap()
    }

    #[test]
    fn each_decision_sees_the_earlier_ones_of_its_tenant() {
        let grants = Grants::default();
        let seen = |tenant: &str, project: &str, give: Result<&str, &str>| {
            grants.decide(tenant, project, |others| {
                let names: Vec<String> = others.keys().cloned().collect();
                give.map(|amount| (cpu(amount), names)).map_err(ToOwned::to_owned)
            })
        };
        assert_eq!(seen("t", "a", Ok("1")).unwrap(), Vec::<String>::new());
        assert_eq!(seen("t", "b", Ok("1")).unwrap(), ["a"]);
        assert_eq!(seen("u", "c", Ok("1")).unwrap(), Vec::<String>::new());
        assert_eq!(seen("t", "b", Err("no")), Err("no".to_owned()));
        assert_eq!(seen("t", "a", Ok("2")).unwrap(), ["b"], "what b had it keeps");
        grants.forget("t", "b");
        assert_eq!(seen("t", "a", Ok("2")).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_project_holds_what_is_in_force_and_not_what_it_only_asks() {
        let from = |value| serde_json::from_value::<Project>(value).unwrap();
        let spec = serde_json::json!({"tenant": "t", "namespace": "n", "quotas": {"cpu": "9"}});
        let asks = from(serde_json::json!({"metadata": {}, "spec": spec}));
        assert!(held(&asks, None).is_empty());
        let has = from(
            serde_json::json!({"metadata": {}, "spec": spec, "status": {"granted": {"requests.cpu": "2", "nonsense": "1"}}}),
        );
        assert_eq!(held(&has, None), cpu("2"));
        let quota: ResourceQuota = serde_json::from_value(serde_json::json!({
            "metadata": {}, "spec": {"hard": {"requests.cpu": "1"}}, "status": {"hard": {"requests.cpu": "3"}},
        }))
        .unwrap();
        assert_eq!(held(&has, Some(&quota)), cpu("3"), "a shrink that is not confirmed still holds");
    }

    #[test]
    fn raising_takes_the_larger_of_each_key() {
        let mut held = cpu("1");
        raise(&mut held, &Quotas::parse([("cpu", "500m"), ("pods", "3")]).unwrap());
        assert_eq!(held.get("requests.cpu").unwrap().as_str(), "1");
        assert_eq!(held.get("pods").unwrap().as_str(), "3");
    }
}
