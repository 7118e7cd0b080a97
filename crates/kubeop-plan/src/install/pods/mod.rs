//! Operator and admission as pods in `kubeop-system`, and what belongs to them.
//!
//! Invariant: every pod meets the Pod Security Standard `restricted` and runs from a read-only root file system; nothing here holds a secret.

mod admission;
mod network;
mod operator;

use super::names;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, ObjectFieldSelector,
    PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
    SeccompProfile, SecurityContext, Service, ServicePort, ServiceSpec, TopologySpreadConstraint,
    WeightedPodAffinityTerm,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::ObjectMeta;
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_crds::labels;
use std::collections::BTreeMap;

/// Who our processes are in their containers.
const USER: i64 = 65532;
/// The port of probes and metrics.
const METRICS_PORT: i32 = 9090;

/// What runs in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pods {
    /// The image of `kubeop`, as a kubelet pulls it.
    pub image: String,
    /// Whether admission runs beside the operator.
    pub admission: bool,
}

/// The objects of one process' pods.
pub(super) struct Workload {
    pub(super) deployment: Deployment,
    pub(super) service: Service,
    pub(super) budget: PodDisruptionBudget,
}

/// What the scheduler goes by: above every tenant's pods, below the cluster's own.
pub(super) fn priority() -> PriorityClass {
    PriorityClass {
        metadata: ObjectMeta { name: Some(names::PRIORITY.to_owned()), ..ObjectMeta::default() },
        value: 1_000_000_000,
        global_default: Some(false),
        description: Some("kubeOP's own pods; closed to tenants".to_owned()),
        preemption_policy: Some("PreemptLowerPriority".to_owned()),
    }
}

/// The fence around our own pods.
pub(super) fn network_policies(pods: &Pods) -> Vec<NetworkPolicy> {
    network::build(pods.admission)
}

/// The processes, the operator first: it makes the certificate that admission serves.
pub(super) fn workloads(pods: &Pods) -> Vec<Workload> {
    let mut all = vec![operator::build(&pods.image)];
    if pods.admission {
        all.push(admission::build(&pods.image));
    }
    all
}

/// What differs between the processes.
struct Process<'a> {
    /// Its ServiceAccount, and the name of all its objects.
    name: &'a str,
    /// The subcommand of `kubeop`.
    role: &'a str,
    image: &'a str,
    replicas: i32,
    ports: Vec<ContainerPort>,
    /// Seconds between the order to stop and the kill.
    grace: i64,
    readiness: Probe,
    requests: [(&'a str, &'a str); 2],
    memory_limit: &'a str,
    environment: Vec<EnvVar>,
}

