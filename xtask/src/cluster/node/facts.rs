//! What a test must know of a node cluster: written as JSON to `node.json` in the instance's directory, printed by `cluster info`.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{
    images, network,
    programs::{self, Programs},
};
use crate::supervise::workdir;

const FILE: &str = "node.json";

/// Writes the file.
pub(crate) fn write(directory: &Path, server: &str, kubectl: &Path, programs: &Programs) -> Result<()> {
    let facts = json!({
        "kubeconfig": directory.join("kubeconfig"),
        "server": server,
        "nodeName": super::NAME,
        // NodePorts, host ports and the API server; pod and Service addresses are reached directly.
        "nodeAddress": network::NODE,
        // Where pods reach what listens on the host.
        "hostAddress": network::HOST,
        "registry": programs::registry(),
        // For `nsenter --net=`.
        "networkNamespace": directory.join("netns"),
        "interface": network::INTERFACE,
        "ingress": { "address": network::NODE, "http": 80, "https": 443, "class": "traefik", "namespace": "ingress" },
        "dns": network::DNS,
        "podCidr": network::PODS,
        "serviceCidr": network::SERVICES,
        "images": { "nginx": images::NGINX, "webtool": images::WEBTOOL },
        "programs": { "kubectl": kubectl, "crane": programs.crane },
    });
    let text = serde_json::to_string_pretty(&facts).context("cannot write JSON")?;
    workdir::write_private(&directory.join(FILE), &text)
}

/// The file's text; fails for a cluster without a node.
pub(crate) fn text(directory: &Path) -> Result<String> {
    match fs::read_to_string(directory.join(FILE)) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("this test cluster has no node: start one with `cargo xtask cluster up --node`")
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {FILE}")),
    }
}

/// The same, parsed.
pub(crate) fn read(directory: &Path) -> Result<Value> {
    serde_json::from_str(&text(directory)?).with_context(|| format!("{FILE} is not JSON"))
}
