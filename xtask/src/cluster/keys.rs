//! The files with the keys and kubeconfigs of one test cluster.
//!
//! Invariant: private keys are readable by their owner only.

use std::{fs, net::IpAddr, path::Path};

use anyhow::{Context, Result};

use super::{
    certificates::{self, Authority, Pair},
    kubeconfig, node,
};
use crate::supervise::workdir;

/// A user of the API server: file, name and group.
type User = (&'static str, &'static str, Option<&'static str>);

const USERS: [User; 3] = [
    ("kubeconfig", "kubeop-test-admin", Some("system:masters")),
    ("controller-manager.kubeconfig", "system:kube-controller-manager", None),
    ("scheduler.kubeconfig", "system:kube-scheduler", None),
];
const NODE_USERS: [User; 2] = [
    ("kubelet.kubeconfig", "system:node:kubeop-node", Some("system:nodes")),
    ("kube-proxy.kubeconfig", "system:kube-proxy", None),
];

fn users(node: bool) -> impl Iterator<Item = User> {
    USERS.into_iter().chain(NODE_USERS.into_iter().filter(move |_| node))
}

/// Writes what does not depend on the port.
pub(crate) fn write(directory: &Path, address: IpAddr, with_node: bool) -> Result<()> {
    let authority = Authority::new("kubeop-test-ca")?;
    let (token_key, token_public) = certificates::token_key()?;
    let mut pairs = vec![("ca".to_owned(), authority.pair()), ("apiserver".to_owned(), authority.server(address)?)];
    for (name, user, group) in users(with_node) {
        pairs.push((name.to_owned(), authority.client(user, group)?));
    }
    if with_node {
        let front = Authority::new("kubeop-test-front-proxy-ca")?;
        let own = node::network::NODE.to_string();
        pairs.extend(
            [
                ("front-proxy-ca", front.pair()),
                ("front-proxy-client", front.client("front-proxy-client", None)?),
                ("apiserver-kubelet", authority.client("kube-apiserver-kubelet-client", Some("system:masters"))?),
                (
                    "kubelet-server",
                    authority.serving("system:node:kubeop-node", Some("system:nodes"), &[node::NAME, &own])?,
                ),
            ]
            .map(|(name, pair)| (name.to_owned(), pair)),
        );
    }
    for (name, Pair { certificate, key }) in pairs {
        workdir::write_private(&directory.join(format!("{name}.crt")), &certificate)?;
        workdir::write_private(&directory.join(format!("{name}.key")), &key)?;
    }
    workdir::write_private(&directory.join("sa.key"), &token_key)?;
    workdir::write_private(&directory.join("sa.pub"), &token_public)
}

/// Writes a kubeconfig for each user.
pub(crate) fn write_kubeconfigs(directory: &Path, server: &str, with_node: bool) -> Result<()> {
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let authority = read("ca.crt")?;
    for (name, user, _) in users(with_node) {
        let pair = Pair { certificate: read(&format!("{name}.crt"))?, key: read(&format!("{name}.key"))? };
        let text = kubeconfig::text("kubeop-test", server, &authority, user, &pair);
        workdir::write_private(&directory.join(name), &text)?;
    }
    Ok(())
}
