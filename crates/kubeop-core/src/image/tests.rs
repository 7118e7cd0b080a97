//! Tables of the runtime's grammar, attack cases, and laws.

use super::*;
use proptest::prelude::*;

const SHA: &str = "sha256:9b2cf1f5a2c3d4e5f60718293a4b5c6d7e8f90123456789abcdef0123456789a";

fn normal(text: &str) -> String {
    ImageRef::parse(text).unwrap_or_else(|error| panic!("{error}")).to_string()
}

#[test]
fn references_are_normalised_as_the_runtime_does() {
    for (text, normalised) in [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1", "docker.io/library/nginx:1"),
        ("library/nginx", "docker.io/library/nginx:latest"),
        ("docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
        ("index.docker.io/acme/x:1", "docker.io/acme/x:1"),
        ("acme/app", "docker.io/acme/app:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:y", "localhost:5000/x:y"),
        ("localhost", "docker.io/library/localhost:latest"),
        ("127.0.0.1:5000/x", "127.0.0.1:5000/x:latest"),
        ("[fd00::1]:5000/x", "[fd00::1]:5000/x:latest"),
        ("[FD00:0::1]/x", "[fd00::1]/x:latest"),
        ("registry.corp:443/x", "registry.corp:443/x:latest"),
        ("ghcr.io/a/b/c__d.e-f--g:V1.0-rc_1", "ghcr.io/a/b/c__d.e-f--g:V1.0-rc_1"),
        // No slash: what looks like a port is a tag, as for the runtime.
        ("registry.corp:5000", "docker.io/library/registry.corp:5000"),
        ("docker.io", "docker.io/library/docker.io:latest"),
    ] {
        assert_eq!(normal(text), normalised, "{text}");
    }
    assert_eq!(normal(&format!("nginx@{SHA}")), format!("docker.io/library/nginx@{SHA}"));
    let both = ImageRef::parse(&format!("ghcr.io/acme/x:good@{SHA}")).unwrap();
    assert_eq!((both.tag(), both.digest()), (Some("good"), Some(SHA)));
    assert_eq!((both.registry(), both.repository()), ("ghcr.io", "acme/x"));
}

#[test]
fn what_no_runtime_pulls_is_refused() {
    let hex = "a".repeat(64);
    let long = "a".repeat(256);
    for bad in [
        "",
        " ",
        "nginx ",
        " nginx",
        "nginx\n",
        "nginx\0",
        "Nginx",
        "library/Nginx",
        "acme/App",
        "Foo/bar",
        "GHCR.io/acme/x",
        "docker.io/",
        "/nginx",
        "a//b",
        "a/",
        "nginx:",
        "nginx:-x",
        "nginx:.x",
        "nginx:a b",
        "nginx@",
        "nginx@sha256:abc",
        "nginx@sha256:ABCF",
        "nginx@md5:d41d8cd98f00b204e9800998ecf8427e",
        "nginx@@",
        "nginx:1:2",
        "https://ghcr.io/x",
        "ghcr.io:/x",
        "ghcr.io:0/x",
        "ghcr.io:05000/x",
        "ghcr.io:65536/x",
        "ghcr.io:+80/x",
        "ghcr.io:80:80/x",
        "ghcr..io/x",
        ".io/x",
        "ghcr.io./x",
        "-a.io/x",
        "a-.io/x",
        "a_b.io/x",
        "a..b/c",
        "a___b",
        "a._b",
        "_a",
        "a-",
        "é.io/x",
        "аlpine",
        "[::1/x",
        "[::1]5/x",
        "[zz]:1/x",
        "[::1]",
        "user@ghcr.io/x",
        "ghcr.io/x?y",
        "ghcr.io/x#y",
        "ghcr.io/%2e%2e/x",
        "ghcr.io/../x",
        "ghcr.io/./x",
        "ghcr.io\\x",
        "$(X)",
        "${IMAGE}",
        hex.as_str(),
        long.as_str(),
    ] {
        let error = ImageRef::parse(bad).map(|image| image.to_string()).unwrap_err();
        assert!(error.message().contains("is not a valid image"), "{bad}: {error}");
    }
    assert!(ImageRef::parse(&"a/".repeat(1 << 20)).unwrap_err().message().len() < 300);
    assert!(ImageRef::parse(&format!("a:{}", "t".repeat(129))).is_err());
    assert!(ImageRef::parse(&format!("a:{}", "t".repeat(128))).is_ok());
}

#[test]
fn the_list_compares_hosts_exactly_and_paths_by_segment() {
    let list =
        ImageAllowlist::parse("list", &["docker.io", "ghcr.io/acme", "registry.corp", "registry.corp:5000/team"])
            .unwrap();
    for (image, allowed) in [
        ("nginx", true),
        ("docker.io/acme/x", true),
        ("index.docker.io/x", true),
        ("docker.io.evil.com/library/nginx", false),
        ("evil.com/docker.io/nginx", false),
        ("docker.io:443/library/nginx", false),
        ("mirror.docker.io/library/nginx", false),
        ("registry-1.docker.io/library/nginx", false),
        ("ghcr.io/acme", true),
        ("ghcr.io/acme/web:1", true),
        ("ghcr.io/acmeevil/web", false),
        ("ghcr.io/acme-evil/web", false),
        ("ghcr.io/other/acme/web", false),
        ("ghcr.io:443/acme/web", false),
        ("registry.corp/x", true),
        ("registry.corp.evil.io/x", false),
        ("registry.corpevil/x", false),
        ("registry.corp:5000/x", false),
        ("registry.corp:5000/team/x", true),
        ("registry.corp:443/x", false),
        ("localhost/x", false),
        ("127.0.0.1:5000/x", false),
        ("10.0.0.1/x", false),
        ("quay.io/x", false),
    ] {
        let image = ImageRef::parse(image).unwrap();
        assert_eq!(list.decide(&image).is_ok(), allowed, "{image}");
    }
    let message = list.decide(&ImageRef::parse("quay.io/x:1").unwrap()).unwrap_err().to_string();
    assert_eq!(
        message,
        "image \"quay.io/x:1\" is not allowed: the allow-list of this platform is docker.io, ghcr.io/acme, registry.corp, registry.corp:5000/team"
    );
}

#[test]
fn an_empty_list_allows_every_registry() {
    let list = ImageAllowlist::parse::<&str>("list", &[]).unwrap();
    assert!(list.is_open() && list.decide(&ImageRef::parse("evil.io/x").unwrap()).is_ok());
}

#[test]
fn entries_are_strict() {
    for bad in [
        "",
        "docker",
        "acme/app",
        "docker.io/",
        "docker.io//x",
        "ghcr.io/acme/",
        "ghcr.io/acme:1",
        "ghcr.io/acme@sha256:0",
        "ghcr.io/Acme",
        "GHCR.io",
        "https://ghcr.io",
        "*.ghcr.io",
        "ghcr.io/*",
        "ghcr.io ",
        " ghcr.io",
        "ghcr.io\0",
        "ghcr.io.",
        "ghcr.io:",
        "ghcr.io:99999",
        "*",
    ] {
        let error = ImageAllowlist::parse("list", &["docker.io", bad]).unwrap_err();
        assert!(
            error.message().starts_with("list[1]: ") && error.message().contains("is not an allow-list entry"),
            "{bad}: {error}"
        );
    }
    for good in ["localhost", "localhost:5000", "[fd00::1]:5000", "10.0.0.1:5000/x", "index.docker.io"] {
        assert!(ImageAllowlist::parse("list", &[good]).is_ok(), "{good}");
    }
    let many: Vec<String> = (0..50).map(|n| format!("r{n}.io")).collect();
    assert!(ImageAllowlist::parse("list", &many).unwrap().to_string().ends_with(" and 40 more"));
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,80}") {
        let _ = ImageRef::parse(&text);
        let _ = ImageAllowlist::parse("list", &[text]);
    }

    #[test]
    fn normalising_is_idempotent(text in "([a-z0-9.:-]{1,12}/)?[a-z0-9._/-]{1,20}(:[a-zA-Z0-9._-]{1,8})?") {
        if let Ok(image) = ImageRef::parse(&text) {
            prop_assert_eq!(ImageRef::parse(&image.to_string()).unwrap(), image);
        }
    }

    #[test]
    fn only_the_named_registry_is_ever_allowed(host in "[a-z]{1,5}\\.[a-z]{1,5}", text in "[a-z.]{1,12}/[a-z/.-]{1,12}") {
        let list = ImageAllowlist::parse("list", std::slice::from_ref(&host)).unwrap();
        if let Ok(image) = ImageRef::parse(&text) {
            prop_assert_eq!(list.allows(&image), image.registry() == host);
        }
    }
}
