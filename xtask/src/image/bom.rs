//! The bill of materials: which crates are compiled into the binary, which C library, and which Debian packages lie beside it. `CycloneDX` 1.5 as JSON,
//! <https://cyclonedx.org/docs/1.5/json/>; tests have it judged by the library of its makers.
//!
//! Invariant: what `cargo tree` resolves for the binary's package and target, without macros and build scripts, is listed: no more and no less.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{source::Source, target};
use crate::{
    environment,
    oci::{config::Platform, debian::Package, rfc3339::rfc3339},
    step::{Runner, output},
};

pub(super) const MEDIA_TYPE: &str = "application/vnd.cyclonedx+json";

/// A crate in the binary.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Crate {
    name: String,
    version: String,
    /// An SPDX expression.
    licence: String,
    /// Of the archive in the registry, in hexadecimal; ours have none.
    checksum: Option<String>,
}

/// The document for a platform's image.
pub(super) fn document(platform: Platform, source: &Source, packages: &BTreeSet<Package>) -> Result<Vec<u8>> {
    let crates = crates(platform)?;
    let mut debian = packages.clone();
    debian.extend(c_library(platform));
    let value = compose(&crates, &debian, platform, source);
    serde_json::to_vec_pretty(&value).context("cannot write JSON")
}

fn compose(crates: &[Crate], packages: &BTreeSet<Package>, platform: Platform, source: &Source) -> Value {
    let main = format!("pkg:cargo/kubeop@{}", source.version);
    let of_crates = crates.iter().filter(|found| found.name != "kubeop").map(|found| {
        let purl = format!("pkg:cargo/{}@{}", found.name, escape(&found.version));
        let hashes: Vec<Value> =
            found.checksum.iter().map(|checksum| json!({ "alg": "SHA-256", "content": checksum })).collect();
        json!({
            "type": "library", "bom-ref": purl, "name": found.name, "version": found.version, "scope": "required",
            "licenses": [{ "expression": found.licence }], "purl": purl, "hashes": hashes,
        })
    });
    let of_packages = packages.iter().map(|package| {
        let (name, version) = (escape(&package.name), escape(&package.version));
        let purl = format!("pkg:deb/debian/{name}@{version}?arch={}", package.architecture);
        json!({ "type": "library", "bom-ref": purl, "name": package.name, "version": package.version, "purl": purl })
    });
    let components: Vec<Value> = of_crates.chain(of_packages).collect();
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": rfc3339(source.epoch),
            "component": {
                "type": "application", "bom-ref": main, "name": "kubeop", "version": source.version, "purl": main,
                "licenses": [{ "expression": "Apache-2.0" }],
            },
            "properties": [
                { "name": "kubeop:platform", "value": format!("linux/{}", platform.architecture()) },
                { "name": "kubeop:revision", "value": source.revision },
            ],
        },
        "components": components,
    })
}

fn crates(platform: Platform) -> Result<Vec<Crate>> {
    let lock = environment::workspace_root()?.join("Cargo.lock");
    let checksums = checksums(&fs::read_to_string(&lock).with_context(|| format!("cannot read {}", lock.display()))?);
    let tree = output(&mut Runner::cargo(&[
        "tree",
        "--package",
        "kubeop",
        "--target",
        target::triple(platform),
        "--edges",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--format",
        "{p}|{l}",
    ])?)?;
    parse(&tree, &checksums)
}

/// Lines such as `tokio v1.54.1|MIT` and, again, `tokio v1.54.1|MIT (*)`.
fn parse(tree: &str, checksums: &BTreeMap<(String, String), String>) -> Result<Vec<Crate>> {
    let mut found = BTreeSet::new();
    for line in tree.lines() {
        let (package, licence) = line.split_once('|').with_context(|| format!("cargo tree said {line:?}"))?;
        let mut words = package.split(' ');
        let (Some(name), Some(version)) = (words.next(), words.next().and_then(|word| word.strip_prefix('v'))) else {
            anyhow::bail!("cargo tree said {line:?}");
        };
        let licence = licence.trim_end_matches("(*)").trim();
        found.insert(Crate {
            name: name.to_owned(),
            version: version.to_owned(),
            // Cargo's former spelling of "or".
            licence: licence.split('/').map(str::trim).collect::<Vec<_>>().join(" OR "),
            checksum: checksums.get(&(name.to_owned(), version.to_owned())).cloned(),
        });
    }
    Ok(found.into_iter().collect())
}

