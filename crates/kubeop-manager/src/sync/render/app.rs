//! An app's row → its App resource.
//!
//! Invariant: a pure function of the rows.

use super::Marks;
use kube::core::ObjectMeta;
use kubeop_core::Result;
use kubeop_crds::{App, AppSpec, labels};
use kubeop_store::app::App as Row;
use kubeop_store::project::Project as ProjectRow;

pub(super) fn render(project: &ProjectRow, row: &Row, marks: &Marks) -> Result<App> {
    let mut app = App::new(row.name.as_str(), AppSpec::parse_strict(&row.spec)?);
    app.metadata = ObjectMeta {
        name: Some(row.name.to_string()),
        namespace: Some(project.namespace.to_string()),
        labels: Some(marks.labels(
            &row.labels,
            [
                (labels::CLUSTER_ID, row.cluster_id.to_string()),
                (labels::TENANT_ID, row.tenant_id.to_string()),
                (labels::PROJECT_ID, row.project_id.to_string()),
                (labels::APP_ID, row.id.to_string()),
            ],
        )),
        annotations: Some(marks.annotations()),
        ..ObjectMeta::default()
    };
    Ok(app)
}
