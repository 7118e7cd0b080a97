//! The `ValidatingWebhookConfiguration` `kubeop-admission`.
//!
//! Invariant: it selects namespaced resources in project namespaces, by name, and the canary; never a cluster-scoped kind.

use super::names;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, RuleWithOperations, ServiceReference, ValidatingWebhook, ValidatingWebhookConfiguration,
    WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::core::ObjectMeta;
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_crds::{GROUP, labels};

/// Where the API server reaches admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebhookTarget {
    /// `https://host:port`, without a path: a process outside the cluster (`kubeop dev`).
    Url(String),
    /// A Service in `kubeop-system` and its port.
    Service {
        /// Its name.
        name: String,
        /// Its port.
        port: i32,
    },
}

/// Before the operator has seen an answer, a webhook that is down stops nothing; the operator turns this to `Fail`.
const IGNORE: &str = "Ignore";

/// The configuration as it is first installed.
pub fn build(target: &WebhookTarget) -> ValidatingWebhookConfiguration {
    ValidatingWebhookConfiguration {
        metadata: ObjectMeta { name: Some(names::WEBHOOK.to_owned()), ..ObjectMeta::default() },
        webhooks: Some(vec![projects(target), canary(target)]),
    }
}

/// The configuration `wanted` with what the operator has put into the live one: the CA bundle, and the failure policy while the target is the same.
/// Applying the bare one again would open the fence.
#[must_use]
pub fn keep_live(
    mut wanted: ValidatingWebhookConfiguration,
    live: &ValidatingWebhookConfiguration,
) -> ValidatingWebhookConfiguration {
    for webhook in wanted.webhooks.iter_mut().flatten() {
        let Some(live) = live.webhooks.iter().flatten().find(|live| live.name == webhook.name) else { continue };
        let same = live.client_config.url == webhook.client_config.url
            && live.client_config.service == webhook.client_config.service;
        webhook.client_config.ca_bundle.clone_from(&live.client_config.ca_bundle);
        if same {
            webhook.failure_policy.clone_from(&live.failure_policy);
        }
    }
    wanted
}

fn projects(target: &WebhookTarget) -> ValidatingWebhook {
    let rules = vec![
        rule("", "v1", &["pods"], &["CREATE", "UPDATE"]),
        rule("", "v1", &["pods/ephemeralcontainers", "pods/resize"], &["CREATE", "UPDATE"]),
        rule("networking.k8s.io", "v1", &["networkpolicies"], &["CREATE", "UPDATE"]),
        rule(GROUP, "v1alpha1", &["apps"], &["CREATE", "UPDATE"]),
    ];
    let in_projects =
        LabelSelectorRequirement { key: labels::PROJECT_ID.to_owned(), operator: "Exists".to_owned(), values: None };
    ValidatingWebhook {
        namespace_selector: Some(LabelSelector {
            match_expressions: Some(vec![in_projects]),
            ..LabelSelector::default()
        }),
        rules: Some(rules),
        match_conditions: Some(vec![unless_unchanged()]),
        ..webhook(names::WEBHOOK_PROJECTS, target, names::ADMIT_PATH)
    }
}

/// An update of a pod that leaves its spec alone (labels, finalizers) opens nothing, and must not wait for us: a Job or a namespace could not end
/// while admission is down.
fn unless_unchanged() -> MatchCondition {
    MatchCondition {
        name: "unless-pod-spec-unchanged".to_owned(),
        expression:
            "!(request.operation == 'UPDATE' && request.resource.resource == 'pods' && object.spec == oldObject.spec)"
                .to_owned(),
    }
}

/// A ConfigMap that carries the canary's label, in our own namespace: our server denies it in a known way, which proves that it answers.
fn canary(target: &WebhookTarget) -> ValidatingWebhook {
    let marked =
        LabelSelectorRequirement { key: labels::CANARY.to_owned(), operator: "Exists".to_owned(), values: None };
    ValidatingWebhook {
        namespace_selector: Some(LabelSelector {
            match_labels: Some([("kubernetes.io/metadata.name".to_owned(), SYSTEM_NAMESPACE.to_owned())].into()),
            ..LabelSelector::default()
        }),
        object_selector: Some(LabelSelector { match_expressions: Some(vec![marked]), ..LabelSelector::default() }),
        rules: Some(vec![rule("", "v1", &["configmaps"], &["CREATE"])]),
        ..webhook(names::WEBHOOK_CANARY, target, names::CANARY_PATH)
    }
}

fn webhook(name: &str, target: &WebhookTarget, path: &str) -> ValidatingWebhook {
    ValidatingWebhook {
        name: name.to_owned(),
        admission_review_versions: vec!["v1".to_owned()],
        client_config: client(target, path),
        failure_policy: Some(IGNORE.to_owned()),
        match_policy: Some("Equivalent".to_owned()),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(5),
        ..ValidatingWebhook::default()
    }
}

fn client(target: &WebhookTarget, path: &str) -> WebhookClientConfig {
    let no_ca: Option<ByteString> = None;
    match target {
        WebhookTarget::Url(base) => WebhookClientConfig {
            url: Some(format!("{}{path}", base.trim_end_matches('/'))),
            service: None,
            ca_bundle: no_ca,
        },
        WebhookTarget::Service { name, port } => WebhookClientConfig {
            url: None,
            service: Some(ServiceReference {
                name: name.clone(),
                namespace: SYSTEM_NAMESPACE.to_owned(),
                path: Some(path.to_owned()),
                port: Some(*port),
            }),
            ca_bundle: no_ca,
        },
    }
}

fn rule(group: &str, version: &str, resources: &[&str], operations: &[&str]) -> RuleWithOperations {
    let texts = |list: &[&str]| Some(list.iter().map(ToString::to_string).collect());
    RuleWithOperations {
        api_groups: texts(&[group]),
        api_versions: texts(&[version]),
        resources: texts(resources),
        operations: texts(operations),
        scope: Some("Namespaced".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applying_again_keeps_the_operator_s_ca_and_failure_policy() {
        let target = WebhookTarget::Url("https://127.0.0.1:9443/".to_owned());
        let mut live = build(&target);
        for webhook in live.webhooks.iter_mut().flatten() {
            webhook.failure_policy = Some("Fail".to_owned());
            webhook.client_config.ca_bundle = Some(ByteString(b"ca".to_vec()));
        }
        let again = keep_live(build(&target), &live);
        assert_eq!(again, live);
        let moved = keep_live(build(&WebhookTarget::Url("https://10.0.0.1:1".to_owned())), &live);
        let first = &moved.webhooks.unwrap()[0];
        assert_eq!(first.failure_policy.as_deref(), Some("Ignore"), "another address has not answered yet");
        assert!(first.client_config.ca_bundle.is_some());
    }

    #[test]
    fn only_namespaced_resources_by_name() {
        let config = build(&WebhookTarget::Service { name: "kubeop-admission".to_owned(), port: 443 });
        for webhook in config.webhooks.unwrap() {
            assert_eq!(webhook.side_effects, "None");
            assert!(webhook.namespace_selector.is_some(), "{}", webhook.name);
            for rule in webhook.rules.unwrap() {
                assert_eq!(rule.scope.as_deref(), Some("Namespaced"));
                assert!(rule.resources.unwrap().iter().all(|resource| !resource.contains('*')));
            }
        }
    }
}
