//! The namespace.
//!
//! Invariant: its labels turn on Pod Security and admission; who could remove them would open the fence.

use super::ValidProject;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::ObjectMeta;
use kubeop_crds::PodSecurity;

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
    Namespace {
        metadata: ObjectMeta {
            name: Some(project.namespace.to_string()),
            labels: Some(labels),
            annotations: Some(project.owner.annotations()),
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
}
