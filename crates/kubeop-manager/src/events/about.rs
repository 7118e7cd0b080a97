//! Where an object stands: what receivers sort events by.
//!
//! Invariant: ids and names alone.

use kubeop_core::id::{ClusterId, ProjectId};
use kubeop_store::app::App;
use kubeop_store::cluster::Cluster;
use kubeop_store::project::Project;
use kubeop_store::tenant::Tenant;

/// Where an object stands.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Its name.
    pub name: Option<String>,
    /// Its cluster.
    pub cluster: Option<ClusterId>,
    /// Its project.
    pub project: Option<ProjectId>,
}

impl About {
    /// A project's, of something that has no name.
    pub fn project(project: Option<ProjectId>) -> Self {
        Self { project, ..Self::default() }
    }
}

/// A cluster's.
pub fn of_cluster(row: &Cluster) -> About {
    About { name: Some(row.name.to_string()), cluster: Some(row.id), project: None }
}

/// A tenant's.
pub fn of_tenant(row: &Tenant) -> About {
    About { name: Some(row.name.to_string()), cluster: Some(row.cluster_id), project: None }
}

/// A project's.
pub fn of_project(row: &Project) -> About {
    About { name: Some(row.name.to_string()), cluster: Some(row.cluster_id), project: Some(row.id) }
}

/// An app's.
pub fn of_app(row: &App) -> About {
    About { name: Some(row.name.to_string()), cluster: Some(row.cluster_id), project: Some(row.project_id) }
}
