//! What `testcluster/go.mod` pins: the one place where versions are written down.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use aws_lc_rs::digest;

/// The pinned versions and the key of the cache directory that belongs to them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pins {
    /// As Kubernetes writes it: `v1.36.3`.
    pub(crate) kubernetes: String,
    /// As Go writes it: `1.26.0`.
    pub(crate) go: String,
    /// First 16 hexadecimal digits of SHA-256 over `go.mod` then `go.sum`.
    pub(crate) key: String,
}

/// Reads the module's files.
pub(crate) fn read(module: &Path) -> Result<Pins> {
    let load = |name: &str| {
        let path = module.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    parse(&load("go.mod")?, &load("go.sum")?)
}

fn parse(go_mod: &str, go_sum: &str) -> Result<Pins> {
    let word_after = |first: &str| {
        go_mod.lines().find_map(|line| {
            line.split_whitespace()
                .skip_while(|word| *word == "require")
                .collect::<Vec<_>>()
                .split_first()
                .filter(|(word, _)| **word == first)
                .and_then(|(_, rest)| rest.first().map(|word| (*word).to_owned()))
        })
    };
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(go_mod.as_bytes());
    context.update(go_sum.as_bytes());
    let key = hexadecimal(context.finish().as_ref().get(..8).unwrap_or_default());
    Ok(Pins {
        kubernetes: word_after("k8s.io/kubernetes").context("testcluster/go.mod does not require k8s.io/kubernetes")?,
        go: word_after("go").context("testcluster/go.mod has no go line")?,
        key,
    })
}

/// Two digits for each byte.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

/// `1.26.8` of `go version go1.26.8 linux/amd64` as numbers; what is missing counts as 0.
pub(crate) fn version_numbers(text: &str) -> (u32, u32, u32) {
    let mut numbers = text
        .split('.')
        .map(|part| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_read_from_the_module_file() {
        let text = "module x\n\ngo 1.26.0\n\ngodebug default=go1.26\n\nrequire (\n\tk8s.io/kube v1\n\tk8s.io/kubernetes v1.36.3 // indirect\n)\n";
        let pins = parse(text, "sum").unwrap();
        assert_eq!((pins.kubernetes.as_str(), pins.go.as_str()), ("v1.36.3", "1.26.0"));
        assert_eq!(parse("go 1.1\nrequire k8s.io/kubernetes v9.9.9\n", "").unwrap().kubernetes, "v9.9.9");
        parse("go 1.1\n", "").unwrap_err();
    }

    #[test]
    fn the_key_is_of_both_files_in_order() {
        let a = "go 1.1\nrequire k8s.io/kubernetes v1.0.0\n";
        assert_ne!(parse(a, "x").unwrap().key, parse(a, "y").unwrap().key);
        assert_eq!(parse(a, "x").unwrap().key.len(), 16);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version_numbers("1.26.8"), (1, 26, 8));
        assert_eq!(version_numbers("1.27rc1"), (1, 27, 0));
        assert!(version_numbers("1.9") < version_numbers("1.26.0"));
    }
}
