//! `AdmissionReview` v1 (`admission.k8s.io/v1`): what is asked, and the answer.
//!
//! Invariant: the object stays raw JSON, borrowed from the body, so that no field is lost in a type that is older than the API server.

use crate::metrics::Rule;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";

/// A text that borrows from the body where it holds no escapes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow)]
    api_version: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    request: Request<'a>,
}

/// What the API server asks.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    pub uid: Text<'a>,
    #[serde(borrow)]
    pub kind: GroupVersionKind<'a>,
    #[serde(borrow)]
    pub resource: GroupVersionResource<'a>,
    #[serde(borrow, default)]
    pub sub_resource: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub namespace: Option<Text<'a>>,
    #[serde(borrow)]
    pub operation: Text<'a>,
    #[serde(borrow, default)]
    pub object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub old_object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(crate) struct GroupVersionKind<'a> {
    #[serde(borrow)]
    pub group: Text<'a>,
    #[serde(borrow)]
    pub kind: Text<'a>,
}

#[derive(Deserialize)]
pub(crate) struct GroupVersionResource<'a> {
    #[serde(borrow)]
    pub group: Text<'a>,
    #[serde(borrow)]
    pub version: Text<'a>,
    #[serde(borrow)]
    pub resource: Text<'a>,
}

/// A body that is no review this version understands.
#[derive(Debug)]
pub(crate) struct NotUnderstood {
    /// The request's id, if at least that could be read: the API server insists on it.
    pub uid: Option<String>,
    /// What is wrong.
    pub message: String,
}

/// Reads a review. Duplicate fields, trailing data and other versions are refused.
pub(crate) fn decode(body: &[u8]) -> Result<Request<'_>, NotUnderstood> {
    let refuse = |message: String| NotUnderstood { uid: uid_alone(body), message };
    match serde_json::from_slice::<Envelope<'_>>(body) {
        Ok(review) if *review.api_version != *API_VERSION || *review.kind != *KIND => {
            Err(refuse(format!("this is no {KIND} of {API_VERSION}")))
        }
        Ok(review) if review.request.uid.is_empty() => Err(refuse("the review has no uid".to_owned())),
        Ok(review) => Ok(review.request),
        Err(error) => Err(refuse(format!("the review cannot be read: {error}"))),
    }
}

/// The id of a review that is otherwise not understood.
fn uid_alone(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Envelope {
        request: Request,
    }
    #[derive(Deserialize)]
    struct Request {
        uid: String,
    }
    let uid = serde_json::from_slice::<Envelope>(body).ok()?.request.uid;
    (!uid.is_empty() && uid.len() <= 256).then_some(uid)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_annotations: Option<AuditAnnotations>,
}

#[derive(Serialize)]
struct Status<'a> {
    message: &'a str,
    reason: &'static str,
    code: u16,
}

/// Lands in the API server's audit log as `<webhook>/rule`.
#[derive(Serialize)]
struct AuditAnnotations {
    rule: &'static str,
}

/// The answer that admits.
pub(crate) fn admit(uid: &str) -> Vec<u8> {
    encode(uid, None)
}

/// The answer that denies, with the rule and its sentence.
pub(crate) fn deny(uid: &str, rule: Rule, message: &str) -> Vec<u8> {
    encode(uid, Some((rule, message)))
}

fn encode(uid: &str, denial: Option<(Rule, &str)>) -> Vec<u8> {
    let answer = Answer {
        api_version: API_VERSION,
        kind: KIND,
        response: Response {
            uid,
            allowed: denial.is_none(),
            status: denial.map(|(_, message)| Status { message, reason: "Forbidden", code: 403 }),
            audit_annotations: denial.map(|(rule, _)| AuditAnnotations { rule: rule.id() }),
        },
    };
    // Serializing strings and flags into memory cannot fail; an empty body would be a denial to the API server.
    serde_json::to_vec(&answer).unwrap_or_default()
}
