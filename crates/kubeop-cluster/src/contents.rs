//! What others have put into a namespace of ours, or made of a kind of ours.
//!
//! Invariant: unknown means held: a namespace of which something cannot be listed is not known to be empty.

use crate::error::{Doing, is_gone};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, PartialObjectMeta};
use kube::{Api, Client, ResourceExt};
use kubeop_core::Result;
use kubeop_crds::labels;
use kubeop_plan::install::names;

/// What Kubernetes makes of other objects, or for a while: resources by group.
const DERIVED: [(&str, &str); 4] =
    [("", "events"), ("events.k8s.io", "events"), ("", "endpoints"), ("discovery.k8s.io", "endpointslices")];
/// What every namespace has, and what our operator holds while it leads.
const EXPECTED: [(&str, &str, &str); 3] = [
    ("", "configmaps", "kube-root-ca.crt"),
    ("", "serviceaccounts", "default"),
    ("coordination.k8s.io", "leases", names::OPERATOR_LEASE),
];
/// A group of views on what is elsewhere, whose server may be the one that was just removed.
const VIEWS: &str = "metrics.k8s.io";

/// Who makes objects of kubeOP's, as a set of a label selector.
pub(crate) fn ours() -> String {
    [labels::INSTALLER, labels::MANAGER, labels::OPERATOR].join(",")
}

/// Whether the namespace holds what neither kubeOP nor Kubernetes itself put there.
pub(crate) async fn holds_others(client: &Client, namespace: &str) -> Result<bool> {
    let others = ListParams::default().labels(&format!("{} notin ({})", labels::MANAGED_BY, ours()));
    let Some(kinds) = kinds(client).await? else { return Ok(true) };
    for kind in kinds {
        let contents: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
        let foreign = |object: &PartialObjectMeta<DynamicObject>| {
            let name = object.name_any();
            let expected = EXPECTED.contains(&(kind.group.as_str(), kind.plural.as_str(), name.as_str()));
            // What has an owner goes with it.
            !expected && object.owner_references().is_empty()
        };
        if any(&contents, &others, foreign).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Every kind of which a namespace can hold objects; `None` if a group does not say which it has.
async fn kinds(client: &Client) -> Result<Option<Vec<ApiResource>>> {
    let what = "looking for the kinds of the cluster";
    let core = client.list_core_api_resources("v1").await.doing(what)?;
    let mut all = listable("", "v1", core.resources);
    for group in client.list_api_groups().await.doing(what)?.groups {
        let Some(preferred) = group.preferred_version.or_else(|| group.versions.into_iter().next()) else { continue };
        if group.name == VIEWS {
            continue;
        }
        match client.list_api_group_resources(&preferred.group_version).await {
            Ok(list) => all.extend(listable(&group.name, &preferred.version, list.resources)),
            // A definition that is gone since.
            Err(error) if is_gone(&error) => {}
            Err(error) => {
                tracing::warn!(group = %group.name, %error, "a group of the cluster does not say which kinds it has: namespaces stay");
                return Ok(None);
            }
        }
    }
    Ok(Some(all))
}

/// Those that are objects of their own: what can be listed and deleted.
fn listable(group: &str, version: &str, resources: Vec<APIResource>) -> Vec<ApiResource> {
    let can = |resource: &APIResource, verb: &str| resource.verbs.iter().any(|one| one == verb);
    let own = |resource: &APIResource| {
        let derived = DERIVED.contains(&(group, resource.name.as_str()));
        resource.namespaced
            && !resource.name.contains('/')
            && !derived
            && can(resource, "list")
            && can(resource, "delete")
    };
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let kind = |resource: APIResource| ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: api_version.clone(),
        kind: resource.kind,
        plural: resource.name,
    };
    resources.into_iter().filter(own).map(kind).collect()
}

/// Whether one of what is listed is so; page by page. Of a kind that is gone there is nothing.
pub(crate) async fn any(
    api: &Api<DynamicObject>,
    params: &ListParams,
    so: impl Fn(&PartialObjectMeta<DynamicObject>) -> bool,
) -> Result<bool> {
    let mut page = params.clone().limit(200);
    loop {
        let list = match api.list_metadata(&page).await {
            Err(error) if is_gone(&error) => return Ok(false),
            other => other.doing("looking for what others use")?,
        };
        if list.items.iter().any(&so) {
            return Ok(true);
        }
        match list.metadata.continue_ {
            Some(token) if !token.is_empty() => page = page.continue_token(&token),
            _ => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_of_other_objects_or_cannot_be_deleted_is_nobodys() {
        let resource = |name: &str, namespaced: bool, verbs: &[&str]| APIResource {
            name: name.to_owned(),
            namespaced,
            verbs: verbs.iter().map(ToString::to_string).collect(),
            ..APIResource::default()
        };
        let all = vec![
            resource("pods", true, &["list", "delete"]),
            resource("pods/status", true, &["list", "delete"]),
            resource("nodes", false, &["list", "delete"]),
            resource("bindings", true, &["create"]),
            resource("events", true, &["list", "delete"]),
            resource("endpoints", true, &["list", "delete"]),
        ];
        let kept: Vec<String> = listable("", "v1", all).into_iter().map(|kind| kind.plural).collect();
        assert_eq!(kept, ["pods"]);
    }
}
