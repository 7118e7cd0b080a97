//! The stand-in for a DNS provider: hosts as a section of the cluster's CoreDNS configuration, which its pods resolve by.
//!
//! Invariant: one write at a time. A host leaves the section when its DNSRecord is gone or no longer has an answer, and never because this term of
//! leadership has not looked at it yet.

use crate::context::Context;
use crate::failure::Blocked;
use kube::runtime::reflector::ObjectRef;
use kubeop_cluster::cluster_dns;
use kubeop_core::Error;
use kubeop_core::name::Host;
use kubeop_crds::conditions::reason;
use kubeop_plan::Refusal;
use kubeop_plan::dns_record::Entry;
use kubeop_plan::dns_record::corefile::{Changes, OwnZones, edit};
use kubeop_plan::providers::DnsProvider;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Between looks at what others made of the section.
const LOOK: Duration = Duration::from_secs(30);
/// How long hosts that go are collected.
const COLLECT: Duration = Duration::from_millis(200);
/// How often a configuration that keeps changing is read anew.
const TRIES: usize = 5;

/// The zone.
#[derive(Debug, Default)]
pub(crate) struct ClusterZone {
    /// What was decided in this term, by host; `None`: it has no answer.
    decided: Mutex<HashMap<String, Option<Entry>>>,
    writing: tokio::sync::Mutex<()>,
    look: Notify,
}

/// Keeps the section as it was written, for ever: at once when a DNSRecord is gone, and from time to time.
pub(crate) async fn keep(ctx: &Context) {
    loop {
        if tokio::time::timeout(LOOK, ctx.zone.look.notified()).await.is_ok() {
            tokio::time::sleep(COLLECT).await;
        }
        let wanted = ctx.stores.configured_providers().is_ok_and(|all| all.dns == Some(DnsProvider::ClusterZone));
        if !wanted {
            continue;
        }
        match ctx.zone.settle(ctx).await {
            Ok(_) => {}
            // Each record's status says so.
            Err(Blocked::Refused(refusal)) => tracing::debug!(%refusal, "hosts are not published"),
            Err(Blocked::Failed(error)) => tracing::warn!(error = %error.chain(), "hosts are not published"),
        }
    }
}

/// Top-level domains that are nobody's outside (RFC 2606, RFC 6761, RFC 6762, ICANN's `internal`).
const TOPS: [&str; 5] = ["local", "test", "internal", "example", "localhost"];

/// Whether a name is one that a stand-in may answer for: any other would take an outside name away from every pod of the cluster.
fn is_stand_in(host: &Host) -> bool {
    let mut labels = host.as_str().rsplit('.');
    let (top, second) = (labels.next(), labels.next());
    top.is_some_and(|top| TOPS.contains(&top))
        || (second == Some("example") && matches!(top, Some("com" | "net" | "org")))
}

impl ClusterZone {
    /// Has the section looked at soon.
    pub(crate) fn look(&self) {
        self.look.notify_one();
    }

    /// Publishes a host; returns when it stands in the configuration, which CoreDNS takes up within a minute or two.
    pub(crate) async fn publish(&self, ctx: &Context, entry: &Entry) -> Result<(), Blocked> {
        self.decide(entry.host.as_str(), Some(entry.clone()));
        let own = self.settle(ctx).await?;
        if !is_stand_in(&entry.host) {
            let told = format!(
                "host {} may be somebody's outside: the stand-in zone has names in .{} and example.com, .net and .org",
                entry.host,
                TOPS.join(", .")
            );
            return Err(Refusal::new(reason::HOST_NOT_ALLOWED, told).into());
        }
        if own.hold(&entry.host) {
            let told = format!("host {} is one of the cluster's own names", entry.host);
            return Err(Refusal::new(reason::HOST_NOT_ALLOWED, told).into());
        }
        Ok(())
    }

    /// Takes a host out that has no answer any more.
    pub(crate) async fn withdraw(&self, ctx: &Context, host: &str) -> Result<(), Blocked> {
        self.decide(host, None);
        self.settle(ctx).await.map(drop)
    }

    fn decide(&self, host: &str, entry: Option<Entry>) {
        self.decided.lock().unwrap_or_else(PoisonError::into_inner).insert(host.to_owned(), entry);
    }

    /// Writes what was decided, where it differs; what the cluster itself answers for.
    async fn settle(&self, ctx: &Context) -> Result<OwnZones, Blocked> {
        let _one = self.writing.lock().await;
        let held = |host: &str| ctx.stores.records.get(&ObjectRef::new(host)).is_some();
        for _ in 0..TRIES {
            let dns = cluster_dns::read(&ctx.client).await?.ok_or_else(|| {
                let told = "ConfigMap kube-system/coredns with a Corefile is missing: hosts resolve in clusters whose DNS is CoreDNS, set up by it";
                Refusal::new(reason::UNSUPPORTED_CLUSTER_DNS, told)
            })?;
            let decided = {
                let mut decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
                decided.retain(|host, _| held(host));
                decided.clone()
            };
            let own = OwnZones::of(&dns.corefile);
            let changes: Changes<'_> = decided
                .iter()
                .map(|(host, entry)| {
                    (host.as_str(), entry.as_ref().filter(|entry| is_stand_in(&entry.host) && !own.hold(&entry.host)))
                })
                .collect();
            let edited = edit(&dns.text, dns.form, &changes, held)?;
            if edited == dns.text {
                return Ok(own);
            }
            ctx.metrics.wrote("ConfigMap", "update");
            if cluster_dns::write(&ctx.client, dns, edited).await? {
                return Ok(own);
            }
        }
        Err(Error::unavailable("ConfigMap kube-system/coredns keeps changing").into())
    }
}
