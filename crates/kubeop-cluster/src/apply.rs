//! The manager's writes of custom resources: claim by POST, change by server-side apply with a precondition, delete by uid.
//!
//! Invariant: nothing is written to an object that is going away, that carries another entity id or that the manager did not write, and nothing
//! is deleted that is not the very object that was read (docs/adr/0003-level-triggered-sync.md).

mod ownership;

use self::ownership::{prepared, strip};
use crate::error::{Doing, is_conflict, is_gone};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt};
use kubeop_core::{Error, Result};
use kubeop_crds::labels;
use kubeop_crds::v1alpha1::{App, Project, Tenant};
use serde_json::Value;

/// The kinds the manager writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A tenant.
    Tenant,
    /// A project.
    Project,
    /// An app.
    App,
}

impl Kind {
    /// All of them, parents first.
    pub const ALL: [Self; 3] = [Self::Tenant, Self::Project, Self::App];

    /// As Kubernetes spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "Tenant",
            Self::Project => "Project",
            Self::App => "App",
        }
    }

    /// The label that holds the entity's id.
    pub fn id_label(self) -> &'static str {
        match self {
            Self::Tenant => labels::TENANT_ID,
            Self::Project => labels::PROJECT_ID,
            Self::App => labels::APP_ID,
        }
    }

    /// How the API server serves it.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::Tenant => ApiResource::erase::<Tenant>(&()),
            Self::Project => ApiResource::erase::<Project>(&()),
            Self::App => ApiResource::erase::<App>(&()),
        }
    }
}

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; none for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind.as_str(), self.name),
            None => write!(f, "{} {}", self.kind.as_str(), self.name),
        }
    }
}

/// An object as it was read, with what the manager decides by.
#[derive(Clone, Debug)]
pub struct Live {
    /// Where it was found.
    pub target: Target,
    /// Its uid.
    pub uid: String,
    /// Its version, the precondition of a write.
    pub resource_version: String,
    /// The generation of its spec.
    pub generation: Option<i64>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether the manager wrote it (`app.kubernetes.io/managed-by`).
    pub managed: bool,
    /// The entity's id (the kind's id label).
    pub entity: Option<String>,
    /// The instance of the manager that wrote it.
    pub instance: Option<String>,
    /// The version of the desired state it was written from.
    pub wanted: Option<i64>,
    /// The whole object.
    pub object: DynamicObject,
}

impl Live {
    /// Reads the marks of an object.
    pub fn new(kind: Kind, object: DynamicObject) -> Result<Self> {
        let meta = &object.metadata;
        let (Some(uid), Some(resource_version), Some(name)) =
            (meta.uid.clone(), meta.resource_version.clone(), meta.name.clone())
        else {
            return Err(Error::unavailable(format!(
                "the cluster's {} has no name, uid or resourceVersion",
                kind.as_str()
            )));
        };
        let label = |key: &str| object.labels().get(key).cloned();
        let annotation = |key: &str| object.annotations().get(key).cloned();
        Ok(Self {
            target: Target { kind, namespace: meta.namespace.clone(), name },
            uid,
            resource_version,
            generation: meta.generation,
            deleting: meta.deletion_timestamp.is_some(),
            managed: label(labels::MANAGED_BY).as_deref() == Some(labels::MANAGER),
            entity: label(kind.id_label()),
            instance: label(labels::INSTANCE).or_else(|| annotation(labels::INSTANCE)),
            wanted: annotation(labels::WANTED).and_then(|text| text.parse().ok()),
            object,
        })
    }

    /// Its status, `null` when there is none.
    pub fn status(&self) -> &Value {
        self.object.data.get("status").unwrap_or(&Value::Null)
    }
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is there as asked.
    Applied {
        /// The object's uid.
        uid: String,
        /// Its version after the write.
        resource_version: String,
    },
    /// Something changed since it was read (or somebody was faster with the name): read again.
    Conflict,
    /// The name belongs to somebody else; says to whom.
    NotOurs(String),
    /// The object is going away; its name is free when it is gone.
    BeingDeleted,
    /// The namespace is not there (yet), or is going away.
    NoNamespace,
}

/// What became of a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// Accepted; finalizers are at work.
    Deleting,
    /// That object is gone.
    Gone,
}

fn api(client: &Client, target: &Target) -> Api<DynamicObject> {
    match &target.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &target.kind.resource()),
        None => Api::all_with(client.clone(), &target.kind.resource()),
    }
}

/// Reads one object.
pub async fn live(client: &Client, target: &Target) -> Result<Option<Live>> {
    let found = api(client, target).get_opt(&target.name).await.doing(format_args!("reading {target}"))?;
    found.map(|object| Live::new(target.kind, object)).transpose()
}

/// Objects of a page: some MiB, and far from what the client reads at most also where each is as large as a cluster stores any.
pub(crate) const PAGE: u32 = 50;

/// Reads a page of the objects of a kind that a manager wrote, beginning at the `token` of the page before; with the token of the next.
pub async fn list(client: &Client, kind: Kind, token: Option<&str>) -> Result<(Vec<Live>, Option<String>)> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind.resource());
    let mut params = ListParams::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER)).limit(PAGE);
    if let Some(token) = token {
        params = params.continue_token(token);
    }
    let page = api.list(&params).await.doing(format_args!("listing {}s", kind.as_str()))?;
    let objects = page.items.into_iter().map(|object| Live::new(kind, object)).collect::<Result<_>>()?;
    Ok((objects, page.metadata.continue_.filter(|token| !token.is_empty())))
}

