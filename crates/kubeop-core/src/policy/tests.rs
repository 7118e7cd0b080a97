//! Tables of what a policy is and decides, with the attack cases of the security reference (classes A and B), and laws.

use super::*;
use crate::cidr::{Cidr, CidrSet};
use proptest::prelude::*;
use serde_json::{Value, json};

fn policy(images: &[&str], egress: &[&str]) -> PlatformPolicy {
    let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    PlatformPolicy::parse(&RawPolicy {
        image_allowlist: own(images),
        egress_baseline: own(egress),
        ..RawPolicy::default()
    })
    .unwrap()
}

fn private() -> PlatformPolicy {
    policy(&[], &["10.0.0.0/8", "172.16.0.0/12", "fd00::/8"])
}

fn check(policy: &PlatformPolicy, spec: &Value) -> Result<()> {
    policy.check_network_policy("acme-web", spec)
}

fn to(peers: &Value) -> Value {
    json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": peers}]})
}

fn block(cidr: &str, except: &[&str]) -> Value {
    to(&json!([{"ipBlock": {"cidr": cidr, "except": except}}]))
}

fn from(peers: &Value) -> Value {
    json!({"podSelector": {}, "ingress": [{"from": peers}]})
}

#[track_caller]
fn denied(policy: &PlatformPolicy, spec: &Value, says: &str) {
    let error = check(policy, spec).expect_err(&spec.to_string());
    assert!(error.message().contains(says), "{spec}: {error}");
}

#[track_caller]
fn allowed(policy: &PlatformPolicy, spec: &Value) {
    if let Err(error) = check(policy, spec) {
        panic!("{spec}: {error}");
    }
}

