//! The conditions and times of a Certificate.
//!
//! Invariant: `Ready` is true only for what is in the Secret now; times are those of that certificate.

use crate::refusal::Refusal;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kubeop_crds::conditions::{self, Finding, READY, RECONCILING, STALLED, reason};
use kubeop_crds::{Certificate, CertificateStatus};

/// Condition types that this module decides.
const OWNED: [&str; 3] = [READY, RECONCILING, STALLED];

/// How far a reconcile got.
#[derive(Clone, Debug)]
pub enum Progress<'a> {
    /// The Secret holds it.
    Issued {
        /// When it begins.
        not_before: Timestamp,
        /// When it ends.
        not_after: Timestamp,
        /// When it is renewed.
        renewal: Timestamp,
    },
    /// Nothing is issued, with the reason. What was issued before stays in the Secret.
    Refused(&'a Refusal),
}

/// The status to write.
pub fn status(certificate: &Certificate, progress: &Progress<'_>, now: Timestamp) -> CertificateStatus {
    let before = certificate.status.clone().unwrap_or_default();
    let findings = match progress {
        Progress::Issued { .. } => vec![Finding::new(READY, true, reason::READY, "")],
        Progress::Refused(refusal) => crate::refusal::findings(refusal),
    };
    let generation = certificate.metadata.generation;
    let conditions = conditions::merge(&before.conditions, &findings, &OWNED, generation, now);
    let mut status = CertificateStatus { conditions, observed_generation: generation, ..before };
    if let Progress::Issued { not_before, not_after, renewal } = *progress {
        status.not_before = Some(Time(not_before));
        status.not_after = Some(Time(not_after));
        status.renewal_time = Some(Time(renewal));
    }
    status
}

#[cfg(test)]
mod tests {
    use super::super::validate::tests::certificate;
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_those_of_what_was_issued_last() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let issued = Progress::Issued { not_before: at(1), not_after: at(4), renewal: at(3) };
        let mut resource = certificate(json!({}));
        let status_then = status(&resource, &issued, at(2));
        assert!(conditions::is_true(&status_then.conditions, READY, Some(3)));
        assert_eq!(
            (status_then.not_after.clone(), status_then.renewal_time.clone()),
            (Some(Time(at(4))), Some(Time(at(3))))
        );
        resource.status = Some(status_then);
        let refusal = Refusal::new(reason::HOST_NOT_HELD, "x");
        let later = status(&resource, &Progress::Refused(&refusal), at(5));
        assert!(!conditions::is_true(&later.conditions, READY, None));
        assert_eq!(later.not_after, Some(Time(at(4))));
    }
}
