//! The conditions of a DNSRecord.
//!
//! Invariant: `Ready` is true only once the provider holds the entry; without a provider the record is a claim alone, and says so.

use super::{Answer, Entry};
use crate::refusal::Refusal;
use kubeop_crds::conditions::{self, Finding, READY, RECONCILING, STALLED, reason};
use kubeop_crds::{DnsRecord, DnsRecordStatus};

/// Condition types that this module decides.
const OWNED: [&str; 3] = [READY, RECONCILING, STALLED];

/// How far a reconcile got.
#[derive(Clone, Debug)]
pub enum Progress<'a> {
    /// The provider holds the entry.
    Published(&'a Entry),
    /// Nobody publishes.
    NoProvider,
    /// It is not published, with the reason.
    Refused(&'a Refusal),
}

/// The status to write.
pub fn status(record: &DnsRecord, progress: &Progress<'_>, now: jiff::Timestamp) -> DnsRecordStatus {
    let before = record.status.clone().unwrap_or_default();
    let (findings, addresses) = match progress {
        Progress::Published(entry) => (vec![Finding::new(READY, true, reason::READY, "")], shown(entry)),
        Progress::NoProvider => {
            let told = "the host is claimed; no DNS provider is configured, so nobody publishes it";
            (vec![Finding::new(READY, false, reason::NO_PROVIDER, told)], Vec::new())
        }
        Progress::Refused(refusal) => (crate::refusal::findings(refusal), Vec::new()),
    };
    let generation = record.metadata.generation;
    let conditions = conditions::merge(&before.conditions, &findings, &OWNED, generation, now);
    DnsRecordStatus { conditions, observed_generation: generation, addresses }
}

fn shown(entry: &Entry) -> Vec<String> {
    match &entry.answer {
        Answer::Addresses(addresses) => addresses.iter().map(ToString::to_string).collect(),
        Answer::Alias(name) => vec![name.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns_record::validate::tests::record;
    use kubeop_core::name::Host;
    use serde_json::json;

    #[test]
    fn it_is_ready_only_when_published_and_says_what_it_lacks() {
        let record = record(json!({"addresses": ["192.0.2.1"]}));
        let entry = Entry {
            host: Host::parse("web.local").unwrap(),
            answer: Answer::Addresses(vec!["192.0.2.1".parse().unwrap()]),
            ttl: 30,
        };
        let now = jiff::Timestamp::UNIX_EPOCH;
        let published = status(&record, &Progress::Published(&entry), now);
        assert!(conditions::is_true(&published.conditions, READY, Some(3)));
        assert_eq!(published.addresses, ["192.0.2.1"]);
        let alone = status(&record, &Progress::NoProvider, now);
        assert_eq!(conditions::find(&alone.conditions, READY).unwrap().reason, reason::NO_PROVIDER);
        assert!(alone.addresses.is_empty() && alone.conditions.len() == 1);
        let refusal = Refusal::new(reason::TARGET_NOT_FOUND, "x");
        let waiting = status(&record, &Progress::Refused(&refusal), now);
        assert!(conditions::find(&waiting.conditions, RECONCILING).is_some());
        assert!(conditions::find(&waiting.conditions, STALLED).is_none());
    }
}
