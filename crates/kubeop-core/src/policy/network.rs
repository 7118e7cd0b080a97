//! What a tenant's NetworkPolicy may open (`networking.k8s.io/v1`).
//!
//! Invariant: only fields that are listed here are understood, and a rule passes only if its effect is proven to stay within bounds.

use super::egress::EgressBaseline;
use super::selector::{NAME, Selector};
use crate::cidr::Cidr;
use crate::id::shorten;
use crate::name::{ACCESS_NAMESPACE, Label, SYSTEM_NAMESPACE, check_project_namespace};
use crate::{Error, Result};
use serde_json::{Map, Value};

/// The label (value `true`) by which the platform team marks namespaces whose pods any project may admit: ingress controllers and the
/// like. Only the platform can label namespaces.
pub const INGRESS_LABEL: &str = "app.kubeop.io/ingress";

/// Labels that only namespaces of projects carry, guarded against everyone else.
const PROJECT_LABELS: [&str; 4] =
    ["app.kubeop.io/project-id", "app.kubeop.io/tenant-id", "app.kubeop.io/project", "app.kubeop.io/tenant"];

/// Judges the spec of a NetworkPolicy; see [`super::PlatformPolicy::check_network_policy`].
pub(super) fn check(baseline: &EgressBaseline, namespace: &str, spec: &Value) -> Result<()> {
    if spec.is_null() {
        return Ok(());
    }
    for (field, content) in object(spec).map_err(|error| error.at("spec"))? {
        let place = format!("spec.{}", shorten(field));
        match field.as_str() {
            // Which pods and directions a policy isolates only ever closes.
            "podSelector" | "policyTypes" => {}
            "egress" => each(content, &place, |rule| check_egress_rule(baseline, rule))?,
            "ingress" => each(content, &place, |rule| check_ingress_rule(namespace, rule))?,
            _ => return Err(not_understood().at(place)),
        }
    }
    Ok(())
}

fn check_egress_rule(baseline: &EgressBaseline, rule: &Value) -> Result<()> {
    let Some(peers) = peers(rule, "to")? else {
        return Err(Error::invalid(format!(
            "a rule without \"to\" opens every address: name ranges within the egress baseline of this platform, which is {baseline}"
        )));
    };
    each(peers, "to", |peer| match Peer::parse(peer)? {
        Peer::Own => Ok(()),
        Peer::Addresses(block) => check_addresses(baseline, block).map_err(|error| error.at("ipBlock")),
        Peer::Namespaces { selector, pods } => {
            check_egress_namespaces(selector, pods).map_err(|error| error.at("namespaceSelector"))
        }
    })
}

fn check_ingress_rule(namespace: &str, rule: &Value) -> Result<()> {
    let Some(peers) = peers(rule, "from")? else {
        return Err(Error::invalid(format!(
            "a rule without \"from\" admits other projects: name pods of this namespace by podSelector, or namespaces the platform marked \
             by {INGRESS_LABEL}: \"true\""
        )));
    };
    each(peers, "from", |peer| match Peer::parse(peer)? {
        Peer::Own => Ok(()),
        Peer::Addresses(_) => Err(Error::invalid(
            "addresses of other projects' pods could be among it: only the platform opens ingress from addresses",
        )
        .at("ipBlock")),
        Peer::Namespaces { selector, .. } => {
            check_ingress_namespaces(namespace, selector).map_err(|error| error.at("namespaceSelector"))
        }
    })
}

fn check_addresses(baseline: &EgressBaseline, block: &Value) -> Result<()> {
    let (mut cidr, mut except) = (None, Vec::new());
    for (field, content) in object(block)? {
        match (field.as_str(), content) {
            ("cidr", Value::String(text)) => cidr = Some(Cidr::parse_for_decision(text).map_err(|e| e.at("cidr"))?),
            ("except", Value::Null) => {}
            // An exception narrows, so here the reading that excludes least counts: only the canonical one.
            ("except", Value::Array(texts)) => {
                for text in texts {
                    let text = text.as_str().ok_or_else(not_understood)?;
                    except.push(Cidr::parse(text).map_err(|error| error.at("except"))?);
                }
            }
            _ => return Err(not_understood().at(shorten(field))),
        }
    }
    let cidr = cidr.ok_or_else(|| Error::invalid("cidr is missing"))?;
    baseline.check(cidr, &except)
}

