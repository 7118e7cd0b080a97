//! Tables on raw JSON: each denial beside a twin that differs only in the attacked property; hostile reviews; laws.

use super::*;
use crate::review::{self, decode};
use kubeop_core::policy::{PlatformPolicy, RawPolicy};
use prometheus_client::registry::Registry;
use proptest::prelude::*;
use serde_json::{Value, json};

const GOOD: &str = "docker.io/library/nginx:1.25";
const EVIL: &str = "evil.io/miner:1";

fn loaded() -> PolicyState {
    let raw: RawPolicy = serde_json::from_value(json!({
        "imageAllowlist": ["docker.io", "registry.corp:5000/team"], "egressBaseline": ["10.0.0.0/8"]
    }))
    .unwrap();
    PolicyState::Loaded(Box::new(PlatformPolicy::parse(&raw).unwrap()))
}

fn metrics() -> Metrics {
    Metrics::register(&mut Registry::default())
}

fn review(resource: (&str, &str, &str, &str), operation: &str, object: &Value, old: &Value) -> Value {
    let (group, resource, subresource, kind) = resource;
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": group, "version": if group == "platform.kubeop.io" { "v1alpha1" } else { "v1" }, "kind": kind},
        "resource": {"group": group, "version": if group == "platform.kubeop.io" { "v1alpha1" } else { "v1" }, "resource": resource},
        "subResource": subresource, "requestKind": null, "name": "x", "namespace": "acme-web", "operation": operation,
        "userInfo": {"username": "tenant", "groups": ["system:authenticated"]},
        "object": object, "oldObject": old, "dryRun": true, "options": {"kind": "CreateOptions"}
    }})
}

const POD: (&str, &str, &str, &str) = ("", "pods", "", "Pod");
const NETWORK: (&str, &str, &str, &str) = ("networking.k8s.io", "networkpolicies", "", "NetworkPolicy");
const APP: (&str, &str, &str, &str) = ("platform.kubeop.io", "apps", "", "App");

fn judged_under(state: &PolicyState, review: &Value) -> Judgement {
    let body = serde_json::to_vec(review).unwrap();
    judge(&decode(&body).expect("a readable review"), state, &metrics())
}

#[track_caller]
fn admitted(review: &Value) {
    let judgement = judged_under(&loaded(), review);
    assert_eq!(judgement.denial, None, "{review}");
}

#[track_caller]
fn denied(review: &Value, says: &str) {
    let denial = judged_under(&loaded(), review).denial.unwrap_or_else(|| panic!("admitted: {review}"));
    assert!(denial.contains(says), "{denial}\n{review}");
}

fn create(resource: (&str, &str, &str, &str), object: &Value) -> Value {
    review(resource, "CREATE", object, &Value::Null)
}

#[expect(clippy::needless_pass_by_value, reason = "calls read better with a literal")]
fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec})
}

fn pod_of(image: &str) -> Value {
    pod(json!({"containers": [{"name": "a", "image": image}]}))
}

#[test]
fn every_place_of_an_image_in_a_pod_is_judged() {
    for (place, spec) in [
        ("spec.containers[0].image", json!({"containers": [{"name": "a", "image": "X"}]})),
        (
            "spec.containers[1].image",
            json!({"containers": [{"name": "a", "image": GOOD}, {"name": "b", "image": "X"}]}),
        ),
        (
            "spec.initContainers[0].image",
            json!({"initContainers": [{"image": "X", "restartPolicy": "Always"}], "containers": [{"image": GOOD}]}),
        ),
        (
            "spec.ephemeralContainers[0].image",
            json!({"containers": [{"image": GOOD}], "ephemeralContainers": [{"image": "X", "targetContainerName": "a"}]}),
        ),
        (
            "spec.volumes[1].image.reference",
            json!({"containers": [{"image": GOOD}], "volumes": [{"emptyDir": {}}, {"name": "v", "image": {"reference": "X", "pullPolicy": "Always"}}]}),
        ),
        (
            "spec.sidecarContainers[0].image",
            json!({"containers": [{"image": GOOD}], "sidecarContainers": [{"image": "X"}]}),
        ),
        ("spec.containers[0].image", json!({"volumes": null, "initContainers": null, "containers": [{"image": "X"}]})),
    ] {
        let with =
            |image: &str| pod(serde_json::from_str(&spec.to_string().replace("\"X\"", &format!("{image:?}"))).unwrap());
        admitted(&create(POD, &with(GOOD)));
        denied(
            &create(POD, &with(EVIL)),
            &format!(
                "[images] {place}: image \"{EVIL}\" is not allowed: the allow-list of this platform is docker.io, registry.corp:5000/team"
            ),
        );
        for subresource in ["ephemeralcontainers", "resize"] {
            let at = ("", "pods", subresource, "Pod");
            denied(&review(at, "UPDATE", &with(EVIL), &pod_of(GOOD)), "[images]");
            admitted(&review(at, "UPDATE", &with(GOOD), &pod_of(GOOD)));
        }
    }
}

