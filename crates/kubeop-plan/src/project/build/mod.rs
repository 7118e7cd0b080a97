//! The objects of a project, one file a kind.
//!
//! Invariant: every object carries the identity labels and the owner's uid; every name begins with `kubeop-` where tenants could meet it.

mod limit_range;
mod namespace;
mod network_policies;
mod resource_quota;
mod role_bindings;
mod service_account;

pub use role_bindings::{AccessRole, OPERATOR_BINDING};
pub use service_account::{account_name, service_account};

use super::Resources;
use super::validate::ValidProject;
use crate::resources::{Object, Prepared};
use kube::core::ObjectMeta;

/// Name of the ResourceQuota.
pub const QUOTA: &str = "kubeop-quota";
/// Name of the LimitRange.
pub const LIMITS: &str = "kubeop-limits";
/// What the names of the baseline NetworkPolicies begin with.
pub const BASELINE_PREFIX: &str = "kubeop-baseline-";

/// All objects of a project.
pub fn build(project: &ValidProject) -> Resources<Prepared> {
    Resources {
        namespace: Object::new(namespace::build(project)),
        operator_binding: Object::new(role_bindings::operator(project)),
        resource_quota: Object::new(resource_quota::build(project)),
        limit_range: Object::new(limit_range::build(project)),
        network_policies: network_policies::build(project).into_iter().map(Object::new).collect(),
        service_account: Object::new(service_account::build(project)),
        role_bindings: role_bindings::people(project).into_iter().map(Object::new).collect(),
    }
}

/// Metadata of an object in the project's namespace.
fn meta(project: &ValidProject, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(project.namespace.to_string()),
        labels: Some(project.identity.labels()),
        annotations: Some(project.owner.annotations()),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
pub(crate) mod fixture {
    use super::*;
    use crate::fixture::{project, tenant};
    use crate::project::{Surroundings, validate};
    use kubeop_core::policy::{PlatformPolicy, RawPolicy};

    /// Project `acme.web` with these quotas and this egress baseline.
    pub(crate) fn valid(quotas: &[(&str, &str)], egress: &[&str]) -> ValidProject {
        let raw =
            RawPolicy { egress_baseline: egress.iter().map(ToString::to_string).collect(), ..RawPolicy::default() };
        let policy = PlatformPolicy::parse(&raw).unwrap();
        let (project, tenant) = (project("acme.web", quotas), tenant("acme", &[]));
        validate(&project, &Surroundings { tenant: &tenant, others: &[], live_quota: None, policy: &policy }).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubeop_crds::labels;

    #[test]
    fn every_object_says_whose_it_is() {
        let project = fixture::valid(&[], &[]);
        let all = build(&project);
        let mut metas = vec![
            &all.namespace.wanted().metadata,
            &all.operator_binding.wanted().metadata,
            &all.resource_quota.wanted().metadata,
            &all.limit_range.wanted().metadata,
            &all.service_account.wanted().metadata,
        ];
        metas.extend(all.network_policies.iter().map(|object| &object.wanted().metadata));
        metas.extend(all.role_bindings.iter().map(|object| &object.wanted().metadata));
        assert_eq!(metas.len(), 5 + 3 + 3);
        for meta in metas {
            let name = meta.name.as_deref().unwrap();
            assert!(project.owner.owns(meta), "{name}");
            assert!(
                meta.owner_references.is_none(),
                "{name}: a stale owner uid would let the garbage collector delete"
            );
            let of = |key: &str| meta.labels.as_ref().unwrap()[key].clone();
            assert_eq!(of(labels::PROJECT_ID), "uid-project-acme.web", "{name}");
            assert_eq!(of(labels::TENANT_ID), "id-tenant-acme", "{name}");
            assert_eq!((of(labels::TENANT), of(labels::PROJECT)), ("acme".into(), "web".into()), "{name}");
            if meta.namespace.as_deref() == Some("kubeop-acme-web") {
                assert!(name.starts_with(labels::RESERVED_NAME_PREFIX), "{name}");
            }
        }
    }
}
