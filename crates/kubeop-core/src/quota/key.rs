//! Keys of quotas: their canonical spelling, and which of them Kubernetes takes.
//!
//! Invariant: what passes here no API server refuses as the key of a ResourceQuota; the one exception is [`super::PROJECTS`], which is ours.

use super::PROJECTS;
use crate::id::shorten;
use crate::name::Label;
use crate::{Error, Result};

/// The canonical spelling of a quota key: the short forms stand for requests (Kubernetes "Resource Quotas").
pub fn canonical_key(key: &str) -> &str {
    match key {
        "cpu" => super::CPU,
        "memory" => super::MEMORY,
        "storage" => "requests.storage",
        "ephemeral-storage" => "requests.ephemeral-storage",
        other => other,
    }
}

const OBJECT_COUNTS: [&str; 10] = [
    "pods",
    "services",
    "services.nodeports",
    "services.loadbalancers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    PROJECTS,
];

/// What compute keys are about, of Kubernetes' own resources; `storage` is requested only.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

pub(super) fn check_key(key: &str) -> Result<()> {
    let known = match key.split_once(['.', '/']) {
        _ if OBJECT_COUNTS.contains(&key) => true,
        Some(("requests", "storage")) => true,
        Some((kind @ ("requests" | "limits"), resource)) => {
            COMPUTE.contains(&resource) || is_huge_pages(resource) || kind == "requests" && is_qualified(resource)
        }
        Some(("count", resource)) => is_name(resource, 63),
        _ => key.split_once(".storageclass.storage.k8s.io/").is_some_and(|(class, resource)| {
            is_domain(class) && matches!(resource, "requests.storage" | "persistentvolumeclaims")
        }),
    };
    if known {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{:?} is not a quota key: cpu, memory, storage, pods, projects or a ResourceQuota key such as limits.cpu, requests.example.com/gpu or count/jobs.batch is needed",
        shorten(key)
    )))
}

fn is_huge_pages(resource: &str) -> bool {
    resource.strip_prefix("hugepages-").is_some_and(|size| is_name(size, 40))
}

/// `domain/name`, as extended resources are named (Kubernetes "Extended Resources"); `kubernetes.io` has none of them.
fn is_qualified(resource: &str) -> bool {
    resource.split_once('/').is_some_and(|(domain, name)| {
        is_domain(domain) && !domain.ends_with("kubernetes.io") && is_name(name, 63 - "requests.".len())
    })
}

/// A DNS-1123 subdomain.
fn is_domain(text: &str) -> bool {
    text.len() <= 180 && text.split('.').all(|label| Label::parse(label).is_ok())
}

/// The name part of a qualified name: alphanumeric at both ends, `-`, `_` and `.` within.
fn is_name(text: &str, longest: usize) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    text.len() <= longest
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Whether amounts under this canonical key are whole numbers of objects.
pub(super) fn is_count(key: &str) -> bool {
    OBJECT_COUNTS.contains(&key)
        || key.starts_with("count/")
        || key.ends_with("/persistentvolumeclaims")
        || key.strip_prefix("requests.").is_some_and(|resource| resource.contains('/'))
}