#[test]
fn aliases_and_look_alikes_of_registries_are_seen_through() {
    for good in [
        "nginx",
        "nginx:1",
        "library/nginx",
        "index.docker.io/x",
        "registry.corp:5000/team/x",
        "nginx@sha256:9b2cf1f5a2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef0123456789a",
    ] {
        admitted(&create(POD, &pod_of(good)));
    }
    for bad in [
        "docker.io.evil.com/nginx",
        "registry.corp:5000/teamevil/x",
        "registry.corp/team/x",
        "registry.corp:443/team/x",
        "localhost/x",
        "127.0.0.1:5000/x",
        "10.0.0.1/x",
        "Docker.io/nginx",
        "docker.io/Nginx",
        "",
        " nginx",
        "nginx\u{0}",
        "\u{0430}lpine",
        "https://docker.io/x",
    ] {
        denied(&create(POD, &pod_of(bad)), "[images] spec.containers[0].image: ");
    }
}

#[test]
fn a_pod_that_is_not_understood_is_denied() {
    for spec in [
        json!(null),
        json!([]),
        json!("x"),
        json!({}),
        json!({"containers": []}),
        json!({"containers": null}),
        json!({"containers": {}}),
        json!({"containers": "nginx"}),
        json!({"containers": [{}]}),
        json!({"containers": [{"image": null}]}),
        json!({"containers": [{"image": 1}]}),
        json!({"containers": [{"image": ["nginx"]}]}),
        json!({"containers": [null]}),
        json!({"containers": [{"image": GOOD}], "initContainers": 1}),
        json!({"containers": [{"image": GOOD}], "volumes": [{"image": {}}]}),
        json!({"containers": [{"image": GOOD}], "volumes": [{"image": GOOD}]}),
        json!({"containers": [{"image": GOOD}], "volumes": {"image": {"reference": GOOD}}}),
        json!({"containers": [{"image": GOOD}], "xontainers": {}}),
    ] {
        denied(&create(POD, &pod(spec)), "[images]");
    }
    denied(&create(POD, &json!({"metadata": {}})), "not understood");
    denied(&create(POD, &json!([])), "not understood");
}