fn check_egress_namespaces(selector: &Value, pods: Option<&Value>) -> Result<()> {
    let selector = Selector::parse(selector).map_err(Error::invalid)?;
    if ![SYSTEM_NAMESPACE, ACCESS_NAMESPACE].iter().any(|closed| selector.may_select_namespace(closed))
        || PROJECT_LABELS.iter().any(|label| selector.requires_key(label))
        || selector.requires(INGRESS_LABEL, "true")
    {
        return Ok(());
    }
    // The usual rule for DNS selects its pods in all namespaces; kubeOP's own pods never carry that label.
    if let Some(pods) = pods
        && Selector::parse(pods).map_err(|why| Error::invalid(why).at("podSelector"))?.requires("k8s-app", "kube-dns")
    {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "it may select {SYSTEM_NAMESPACE} and {ACCESS_NAMESPACE}, which are closed to projects: name the namespaces by {NAME}"
    )))
}

fn check_ingress_namespaces(namespace: &str, selector: &Value) -> Result<()> {
    let selector = Selector::parse(selector).map_err(Error::invalid)?;
    if selector.requires(INGRESS_LABEL, "true") {
        return Ok(());
    }
    let foreign = match selector.namespaces() {
        None => "other projects' namespaces".to_owned(),
        Some(names) => match names.into_iter().find(|name| *name != namespace && may_be_a_project(name)) {
            None => return Ok(()),
            Some(name) => format!("the namespace {:?}", shorten(name)),
        },
    };
    Err(Error::invalid(format!(
        "it may select {foreign}: ingress is possible from this namespace ({NAME}: {namespace}) and from those the platform marked by \
         {INGRESS_LABEL}: \"true\""
    )))
}

/// Whether a project may have this namespace; a text that names no namespace at all counts as one that may.
fn may_be_a_project(name: &str) -> bool {
    Label::parse(name).map_or(true, |label| check_project_namespace(&label).is_ok())
}

/// One peer of a rule, of exactly one of its three forms.
enum Peer<'a> {
    /// Pods of the policy's own namespace.
    Own,
    /// Pods of other namespaces.
    Namespaces { selector: &'a Value, pods: Option<&'a Value> },
    /// A range of addresses.
    Addresses(&'a Value),
}

impl<'a> Peer<'a> {
    fn parse(value: &'a Value) -> Result<Self> {
        let (mut pods, mut namespaces, mut block) = (None, None, None);
        for (field, content) in object(value)? {
            match (field.as_str(), content) {
                ("podSelector" | "namespaceSelector" | "ipBlock", Value::Null) => {}
                ("podSelector", content) => pods = Some(content),
                ("namespaceSelector", content) => namespaces = Some(content),
                ("ipBlock", content) => block = Some(content),
                _ => return Err(not_understood().at(shorten(field))),
            }
        }
        match (namespaces, pods, block) {
            (None, Some(_), None) => Ok(Self::Own),
            (Some(selector), pods, None) => Ok(Self::Namespaces { selector, pods }),
            (None, None, Some(block)) => Ok(Self::Addresses(block)),
            _ => Err(Error::invalid(
                "a peer is a podSelector, a namespaceSelector (with or without podSelector) or an ipBlock",
            )),
        }
    }
}

/// The peers of a rule; none if the field is missing, null or empty, which opens everything.
fn peers<'a>(rule: &'a Value, name: &str) -> Result<Option<&'a Value>> {
    let mut peers = None;
    for (field, content) in object(rule)? {
        match field.as_str() {
            // Ports only narrow.
            "ports" => {}
            field if field == name => peers = Some(content),
            _ => return Err(not_understood().at(shorten(field))),
        }
    }
    Ok(peers.filter(|peers| !peers.is_null() && peers.as_array().is_none_or(|list| !list.is_empty())))
}

/// Calls `judge` on each element of a list; null is an empty list.
fn each(list: &Value, place: &str, judge: impl Fn(&Value) -> Result<()>) -> Result<()> {
    match list {
        Value::Null => Ok(()),
        Value::Array(elements) => elements
            .iter()
            .enumerate()
            .try_for_each(|(index, element)| judge(element).map_err(|error| error.at(format!("{place}[{index}]")))),
        _ => Err(not_understood().at(place)),
    }
}

fn object(value: &Value) -> Result<&Map<String, Value>> {
    value.as_object().ok_or_else(not_understood)
}

fn not_understood() -> Error {
    Error::invalid("this is not understood, and what is not understood is refused")
}
