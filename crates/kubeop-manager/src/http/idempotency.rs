//! `Idempotency-Key` on POST: the same key and request within a day get the same answer, and are carried out once.
//!
//! Invariant: a key is claimed after the caller was let in and the body was read, before anything is done; the answer is stored in the
//! transaction of the change ([`Attempt::keep`]), so that a crash loses both or neither. Answers are stored encrypted.
//!
//! A refused request (any answer but 2xx) changed nothing: its key is free again at once.

use super::answer::Kept;
use super::error::ApiError;
use super::layers::RequestId;
use crate::audit::digest::{canonical, sha256};
use crate::auth::caller::{Deed, note};
use crate::keys::sealed;
use crate::state::Manager;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use jiff::SignedDuration;
use kubeop_core::authz::{Actor, Role};
use kubeop_core::id::{TenantId, shorten};
use kubeop_core::{Error, Result, hex};
use kubeop_store::{Tx, idempotency};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use uuid::Uuid;

/// The header.
pub const KEY: &str = "idempotency-key";
/// The header of an answer that was given before.
pub const REPLAYED: &str = "idempotency-replayed";
/// How long an answer is kept.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(24);
/// How long an attempt may be without an answer before another takes over: longer than any request, and clocks differ.
const CLAIMED_FOR: SignedDuration = SignedDuration::from_secs(120);
const MAX_LENGTH: usize = 255;

/// A POST with a key, on its way through the layers.
pub struct Attempt {
    manager: Arc<Manager>,
    key: Result<String, String>,
    path: String,
    query: Vec<(String, String)>,
    request_id: String,
    caller: OnceLock<(Actor, Option<TenantId>)>,
    state: Mutex<Stage>,
}

#[derive(Clone)]
enum Stage {
    /// Nothing was claimed.
    Fresh,
    /// The key is ours, and no answer is stored.
    Claimed(Claim),
    /// The key is ours, and this answer is stored with the change.
    Answered(Claim, Kept),
    /// It was answered before.
    Replay(Kept),
    /// Another attempt is under way.
    Busy,
    /// Nothing is left to be done.
    Over,
}

#[derive(Clone)]
struct Claim {
    digest: Vec<u8>,
    owner: Uuid,
}

/// 1 to 255 visible ASCII characters.
fn parse_key(request: &Request) -> Option<Result<String, String>> {
    let mut values = request.headers().get_all(KEY).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return Some(Err("Idempotency-Key is given twice".to_owned()));
    }
    let text = String::from_utf8_lossy(value.as_bytes());
    let sane = (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    Some(if sane {
        Ok(text.into_owned())
    } else {
        Err(format!(
            "Idempotency-Key {:?} is not allowed: 1 to {MAX_LENGTH} visible ASCII characters without spaces are needed",
            shorten(&text)
        ))
    })
}

/// The query as it counts: names as tolerantly as they are read, in order, and without `wait`, which does not change what is done.
fn meaning_of_query(request: &Request) -> Vec<(String, String)> {
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(request.uri()).map(|query| query.0);
    let mut pairs: Vec<_> = pairs
        .unwrap_or_default()
        .into_iter()
        .map(|(name, value)| (kubeop_api::tolerant::folded(&name), value))
        .filter(|(name, _)| name != "wait")
        .collect();
    pairs.sort_unstable();
    pairs
}

/// The layer: sees to it that an attempt ends, and answers for those that were answered before.
pub async fn once(State(manager): State<Arc<Manager>>, mut request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let Some(key) = parse_key(&request) else { return next.run(request).await };
    let attempt = Arc::new(Attempt {
        manager,
        key,
        path: request.uri().path().to_owned(),
        query: meaning_of_query(&request),
        request_id: request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default(),
        caller: OnceLock::new(),
        state: Mutex::new(Stage::Fresh),
    });
    request.extensions_mut().insert(Arc::clone(&attempt));
    let _end = End(Arc::clone(&attempt));
    let response = next.run(request).await;
    attempt.finish(response).await
}

/// Gives a claimed key back when the caller goes away, or the time is up, before anything was done.
struct End(Arc<Attempt>);

impl Drop for End {
    fn drop(&mut self) {
        let (Stage::Claimed(claim) | Stage::Answered(claim, _)) = self.0.stage().clone() else { return };
        let manager = Arc::clone(&self.0.manager);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { release(&manager, &claim).await });
        }
    }
}

async fn release(manager: &Manager, claim: &Claim) {
    let releasing = async {
        let mut tx = manager.store.begin().await?;
        idempotency::release(&mut tx.conn(), &claim.digest, claim.owner).await?;
        tx.commit().await
    };
    if let Err(error) = releasing.await {
        tracing::warn!(error = %Error::from(error).chain(), "failed to give an idempotency key back; it is free again in a while");
    }
}

impl Attempt {
    /// Notes who is calling: a key is the caller's own.
    pub fn is_of(&self, actor: &Actor, tenant: Option<TenantId>) {
        // The same caller may be extracted twice, never another.
        let _ = self.caller.set((actor.clone(), tenant));
    }

    /// Claims the key for a request with this JSON body.
    pub async fn begin_with_json(&self, body: &Value) -> Result<()> {
        self.begin(canonical(body).as_bytes()).await
    }

