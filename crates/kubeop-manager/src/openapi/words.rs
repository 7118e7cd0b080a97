//! What is told of each operation in the document: a description, and an example of its body.
//!
//! Invariant: every operation is here, and every body's example is one that the operation reads.

use aide::openapi::{OpenApi, Operation, ReferenceOr, Tag};

/// Operation, description, example of its body as JSON.
type Told = (&'static str, &'static str, Option<&'static str>);

/// The groups of operations.
const TAGS: &[(&str, &str)] = &[
    ("system", "Probes, metrics and this document; open to all."),
    ("clusters", "Kubernetes clusters, registered once by the platform team."),
    ("tenants", "Customers or departments: a quota envelope on a cluster."),
    ("projects", "Fenced namespaces of a tenant."),
    ("apps", "What runs in a project."),
    ("platform", "Policy, installation, figures and the audit log."),
    ("access", "Short-lived, revocable tokens and kubeconfigs."),
    ("billing", "Usage in, invoices out."),
    ("webhooks", "Events to the outside that could not be delivered."),
];

/// Adds what is told.
pub(super) fn add(api: &mut OpenApi) {
    api.tags = TAGS
        .iter()
        .map(|(name, description)| Tag {
            name: (*name).to_owned(),
            description: Some((*description).to_owned()),
            ..Tag::default()
        })
        .collect();
    let Some(paths) = &mut api.paths else { return };
    for item in paths.paths.values_mut().filter_map(ReferenceOr::as_item_mut) {
        let all = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        all.into_iter().flatten().for_each(tell);
    }
}

fn tell(operation: &mut Operation) {
    let Some((_, description, example)) = TOLD.iter().find(|(id, ..)| Some(*id) == operation.operation_id.as_deref())
    else {
        return;
    };
    operation.description = Some((*description).to_owned());
    let Some(example) = example.and_then(|text| serde_json::from_str(text).ok()) else { return };
    if let Some(ReferenceOr::Item(body)) = &mut operation.request_body
        && let Some(content) = body.content.get_mut("application/json")
    {
        content.example = Some(example);
    }
}

const TOLD: &[Told] = &[
    ("healthz", "The process lives and serves. Needs no token; not counted against any limit.", None),
    ("readyz", "The database answers and its schema is current; else 503 names what is not ready.", None),
    ("version", "Release, commit, build time and compiler.", None),
    (
        "metrics",
        "Everything this process measures, for Prometheus. `KUBEOP_METRICS_ADDR` serves the same on an address of its own.",
        None,
    ),
    ("openapi", "The document that you are reading.", None),
    (
        "registerCluster",
        "Connects to the API server (5 s), reads its version and checks its own permissions; nothing is stored if that fails. `kubeconfig` is YAML text or base64 of it, with everything in it: no files, commands or proxies. With `auto_bootstrap` the platform is installed before the answer; if that fails the cluster is registered all the same, with phase `Degraded` and the reason, and it is tried again. The same API server twice is a 409.",
        Some(
            r#"{"name": "prod-1", "kubeconfig": "apiVersion: v1\nkind: Config\n...", "auto_bootstrap": true, "install_admission": true, "labels": {"region": "eu"}}"#,
        ),
    ),
    (
        "listClusters",
        "Clusters in the order in which they were registered. `name` and `cluster_id` narrow to one.",
        None,
    ),
    (
        "replaceClusterById",
        "As `PUT /v1/clusters/{id}`, for the cluster whose `id` is in the body.",
        Some(r#"{"id": "01988c00-51aa-7c70-b0c1-0b8f6b6f2c10", "labels": {"region": "eu"}}"#),
    ),
    (
        "patchClusterById",
        "As `PATCH /v1/clusters/{id}`, for the cluster whose `id` is in the body.",
        Some(r#"{"id": "01988c00-51aa-7c70-b0c1-0b8f6b6f2c10", "labels": {"region": null}}"#),
    ),
    ("getCluster", "One cluster, never its kubeconfig.", None),
    (
        "replaceCluster",
        "Replaces labels, switches and public server; with a `kubeconfig`, the credential too (rotation): it must be of the same API server.",
        Some(r#"{"labels": {"region": "eu"}, "public_server": "https://k8s.example.com"}"#),
    ),
    ("patchCluster", "A JSON merge patch (RFC 7386) of the same fields.", Some(r#"{"labels": {"region": null}}"#)),
    (
        "deleteCluster",
        "Forgets the cluster; a 409 with the count while tenants exist. `uninstall=true` first removes what kubeOP installed there.",
        None,
    ),
    (
        "clusterStatus",
        "Observed at this moment: whether the operator's lease is fresh, whether admission answers through the API server, whether its CA bundle is set.",
        None,
    ),
    (
        "clusterReady",
        "For waiting: 200 when operator, admission and CA bundle are there, else 503 with what is missing.",
        None,
    ),
    (
        "createTenant",
        "`quotas` is the envelope of all the tenant's projects together: `cpu`, `memory`, `storage`, `pods`, `projects`, or any key of a ResourceQuota. What is absent is unlimited within the policy.",
        Some(
            r#"{"name": "acme", "cluster_id": "01988c00-51aa-7c70-b0c1-0b8f6b6f2c10", "quotas": {"cpu": "8", "memory": "16Gi"}}"#,
        ),
    ),
    ("listTenants", "Tenants in the order in which they were made; a tenant sees itself.", None),
    (
        "replaceTenantById",
        "As `PUT /v1/tenants/{id}`, for the tenant whose `id` is in the body.",
        Some(r#"{"id": "01988c9d-2b1e-7f00-8a11-1d5c2f9e4a21", "quotas": {"cpu": "16"}}"#),
    ),
    (
        "patchTenantById",
        "As `PATCH /v1/tenants/{id}`, for the tenant whose `id` is in the body.",
        Some(r#"{"id": "01988c9d-2b1e-7f00-8a11-1d5c2f9e4a21", "quotas": {"memory": "32Gi"}}"#),
    ),
    ("getTenant", "One tenant. With `wait`, once it is settled or the time is over.", None),
    (
        "replaceTenant",
        "Replaces envelope and labels. An envelope below what its projects were granted is a 400 with both numbers.",
        Some(r#"{"quotas": {"cpu": "16", "memory": "32Gi"}}"#),
    ),
    ("patchTenant", "A JSON merge patch (RFC 7386) of the same fields.", Some(r#"{"quotas": {"cpu": null}}"#)),
    (
        "deleteTenant",
        "A 409 with the count while projects exist. Its invoices and audit records stay. `force=true` (admins) forgets what a cluster that does not answer still holds.",
        None,
    ),
    (
        "createProject",
        "A namespace that is fenced before anyone can enter it: quota, limits, Pod Security, network policies. Quotas beyond the tenant's envelope or the policy's ceiling are a 400; creates at the same time never oversell.",
        Some(
            r#"{"tenant_id": "01988c9d-2b1e-7f00-8a11-1d5c2f9e4a21", "name": "web", "quotas": {"cpu": "2", "memory": "4Gi"}}"#,
        ),
    ),
    ("listProjects", "Projects in the order in which they were made, as far as the caller may see them.", None),
    (
        "replaceProjectById",
        "As `PUT /v1/projects/{id}`, for the project whose `id` is in the body.",
        Some(r#"{"id": "01988c9e-0c58-7a10-9a51-6b1d0f8f7d02", "quotas": {"cpu": "4"}}"#),
    ),
    (
        "patchProjectById",
        "As `PATCH /v1/projects/{id}`, for the project whose `id` is in the body.",
        Some(r#"{"id": "01988c9e-0c58-7a10-9a51-6b1d0f8f7d02", "pod_security": "restricted"}"#),
    ),
    ("getProject", "One project. With `wait`, once it is settled or the time is over.", None),
    (
        "replaceProject",
        "Replaces quotas, Pod Security level and labels; quotas are decided anew, as on creation.",
        Some(r#"{"quotas": {"cpu": "4", "memory": "8Gi"}, "pod_security": "restricted"}"#),
    ),
    ("patchProject", "A JSON merge patch (RFC 7386) of the same fields.", Some(r#"{"pod_security": "restricted"}"#)),
    (
        "deleteProject",
        "A 409 with the count while apps exist. 202 while its namespace is being emptied, 204 when it is gone.",
        None,
    ),
    (
        "createApp",
        "The short form (`image`, `host`) or the whole `spec` of the App resource. An image that the policy does not allow is a 400; a host that another app has, on any cluster, a 409.",
        Some(
            r#"{"project_id": "01988c9e-0c58-7a10-9a51-6b1d0f8f7d02", "name": "web", "image": "docker.io/library/nginx:1.25", "host": "web.example.com"}"#,
        ),
    ),
    ("listApps", "Apps in the order in which they were made, as far as the caller may see them.", None),
    (
        "replaceAppById",
        "As `PUT /v1/apps/{id}`, for the app whose `id` is in the body.",
        Some(r#"{"id": "01988c9e-1f3a-7b02-8f21-0d6f6a1c9e55", "image": "docker.io/library/nginx:1.27"}"#),
    ),
    (
        "patchAppById",
        "As `PATCH /v1/apps/{id}`, for the app whose `id` is in the body.",
        Some(r#"{"id": "01988c9e-1f3a-7b02-8f21-0d6f6a1c9e55", "image": "docker.io/library/nginx:1.27"}"#),
    ),
    ("getApp", "One app. With `wait`, once it is settled or the time is over.", None),
    (
        "replaceApp",
        "Replaces the app's spec and labels.",
        Some(r#"{"image": "docker.io/library/nginx:1.27", "host": "web.example.com"}"#),
    ),
    (
        "patchApp",
        "A JSON merge patch (RFC 7386) of the same fields.",
        Some(r#"{"image": "docker.io/library/nginx:1.27"}"#),
    ),
    (
        "deleteApp",
        "202 while it is being taken down, 204 when it is gone. `force=true` (admins) forgets what a cluster that does not answer still holds.",
        None,
    ),
    (
        "putPolicy",
        "Replaces the policy; every project is rendered anew within seconds. An empty image list allows any registry, an empty egress list any outside address.",
        Some(
            r#"{"imageAllowlist": ["docker.io", "ghcr.io/acme"], "egressBaseline": ["10.0.0.0/8"], "quotaMax": {"requestsCPU": "4", "requestsMemory": "8Gi"}}"#,
        ),
    ),
    ("getPolicy", "The policy and its version; for admins also which clusters hold it.", None),
    (
        "bootstrap",
        "Idempotent: repeat it after an upgrade. An absent switch means unchanged.",
        Some(r#"{"install_metrics_server": false, "mocks": false}"#),
    ),
    (
        "autoscale",
        "A HorizontalPodAutoscaler for operator and admission; `enabled: false` removes it.",
        Some(r#"{"enabled": true, "min": 1, "max": 3, "target_cpu": 70}"#),
    ),
    (
        "platformStatus",
        "As the status of a cluster, with the versions of what is installed and whether the policy has arrived.",
        None,
    ),
    (
        "analyticsSummary",
        "How apps are delivered, where their images come from, and how much there is of everything.",
        None,
    ),
    ("listAudit", "Who did what, in the order of the log; denials too.", None),
    (
        "listDeadDeliveries",
        "Events that a webhook did not take within a day, in the order in which they were given up; kept for 30 days.",
        None,
    ),
    (
        "replayDeadDelivery",
        "Sends it again, for another day, with the same event id. A 409 if its hook is not configured.",
        None,
    ),
    (
        "issueProjectToken",
        "A token that is confined to one project and lives for 1 to 1440 minutes (default 60). It is shown once.",
        Some(r#"{"project_id": "01988c9e-0c58-7a10-9a51-6b1d0f8f7d02", "ttl_minutes": 60}"#),
    ),
    (
        "issueTenantToken",
        "A token that is confined to one tenant and lives for 1 to 1440 minutes (default 60). It is shown once.",
        Some(r#"{"tenant_id": "01988c9d-2b1e-7f00-8a11-1d5c2f9e4a21", "ttl_minutes": 60}"#),
    ),
    ("revokeToken", "It is refused from now on, by every replica.", None),
    (
        "issueKubeconfig",
        "A kubeconfig for the project's namespace with a token of 10 to 1440 minutes (default 60), revocable on its own. Waits up to 10 s for the project to be ready, else 503. Role `admin` is for admins and tenants.",
        None,
    ),
    ("listKubeconfigs", "Who got which kubeconfig and until when; never the kubeconfig.", None),
    (
        "revokeKubeconfig",
        "204 when its Secret on the cluster is gone, which ends it within seconds; 202 while the cluster does not answer.",
        None,
    ),
    (
        "ingestUsage",
        "All or nothing. A sample is identified by tenant, hour, project and source; sending it again sets it, never adds. Times are cut to the hour.",
        Some(
            r#"[{"ts": "2026-03-01T10:00:00Z", "tenant_id": "01988c9d-2b1e-7f00-8a11-1d5c2f9e4a21", "cpu_milli": 500, "mem_mib": 1024}]"#,
        ),
    ),
    (
        "usageSnapshot",
        "The figures of a month (default: the current one) and what there is; `tenants` is paged like a list, `totals` is of all of them.",
        None,
    ),
    (
        "getInvoice",
        "Open while the month runs, then in grace, then closed with a number and never changed. Amounts are exact decimals as text.",
        None,
    ),
    ("listInvoices", "Closed invoices in the order of their numbers.", None),
    (
        "addPrice",
        "Rates hold from a whole hour in the future on; the past keeps its price.",
        Some(r#"{"meter": "cpu_milli", "rate": "0.0000012", "effective_from": "2199-01-01T00:00:00Z"}"#),
    ),
    ("listPrices", "Every rate with the hour it holds from and where it came from.", None),
];
