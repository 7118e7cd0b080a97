//! The watches: they fill the stores, tell the ledger what stands, and trigger whom a change concerns.
//!
//! Invariant: each kind is watched once; of kinds whose content nobody reads only the metadata is fetched; managed fields are dropped at once.

mod concerns;

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
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use kubeop_core::name::{ACCESS_NAMESPACE, SYSTEM_NAMESPACE};
use kubeop_crds::{App, Certificate, DnsRecord, Project, Tenant, labels};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Apps of a page.
const PAGE: u32 = 50;

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
    let named = |name: &str| Config::default().fields(&format!("metadata.name={name}"));

    tasks.spawn(watch.clone().resources(Api::<Tenant>::all(client()), all.clone(), writers.tenants, Watch::tenant));
    tasks.spawn(watch.clone().resources(Api::<Project>::all(client()), all.clone(), writers.projects, Watch::project));
    // Objects of people, who may make each as large as a cluster stores any: a page of them must be read all the same.
    let few = all.clone().page_size(PAGE);
    tasks.spawn(watch.clone().resources(Api::<App>::all(client()), few, writers.apps, Watch::app));
    tasks.spawn(watch.clone().objects(Api::<DnsRecord>::all(client()), all.clone(), writers.records, Watch::record));
    let certificates = Api::<Certificate>::all(client());
    tasks.spawn(watch.clone().objects(certificates, all, writers.certificates, Watch::certificate));
    tasks.spawn(watch.clone().objects(
        Api::<Namespace>::all(client()),
        of_projects.clone(),
        writers.namespaces,
        Watch::namespace,
    ));
    tasks.spawn(watch.clone().objects(
        Api::<ResourceQuota>::all(client()),
        of_projects.clone(),
        writers.quotas,
        Watch::quota,
    ));
    tasks.spawn(watch.clone().objects(
        Api::<Deployment>::all(client()),
        of_apps.clone(),
        writers.deployments,
        Watch::deployment,
    ));
    let maps = Api::<ConfigMap>::namespaced(client(), SYSTEM_NAMESPACE);
    let (policy, providers) = (named(kubeop_plan::policy::NAME), named(kubeop_plan::providers::NAME));
    tasks.spawn(watch.clone().resources(maps.clone(), policy, writers.policy, Watch::policy));
    tasks.spawn(watch.clone().resources(maps, providers, writers.providers, Watch::providers));

    let ranges = Api::<PartialObjectMeta<LimitRange>>::all(client());
    tasks.spawn(watch.clone().metadata(ranges, of_projects.clone(), Watch::nobody_else));
    let fences = Api::<PartialObjectMeta<NetworkPolicy>>::all(client());
    tasks.spawn(watch.clone().metadata(fences, of_projects.clone(), Watch::nobody_else));
    let bindings = Api::<PartialObjectMeta<RoleBinding>>::all(client());
    tasks.spawn(watch.clone().metadata(bindings, of_projects.clone(), Watch::nobody_else));
    let accounts = Api::<PartialObjectMeta<ServiceAccount>>::namespaced(client(), ACCESS_NAMESPACE);
    tasks.spawn(watch.clone().metadata(accounts, of_projects, Watch::nobody_else));
    let services = Api::<PartialObjectMeta<Service>>::all(client());
    tasks.spawn(watch.clone().metadata(services, of_apps.clone(), Watch::hosts_behind));
    let ingresses = Api::<PartialObjectMeta<Ingress>>::all(client());
    tasks.spawn(watch.metadata(ingresses, of_apps, Watch::hosts_behind));
    tasks
}

/// A change of one object, to be told to those concerned.
pub(super) enum Change<'a, K> {
    /// It is there, in this state; what was remembered of its last state.
    Now(&'a K, Option<u64>),
    /// It is gone.
    Gone(&'a K),
}

impl<K> Clone for Change<'_, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Change<'_, K> {}

/// The triggers of a change, and what is to be remembered of the object.
#[derive(Default)]
struct Told {
    now: Vec<Trigger>,
    later: Vec<Trigger>,
    remember: Option<u64>,
}

impl Watch {
    /// Follows a kind that is read, without the ledger.
    async fn resources<K>(
        self,
        api: Api<K>,
        config: Config,
        writer: Writer<K>,
        concerns: fn(&Self, Change<'_, K>) -> Told,
    ) where
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
                Ok(Event::Init) => prints.clear(),
                // After a gap some may be gone unseen: everything is looked at once. Before the first list the queues are closed.
                Ok(Event::InitDone) => self.queues.open_again(&self.ctx).await,
                Err(error) => tracing::warn!(%kind, %error, "watch broke; it is set up again"),
            }
        }
    }

    /// Follows a kind that we make and read.
    async fn objects<K>(
        self,
        api: Api<K>,
        config: Config,
        writer: Writer<K>,
        concerns: fn(&Self, Change<'_, K>) -> Told,
    ) where
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

    /// Follows a kind that we make and whose content no watch reads: its metadata only. `others` are concerned besides the owner, by every change.
    async fn metadata<K>(
        self,
        api: Api<PartialObjectMeta<K>>,
        config: Config,
        others: fn(&Self, &ObjectMeta) -> Vec<Trigger>,
    ) where
        K: Tracked + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let mut listed = Listed::default();
        let mut events = watcher(api, config).backoff(Patience(Patience::FIRST)).boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => listed.begin(),
                Ok(Event::Apply(object) | Event::InitApply(object)) => {
                    listed.note(&object.metadata);
                    let mut now = others(&self, &object.metadata);
                    if self.ctx.ledger.seen::<K>(&object.metadata, metadata_state(&object.metadata)) {
                        now.extend(self.owner(&object.metadata));
                    }
                    self.tell(Told { now, ..Told::default() }).await;
                }
                Ok(Event::Delete(object)) => {
                    self.ctx.ledger.gone::<K>(&object.metadata);
                    let mut now = others(&self, &object.metadata);
                    now.extend(self.owner(&object.metadata));
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
            // Without the object only its place tells whose it was, or, of a claim, who has the host in its status.
            let mut now: Vec<Trigger> = self.project_of(place).into_iter().map(Trigger::Project).collect();
            let concerned = self.ctx.stores.apps.state_filter(|app| {
                let here = app.metadata.namespace.as_deref() == Some(place);
                here || (namespace.is_none() && app.status.as_ref().is_some_and(|status| status.hosts.contains(&name)))
            });
            now.extend(concerned.iter().map(|app| Trigger::App(app.namespace().unwrap_or_default(), app.name_any())));
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
