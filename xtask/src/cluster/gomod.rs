//! What a `go.mod` pins: the one place where versions are written down.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use aws_lc_rs::digest;

use super::modules::Module;

/// The pinned versions and the key of the cache directory that belongs to them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pins {
    /// Of what the module is known by, as Go writes it: `v1.36.3`.
    pub(crate) version: Option<String>,
    /// As Go writes it: `1.26.0`.
    pub(crate) go: String,
    /// First 16 hexadecimal digits of SHA-256 over `go.mod`, `go.sum` and our own sources, in this order.
    pub(crate) key: String,
}

/// Reads the module's files.
pub(crate) fn read(source: &Path, module: &Module) -> Result<Pins> {
    let load = |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let go_mod = load(&source.join("go.mod"))?;
    let go_sum = source.join("go.sum");
    // A module that needs no other has none.
    let mut inputs = if go_sum.is_file() { load(&go_sum)? } else { String::new() };
    for program in module.programs.iter().filter(|program| program.package.starts_with('.')) {
        for path in go_files(&source.join(program.package))? {
            inputs.push_str(&load(&path)?);
        }
    }
    if let Some(replacement) = &module.instead {
        inputs.push_str(&load(&replacement.ours(source))?);
    }
    parse(&go_mod, &inputs, module.versioned).with_context(|| format!("{}/go.mod", module.folder))
}

fn go_files(package: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(package).with_context(|| format!("cannot list {}", package.display()))?;
    let mut found: Vec<_> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "go"))
        .collect();
    found.sort();
    Ok(found)
}

fn parse(go_mod: &str, inputs: &str, versioned: Option<&str>) -> Result<Pins> {
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
    context.update(inputs.as_bytes());
    let key = hexadecimal(context.finish().as_ref().get(..8).unwrap_or_default());
    let version =
        versioned.map(|name| word_after(name).with_context(|| format!("it does not require {name}"))).transpose()?;
    Ok(Pins { version, go: word_after("go").context("it has no go line")?, key })
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
        let kubernetes = Some("k8s.io/kubernetes");
        let pins = parse(text, "sum", kubernetes).unwrap();
        assert_eq!((pins.version.as_deref(), pins.go.as_str()), (Some("v1.36.3"), "1.26.0"));
        let short = parse("go 1.1\nrequire k8s.io/kubernetes v9.9.9\n", "", kubernetes).unwrap();
        assert_eq!(short.version.as_deref(), Some("v9.9.9"));
        assert_eq!(parse("go 1.1\n", "", None).unwrap().version, None);
        parse("go 1.1\n", "", kubernetes).unwrap_err();
    }

    #[test]
    fn the_key_is_of_all_inputs() {
        let key = |module: &str, inputs: &str| parse(module, inputs, None).unwrap().key;
        assert_ne!(key("go 1.1\n", "x"), key("go 1.1\n", "y"));
        assert_ne!(key("go 1.1\n", "x"), key("go 1.2\n", "x"));
        assert_eq!(key("go 1.1\n", "x").len(), 16);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version_numbers("1.26.8"), (1, 26, 8));
        assert_eq!(version_numbers("1.27rc1"), (1, 27, 0));
        assert!(version_numbers("1.9") < version_numbers("1.26.0"));
    }
}
