//! Which resources are to be reconciled, and when: at once, or a little later where many changes come together.
//!
//! Invariant: bounded; a later trigger of a resource that already waits is the same trigger. Before `open`, nothing is queued, since everything
//! is reconciled once then.

use crate::context::Context;
use futures::Stream;
use kube::runtime::reflector::ObjectRef;
use kubeop_crds::{App, Certificate, DnsRecord, Project, Tenant};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// What to reconcile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Trigger {
    /// A tenant, by name.
    Tenant(String),
    /// A project, by the name of its resource.
    Project(String),
    /// An app, by namespace and name.
    App(String, String),
    /// A DNSRecord, by name.
    Record(String),
    /// A Certificate, by name.
    Certificate(String),
}

/// How long changes are collected that only move figures.
const LATER: Duration = Duration::from_secs(1);
/// Triggers that may wait for their controller, which takes them in at once.
const QUEUE: usize = 1024;

/// The sending side.
#[derive(Clone)]
pub(crate) struct Queues {
    tenants: mpsc::Sender<ObjectRef<Tenant>>,
    projects: mpsc::Sender<ObjectRef<Project>>,
    apps: mpsc::Sender<ObjectRef<App>>,
    records: mpsc::Sender<ObjectRef<DnsRecord>>,
    certificates: mpsc::Sender<ObjectRef<Certificate>>,
    waiting: Arc<Mutex<HashSet<Trigger>>>,
    open: Arc<AtomicBool>,
}

/// The receiving side.
pub(crate) struct Receivers {
    pub(crate) tenants: mpsc::Receiver<ObjectRef<Tenant>>,
    pub(crate) projects: mpsc::Receiver<ObjectRef<Project>>,
    pub(crate) apps: mpsc::Receiver<ObjectRef<App>>,
    pub(crate) records: mpsc::Receiver<ObjectRef<DnsRecord>>,
    pub(crate) certificates: mpsc::Receiver<ObjectRef<Certificate>>,
}

/// Both sides.
pub(crate) fn queues() -> (Queues, Receivers) {
    let (tenants, r_tenants) = mpsc::channel(QUEUE);
    let (projects, r_projects) = mpsc::channel(QUEUE);
    let (apps, r_apps) = mpsc::channel(QUEUE);
    let (records, r_records) = mpsc::channel(QUEUE);
    let (certificates, r_certificates) = mpsc::channel(QUEUE);
    let (waiting, open) = (Arc::default(), Arc::default());
    let queues = Queues { tenants, projects, apps, records, certificates, waiting, open };
    let receivers = Receivers {
        tenants: r_tenants,
        projects: r_projects,
        apps: r_apps,
        records: r_records,
        certificates: r_certificates,
    };
    (queues, receivers)
}

/// A receiver as the stream that a controller takes.
pub(crate) fn stream<T: Send + 'static>(mut receiver: mpsc::Receiver<T>) -> impl Stream<Item = T> + Send {
    futures::stream::poll_fn(move |cx| receiver.poll_recv(cx))
}

impl Queues {
    /// Lets triggers through, and queues everything there is.
    pub(crate) async fn open(&self, ctx: &Context) {
        self.open.store(true, Ordering::SeqCst);
        self.open_again(ctx).await;
    }

    /// Queues everything there is, unless nothing was opened yet.
    pub(crate) async fn open_again(&self, ctx: &Context) {
        if !self.open.load(Ordering::SeqCst) {
            return;
        }
        ctx.grants.keep(|project| ctx.stores.project(project).is_some());
        for tenant in ctx.stores.tenants.state() {
            self.now(Trigger::Tenant(name(&tenant.metadata))).await;
        }
        for project in ctx.stores.projects.state() {
            self.now(Trigger::Project(name(&project.metadata))).await;
        }
        for app in ctx.stores.apps.state() {
            self.now(Trigger::App(app.metadata.namespace.clone().unwrap_or_default(), name(&app.metadata))).await;
        }
        for record in ctx.stores.records.state() {
            self.now(Trigger::Record(name(&record.metadata))).await;
        }
        for certificate in ctx.stores.certificates.state() {
            self.now(Trigger::Certificate(name(&certificate.metadata))).await;
        }
    }

    /// Queues at once.
    pub(crate) async fn now(&self, trigger: Trigger) {
        if !self.open.load(Ordering::SeqCst) {
            return;
        }
        // A closed queue means that the term of leadership is over.
        match trigger {
            Trigger::Tenant(name) => drop(self.tenants.send(ObjectRef::new(&name)).await),
            Trigger::Project(name) => drop(self.projects.send(ObjectRef::new(&name)).await),
            Trigger::Record(name) => drop(self.records.send(ObjectRef::new(&name)).await),
            Trigger::Certificate(name) => drop(self.certificates.send(ObjectRef::new(&name)).await),
            Trigger::App(namespace, name) => drop(self.apps.send(ObjectRef::new(&name).within(&namespace)).await),
        }
    }

    /// Queues in a moment, together with what else comes until then.
    pub(crate) fn later(&self, trigger: Trigger) {
        if !self.open.load(Ordering::SeqCst) {
            return;
        }
        let first = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(trigger.clone());
        if !first {
            return;
        }
        let queues = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LATER).await;
            queues.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&trigger);
            queues.now(trigger).await;
        });
    }
}

fn name(meta: &kube::api::ObjectMeta) -> String {
    meta.name.clone().unwrap_or_default()
}
