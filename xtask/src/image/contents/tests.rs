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

/// The lines of the Dockerfile's last stage that begin with an instruction.
fn instructions(dockerfile: &str, name: &str) -> Vec<String> {
    let (_, last) = dockerfile.rsplit_once("\nFROM ").unwrap();
    last.lines().filter_map(|line| line.strip_prefix(&format!("{name} "))).map(str::to_owned).collect()
}

#[test]
fn the_dockerfile_makes_the_same_image() {
    let path = environment::workspace_root().unwrap().join("deploy/docker/Dockerfile");
    let dockerfile = fs::read_to_string(&path).unwrap();
    let source = Source { version: env!("CARGO_PKG_VERSION"), revision: "$REVISION".into(), epoch: 0 };
    let name = Variant::Plain.name(&source);
    let config = config(Platform::LinuxAmd64, &source, &name);

    assert_eq!(instructions(&dockerfile, "USER"), [config.user]);
    assert_eq!(instructions(&dockerfile, "WORKDIR"), [config.working_dir]);
    assert_eq!(instructions(&dockerfile, "EXPOSE"), [config.exposed_ports.join(" ")]);
    let entrypoint: Vec<String> = serde_json::from_str(&instructions(&dockerfile, "ENTRYPOINT").concat()).unwrap();
    assert_eq!(entrypoint, config.entrypoint);
    let pairs = |name: &str| -> BTreeMap<String, String> {
        let pair = |line: &String| {
            line.split_once('=').map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        };
        instructions(&dockerfile, name).iter().map(|line| pair(line).unwrap()).collect()
    };
    assert_eq!(pairs("ENV"), config.env);
    let mut labels = config.labels;
    for (label, argument) in [("created", "$CREATED"), ("version", "$VERSION"), ("ref.name", "$VERSION")] {
        labels.insert(format!("org.opencontainers.image.{label}"), argument.to_owned());
    }
    assert_eq!(pairs("LABEL"), labels);
    assert!(dockerfile.contains(&format!("\nARG VERSION={}\n", source.version)), "the version of Cargo.toml");
    let toolchain = fs::read_to_string(environment::workspace_root().unwrap().join("rust-toolchain.toml")).unwrap();
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = \"")).unwrap().trim_end_matches('"');
    assert!(channel.starts_with(&format!("{}.", compiler(&dockerfile))), "the toolchain {channel}");
}

fn compiler(dockerfile: &str) -> &str {
    dockerfile.split_once("library/rust:").unwrap().1.split_once('-').unwrap().0
}

#[test]
fn the_dockerfile_writes_the_same_accounts_and_places() {
    let path = environment::workspace_root().unwrap().join("deploy/docker/Dockerfile");
    let dockerfile = fs::read_to_string(&path).unwrap();
    for text in [passwd(), group()] {
        assert!(dockerfile.contains(&format!("printf '{}'", text.replace('\n', "\\n"))), "{text}");
    }
    for path in [BINARY, "/etc/ssl/certs/ca-certificates.crt"] {
        assert!(dockerfile.contains(&format!(" /image{path} ")), "{path}");
    }
    assert!(dockerfile.contains(&format!("chown {USER}:{USER} /image{DATA} && chmod 0700 /image{DATA}")));
}
