//! Reading what a Certificate depends on: the issuer, its owner and the claims of its hosts.
//!
//! Invariant: stores only.

use crate::context::Context;
use kube::runtime::reflector::ObjectRef;
use kubeop_crds::conditions::reason;
use kubeop_crds::{Certificate, DnsRecord};
use kubeop_plan::certificate::Surroundings;
use kubeop_plan::{Refusal, Validated};

pub(super) fn dereference(certificate: &Certificate, ctx: &Context) -> Validated<Surroundings> {
    let providers = ctx.stores.configured_providers();
    let providers = providers.map_err(|error| Refusal::new(reason::PROVIDERS_UNREADABLE, error.message()))?;
    let spec = &certificate.spec;
    let records = std::iter::once(&spec.host)
        .chain(&spec.additional_hosts)
        .filter_map(|host| ctx.stores.records.get(&ObjectRef::new(host)))
        .map(|record| DnsRecord::clone(&record))
        .collect();
    Ok(Surroundings { issuer: providers.issuer, namespace: ctx.stores.home_of(&spec.owner), records })
}
