//! Pages and filters of lists, and how a [`Scope`] enters a statement.
//!
//! Invariant: a page begins after a key, never at an offset, so that page 10,000 costs what page 1 costs; a filter never widens a scope.

use crate::column::Ts;
use jiff::Timestamp;
use kubeop_core::authz::{Reach, Scope};
use kubeop_core::id::{ClusterId, ProjectId, TenantId};
use uuid::Uuid;

/// A page of a list in order of (creation, id), newest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The creation time and id of the last row of the page before.
    pub after: Option<(Timestamp, Uuid)>,
    /// Rows at most.
    pub limit: u32,
}

impl Page {
    /// The first page.
    pub fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }

    /// The key to begin after; before every row on the first page.
    pub(crate) fn start(&self) -> (Ts, Uuid) {
        let (at, id) = self.after.unwrap_or((Timestamp::UNIX_EPOCH, Uuid::nil()));
        (Ts::from(at), id)
    }
}

/// The text of a page: `$anchor` are the equalities an index begins with, and nothing else is in the inner query, so that no planner
/// guesses that the limit will not be reached and reads everything. `$rest` restricts outside, so it must hold for all rows of the anchor or
/// for none (a project has one tenant, a tenant one cluster). Every text of a list has the same parameters.
macro_rules! page_sql {
    ($columns:expr, $table:literal, $key:literal, $anchor:expr, $limit:literal, $rest:expr) => {
        $crate::statements::sql!(concat!(
            "SELECT * FROM (SELECT ",
            $columns,
            " FROM ",
            $table,
            " WHERE ",
            $anchor,
            " AND (",
            $key,
            ") > ($1, $2) ORDER BY ",
            $key,
            " LIMIT ",
            $limit,
            ") AS page WHERE ",
            $rest,
            " ORDER BY ",
            $key
        ))
    };
}
pub(crate) use page_sql;

/// What a list is narrowed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter<'a> {
    /// Only of this cluster.
    pub cluster_id: Option<ClusterId>,
    /// Only of this tenant.
    pub tenant_id: Option<TenantId>,
    /// Only of this project.
    pub project_id: Option<ProjectId>,
    /// Only with this name.
    pub name: Option<&'a str>,
}

/// A filter within a scope, as it is bound: `None` is no restriction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound<'a> {
    pub(crate) cluster: Option<Uuid>,
    pub(crate) tenant: Option<Uuid>,
    pub(crate) project: Option<Uuid>,
    pub(crate) name: Option<&'a str>,
}

impl<'a> Filter<'a> {
    /// Both restrictions together; `None` when no row can satisfy them.
    pub(crate) fn within(&self, scope: Scope) -> Option<Bound<'a>> {
        let (tenant, project) = reach(scope);
        let both = |scope: Option<Uuid>, filter: Option<Uuid>| match (scope, filter) {
            (Some(scope), Some(filter)) if scope != filter => None,
            (scope, filter) => Some(scope.or(filter)),
        };
        Some(Bound {
            cluster: self.cluster_id.map(|id| id.0),
            tenant: both(tenant, self.tenant_id.map(|id| id.0))?,
            project: both(project, self.project_id.map(|id| id.0))?,
            name: self.name,
        })
    }
}

/// The tenant and the project a scope is confined to, for `(tenant_id = $n OR $n IS NULL)`.
pub(crate) fn reach(scope: Scope) -> (Option<Uuid>, Option<Uuid>) {
    match scope.reach() {
        Reach::All => (None, None),
        Reach::Tenant(tenant) => (Some(tenant.0), None),
        Reach::Project(project) => (None, Some(project.0)),
    }
}

/// A limit as it is bound.
pub(crate) fn limit(rows: u32) -> i64 {
    i64::from(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubeop_core::authz::{Action, Actor, Role, decide};

    fn scope(role: Role) -> Scope {
        decide(&Actor { subject: "s".into(), role, token_id: None }, Action::ReadApps).unwrap()
    }

    #[test]
    fn a_filter_never_widens_a_scope() {
        let (mine, other) = (TenantId(Uuid::from_u128(1)), TenantId(Uuid::from_u128(2)));
        let tenant = scope(Role::Tenant(mine));
        let ask = |tenant_id| Filter { tenant_id, ..Filter::default() };
        assert_eq!(ask(None).within(tenant).unwrap().tenant, Some(mine.0));
        assert_eq!(ask(Some(mine)).within(tenant).unwrap().tenant, Some(mine.0));
        assert!(ask(Some(other)).within(tenant).is_none());
        let project = ProjectId(Uuid::from_u128(3));
        let bound = ask(Some(other)).within(scope(Role::Project(project))).unwrap();
        assert_eq!((bound.tenant, bound.project), (Some(other.0), Some(project.0)));
    }
}