fn deployment(process: &Process<'_>) -> Deployment {
    let marks = selector(process.role);
    let mut pod_marks = marks.clone();
    pod_marks.insert(labels::PART_OF.to_owned(), labels::PART_OF_KUBEOP.to_owned());
    let matching = LabelSelector { match_labels: Some(marks), ..LabelSelector::default() };
    let pod = PodSpec {
        service_account_name: Some(process.name.to_owned()),
        automount_service_account_token: Some(true),
        enable_service_links: Some(false),
        priority_class_name: Some(names::PRIORITY.to_owned()),
        termination_grace_period_seconds: Some(process.grace),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        affinity: Some(apart(&matching)),
        topology_spread_constraints: Some(vec![TopologySpreadConstraint {
            max_skew: 1,
            topology_key: "topology.kubernetes.io/zone".to_owned(),
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(matching.clone()),
            ..TopologySpreadConstraint::default()
        }]),
        containers: vec![container(process)],
        ..PodSpec::default()
    };
    Deployment {
        metadata: meta(process.name, process.role),
        spec: Some(DeploymentSpec {
            replicas: Some(process.replicas),
            selector: matching,
            revision_history_limit: Some(3),
            progress_deadline_seconds: Some(300),
            // A new pod serves before an old one goes.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(pod_marks), ..ObjectMeta::default() }),
                spec: Some(pod),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn container(process: &Process<'_>) -> Container {
    let quantity = |(key, amount): (&str, &str)| (key.to_owned(), Quantity(amount.to_owned()));
    let mut environment = vec![EnvVar {
        name: "KUBEOP_POD_NAME".to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: "metadata.name".to_owned(),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }];
    environment.extend(process.environment.iter().cloned());
    Container {
        name: process.role.to_owned(),
        image: Some(process.image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        args: Some(vec![process.role.to_owned()]),
        env: Some(environment),
        ports: Some(process.ports.clone()),
        resources: Some(ResourceRequirements {
            requests: Some(process.requests.map(quantity).into()),
            limits: Some([quantity(("memory", process.memory_limit))].into()),
            ..ResourceRequirements::default()
        }),
        liveness_probe: Some(Probe { failure_threshold: Some(3), period_seconds: Some(10), ..probe("/healthz") }),
        readiness_probe: Some(process.readiness.clone()),
        startup_probe: Some(Probe { failure_threshold: Some(60), period_seconds: Some(1), ..probe("/healthz") }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            privileged: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

/// A probe of the plain listener.
fn probe(path: &str) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("metrics".to_owned()),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}

fn port(name: &str, port: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

/// Replicas on different nodes, where there are several.
fn apart(matching: &LabelSelector) -> Affinity {
    let term = PodAffinityTerm {
        label_selector: Some(matching.clone()),
        topology_key: "kubernetes.io/hostname".to_owned(),
        ..PodAffinityTerm::default()
    };
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![WeightedPodAffinityTerm {
                weight: 100,
                pod_affinity_term: term,
            }]),
            ..PodAntiAffinity::default()
        }),
        ..Affinity::default()
    }
}

/// What the pods of a process are told by; the chart's are too.
fn selector(role: &str) -> BTreeMap<String, String> {
    [(labels::NAME.to_owned(), "kubeop".to_owned()), (labels::COMPONENT.to_owned(), role.to_owned())].into()
}

fn meta(name: &str, role: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(SYSTEM_NAMESPACE.to_owned()),
        labels: Some(selector(role)),
        ..ObjectMeta::default()
    }
}

/// The address of a process within the cluster.
fn service(name: &str, role: &str, ports: &[(&str, i32)]) -> Service {
    let ports = ports.iter().map(|(target, port)| ServicePort {
        name: Some((*target).to_owned()),
        port: *port,
        target_port: Some(IntOrString::String((*target).to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    });
    Service {
        metadata: meta(name, role),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(selector(role)),
            ports: Some(ports.collect()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// At most one pod at a time is taken away on purpose.
fn budget(name: &str, role: &str) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: meta(name, role),
        spec: Some(k8s_openapi::api::policy::v1::PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector { match_labels: Some(selector(role)), ..LabelSelector::default() }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..k8s_openapi::api::policy::v1::PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_restricted_and_selected_by_what_they_carry() {
        for workload in workloads(&Pods { image: "ghcr.io/kubeop/kubeop:1".to_owned(), admission: true }) {
            let spec = workload.deployment.spec.unwrap();
            let template = spec.template;
            let carried = template.metadata.unwrap().labels.unwrap();
            assert!(spec.selector.match_labels.unwrap().iter().all(|(key, value)| carried.get(key) == Some(value)));
            let pod = template.spec.unwrap();
            let (security, container) = (pod.security_context.unwrap(), pod.containers[0].clone());
            assert_eq!(security.run_as_non_root, Some(true));
            assert_eq!(security.seccomp_profile.unwrap().type_, "RuntimeDefault");
            let own = container.security_context.unwrap();
            assert_eq!(own.read_only_root_filesystem, Some(true));
            assert_eq!(own.capabilities.unwrap().drop.unwrap(), ["ALL"]);
            assert_eq!(container.image.as_deref(), Some("ghcr.io/kubeop/kubeop:1"));
        }
    }

    #[test]
    fn admission_runs_twice_and_never_loses_a_pod_before_the_next_serves() {
        let pods = Pods { image: "kubeop".to_owned(), admission: true };
        let admission = workloads(&pods).remove(1).deployment.spec.unwrap();
        assert_eq!(admission.replicas, Some(2));
        let update = admission.strategy.unwrap().rolling_update.unwrap();
        assert_eq!(update.max_unavailable, Some(IntOrString::Int(0)));
    }
}
