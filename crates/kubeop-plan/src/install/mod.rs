//! The objects of an installation, as one table that bootstrap, `kubeop dev` and the chart share.
//!
//! Invariant: the table is in the order of application: guards stand before anyone gets rights, rights before anything runs, the webhook last.

pub mod guards;
pub mod names;
pub mod roles;
pub mod webhook;

pub use webhook::{WebhookTarget, keep_live};

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::core::DynamicObject;
use kube::core::ObjectMeta;
use kubeop_core::name::{ACCESS_NAMESPACE, SYSTEM_NAMESPACE};
use kubeop_core::policy::RawPolicy;
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use serde::Serialize;
use std::collections::BTreeMap;

/// What an installation is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Version of the kubeOP that installs, for an annotation.
    pub version: String,
    /// Where the API server reaches admission; without it no webhook is registered.
    pub webhook: Option<WebhookTarget>,
    /// The platform policy of a cluster that has none yet.
    pub policy: RawPolicy,
}

/// How an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Server-side apply, every time.
    Apply,
    /// Only if it is not there: others change it later.
    CreateIfMissing,
}

/// One object of the installation.
#[derive(Clone, Debug)]
pub struct Item {
    /// The object, with `apiVersion`, `kind` and name.
    pub object: DynamicObject,
    /// How it is written.
    pub mode: Mode,
    /// Whether uninstalling leaves it (CRDs: deleting them would delete every tenant's resources).
    pub keep: bool,
}

/// All objects, in the order in which they are applied; uninstalling goes backwards.
///
/// # Errors
/// Only a defect: an object that does not serialize.
pub fn objects(options: &Options) -> Result<Vec<Item>> {
    let mut table = Table { items: Vec::new(), version: &options.version };
    for name in [SYSTEM_NAMESPACE, ACCESS_NAMESPACE] {
        table.push(namespace(name), Mode::Apply, true)?;
    }
    for crd in kubeop_crds::all() {
        table.push(crd, Mode::Apply, true)?;
    }
    // The guard of egress denies everything while there is no policy to read.
    table.push(crate::policy::to_config_map(&options.policy, "0"), Mode::CreateIfMissing, false)?;
    for (policy, binding) in guards::all() {
        table.push(policy, Mode::Apply, false)?;
        table.push(binding, Mode::Apply, false)?;
    }
    for name in [names::MANAGER_ACCOUNT, names::OPERATOR_ACCOUNT, names::ADMISSION_ACCOUNT] {
        table.push(account(name), Mode::Apply, false)?;
    }
    let rights = roles::all();
    for role in rights.cluster_roles {
        table.push(role, Mode::Apply, false)?;
    }
    for role in rights.roles {
        table.push(role, Mode::Apply, false)?;
    }
    for binding in rights.role_bindings {
        table.push(binding, Mode::Apply, false)?;
    }
    for binding in rights.cluster_role_bindings {
        table.push(binding, Mode::Apply, false)?;
    }
    if let Some(target) = &options.webhook {
        table.push(webhook::build(target), Mode::Apply, false)?;
    }
    Ok(table.items)
}

struct Table<'a> {
    items: Vec<Item>,
    version: &'a str,
}

impl Table<'_> {
    fn push(&mut self, object: impl Serialize, mode: Mode, keep: bool) -> Result<()> {
        let value = serde_json::to_value(object).map_err(Error::internal)?;
        let mut object: DynamicObject = serde_json::from_value(value).map_err(Error::internal)?;
        let marks = object.metadata.labels.get_or_insert_default();
        marks.insert(labels::PART_OF.to_owned(), labels::PART_OF_KUBEOP.to_owned());
        marks.entry(labels::MANAGED_BY.to_owned()).or_insert_with(|| labels::INSTALLER.to_owned());
        let notes = object.metadata.annotations.get_or_insert_default();
        notes.insert(labels::INSTALLED_VERSION.to_owned(), self.version.to_owned());
        self.items.push(Item { object, mode, keep });
        Ok(())
    }
}

/// `kubeop-system` and `kubeop-access`: nothing but what meets the strictest Pod Security Standard runs there.
fn namespace(name: &str) -> Namespace {
    let marks: BTreeMap<String, String> = ["enforce", "warn", "audit"]
        .iter()
        .flat_map(|mode| {
            let key = format!("pod-security.kubernetes.io/{mode}");
            [(format!("{key}-version"), "latest".to_owned()), (key, "restricted".to_owned())]
        })
        .collect();
    Namespace {
        metadata: ObjectMeta { name: Some(name.to_owned()), labels: Some(marks), ..ObjectMeta::default() },
        ..Namespace::default()
    }
}

fn account(name: &str) -> ServiceAccount {
    ServiceAccount {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(SYSTEM_NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        let webhook = Some(WebhookTarget::Url("https://127.0.0.1:9443".to_owned()));
        Options { version: "1.2.3".to_owned(), webhook, policy: RawPolicy::default() }
    }

    #[test]
    fn the_order_is_namespaces_crds_policy_guards_rights_webhook() {
        let items = objects(&options()).unwrap();
        let position =
            |kind: &str| items.iter().position(|item| item.object.types.as_ref().unwrap().kind == kind).unwrap();
        let kinds = [
            "Namespace",
            "CustomResourceDefinition",
            "ConfigMap",
            "ValidatingAdmissionPolicy",
            "ServiceAccount",
            "ClusterRole",
            "Role",
            "RoleBinding",
            "ClusterRoleBinding",
            "ValidatingWebhookConfiguration",
        ];
        assert!(kinds.windows(2).all(|pair| position(pair[0]) < position(pair[1])));
        assert_eq!(position("ValidatingWebhookConfiguration"), items.len() - 1);
    }

    #[test]
    fn every_object_is_named_and_marked_and_no_name_occurs_twice() {
        let items = objects(&options()).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for item in &items {
            let (types, meta) = (item.object.types.as_ref().unwrap(), &item.object.metadata);
            assert!(seen.insert((types.kind.clone(), meta.namespace.clone(), meta.name.clone().unwrap())));
            assert_eq!(meta.labels.as_ref().unwrap()[labels::PART_OF], "kubeop");
            assert_eq!(meta.annotations.as_ref().unwrap()[labels::INSTALLED_VERSION], "1.2.3");
        }
        let kept = items.iter().filter(|item| item.keep).count();
        assert_eq!(kept, 2 + 6, "namespaces and CRDs stay");
    }

    #[test]
    fn without_a_target_there_is_no_webhook() {
        let items = objects(&Options { webhook: None, ..options() }).unwrap();
        assert!(items.iter().all(|item| item.object.types.as_ref().unwrap().kind != "ValidatingWebhookConfiguration"));
    }
}
