//! Issued kubeconfigs: a ServiceAccount per project and role in `kubeop-access`, and a token bound to a Secret of its own.
//!
//! Invariant: deleting the Secret revokes exactly that token (the API server checks the bound object; caches hold for 10 s); the ServiceAccount
//! carries the project's id, so that a project that reuses names never speaks through another's account.

use crate::error::{Doing, is_conflict, is_gone};
use base64::Engine;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use kubeop_core::id::{KubeconfigId, ProjectId};
use kubeop_core::name::{ACCESS_NAMESPACE, Label, project_resource_name};
use kubeop_core::{Error, Result};
use kubeop_crds::{Project, labels};
use kubeop_plan::Identity;
use kubeop_plan::identity::OwnedBy;
pub use kubeop_plan::project::build::AccessRole;
use kubeop_plan::project::build::service_account;
use std::collections::BTreeMap;

/// Label: the id of the kubeconfig a Secret stands for.
pub const KUBECONFIG_ID: &str = "app.kubeop.io/kubeconfig-id";
/// Annotation: how long the token of a Secret holds from the Secret's creation on, in seconds.
pub const LIFETIME: &str = "kubeop.io/lifetime-seconds";
/// What the names of the Secrets begin with.
const SECRET_PREFIX: &str = "kubeop-kc-";
/// How long after its end a Secret is kept: the token is made after it, and holds as long from then on.
const GRACE: SignedDuration = SignedDuration::from_mins(5);

/// What to issue.
#[derive(Clone, Debug)]
pub struct Request {
    /// The id the kubeconfig will have.
    pub id: KubeconfigId,
    /// The project's id.
    pub project_id: ProjectId,
    /// The tenant's name.
    pub tenant: Label,
    /// The project's name.
    pub project: Label,
    /// Its namespace, the context's default.
    pub namespace: Label,
    /// Its rights.
    pub role: AccessRole,
    /// How long the token is to hold, at least ten minutes.
    pub ttl: SignedDuration,
    /// The API server's address as tenants reach it (https).
    pub server: String,
    /// The CA in PEM; none where the server's certificate is publicly trusted.
    pub ca_pem: Option<String>,
    /// The name in the server's certificate, where it is not the address's host.
    pub tls_server_name: Option<String>,
}

/// What was issued.
#[derive(Clone)]
pub struct Issued {
    /// The kubeconfig, YAML.
    pub kubeconfig: secrecy::SecretString,
    /// The ServiceAccount in `kubeop-access`.
    pub service_account: String,
    /// The Secret the token is bound to, in `kubeop-access`.
    pub secret_name: String,
    /// Its uid.
    pub secret_uid: String,
    /// When the token ends, as the API server says.
    pub expires_at: Timestamp,
}

/// Issues a kubeconfig. What was begun is removed when a later step fails.
pub async fn issue(client: &Client, request: &Request) -> Result<Issued> {
    let account = ensure_account(client, request).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), ACCESS_NAMESPACE);
    let secret = secrets
        .create(&PostParams::default(), &secret(request, &account)?)
        .await
        .doing("creating the kubeconfig's Secret")?;
    let (name, uid) = (secret.name_any(), secret.metadata.uid.unwrap_or_default());
    let account = account.name_any();
    match token(client, request, &account, &name, &uid).await {
        Ok((token, expires_at)) => Ok(Issued {
            kubeconfig: secrecy::SecretString::from(render(request, &account, &token)),
            service_account: account,
            secret_name: name,
            secret_uid: uid,
            expires_at,
        }),
        Err(error) => {
            if let Err(left) = revoke(client, &name, &uid).await {
                tracing::warn!(secret = %name, error = %left.chain(), "the Secret of a kubeconfig that was not issued stays until it expires");
            }
            Err(error)
        }
    }
}

/// Revokes one kubeconfig: true if its Secret was there.
pub async fn revoke(client: &Client, secret_name: &str, secret_uid: &str) -> Result<bool> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), ACCESS_NAMESPACE);
    let params = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(secret_uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    match secrets.delete(secret_name, &params).await {
        Ok(_) => Ok(true),
        // 409: a Secret of that name with another uid, which is not this one.
        Err(error) if is_gone(&error) || is_conflict(&error) => Ok(false),
        Err(error) => Err(error).doing("revoking the kubeconfig"),
    }
}