/// By name and version, from `Cargo.lock`, of which cargo writes each field on a line.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let field = |block: &str, name: &str| {
        let prefix = format!("{name} = \"");
        block.lines().find_map(|line| Some(line.strip_prefix(&prefix)?.strip_suffix('"')?.to_owned()))
    };
    lock.split("[[package]]")
        .filter_map(|block| Some(((field(block, "name")?, field(block, "version")?), field(block, "checksum")?)))
        .collect()
}

/// The Debian package whose libc.a is linked in; on other systems nobody can tell.
fn c_library(platform: Platform) -> Option<Package> {
    let name = match (platform, Platform::host() == Some(platform)) {
        (_, true) => "libc6-dev",
        (Platform::LinuxAmd64, false) => "libc6-dev-amd64-cross",
        (Platform::LinuxArm64, false) => "libc6-dev-arm64-cross",
    };
    let text =
        output(Command::new("dpkg-query").args(["--show", "--showformat=${Version} ${Architecture}", name])).ok()?;
    let (version, architecture) = text.trim().split_once(' ')?;
    Some(Package { name: name.to_owned(), version: version.to_owned(), architecture: architecture.to_owned() })
}

/// Package URLs keep these characters only. <https://github.com/package-url/purl-spec>
fn escape(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' | b':' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use cyclonedx_bom::prelude::{Bom, Validate as _};

    use super::*;

    fn source() -> Source {
        Source { version: "0.1.0", revision: "abc".into(), epoch: 1_700_000_000 }
    }

    #[test]
    fn the_workspace_is_listed_as_cyclonedx_wants_it() {
        let package =
            Package { name: "libstdc++6".into(), version: "1:2.39.5-0+deb12u2".into(), architecture: "amd64".into() };
        let bytes = document(Platform::LinuxAmd64, &source(), &BTreeSet::from([package])).unwrap();
        let bom = Bom::parse_from_json_v1_5(bytes.as_slice()).unwrap();
        let verdict = bom.validate();
        assert!(verdict.passed(), "{verdict:?}");
        let components = bom.components.unwrap().0;
        let names: BTreeSet<String> = components.iter().map(|component| component.name.to_string()).collect();
        for expected in ["tokio", "rustls", "kubeop-core", "libsqlite3-sys", "libstdc++6"] {
            assert!(names.contains(expected), "{expected} in {names:?}");
        }
        for absent in
            ["kubeop", "xtask", "e2e", "serde_derive", "cc", "proptest", "reqwest", "cyclonedx-bom", "oci-spec"]
        {
            assert!(!names.contains(absent), "{absent} is not in the binary");
        }
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("pkg:deb/debian/libstdc%2B%2B6@1:2.39.5-0%2Bdeb12u2?arch=amd64"), "{text}");
    }

    #[test]
    fn lines_of_cargo_become_crates_once() {
        let lock = "version = 4\n\n[[package]]\nname = \"b\"\nversion = \"1.0.0\"\nsource = \"x\"\nchecksum = \"aa\"\n\n[[package]]\nname = \"kubeop\"\nversion = \"0.1.0\"\n";
        let tree =
            "kubeop v0.1.0 (/x/crates/kubeop)|Apache-2.0\nb v1.0.0|MIT/Apache-2.0\nb v1.0.0|MIT/Apache-2.0 (*)\n";
        let found = parse(tree, &checksums(lock)).unwrap();
        let expected = |name: &str, version: &str, licence: &str, checksum: Option<&str>| Crate {
            name: name.into(),
            version: version.into(),
            licence: licence.into(),
            checksum: checksum.map(Into::into),
        };
        assert_eq!(
            found,
            [expected("b", "1.0.0", "MIT OR Apache-2.0", Some("aa")), expected("kubeop", "0.1.0", "Apache-2.0", None)]
        );
        assert!(parse("nonsense", &BTreeMap::new()).is_err());
    }

    #[test]
    fn two_documents_are_equal() {
        let make = || document(Platform::LinuxArm64, &source(), &BTreeSet::new()).unwrap();
        assert_eq!(make(), make());
    }
}