#[test]
fn a_policy_reads_as_the_api_writes_it() {
    let text = r#"{"imageAllowlist":["docker.io"],"egressBaseline":["10.0.0.0/8"],"quotaMax":{"requestsCPU":"4","requestsMemory":"8Gi"}}"#;
    let raw: RawPolicy = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&raw).unwrap(), text);
    let parsed = PlatformPolicy::parse(&raw).unwrap();
    assert_eq!(parsed.quota_max.requests_cpu, Some(Quantity::parse("4000m").unwrap()));
    assert!(parsed.check_image("nginx").is_ok() && parsed.check_images(["nginx", "ghcr.io/x"]).is_err());
    assert_eq!(PlatformPolicy::parse(&serde_json::from_str("{}").unwrap()).unwrap(), PlatformPolicy::default());
    assert!(serde_json::from_str::<RawPolicy>(r#"{"imageAllowList":[]}"#).is_err());
}

#[test]
fn an_invalid_policy_names_field_index_and_value() {
    let raw = |images: &[&str], egress: &[&str], cpu: Option<&str>| RawPolicy {
        image_allowlist: images.iter().map(|text| (*text).to_owned()).collect(),
        egress_baseline: egress.iter().map(|text| (*text).to_owned()).collect(),
        quota_max: RawQuotaMax { requests_cpu: cpu.map(str::to_owned), requests_memory: None },
    };
    for (raw, says) in [
        (raw(&["docker.io", "acme"], &[], None), "imageAllowlist[1]: \"acme\""),
        (raw(&[], &["10.0.0.1/8"], None), "egressBaseline[0]: \"10.0.0.1/8\""),
        (
            raw(&[], &["10.0.0.0/8", "169.254.169.254/32"], None),
            "egressBaseline[1]: \"169.254.169.254/32\" is link-local or the metadata",
        ),
        (raw(&[], &["fd00:ec2::254/128"], None), "egressBaseline[0]"),
        (raw(&[], &[], Some("x")), "quotaMax.requestsCPU: \"x\""),
        (raw(&[], &[], Some("-1")), "quotaMax.requestsCPU: \"-1\" is negative"),
        (raw(&vec!["docker.io"; 1001], &[], None), "imageAllowlist: at most 1000 entries are allowed, 1001 were given"),
        (raw(&[], &vec!["10.0.0.0/8"; 1001], None), "egressBaseline: at most 1000 entries"),
    ] {
        let error = PlatformPolicy::parse(&raw).unwrap_err();
        assert!(error.message().contains(says), "{error}");
    }
}

#[test]
fn the_baselines_blocks_open_exactly_what_is_allowed() {
    let blocks = policy(&[], &[]).egress_baseline.blocks();
    let texts: Vec<String> = blocks.iter().map(|b| format!("{} {:?}", b.cidr, b.except)).collect();
    assert_eq!(texts, ["0.0.0.0/0 [169.254.169.254/32]", "::/0 [fd00:ec2::254/128]"]);
    let blocks = private().egress_baseline.blocks();
    let texts: Vec<String> = blocks.iter().map(|b| format!("{} {:?}", b.cidr, b.except)).collect();
    assert_eq!(texts, ["10.0.0.0/8 []", "172.16.0.0/12 []", "fd00::/8 [fd00:ec2::254/128]"]);
    // A tenant may say what the baseline says.
    for policy in [policy(&[], &[]), private(), policy(&[], &["0.0.0.0/0"])] {
        for IpBlock { cidr, except } in policy.egress_baseline.blocks() {
            allowed(&policy, &to(&json!([{"ipBlock": {"cidr": cidr, "except": except}}])));
        }
    }
}

#[test]
fn egress_to_addresses_stays_within_the_baseline() {
    let policy = private();
    for cidr in ["10.0.0.0/8", "10.1.2.3/32", "172.16.0.0/12", "10.9.9.9/8", "::ffff:10.0.0.0/104", "FD01::/16"] {
        allowed(&policy, &block(cidr, &[]));
    }
    for (cidr, says) in [
        ("0.0.0.0/0", "0.0.0.0/0 reaches outside the egress baseline"),
        (
            "0.0.0.0/1",
            "0.0.0.0/1 reaches outside the egress baseline of this platform (to 0.0.0.0/5 among others), which is 10.0.0.0/8, 172.16.0.0/12, fd00::/8",
        ),
        ("128.0.0.0/1", "reaches outside"),
        ("8.8.8.8/32", "8.8.8.8/32 reaches outside the egress baseline of this platform, which is 10"),
        ("10.0.0.0/7", "to 11.0.0.0/8 among"),
        ("10.1.2.3/0", "0.0.0.0/0 reaches"),
        ("::/0", "reaches"),
        ("::/1", "::/1 reaches outside"),
        ("8000::/1", "to 8000::/2 among"),
        ("fd00::/8", "opens the metadata address"),
        ("::ffff:0.0.0.0/96", "0.0.0.0/0 reaches"),
        ("::ffff:8.8.8.8/128", "8.8.8.8/32 reaches"),
        ("::ffff:10.0.0.0/95", "cannot be judged"),
        ("010.0.0.0/8", "leading zeros"),
        ("10.0.0.0/08", "leading zeros"),
        ("10.0.0.0", "cannot be judged"),
        ("", "cannot be judged"),
    ] {
        denied(&policy, &block(cidr, &[]), says);
    }
}

#[test]
fn the_sentence_names_the_place() {
    let spec = json!({"egress": [{"to": [{"podSelector": {}}]}, {"ports": [{"port": 53}], "to": [{"podSelector": {}}, {"ipBlock": {"cidr": "8.8.8.8/32"}}]}]});
    assert_eq!(
        check(&private(), &spec).unwrap_err().message(),
        "spec.egress[1]: to[1]: ipBlock: 8.8.8.8/32 reaches outside the egress baseline of this platform, which is 10.0.0.0/8, 172.16.0.0/12, fd00::/8"
    );
}

#[test]
fn halves_are_judged_in_one_rule_and_in_two() {
    let policy = private();
    denied(&policy, &to(&json!([{"ipBlock": {"cidr": "10.0.0.0/9"}}, {"ipBlock": {"cidr": "0.0.0.0/1"}}])), "outside");
    denied(
        &policy,
        &json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/9"}}]}, {"to": [{"ipBlock": {"cidr": "128.0.0.0/1"}}]}]}),
        "egress[1]",
    );
}

#[test]
fn exceptions_narrow_and_must_be_canonical() {
    let policy = private();
    allowed(&policy, &block("10.0.0.0/7", &["11.0.0.0/8"]));
    allowed(&policy, &block("10.0.0.0/7", &["11.0.0.0/9", "11.128.0.0/9"]));
    denied(&policy, &block("10.0.0.0/7", &["11.0.0.0/9"]), "to 11.128.0.0/9 among");
    denied(&policy, &block("10.0.0.0/7", &["11.0.0.1/8"]), "write 11.0.0.0/8");
    denied(&policy, &block("10.0.0.0/7", &["::ffff:11.0.0.0/104"]), "write the IPv4 range itself");
    denied(&policy, &block("0.0.0.0/0", &["0.0.0.0/01"]), "leading zeros");
    denied(&policy, &to(&json!([{"ipBlock": {"cidr": "10.0.0.0/7", "except": [1]}}])), "not understood");
    denied(
        &policy,
        &to(&json!([{"ipBlock": {"cidr": "10.0.0.0/7", "Except": ["11.0.0.0/8"]}}])),
        "Except: this is not understood",
    );
}

#[test]
fn the_metadata_address_is_closed_whatever_the_list_says() {
    for policy in [policy(&[], &[]), policy(&[], &["0.0.0.0/0", "::/0"]), policy(&[], &["168.0.0.0/5"])] {
        for cidr in [
            "169.254.169.254/32",
            "169.254.0.0/16",
            "169.254.170.2/32",
            "::ffff:169.254.169.254/128",
            "::ffff:a9fe:a9fe/128",
        ] {
            denied(&policy, &block(cidr, &[]), "always stays closed");
        }
        denied(&policy, &block("168.0.0.0/5", &[]), "168.0.0.0/5 opens the metadata address 169.254.169.254/32");
        denied(&policy, &block("168.0.0.0/5", &["169.254.169.252/31"]), "metadata");
        allowed(&policy, &block("168.0.0.0/5", &["169.254.169.254/31"]));
        allowed(&policy, &block("168.0.0.0/5", &["169.254.169.254/32"]));
        allowed(&policy, &block("168.0.0.0/5", &["169.254.0.0/16"]));
    }
    let open = policy(&[], &[]);
    allowed(&open, &block("8.8.8.8/32", &[]));
    allowed(&open, &block("::/0", &["fd00:ec2::254/128"]));
    denied(&open, &block("::/0", &["fd00:ec2::255/128"]), "fd00:ec2::254/128");
    denied(&open, &block("fd00:ec2::254/128", &[]), "metadata");
    denied(&open, &json!({"egress": [{}]}), "opens every address");
}

#[test]
fn a_rule_without_peers_opens_everything() {
    for rule in [
        json!({}),
        json!({"to": []}),
        json!({"to": null}),
        json!({"ports": [{"port": 443}]}),
        json!({"to": [], "ports": []}),
    ] {
        denied(&private(), &json!({"egress": [rule]}), "spec.egress[0]: a rule without \"to\" opens every address");
        // Whatever the types say: a later change of them alone must open nothing.
        denied(&private(), &json!({"policyTypes": ["Ingress"], "egress": [rule]}), "opens every address");
    }
    for rule in [json!({}), json!({"from": []}), json!({"from": null}), json!({"ports": [{"port": 443}]})] {
        denied(
            &private(),
            &json!({"ingress": [rule]}),
            "spec.ingress[0]: a rule without \"from\" admits other projects",
        );
    }
    for spec in [
        json!(null),
        json!({}),
        json!({"podSelector": {}}),
        json!({"egress": [], "ingress": []}),
        json!({"egress": null, "ingress": null}),
        json!({"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Ingress", "Egress"]}),
    ] {
        allowed(&private(), &spec);
    }
}

