//! Content addresses: `sha256:` and 64 hexadecimal digits.
//!
//! Invariant: a [`Digest`] is that of bytes this process has read.

use std::{
    fmt::{self, Write as _},
    io,
};

use aws_lc_rs::digest::{Context, SHA256};

/// The SHA-256 of some bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Digest(String);

impl Digest {
    /// Of bytes in memory.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(bytes);
        Self::finish(context)
    }

    /// The digits alone: the file name in `blobs/sha256`.
    pub(crate) fn hex(&self) -> &str {
        self.0.strip_prefix("sha256:").unwrap_or(&self.0)
    }

    fn finish(context: Context) -> Self {
        let mut text = String::from("sha256:");
        for byte in context.finish().as_ref() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Passes bytes on, and knows their digest and number.
pub(crate) struct Digesting<W> {
    inner: W,
    context: Context,
    size: u64,
}

impl<W: io::Write> Digesting<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, context: Context::new(&SHA256), size: 0 }
    }

    /// What was written to, the digest and the number of bytes.
    pub(crate) fn finish(self) -> (W, Digest, u64) {
        (self.inner, Digest::finish(self.context), self.size)
    }
}

impl<W: io::Write> io::Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.context.update(bytes.get(..written).unwrap_or(bytes));
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn memory_and_stream_agree_with_the_published_vector() {
        let expected = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").to_string(), expected);
        let mut stream = Digesting::new(Vec::new());
        stream.write_all(b"a").unwrap();
        stream.write_all(b"bc").unwrap();
        let (inner, digest, size) = stream.finish();
        assert_eq!((inner.as_slice(), digest.to_string().as_str(), size), (&b"abc"[..], expected, 3));
    }
}