/// Removes the Secrets whose tokens have ended by `now`, the cluster's own time; returns the ids of their kubeconfigs.
pub async fn collect_expired(client: &Client, now: Timestamp) -> Result<Vec<KubeconfigId>> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), ACCESS_NAMESPACE);
    let mut params = ListParams::default().labels(KUBECONFIG_ID).limit(500);
    let mut collected = Vec::new();
    loop {
        let page = secrets.list_metadata(&params).await.doing("listing the kubeconfigs' Secrets")?;
        for secret in page.items {
            let ended = end(&secret.metadata).is_some_and(|end| now > end + GRACE);
            // One without a readable end is left for people to judge.
            if ended && revoke(client, &secret.name_any(), &secret.uid().unwrap_or_default()).await? {
                collected.extend(secret.labels().get(KUBECONFIG_ID).and_then(|id| KubeconfigId::parse(id).ok()));
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(collected),
        }
    }
}

/// When the token of a Secret ends at the latest, by the cluster's clock.
fn end(secret: &ObjectMeta) -> Option<Timestamp> {
    let seconds: i64 = secret.annotations.as_ref()?.get(LIFETIME)?.parse().ok()?;
    secret.creation_timestamp.as_ref()?.0.checked_add(SignedDuration::from_secs(seconds)).ok()
}

/// The ServiceAccount, made when first used. One that is there must carry this project's id.
async fn ensure_account(client: &Client, request: &Request) -> Result<ServiceAccount> {
    let wanted = account(client, request).await?;
    let name = wanted.name_any();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), ACCESS_NAMESPACE);
    let found = match accounts.get_opt(&name).await.doing("reading the project's ServiceAccount")? {
        Some(found) => found,
        None => match accounts.create(&PostParams::default(), &wanted).await {
            Ok(made) => made,
            Err(error) if is_conflict(&error) => {
                accounts.get(&name).await.doing("reading the project's ServiceAccount")?
            }
            Err(error) => return Err(error).doing("creating the project's ServiceAccount"),
        },
    };
    if found.metadata.deletion_timestamp.is_some() {
        return Err(Error::unavailable(format!(
            "ServiceAccount {ACCESS_NAMESPACE}/{name} is being deleted; try again"
        )));
    }
    if found.labels().get(labels::PROJECT_ID) != Some(&request.project_id.to_string()) {
        return Err(Error::conflict(format!(
            "ServiceAccount {ACCESS_NAMESPACE}/{name} belongs to another project; no kubeconfig is issued"
        )));
    }
    Ok(found)
}

/// The account as it is wanted, for the live Project of that id: a project that is going away gets no new access.
async fn account(client: &Client, request: &Request) -> Result<ServiceAccount> {
    let projects: Api<Project> = Api::all(client.clone());
    let name = project_resource_name(&request.tenant, &request.project);
    let gone = || {
        Error::unavailable(format!(
            "project {name} is not on its cluster, or is being deleted; no kubeconfig is issued"
        ))
    };
    let project = projects.get_opt(&name).await.doing(format_args!("reading project {name}"))?.ok_or_else(gone)?;
    if project.metadata.deletion_timestamp.is_some()
        || project.labels().get(labels::PROJECT_ID) != Some(&request.project_id.to_string())
    {
        return Err(gone());
    }
    let identity = Identity {
        cluster_id: project.labels().get(labels::CLUSTER_ID).cloned(),
        instance: project.labels().get(labels::INSTANCE).cloned(),
        tenant_id: project.labels().get(labels::TENANT_ID).cloned().ok_or_else(gone)?,
        tenant: request.tenant.clone(),
        project_id: request.project_id.to_string(),
        project: request.project.clone(),
    };
    let owner = OwnedBy::of(&project.metadata).map_err(|refusal| Error::internal(refusal.message))?;
    Ok(service_account(&identity, &owner, request.role))
}

