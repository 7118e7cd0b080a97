//! Tokens of the API: HS256 JSON Web Tokens (RFC 7519, RFC 8725), signed with the first key, verified with any.
//!
//! Invariant: the algorithm is ours, never the token's; time is checked against the clock that is passed in.

use aws_lc_rs::digest;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use kubeop_api::strict_json;
use kubeop_core::authz::{Actor, Role};
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_core::{Error, ErrorKind, Result};
use secrecy::{ExposeSecret, SecretSlice};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Write;

const ISSUER: &str = "kubeop";
/// How far clocks may differ.
const LEEWAY_SECONDS: i64 = 30;
/// A longer token is none of ours.
const MAX_LENGTH: usize = 4096;

/// Who shows a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Who it is.
    pub actor: Actor,
    /// Of a project: the tenant that the token says it is of, if it says so. Whether it is, is for the caller to ask.
    pub tenant: Option<TenantId>,
}

/// The claims of a token.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    role: String,
    iat: i64,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    project_id: Option<String>,
}

struct Key {
    id: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

/// Signs and verifies tokens.
pub struct Tokens {
    keys: Vec<Key>,
}

impl Tokens {
    /// Tokens under these keys, the signing one first.
    pub fn new(keys: &[SecretSlice<u8>]) -> Self {
        let keys = keys
            .iter()
            .map(|secret| {
                let bytes = secret.expose_secret();
                let hash = digest::digest(&digest::SHA256, bytes);
                let id = hash.as_ref().iter().take(6).fold(String::new(), |mut id, byte| {
                    // Writing to a String cannot fail.
                    let _ = write!(id, "{byte:02x}");
                    id
                });
                Key { id, encoding: EncodingKey::from_secret(bytes), decoding: DecodingKey::from_secret(bytes) }
            })
            .collect();
        Self { keys }
    }

    /// Signs a token for `actor`, valid from `now` until `expires`.
    pub fn sign(&self, actor: &Actor, now: Timestamp, expires: Timestamp) -> Result<String> {
        self.sign_within(actor, None, now, expires)
    }

