//! The network fence: NetworkPolicies `kubeop-baseline-*` over all pods of the namespace.
//!
//! Invariant: policies only add up, so what none of these opens and admission lets nobody open stays closed.
//!
//! What they cannot say: the pod addresses of a cluster are unknown here, and whether an `ipBlock` covers pods is the network plugin's choice. So
//! an open egress baseline may reach other projects' pods as addresses; their own ingress rule, which admits only their namespace, keeps them closed.

use super::{BASELINE_PREFIX, ValidProject, meta};
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kubeop_crds::labels;

pub(super) fn build(project: &ValidProject) -> Vec<NetworkPolicy> {
    vec![ingress(project), inside(project), outside(project)]
}

/// Opens the pods to their own namespace and to the platform's own namespaces (ingress controllers, monitoring), and closes them to every other
/// project. Only the operator makes namespaces of projects, and it marks them all.
fn ingress(project: &ValidProject) -> NetworkPolicy {
    let from = vec![own_pods(), no_project()];
    let rule = NetworkPolicyIngressRule { from: Some(from), ports: None };
    policy(
        project,
        "ingress",
        NetworkPolicySpec {
            ingress: Some(vec![rule]),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ..NetworkPolicySpec::default()
        },
    )
}

/// Opens the way to the own namespace and to DNS, and closes every other.
fn inside(project: &ValidProject) -> NetworkPolicy {
    let port = |protocol: &str| NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(53)),
        end_port: None,
    };
    let dns = NetworkPolicyEgressRule {
        to: Some(vec![namespaces("kubernetes.io/metadata.name", "kube-system")]),
        ports: Some(vec![port("UDP"), port("TCP")]),
    };
    let own = NetworkPolicyEgressRule { to: Some(vec![own_pods()]), ports: None };
    policy(
        project,
        "egress",
        NetworkPolicySpec {
            egress: Some(vec![own, dns]),
            policy_types: Some(vec!["Egress".to_owned()]),
            ..NetworkPolicySpec::default()
        },
    )
}

/// Opens the outside addresses of the platform's egress baseline.
fn outside(project: &ValidProject) -> NetworkPolicy {
    let to = project.policy.egress_baseline.blocks().into_iter().map(|block| {
        let except: Vec<String> = block.except.iter().map(ToString::to_string).collect();
        let block = IPBlock { cidr: block.cidr.to_string(), except: (!except.is_empty()).then_some(except) };
        NetworkPolicyPeer { ip_block: Some(block), ..NetworkPolicyPeer::default() }
    });
    policy(
        project,
        "outside",
        NetworkPolicySpec {
            egress: Some(vec![NetworkPolicyEgressRule { to: Some(to.collect()), ports: None }]),
            policy_types: Some(vec!["Egress".to_owned()]),
            ..NetworkPolicySpec::default()
        },
    )
}

fn policy(project: &ValidProject, name: &str, spec: NetworkPolicySpec) -> NetworkPolicy {
    let all_pods = LabelSelector::default();
    NetworkPolicy {
        metadata: meta(project, &format!("{BASELINE_PREFIX}{name}")),
        spec: Some(NetworkPolicySpec { pod_selector: Some(all_pods), ..spec }),
    }
}

fn own_pods() -> NetworkPolicyPeer {
    NetworkPolicyPeer { pod_selector: Some(LabelSelector::default()), ..NetworkPolicyPeer::default() }
}

fn no_project() -> NetworkPolicyPeer {
    let unmarked = LabelSelectorRequirement {
        key: labels::PROJECT_ID.to_owned(),
        operator: "DoesNotExist".to_owned(),
        values: None,
    };
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector { match_expressions: Some(vec![unmarked]), ..LabelSelector::default() }),
        ..NetworkPolicyPeer::default()
    }
}

fn namespaces(key: &str, value: &str) -> NetworkPolicyPeer {
    let labels = Some([(key.to_owned(), value.to_owned())].into());
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector { match_labels: labels, ..LabelSelector::default() }),
        ..NetworkPolicyPeer::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::valid;
    use super::*;

    fn blocks(egress: &[&str]) -> Vec<(String, Vec<String>)> {
        let spec = outside(&valid(&[], egress)).spec.unwrap();
        let peers = spec.egress.unwrap().remove(0).to.unwrap();
        peers.into_iter().filter_map(|peer| peer.ip_block).map(|b| (b.cidr, b.except.unwrap_or_default())).collect()
    }

    #[test]
    fn an_open_baseline_opens_everything_but_the_metadata_address() {
        assert_eq!(
            blocks(&[]),
            [
                ("0.0.0.0/0".to_owned(), vec!["169.254.169.254/32".to_owned()]),
                ("::/0".to_owned(), vec!["fd00:ec2::254/128".to_owned()]),
            ]
        );
    }

    #[test]
    fn a_set_baseline_opens_exactly_itself() {
        assert_eq!(
            blocks(&["10.0.0.0/8", "fd00::/8"]),
            [("10.0.0.0/8".to_owned(), vec![]), ("fd00::/8".to_owned(), vec!["fd00:ec2::254/128".to_owned()]),]
        );
    }

    #[test]
    fn every_policy_holds_for_all_pods_and_its_own_direction() {
        for policy in build(&valid(&[], &["10.0.0.0/8"])) {
            let name = policy.metadata.name.unwrap();
            let spec = policy.spec.unwrap();
            assert_eq!(spec.pod_selector, Some(LabelSelector::default()), "{name}");
            let direction = if spec.ingress.is_some() { "Ingress" } else { "Egress" };
            assert_eq!(spec.policy_types.unwrap(), [direction], "{name}");
            assert!(
                spec.egress.iter().flatten().all(|rule| rule.to.as_ref().is_some_and(|to| !to.is_empty())),
                "{name}"
            );
            assert!(
                spec.ingress.iter().flatten().all(|rule| rule.from.as_ref().is_some_and(|from| !from.is_empty())),
                "{name}"
            );
        }
    }
}
