//! The Deployment.
//!
//! Invariant: pods meet the project's Pod Security Standard, and hold no credential of the cluster.

use super::{ValidApp, meta, pod_labels, selector};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile,
    SecurityContext,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::ObjectMeta;
use kubeop_crds::PodSecurity;
use kubeop_crds::app::image::Protocol;

/// `ReplicaSets` kept for a rollback by hand.
const HISTORY: i32 = 5;
/// Name of the one container.
const CONTAINER: &str = "app";

pub(super) fn build(app: &ValidApp) -> Deployment {
    let rolling = RollingUpdateDeployment {
        max_surge: Some(app.rollout.max_surge.clone()),
        max_unavailable: Some(app.rollout.max_unavailable.clone()),
    };
    Deployment {
        metadata: meta(app, app.name.as_str()),
        spec: Some(DeploymentSpec {
            replicas: Some(app.replicas),
            selector: LabelSelector { match_labels: Some(selector(app)), ..LabelSelector::default() },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(rolling),
            }),
            progress_deadline_seconds: Some(app.rollout.progress_deadline),
            revision_history_limit: Some(HISTORY),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(pod_labels(app)), ..ObjectMeta::default() }),
                spec: Some(pod(app)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn pod(app: &ValidApp) -> PodSpec {
    let seccomp = SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None };
    PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext { seccomp_profile: Some(seccomp), ..PodSecurityContext::default() }),
        volumes: some(app.mounts.volumes.clone()),
        containers: vec![container(app)],
        ..PodSpec::default()
    }
}

fn container(app: &ValidApp) -> Container {
    let ports = app.ports.iter().map(|port| ContainerPort {
        name: Some(port.name.clone()),
        container_port: port.container,
        protocol: Some(protocol(port.protocol).to_owned()),
        ..ContainerPort::default()
    });
    Container {
        name: CONTAINER.to_owned(),
        image: Some(app.image.to_string()),
        command: some(app.command.clone()),
        args: some(app.args.clone()),
        env: some(app.env.clone()),
        env_from: some(app.mounts.env_from.clone()),
        ports: some(ports.collect()),
        resources: Some(app.compute.requirements()),
        volume_mounts: some(app.mounts.mounts.clone()),
        readiness_probe: app.probes.readiness.clone(),
        liveness_probe: app.probes.liveness.clone(),
        startup_probe: app.probes.startup.clone(),
        security_context: Some(security(app.pod_security)),
        ..Container::default()
    }
}

/// At `baseline` only what no ordinary image misses: stock images such as nginx start as root and keep a few capabilities. `restricted` asks for the rest.
fn security(level: PodSecurity) -> SecurityContext {
    let restricted = level == PodSecurity::Restricted;
    SecurityContext {
        allow_privilege_escalation: Some(false),
        run_as_non_root: restricted.then_some(true),
        capabilities: restricted.then(|| Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        ..SecurityContext::default()
    }
}

/// As Kubernetes spells it.
pub(super) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use super::super::super::validate::tests::check_under;
    use super::*;
    use crate::fixture::app;
    use serde_json::{Value, json};

    fn built(spec: Value) -> Value {
        let valid = check_under(&app("shop", spec), &[]).unwrap();
        serde_json::to_value(build(&valid)).unwrap()
    }

    #[test]
    fn the_long_form_reaches_the_container() {
        let deployment = built(json!({"delivery": {"kind": "Image", "image": {
            "ref": "ghcr.io/acme/shop:1", "replicas": 3, "command": ["run"], "args": ["-v"],
            "ports": [{"name": "http", "containerPort": 8080, "servicePort": 80}],
            "env": [{"name": "A", "value": "b"}], "secrets": [{"name": "s"}],
            "probes": {"readiness": {"httpGet": {"path": "/", "port": "http"}}},
            "rollout": {"maxSurge": 1, "maxUnavailable": "25%", "progressDeadlineSeconds": 60},
        }}}));
        let spec = &deployment["spec"];
        assert_eq!((&spec["replicas"], &spec["progressDeadlineSeconds"]), (&json!(3), &json!(60)));
        assert_eq!(spec["strategy"]["rollingUpdate"], json!({"maxSurge": 1, "maxUnavailable": "25%"}));
        let container = &spec["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "ghcr.io/acme/shop:1");
        assert_eq!(container["ports"], json!([{"name": "http", "containerPort": 8080, "protocol": "TCP"}]));
        assert_eq!(container["readinessProbe"]["httpGet"]["port"], "http");
        assert_eq!(container["envFrom"][0]["secretRef"]["name"], "s");
        assert_eq!(container["resources"]["requests"], json!({"cpu": "100m", "memory": "128Mi"}));
    }

    #[test]
    fn pods_hold_no_token_and_cannot_escalate() {
        let deployment = built(json!({"delivery": {"image": "nginx"}}));
        let pod = &deployment["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["securityContext"], json!({"seccompProfile": {"type": "RuntimeDefault"}}));
        assert_eq!(pod["containers"][0]["securityContext"], json!({"allowPrivilegeEscalation": false}));
        let restricted = serde_json::to_value(security(PodSecurity::Restricted)).unwrap();
        assert_eq!(restricted["capabilities"], json!({"drop": ["ALL"]}));
        assert_eq!(restricted["runAsNonRoot"], true);
    }
}
