//! Whose an object is: the identity labels, and the annotation that names its owner.
//!
//! Invariant: an id is the manager's UUID where the resource carries one, else the resource's uid; names never stand in for ids.

use crate::refusal::{Refusal, Validated};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kubeop_core::name::Label;
use kubeop_crds::{Project, Tenant, labels};
use std::collections::BTreeMap;

/// The owner of an object: the custom resource whose uid it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedBy {
    /// The resource's uid.
    pub uid: String,
    /// The resource's name.
    pub name: String,
}

impl OwnedBy {
    /// The owner as a resource's metadata names it.
    pub fn of(meta: &ObjectMeta) -> Validated<Self> {
        match (&meta.uid, &meta.name) {
            (Some(uid), Some(name)) => Ok(Self { uid: uid.clone(), name: name.clone() }),
            _ => Err(Refusal::invalid("the resource has no uid or no name, so it was not read from a cluster")),
        }
    }

    /// The annotations by which an object is recognised as this owner's.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        [(labels::OWNER_UID, &self.uid), (labels::OWNER, &self.name)]
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .into()
    }

    /// Whether a live object is this owner's.
    pub fn owns(&self, live: &ObjectMeta) -> bool {
        live.annotations.as_ref().and_then(|all| all.get(labels::OWNER_UID)) == Some(&self.uid)
    }
}

/// A project and its tenant, as labels tell them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id, if a manager registered it.
    pub cluster_id: Option<String>,
    /// The manager installation that wrote the project, if one did.
    pub instance: Option<String>,
    /// The tenant's id.
    pub tenant_id: String,
    /// The tenant's name.
    pub tenant: Label,
    /// The project's id.
    pub project_id: String,
    /// The project's name within its tenant.
    pub project: Label,
}

impl Identity {
    /// The identity of a project and its tenant.
    ///
    /// # Errors
    /// Names that are not `<tenant>.<project>`, or resources without a uid.
    pub fn of(project: &Project, tenant: &Tenant) -> Validated<Self> {
        let name = project.metadata.name.as_deref().unwrap_or_default();
        let (first, second) = name.split_once('.').unwrap_or((name, ""));
        let (tenant_name, project_name) = (Label::parse(first)?, Label::parse(second)?);
        if project.spec.tenant != first || tenant.metadata.name.as_deref() != Some(first) {
            return Err(Refusal::invalid(format!(
                "project {name:?} belongs to tenant {:?}: it must be named {:?} and a project name",
                project.spec.tenant,
                format!("{}.", project.spec.tenant)
            )));
        }
        Ok(Self {
            cluster_id: label(&project.metadata, labels::CLUSTER_ID),
            instance: label(&project.metadata, labels::INSTANCE),
            tenant_id: id(tenant, labels::TENANT_ID)?,
            tenant: tenant_name,
            project_id: id(project, labels::PROJECT_ID)?,
            project: project_name,
        })
    }

    /// The identity as the labels of a project's namespace tell it.
    ///
    /// # Errors
    /// The namespace is no project's.
    pub fn of_namespace(namespace: &ObjectMeta) -> Validated<Self> {
        let need = |key: &str| {
            label(namespace, key).ok_or_else(|| {
                let name = namespace.name.as_deref().unwrap_or_default();
                Refusal::new(
                    kubeop_crds::conditions::reason::PROJECT_NOT_FOUND,
                    format!("namespace {name:?} is no project's: it has no label {key}"),
                )
            })
        };
        Ok(Self {
            cluster_id: label(namespace, labels::CLUSTER_ID),
            instance: label(namespace, labels::INSTANCE),
            tenant_id: need(labels::TENANT_ID)?,
            tenant: Label::parse(&need(labels::TENANT)?)?,
            project_id: need(labels::PROJECT_ID)?,
            project: Label::parse(&need(labels::PROJECT)?)?,
        })
    }

    /// The labels of everything that belongs to the project, and who manages it.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> = [
            (labels::TENANT_ID, self.tenant_id.as_str()),
            (labels::TENANT, self.tenant.as_str()),
            (labels::PROJECT_ID, self.project_id.as_str()),
            (labels::PROJECT, self.project.as_str()),
            (labels::MANAGED_BY, labels::OPERATOR),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        for (key, value) in [(labels::CLUSTER_ID, &self.cluster_id), (labels::INSTANCE, &self.instance)] {
            if let Some(value) = value {
                all.insert(key.to_owned(), value.clone());
            }
        }
        all
    }

    /// The name of the Project resource.
    pub fn project_resource(&self) -> String {
        kubeop_core::name::project_resource_name(&self.tenant, &self.project)
    }
}

/// The value of a label that is there and not empty.
pub fn label(meta: &ObjectMeta, key: &str) -> Option<String> {
    meta.labels.as_ref()?.get(key).filter(|value| !value.is_empty()).cloned()
}

/// A resource's id: the manager's in label `key`, else its uid.
pub fn id<K: Resource>(resource: &K, key: &str) -> Validated<String> {
    label(resource.meta(), key)
        .or_else(|| resource.meta().uid.clone())
        .ok_or_else(|| Refusal::invalid("the resource has no uid, so it was not read from a cluster"))
}
