//! Deleting an App: what answers first, the hosts last.
//!
//! Invariant: a host is released only when nothing of the App answers under it any more.

use super::apply::{certificates_of, hosts_held};
use super::report;
use crate::context::Context;
use crate::finalizer;
use crate::objects::{Served, remove};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use kubeop_core::Result;
use kubeop_core::name::Label;
use kubeop_crds::{App, Certificate, DnsRecord};
use kubeop_plan::app::Progress;
use kubeop_plan::app::ports::service_name;
use kubeop_plan::identity::OwnedBy;
use std::time::Duration;

pub(super) async fn delete(app: &App, api: &Api<App>, ctx: &Context) -> Result<Action> {
    if !finalizer::is_set(app) {
        return Ok(Action::await_change());
    }
    let (Ok(owner), Some(namespace)) = (OwnedBy::of(&app.metadata), app.namespace()) else {
        return Ok(Action::await_change());
    };
    // In a namespace that is going away everything goes with it, and our rights may be gone already.
    let leaving = ctx.stores.namespace(&namespace).is_none_or(|found| found.metadata.deletion_timestamp.is_some());
    if !leaving {
        let name = app.name_any();
        let service =
            Label::parse(&name).ok().and_then(|label| service_name(&label).ok()).unwrap_or_else(|| name.clone());
        let gone = take::<Ingress>(ctx, &owner, &namespace, &name).await?
            & take::<Service>(ctx, &owner, &namespace, &service).await?
            & take::<Deployment>(ctx, &owner, &namespace, &name).await?;
        if !gone {
            let progress = Progress::Deleting("workloads are being removed".to_owned());
            report(app, api, ctx, &progress).await?;
            return Ok(Action::requeue(Duration::from_secs(1)));
        }
    }
    for name in certificates_of(ctx, &owner.uid) {
        remove::<Certificate>(ctx, &owner, None, &name).await?;
    }
    for host in hosts_held(ctx, &owner.uid) {
        remove::<DnsRecord>(ctx, &owner, None, &host).await?;
    }
    finalizer::remove(ctx, api, app).await?;
    Ok(Action::await_change())
}

/// Removes one object; whether it is gone.
async fn take<K: Served>(ctx: &Context, owner: &OwnedBy, namespace: &str, name: &str) -> Result<bool> {
    remove::<K>(ctx, owner, Some(namespace), name).await
}
