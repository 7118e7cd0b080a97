//! What is hashed and authenticated: a record at its place, and the end of a chain.
//!
//! Invariant: the form is fixed for ever (`kubeop-audit-1`); another one would be told apart by its name.

use super::digest::sha256;
use crate::keys::Keyring;
use crate::vault::Seed;
use aws_lc_rs::hmac;
use kubeop_core::id::TenantId;
use kubeop_core::{Error, Result, hex};
use kubeop_store::Conn;
use kubeop_store::audit::{AuditRecord, Chain};
use serde::Serialize;
use uuid::Uuid;

/// What the keys of chains' ends are derived for.
const PURPOSE: &str = "kubeop audit chain end, version 1";

/// A record as it is hashed; members in this order.
#[derive(Serialize)]
struct Hashed<'a> {
    form: &'static str,
    tenant_id: Option<TenantId>,
    seq: i64,
    id: Uuid,
    /// Microseconds since 1970.
    at: i64,
    subject: &'a str,
    role: &'a str,
    action: &'a str,
    object_kind: &'a str,
    object_id: &'a str,
    outcome: &'a str,
    request_id: &'a str,
    before_digest: Option<&'a str>,
    after_digest: Option<&'a str>,
    detail: &'a str,
}

/// SHA-256 over the hash before (nothing for the first record) and the record at its place.
pub fn hash(previous: &[u8], record: &AuditRecord, seq: i64) -> Result<Vec<u8>> {
    let hashed = Hashed {
        form: "kubeop-audit-1",
        tenant_id: record.tenant_id,
        seq,
        id: record.id,
        at: record.at.as_microsecond(),
        subject: &record.subject,
        role: &record.role,
        action: &record.action,
        object_kind: &record.object_kind,
        object_id: &record.object_id,
        outcome: &record.outcome,
        request_id: &record.request_id,
        before_digest: record.before_digest.as_deref(),
        after_digest: record.after_digest.as_deref(),
        detail: &record.detail,
    };
    let mut bytes = previous.to_vec();
    serde_json::to_writer(&mut bytes, &hashed).map_err(Error::internal)?;
    Ok(sha256(&bytes))
}

/// Binds the end of a chain to this installation's key: whoever can write the database, but does not have the key, cannot make another.
pub fn authenticate(chain: &mut Chain, seed: &Seed) -> Result<()> {
    chain.seed_id = Some(seed.id);
    chain.mac = hmac::sign(&seed.mac_key(PURPOSE)?, &text(chain)).as_ref().to_vec();
    Ok(())
}

/// Whether the end of a chain was written with this seed.
pub fn is_authentic(chain: &Chain, seed: &Seed) -> Result<bool> {
    Ok(chain.seed_id == Some(seed.id) && hmac::verify(&seed.mac_key(PURPOSE)?, &text(chain), &chain.mac).is_ok())
}

/// Whether the end of a chain was written by this installation.
pub async fn is_ours(c: &mut Conn<'_>, keyring: &Keyring, end: &Chain) -> Result<bool> {
    let Some(id) = end.seed_id else { return Ok(false) };
    match keyring.seed(c, id).await? {
        Some(seed) => is_authentic(end, &seed),
        None => Ok(false),
    }
}

fn text(chain: &Chain) -> Vec<u8> {
    // No part can hold a '|'.
    format!("{}|{}|{}|{}", name(chain.tenant_id), chain.seq, hex::encode(&chain.hash), chain.chains).into_bytes()
}

/// How a chain is called: the tenant's id, or `platform`.
pub fn name(tenant_id: Option<TenantId>) -> String {
    tenant_id.map_or_else(|| "platform".to_owned(), |id| id.to_string())
}
