//! The platform policy: which images may run, which outside addresses may be opened, how large a project may be.
//!
//! Invariant: the API, admission and the builders of the baseline ask the same value, so a 400 and a denial say the same sentence;
//! whatever cannot be understood is refused.

mod egress;
mod network;
mod selector;

pub use egress::{EgressBaseline, IpBlock};
pub use network::INGRESS_LABEL;

use crate::image::{ImageAllowlist, ImageRef};
use crate::quantity::Quantity;
use crate::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most entries each list of a policy may have.
pub const MAX_ENTRIES: usize = 1000;

/// A policy as it is written: the body of `PUT /v1/platform/policy` and the content of the ConfigMap `kubeop-policy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RawPolicy {
    /// Registries (`docker.io`) and registry paths (`ghcr.io/acme`) that images may come from; empty = any.
    pub image_allowlist: Vec<String>,
    /// Canonical CIDRs that projects may reach outside the cluster; empty = any but the metadata address.
    pub egress_baseline: Vec<String>,
    /// The ceiling of one project.
    pub quota_max: RawQuotaMax,
}

/// A policy's ceiling of one project, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawQuotaMax {
    /// The most CPU a project may request, as a Kubernetes quantity; absent = no ceiling.
    #[serde(rename = "requestsCPU", skip_serializing_if = "Option::is_none")]
    pub requests_cpu: Option<String>,
    /// The most memory a project may request, as a Kubernetes quantity; absent = no ceiling.
    #[serde(rename = "requestsMemory", skip_serializing_if = "Option::is_none")]
    pub requests_memory: Option<String>,
}

/// The ceiling of one project.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaMax {
    /// The most CPU a project may request.
    pub requests_cpu: Option<Quantity>,
    /// The most memory a project may request.
    pub requests_memory: Option<Quantity>,
}

/// A policy that has been understood in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlatformPolicy {
    /// Which images may run.
    pub image_allowlist: ImageAllowlist,
    /// Which outside addresses may be opened.
    pub egress_baseline: EgressBaseline,
    /// How large a project may be.
    pub quota_max: QuotaMax,
}

impl PlatformPolicy {
    /// Understands a policy; the message names field, index and value of what is wrong.
    pub fn parse(raw: &RawPolicy) -> Result<Self> {
        check_count("imageAllowlist", raw.image_allowlist.len())?;
        check_count("egressBaseline", raw.egress_baseline.len())?;
        Ok(Self {
            image_allowlist: ImageAllowlist::parse("imageAllowlist", &raw.image_allowlist)?,
            egress_baseline: EgressBaseline::parse("egressBaseline", &raw.egress_baseline)?,
            quota_max: QuotaMax {
                requests_cpu: parse_ceiling("quotaMax.requestsCPU", raw.quota_max.requests_cpu.as_deref())?,
                requests_memory: parse_ceiling("quotaMax.requestsMemory", raw.quota_max.requests_memory.as_deref())?,
            },
        })
    }

    /// Refuses a text that is no image, or an image the allow-list does not hold; the normalised reference otherwise.
    pub fn check_image(&self, image: &str) -> Result<ImageRef> {
        let image = ImageRef::parse(image)?;
        self.image_allowlist.decide(&image)?;
        Ok(image)
    }

    /// [`Self::check_image`] for several, up to the first that is refused.
    pub fn check_images<'a>(&self, images: impl IntoIterator<Item = &'a str>) -> Result<()> {
        images.into_iter().try_for_each(|image| self.check_image(image).map(|_| ()))
    }

    /// Refuses the `spec` of a NetworkPolicy in `namespace` that opens more than a project may open.
    ///
    /// Every rule is judged by its effect, whatever `policyTypes` says. As NetworkPolicies only ever add up, and each single one stays
    /// within what is allowed, their union does too.
    /// - *Egress to addresses*: within the baseline (all outside addresses where it is empty), and never the metadata address. A rule
    ///   without `to` opens everything. An `except` narrows and must be canonical. Ranges of link-local addresses are refused.
    /// - *Egress to pods*: any, except in `kubeop-system` and `kubeop-access`: a `namespaceSelector` must exclude both by
    ///   `kubernetes.io/metadata.name`, or require a label only projects have, or select the cluster's DNS (`k8s-app: kube-dns`).
    /// - *Ingress*: from pods of the own namespace, of namespaces that can belong to no project (`kube-*`, `default`), and of namespaces
    ///   the platform team marked by [`INGRESS_LABEL`]. Never from addresses: those of other projects' pods could be among them.
    ///
    /// Unknown fields are refused.
    pub fn check_network_policy(&self, namespace: &str, spec: &serde_json::Value) -> Result<()> {
        network::check(&self.egress_baseline, namespace, spec)
    }
}

fn check_count(field: &str, count: usize) -> Result<()> {
    if count > MAX_ENTRIES {
        return Err(Error::invalid(format!("{field}: at most {MAX_ENTRIES} entries are allowed, {count} were given")));
    }
    Ok(())
}

fn parse_ceiling(field: &str, text: Option<&str>) -> Result<Option<Quantity>> {
    let Some(text) = text else { return Ok(None) };
    let quantity = Quantity::parse(text).map_err(|error| error.at(field))?;
    if quantity.nanos() < 0 {
        return Err(Error::invalid(format!("{field}: {text:?} is negative: 0 or more is needed")));
    }
    Ok(Some(quantity))
}

#[cfg(test)]
mod tests;
