//! Whom a change of an object concerns.
//!
//! Invariant: reads stores only; a trigger too many costs a look, a missing one costs a resource that stays wrong, so doubt triggers.

use super::{Change, Told, Watch};
use crate::queues::Trigger;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ResourceQuota};
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};
use kubeop_crds::conditions::{READY, find, reason};
use kubeop_crds::{App, Certificate, DnsRecord, Owner, Project, Tenant, labels};
use kubeop_plan::project::status::quota_in_force;
use std::hash::{DefaultHasher, Hash, Hasher};

impl Watch {
    /// Whose an object is: the app's in its namespace, else the project's.
    pub(super) fn owner(&self, meta: &ObjectMeta) -> Option<Trigger> {
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
    pub(super) fn project_of(&self, namespace: &str) -> Option<String> {
        self.ctx.stores.projects.find(|project| project.spec.namespace == namespace).map(|project| project.name_any())
    }

    pub(super) fn tenant(&self, change: Change<'_, Tenant>) -> Told {
        let (tenant, before) = match &change {
            Change::Now(tenant, before) => (*tenant, *before),
            Change::Gone(tenant) => (*tenant, None),
        };
        let name = tenant.name_any();
        let print = print(&(tenant.metadata.generation, tenant.labels(), tenant.metadata.deletion_timestamp.is_some()));
        let mut now = vec![Trigger::Tenant(name.clone())];
        if before != Some(print) {
            now.extend(self.ctx.stores.projects_of(&name).iter().map(|project| Trigger::Project(project.name_any())));
        }
        Told { now, remember: Some(print), ..Told::default() }
    }

    pub(super) fn project(&self, change: Change<'_, Project>) -> Told {
        let mut told = Told::default();
        match change {
            Change::Now(project, before) => {
                told.now.push(Trigger::Project(project.name_any()));
                told.later.push(Trigger::Tenant(project.spec.tenant.clone()));
                let status = project.status.as_ref();
                let ready =
                    status.and_then(|s| find(&s.conditions, READY)).map(|c| (c.status.clone(), c.reason.clone()));
                let deleting = project.metadata.deletion_timestamp.is_some();
                let print = print(&(project.metadata.generation, project.labels(), ready, deleting));
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

    pub(super) fn app(&self, change: Change<'_, App>) -> Told {
        match change {
            Change::Now(app, _) => {
                Told { now: vec![Trigger::App(app.namespace().unwrap_or_default(), app.name_any())], ..Told::default() }
            }
            // A project that is being deleted waits for its apps.
            Change::Gone(app) => {
                let project = app.namespace().and_then(|namespace| self.project_of(&namespace));
                let mut now: Vec<Trigger> = project.map(Trigger::Project).into_iter().collect();
                now.extend(self.held_by(&app.uid().unwrap_or_default()));
                Told { now, ..Told::default() }
            }
        }
    }

    /// The hosts and certificates that an App holds.
    fn held_by(&self, app_uid: &str) -> Vec<Trigger> {
        let records = self.ctx.stores.records.state_filter(|record| record.spec.owner.app_uid == app_uid);
        let mut held: Vec<Trigger> = records.iter().map(|record| Trigger::Record(record.name_any())).collect();
        held.extend(self.certificates_of(app_uid));
        held
    }

    fn certificates_of(&self, app_uid: &str) -> Vec<Trigger> {
        let all = self.ctx.stores.certificates.state_filter(|one| one.spec.owner.app_uid == app_uid);
        all.iter().map(|one| Trigger::Certificate(one.name_any())).collect()
    }

    fn app_of(&self, owner: &Owner) -> Option<Trigger> {
        let project = self.ctx.stores.project(&owner.project)?;
        Some(Trigger::App(project.spec.namespace.clone(), owner.app.clone()))
    }

    /// Whose change concerns nobody but the owner.
    pub(super) fn nobody_else(_: &Self, _: &ObjectMeta) -> Vec<Trigger> {
        Vec::new()
    }

    /// The hosts that may lead to a Service or Ingress.
    pub(super) fn hosts_behind(&self, meta: &ObjectMeta) -> Vec<Trigger> {
        let Some(owner) = meta.annotations.as_ref().and_then(|all| all.get(labels::OWNER_UID)) else {
            return Vec::new();
        };
        let records = self.ctx.stores.records.state_filter(|record| record.spec.owner.app_uid == *owner);
        records.iter().map(|record| Trigger::Record(record.name_any())).collect()
    }

    pub(super) fn certificate(&self, change: Change<'_, Certificate>) -> Told {
        let (Change::Now(certificate, _) | Change::Gone(certificate)) = &change;
        let mut now: Vec<Trigger> = self.app_of(&certificate.spec.owner).into_iter().collect();
        if matches!(change, Change::Now(..)) {
            now.push(Trigger::Certificate(certificate.name_any()));
        }
        Told { now, ..Told::default() }
    }

    pub(super) fn record(&self, change: Change<'_, DnsRecord>) -> Told {
        let mut told = Told::default();
        let (Change::Now(record, _) | Change::Gone(record)) = &change;
        told.now.extend(self.app_of(&record.spec.owner));
        told.now.extend(self.certificates_of(&record.spec.owner.app_uid));
        if matches!(change, Change::Now(..)) {
            told.now.push(Trigger::Record(record.name_any()));
        } else {
            self.ctx.zone.look();
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

    pub(super) fn namespace(&self, change: Change<'_, Namespace>) -> Told {
        let (Change::Now(namespace, _) | Change::Gone(namespace)) = &change;
        let mut now: Vec<Trigger> = self.owner(namespace.meta()).into_iter().collect();
        let name = namespace.name_any();
        now.extend(self.ctx.stores.apps_in(&name).iter().map(|app| Trigger::App(name.clone(), app.name_any())));
        Told { now, ..Told::default() }
    }

    pub(super) fn quota(&self, change: Change<'_, ResourceQuota>) -> Told {
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

    pub(super) fn deployment(&self, change: Change<'_, Deployment>) -> Told {
        let (Change::Now(deployment, _) | Change::Gone(deployment)) = change;
        Told { now: self.owner(deployment.meta()).into_iter().collect(), ..Told::default() }
    }

    pub(super) fn providers(&self, change: Change<'_, ConfigMap>) -> Told {
        let (Change::Now(map, _) | Change::Gone(map)) = &change;
        let before = if let Change::Now(_, before) = &change { *before } else { None };
        let print = print(&map.data);
        if before == Some(print) {
            return Told { remember: Some(print), ..Told::default() };
        }
        let stores = &self.ctx.stores;
        let apps = stores.apps.state_filter(|app| !app.spec.host_texts().is_empty());
        let apps = apps.iter().map(|app| Trigger::App(app.namespace().unwrap_or_default(), app.name_any()));
        let records = stores.records.state();
        let certificates = stores.certificates.state();
        let now = apps
            .chain(records.iter().map(|record| Trigger::Record(record.name_any())))
            .chain(certificates.iter().map(|one| Trigger::Certificate(one.name_any())))
            .collect();
        Told { now, remember: Some(print), ..Told::default() }
    }

    pub(super) fn policy(&self, change: Change<'_, ConfigMap>) -> Told {
        let (Change::Now(map, _) | Change::Gone(map)) = &change;
        let before = if let Change::Now(_, before) = &change { *before } else { None };
        let print = print(&map.data);
        if before == Some(print) {
            return Told { remember: Some(print), ..Told::default() };
        }
        let stores = &self.ctx.stores;
        let mut now: Vec<Trigger> =
            stores.projects.state().iter().map(|project| Trigger::Project(project.name_any())).collect();
        now.extend(
            stores.apps.state().iter().map(|app| Trigger::App(app.namespace().unwrap_or_default(), app.name_any())),
        );
        Told { now, remember: Some(print), ..Told::default() }
    }
}

fn print<T: Hash>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
