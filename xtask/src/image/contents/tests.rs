//! The image as deployments see it.

use std::fs;

use super::*;
use crate::environment;

fn source() -> Source {
    Source { version: "0.1.0", revision: "abc".into(), epoch: 0 }
}

#[test]
fn names_carry_the_version_and_the_variant() {
    assert_eq!(Variant::Plain.name(&source()).to_string(), "ghcr.io/kubeop/kubeop:0.1.0");
    assert_eq!(Variant::Git.name(&source()).to_string(), "ghcr.io/kubeop/kubeop:0.1.0-git");
}
