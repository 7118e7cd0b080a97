//! Ports of an App: container, Service, and the one an Ingress leads to.
//!
//! Invariant: names and Service ports are unique, so that the API server takes both objects.

use crate::refusal::{Refusal, Validated};
use kubeop_core::name::Label;
use kubeop_crds::app::image::{Port, Protocol};

/// A port with everything decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidPort {
    /// Its name.
    pub name: String,
    /// The port the container listens on.
    pub container: i32,
    /// The port of the Service.
    pub service: i32,
    /// The protocol.
    pub protocol: Protocol,
}

/// Decides names and numbers; no list at all means `http`, 80 on both.
pub(super) fn validate(app: &Label, given: Option<&[Port]>) -> Validated<Vec<ValidPort>> {
    let default = [Port { name: Some("http".to_owned()), container_port: 80, service_port: None, protocol: None }];
    let given = given.unwrap_or(&default);
    let mut ports: Vec<ValidPort> = Vec::new();
    for (index, port) in given.iter().enumerate() {
        let place = format!("spec.delivery.image.ports[{index}]");
        let fail = |why: String| Err(Refusal::invalid(format!("{place}: {why}")));
        let valid = ValidPort {
            name: port.name.clone().unwrap_or_else(|| default_name(given.len(), port)),
            container: port.container_port,
            service: port.service_port.unwrap_or(port.container_port),
            protocol: port.protocol.unwrap_or_default(),
        };
        if let Some(number) = [valid.container, valid.service].into_iter().find(|n| !(1..=65_535).contains(n)) {
            return fail(format!("{number} is out of range: 1 to 65535 is allowed"));
        }
        if !is_service_name(&valid.name) {
            return fail(format!(
                "name {:?} is not usable: 1 to 15 of a-z, 0-9 and single '-', with a letter, are needed",
                valid.name
            ));
        }
        for other in &ports {
            if other.name == valid.name {
                return fail(format!("name {:?} is used twice", valid.name));
            }
            if other.protocol == valid.protocol
                && (other.service == valid.service || other.container == valid.container)
            {
                return fail(format!("port {} is used twice", valid.service));
            }
        }
        ports.push(valid);
    }
    if !ports.is_empty() {
        service_name(app)?;
    }
    Ok(ports)
}

fn default_name(count: usize, port: &Port) -> String {
    if count == 1 { "http".to_owned() } else { format!("port-{}", port.container_port) }
}

/// An IANA service name (RFC 6335 §5.1), as Kubernetes asks of port names.
fn is_service_name(name: &str) -> bool {
    Label::parse(name).is_ok()
        && name.len() <= 15
        && name.bytes().any(|b| b.is_ascii_lowercase())
        && !name.contains("--")
}

/// The port an Ingress leads to: `http`, else the first TCP port.
pub fn ingress_port(ports: &[ValidPort]) -> Option<&ValidPort> {
    let tcp = || ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    tcp().find(|port| port.name == "http").or_else(|| tcp().next())
}

/// The Service's name: the app's. A Service's name must begin with a letter (RFC 1035 label) and an app's need not; `kubeop-<app>`, which
/// no app can be called, stands in.
///
/// # Errors
/// The name would be longer than 63 characters.
pub fn service_name(app: &Label) -> Validated<String> {
    if app.as_str().starts_with(|c: char| c.is_ascii_lowercase()) {
        return Ok(app.to_string());
    }
    let name = format!("{}{app}", kubeop_crds::labels::RESERVED_NAME_PREFIX);
    match Label::parse(&name) {
        Ok(label) => Ok(label.to_string()),
        Err(_) => Err(Refusal::invalid(format!(
            "the name {app} begins with a digit, and is too long to make a Service's of it: 56 characters are possible then"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(given: serde_json::Value) -> Validated<Vec<ValidPort>> {
        let ports: Vec<Port> = serde_json::from_value(given).unwrap();
        validate(&Label::parse("shop").unwrap(), Some(&ports))
    }

    #[test]
    fn names_and_service_ports_have_defaults() {
        let ports = check(json!([{"containerPort": 8080}, {"name": "dns", "containerPort": 53, "servicePort": 5353, "protocol": "UDP"}])).unwrap();
        let shown: Vec<_> = ports.iter().map(|p| (p.name.as_str(), p.container, p.service)).collect();
        assert_eq!(shown, [("port-8080", 8080, 8080), ("dns", 53, 5353)]);
        assert_eq!(check(json!([{"containerPort": 9000}])).unwrap()[0].name, "http");
        assert_eq!(check(json!([])).unwrap(), []);
        assert_eq!(validate(&Label::parse("shop").unwrap(), None).unwrap()[0].service, 80);
    }

    #[test]
    fn what_the_api_server_would_refuse_is_refused_with_its_place() {
        for bad in [
            json!([{"containerPort": 0}]),
            json!([{"containerPort": 1, "servicePort": 65536}]),
            json!([{"name": "a--b", "containerPort": 1}]),
            json!([{"name": "80", "containerPort": 1}]),
            json!([{"name": "a", "containerPort": 1}, {"name": "a", "containerPort": 2}]),
            json!([{"name": "a", "containerPort": 1}, {"name": "b", "containerPort": 2, "servicePort": 1}]),
        ] {
            assert!(check(bad.clone()).unwrap_err().message.starts_with("spec.delivery.image.ports["), "{bad}");
        }
        assert!(
            check(json!([{"name": "a", "containerPort": 1}, {"name": "b", "containerPort": 1, "protocol": "UDP"}]))
                .is_ok()
        );
    }

    #[test]
    fn the_ingress_leads_to_http_or_else_the_first_tcp_port() {
        let name = |given| ingress_port(&check(given).unwrap()).map(|port| port.name.clone());
        assert_eq!(
            name(json!([{"name": "admin", "containerPort": 1}, {"name": "http", "containerPort": 2}])).as_deref(),
            Some("http")
        );
        assert_eq!(
            name(json!([{"name": "u", "containerPort": 1, "protocol": "UDP"}, {"name": "t", "containerPort": 2}]))
                .as_deref(),
            Some("t")
        );
        assert_eq!(name(json!([{"name": "u", "containerPort": 1, "protocol": "UDP"}])), None);
    }

    #[test]
    fn a_service_s_name_begins_with_a_letter() {
        let name = |app: &str| service_name(&Label::parse(app).unwrap());
        assert_eq!((name("web").unwrap(), name("1web").unwrap()), ("web".to_owned(), "kubeop-1web".to_owned()));
        assert!(name(&format!("1{}", "x".repeat(60))).is_err());
    }
}
