//! The canary: a ConfigMap that is never admitted, so that a dry-run of one proves that this webhook answers.
//!
//! Invariant: the denial repeats the label's value, so the one who asks knows that the answer is to this very request.

use super::read;
use crate::review::Text;
use kubeop_core::id::shorten;
use kubeop_crds::labels::CANARY;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// Denies what carries the label. Nothing is said about any other ConfigMap: no rule is about them.
pub(super) fn judge(object: &RawValue) -> Result<(), String> {
    let object: Labelled<'_> = read(object)?;
    let labels = object.metadata.labels.unwrap_or_default();
    match labels.get(&Text(CANARY.into())) {
        None => Ok(()),
        Some(value) => Err(format!("kubeop canary {}", shorten(value))),
    }
}

#[derive(Deserialize)]
struct Labelled<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    labels: Option<HashMap<Text<'a>, Text<'a>>>,
}