/// Whether an object is not (any more) what was applied: somebody changed or removed what we set, or put in what is not theirs to set.
pub fn differs(live: &Live, wanted: &DynamicObject) -> bool {
    let spec = |object: &DynamicObject| object.data.get("spec").cloned().unwrap_or(Value::Null);
    let marked = wanted.labels().iter().all(|(key, value)| live.object.labels().get(key) == Some(value))
        && wanted.annotations().iter().all(|(key, value)| live.object.annotations().get(key) == Some(value));
    !marked || !holds(&spec(&live.object), &spec(wanted)) || strip(&live.object, wanted).is_some()
}

/// Whether all that is wanted is there. A null is nothing; what is there beside it may be a default of the schema.
fn holds(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (_, Value::Null) => true,
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| holds(there.get(key).unwrap_or(&Value::Null), wanted))
        }
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len() && there.iter().zip(wanted).all(|(there, wanted)| holds(there, wanted))
        }
        (Value::Null, Value::Object(wanted)) => wanted.values().all(Value::is_null),
        _ => there == wanted,
    }
}

/// Creates an object that was not there. The API server lets one claim a name.
pub async fn claim(client: &Client, target: &Target, object: &DynamicObject) -> Result<Written> {
    let params = PostParams { field_manager: Some(labels::MANAGER.to_owned()), ..PostParams::default() };
    match api(client, target).create(&params, object).await {
        Ok(made) => applied(target, made),
        Err(error) => refused(target, error),
    }
}

/// Changes an object that was read before the rows were read: `resourceVersion` and `uid` are the precondition, so that a stale writer gets
/// `Conflict`. What others added to the spec and to reserved labels and annotations is removed.
pub async fn apply(client: &Client, live: &Live, object: &DynamicObject) -> Result<Written> {
    let target = &live.target;
    if let Some(why) = foreign(live, object.labels().get(target.kind.id_label())) {
        return Ok(Written::NotOurs(why));
    }
    if live.deleting {
        return Ok(Written::BeingDeleted);
    }
    let mut wanted = object.clone();
    wanted.metadata.resource_version = Some(live.resource_version.clone());
    wanted.metadata.uid = Some(live.uid.clone());
    wanted.metadata.managed_fields = None;
    let api = api(client, target);
    let replacing = PostParams { field_manager: Some(labels::MANAGER.to_owned()), ..PostParams::default() };
    if let Some(prepared) = prepared(live, object) {
        match api.replace(&target.name, &replacing, &prepared).await {
            Ok(after) => wanted.metadata.resource_version = after.metadata.resource_version,
            Err(error) => return refused(target, error),
        }
    }
    let params = PatchParams::apply(labels::MANAGER).force();
    let after = match api.patch(&target.name, &params, &Patch::Apply(&wanted)).await {
        Ok(after) => after,
        Err(error) => return refused(target, error),
    };
    let Some(stripped) = strip(&after, object) else { return applied(target, after) };
    match api.replace(&target.name, &replacing, &stripped).await {
        Ok(after) => applied(target, after),
        Err(error) => refused(target, error),
    }
}

/// Deletes this very object (by uid); a namesake that came later is left alone.
pub async fn delete(client: &Client, target: &Target, uid: &str) -> Result<Deleted> {
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    match api(client, target).delete(&target.name, &params).await {
        // The answer is the object while finalizers are at work, else a status.
        Ok(answer) => Ok(answer.either(|_| Deleted::Deleting, |_| Deleted::Gone)),
        // 409: the name is another object's now.
        Err(error) if is_gone(&error) || is_conflict(&error) => Ok(Deleted::Gone),
        Err(error) => Err(error).doing(format_args!("deleting {target}")),
    }
}

/// Why an object is not the manager's to write, if so.
fn foreign(live: &Live, entity: Option<&String>) -> Option<String> {
    if !live.managed {
        return Some(format!("{} was not made by kubeOP's manager", live.target));
    }
    if live.entity.as_ref() != entity || entity.is_none() {
        return Some(format!("{} belongs to another id ({})", live.target, live.entity.as_deref().unwrap_or("none")));
    }
    None
}

fn applied(target: &Target, object: DynamicObject) -> Result<Written> {
    let live = Live::new(target.kind, object)?;
    Ok(Written::Applied { uid: live.uid, resource_version: live.resource_version })
}

fn refused(target: &Target, error: kube::Error) -> Result<Written> {
    if let kube::Error::Api(status) = &error {
        let details = status.details.as_ref();
        let terminating = details.is_some_and(|d| d.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"));
        // 404 of a namespaced write names the namespace; of a cluster-scoped one the kind, which is not installed.
        let no_namespace = status.code == 404 && details.is_some_and(|d| d.kind == "namespaces");
        if terminating || no_namespace {
            return Ok(Written::NoNamespace);
        }
        if status.code == 409 {
            return Ok(Written::Conflict);
        }
    }
    Err(error).doing(format_args!("writing {target}"))
}

#[cfg(test)]
mod tests;
