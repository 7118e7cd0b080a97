//! `ServiceAccounts` behind issued kubeconfigs, in `kubeop-access`.
//!
//! Invariant: the name is `<tenant>.<project>.<role>`; no label contains a dot, so no two projects share one.

use super::role_bindings::AccessRole;
use crate::Identity;
use crate::identity::OwnedBy;
use crate::project::ValidProject;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::core::ObjectMeta;
use kubeop_core::name::ACCESS_NAMESPACE;
use kubeop_crds::labels;

/// The name of a project's account for a role.
pub fn account_name(identity: &Identity, role: AccessRole) -> String {
    format!("{}.{role}", identity.project_resource())
}

/// The account of a project for a role. It never mounts a token: it exists to be named by `TokenRequests`.
pub fn service_account(identity: &Identity, owner: &OwnedBy, role: AccessRole) -> ServiceAccount {
    let mut marked = identity.labels();
    marked.insert(labels::ACCESS_ROLE.to_owned(), role.as_str().to_owned());
    ServiceAccount {
        metadata: ObjectMeta {
            name: Some(account_name(identity, role)),
            namespace: Some(ACCESS_NAMESPACE.to_owned()),
            labels: Some(marked),
            annotations: Some(owner.annotations()),
            ..ObjectMeta::default()
        },
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

pub(super) fn build(project: &ValidProject) -> ServiceAccount {
    service_account(&project.identity, &project.owner, AccessRole::Developer)
}