    /// Claims the key for a request with this body. The error of a request that was answered before never reaches the caller.
    ///
    /// # Errors
    /// `Invalid` for a malformed key; `Conflict` if the key stands for another request, or one that is under way.
    pub async fn begin(&self, body: &[u8]) -> Result<()> {
        let key = self.key.as_deref().map_err(Error::invalid)?;
        let (actor, _) = self.caller.get().ok_or_else(unknown_caller)?;
        let confined = match actor.role {
            Role::Admin => None,
            Role::Tenant(id) => Some(id.0),
            Role::Project(id) => Some(id.0),
        };
        let caller = json!([actor.role.claim(), confined, actor.subject, "POST", self.path, key]);
        let request = json!([self.query, hex::encode(&sha256(body))]);
        let now = self.manager.clock.now();
        let wish = idempotency::Claim {
            digest: sha256(caller.to_string().as_bytes()),
            request: sha256(request.to_string().as_bytes()),
            owner: self.manager.ids.next(),
            claimed_until: now + CLAIMED_FOR,
            expires_at: now + KEPT_FOR,
        };
        let mut tx = self.manager.store.begin().await?;
        let there = idempotency::claim(&mut tx.conn(), &wish, now).await?;
        if there.is_none() {
            // Before the commit is known to have come about: whatever does not succeed gives the key back.
            *self.stage() = Stage::Claimed(Claim { digest: wish.digest.clone(), owner: wish.owner });
        }
        tx.commit().await?;
        let Some(there) = there else { return Ok(()) };
        if there.request != wish.request {
            return Err(Error::conflict(format!(
                "Idempotency-Key {key:?} was used for another request: the same body and query, or another key, are needed"
            )));
        }
        let (Some(answer), Some(seed)) = (there.answer, there.seed_id) else {
            *self.stage() = Stage::Busy;
            return Err(Error::conflict(format!("the request with Idempotency-Key {key:?} is still under way")));
        };
        let mut read = self.manager.store.read().await?;
        let place = sealed::answer(&wish.digest);
        let plain = self.manager.clusters.keyring().open(&mut read.conn(), &place, seed, &answer).await?;
        *self.stage() = Stage::Replay(serde_json::from_slice(&plain).map_err(Error::internal)?);
        Err(Error::conflict("it was answered before"))
    }

    /// Stores the answer in the transaction of the change; without one only makes sure that the key is still ours.
    pub async fn keep(&self, tx: &mut Tx, answer: Option<Kept>) -> Result<()> {
        let (Stage::Claimed(claim) | Stage::Answered(claim, _)) = self.stage().clone() else {
            return Err(Error::internal("a change with an idempotency key that was not claimed"));
        };
        let held = match &answer {
            None => idempotency::hold(&mut tx.conn(), &claim.digest, claim.owner).await?,
            Some(kept) => self.write(tx, &claim, kept).await?,
        };
        if !held {
            return Err(Error::unavailable(
                "this request took so long that another one with its Idempotency-Key took over",
            ));
        }
        if let Some(kept) = answer {
            // Before the commit is known to have come about: the row tells, and nothing here would free the key.
            *self.stage() = Stage::Answered(claim, kept);
        }
        Ok(())
    }

    async fn write(&self, tx: &mut Tx, claim: &Claim, kept: &Kept) -> Result<bool> {
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(kept).map_err(Error::internal)?);
        let place = sealed::answer(&claim.digest);
        let (seed, sealed) = self.manager.clusters.keyring().seal(&mut tx.conn(), &place, &plain).await?;
        Ok(idempotency::answer(&mut tx.conn(), &claim.digest, claim.owner, seed, &sealed).await?)
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn finish(&self, response: Response) -> Response {
        let stage = self.stage().clone();
        let done = response.status().is_success();
        let finished = match stage {
            Stage::Fresh | Stage::Over => response,
            Stage::Replay(kept) => self.replay(&kept).await.unwrap_or_else(|error| ApiError(error).into_response()),
            Stage::Busy => {
                let mut response = response;
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
            Stage::Claimed(claim) if done => self.store(claim, None, response).await,
            Stage::Answered(claim, kept) if done => self.store(claim, Some(kept), response).await,
            Stage::Claimed(claim) | Stage::Answered(claim, _) => {
                // Nothing happens where an answer was committed after all.
                release(&self.manager, &claim).await;
                response
            }
        };
        *self.stage() = Stage::Over;
        finished
    }

    /// Stores the answer as it is given, where it differs from what was stored with the change (after `?wait=`).
    async fn store(&self, claim: Claim, before: Option<Kept>, response: Response) -> Response {
        let (parts, body) = response.into_parts();
        // Our own answers are in memory already.
        let bytes = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return ApiError(Error::internal(error)).into_response(),
        };
        let given = Kept::of_response(&parts, &bytes);
        if before.as_ref() != Some(&given) {
            let storing = async {
                let mut tx = self.manager.store.begin().await?;
                let _ = self.write(&mut tx, &claim, &given).await?;
                Ok::<_, Error>(tx.commit().await?)
            };
            if let Err(error) = storing.await {
                tracing::warn!(error = %error.chain(), "failed to store the final answer of an idempotency key");
            }
        }
        Response::from_parts(parts, Body::from(bytes))
    }

    /// The answer again. A credential that is shown again is on record again.
    async fn replay(&self, kept: &Kept) -> Result<Response> {
        if kept.is_secret() {
            let (actor, tenant) = self.caller.get().ok_or_else(unknown_caller)?;
            let deed = Deed {
                verb: "replay",
                kind: "request",
                id: format!("POST {}", self.path),
                tenant: *tenant,
                detail: "a credential was shown again for its Idempotency-Key".to_owned(),
                ..Deed::default()
            };
            note(&self.manager, actor, &self.request_id, deed, "done").await?;
        }
        let mut response = kept.to_response();
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        Ok(response)
    }
}

fn unknown_caller() -> Error {
    Error::internal("a body was read before its caller was known")
}
