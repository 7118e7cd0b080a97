//! Leader election over one Lease of `coordination.k8s.io/v1`.
//!
//! Invariant: every write carries the `resourceVersion` it was decided on, so of two candidates the API server takes one; a lease is taken over
//! only after it stood still for its whole duration on the observer's own monotonic clock (clocks of machines are never compared); and a leader
//! that could not renew gives up before anybody can take over. (client-go `tools/leaderelection`; the crate kube-lease-manager compares wall
//! clocks and takes over without a precondition, so it is not used.)

use crate::error::Doing;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use kubeop_core::Result;
use kubeop_core::clock::Clock;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Which lease, and how it is held.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who we are: unique per process.
    pub identity: String,
    /// How long it must stand still before another takes it.
    pub duration: Duration,
    /// How often it is renewed, and looked at while another holds it.
    pub renew: Duration,
}

impl Terms {
    /// The terms of kubeOP's own leases: 15 s, renewed every 5 s.
    pub fn new(namespace: &str, name: &str, identity: String) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity,
            duration: Duration::from_secs(15),
            renew: Duration::from_secs(5),
        }
    }

    /// When a leader that cannot renew stops: well before the duration is over.
    fn deadline(&self) -> Duration {
        self.duration * 2 / 3
    }
}

/// Where a candidate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The API server was not heard yet, or the election is over.
    Unknown,
    /// Another leads.
    Follows,
    /// We lead.
    Leads,
}

/// What to do about a lease that was just read.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// Ours: renew it.
    Renew,
    /// Nobody's, or it stood still for too long: take it.
    Take,
    /// Another's.
    Wait,
}

/// The last change that was seen of a lease, on our own clock.
#[derive(Debug, Default)]
struct Observed(Option<(String, Instant)>);

impl Observed {
    /// Judges a lease read at `now`.
    fn judge(&mut self, spec: &LeaseSpec, resource_version: &str, terms: &Terms, now: Instant) -> Decision {
        let changed = self.0.as_ref().is_none_or(|(seen, _)| seen != resource_version);
        if changed {
            self.0 = Some((resource_version.to_owned(), now));
        }
        let since = self.0.as_ref().map_or(now, |(_, since)| *since);
        match spec.holder_identity.as_deref() {
            None | Some("") => Decision::Take,
            Some(holder) if holder == terms.identity => Decision::Renew,
            // The longer of its word and ours, should they differ.
            Some(_) => {
                let theirs = spec
                    .lease_duration_seconds
                    .and_then(|s| u64::try_from(s).ok())
                    .map_or(terms.duration, Duration::from_secs);
                if now.duration_since(since) >= theirs.max(terms.duration) { Decision::Take } else { Decision::Wait }
            }
        }
    }
}

