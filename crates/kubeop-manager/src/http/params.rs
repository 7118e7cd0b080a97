//! Path and query parameters, and the bearer token.
//!
//! Invariant: names are read as tolerantly as in bodies; an unknown or doubled one is refused.

use super::error::{ApiError, refuses};
use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::Operation;
use axum::extract::{FromRequestParts, Path};
use axum::http::HeaderMap;
use axum::http::header;
use axum::http::request::Parts;
use kubeop_api::tolerant;
use kubeop_core::{Error, ErrorKind, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::time::Duration;

/// Query parameters read as `T`.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let text = parts.uri.query().unwrap_or_default();
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| Error::invalid(format!("the query {:?} cannot be read", kubeop_core::id::shorten(text))))?;
        let mut map = Map::new();
        for (key, value) in pairs.0 {
            if key.contains('\0') || value.contains('\0') {
                let name = kubeop_core::id::shorten(&key);
                return Err(ApiError(Error::invalid(format!(
                    "query parameter {name:?}: a text without NUL is needed"
                ))));
            }
            if map.insert(key.clone(), Value::String(value)).is_some() {
                return Err(ApiError(Error::invalid(format!("query parameter {key:?} is given twice"))));
            }
        }
        Ok(Self(tolerant::from_query(map)?))
    }
}

impl<T: JsonSchema> OperationInput for Query<T> {
    refuses!(400);

    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        axum::extract::Query::<T>::operation_input(ctx, operation);
    }
}

/// No query parameters: of an operation that has none.
pub struct NoQuery;

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let text = parts.uri.query().unwrap_or_default();
        let first =
            text.split('&').find(|pair| !pair.is_empty()).map(|pair| pair.split('=').next().unwrap_or_default());
        match first {
            None => Ok(Self),
            Some(name) => Err(ApiError(Error::invalid(format!(
                "query parameter {:?}: unknown; this operation has none",
                kubeop_core::id::shorten(name)
            )))),
        }
    }
}

impl OperationInput for NoQuery {
    refuses!(400);
}

#[derive(Deserialize, JsonSchema)]
struct ItemPath {
    /// The item's id.
    id: String,
}

/// The id at the end of a path, as it was written.
pub struct ItemId(pub String);

impl<S: Send + Sync> FromRequestParts<S> for ItemId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(path) = Path::<ItemPath>::from_request_parts(parts, state)
            .await
            .map_err(|_| Error::invalid("the path cannot be read"))?;
        Ok(Self(path.id))
    }
}

impl OperationInput for ItemId {
    refuses!(400, 404);

    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        Path::<ItemPath>::operation_input(ctx, operation);
    }
}

/// Reads `?wait=`: 0 to 60 seconds.
pub fn wait(text: Option<&str>) -> Result<Duration> {
    let Some(text) = text else { return Ok(Duration::ZERO) };
    match text.parse::<u64>() {
        Ok(seconds) if seconds <= 60 => Ok(Duration::from_secs(seconds)),
        _ => Err(Error::invalid(format!("wait: {:?} is not allowed: 0 to 60 seconds", kubeop_core::id::shorten(text)))),
    }
}

/// Reads the parameters of an item's operation.
pub trait ItemQueryExt {
    /// How long the caller waits for the item to settle.
    fn wait(&self) -> Result<Duration>;
}

impl ItemQueryExt for kubeop_api::resource::ItemQuery {
    fn wait(&self) -> Result<Duration> {
        wait(self.wait.as_deref())
    }
}

/// Reads a switch of a query: `true`, `false` or absent.
pub fn switch(name: &str, text: Option<&str>) -> Result<bool> {
    match text {
        None | Some("false") => Ok(false),
        Some("true" | "") => Ok(true),
        Some(other) => {
            Err(Error::invalid(format!("{name}: {:?} is not allowed: true or false", kubeop_core::id::shorten(other))))
        }
    }
}

/// Reads a whole number of a query within bounds.
pub fn number(name: &str, text: Option<&str>, default: i64, bounds: std::ops::RangeInclusive<i64>) -> Result<i64> {
    let Some(text) = text else { return Ok(default) };
    match text.parse::<i64>() {
        Ok(value) if bounds.contains(&value) => Ok(value),
        _ => Err(Error::invalid(format!(
            "{name}: {:?} is not allowed: {} to {}",
            kubeop_core::id::shorten(text),
            bounds.start(),
            bounds.end()
        ))),
    }
}

/// The bearer token of a request.
pub fn bearer(headers: &HeaderMap) -> Result<&str> {
    let missing = || Error::new(ErrorKind::Unauthenticated, "a token is needed: Authorization: Bearer <token>");
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or_else(missing)?;
    if values.next().is_some() {
        return Err(missing());
    }
    let (scheme, token) = value.to_str().map_err(|_| missing())?.split_once(' ').ok_or_else(missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(missing()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_and_numbers_are_bounded() {
        assert_eq!(wait(Some("60")).unwrap(), Duration::from_mins(1));
        for bad in ["61", "-1", "x", "1.5", ""] {
            assert!(wait(Some(bad)).is_err(), "{bad}");
        }
        assert_eq!(number("limit", None, 100, 1..=1000).unwrap(), 100);
        assert!(number("limit", Some("0"), 100, 1..=1000).is_err());
    }
}
