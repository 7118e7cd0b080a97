//! `DNSRecords`: the claims of the App's hosts.
//!
//! Invariant: named as the host, so that the API server gives it to one App.

use super::{ValidApp, object_labels, owner};
use crate::app::ports::service_name;
use kube::core::ObjectMeta;
use kubeop_crds::dns_record::{DnsTarget, ServiceTarget};
use kubeop_crds::{DnsRecord, DnsRecordSpec};

pub(super) fn build(app: &ValidApp) -> Vec<DnsRecord> {
    let Ok(service) = service_name(&app.name) else { return Vec::new() };
    let target = ServiceTarget { namespace: app.namespace.clone(), name: service };
    let record = |host: &str| DnsRecord {
        metadata: ObjectMeta {
            name: Some(host.to_owned()),
            labels: Some(object_labels(app)),
            annotations: Some(app.owner.annotations()),
            ..ObjectMeta::default()
        },
        spec: DnsRecordSpec {
            host: host.to_owned(),
            owner: owner(app),
            target: DnsTarget { service: Some(target.clone()), ..DnsTarget::default() },
            ttl: None,
        },
        status: None,
    };
    app.hosts.iter().map(|host| record(host.as_str())).collect()
}
