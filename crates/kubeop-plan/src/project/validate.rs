//! What a Project says, understood beside its tenant, its siblings and the platform policy.
//!
//! Invariant: a valid project's quota fits the envelope and the ceiling, or is what it already had.

use super::quota::{Grant, Ledger, grant};
use crate::identity::{Identity, OwnedBy};
use crate::policy;
use crate::refusal::{Refusal, Validated};
use crate::tenant;
use kubeop_core::name::{Label, check_project_namespace};
use kubeop_core::policy::PlatformPolicy;
use kubeop_core::quota::Quotas;
use kubeop_crds::{PodSecurity, Project, Tenant, amounts};

/// What is decided beside: all of it read from the cluster beforehand.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// The tenant the project names.
    pub tenant: &'a Tenant,
    /// What the tenant's other projects hold ([`tenant::status::held`]).
    pub others: &'a [Quotas],
    /// `spec.hard` of the project's live ResourceQuota; `None` before there is one.
    pub live_quota: Option<&'a Quotas>,
    /// The platform policy.
    pub policy: &'a PlatformPolicy,
}

/// A project that obeys the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidProject {
    /// Whose it is.
    pub identity: Identity,
    /// The Project resource, which owns all objects.
    pub owner: OwnedBy,
    /// Its namespace.
    pub namespace: Label,
    /// The Pod Security Standard pods must meet.
    pub pod_security: PodSecurity,
    /// Every key of its ResourceQuota.
    pub quotas: Quotas,
    /// Set if the project holds more than a ceiling that was lowered later: the sentence for its status.
    pub above_quota_max: Option<String>,
    /// Whether the project or its tenant is suspended.
    pub suspended: bool,
    /// The platform policy, from which the network fence is made.
    pub policy: PlatformPolicy,
}

/// Understands a Project.
///
/// # Errors
/// A name, namespace or quota that breaks a rule, or a quota that does not fit the envelope.
pub fn validate(project: &Project, around: &Surroundings<'_>) -> Validated<ValidProject> {
    let identity = Identity::of(project, around.tenant)?;
    let namespace = Label::parse(&project.spec.namespace).map_err(|error| error.at("spec.namespace"))?;
    check_project_namespace(&namespace)?;
    let tenant = tenant::validate(around.tenant)?;
    let asked = Quotas::parse(amounts(&project.spec.quotas)).map_err(|error| Refusal::from(error.at("spec.quotas")))?;
    let Grant { quotas, above_ceiling } = grant(&Ledger {
        asked: &asked,
        envelope: &tenant.envelope,
        others: around.others,
        live: around.live_quota,
        ceiling: &policy::ceiling(around.policy),
    })?;
    Ok(ValidProject {
        identity,
        owner: OwnedBy::of(&project.metadata)?,
        namespace,
        pod_security: project.spec.pod_security.unwrap_or_default(),
        quotas,
        above_quota_max: above_ceiling,
        suspended: project.spec.suspended || tenant.suspended,
        policy: around.policy.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{project, tenant};
    use kubeop_crds::labels;

    fn check(project: &Project, tenant: &Tenant) -> Validated<ValidProject> {
        let policy = PlatformPolicy::default();
        validate(project, &Surroundings { tenant, others: &[], live_quota: None, policy: &policy })
    }

    #[test]
    fn ids_are_the_managers_or_else_the_uids() {
        let acme = tenant("acme", &[]);
        let mut web = project("acme.web", &[]);
        let valid = check(&web, &acme).unwrap();
        assert_eq!(
            (valid.identity.tenant_id.as_str(), valid.identity.project_id.as_str()),
            ("id-tenant-acme", "uid-project-acme.web")
        );
        web.metadata.labels = Some([(labels::PROJECT_ID.to_owned(), "id-web".to_owned())].into());
        assert_eq!(check(&web, &acme).unwrap().identity.project_id, "id-web");
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        let acme = tenant("acme", &[]);
        let mut reserved = project("acme.web", &[]);
        reserved.spec.namespace = "kube-system".to_owned();
        assert!(check(&reserved, &acme).unwrap_err().message.contains("reserved"));
        let mut foreign = project("acme.web", &[]);
        foreign.spec.tenant = "other".to_owned();
        assert!(check(&foreign, &acme).unwrap_err().message.contains("must be named \"other.\""));
        assert!(check(&project("acme.web", &[]), &tenant("other", &[])).is_err());
        let odd = check(&project("acme.web", &[("cpu", "many")]), &acme).unwrap_err();
        assert!(odd.message.starts_with("spec.quotas: cpu: "), "{}", odd.message);
        assert!(!odd.may_pass());
    }
}
