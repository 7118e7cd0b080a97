//! The NetworkPolicy cases of `cluster check`: what each policy lets through and what it drops, seen in packets.
//!
//! Invariant: each case has something that passes and something that is dropped, or is about passing alone.

use std::{thread, time::Duration};

use anyhow::{Context, Result};

use super::{
    check::{Cluster, eventually},
    network,
};

/// A way from a client pod to somewhere.
struct Way {
    /// The namespace of the client.
    from: &'static str,
    to: To,
    open: bool,
}

/// Where to.
#[derive(Clone, Copy)]
enum To {
    /// The client pod of a namespace.
    Client(&'static str),
    /// A served site by its Service's name.
    Site,
    /// The API server by its Service's address.
    Api,
    /// The kubelet.
    Node,
    Dns,
}

const fn open(from: &'static str, to: To) -> Way {
    Way { from, to, open: true }
}

const fn closed(from: &'static str, to: To) -> Way {
    Way { from, to, open: false }
}

const A: &str = "check-a";
const B: &str = "check-b";

/// A policy's `spec` in namespace `check-a` (`@B@` is the address of the other client), and the ways that prove it.
const CASES: &[(&str, &str, &[Way])] = &[
    ("none", "", &[open(A, To::Client(B)), open(B, To::Client(A)), open(A, To::Site), open(A, To::Node)]),
    (
        "default-deny egress",
        "{podSelector: {}, policyTypes: [Egress]}",
        &[
            closed(A, To::Client(B)),
            closed(A, To::Site),
            closed(A, To::Api),
            closed(A, To::Node),
            closed(A, To::Dns),
            open(B, To::Site),
        ],
    ),
    (
        "allow DNS and a named port",
        "{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}, podSelector: {matchLabels: {k8s-app: kube-dns}}}], ports: [{port: 53, protocol: UDP}, {port: 53}]}, {to: [{podSelector: {matchLabels: {app: nginx}}}], ports: [{port: http}]}]}",
        &[open(A, To::Site), open(A, To::Dns), closed(A, To::Api), closed(A, To::Client(B))],
    ),
    (
        "default-deny ingress",
        "{podSelector: {}, policyTypes: [Ingress]}",
        &[closed(B, To::Client(A)), closed(B, To::Site), open(A, To::Client(B))],
    ),
    (
        "ipBlock with except",
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.244.0.0/24, except: [@B@/32]}}]}]}",
        &[closed(A, To::Client(B)), closed(A, To::Node), open(A, To::Dns)],
    ),
    (
        "a range of ports",
        "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 8000, endPort: 8100}]}]}",
        &[open(A, To::Client(B)), closed(A, To::Api)],
    ),
    (
        "a range that ends before",
        "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 8000, endPort: 8079}]}]}",
        &[closed(A, To::Client(B))],
    ),
    (
        "a selector of namespaces",
        "{podSelector: {matchLabels: {app: client}}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: team, operator: In, values: [b]}]}}]}]}",
        &[open(B, To::Client(A)), open(B, To::Site)],
    ),
    (
        "another namespace's pods by name",
        "{podSelector: {matchLabels: {app: client}}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {team: c}}, podSelector: {}}]}]}",
        &[closed(B, To::Client(A))],
    ),
    (
        "only UDP",
        "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 53, protocol: UDP}]}]}",
        &[open(A, To::Dns), closed(A, To::Client(B))],
    ),
    ("none again", "", &[open(A, To::Client(B)), open(B, To::Client(A)), open(A, To::Api)]),
];

/// Goes through the cases.
pub(super) fn check(cluster: &Cluster) -> Result<()> {
    let address = |namespace: &str| {
        cluster.kubectl(&["get", "pod", "client", "--namespace", namespace, "--output=jsonpath={.status.podIP}"])
    };
    let addresses = [address(A)?, address(B)?];
    let [_, other] = &addresses;
    for (what, spec, ways) in CASES {
        if spec.is_empty() {
            cluster.kubectl(&["delete", "networkpolicy", "check", "--namespace=check-a", "--ignore-not-found"])?;
        } else {
            let spec = spec.replace("@B@", other);
            cluster.apply(&format!("{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: check, namespace: check-a}}, spec: {spec}}}"))?;
        }
        thread::scope(|scope| {
            let tries: Vec<_> = ways.iter().map(|way| scope.spawn(|| way.check(cluster, &addresses))).collect();
            tries.into_iter().try_for_each(|tried| tried.join().map_err(|_| anyhow::anyhow!("a probe failed"))?)
        })
        .with_context(|| format!("the policy {what:?}"))?;
    }
    Ok(())
}

impl Way {
    fn check(&self, cluster: &Cluster, [a, b]: &[String; 2]) -> Result<()> {
        let target = match self.to {
            To::Client(namespace) => format!("{}:8080", if namespace == A { a } else { b }),
            // By address: whether names resolve is another way.
            To::Site => format!("{}:80", cluster.field("service/nginx", "{.spec.clusterIP}")?),
            To::Api => "10.96.0.1:443".to_owned(),
            To::Node => format!("{}:10250", network::NODE),
            To::Dns => "kubernetes.default.svc.cluster.local".to_owned(),
        };
        let verb = if matches!(self.to, To::Dns) { "dns" } else { "tcp" };
        eventually(Duration::from_secs(8), || {
            Ok(match cluster.webtool(self.from, &[verb, &target, "1s"]) {
                Ok(_) => self.open,
                // A dropped packet is never answered; any other failure is neither.
                Err(error) => !self.open && format!("{error:#}").contains("i/o timeout"),
            })
        })
        .with_context(|| {
            format!("{verb} {target} from {} is not {}", self.from, if self.open { "let through" } else { "dropped" })
        })
    }
}
