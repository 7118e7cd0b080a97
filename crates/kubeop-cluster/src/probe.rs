//! The first look at a cluster: is it there, which one is it, and may the registered credential set it up?
//!
//! Invariant: takes at most five seconds, and every way it can fail is a 400 that says why.

use crate::error::Doing;
use futures::future::{join_all, try_join3};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_core::{Error, ErrorKind, Result};
use std::time::Duration;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The server's version (`v1.36.3`).
    pub version: String,
    /// The uid of namespace `kube-system`: tells clusters apart, whatever their address.
    pub cluster_uid: String,
    /// How many nodes there are.
    pub nodes: u64,
}

/// How long the whole probe may take.
pub const LIMIT: Duration = Duration::from_secs(5);

/// Looks at the cluster and checks what bootstrap will need.
pub async fn probe(client: &Client) -> Result<Probe> {
    let looking = async {
        let (version, cluster_uid, nodes) = try_join3(version(client), cluster_uid(client), nodes(client)).await?;
        permissions(client).await?;
        Ok::<_, Error>(Probe { version, cluster_uid, nodes })
    };
    match tokio::time::timeout(LIMIT, looking).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) if error.kind() == ErrorKind::Internal => Err(error),
        Ok(Err(error)) => Err(Error::invalid(error.message().to_owned()).caused_by(error)),
        Err(_) => Err(Error::invalid(format!("the API server does not answer within {} s", LIMIT.as_secs()))),
    }
}

/// The server's version.
pub async fn version(client: &Client) -> Result<String> {
    Ok(client.apiserver_version().await.doing("reading the API server's version")?.git_version)
}

async fn cluster_uid(client: &Client) -> Result<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let system = namespaces.get_metadata("kube-system").await.doing("reading namespace kube-system")?;
    system.metadata.uid.ok_or_else(|| Error::unavailable("namespace kube-system has no uid"))
}

/// How many nodes there are, by a list of one and the rest's count.
pub async fn nodes(client: &Client) -> Result<u64> {
    let api: Api<Node> = Api::all(client.clone());
    let page = api.list_metadata(&ListParams::default().limit(1)).await.doing("counting nodes")?;
    let rest = page.metadata.remaining_item_count.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
    Ok(rest + page.items.len() as u64)
}

/// What bootstrap does, as (verb, group, resource, namespace). Whoever may do anything is asked once.
const NEEDED: [(&str, &str, &str, Option<&str>); 11] = [
    ("create", "", "namespaces", None),
    ("create", "apiextensions.k8s.io", "customresourcedefinitions", None),
    ("create", "rbac.authorization.k8s.io", "clusterroles", None),
    ("escalate", "rbac.authorization.k8s.io", "clusterroles", None),
    ("bind", "rbac.authorization.k8s.io", "clusterroles", None),
    ("create", "rbac.authorization.k8s.io", "clusterrolebindings", None),
    ("create", "admissionregistration.k8s.io", "validatingwebhookconfigurations", None),
    ("create", "admissionregistration.k8s.io", "validatingadmissionpolicies", None),
    ("create", "", "serviceaccounts/token", Some(SYSTEM_NAMESPACE)),
    ("create", "", "configmaps", Some(SYSTEM_NAMESPACE)),
    ("create", "apps", "deployments", Some(SYSTEM_NAMESPACE)),
];

async fn permissions(client: &Client) -> Result<()> {
    if allowed(client, "*", "*", "*", None).await? {
        return Ok(());
    }
    let asked = NEEDED.map(|(verb, group, resource, namespace)| allowed(client, verb, group, resource, namespace));
    let mut missing = Vec::new();
    for (answer, (verb, group, resource, namespace)) in join_all(asked).await.into_iter().zip(NEEDED) {
        if !answer? {
            let dot = if group.is_empty() { "" } else { "." };
            let place = namespace.map_or_else(String::new, |ns| format!(" in {ns}"));
            missing.push(format!("{verb} {resource}{dot}{group}{place}"));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "the credential may not {}: setting up kubeOP needs rights like those of ClusterRole cluster-admin",
        missing.join(", ")
    )))
}

async fn allowed(client: &Client, verb: &str, group: &str, resource: &str, namespace: Option<&str>) -> Result<bool> {
    let (resource, subresource) = resource.split_once('/').map_or((resource, None), |(r, s)| (r, Some(s)));
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(ToOwned::to_owned),
        namespace: namespace.map(ToOwned::to_owned),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await.doing("asking what the credential may do")?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