#[test]
fn egress_to_pods_leaves_the_platforms_namespaces_closed() {
    let selector = |selector: Value| to(&json!([{"namespaceSelector": selector}]));
    let name = "kubernetes.io/metadata.name";
    for open in [
        to(&json!([{"podSelector": {}}])),
        to(&json!([{"podSelector": {"matchLabels": {"app": "db"}}, "namespaceSelector": null, "ipBlock": null}])),
        selector(json!({"matchLabels": {name: "kube-system"}})),
        selector(json!({"matchExpressions": [{"key": name, "operator": "In", "values": ["other", "kube-system"]}]})),
        selector(
            json!({"matchExpressions": [{"key": name, "operator": "NotIn", "values": ["kubeop-system", "kubeop-access"]}]}),
        ),
        selector(
            json!({"matchExpressions": [{"key": name, "operator": "NotIn", "values": ["kubeop-system"]}, {"key": name, "operator": "NotIn", "values": ["kubeop-access"]}]}),
        ),
        selector(json!({"matchLabels": {"app.kubeop.io/tenant": "acme"}})),
        selector(json!({"matchLabels": {"app.kubeop.io/ingress": "true"}})),
        to(&json!([{"namespaceSelector": {}, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}])),
    ] {
        allowed(&private(), &open);
    }
    for closed in [
        selector(json!({})),
        selector(json!({"matchLabels": null})),
        selector(json!({"matchLabels": {name: "kubeop-system"}})),
        selector(json!({"matchLabels": {name: "kubeop-access"}})),
        selector(json!({"matchLabels": {"name": "kubeop-system"}})),
        selector(json!({"matchLabels": {"team": "a"}})),
        selector(json!({"matchExpressions": [{"key": name, "operator": "In", "values": ["other", "kubeop-system"]}]})),
        selector(json!({"matchExpressions": [{"key": name, "operator": "NotIn", "values": ["kubeop-system"]}]})),
        selector(json!({"matchExpressions": [{"key": name, "operator": "Exists"}]})),
        selector(json!({"matchExpressions": [{"key": "app.kubeop.io/tenant", "operator": "DoesNotExist"}]})),
        selector(
            json!({"matchExpressions": [{"key": "app.kubeop.io/tenant", "operator": "NotIn", "values": ["acme"]}]}),
        ),
        to(&json!([{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}])),
        to(&json!([{"namespaceSelector": {}, "podSelector": {}}])),
    ] {
        denied(&private(), &closed, "kubeop-system and kubeop-access, which are closed");
    }
}

