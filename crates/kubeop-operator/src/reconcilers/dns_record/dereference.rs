//! Reading what a DNSRecord depends on: its owner, and the Ingress and Service it leads to.
//!
//! Invariant: Ingress and Service are read live, since no watch holds their content.

use crate::context::Context;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kube::Api;
use kubeop_cluster::error::Doing;
use kubeop_core::Result;
use kubeop_crds::DnsRecord;
use kubeop_plan::dns_record::{Found, Surroundings};

pub(super) async fn dereference(record: &DnsRecord, ctx: &Context) -> Result<Surroundings> {
    let owner = &record.spec.owner;
    let owner_lives = ctx.stores.home_of(owner).is_some();
    let mut found = Found::default();
    if let Some(target) = record.spec.target.service.as_ref().filter(|_| owner_lives) {
        // An App's Ingress is named as the App.
        let ingresses: Api<Ingress> = Api::namespaced(ctx.client.clone(), &target.namespace);
        found.ingress = ingresses.get_opt(&owner.app).await.doing("reading the Ingress of a host")?;
        let services: Api<Service> = Api::namespaced(ctx.client.clone(), &target.namespace);
        found.service = services.get_opt(&target.name).await.doing("reading the Service of a host")?;
    }
    Ok(Surroundings { owner_lives, found })
}
