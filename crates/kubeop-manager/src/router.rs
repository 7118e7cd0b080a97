//! Every path of the API, in one place.
//!
//! Invariant: a path is here or it is 404; its operation's permission is in the handler's signature.

use crate::api::{
    analytics, apps, audit, clusters, invoices, kubeconfigs, platform, policy, projects, system, tenants, tokens,
    usage, webhooks,
};
use crate::http::error::refusals;
use crate::http::{idempotency, layers};
use crate::state::Manager;
use aide::axum::ApiRouter;
use aide::axum::routing::{delete_with, get_with, post_with, put_with};
use aide::openapi::{MediaType, ReferenceOr, Response, Responses, SchemaObject, StatusCode};
use aide::transform::TransformOperation;
use axum::Router;
use schemars::json_schema;
use std::sync::Arc;

type Op<'a> = TransformOperation<'a>;

/// An operation's id, tag and summary.
fn op(id: &'static str, tag: &'static str, summary: &'static str) -> impl FnOnce(Op<'_>) -> Op<'_> {
    move |operation| operation.id(id).tag(tag).summary(summary)
}

/// An operation that anybody may call.
fn open(id: &'static str, summary: &'static str) -> impl FnOnce(Op<'_>) -> Op<'_> {
    move |operation| {
        let mut operation = operation.id(id).tag("system").summary(summary);
        let inner = operation.inner_mut();
        inner.security = vec![indexmap::IndexMap::new()];
        // Probes are neither counted nor queued; all that can befall them is that what they ask for is not there.
        if let Some(responses) = &mut inner.responses {
            responses.responses.retain(|status, _| matches!(status, StatusCode::Code(200 | 503)));
        }
        operation
    }
}

/// An operation that also answers with this refusal, for a reason that its signature does not show.
fn also<const STATUS: u16>(document: impl FnOnce(Op<'_>) -> Op<'_>) -> impl FnOnce(Op<'_>) -> Op<'_> {
    move |operation| {
        let mut operation = document(operation);
        aide::generate::in_context(|ctx| {
            let inner = operation.inner_mut();
            let refusals = refusals(ctx, inner, &[STATUS]);
            let responses = inner.responses.get_or_insert_with(Responses::default);
            responses.responses.extend(
                refusals.into_iter().filter_map(|(status, response)| Some((status?, ReferenceOr::Item(response)))),
            );
        });
        operation
    }
}

/// An operation that anybody may call and that answers with a document of this media type; as JSON it is an object.
fn served(id: &'static str, summary: &'static str, media_type: &'static str) -> impl FnOnce(Op<'_>) -> Op<'_> {
    move |operation| {
        let mut operation = open(id, summary)(operation);
        let kind = if media_type == "application/json" { "object" } else { "string" };
        let schema = SchemaObject { json_schema: json_schema!({"type": kind}), external_docs: None, example: None };
        let content = MediaType { schema: Some(schema), ..MediaType::default() };
        let answer = Response {
            description: "As asked.".to_owned(),
            content: indexmap::IndexMap::from_iter([(media_type.to_owned(), content)]),
            ..Response::default()
        };
        let responses = operation.inner_mut().responses.get_or_insert_with(Responses::default);
        responses.responses.insert(StatusCode::Code(200), ReferenceOr::Item(answer));
        operation
    }
}

/// The paths with their documentation.
pub fn routes() -> ApiRouter<Arc<Manager>> {
    ApiRouter::new()
        .api_route("/healthz", get_with(system::healthz, open("healthz", "Whether the process lives")))
        .api_route("/readyz", get_with(system::readyz, open("readyz", "Whether requests can be served")))
        .api_route("/version", get_with(system::version, open("version", "Build metadata")))
        .api_route(
            "/metrics",
            get_with(
                system::metrics,
                also::<404>(served("metrics", "Metrics in OpenMetrics text", "application/openmetrics-text")),
            ),
        )
        .api_route(
            "/openapi.json",
            get_with(system::openapi, also::<429>(also::<503>(served("openapi", "This document", "application/json")))),
        )
        .merge(cluster_routes())
        .merge(tenancy_routes())
        .merge(platform_routes())
        .merge(access_routes())
        .merge(webhook_routes())
        .merge(billing_routes())
}

fn cluster_routes() -> ApiRouter<Arc<Manager>> {
    const TAG: &str = "clusters";
    ApiRouter::new()
        .api_route(
            "/v1/clusters",
            post_with(clusters::register::handle, op("registerCluster", TAG, "Register a cluster"))
                .get_with(clusters::list::handle, op("listClusters", TAG, "List clusters"))
                .put_with(
                    clusters::change::handle_in_collection,
                    op("replaceClusterById", TAG, "Replace a cluster named in the body"),
                )
                .patch_with(
                    clusters::change::handle_in_collection,
                    op("patchClusterById", TAG, "Patch a cluster named in the body"),
                ),
        )
        .api_route(
            "/v1/clusters/{id}",
            get_with(clusters::get::handle, op("getCluster", TAG, "Describe a cluster"))
                .put_with(clusters::change::handle, op("replaceCluster", TAG, "Replace a cluster's mutable fields"))
                .patch_with(clusters::change::handle, op("patchCluster", TAG, "Patch a cluster (RFC 7386)"))
                .delete_with(clusters::delete::handle, op("deleteCluster", TAG, "Delete a cluster without tenants")),
        )
        .api_route(
            "/v1/clusters/{id}/status",
            get_with(clusters::status::status, op("clusterStatus", TAG, "What is observed on a cluster")),
        )
        .api_route(
            "/v1/clusters/{id}/ready",
            get_with(clusters::status::ready, op("clusterReady", TAG, "200 when operator and admission are ready")),
        )
}

fn tenancy_routes() -> ApiRouter<Arc<Manager>> {
    ApiRouter::new()
        .api_route(
            "/v1/tenants",
            post_with(tenants::create::handle, op("createTenant", "tenants", "Create a tenant"))
                .get_with(tenants::list::handle, op("listTenants", "tenants", "List tenants"))
                .put_with(
                    tenants::change::handle_in_collection,
                    op("replaceTenantById", "tenants", "Replace a tenant named in the body"),
                )
                .patch_with(
                    tenants::change::handle_in_collection,
                    op("patchTenantById", "tenants", "Patch a tenant named in the body"),
                ),
        )
        .api_route(
            "/v1/tenants/{id}",
            get_with(tenants::get::handle, op("getTenant", "tenants", "Describe a tenant"))
                .put_with(tenants::change::handle, op("replaceTenant", "tenants", "Replace a tenant's mutable fields"))
                .patch_with(tenants::change::handle, op("patchTenant", "tenants", "Patch a tenant (RFC 7386)"))
                .delete_with(
                    tenants::delete::handle,
                    op("deleteTenant", "tenants", "Delete a tenant without projects"),
                ),
        )
        .api_route(
            "/v1/projects",
            post_with(projects::create::handle, op("createProject", "projects", "Create a project"))
                .get_with(projects::list::handle, op("listProjects", "projects", "List projects"))
                .put_with(
                    projects::change::handle_in_collection,
                    op("replaceProjectById", "projects", "Replace a project named in the body"),
                )
                .patch_with(
                    projects::change::handle_in_collection,
                    op("patchProjectById", "projects", "Patch a project named in the body"),
                ),
        )
        .api_route(
            "/v1/projects/{id}",
            get_with(projects::get::handle, op("getProject", "projects", "Describe a project"))
                .put_with(
                    projects::change::handle,
                    op("replaceProject", "projects", "Replace a project's mutable fields"),
                )
                .patch_with(projects::change::handle, op("patchProject", "projects", "Patch a project (RFC 7386)"))
                .delete_with(
                    projects::delete::handle,
                    op("deleteProject", "projects", "Delete a project without apps"),
                ),
        )
        .api_route(
            "/v1/apps",
            post_with(apps::create::handle, op("createApp", "apps", "Create an app"))
                .get_with(apps::list::handle, op("listApps", "apps", "List apps"))
                .put_with(
                    apps::change::handle_in_collection,
                    op("replaceAppById", "apps", "Replace an app named in the body"),
                )
                .patch_with(
                    apps::change::handle_in_collection,
                    op("patchAppById", "apps", "Patch an app named in the body"),
                ),
        )
        .api_route(
            "/v1/apps/{id}",
            get_with(apps::get::handle, op("getApp", "apps", "Describe an app"))
                .put_with(apps::change::handle, op("replaceApp", "apps", "Replace an app's mutable fields"))
                .patch_with(apps::change::handle, op("patchApp", "apps", "Patch an app (RFC 7386)"))
                // To force is for admins.
                .delete_with(apps::delete::handle, also::<403>(op("deleteApp", "apps", "Delete an app"))),
        )
}

fn platform_routes() -> ApiRouter<Arc<Manager>> {
    const TAG: &str = "platform";
    ApiRouter::new()
        .api_route(
            "/v1/platform/policy",
            put_with(policy::put, op("putPolicy", TAG, "Replace the platform policy"))
                .get_with(policy::get, op("getPolicy", TAG, "The policy in force")),
        )
        .api_route(
            "/v1/platform/bootstrap",
            post_with(
                platform::bootstrap::handle,
                also::<404>(op("bootstrap", TAG, "Install or upgrade kubeOP on a cluster")),
            ),
        )
        .api_route(
            "/v1/platform/autoscale",
            post_with(
                platform::autoscale::handle,
                also::<404>(op("autoscale", TAG, "Set or remove the operator's autoscaler")),
            ),
        )
        .api_route(
            "/v1/platform/status",
            get_with(platform::status::handle, also::<404>(op("platformStatus", TAG, "A cluster's installation"))),
        )
        .api_route(
            "/v1/analytics/summary",
            get_with(analytics::summary, op("analyticsSummary", TAG, "Delivery and registry figures")),
        )
        .api_route("/v1/audit", get_with(audit::list, op("listAudit", TAG, "The audit log")))
}

fn access_routes() -> ApiRouter<Arc<Manager>> {
    const TAG: &str = "access";
    ApiRouter::new()
        .api_route(
            "/v1/jwt/project",
            post_with(tokens::issue_project, also::<404>(op("issueProjectToken", TAG, "Issue a project's token"))),
        )
        .api_route(
            "/v1/jwt/tenant",
            post_with(tokens::issue_tenant, also::<404>(op("issueTenantToken", TAG, "Issue a tenant's token"))),
        )
        .api_route("/v1/jwt/{id}", delete_with(tokens::revoke, op("revokeToken", TAG, "Revoke a token by its jti")))
        .api_route(
            "/v1/kubeconfigs/project/{id}",
            get_with(
                kubeconfigs::issue::handle,
                // Role admin is not for projects; and there is a limit to how many live.
                also::<403>(also::<409>(op("issueKubeconfig", TAG, "Issue a project's kubeconfig"))),
            ),
        )
        .api_route(
            "/v1/kubeconfigs",
            get_with(kubeconfigs::list::handle, op("listKubeconfigs", TAG, "List a project's kubeconfigs")),
        )
        .api_route(
            "/v1/kubeconfigs/{id}",
            delete_with(kubeconfigs::revoke::handle, op("revokeKubeconfig", TAG, "Revoke a kubeconfig")),
        )
}

fn webhook_routes() -> ApiRouter<Arc<Manager>> {
    const TAG: &str = "webhooks";
    ApiRouter::new()
        .api_route(
            "/v1/webhooks/dead",
            get_with(webhooks::dead::handle, op("listDeadDeliveries", TAG, "Event deliveries that were given up")),
        )
        .api_route(
            "/v1/webhooks/dead/{id}/replay",
            post_with(webhooks::replay::handle, op("replayDeadDelivery", TAG, "Send such an event again")),
        )
}

fn billing_routes() -> ApiRouter<Arc<Manager>> {
    const TAG: &str = "billing";
    ApiRouter::new()
        .api_route(
            "/v1/usage/ingest",
            post_with(
                usage::ingest::handle,
                op("ingestUsage", TAG, "Send usage; the same hour again is set, not added"),
            ),
        )
        .api_route(
            "/v1/usage/snapshot",
            get_with(
                usage::snapshot::handle,
                also::<404>(op("usageSnapshot", TAG, "Usage of a month and what is there")),
            ),
        )
        .api_route(
            "/v1/invoices/{id}",
            get_with(invoices::get::handle, op("getInvoice", TAG, "A tenant's invoice of a month, as JSON or CSV")),
        )
        .api_route(
            "/v1/invoices",
            get_with(invoices::list::handle, op("listInvoices", TAG, "Closed invoices, in the order they were closed")),
        )
        .api_route(
            "/v1/platform/prices",
            post_with(platform::prices::add, op("addPrice", TAG, "Set a rate from an hour to come on"))
                .get_with(platform::prices::list, op("listPrices", TAG, "The price book")),
        )
}

/// The application.
pub fn build(manager: &Arc<Manager>) -> Router {
    routes()
        .finish_api(&mut aide::openapi::OpenApi::default())
        .fallback(layers::unknown_path)
        .method_not_allowed_fallback(layers::unknown_method)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(manager), idempotency::once))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(manager), layers::surround))
        .with_state(Arc::clone(manager))
}
