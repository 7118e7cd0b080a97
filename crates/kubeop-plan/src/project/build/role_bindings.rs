//! `RoleBindings`: the operator's own in the namespace, and people's.
//!
//! Invariant: only named `ClusterRoles` of the installation are bound, to `ServiceAccounts` out of the tenant's reach.

use super::service_account::account_name;
use super::{ValidProject, meta};
use crate::install::names;
use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};
use kubeop_core::name::{ACCESS_NAMESPACE, SYSTEM_NAMESPACE};
use std::fmt;

/// Name of the operator's own binding.
pub const OPERATOR_BINDING: &str = "kubeop-operator";

/// What a kubeconfig may do in its project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccessRole {
    /// Workloads and what belongs to them.
    #[default]
    Developer,
    /// Reads everything but Secrets.
    Viewer,
    /// A developer who also gives out roles of the namespace.
    Admin,
}

impl AccessRole {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Developer, Self::Viewer, Self::Admin];

    /// As URLs, names and labels spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Developer => "developer",
            Self::Viewer => "viewer",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    ///
    /// # Errors
    /// 400 that lists the roles.
    pub fn parse(text: &str) -> kubeop_core::Result<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
            let shown = kubeop_core::id::shorten(text);
            kubeop_core::Error::invalid(format!("role {shown:?} is not known: developer, viewer or admin is needed"))
        })
    }

    /// The ClusterRole that a project binds for it.
    pub fn cluster_role(self) -> &'static str {
        match self {
            Self::Developer => names::DEVELOPER,
            Self::Viewer => names::VIEWER,
            Self::Admin => names::ADMIN,
        }
    }

    /// Name of the RoleBinding.
    pub fn binding_name(self) -> String {
        format!("kubeop-{self}")
    }
}

impl fmt::Display for AccessRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

pub(super) fn operator(project: &ValidProject) -> RoleBinding {
    let subject = account(SYSTEM_NAMESPACE, names::OPERATOR_ACCOUNT.to_owned());
    bind(project, OPERATOR_BINDING, names::OPERATOR_PROJECT, subject)
}

/// One for each role; the accounts behind viewer and admin come into being when first used. None while suspended.
pub(super) fn people(project: &ValidProject) -> Vec<RoleBinding> {
    if project.suspended {
        return Vec::new();
    }
    AccessRole::ALL
        .map(|role| {
            let subject = account(ACCESS_NAMESPACE, account_name(&project.identity, role));
            bind(project, &role.binding_name(), role.cluster_role(), subject)
        })
        .into()
}

fn account(namespace: &str, name: String) -> Subject {
    Subject { kind: "ServiceAccount".to_owned(), name, namespace: Some(namespace.to_owned()), api_group: None }
}

fn bind(project: &ValidProject, name: &str, cluster_role: &str, subject: Subject) -> RoleBinding {
    RoleBinding {
        metadata: meta(project, name),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: cluster_role.to_owned(),
        },
        subjects: Some(vec![subject]),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::valid;
    use super::*;

    #[test]
    fn people_are_bound_by_role_and_not_at_all_while_suspended() {
        let mut project = valid(&[], &[]);
        let bindings = people(&project);
        let shown: Vec<_> = bindings
            .iter()
            .map(|b| {
                (
                    b.metadata.name.as_deref().unwrap(),
                    b.role_ref.name.as_str(),
                    b.subjects.as_ref().unwrap()[0].name.as_str(),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("kubeop-developer", "kubeop:developer", "acme.web.developer"),
                ("kubeop-viewer", "kubeop:viewer", "acme.web.viewer"),
                ("kubeop-admin", "kubeop:admin", "acme.web.admin"),
            ]
        );
        assert!(bindings.iter().all(|b| b.subjects.as_ref().unwrap()[0].namespace.as_deref() == Some("kubeop-access")));
        project.suspended = true;
        assert!(people(&project).is_empty());
        assert!(AccessRole::parse("root").is_err());
    }
}
