//! Which of the forms of an answer the caller accepts (RFC 9110 §12.5.1).
//!
//! Invariant: JSON unless the caller prefers the other form; what cannot be served is 406, never another form than asked for.

use super::error::{ApiError, refuses};
use aide::OperationInput;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use kubeop_core::id::shorten;
use kubeop_core::{Error, ErrorKind, Result};

/// A form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/json`.
    Json,
    /// `text/csv`.
    Csv,
}

/// The form to answer in.
pub struct Accept(pub Form);

impl<S: Send + Sync> FromRequestParts<S> for Accept {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(choose(&parts.headers)?))
    }
}

impl OperationInput for Accept {
    refuses!(406);
}

fn choose(headers: &HeaderMap) -> Result<Form> {
    let values: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().map(|value| value.to_str().unwrap_or_default()).collect();
    let text = values.join(",");
    if text.trim().is_empty() {
        return Ok(Form::Json);
    }
    let (json, csv) = (weight(&text, "application", "json"), weight(&text, "text", "csv"));
    if csv > json {
        Ok(Form::Csv)
    } else if json > 0 {
        Ok(Form::Json)
    } else {
        Err(Error::new(
            ErrorKind::NotAcceptable,
            format!("Accept {:?} cannot be served: application/json or text/csv", shorten(&text)),
        ))
    }
}

/// What a type weighs, in thousandths: by the most specific range that covers it, as the RFC has it; 0 = not acceptable.
fn weight(accept: &str, kind: &str, sub: &str) -> u32 {
    let mut best: Option<(u8, u32)> = None;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let precision = match name.split_once('/') {
            Some((a, b)) if a == kind && b == sub => 2,
            Some((a, "*")) if a == kind => 1,
            Some(("*", "*")) => 0,
            _ => continue,
        };
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let weight = quality.map_or(1000, thousandths);
        if best.is_none_or(|(found, other)| (precision, weight) > (found, other)) {
            best = Some((precision, weight));
        }
    }
    best.map_or(0, |(_, weight)| weight)
}

/// `0`, `0.5`, `1.000`; anything else counts as not acceptable.
fn thousandths(quality: &str) -> u32 {
    let (whole, rest) = quality.split_once('.').unwrap_or((quality, ""));
    let padded = format!("{rest:0<3}");
    match (whole, padded.parse::<u32>()) {
        ("1", Ok(0)) => 1000,
        ("0", Ok(rest)) if padded.len() == 3 && padded.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn the_form_is_what_the_caller_prefers() {
        let chosen = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            choose(&headers).ok()
        };
        for json in [
            "",
            "*/*",
            "application/json",
            "Application/*",
            "text/csv;q=0.9, application/json",
            "text/csv;q=0, */*",
            "text/*, application/json",
        ] {
            assert_eq!(chosen(json), Some(Form::Json), "{json}");
        }
        for csv in [
            "text/csv",
            "TEXT/CSV; charset=utf-8",
            "text/*",
            "text/csv, */*;q=0.1",
            "application/json;q=0.5, text/csv;q=0.501",
            "text/csv, application/json;q=0",
        ] {
            assert_eq!(chosen(csv), Some(Form::Csv), "{csv}");
        }
        for neither in
            ["text/html", "application/xml, image/*", "application/json;q=0", "*/*;q=0.0", "nonsense", "text/csv;q=x"]
        {
            assert_eq!(chosen(neither), None, "{neither}");
        }
        assert_eq!(choose(&HeaderMap::new()).unwrap(), Form::Json);
    }
}
