//! The objects of an installation, as one table that bootstrap, `kubeop dev` and the chart share.
//!
//! Invariant: the table is in the order of application: guards stand before anyone gets rights, rights before anything runs, the webhook after what answers it.

pub mod guards;
mod live;
mod metrics_server;
pub mod names;
mod pods;
pub mod roles;
pub mod webhook;

pub use live::{KEPT, keep_live};
pub use metrics_server::MetricsServer;
pub use pods::Pods;
pub use webhook::WebhookTarget;

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
    /// Where operator and admission run.
    pub home: Home,
    /// The platform policy of a cluster that has none yet.
    pub policy: RawPolicy,
    /// A metrics server, if it is to be installed too.
    pub metrics_server: Option<MetricsServer>,
}

/// Where operator and admission run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// In a process outside the cluster (`kubeop dev`), which the API server reaches at `https://host:port`, if admission is wanted.
    Process(Option<String>),
    /// As pods in the cluster.
    Pods(Pods),
}

impl Home {
    /// Where the API server reaches admission, if that is wanted.
    fn webhook(&self) -> Option<WebhookTarget> {
        match self {
            Self::Process(url) => url.clone().map(WebhookTarget::Url),
            Self::Pods(pods) => pods.admission.then(|| WebhookTarget::Service {
                name: names::ADMISSION_ACCOUNT.to_owned(),
                port: names::ADMISSION_PORT,
            }),
        }
    }
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
}

/// All objects, in the order in which they are applied; uninstalling goes backwards.
///
/// # Errors
/// Only a defect: an object that does not serialize.
pub fn objects(options: &Options) -> Result<Vec<Item>> {
    let mut table = Table { items: Vec::new(), version: &options.version };
    for name in [SYSTEM_NAMESPACE, ACCESS_NAMESPACE] {
        table.push(namespace(name))?;
    }
    for crd in kubeop_crds::all() {
        table.push(crd)?;
    }
    // Operator and admission deny everything while there is no policy to read.
    table.push_as(crate::policy::to_config_map(&options.policy, "0"), Mode::CreateIfMissing)?;
    for (policy, binding) in guards::all() {
        table.push(policy)?;
        table.push(binding)?;
    }
    for name in [names::MANAGER_ACCOUNT, names::OPERATOR_ACCOUNT, names::ADMISSION_ACCOUNT] {
        table.push(account(name))?;
    }
    let rights = roles::all();
    for role in rights.cluster_roles {
        table.push(role)?;
    }
    for role in rights.roles {
        table.push(role)?;
    }
    for binding in rights.role_bindings {
        table.push(binding)?;
    }
    for binding in rights.cluster_role_bindings {
        table.push(binding)?;
    }
    if let Home::Pods(pods) = &options.home {
        table.push(pods::priority())?;
        for policy in pods::network_policies(pods) {
            table.push(policy)?;
        }
        for workload in pods::workloads(pods) {
            table.push(workload.budget)?;
            table.push(workload.service)?;
            table.push(workload.deployment)?;
        }
    }
    if let Some(target) = options.home.webhook() {
        table.push(webhook::build(&target))?;
    }
    if let Some(server) = &options.metrics_server {
        for object in metrics_server::objects(server) {
            table.push(object)?;
        }
    }
    Ok(table.items)
}

struct Table<'a> {
    items: Vec<Item>,
    version: &'a str,
}

impl Table<'_> {
    fn push(&mut self, object: impl Serialize) -> Result<()> {
        self.push_as(object, Mode::Apply)
    }

    fn push_as(&mut self, object: impl Serialize, mode: Mode) -> Result<()> {
        let value = serde_json::to_value(object).map_err(Error::internal)?;
        let mut object: DynamicObject = serde_json::from_value(value).map_err(Error::internal)?;
        let marks = object.metadata.labels.get_or_insert_default();
        marks.insert(labels::PART_OF.to_owned(), labels::PART_OF_KUBEOP.to_owned());
        marks.entry(labels::MANAGED_BY.to_owned()).or_insert_with(|| labels::INSTALLER.to_owned());
        let notes = object.metadata.annotations.get_or_insert_default();
        notes.insert(labels::INSTALLED_VERSION.to_owned(), self.version.to_owned());
        self.items.push(Item { object, mode });
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
    use kube::ResourceExt;

    fn options() -> Options {
        let home = Home::Pods(Pods { image: "ghcr.io/kubeop/kubeop:1.2.3".to_owned(), admission: true });
        Options { version: "1.2.3".to_owned(), home, policy: RawPolicy::default(), metrics_server: None }
    }

    #[test]
    fn the_guards_are_the_named_ones_each_bound_by_its_own_name() {
        let built = guards::all();
        let all: Vec<_> = built.iter().map(|(policy, binding)| (policy.name_any(), binding.name_any())).collect();
        assert_eq!(all, names::GUARDS.map(|name| (name.to_owned(), name.to_owned())));
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
            "PriorityClass",
            "NetworkPolicy",
            "Service",
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
    }

    #[test]
    fn without_a_target_there_is_no_webhook() {
        let without = Pods { image: "kubeop".to_owned(), admission: false };
        for home in [Home::Process(None), Home::Pods(without)] {
            let items = objects(&Options { home, ..options() }).unwrap();
            let kinds = || items.iter().map(|item| item.object.types.as_ref().unwrap().kind.as_str());
            assert!(kinds().all(|kind| kind != "ValidatingWebhookConfiguration"));
        }
    }

    #[test]
    fn a_metrics_server_comes_only_when_asked_for() {
        let named = |options: &Options| {
            objects(options)
                .unwrap()
                .iter()
                .any(|item| item.object.metadata.name.as_deref() == Some(names::METRICS_API))
        };
        assert!(!named(&options()));
        let server = MetricsServer { image: "metrics-server".to_owned(), insecure_kubelets: false };
        assert!(named(&Options { metrics_server: Some(server), ..options() }));
    }
}
