//! The ResourceQuota `kubeop-quota`.
//!
//! Invariant: amounts are written as Kubernetes writes them back, whatever their tenant wrote. Always one; `cpu` and `memory` are `requests.cpu` and `requests.memory`, limits are not bounded by it.

use super::{QUOTA, ValidProject, meta};
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub(super) fn build(project: &ValidProject) -> ResourceQuota {
    let hard = project.quotas.iter().map(|(key, amount)| (key.to_owned(), Quantity(amount.canonical()))).collect();
    ResourceQuota {
        metadata: meta(project, QUOTA),
        spec: Some(ResourceQuotaSpec { hard: Some(hard), ..ResourceQuotaSpec::default() }),
        ..ResourceQuota::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::valid;
    use super::*;

    #[test]
    fn compute_means_requests_and_counts_have_defaults() {
        let hard = build(&valid(&[("cpu", "2"), ("memory", "4Gi"), ("pods", "7")], &[])).spec.unwrap().hard.unwrap();
        let of = |key: &str| hard.get(key).map(|quantity| quantity.0.as_str());
        assert_eq!((of("requests.cpu"), of("requests.memory"), of("pods")), (Some("2"), Some("4Gi"), Some("7")));
        assert_eq!((of("cpu"), of("limits.cpu"), of("services.nodeports")), (None, None, Some("0")));
    }

    #[test]
    fn amounts_reach_the_cluster_as_it_writes_them_itself() {
        let hard =
            build(&valid(&[("cpu", "0.5"), ("memory", "1024Mi"), ("pods", "1e3")], &[])).spec.unwrap().hard.unwrap();
        let of = |key: &str| hard.get(key).map(|quantity| quantity.0.as_str());
        assert_eq!((of("requests.cpu"), of("requests.memory"), of("pods")), (Some("500m"), Some("1Gi"), Some("1k")));
    }
}
