//! A metrics server, for clusters without one: `InstallMetricsServer`.
//!
//! Invariant: the objects that the metrics server's own project installs, in `kube-system`, with their usual names; a cluster that serves
//! `metrics.k8s.io` by other means is left alone (`kubeop-cluster` asks before).

use super::names;
use serde_json::{Value, json};

/// Its name, that of its objects, and their namespace.
const NAME: &str = "metrics-server";
const NAMESPACE: &str = "kube-system";

/// How the metrics server is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsServer {
    /// Its image, as a kubelet pulls it.
    pub image: String,
    /// Whether kubelets' certificates are taken unseen (clusters whose kubelets sign their own, such as kind's).
    pub insecure_kubelets: bool,
}

/// Its objects, in the order of application.
pub(super) fn objects(server: &MetricsServer) -> Vec<Value> {
    let account = json!([{ "kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE }]);
    let role = |kind: &str, name: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name });
    let marks = json!({ "k8s-app": NAME });
    let rbac = "rbac.authorization.k8s.io/v1";
    vec![
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": { "name": NAME, "namespace": NAMESPACE, "labels": marks },
        }),
        json!({
            "apiVersion": rbac, "kind": "ClusterRole",
            "metadata": { "name": "system:aggregated-metrics-reader", "labels": {
                "k8s-app": NAME,
                "rbac.authorization.k8s.io/aggregate-to-admin": "true",
                "rbac.authorization.k8s.io/aggregate-to-edit": "true",
                "rbac.authorization.k8s.io/aggregate-to-view": "true",
            } },
            "rules": [{ "apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"] }],
        }),
        json!({
            "apiVersion": rbac, "kind": "ClusterRole",
            "metadata": { "name": "system:metrics-server", "labels": marks },
            "rules": [
                { "apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"] },
                { "apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"] },
            ],
        }),
        json!({
            "apiVersion": rbac, "kind": "RoleBinding",
            "metadata": { "name": "metrics-server-auth-reader", "namespace": NAMESPACE, "labels": marks },
            "roleRef": role("Role", "extension-apiserver-authentication-reader"), "subjects": account,
        }),
        json!({
            "apiVersion": rbac, "kind": "ClusterRoleBinding",
            "metadata": { "name": "metrics-server:system:auth-delegator", "labels": marks },
            "roleRef": role("ClusterRole", "system:auth-delegator"), "subjects": account,
        }),
        json!({
            "apiVersion": rbac, "kind": "ClusterRoleBinding",
            "metadata": { "name": "system:metrics-server", "labels": marks },
            "roleRef": role("ClusterRole", "system:metrics-server"), "subjects": account,
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": NAME, "namespace": NAMESPACE, "labels": marks },
            "spec": { "selector": marks, "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": "https" }] },
        }),
        deployment(server),
        json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": { "name": names::METRICS_API, "labels": marks },
            "spec": {
                "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
                // It signs its own certificate, anew at every start.
                "insecureSkipTLSVerify": true,
                "service": { "name": NAME, "namespace": NAMESPACE, "port": 443 },
            },
        }),
    ]
}

fn deployment(server: &MetricsServer) -> Value {
    let mut args = vec![
        "--cert-dir=/tmp",
        "--secure-port=10250",
        "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
        "--kubelet-use-node-status-port",
        "--metric-resolution=15s",
    ];
    args.push(if server.insecure_kubelets {
        "--kubelet-insecure-tls"
    } else {
        "--kubelet-certificate-authority=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
    });
    let probe = |path: &str, first: i32| {
        json!({
            "httpGet": { "path": path, "port": "https", "scheme": "HTTPS" },
            "periodSeconds": 10, "failureThreshold": 3, "initialDelaySeconds": first,
        })
    };
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": NAME, "namespace": NAMESPACE, "labels": { "k8s-app": NAME } },
        "spec": {
            "selector": { "matchLabels": { "k8s-app": NAME } },
            "strategy": { "rollingUpdate": { "maxUnavailable": 0 } },
            "template": {
                "metadata": { "labels": { "k8s-app": NAME } },
                "spec": {
                    "serviceAccountName": NAME,
                    "priorityClassName": "system-cluster-critical",
                    "nodeSelector": { "kubernetes.io/os": "linux" },
                    "containers": [{
                        "name": NAME,
                        "image": server.image,
                        "imagePullPolicy": "IfNotPresent",
                        "args": args,
                        "ports": [{ "name": "https", "containerPort": 10250, "protocol": "TCP" }],
                        "livenessProbe": probe("/livez", 0),
                        "readinessProbe": probe("/readyz", 10),
                        "resources": { "requests": { "cpu": "100m", "memory": "200Mi" } },
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true, "runAsUser": 1000,
                            "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
                        },
                        "volumeMounts": [{ "name": "tmp", "mountPath": "/tmp" }],
                    }],
                    "volumes": [{ "name": "tmp", "emptyDir": {} }],
                },
            },
        },
    })
}