    /// The same for a project of this tenant, so that it is known whose it is before the project is looked up.
    pub fn sign_within(
        &self,
        actor: &Actor,
        tenant: Option<TenantId>,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<String> {
        let key = self.keys.first().ok_or_else(|| Error::unavailable("no key to sign tokens with is configured"))?;
        let (tenant_id, project_id) = match actor.role {
            Role::Admin => (None, None),
            Role::Tenant(id) => (Some(id.to_string()), None),
            Role::Project(id) => (tenant.map(|id| id.to_string()), Some(id.to_string())),
        };
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: actor.subject.clone(),
            role: actor.role.claim().to_owned(),
            iat: now.as_second(),
            exp: expires.as_second(),
            nbf: None,
            jti: actor.token_id.clone(),
            tenant_id,
            project_id,
        };
        let header = Header { kid: Some(key.id.clone()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &claims, &key.encoding).map_err(Error::internal)
    }

    /// Verifies a token and tells who shows it. Whether it was revoked is for the caller to ask.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Shown> {
        if token.len() > MAX_LENGTH {
            return Err(refused("it is too long"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| refused("it is not a JSON Web Token"))?;
        // RFC 7515 §4.1.11: what must be understood and is not makes a token invalid; RFC 8725 §3.11: other kinds of tokens are not ours.
        if header.crit.is_some() || header.typ.as_ref().is_some_and(|kind| !kind.eq_ignore_ascii_case("JWT")) {
            return Err(refused("its header asks for what is not supported"));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["iss", "sub", "exp"]);
        // Time is checked below, against our own clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let claims = self
            .keys
            .iter()
            .filter(|key| header.kid.as_ref().is_none_or(|kid| *kid == key.id))
            .find_map(|key| jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation).ok())
            .ok_or_else(|| refused("its signature or claims are not valid"))?
            .claims;
        check_payload(token)?;
        let now = now.as_second();
        if claims.exp <= now.saturating_sub(LEEWAY_SECONDS) {
            return Err(refused("it has expired"));
        }
        let latest = now.saturating_add(LEEWAY_SECONDS);
        if claims.iat > latest || claims.nbf.is_some_and(|nbf| nbf > latest) {
            return Err(refused("it is not valid yet"));
        }
        let (role, tenant) = role(&claims)?;
        Ok(Shown { actor: Actor { role, subject: claims.sub, token_id: claims.jti }, tenant })
    }
}

/// Refuses a token that is for others alone (RFC 7519 §4.1.3), and one that two readers could read differently (§4: names are unique).
fn check_payload(token: &str) -> Result<()> {
    let malformed = || refused("its claims are not unambiguous JSON");
    let payload = token.split('.').nth(1).ok_or_else(malformed)?;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(payload).map_err(|_| malformed())?;
    let for_us = match strict_json::parse(&bytes).map_err(|_| malformed())?.get("aud") {
        None => true,
        Some(Value::Array(all)) => all.iter().any(|one| one == ISSUER),
        Some(one) => one == ISSUER,
    };
    if for_us { Ok(()) } else { Err(refused("its audience (aud) is not \"kubeop\"")) }
}

fn role(claims: &Claims) -> Result<(Role, Option<TenantId>)> {
    let malformed = || refused("its role claims do not fit together");
    match (claims.role.as_str(), &claims.tenant_id, &claims.project_id) {
        ("admin", None, None) => Ok((Role::Admin, None)),
        ("tenant", Some(id), None) => TenantId::parse(id).map(|id| (Role::Tenant(id), None)).map_err(|_| malformed()),
        ("project", tenant, Some(id)) => {
            let tenant = tenant.as_deref().map(TenantId::parse).transpose().map_err(|_| malformed())?;
            ProjectId::parse(id).map(|id| (Role::Project(id), tenant)).map_err(|_| malformed())
        }
        _ => Err(malformed()),
    }
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::Unauthenticated, format!("the token is not accepted: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn tokens(keys: &[&[u8]]) -> Tokens {
        Tokens::new(&keys.iter().map(|key| SecretSlice::from(key.to_vec())).collect::<Vec<_>>())
    }

    fn project() -> Actor {
        Actor { subject: "p".into(), role: Role::Project(ProjectId(Uuid::from_u128(1))), token_id: Some("j".into()) }
    }

    fn raw(header: &Value, claims: &Value, key: &[u8]) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key);
        let tag = BASE64_URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, text.as_bytes()));
        format!("{text}.{tag}")
    }

    #[test]
    fn a_token_opens_what_it_was_signed_for_until_it_ends() {
        let ours = tokens(&[&[1; 32]]);
        let token = ours.sign(&project(), at(1000), at(1060)).unwrap();
        assert_eq!(ours.verify(&token, at(1050)).unwrap(), Shown { actor: project(), tenant: None });
        assert!(ours.verify(&token, at(1091)).is_err());
        assert!(ours.verify(&token, at(900)).is_err());
        assert!(tokens(&[&[2; 32]]).verify(&token, at(1050)).is_err());
        assert!(tokens(&[&[2; 32], &[1; 32]]).verify(&token, at(1050)).is_ok());
    }

    #[test]
    fn the_claims_of_the_seed_suffice() {
        let claims = serde_json::json!({"iss":"kubeop","sub":"admin","role":"admin","iat":1000,"exp":2000});
        let header = serde_json::json!({"alg":"HS256","typ":"JWT"});
        let ours = tokens(&[&[1; 32]]);
        assert_eq!(ours.verify(&raw(&header, &claims, &[1; 32]), at(1500)).unwrap().actor.role, Role::Admin);
        for (field, value) in [
            ("iss", serde_json::json!("other")),
            ("role", serde_json::json!("root")),
            ("exp", serde_json::json!("soon")),
            ("nbf", serde_json::json!(9999)),
            ("iat", serde_json::json!(9999)),
            ("tenant_id", serde_json::json!("x")),
            ("aud", serde_json::json!("other")),
            ("aud", serde_json::json!(["other"])),
            ("aud", serde_json::json!(null)),
        ] {
            let mut changed = claims.clone();
            changed[field] = value;
            assert!(ours.verify(&raw(&header, &changed, &[1; 32]), at(1500)).is_err(), "{field}");
        }
        for header in [
            serde_json::json!({"alg":"none"}),
            serde_json::json!({"alg":"HS512"}),
            serde_json::json!({"alg":"HS256","kid":"unknown"}),
        ] {
            assert!(ours.verify(&raw(&header, &claims, &[1; 32]), at(1500)).is_err(), "{header}");
        }
        for garbage in ["", ".", "..", "a.b.c", &"x".repeat(10_000)] {
            assert!(ours.verify(garbage, at(1500)).is_err());
        }
    }
}
