//! The stand-in zone: app hosts as a section of the cluster's CoreDNS configuration (docs/adr/0008-mocks-in-cluster-dns.md).
//!
//! Invariant: only whole lines between our two markers are ever written, each made of parsed values alone; each host is answered by its exact name, and
//! never one that the `kubernetes` plugin answers. What stands around the markers is returned byte for byte.

use super::{Answer, Entry};
use crate::refusal::{Refusal, Validated};
use kubeop_core::name::Host;
use kubeop_crds::conditions::reason;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

const BEGIN: &str = "# kubeop begin: hosts of apps, written by kubeop-operator; do not edit";
const END: &str = "# kubeop end";
const HOST: &str = "# host ";
const INDENT: &str = "    ";
/// The longest text, in bytes: an object holds 1 MiB, names and the rest of the ConfigMap included.
const LONGEST: usize = 900 * 1024;

/// What holds the section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A whole Corefile: the section opens its server block of all names on port 53.
    Corefile,
    /// A file that the Corefile imports into that block: the section is all we write.
    Imported,
}

/// What hosts are to become: an entry each, or `None` to take the host out.
pub type Changes<'a> = BTreeMap<&'a str, Option<&'a Entry>>;

/// The text with its section brought up to date: changed hosts as they are wanted, others only while `held` says so.
///
/// # Errors
/// `UnsupportedClusterDNS`: no place for the section, a marker without its other, or a text that would be too long.
pub fn edit(text: &str, form: Form, changes: &Changes<'_>, held: impl Fn(&str) -> bool) -> Validated<String> {
    let parts = split(text)?;
    let mut stanzas = stanzas(parts.section);
    stanzas.retain(|host, _| held(host));
    for (host, entry) in changes {
        match entry {
            Some(entry) => stanzas.insert((*host).to_owned(), stanza(entry)),
            None => stanzas.remove(*host),
        };
    }
    let section: String = stanzas.into_values().collect();
    if section.is_empty() {
        return Ok(format!("{}{}", parts.before, parts.after));
    }
    let (before, after) =
        match (form, parts.section.is_empty()) {
            (Form::Corefile, true) => text.split_at(root_block(text).ok_or_else(|| {
                unsupported("its Corefile has no server block of all names on port 53, as in `.:53 {`")
            })?),
            (Form::Imported, true) => (text, ""),
            (_, false) => (parts.before, parts.after),
        };
    let gap = if before.is_empty() || before.ends_with('\n') { "" } else { "\n" };
    let edited = format!("{before}{gap}{INDENT}{BEGIN}\n{section}{INDENT}{END}\n{after}");
    if edited.len() > LONGEST {
        return Err(unsupported("the stand-in zone is full: it holds a few thousand hosts"));
    }
    Ok(edited)
}

/// The text without our section.
///
/// # Errors
/// A marker without its other.
pub fn without(text: &str) -> Validated<String> {
    let parts = split(text)?;
    Ok(format!("{}{}", parts.before, parts.after))
}

/// The names that the cluster itself answers for, which are nobody's to take: those under the zones of the `kubernetes` plugin.
#[derive(Clone, Debug)]
pub struct OwnZones(Vec<String>);

impl OwnZones {
    /// As a Corefile names them, besides the usual.
    pub fn of(corefile: &str) -> Self {
        let named = corefile.lines().flat_map(|line| {
            let mut words = words(line);
            let is_plugin = words.next() == Some("kubernetes");
            words.filter(move |word| is_plugin && *word != "{")
        });
        let usual = ["cluster.local", "svc", "in-addr.arpa", "ip6.arpa"];
        Self(usual.into_iter().chain(named).map(|zone| zone.trim_end_matches('.').to_ascii_lowercase()).collect())
    }

    /// Whether a host is one of them.
    pub fn hold(&self, host: &Host) -> bool {
        let name = host.as_str();
        let under = |zone: &String| {
            zone.is_empty()
                || name.strip_suffix(zone.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.0.iter().any(under)
    }
}

/// Whether the Corefile takes in what ConfigMap `coredns-custom` holds under keys that end with `.override`.
pub fn imports_overrides(corefile: &str) -> bool {
    corefile.lines().any(|line| {
        let mut words = words(line);
        words.next() == Some("import") && words.next().is_some_and(|path| path.ends_with("custom/*.override"))
    })
}

fn unsupported(why: &str) -> Refusal {
    Refusal::new(reason::UNSUPPORTED_CLUSTER_DNS, format!("the cluster's CoreDNS: {why}"))
}

/// The words of a line, without its comment.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace().take_while(|word| !word.starts_with('#'))
}

struct Parts<'a> {
    before: &'a str,
    section: &'a str,
    after: &'a str,
}