#[test]
fn ingress_from_other_projects_stays_closed() {
    let selector = |selector: Value| from(&json!([{"namespaceSelector": selector}]));
    let name = "kubernetes.io/metadata.name";
    for own in [
        from(&json!([{"podSelector": {}}])),
        from(&json!([{"podSelector": {"matchLabels": {"app": "web"}}}])),
        selector(json!({"matchLabels": {name: "acme-web"}})),
        selector(json!({"matchLabels": {name: "kube-system"}})),
        selector(
            json!({"matchExpressions": [{"key": name, "operator": "In", "values": ["acme-web", "kube-system", "default"]}]}),
        ),
        selector(
            json!({"matchExpressions": [{"key": name, "operator": "In", "values": ["acme-web", "other"]}, {"key": name, "operator": "NotIn", "values": ["other"]}]}),
        ),
        selector(json!({"matchLabels": {"app.kubeop.io/ingress": "true"}})),
        from(
            &json!([{"namespaceSelector": {"matchLabels": {"app.kubeop.io/ingress": "true"}}, "podSelector": {"matchLabels": {"app": "nginx"}}}]),
        ),
    ] {
        allowed(&private(), &own);
    }
    for foreign in [
        selector(json!({})),
        selector(json!({"matchLabels": {name: "other"}})),
        selector(json!({"matchLabels": {name: "acme-web2"}})),
        selector(json!({"matchExpressions": [{"key": name, "operator": "In", "values": ["acme-web", "other"]}]})),
        selector(json!({"matchExpressions": [{"key": name, "operator": "NotIn", "values": ["acme-web"]}]})),
        selector(json!({"matchExpressions": [{"key": name, "operator": "Exists"}]})),
        selector(json!({"matchLabels": {"app.kubeop.io/ingress": "false"}})),
        selector(
            json!({"matchExpressions": [{"key": "app.kubeop.io/ingress", "operator": "In", "values": ["true", "false"]}]}),
        ),
        selector(json!({"matchExpressions": [{"key": "app.kubeop.io/ingress", "operator": "Exists"}]})),
        selector(json!({"matchLabels": {"app.kubeop.io/tenant": "acme"}})),
        from(&json!([{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}])),
    ] {
        denied(&private(), &foreign, "it may select");
    }
    for cidr in ["0.0.0.0/0", "10.244.0.0/16", "203.0.113.0/24", "::/0"] {
        denied(
            &private(),
            &from(&json!([{"ipBlock": {"cidr": cidr}}])),
            "only the platform opens ingress from addresses",
        );
    }
}

