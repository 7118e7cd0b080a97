//! Bytes as hexadecimal digits.
//!
//! Invariant: lower case, two digits a byte, nothing between.

use std::fmt::Write;

/// The digits of some bytes.
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn leading_zeros_are_kept() {
        assert_eq!(super::encode(&[0, 1, 0xfe]), "0001fe");
    }
}
