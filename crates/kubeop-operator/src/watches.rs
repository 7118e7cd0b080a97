//! The watches: they fill the stores, tell the ledger what stands, and trigger whom a change concerns.
//!
//! Invariant: each kind is watched once; of kinds whose content nobody reads only the metadata is fetched; managed fields are dropped at once.

use crate::context::Context;
use crate::ledger::{Tracked, metadata_state};
use crate::queues::{Queues, Trigger};
use crate::stores::Writers;
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, LimitRange, Namespace, ResourceQuota, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::ObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{Config, Event};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use kubeop_core::name::{ACCESS_NAMESPACE, SYSTEM_NAMESPACE};
use kubeop_crds::conditions::{READY, find, reason};
use kubeop_crds::{App, DnsRecord, Project, Tenant, labels};
use kubeop_plan::project::status::quota_in_force;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Everything a watch needs.
#[derive(Clone)]
struct Watch {
    ctx: Arc<Context>,
    queues: Queues,
}

/// Starts every watch; they end when the set is dropped.
pub(crate) fn start(ctx: &Arc<Context>, queues: &Queues, writers: Writers) -> JoinSet<()> {
    let watch = Watch { ctx: ctx.clone(), queues: queues.clone() };
    let client = || ctx.client.clone();
    let mut tasks = JoinSet::new();
    let all = Config::default();
    let of_projects = Config::default().labels(labels::PROJECT_ID);
    let of_apps = Config::default().labels(labels::APP_ID);
    let policy = Config::default().fields(&format!("metadata.name={}", kubeop_plan::policy::NAME));

    tasks.spawn(watch.clone().resources(Api::<Tenant>::all(client()), all.clone(), writers.tenants, Watch::tenant));
    tasks.spawn(watch.clone().resources(Api::<Project>::all(client()), all.clone(), writers.projects, Watch::project));
    tasks.spawn(watch.clone().resources(Api::<App>::all(client()), all.clone(), writers.apps, Watch::app));
    tasks.spawn(watch.clone().objects(Api::<DnsRecord>::all(client()), all, writers.records, Watch::record));
    tasks.spawn(watch.clone().objects(Api::<Namespace>::all(client()), of_projects.clone(), writers.namespaces, Watch::namespace));
    tasks.spawn(watch.clone().objects(Api::<ResourceQuota>::all(client()), of_projects.clone(), writers.quotas, Watch::quota));
    tasks.spawn(watch.clone().objects(Api::<Deployment>::all(client()), of_apps.clone(), writers.deployments, Watch::deployment));
    let maps = Api::<ConfigMap>::namespaced(client(), SYSTEM_NAMESPACE);
    tasks.spawn(watch.clone().resources(maps, policy, writers.policy, Watch::policy));

    tasks.spawn(watch.clone().metadata(Api::<PartialObjectMeta<LimitRange>>::all(client()), of_projects.clone()));
    tasks.spawn(watch.clone().metadata(Api::<PartialObjectMeta<NetworkPolicy>>::all(client()), of_projects.clone()));
    tasks.spawn(watch.clone().metadata(Api::<PartialObjectMeta<RoleBinding>>::all(client()), of_projects.clone()));
    tasks.spawn(watch.clone().metadata(Api::<PartialObjectMeta<ServiceAccount>>::namespaced(client(), ACCESS_NAMESPACE), of_projects));
    tasks.spawn(watch.clone().metadata(Api::<PartialObjectMeta<Service>>::all(client()), of_apps.clone()));
    tasks.spawn(watch.metadata(Api::<PartialObjectMeta<Ingress>>::all(client()), of_apps));
    tasks
}