#[test]
fn duplicate_fields_hide_nothing() {
    let good = create(POD, &pod_of(GOOD)).to_string();
    let twice = |from: &str, to: &str| {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good);
        text
    };
    for text in [
        twice(r#""containers":"#, r#""containers":[{"image":"evil.io/x"}],"containers":"#),
        twice(r#""image":"#, r#""image":"evil.io/x","image":"#),
        twice(r#""spec":"#, r#""spec":{"containers":[{"image":"evil.io/x"}]},"spec":"#),
    ] {
        let judgement = judge(&decode(text.as_bytes()).unwrap(), &loaded(), &metrics());
        assert!(judgement.denial.is_some(), "{text}");
    }
    for text in
        [twice(r#""object":"#, r#""object":{},"object":"#), twice(r#""request":"#, r#""request":{},"request":"#)]
    {
        assert!(decode(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn an_update_is_judged_by_what_it_adds() {
    let old = pod_of(EVIL);
    let mut relabelled = old.clone();
    relabelled["metadata"]["labels"] = json!({"a": "b"});
    admitted(&review(POD, "UPDATE", &relabelled, &old));
    let more = pod(json!({"containers": [{"image": EVIL}], "ephemeralContainers": [{"image": "evil.io/other"}]}));
    denied(&review(("", "pods", "ephemeralcontainers", "Pod"), "UPDATE", &more, &old), "evil.io/other");
    denied(&review(POD, "UPDATE", &relabelled, &json!({})), "not understood");
    denied(&review(POD, "UPDATE", &relabelled, &Value::Null), "not a request");
    denied(&review(POD, "CREATE", &relabelled, &old), "[images]");

    let wide = json!({"metadata": {"name": "x"}, "spec": {"egress": [{}]}});
    let mut relabelled = wide.clone();
    relabelled["metadata"]["labels"] = json!({"a": "b"});
    admitted(&review(NETWORK, "UPDATE", &relabelled, &wide));
    relabelled["spec"]["podSelector"] = json!({});
    denied(
        &review(NETWORK, "UPDATE", &relabelled, &wide),
        "[network] spec.egress[0]: a rule without \"to\" opens every address",
    );

    let app = json!({"metadata": {"name": "x", "finalizers": ["a"]}, "spec": {"delivery": {"image": EVIL}}});
    let mut ending = app.clone();
    ending["metadata"]["finalizers"] = json!([]);
    admitted(&review(APP, "UPDATE", &ending, &app));
    ending["spec"]["suspended"] = json!(true);
    denied(&review(APP, "UPDATE", &ending, &app), "[images] spec.delivery.image: image");
}

#[test]
fn network_policies_are_judged_by_the_core_policy() {
    let policy = |name: &str, cidr: &str| json!({"metadata": {"name": name}, "spec": {"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": cidr}}]}]}});
    admitted(&create(NETWORK, &policy("x", "10.1.0.0/16")));
    denied(
        &create(NETWORK, &policy("x", "8.8.8.8/32")),
        "[network] spec.egress[0]: to[0]: ipBlock: 8.8.8.8/32 reaches outside the egress baseline of this platform, which is 10.0.0.0/8",
    );
    denied(&create(NETWORK, &policy("x", "169.254.169.254/32")), "always stays closed");
    denied(&create(NETWORK, &policy("akubeop-x", "8.8.8.8/32")), "[network]");
    // The platform's own, which nobody else may write (policy `kubeop-reserved`).
    admitted(&create(NETWORK, &policy("kubeop-egress", "0.0.0.0/0")));
    // The name that counts is the object's: the request's is the caller's business with generateName.
    let mut generated = create(NETWORK, &policy("x", "8.8.8.8/32"));
    generated["request"]["name"] = json!("kubeop-x");
    generated["request"]["object"]["metadata"] = json!({"generateName": "kubeop-"});
    denied(&generated, "[network]");
    // Its own namespace is the request's.
    let from = |name: &str| json!({"metadata": {"name": "x"}, "spec": {"ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}]}]}});
    admitted(&create(NETWORK, &from("acme-web")));
    denied(
        &create(NETWORK, &from("other")),
        "[network] spec.ingress[0]: from[0]: namespaceSelector: it may select the namespace \"other\"",
    );
    let mut nowhere = create(NETWORK, &from("acme-web"));
    nowhere["request"]["namespace"] = json!("");
    denied(&nowhere, "[review]");
    denied(&create(NETWORK, &json!({"spec": {}})), "not understood");
    admitted(&create(NETWORK, &json!({"metadata": {}})));
}

#[test]
fn apps_are_judged_by_images_and_hosts() {
    let app = |spec: Value| create(APP, &json!({"metadata": {"name": "x"}, "spec": spec}));
    for spec in [
        json!({"delivery": {"image": GOOD}}),
        json!({"delivery": {"image": {"ref": GOOD, "replicas": 2}}, "hosts": ["web.local"], "host": "b.local", "hooks": {"pre": [{"name": "m", "image": GOOD}, {"name": "own"}]}}),
        json!({"delivery": {"git": {"url": "https://x"}}, "hooks": null, "hosts": null}),
    ] {
        admitted(&app(spec));
    }
    for (spec, says) in [
        (
            json!({"delivery": {"image": EVIL}}),
            "[images] spec.delivery.image: image \"evil.io/miner:1\" is not allowed",
        ),
        (json!({"delivery": {"image": {"ref": EVIL}}}), "[images] spec.delivery.image.ref: "),
        (
            json!({"delivery": {"image": GOOD}, "hooks": {"pre": [{"image": GOOD}, {"image": EVIL}]}}),
            "[images] spec.hooks.pre[1].image: ",
        ),
        (
            json!({"delivery": {"image": GOOD}, "hooks": {"post": [{"image": EVIL}]}}),
            "[images] spec.hooks.post[0].image: ",
        ),
        (json!({"delivery": {"image": GOOD}, "host": "*.evil"}), "[hosts] spec.host: "),
        (json!({"delivery": {"image": GOOD}, "hosts": ["ok.local", "1.2.3.4"]}), "[hosts] spec.hosts[1]: "),
        (json!({"delivery": {"image": 5}}), "[review] spec.delivery.image is not understood"),
        (json!({"delivery": {"image": {}}}), "[review] spec.delivery.image.ref is not understood"),
        (json!({"delivery": {"image": GOOD}, "hooks": []}), "[review] spec.hooks is not understood"),
        (json!({"delivery": []}), "[review]"),
        (json!({"delivery": {"image": GOOD}, "hosts": "a.b"}), "[review]"),
        (json!([]), "[review]"),
    ] {
        denied(&app(spec), says);
    }
}

#[test]
fn the_canary_is_always_denied_and_repeats_its_label() {
    let map = |labels: Value| {
        create(("", "configmaps", "", "ConfigMap"), &json!({"metadata": {"name": "x", "labels": labels}, "data": {}}))
    };
    for state in [loaded(), PolicyState::Unread, PolicyState::Missing, PolicyState::Malformed("x".to_owned())] {
        let judgement = judged_under(&state, &map(json!({"app.kubeop.io/canary": "c-1234"})));
        assert_eq!(judgement, Judgement::deny(Rule::Canary, "kubeop canary c-1234"));
        assert_eq!(judged_under(&state, &map(json!({"a": "b"}))), Judgement::admit(Rule::Canary));
    }
    denied(&map(json!({"app.kubeop.io/canary": 1})), "not understood");
}

#[test]
fn without_a_policy_everything_that_needs_one_is_denied() {
    for (state, says) in [
        (PolicyState::Unread, "has not been read yet"),
        (PolicyState::Missing, "is missing"),
        (
            PolicyState::Malformed("egressBaseline[0]: bad".to_owned()),
            "is invalid: ask the platform team to correct it: egressBaseline[0]: bad",
        ),
    ] {
        for review in [
            create(POD, &pod_of(GOOD)),
            create(NETWORK, &json!({"metadata": {}, "spec": {}})),
            create(APP, &json!({"spec": {"delivery": {"image": GOOD}}})),
        ] {
            let judgement = judged_under(&state, &review);
            assert_eq!(judgement.rule, Rule::Policy);
            let denial = judgement.denial.unwrap();
            assert!(denial.starts_with("[policy] ") && denial.contains(says), "{denial}");
        }
    }
}

#[test]
fn what_is_not_listed_is_denied() {
    for resource in [
        ("", "pods", "exec", "PodExecOptions"),
        ("", "pods", "status", "Pod"),
        ("", "pods", "", "Other"),
        ("apps", "deployments", "", "Deployment"),
        ("x", "pods", "", "Pod"),
        ("", "Pods", "", "Pod"),
        ("platform.kubeop.io", "apps", "status", "App"),
        ("cilium.io", "networkpolicies", "", "NetworkPolicy"),
    ] {
        denied(&create(resource, &pod_of(GOOD)), "[review] CREATE of ");
    }
    for operation in ["DELETE", "CONNECT", "create", "", "PATCH"] {
        denied(
            &review(POD, operation, &pod_of(GOOD), &pod_of(GOOD)),
            "is not a request this version of kubeop can judge",
        );
    }
    denied(&create(POD, &Value::Null), "[review]");
    // A policy may go, also while it is wider than allowed, and its namespace with it.
    let wide = json!({"metadata": {"name": "x"}, "spec": {"egress": [{}]}});
    admitted(&review(NETWORK, "DELETE", &Value::Null, &wide));
    denied(&review(NETWORK, "DELETE", &wide, &wide), "[review]");
    let mut newer = create(POD, &pod_of(GOOD));
    newer["request"]["resource"]["version"] = json!("v2");
    denied(&newer, "[review]");
}

#[test]
fn a_panic_is_a_denial() {
    let judgement = guarded(|| panic!("a defect"));
    assert_eq!(judgement.rule, Rule::Review);
    assert!(judgement.denial.unwrap().contains("failed to judge"));
}

#[test]
fn labels_are_spelled_the_same_in_core_and_in_the_custom_resources() {
    assert_eq!(kubeop_core::policy::INGRESS_LABEL, kubeop_crds::labels::INGRESS);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!(GOOD)),
        Just(json!(EVIL)),
    ];
    leaf.prop_recursive(5, 48, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(
                "(image|containers|initContainers|volumes|spec|metadata|[a-z]{1,4})",
                inner,
                0..4
            )
            .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_panic_and_none_are_admitted(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn no_object_panics(object in any_json(), old in any_json(), which in 0_usize..4, update in any::<bool>()) {
        let resource = [POD, NETWORK, APP, ("", "configmaps", "", "ConfigMap")][which];
        let review = review(resource, if update { "UPDATE" } else { "CREATE" }, &object, &old);
        let judgement = judged_under(&loaded(), &review);
        let uid = "705ab4f5-6393-11e8-b7cc-42010a800002";
        let answer: Value = match &judgement.denial {
            None => serde_json::from_slice(&review::admit(uid)).unwrap(),
            Some(denial) => serde_json::from_slice(&review::deny(uid, judgement.rule, denial)).unwrap(),
        };
        prop_assert_eq!(&answer["response"]["uid"], uid);
        prop_assert_eq!(answer["response"]["allowed"].as_bool(), Some(judgement.denial.is_none()));
    }

    #[test]
    fn a_review_with_any_part_replaced_is_answered(junk in any_json(), path in proptest::sample::select(vec![
        "/request/kind", "/request/resource", "/request/subResource", "/request/operation", "/request/namespace", "/request/object",
        "/request/object/spec", "/request/object/spec/containers", "/request/object/spec/containers/0", "/request/oldObject", "/request", "/kind",
    ])) {
        let mut review = create(POD, &pod_of(EVIL));
        *review.pointer_mut(path).unwrap() = junk;
        let body = serde_json::to_vec(&review).unwrap();
        if let Ok(request) = decode(&body) {
            let judgement = judge(&request, &loaded(), &metrics());
            // Only another object can be a good one.
            prop_assert!(judgement.denial.is_some() || path.starts_with("/request/object"), "{}", review);
        }
    }

    #[test]
    fn no_pod_with_a_forbidden_image_is_admitted(
        list in "(containers|initContainers|ephemeralContainers|[a-zA-Z]{0,8}[cC]ontainers)", before in 0_usize..3, noise in any_json()
    ) {
        let mut containers = vec![json!({"image": GOOD}); before];
        containers.push(json!({"name": "n", "image": EVIL, "env": noise}));
        let mut spec = json!({"containers": [{"image": GOOD}], "affinity": null});
        spec[&list] = Value::from(containers);
        prop_assert!(judged_under(&loaded(), &create(POD, &pod(spec))).denial.is_some());
    }
}

/// Every rule of the installed webhook configuration leads to a rule here: a request it sends is never "unknown".
#[test]
fn every_rule_of_the_installed_configuration_is_judged() {
    use kubeop_plan::install::webhook::{WebhookTarget, build};
    let configuration = build(&WebhookTarget::Url("https://127.0.0.1:1".to_owned()));
    let mut count = 0;
    for rule in configuration.webhooks.unwrap().into_iter().flat_map(|webhook| webhook.rules.unwrap()) {
        let (group, version) = (&rule.api_groups.unwrap()[0], &rule.api_versions.unwrap()[0]);
        for full in &rule.resources.unwrap() {
            let (resource, subresource) = full.split_once('/').unwrap_or((full, ""));
            let kind = match resource {
                "pods" => "Pod",
                "networkpolicies" => "NetworkPolicy",
                "apps" => "App",
                "configmaps" => "ConfigMap",
                other => panic!("{other} has no rule"),
            };
            for operation in rule.operations.as_ref().unwrap() {
                let object = json!({"metadata": {"name": "x"}, "spec": {}});
                let (object, old) =
                    if operation == "DELETE" { (Value::Null, object) } else { (object.clone(), object) };
                let review = review((group, resource, subresource, kind), operation, &object, &old);
                assert_eq!(review["request"]["resource"]["version"], json!(version));
                let judgement = judged_under(&loaded(), &review);
                assert_ne!(judgement.rule, Rule::Review, "{operation} {group}/{full}: {:?}", judgement.denial);
                count += 1;
            }
        }
    }
    assert!(count >= 8);
}