#[test]
fn what_is_unknown_is_refused() {
    for spec in [
        json!([]),
        json!("x"),
        json!(1),
        json!(true),
        json!({"egress": {}}),
        json!({"egress": "x"}),
        json!({"egress": [null]}),
        json!({"egress": [[]]}),
        json!({"egress": [{"to": {}}]}),
        json!({"egress": [{"to": "all"}]}),
        json!({"egress": [{"to": [null]}]}),
        json!({"egress": [{"to": [{}]}]}),
        json!({"egress": [{"to": [{"podSelector": null}]}]}),
        json!({"egress": [{"from": [{"podSelector": {}}]}]}),
        json!({"egress": [{"to": [{"podSelector": {}}], "fqdns": ["x"]}]}),
        json!({"egress": [{"to": [{"podSelector": {}, "service": "x"}]}]}),
        json!({"egress": [{"to": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}]}),
        json!({"egress": [{"to": [{"ipBlock": {}}]}]}),
        json!({"egress": [{"to": [{"ipBlock": []}]}]}),
        json!({"egress": [{"to": [{"ipBlock": {"cidr": 1}}]}]}),
        json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "extra": 1}}]}]}),
        json!({"egress": [{"to": [{"namespaceSelector": []}]}]}),
        json!({"egress": [{"to": [{"namespaceSelector": {"matchFields": {}}}]}]}),
        json!({"egress": [{"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": 1}}}]}]}),
        json!({"ingress": [{"from": [{"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": []}]}}]}]}),
        json!({"ingress": [{"from": [{"namespaceSelector": {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "in", "values": ["acme-web"]}]}}]}]}),
        json!({"ingress": [{"from": [{"namespaceSelector": {"matchExpressions": [{"operator": "In", "values": ["acme-web"]}]}}]}]}),
        json!({"ingress": [{"from": [{"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"], "x": 1}]}}]}]}),
        json!({"Egress": []}),
        json!({"subjects": []}),
    ] {
        let error = check(&private(), &spec).expect_err(&spec.to_string());
        assert!(!error.message().is_empty() && error.message().len() < 600, "{spec}");
    }
}

/// JSON that often looks like a NetworkPolicy.
fn near_policy() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("egress"),
        Just("ingress"),
        Just("to"),
        Just("from"),
        Just("ipBlock"),
        Just("cidr"),
        Just("except"),
        Just("namespaceSelector"),
        Just("podSelector"),
        Just("matchLabels"),
        Just("matchExpressions"),
        Just("key"),
        Just("operator"),
        Just("values"),
        Just("In"),
        Just("kubernetes.io/metadata.name"),
        Just("acme-web"),
        Just("10.0.0.0/8"),
        Just("0.0.0.0/0"),
        Just("::/0"),
        Just("x"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from)
    ];
    leaf.prop_recursive(8, 64, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((word.clone(), inner), 0..4).prop_map(|fields| Value::Object(
                fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn no_document_panics(spec in near_policy()) {
        let _ = check(&private(), &spec);
        let _ = check(&PlatformPolicy::default(), &json!({"egress": [{"to": [spec]}]}));
    }

    #[test]
    fn what_is_admitted_opens_nothing_outside(
        blocks in proptest::collection::vec((any::<u32>(), 0_u8..=32, proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..3)), 1..4)
    ) {
        let cidr = |(address, length): (u32, u8)| {
            Cidr::parse_for_decision(&format!("{}/{length}", std::net::Ipv4Addr::from(address & 0x1fff_ffff))).unwrap()
        };
        let policy = policy(&[], &["8.0.0.0/6", "10.0.0.0/8", "16.0.0.0/4"]);
        let inside: CidrSet = policy.egress_baseline.entries().iter().copied().collect();
        let mut peers = Vec::new();
        let mut opened = Vec::new();
        for (address, length, except) in blocks {
            let except: Vec<Cidr> = except.into_iter().map(cidr).collect();
            let range = cidr((address, length));
            peers.push(json!({"ipBlock": {"cidr": range, "except": except}}));
            opened.extend(CidrSet::from(range).without(&except.into_iter().collect()).ranges());
        }
        let opened: CidrSet = opened.into_iter().collect();
        prop_assert_eq!(check(&policy, &to(&Value::from(peers))).is_ok(), inside.contains_all(&opened));
    }
}
