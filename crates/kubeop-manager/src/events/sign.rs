//! Signatures of what is sent.
//!
//! Invariant: `X-KubeOP-Signature` is over the body alone, byte for byte; the other one binds the body to the time of sending.

use aws_lc_rs::hmac;
use kubeop_core::hex;

/// `sha256=` and the HMAC-SHA256 (RFC 2104) of these parts, one after the other, in hexadecimal digits.
pub(super) fn signature(secret: &[u8], parts: &[&[u8]]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    for part in parts {
        context.update(part);
    }
    format!("sha256={}", hex::encode(context.sign().as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_other_implementations() {
        // printf '{"a":1}' | openssl dgst -sha256 -hmac 'a secret of some length'
        let expected = "sha256=763c680f0c1cd88f64a750e65fc4d20cb29fa8ab300f0ba762884f95ede0d52b";
        assert_eq!(signature(b"a secret of some length", &[br#"{"a":1}"#]), expected);
        assert_eq!(signature(b"a secret of some length", &[b"{", br#""a":1}"#]), expected);
        assert_ne!(signature(b"a secret of some lengt", &[br#"{"a":1}"#]), expected);
    }
}
