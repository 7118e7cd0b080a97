//! The header `If-Match` (RFC 9110 §13.1.1): the versions a change may be based on.
//!
//! Invariant: compared strongly, text by text, with the `ETag` that we give; a tag that is none of ours holds for nothing.

use super::error::{ApiError, refuses};
use crate::openapi::headers;
use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::{Operation, ReferenceOr};
use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use kubeop_core::id::shorten;
use kubeop_core::{Error, ErrorKind, Result};

/// The versions a change may be based on, if they are told.
#[derive(Clone, Debug)]
pub struct IfMatch(Option<Tags>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tags {
    /// Those that can hold.
    strong: Vec<String>,
    /// As they were sent.
    text: String,
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(if_match(&parts.headers)?))
    }
}

impl OperationInput for IfMatch {
    refuses!(400, 409, 412);

    fn operation_input(_: &mut GenContext, operation: &mut Operation) {
        operation.parameters.push(ReferenceOr::Item(headers::if_match()));
    }
}

impl IfMatch {
    /// Whether the change is based on certain versions.
    pub fn is_given(&self) -> bool {
        self.0.is_some()
    }

    /// Refuses a change that is based on other versions.
    pub fn check(&self, version: i64) -> Result<()> {
        let Some(tags) = &self.0 else { return Ok(()) };
        let current = version.to_string();
        if tags.strong.contains(&current) {
            return Ok(());
        }
        let text = &tags.text;
        Err(Error::new(
            ErrorKind::PreconditionFailed,
            format!("If-Match {text} does not hold: the version is \"{current}\""),
        ))
    }
}

fn if_match(headers: &HeaderMap) -> Result<Option<Tags>> {
    // Several lines are one list (RFC 9110 §5.3).
    let lines: Vec<&[u8]> = headers.get_all(header::IF_MATCH).iter().map(HeaderValue::as_bytes).collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let whole = lines.join(b",".as_slice());
    if whole.trim_ascii() == b"*" {
        return Ok(None);
    }
    let text = shorten(&String::from_utf8_lossy(&whole));
    match strong(&whole) {
        Some(strong) => Ok(Some(Tags { strong, text })),
        None => Err(Error::invalid(format!("If-Match {text:?} is neither * nor a list of ETags, such as \"3\""))),
    }
}

/// The strong ones of a list of tags; nothing if it is no such list.
fn strong(list: &[u8]) -> Option<Vec<String>> {
    let mut strong = Vec::new();
    let mut any = false;
    let mut rest = list.trim_ascii_start();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after.trim_ascii_start();
            continue;
        }
        let (weak, quoted) = rest.strip_prefix(b"W/").map_or((false, rest), |quoted| (true, quoted));
        let inner = quoted.strip_prefix(b"\"")?;
        let end = inner.iter().position(|byte| *byte == b'"')?;
        let (tag, after) = inner.split_at_checked(end)?;
        // Visible characters, also beyond ASCII.
        if !tag.iter().all(|byte| matches!(byte, 0x21..=0x7e | 0x80..)) {
            return None;
        }
        if !weak {
            strong.push(String::from_utf8_lossy(tag).into_owned());
        }
        any = true;
        rest = after.strip_prefix(b"\"")?.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return None;
        }
    }
    any.then_some(strong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<IfMatch> {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(header::IF_MATCH, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        if_match(&map).map(IfMatch)
    }

    #[test]
    fn any_strong_tag_of_the_list_that_is_the_version_passes() {
        for holds in [
            &["\"3\""] as &[&str],
            &["\"1\", \"3\""],
            &["\"1\"", "\"3\""],
            &["*"],
            &[" * "],
            &[],
            &[",\"a,b\" ,, \"3\","],
        ] {
            assert!(read(holds).unwrap().check(3).is_ok(), "{holds:?}");
        }
    }

    #[test]
    fn other_and_weak_tags_are_well_formed_and_do_not_hold() {
        for other in [
            &["\"2\""] as &[&str],
            &["\"abc\""],
            &["W/\"3\""],
            &["\"1\", \"2\""],
            &["\"03\""],
            &["\"+3\""],
            &["\"\""],
            &["\"é\""],
            &["\"3,\""],
            &["\"99999999999999999999\""],
        ] {
            let error = read(other).unwrap().check(3).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PreconditionFailed, "{other:?}");
        }
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        for bad in [
            &["3"] as &[&str],
            &[""],
            &[","],
            &["\"3"],
            &["w/\"3\""],
            &["W/ \"3\""],
            &["\"3\" \"4\""],
            &["*, \"3\""],
            &["*", "*"],
            &["\"a b\""],
        ] {
            assert_eq!(read(bad).unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        }
    }
}
