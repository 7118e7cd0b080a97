//! The LimitRange `kubeop-limits`: requests and limits for containers that name none, so that plain pods pass the quota.
//!
//! What one container may ask for is at most what the project may request, so that limits do not reach past the quota either.
//!
//! Invariant: a default request fits the quota at least four times where the quota allows it, and no default limit is below its request.

use super::{LIMITS, ValidProject, meta};
use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem, LimitRangeSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use kubeop_core::quantity::Quantity;
use std::collections::BTreeMap;

const MILLI: i128 = 1_000_000;
const MEBI: i128 = (1 << 20) * 1_000_000_000;

/// Resource, default request, default limit (none: a pod may use what is free), least request, and the step amounts are rounded to.
const CONTAINER: [(&str, i128, Option<i128>, i128, i128); 3] = [
    ("cpu", 100 * MILLI, Some(500 * MILLI), MILLI, MILLI),
    ("memory", 128 * MEBI, Some(512 * MEBI), MEBI, MEBI),
    ("ephemeral-storage", 256 * MEBI, None, MEBI, MEBI),
];

pub(super) fn build(project: &ValidProject) -> LimitRange {
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    let (mut least, mut most) = (BTreeMap::new(), BTreeMap::new());
    for (resource, request, limit, min, step) in CONTAINER {
        let quota = |kind: &str| project.quotas.get(&format!("{kind}.{resource}")).map(Quantity::nanos);
        let share = |whole: Option<i128>, default: i128| {
            whole.map_or(default, |hard| default.min((hard / 4 / step * step).max(min)))
        };
        let request = share(quota("requests"), request);
        // Without a floor, a request of "0" would hide a container from the quota.
        if quota("requests").is_none_or(|hard| hard >= min) {
            least.insert(resource.to_owned(), text(min, step));
        }
        requests.insert(resource.to_owned(), text(request, step));
        if let Some(limit) = limit {
            let ceiling = quota("requests").filter(|hard| *hard >= request);
            let limit = share(quota("limits"), limit).min(ceiling.unwrap_or(i128::MAX)).max(request);
            limits.insert(resource.to_owned(), text(limit, step));
            if let Some(ceiling) = ceiling {
                most.insert(resource.to_owned(), text(ceiling, step));
            }
        }
    }
    let container = LimitRangeItem {
        type_: "Container".to_owned(),
        default_request: Some(requests),
        default: Some(limits),
        min: Some(least),
        max: (!most.is_empty()).then_some(most),
        ..LimitRangeItem::default()
    };
    LimitRange { metadata: meta(project, LIMITS), spec: Some(LimitRangeSpec { limits: vec![container] }) }
}

fn text(nanos: i128, step: i128) -> Text {
    let quantity = if step == MILLI { Quantity::from_nanos(nanos) } else { Quantity::from_nanos_binary(nanos) };
    Text(quantity.canonical())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::valid;
    use super::*;

    fn item(quotas: &[(&str, &str)]) -> LimitRangeItem {
        build(&valid(quotas, &[])).spec.unwrap().limits.remove(0)
    }

    #[test]
    fn plain_containers_get_modest_requests_and_limits() {
        let item = item(&[]);
        let (requests, limits) = (item.default_request.unwrap(), item.default.unwrap());
        assert_eq!((requests["cpu"].0.as_str(), requests["memory"].0.as_str()), ("100m", "128Mi"));
        assert_eq!((limits["cpu"].0.as_str(), limits["memory"].0.as_str()), ("500m", "512Mi"));
        assert!(!limits.contains_key("ephemeral-storage"));
    }

    #[test]
    fn small_quotas_get_smaller_defaults() {
        let item = item(&[("cpu", "200m"), ("memory", "256Mi"), ("limits.cpu", "100m")]);
        let (requests, limits) = (item.default_request.unwrap(), item.default.unwrap());
        assert_eq!((requests["cpu"].0.as_str(), requests["memory"].0.as_str()), ("50m", "64Mi"));
        assert_eq!(limits["cpu"].0, "50m", "never below the request");
    }

    #[test]
    fn no_container_s_limit_reaches_past_the_project_s_quota() {
        let item = item(&[("cpu", "4"), ("memory", "300Mi")]);
        let (limits, most) = (item.default.unwrap(), item.max.unwrap());
        assert_eq!((most["cpu"].0.as_str(), most["memory"].0.as_str()), ("4", "300Mi"));
        assert_eq!(limits["memory"].0, "300Mi");
    }

    #[test]
    fn even_a_quota_of_nothing_gives_a_valid_range() {
        let item = item(&[("cpu", "0"), ("memory", "1")]);
        let requests = item.default_request.unwrap();
        assert_eq!((requests["cpu"].0.as_str(), requests["memory"].0.as_str()), ("1m", "1Mi"));
        assert!(!item.min.unwrap().contains_key("cpu"));
    }
}
