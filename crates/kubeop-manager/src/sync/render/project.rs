//! A project's row → its Project resource.
//!
//! Invariant: a pure function of the rows; the quotas are what was granted, never what was asked.

use super::Marks;
use kube::core::ObjectMeta;
use kubeop_core::name::project_resource_name;
use kubeop_core::{Error, Result};
use kubeop_crds::{Amount, PodSecurity, Project, ProjectSpec, labels};
use kubeop_store::project::Project as Row;
use kubeop_store::tenant::Tenant as TenantRow;

pub(super) fn render(tenant: &TenantRow, row: &Row, marks: &Marks) -> Result<Project> {
    let pod_security = match row.pod_security.as_str() {
        "baseline" => PodSecurity::Baseline,
        "restricted" => PodSecurity::Restricted,
        other => return Err(Error::internal(format!("unknown Pod Security level {other:?}"))),
    };
    let spec = ProjectSpec {
        tenant: tenant.name.to_string(),
        namespace: row.namespace.to_string(),
        quotas: row.granted.iter().map(|(key, value)| (key.clone(), Amount::from(value.as_str()))).collect(),
        pod_security: Some(pod_security),
        suspended: false,
    };
    let name = project_resource_name(&tenant.name, &row.name);
    let mut project = Project::new(&name, spec);
    project.metadata = ObjectMeta {
        name: Some(name),
        labels: Some(marks.labels(
            &row.labels,
            [
                (labels::CLUSTER_ID, row.cluster_id.to_string()),
                (labels::TENANT_ID, row.tenant_id.to_string()),
                (labels::PROJECT_ID, row.id.to_string()),
            ],
        )),
        annotations: Some(marks.annotations()),
        ..ObjectMeta::default()
    };
    Ok(project)
}
