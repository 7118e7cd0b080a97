//! A tenant's row → its Tenant resource.
//!
//! Invariant: a pure function of the row.

use super::Marks;
use kube::core::ObjectMeta;
use kubeop_crds::{Amount, Tenant, TenantSpec, labels};
use kubeop_store::tenant::Tenant as Row;

pub(super) fn render(row: &Row, marks: &Marks) -> Tenant {
    let quotas = row.quotas.iter().map(|(key, value)| (key.clone(), Amount::from(value.as_str()))).collect();
    let mut tenant = Tenant::new(row.name.as_str(), TenantSpec { quotas, ..TenantSpec::default() });
    tenant.metadata = ObjectMeta {
        name: Some(row.name.to_string()),
        labels: Some(marks.labels(
            &row.labels,
            [(labels::CLUSTER_ID, row.cluster_id.to_string()), (labels::TENANT_ID, row.id.to_string())],
        )),
        annotations: Some(marks.annotations()),
        ..ObjectMeta::default()
    };
    tenant
}
