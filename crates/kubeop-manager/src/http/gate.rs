//! The gate: how often a caller may come, and how much of what there is it may hold at once.
//!
//! Invariant: callers are told apart by tenant, never by token; a project whose tenant is not known has no bucket of its own.

use super::body::BodyTime;
use super::room::{Full, Place, Room, What};
use crate::auth::token::Shown;
use governor::clock::DefaultClock;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use kubeop_core::authz::Role;
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_core::{Error, ErrorKind, Result};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Bursts a caller may send, as a multiple of the rate.
const BURST: u32 = 4;
/// Requests that may be waiting (`?wait=`) at once: far fewer than may be under way, so that waiting never takes the place of working.
const MAX_WAITING: usize = 256;
/// Projects whose tenant is remembered.
const MAX_PROJECTS: usize = 100_000;
/// Callers told apart at most before idle ones are forgotten.
const MAX_CALLERS: usize = 10_000;
/// Bodies up to this size are not counted: as many as there may be requests are less than what bodies may take.
const SMALL_BODY: usize = 16 << 10;

type Limiter = RateLimiter<u64, DashMapStateStore<u64>, DefaultClock>;

/// Bounds on what is taken in at once.
pub struct Gate {
    waiting: Semaphore,
    limiter: Option<Limiter>,
    pub(super) body_time: BodyTime,
    room: Room,
    tenants: Mutex<HashMap<ProjectId, TenantId>>,
}

/// A request that is under way, in its caller's share.
pub(super) struct Entered {
    room: Room,
    share: Option<u64>,
    /// Its place among the requests.
    pub(super) request: Place,
}

/// What a request's body holds; kept until the request is carried out.
#[derive(Clone)]
pub struct BodyRoom(Arc<Mutex<Place>>);

impl Gate {
    /// A gate that lets `rate` requests a second of each tenant, and of each admin, through; 0 = no limit.
    pub fn new(rate: u32) -> Self {
        let limiter = NonZeroU32::new(rate).map(|rate| {
            let burst = NonZeroU32::new(rate.get().saturating_mul(BURST)).unwrap_or(rate);
            RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst))
        });
        Self {
            waiting: Semaphore::new(MAX_WAITING),
            limiter,
            body_time: BodyTime::default(),
            room: Room::default(),
            tenants: Mutex::default(),
        }
    }

    /// The same with another time for bodies.
    #[must_use]
    pub fn with_body_time(self, body_time: BodyTime) -> Self {
        Self { body_time, ..self }
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// `TooManyRequests` where the caller's rate or share is used up; `Unavailable` where everybody's is.
    pub(super) fn enter(&self, shown: Option<&Shown>) -> Result<Entered> {
        let bucket = self.bucket(shown);
        if self.over_rate(bucket) {
            return Err(Error::new(ErrorKind::TooManyRequests, "this caller sends more requests than allowed"));
        }
        let share = shown.is_none_or(|shown| shown.actor.role != Role::Admin).then_some(bucket);
        let mut request = self.room.place(share, What::Requests);
        request.hold(1).map_err(|full| match full {
            Full::Share => {
                Error::new(ErrorKind::TooManyRequests, "this caller has more requests under way than allowed")
            }
            Full::All => Error::unavailable("too many requests are under way"),
        })?;
        Ok(Entered { room: self.room.clone(), share, request })
    }

    /// A place to wait in; without one the answer is what is true now.
    pub fn wait(&self) -> Option<SemaphorePermit<'_>> {
        self.waiting.try_acquire().ok()
    }

    fn over_rate(&self, bucket: u64) -> bool {
        let Some(limiter) = &self.limiter else { return false };
        if limiter.len() > MAX_CALLERS {
            limiter.retain_recent();
        }
        limiter.check_key(&bucket).is_err()
    }

    /// Callers share a bucket by tenant, whatever their tokens: minting more of them brings no more. Admins are told apart by subject; all
    /// without a valid token share one, and so do all projects of which neither their token nor an earlier request told the tenant.
    fn bucket(&self, shown: Option<&Shown>) -> u64 {
        let mut hasher = DefaultHasher::new();
        match shown.map(|shown| (shown.actor.role, shown)) {
            None => 0_u8.hash(&mut hasher),
            Some((Role::Admin, shown)) => (1_u8, &shown.actor.subject).hash(&mut hasher),
            Some((Role::Tenant(tenant), _)) => (2_u8, tenant).hash(&mut hasher),
            Some((Role::Project(project), shown)) => match self.lock().get(&project).copied().or(shown.tenant) {
                Some(tenant) => (2_u8, tenant).hash(&mut hasher),
                None => 3_u8.hash(&mut hasher),
            },
        }
        hasher.finish()
    }

    /// Notes whose project one is: that never changes.
    pub fn learn(&self, project: ProjectId, tenant: TenantId) {
        let mut known = self.lock();
        if known.len() >= MAX_PROJECTS && !known.contains_key(&project) {
            known.clear();
        }
        known.insert(project, tenant);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ProjectId, TenantId>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entered {
    /// Room for its body, none of which is taken yet.
    pub(super) fn body(&self) -> BodyRoom {
        BodyRoom(Arc::new(Mutex::new(self.room.place(self.share, What::Bodies))))
    }

    /// Takes room for its answer.
    pub(super) fn answer(&self, bytes: u64) -> Result<Place, Full> {
        let mut place = self.room.place(self.share, What::Answers);
        place.hold(kib(bytes))?;
        Ok(place)
    }
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

impl BodyRoom {
    /// Takes room for as many bytes, in all.
    ///
    /// # Errors
    /// As [`Gate::enter`].
    pub fn hold(&self, bytes: usize) -> Result<()> {
        if bytes <= SMALL_BODY {
            return Ok(());
        }
        let mut place = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        place.hold(kib(bytes as u64)).map_err(|full| match full {
            Full::Share => {
                Error::new(ErrorKind::TooManyRequests, "this caller sends more large bodies at once than allowed")
            }
            Full::All => Error::unavailable("too many large requests are under way"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubeop_core::authz::Actor;
    use uuid::Uuid;

    fn shown(project: u128, tenant: Option<u128>) -> Shown {
        let role = Role::Project(ProjectId(Uuid::from_u128(project)));
        let tenant = tenant.map(|id| TenantId(Uuid::from_u128(id)));
        Shown { actor: Actor { subject: format!("project:{project}"), role, token_id: None }, tenant }
    }

    #[test]
    fn projects_are_their_tenants_from_the_first_request_on() {
        let gate = Gate::new(1);
        let tenant = |id| {
            let role = Role::Tenant(TenantId(Uuid::from_u128(id)));
            gate.bucket(Some(&Shown { actor: Actor { subject: "t".into(), role, token_id: None }, tenant: None }))
        };
        let bucket = |project, tenant| gate.bucket(Some(&shown(project, tenant)));
        assert_eq!(bucket(1, Some(7)), tenant(7));
        assert_eq!(bucket(2, None), bucket(3, None), "those of unknown tenants share one");
        assert_ne!(bucket(2, None), tenant(7));
        gate.learn(ProjectId(Uuid::from_u128(2)), TenantId(Uuid::from_u128(8)));
        assert_eq!(bucket(2, None), tenant(8));
        assert_eq!(bucket(2, Some(7)), tenant(8), "what was seen counts more than what is claimed");
    }
}