/// Cuts the text at our markers.
fn split(text: &str) -> Validated<Parts<'_>> {
    let mut at = 0;
    let (mut begin, mut end) = (None, None);
    for line in text.split_inclusive('\n') {
        match line.trim() {
            BEGIN if begin.is_none() && end.is_none() => begin = Some(at),
            END if begin.is_some() && end.is_none() => end = Some(at + line.len()),
            BEGIN | END => return Err(unsupported("the markers of kubeOP's section are not in pairs")),
            _ => {}
        }
        at += line.len();
    }
    let parts = match (begin, end) {
        (None, None) => Some((text, "", "")),
        (Some(begin), Some(end)) => text
            .split_at_checked(end)
            .and_then(|(head, after)| head.split_at_checked(begin).map(|(before, section)| (before, section, after))),
        _ => None,
    };
    let (before, section, after) =
        parts.ok_or_else(|| unsupported("the markers of kubeOP's section are not in pairs"))?;
    Ok(Parts { before, section, after })
}

/// The section's hosts, each with its lines.
fn stanzas(section: &str) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    let mut current = None;
    for line in section.split_inclusive('\n') {
        let told = line.trim();
        if let Some(host) = told.strip_prefix(HOST) {
            current = Some(host.to_owned());
        }
        if told == BEGIN || told == END {
            continue;
        }
        if let Some(host) = &current {
            all.entry(host.clone()).or_default().push_str(line);
        }
    }
    all
}

