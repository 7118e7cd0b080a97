//! Where a host leads: the addresses of its Ingress, else of its Service.
//!
//! Invariant: an Ingress counts only if it is the owner's and has a rule for the host; addresses are taken in full or, where there are none, a name.

use crate::refusal::{Refusal, Validated};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kubeop_core::name::Host;
use kubeop_crds::conditions::reason;
use kubeop_crds::dns_record::ServiceTarget;
use kubeop_crds::{DnsRecord, labels};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What a host leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Addresses, at least one, sorted.
    Addresses(Vec<IpAddr>),
    /// Another name.
    Alias(Host),
}

/// What was read of a target that is a Service.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The Ingress of the owner.
    pub ingress: Option<Ingress>,
    /// The Service.
    pub service: Option<Service>,
}

/// The answer for a record.
///
/// # Errors
/// `Invalid`, or `TargetNotFound` while the target has no address.
pub(super) fn answer(record: &DnsRecord, found: &Found) -> Validated<Answer> {
    let target = &record.spec.target;
    match (&target.service, &target.addresses, &target.cname) {
        (Some(service), None, None) => of_service(record, service, found),
        (None, Some(texts), None) => {
            let parse = |text: &String| {
                text.parse::<IpAddr>()
                    .map_err(|_| Refusal::invalid(format!("spec.target.addresses: {text:?} is not an IP address")))
            };
            let addresses: BTreeSet<IpAddr> = texts.iter().map(parse).collect::<Validated<_>>()?;
            if addresses.is_empty() {
                return Err(Refusal::invalid("spec.target.addresses: at least one address is needed"));
            }
            Ok(Answer::Addresses(addresses.into_iter().collect()))
        }
        (None, None, Some(name)) => {
            Ok(Answer::Alias(Host::parse(name).map_err(|error| error.at("spec.target.cname"))?))
        }
        _ => Err(Refusal::invalid("spec.target: exactly one of service, addresses and cname is needed")),
    }
}

fn of_service(record: &DnsRecord, target: &ServiceTarget, found: &Found) -> Validated<Answer> {
    let missing = |why: &str| {
        Refusal::new(reason::TARGET_NOT_FOUND, format!("Service {}/{} {why}", target.namespace, target.name))
    };
    if let Some(ingress) = found.ingress.as_ref().filter(|ingress| serves(ingress, record))
        && let Some(answer) = balancer(ingress_points(ingress))
    {
        return Ok(answer);
    }
    let service = found.service.as_ref().ok_or_else(|| missing("does not exist"))?;
    if let Some(answer) = balancer(service_points(service)) {
        return Ok(answer);
    }
    let spec = service.spec.clone().unwrap_or_default();
    let texts = spec.cluster_ips.unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
    // "None" of a headless Service is no address.
    let addresses: BTreeSet<IpAddr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    if addresses.is_empty() {
        return Err(missing("has no address: neither its own nor that of a load balancer"));
    }
    Ok(Answer::Addresses(addresses.into_iter().collect()))
}

/// Whether an Ingress is the record's owner's and leads the host.
fn serves(ingress: &Ingress, record: &DnsRecord) -> bool {
    let owner = ingress.metadata.annotations.as_ref().and_then(|all| all.get(labels::OWNER_UID));
    let rules = ingress.spec.as_ref().and_then(|spec| spec.rules.as_ref());
    owner == Some(&record.spec.owner.app_uid)
        && rules.into_iter().flatten().any(|rule| rule.host.as_ref() == Some(&record.spec.host))
}

type Point = (Option<String>, Option<String>);

fn ingress_points(ingress: &Ingress) -> Vec<Point> {
    let points = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    points.into_iter().flatten().map(|point| (point.ip.clone(), point.hostname.clone())).collect()
}

fn service_points(service: &Service) -> Vec<Point> {
    let points = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    points.into_iter().flatten().map(|point| (point.ip.clone(), point.hostname.clone())).collect()
}

/// The addresses of a load balancer, or its name if it has none.
fn balancer(points: Vec<Point>) -> Option<Answer> {
    let addresses: BTreeSet<IpAddr> = points.iter().filter_map(|(ip, _)| ip.as_ref()?.parse().ok()).collect();
    if !addresses.is_empty() {
        return Some(Answer::Addresses(addresses.into_iter().collect()));
    }
    points.into_iter().find_map(|(_, name)| Host::parse(&name?).ok()).map(Answer::Alias)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns_record::validate::tests::record;
    use serde_json::json;

    fn found(ingress: serde_json::Value, service: serde_json::Value) -> Found {
        Found { ingress: serde_json::from_value(ingress).unwrap(), service: serde_json::from_value(service).unwrap() }
    }

    fn told(found: &Found) -> Validated<Answer> {
        answer(&record(json!({"service": {"namespace": "n", "name": "web"}})), found)
    }

    fn at(texts: &[&str]) -> Answer {
        Answer::Addresses(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn the_ingress_comes_before_the_service_and_the_balancer_before_the_cluster_address() {
        let ingress = |uid: &str, host: &str, points: serde_json::Value| {
            json!({"metadata": {"annotations": {"kubeop.io/owner-uid": uid}}, "spec": {"rules": [{"host": host}]},
                "status": {"loadBalancer": {"ingress": points}}})
        };
        let service = json!({"spec": {"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"]}});
        let points = json!([{"ip": "192.0.2.2"}, {"ip": "192.0.2.1"}]);
        let ours = ingress("uid-app", "web.local", points.clone());
        assert_eq!(told(&found(ours, service.clone())).unwrap(), at(&["192.0.2.1", "192.0.2.2"]));
        for other in [
            ingress("uid-other", "web.local", points.clone()),
            ingress("uid-app", "other.local", points),
            ingress("uid-app", "web.local", json!([])),
            json!(null),
        ] {
            assert_eq!(told(&found(other, service.clone())).unwrap(), at(&["10.96.0.7", "fd00::7"]));
        }
        let named = ingress("uid-app", "web.local", json!([{"hostname": "Abc.elb.example.com"}]));
        let alias = Answer::Alias(Host::parse("abc.elb.example.com").unwrap());
        assert_eq!(told(&found(named, service)).unwrap(), alias);
        let balanced =
            json!({"spec": {"clusterIP": "10.96.0.7"}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}});
        assert_eq!(told(&found(json!(null), balanced)).unwrap(), at(&["192.0.2.9"]));
    }

    #[test]
    fn a_service_without_an_address_is_waited_for() {
        for service in [json!(null), json!({"spec": {"clusterIP": "None"}}), json!({})] {
            assert_eq!(told(&found(json!(null), service)).unwrap_err().reason, reason::TARGET_NOT_FOUND);
        }
    }

    #[test]
    fn given_addresses_and_names_are_parsed() {
        let of = |target| answer(&record(target), &Found::default());
        assert_eq!(of(json!({"addresses": ["2001:db8::1", "192.0.2.1"]})).unwrap(), at(&["192.0.2.1", "2001:db8::1"]));
        assert_eq!(of(json!({"cname": "Shop.Example."})).unwrap(), Answer::Alias(Host::parse("shop.example").unwrap()));
        for bad in
            [json!({"addresses": ["192.0.2.1 \n}"]}), json!({"addresses": []}), json!({"cname": "a b.c"}), json!({})]
        {
            assert_eq!(of(bad.clone()).unwrap_err().reason, reason::INVALID, "{bad}");
        }
    }
}
