//! The namespace.
//!
//! Invariant: its labels turn on Pod Security and admission, and its annotation tells the guard `kubeop-egress` what may be opened; who could
//! change them would open the fence.

use super::ValidProject;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::ObjectMeta;
use kubeop_crds::PodSecurity;
use kubeop_crds::labels::EGRESS_BASELINE;

/// Pod Security labels (Kubernetes "Pod Security Admission"). The version is `latest`, not a pinned one: checks that a newer API server adds
/// (`host` in probes, since 1.34) close holes, and upgrading the cluster is the platform team's decision.
const VERSION: &str = "latest";

pub(super) fn build(project: &ValidProject) -> Namespace {
    let mut labels = project.identity.labels();
    let levels =
        [("enforce", project.pod_security), ("warn", PodSecurity::Restricted), ("audit", PodSecurity::Restricted)];
    for (mode, level) in levels {
        labels.insert(format!("pod-security.kubernetes.io/{mode}"), level.as_str().to_owned());
        labels.insert(format!("pod-security.kubernetes.io/{mode}-version"), VERSION.to_owned());
    }
    let mut annotations = project.owner.annotations();
    let baseline: Vec<String> = project.policy.egress_baseline.entries().iter().map(ToString::to_string).collect();
    annotations.insert(EGRESS_BASELINE.to_owned(), baseline.join(","));
    Namespace {
        metadata: ObjectMeta {
            name: Some(project.namespace.to_string()),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::valid;
    use super::*;

    #[test]
    fn pod_security_is_enforced_at_the_project_s_level() {
        let mut project = valid(&[], &[]);
        let of = |project: &ValidProject, mode: &str| {
            build(project).metadata.labels.unwrap()[&format!("pod-security.kubernetes.io/{mode}")].clone()
        };
        assert_eq!((of(&project, "enforce"), of(&project, "warn")), ("baseline".into(), "restricted".into()));
        project.pod_security = PodSecurity::Restricted;
        assert_eq!(of(&project, "enforce"), "restricted");
    }

    #[test]
    fn the_egress_baseline_is_told_also_when_it_is_open() {
        let of = |egress: &[&str]| build(&valid(&[], egress)).metadata.annotations.unwrap()[EGRESS_BASELINE].clone();
        assert_eq!(of(&["10.0.0.0/8", "fd00::/8"]), "10.0.0.0/8,fd00::/8");
        assert_eq!(of(&[]), "");
    }
}