/// Where the server block of all names on port 53 begins, after its opening line.
fn root_block(corefile: &str) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_u32);
    for line in corefile.split_inclusive('\n') {
        at += line.len();
        let all: Vec<&str> = words(line).collect();
        match all.split_last() {
            Some((&"{", keys)) => {
                let is_root = |key: &&str| matches!(key.trim_end_matches(','), "." | ".:53" | "dns://." | "dns://.:53");
                if depth == 0 && keys.iter().any(is_root) {
                    return Some(at);
                }
                depth += 1;
            }
            Some((&"}", [])) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The lines of one host. A type that the host has not gets an empty answer: that the name did not exist (as whoever is asked next would say)
/// would hide the types it has.
fn stanza(entry: &Entry) -> String {
    let (host, ttl) = (entry.host.as_str(), entry.ttl);
    let exact = format!("match ^{}[.]$", host.replace('.', "[.]"));
    let mut lines = vec![format!("{HOST}{host}")];
    let mut answers = |types: &str, answers: Vec<String>| {
        lines.push(format!("template {types} {host} {{"));
        lines.push(format!("{INDENT}{exact}"));
        lines.extend(answers.into_iter().map(|answer| format!("{INDENT}answer \"{host}. {ttl} IN {answer}\"")));
        lines.push(format!("{INDENT}fallthrough"));
        lines.push("}".to_owned());
    };
    match &entry.answer {
        Answer::Alias(name) => answers("ANY ANY", vec![format!("CNAME {name}.")]),
        Answer::Addresses(addresses) => {
            for (type_, is) in [("A", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("AAAA", IpAddr::is_ipv6)] {
                let of_type: Vec<String> =
                    addresses.iter().filter(|one| is(one)).map(|one| format!("{type_} {one}")).collect();
                if !of_type.is_empty() {
                    answers(&format!("IN {type_}"), of_type);
                }
            }
            answers("ANY ANY", Vec::new());
        }
    }
    lines.iter().fold(String::new(), |mut text, line| {
        let _ = writeln!(text, "{INDENT}{line}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kubeadm writes it.
    const USUAL: &str = "# a comment with .:53 {\n(snippet) {\n    errors\n}\nexample.org:53 {\n    forward . 9.9.9.9\n}\n.:53 {\n    errors\n    \
        kubernetes kube.internal in-addr.arpa ip6.arpa {\n       pods insecure\n    }\n    forward . /etc/resolv.conf\n    reload\n}\n";

    fn entry(host: &str, addresses: &[&str]) -> Entry {
        let answer = Answer::Addresses(addresses.iter().map(|text| text.parse().unwrap()).collect());
        Entry { host: Host::parse(host).unwrap(), answer, ttl: 30 }
    }

    fn with(text: &str, entries: &[&Entry]) -> String {
        let entries = entries.iter().map(|entry| (entry.host.as_str(), Some(*entry))).collect();
        edit(text, Form::Corefile, &entries, |_| true).unwrap()
    }

    #[test]
    fn the_section_opens_the_block_of_all_names_and_goes_without_a_trace() {
        let shop = entry("shop.local", &["192.0.2.1", "192.0.2.2"]);
        let once = with(USUAL, &[&shop]);
        let expected = ".:53 {\n    # kubeop begin: hosts of apps, written by kubeop-operator; do not edit\n    # host shop.local\n    \
            template IN A shop.local {\n        match ^shop[.]local[.]$\n        answer \"shop.local. 30 IN A 192.0.2.1\"\n        \
            answer \"shop.local. 30 IN A 192.0.2.2\"\n        fallthrough\n    }\n    template ANY ANY shop.local {\n        \
            match ^shop[.]local[.]$\n        fallthrough\n    }\n    # kubeop end\n    errors\n    kubernetes";
        assert!(once.contains(expected), "{once}");
        assert_eq!(with(&once, &[&shop]), once, "the same again changes nothing");
        assert_eq!(without(&once).unwrap(), USUAL);
        assert_eq!(without(USUAL).unwrap(), USUAL);
    }

    #[test]
    fn hosts_are_changed_one_by_one_and_what_nobody_holds_goes() {
        let (a, b) = (entry("a.local", &["192.0.2.1"]), entry("b.local", &["2001:db8::1"]));
        let both = with(&with(USUAL, &[&b]), &[&a]);
        assert_eq!(both, with(USUAL, &[&a, &b]), "the order of changes leaves no trace");
        assert!(both.contains("template IN AAAA b.local") && !both.contains("template IN A b.local"));
        let moved = with(&both, &[&entry("a.local", &["192.0.2.9"])]);
        assert!(moved.contains("192.0.2.9") && !moved.contains("192.0.2.1\"") && moved.contains("2001:db8::1"));
        let changes = [("a.local", None)].into();
        assert_eq!(edit(&both, Form::Corefile, &changes, |_| true).unwrap(), with(USUAL, &[&b]));
        let only = edit(&both, Form::Corefile, &Changes::new(), |host| host == "a.local").unwrap();
        assert_eq!(only, with(USUAL, &[&a]));
        assert_eq!(edit(&both, Form::Corefile, &Changes::new(), |_| false).unwrap(), USUAL);
    }

    #[test]
    fn an_alias_answers_for_every_type() {
        let answer = Answer::Alias(Host::parse("elb.example.com").unwrap());
        let text = with(USUAL, &[&Entry { answer, ..entry("a.local", &[]) }]);
        assert!(text.contains("template ANY ANY a.local {\n        match ^a[.]local[.]$\n        answer \"a.local. 30 IN CNAME elb.example.com.\"\n"), "{text}");
    }

    #[test]
    fn an_imported_file_holds_the_section_beside_what_others_put_there() {
        let shop = entry("shop.local", &["192.0.2.1"]);
        let changes = [("shop.local", Some(&shop))].into();
        for others in ["", "log", "log\n"] {
            let text = edit(others, Form::Imported, &changes, |_| true).unwrap();
            assert_eq!(edit(&text, Form::Imported, &changes, |_| true).unwrap(), text);
            assert_eq!(without(&text).unwrap().trim_end(), others.trim_end());
        }
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        let shop = entry("shop.local", &["192.0.2.1"]);
        let changes = [("shop.local", Some(&shop))].into();
        let good = with(USUAL, &[&shop]);
        for text in [
            "example.org {\n}\n".to_owned(),
            String::new(),
            good.replace(END, ""),
            good.replace(BEGIN, ""),
            format!("{good}{END}\n"),
            format!("{good}{good}"),
        ] {
            let told = edit(&text, Form::Corefile, &changes, |_| true).unwrap_err();
            assert_eq!(told.reason, reason::UNSUPPORTED_CLUSTER_DNS, "{text}");
        }
    }

    #[test]
    fn the_cluster_s_own_names_are_nobodys() {
        let is = |host: &str| OwnZones::of(USUAL).hold(&Host::parse(host).unwrap());
        for own in [
            "kubernetes.default.svc.cluster.local",
            "cluster.local",
            "kube.internal",
            "a.kube.internal",
            "7.0.10.in-addr.arpa",
        ] {
            assert!(is(own), "{own}");
        }
        for other in ["web.local", "notcluster.local", "local.example", "my-kube.internal"] {
            assert!(!is(other), "{other}");
        }
    }

    #[test]
    fn overrides_are_seen_where_they_are_imported() {
        assert!(!imports_overrides(USUAL));
        assert!(!imports_overrides("# import /etc/coredns/custom/*.override"));
        assert!(imports_overrides(".:53 {\n    import /etc/coredns/custom/*.override\n}\nimport custom/*.server\n"));
        assert!(imports_overrides(".:53 {\n    import custom/*.override\n}\n"));
    }
}