/// Campaigns until `stop`, then releases the lease. The receiver shows where we stand; it leaves `Leads` before another can lead.
pub fn campaign(
    client: Client,
    terms: Terms,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> (watch::Receiver<Standing>, tokio::task::JoinHandle<()>) {
    let (tell, told) = watch::channel(Standing::Unknown);
    let task = tokio::spawn(async move {
        let mut candidate =
            Candidate { api: Api::namespaced(client, &terms.namespace), terms, clock, observed: Observed::default() };
        candidate.run(&tell, &stop).await;
    });
    (told, task)
}

struct Candidate {
    api: Api<Lease>,
    terms: Terms,
    clock: Arc<dyn Clock>,
    observed: Observed,
}

impl Candidate {
    async fn run(&mut self, tell: &watch::Sender<Standing>, quit: &CancellationToken) {
        let mut renewed: Option<Instant> = None;
        let mut heard = false;
        loop {
            let started = Instant::now();
            // While leading, an answer that comes after the deadline is of no use.
            let limit =
                renewed.map_or(self.terms.renew, |at| (at + self.terms.deadline()).saturating_duration_since(started));
            let step = tokio::select! {
                () = quit.cancelled() => break,
                step = tokio::time::timeout(limit.min(self.terms.renew), self.step()) => step,
            };
            let mut pause = self.terms.renew;
            heard |= matches!(step, Ok(Ok(_)));
            match step {
                Ok(Ok(true)) => renewed = Some(started),
                Ok(Ok(false)) => renewed = None,
                Ok(Err(error)) => {
                    tracing::warn!(lease = %self.terms.name, error = %error.chain(), "lease not renewed");
                    pause = self.terms.renew / 5;
                }
                Err(_) => pause = self.terms.renew / 5,
            }
            if renewed.is_some_and(|at| at.elapsed() >= self.terms.deadline()) {
                renewed = None;
            }
            let standing = match renewed {
                Some(_) => Standing::Leads,
                None if heard => Standing::Follows,
                None => Standing::Unknown,
            };
            if tell.send_if_modified(|now| std::mem::replace(now, standing) != standing) {
                tracing::info!(lease = %self.terms.name, identity = %self.terms.identity, ?standing, "leadership changed");
            }
            tokio::select! {
                () = quit.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        tell.send_replace(Standing::Unknown);
        if renewed.is_some()
            && let Ok(Err(error)) = tokio::time::timeout(Duration::from_secs(2), self.release()).await
        {
            tracing::warn!(lease = %self.terms.name, error = %error.chain(), "lease not released");
        }
    }

    /// Reads, decides, writes once; whether the lease is ours now.
    async fn step(&mut self) -> Result<bool> {
        let Some(lease) = self.api.get_opt(&self.terms.name).await.doing("reading the lease")? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.terms.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.taken(&LeaseSpec::default())),
            };
            return settle(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let next = match self.observed.judge(&spec, &version, &self.terms, Instant::now()) {
            Decision::Wait => return Ok(false),
            Decision::Take => self.taken(&spec),
            Decision::Renew => LeaseSpec { renew_time: Some(self.now()), ..spec },
        };
        settle(self.api.replace(&self.terms.name, &PostParams::default(), &Lease { spec: Some(next), ..lease }).await)
    }

    fn taken(&self, before: &LeaseSpec) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.terms.identity.clone()),
            lease_duration_seconds: i32::try_from(self.terms.duration.as_secs()).ok(),
            acquire_time: Some(self.now()),
            renew_time: Some(self.now()),
            lease_transitions: Some(before.lease_transitions.unwrap_or(0).saturating_add(1)),
            ..LeaseSpec::default()
        }
    }

    /// Lets the next candidate take it at once, if it is still ours.
    async fn release(&mut self) -> Result<()> {
        let Some(lease) = self.api.get_opt(&self.terms.name).await.doing("reading the lease")? else { return Ok(()) };
        let spec = lease.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.terms.identity) {
            return Ok(());
        }
        let free = LeaseSpec {
            holder_identity: None,
            renew_time: None,
            acquire_time: None,
            lease_duration_seconds: None,
            ..spec
        };
        settle(self.api.replace(&self.terms.name, &PostParams::default(), &Lease { spec: Some(free), ..lease }).await)
            .map(drop)
    }

    fn now(&self) -> MicroTime {
        let now: Timestamp = self.clock.now();
        MicroTime(now)
    }
}

/// A write that lost against another's says nothing about who holds the lease: it is read again soon.
fn settle(written: std::result::Result<Lease, kube::Error>) -> Result<bool> {
    written.map(|_| true).doing("writing the lease")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(by: Option<&str>) -> LeaseSpec {
        LeaseSpec {
            holder_identity: by.map(ToOwned::to_owned),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_only_after_it_stood_still() {
        let terms = Terms::new("ns", "l", "me".into());
        let start = Instant::now();
        let at = |s: u64| start + Duration::from_secs(s);
        let mut observed = Observed::default();
        assert_eq!(observed.judge(&held(Some("other")), "1", &terms, at(0)), Decision::Wait);
        assert_eq!(observed.judge(&held(Some("other")), "1", &terms, at(14)), Decision::Wait);
        assert_eq!(observed.judge(&held(Some("other")), "2", &terms, at(15)), Decision::Wait, "it moved");
        assert_eq!(observed.judge(&held(Some("other")), "2", &terms, at(29)), Decision::Wait);
        assert_eq!(observed.judge(&held(Some("other")), "2", &terms, at(30)), Decision::Take);
    }

    #[test]
    fn ours_is_renewed_and_nobodys_is_taken_at_once() {
        let terms = Terms::new("ns", "l", "me".into());
        let now = Instant::now();
        assert_eq!(Observed::default().judge(&held(Some("me")), "1", &terms, now), Decision::Renew);
        assert_eq!(Observed::default().judge(&held(None), "1", &terms, now), Decision::Take);
        assert_eq!(Observed::default().judge(&held(Some("")), "1", &terms, now), Decision::Take);
    }

    #[test]
    fn a_longer_word_of_the_holder_counts() {
        let terms = Terms::new("ns", "l", "me".into());
        let now = Instant::now();
        let mut observed = Observed::default();
        let spec = LeaseSpec { lease_duration_seconds: Some(60), ..held(Some("other")) };
        assert_eq!(observed.judge(&spec, "1", &terms, now), Decision::Wait);
        assert_eq!(observed.judge(&spec, "1", &terms, now + Duration::from_secs(59)), Decision::Wait);
        assert_eq!(observed.judge(&spec, "1", &terms, now + Duration::from_mins(1)), Decision::Take);
    }
}