/// A change of one object, to be told to those concerned.
enum Change<'a, K> {
    /// It is there, in this state; what was remembered of its last state.
    Now(&'a K, Option<u64>),
    /// It is gone.
    Gone(&'a K),
}

/// The triggers of a change, and what is to be remembered of the object.
#[derive(Default)]
struct Told {
    now: Vec<Trigger>,
    later: Vec<Trigger>,
    remember: Option<u64>,
}

impl Watch {
    /// Follows a kind that is read, without the ledger.
    async fn resources<K>(self, api: Api<K>, config: Config, writer: Writer<K>, concerns: fn(&Self, Change<'_, K>) -> Told)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let kind = K::kind(&()).into_owned();
        let mut prints: HashMap<String, u64> = HashMap::new();
        let mut events = watcher(api, config)
            .backoff(Patience(Patience::FIRST))
            .modify(|object| object.managed_fields_mut().clear())
            .reflect(writer)
            .boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(object) | Event::InitApply(object)) => {
                    let uid = object.uid().unwrap_or_default();
                    let told = concerns(&self, Change::Now(&object, prints.get(&uid).copied()));
                    if let Some(print) = told.remember {
                        prints.insert(uid, print);
                    }
                    self.tell(told).await;
                }
                Ok(Event::Delete(object)) => {
                    prints.remove(&object.uid().unwrap_or_default());
                    let told = concerns(&self, Change::Gone(&object));
                    self.tell(told).await;
                }
                Ok(Event::Init | Event::InitDone) => {}
                Err(error) => tracing::warn!(%kind, %error, "watch broke; it is set up again"),
            }
        }
    }

    /// Follows a kind that we make and read.
    async fn objects<K>(self, api: Api<K>, config: Config, writer: Writer<K>, concerns: fn(&Self, Change<'_, K>) -> Told)
    where
        K: Tracked + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static,
    {
        let mut listed = Listed::default();
        let mut events = watcher(api, config)
            .backoff(Patience(Patience::FIRST))
            .modify(|object| object.managed_fields_mut().clear())
            .reflect(writer)
            .boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.begin(),
                Ok(Event::Apply(object) | Event::InitApply(object)) => {
                    listed.note(object.meta());
                    let dirty = self.ctx.ledger.seen::<K>(object.meta(), self.ctx.ledger.state(&object));
                    let mut told = concerns(&self, Change::Now(&object, None));
                    if dirty {
                        told.now.extend(self.owner(object.meta()));
                    }
                    self.tell(told).await;
                }
                Ok(Event::Delete(object)) => {
                    self.ctx.ledger.gone::<K>(object.meta());
                    let mut told = concerns(&self, Change::Gone(&object));
                    told.now.extend(self.owner(object.meta()));
                    self.tell(told).await;
                }
                Ok(Event::InitDone) => self.relisted::<K>(&mut listed).await,
                Err(error) => tracing::warn!(kind = K::KIND, %error, "watch broke; it is set up again"),
            }
        }
    }

    /// Follows a kind that we make and never read: its metadata only.
    async fn metadata<K>(self, api: Api<PartialObjectMeta<K>>, config: Config)
    where
        K: Tracked + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let mut listed = Listed::default();
        let mut events = watcher(api, config).backoff(Patience(Patience::FIRST)).boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.begin(),
                Ok(Event::Apply(object) | Event::InitApply(object)) => {
                    listed.note(&object.metadata);
                    if self.ctx.ledger.seen::<K>(&object.metadata, metadata_state(&object.metadata)) {
                        let now = self.owner(&object.metadata).into_iter().collect();
                        self.tell(Told { now, ..Told::default() }).await;
                    }
                }
                Ok(Event::Delete(object)) => {
                    self.ctx.ledger.gone::<K>(&object.metadata);
                    let now = self.owner(&object.metadata).into_iter().collect();
                    self.tell(Told { now, ..Told::default() }).await;
                }
                Ok(Event::InitDone) => self.relisted::<K>(&mut listed).await,
                Err(error) => tracing::warn!(kind = K::KIND, %error, "watch broke; it is set up again"),
            }
        }
    }

    /// After a list: what was lost during the gap concerns its owners.
    async fn relisted<K: Tracked>(&self, listed: &mut Listed) {
        for (namespace, name) in self.ctx.ledger.keep::<K>(&listed.take()) {
            let place = namespace.as_deref().unwrap_or(&name);
            // Without the object only its place tells whose it was.
            let mut now: Vec<Trigger> = self.project_of(place).into_iter().map(Trigger::Project).collect();
            now.extend(self.ctx.stores.apps_in(place).iter().map(|app| Trigger::App(place.to_owned(), app.name_any())));
            self.tell(Told { now, ..Told::default() }).await;
        }
    }

    async fn tell(&self, told: Told) {
        for trigger in told.now {
            self.queues.now(trigger).await;
        }
        for trigger in told.later {
            self.queues.later(trigger);
        }
    }

    /// Whose an object is: the app's in its namespace, else the project's.
    fn owner(&self, meta: &ObjectMeta) -> Option<Trigger> {
        let label = |key: &str| meta.labels.as_ref().and_then(|all| all.get(key)).cloned();
        let annotation = |key: &str| meta.annotations.as_ref().and_then(|all| all.get(key)).cloned();
        if label(labels::APP_ID).is_some() {
            let app = annotation(labels::OWNER).or_else(|| label(labels::APP)).or_else(|| meta.name.clone())?;
            return Some(Trigger::App(meta.namespace.clone()?, app));
        }
        let by_labels = || Some(format!("{}.{}", label(labels::TENANT)?, label(labels::PROJECT)?));
        annotation(labels::OWNER)
            .or_else(by_labels)
            .or_else(|| self.project_of(meta.namespace.as_deref().or(meta.name.as_deref())?))
            .map(Trigger::Project)
    }

    /// The project of a namespace.
    fn project_of(&self, namespace: &str) -> Option<String> {
        self.ctx.stores.projects.find(|project| project.spec.namespace == namespace).map(|project| project.name_any())
    }

    fn print<T: Hash>(&self, value: &T) -> u64 {
        use std::hash::{DefaultHasher, Hasher};
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        hasher.finish()
    }

    fn tenant(&self, change: Change<'_, Tenant>) -> Told {
        let (tenant, before) = match &change {
            Change::Now(tenant, before) => (*tenant, *before),
            Change::Gone(tenant) => (*tenant, None),
        };
        let name = tenant.name_any();
        let print = self.print(&(tenant.metadata.generation, tenant.labels(), tenant.metadata.deletion_timestamp.is_some()));
        let mut now = vec![Trigger::Tenant(name.clone())];
        if before != Some(print) {
            now.extend(self.ctx.stores.projects_of(&name).iter().map(|project| Trigger::Project(project.name_any())));
        }
        Told { now, remember: Some(print), ..Told::default() }
    }

    fn project(&self, change: Change<'_, Project>) -> Told {
        let mut told = Told::default();
        match change {
            Change::Now(project, before) => {
                told.now.push(Trigger::Project(project.name_any()));
                told.later.push(Trigger::Tenant(project.spec.tenant.clone()));
                let status = project.status.as_ref();
                let ready = status.and_then(|s| find(&s.conditions, READY)).map(|c| (c.status.clone(), c.reason.clone()));
                let deleting = project.metadata.deletion_timestamp.is_some();
                let print = self.print(&(project.metadata.generation, project.labels(), ready, deleting));
                if before != Some(print) {
                    told.now.extend(self.apps_of(project));
                }
                told.remember = Some(print);
            }
            Change::Gone(project) => {
                self.ctx.grants.forget(&project.spec.tenant, &project.name_any());
                told.now.push(Trigger::Tenant(project.spec.tenant.clone()));
                // What it held is free for those that were refused.
                for other in self.ctx.stores.projects_of(&project.spec.tenant) {
                    let ready = other.status.as_ref().and_then(|s| find(&s.conditions, READY));
                    if ready.is_none_or(|ready| ready.status != "True") {
                        told.now.push(Trigger::Project(other.name_any()));
                    }
                }
            }
        }
        told
    }

    fn apps_of(&self, project: &Project) -> Vec<Trigger> {
        let namespace = &project.spec.namespace;
        self.ctx.stores.apps_in(namespace).iter().map(|app| Trigger::App(namespace.clone(), app.name_any())).collect()
    }

    fn app(&self, change: Change<'_, App>) -> Told {
        match change {
            Change::Now(app, _) => {
                Told { now: vec![Trigger::App(app.namespace().unwrap_or_default(), app.name_any())], ..Told::default() }
            }
            // A project that is being deleted waits for its apps.
            Change::Gone(app) => {
                let project = app.namespace().and_then(|namespace| self.project_of(&namespace));
                Told { now: project.map(Trigger::Project).into_iter().collect(), ..Told::default() }
            }
        }
    }

    fn record(&self, change: Change<'_, DnsRecord>) -> Told {
        let mut told = Told::default();
        let (Change::Now(record, _) | Change::Gone(record)) = &change;
        let owner = &record.spec.owner;
        if let Some(project) = self.ctx.stores.project(&owner.project) {
            told.now.push(Trigger::App(project.spec.namespace.clone(), owner.app.clone()));
        }
        if matches!(change, Change::Gone(_)) {
            // The host is free for whoever was told that it is taken.
            for app in self.ctx.stores.apps.state() {
                let ready = app.status.as_ref().and_then(|s| find(&s.conditions, READY));
                if ready.is_some_and(|ready| ready.reason == reason::HOST_TAKEN) {
                    told.now.push(Trigger::App(app.namespace().unwrap_or_default(), app.name_any()));
                }
            }
        }
        told
    }

    fn namespace(&self, change: Change<'_, Namespace>) -> Told {
        let (Change::Now(namespace, _) | Change::Gone(namespace)) = &change;
        let mut now: Vec<Trigger> = self.owner(namespace.meta()).into_iter().collect();
        let name = namespace.name_any();
        now.extend(self.ctx.stores.apps_in(&name).iter().map(|app| Trigger::App(name.clone(), app.name_any())));
        Told { now, ..Told::default() }
    }

    fn quota(&self, change: Change<'_, ResourceQuota>) -> Told {
        let mut told = Told::default();
        let Change::Now(quota, _) = change else { return told };
        let Some(Trigger::Project(name)) = self.owner(quota.meta()) else { return told };
        let ready = self.ctx.stores.project(&name).is_some_and(|project| {
            let ready = project.status.as_ref().and_then(|s| find(&s.conditions, READY));
            ready.is_some_and(|ready| ready.status == "True")
        });
        // Who waits for the quota is told at once; figures of use may come together.
        if ready && quota_in_force(quota) {
            told.later.push(Trigger::Project(name));
        } else {
            told.now.push(Trigger::Project(name));
        }
        told
    }

    fn deployment(&self, change: Change<'_, Deployment>) -> Told {
        let (Change::Now(deployment, _) | Change::Gone(deployment)) = change;
        Told { now: self.owner(deployment.meta()).into_iter().collect(), ..Told::default() }
    }

    fn policy(&self, change: Change<'_, ConfigMap>) -> Told {
        let (Change::Now(map, _) | Change::Gone(map)) = &change;
        let before = if let Change::Now(_, before) = &change { *before } else { None };
        let print = self.print(&map.data);
        if before == Some(print) {
            return Told { remember: Some(print), ..Told::default() };
        }
        let stores = &self.ctx.stores;
        let mut now: Vec<Trigger> = stores.projects.state().iter().map(|project| Trigger::Project(project.name_any())).collect();
        now.extend(stores.apps.state().iter().map(|app| Trigger::App(app.namespace().unwrap_or_default(), app.name_any())));
        Told { now, remember: Some(print), ..Told::default() }
    }
}

/// What a list has shown so far.
#[derive(Default)]
struct Listed(Option<HashSet<(Option<String>, String)>>);

impl Listed {
    fn begin(&mut self) {
        self.0 = Some(HashSet::new());
    }

    fn note(&mut self, meta: &ObjectMeta) {
        if let (Some(listed), Some(name)) = (&mut self.0, &meta.name) {
            listed.insert((meta.namespace.clone(), name.clone()));
        }
    }

    fn take(&mut self) -> HashSet<(Option<String>, String)> {
        self.0.take().unwrap_or_default()
    }
}

/// Pauses between tries to set up a watch: 200 ms, doubling, up to 10 s.
struct Patience(Duration);

impl Patience {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(10);
}

impl Iterator for Patience {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = (pause * 2).min(Self::LONGEST);
        Some(pause)
    }
}

impl Backoff for Patience {
    fn reset(&mut self) {
        self.0 = Self::FIRST;
    }
}
