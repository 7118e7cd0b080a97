//! Rights: one ServiceAccount a role, each with what it needs.
//!
//! Invariant: no wildcard; every rule names its API group; secrets and `ConfigMaps` of the platform by name.

mod admission;
mod manager;
mod operator;
mod projects;

use super::names;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::core::ObjectMeta;
use kubeop_core::name::{ACCESS_NAMESPACE, SYSTEM_NAMESPACE};

/// All roles and bindings of an installation.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    /// `ClusterRoles`: of our processes, and those that are bound in project namespaces.
    pub cluster_roles: Vec<ClusterRole>,
    /// Roles in `kubeop-system` and `kubeop-access`.
    pub roles: Vec<Role>,
    /// Their bindings.
    pub role_bindings: Vec<RoleBinding>,
    /// Bindings of our processes' `ClusterRoles`.
    pub cluster_role_bindings: Vec<ClusterRoleBinding>,
}

impl Rights {
    /// Adds more.
    pub fn extend(&mut self, more: Self) {
        self.cluster_roles.extend(more.cluster_roles);
        self.roles.extend(more.roles);
        self.role_bindings.extend(more.role_bindings);
        self.cluster_role_bindings.extend(more.cluster_role_bindings);
    }

    /// A Role in a namespace, bound to an account.
    fn push_role(&mut self, name: &str, namespace: &str, account: &str, rules: Vec<PolicyRule>) {
        self.roles.push(Role { metadata: meta(name, Some(namespace)), rules: Some(rules) });
        self.role_bindings.push(RoleBinding {
            metadata: meta(name, Some(namespace)),
            role_ref: role_ref("Role", name),
            subjects: Some(vec![subject(account)]),
        });
    }
}

/// What the operator needs besides where stand-ins for providers are configured.
pub fn mocks() -> Rights {
    let mut rights = Rights::default();
    for (namespace, rules) in operator::mocks() {
        rights.push_role(names::OPERATOR_MOCKS, namespace, names::OPERATOR_ACCOUNT, rules);
    }
    rights
}

/// All of them but those of [`mocks`].
pub fn all() -> Rights {
    let processes = [
        (names::MANAGER, names::MANAGER_ACCOUNT, manager::cluster(), manager::system(), manager::access()),
        (names::OPERATOR, names::OPERATOR_ACCOUNT, operator::cluster(), operator::system(), operator::access()),
        (names::ADMISSION, names::ADMISSION_ACCOUNT, Vec::new(), admission::system(), Vec::new()),
    ];
    let mut rights = Rights::default();
    for (name, account, cluster, system, access) in processes {
        if !cluster.is_empty() {
            rights.cluster_roles.push(cluster_role(name, cluster));
            rights.cluster_role_bindings.push(ClusterRoleBinding {
                metadata: meta(name, None),
                role_ref: role_ref("ClusterRole", name),
                subjects: Some(vec![subject(account)]),
            });
        }
        for (namespace, rules) in [(SYSTEM_NAMESPACE, system), (ACCESS_NAMESPACE, access)] {
            if !rules.is_empty() {
                rights.push_role(name, namespace, account, rules);
            }
        }
    }
    rights.cluster_roles.extend([
        cluster_role(names::OPERATOR_PROJECT, operator::project()),
        cluster_role(names::VIEWER, projects::viewer()),
        cluster_role(names::DEVELOPER, projects::developer()),
        cluster_role(names::ADMIN, projects::admin()),
    ]);
    rights
}

fn cluster_role(name: &str, rules: Vec<PolicyRule>) -> ClusterRole {
    ClusterRole { metadata: meta(name, None), rules: Some(rules), aggregation_rule: None }
}

fn meta(name: &str, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), namespace: namespace.map(ToOwned::to_owned), ..ObjectMeta::default() }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: "rbac.authorization.k8s.io".to_owned(), kind: kind.to_owned(), name: name.to_owned() }
}

fn subject(account: &str) -> Subject {
    Subject {
        kind: "ServiceAccount".to_owned(),
        name: account.to_owned(),
        namespace: Some(SYSTEM_NAMESPACE.to_owned()),
        api_group: None,
    }
}

/// A rule over whole resources.
fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(texts(&[group])),
        resources: Some(texts(resources)),
        verbs: texts(verbs),
        ..PolicyRule::default()
    }
}

/// A rule over single objects. `list` and `watch` hold too, with the field selector `metadata.name=<name>`.
fn named(group: &str, resources: &[&str], objects: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        resource_names: Some(objects.iter().map(ToString::to_string).collect()),
        ..rule(group, resources, verbs)
    }
}

/// Reading in all forms.
const READ: [&str; 3] = ["get", "list", "watch"];
/// Reading and writing in all forms.
const WRITE: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn every_rule() -> Vec<(String, PolicyRule)> {
        let mut rights = all();
        rights.extend(mocks());
        let cluster = rights.cluster_roles.into_iter().map(|role| (role.metadata.name.unwrap(), role.rules.unwrap()));
        let roles = rights.roles.into_iter().map(|role| {
            (format!("{} in {}", role.metadata.name.unwrap(), role.metadata.namespace.unwrap()), role.rules.unwrap())
        });
        cluster.chain(roles).flat_map(|(name, rules)| rules.into_iter().map(move |rule| (name.clone(), rule))).collect()
    }

    #[test]
    fn no_wildcards_and_every_rule_names_its_group() {
        for (name, rule) in every_rule() {
            let groups = rule.api_groups.unwrap();
            let resources = rule.resources.unwrap();
            assert!(!groups.is_empty() && !resources.is_empty() && !rule.verbs.is_empty(), "{name}");
            assert!(
                groups.iter().chain(&resources).chain(&rule.verbs).all(|text| !text.contains('*')),
                "{name}: {resources:?}"
            );
        }
    }

    #[test]
    fn bind_is_for_named_roles_and_nobody_may_escalate_or_impersonate() {
        for (name, rule) in every_rule() {
            let has = |verb: &str| rule.verbs.iter().any(|v| v == verb);
            assert!(!has("escalate") && !has("impersonate"), "{name}");
            if has("bind") {
                assert!(rule.resource_names.is_some_and(|names| !names.is_empty()), "{name}");
            }
        }
    }

    #[test]
    fn what_people_may_never_write() {
        let forbidden: BTreeSet<&str> = [
            "resourcequotas",
            "limitranges",
            "endpoints",
            "endpointslices",
            "serviceaccounts/token",
            "namespaces",
            "nodes",
            "pods/ephemeralcontainers/x",
            "dnsrecords",
            "certificates",
            "projects",
            "tenants",
            "policies",
            "apps/status",
            "events",
        ]
        .into();
        for (name, rule) in every_rule() {
            if ![names::DEVELOPER, names::VIEWER, names::ADMIN].contains(&name.as_str()) {
                continue;
            }
            let writes = rule.verbs.iter().any(|verb| !READ.contains(&verb.as_str()));
            for resource in rule.resources.unwrap() {
                assert!(!(writes && forbidden.contains(resource.as_str())), "{name} writes {resource}");
                assert!(!(name == names::VIEWER && (writes || resource == "secrets")), "{name}: {resource}");
                assert!(name == names::ADMIN || !rule_is_rbac(rule.api_groups.as_deref()), "{name}: {resource}");
            }
        }
    }

    fn rule_is_rbac(groups: Option<&[String]>) -> bool {
        groups.is_some_and(|groups| groups.iter().any(|group| group == "rbac.authorization.k8s.io"))
    }
}
