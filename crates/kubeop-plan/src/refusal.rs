//! Why a resource is not built.
//!
//! Invariant: the reason is one of `kubeop_crds::conditions::reason`, the message is for the resource's owner.

use kubeop_core::Error;
use kubeop_crds::conditions::{Finding, READY, RECONCILING, STALLED, reason};
use std::fmt;

/// What the validating functions return.
pub type Validated<T> = Result<T, Refusal>;

/// A resource that is not built, with the reason and sentence of its `Ready` condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One of `kubeop_crds::conditions::reason`.
    pub reason: &'static str,
    /// A sentence that names the value and what is allowed.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The spec breaks a rule.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(reason::INVALID, message)
    }

    /// Whether time or another object's change may cure it, so that trying again makes sense; otherwise only a change of the spec does.
    pub fn may_pass(&self) -> bool {
        !matches!(
            self.reason,
            reason::INVALID | reason::UNSUPPORTED_DELIVERY | reason::UNSUPPORTED_HOOKS | reason::IMAGE_NOT_ALLOWED
        )
    }
}

/// The conditions that say so: not ready, and on the way or stuck.
pub fn findings(refusal: &Refusal) -> Vec<Finding> {
    let stuck = if refusal.may_pass() { RECONCILING } else { STALLED };
    [(READY, false), (stuck, true)]
        .map(|(type_, holds)| Finding::new(type_, holds, refusal.reason, refusal.message.clone()))
        .into()
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::invalid(error.message())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}