fn secret(request: &Request, account: &ServiceAccount) -> Result<Secret> {
    // The project's marks, so that all of its access is found by one label; but the manager made it.
    let mut marks = account.labels().clone();
    marks.insert(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned());
    marks.insert(labels::ACCESS_ROLE.to_owned(), request.role.as_str().to_owned());
    marks.insert(KUBECONFIG_ID.to_owned(), request.id.to_string());
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(format!("{SECRET_PREFIX}{}", request.id)),
            labels: Some(marks),
            annotations: Some(BTreeMap::from([(LIFETIME.to_owned(), request.ttl.as_secs().to_string())])),
            ..ObjectMeta::default()
        },
        type_: Some("kubeop.io/kubeconfig".to_owned()),
        immutable: Some(true),
        ..Secret::default()
    })
}

async fn token(
    client: &Client,
    request: &Request,
    account: &str,
    secret: &str,
    uid: &str,
) -> Result<(String, Timestamp)> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), ACCESS_NAMESPACE);
    let asked = TokenRequest {
        spec: TokenRequestSpec {
            expiration_seconds: Some(request.ttl.as_secs()),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Secret".to_owned()),
                name: Some(secret.to_owned()),
                uid: Some(uid.to_owned()),
            }),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let what = "asking for the kubeconfig's token";
    let mut tries = 0_u32;
    let answer = loop {
        match accounts.create_token_request(account, &PostParams::default(), &asked).await {
            Ok(answer) => break answer,
            // The API server looks the Secret up in a cache that may be a moment behind.
            Err(error) if is_gone(&error) && tries < 20 => {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error).doing(what),
        }
    };
    let status =
        answer.status.ok_or_else(|| Error::unavailable(format!("{what}: the cluster's answer has no token")))?;
    Ok((status.token, status.expiration_timestamp.0))
}

/// The kubeconfig as stock kubectl reads it.
fn render(request: &Request, account: &str, token: &str) -> String {
    // JSON strings are YAML strings: nothing in a value can break out of its place.
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let name = quote(&format!("{}.{}", request.tenant, request.project));
    let user = quote(account);
    let ca = request.ca_pem.as_ref().map_or_else(String::new, |pem| {
        format!("    certificate-authority-data: {}\n", base64::engine::general_purpose::STANDARD.encode(pem))
    });
    let tls = request
        .tls_server_name
        .as_ref()
        .map_or_else(String::new, |name| format!("    tls-server-name: {}\n", quote(name)));
    format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: {name}\n  cluster:\n    server: {server}\n{ca}{tls}contexts:\n- name: {name}\n  context:\n    \
         cluster: {name}\n    namespace: {namespace}\n    user: {user}\ncurrent-context: {name}\nusers:\n- name: {user}\n  user:\n    token: {token}\n",
        server = quote(&request.server),
        namespace = quote(request.namespace.as_str()),
        token = quote(token),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubeconfig::{Intake, Kubeconfig};

    #[test]
    fn an_issued_kubeconfig_is_one_that_we_would_accept() {
        let label = |text: &str| Label::parse(text).unwrap();
        let ca = crate::certificate::make_ca(Timestamp::from_second(1_800_000_000).unwrap()).unwrap();
        let request = Request {
            id: KubeconfigId(uuid::Uuid::from_u128(1)),
            project_id: ProjectId(uuid::Uuid::from_u128(2)),
            tenant: label("acme"),
            project: label("web"),
            namespace: label("kubeop-acme-web"),
            role: AccessRole::Developer,
            ttl: SignedDuration::from_mins(60),
            server: "https://10.0.0.1:6443".into(),
            ca_pem: Some(ca.certificate.clone()),
            tls_server_name: Some("kubernetes".into()),
        };
        let yaml = render(&request, "acme.web.developer", "tok.en-1");
        let parsed = Kubeconfig::parse(&yaml, Intake::default()).unwrap();
        assert_eq!(parsed.ca_pem(), Some(ca.certificate.as_str()));
        assert_eq!(parsed.tls_server_name(), Some("kubernetes"));
        assert!(yaml.contains("namespace: \"kubeop-acme-web\""));
    }
}
