//! Kubeconfigs as people and clouds write them, and as attackers would.
//!
//! Invariant: what is refused is refused with a sentence that names the key.

use super::*;
use crate::gateway;
use base64::Engine;
use std::fmt::Write;

fn b64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A CA certificate, and a client certificate with its key, in PEM.
fn pki() -> (String, String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = rcgen::CertificateParams::new(vec!["kubeop.test".to_owned()]).unwrap().self_signed(&key).unwrap();
    (cert.pem(), cert.pem(), key.serialize_pem())
}

fn file(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: me\npreferences: {{}}\ncontexts:\n- name: me\n  context: {{cluster: c, user: u, namespace: x}}\n- name: other\n  context: {{cluster: c2, user: u2}}\n\
         clusters:\n- name: c\n  cluster:\n    server: https://10.0.0.1:6443\n{cluster}\n- name: c2\n  cluster: {{server: 'https://x', insecure-skip-tls-verify: true}}\nusers:\n- name: u\n  user:\n{user}\n- name: u2\n  user: {{exec: {{command: rm}}}}\n"
    )
}

fn good() -> String {
    let (ca, _, _) = pki();
    file(&format!("    certificate-authority-data: {}", b64(&ca)), "    token: 0123")
}

fn refused(input: &str) -> String {
    Kubeconfig::parse(input, Intake::default()).expect_err(input).message().to_owned()
}

#[test]
fn yaml_base64_and_json_are_the_same() {
    let yaml = good();
    let wrapped: String =
        b64(&yaml).as_bytes().chunks(76).flat_map(|c| [std::str::from_utf8(c).unwrap(), "\n"]).collect();
    let unpadded = b64(&yaml).trim_end_matches('=').to_owned();
    for input in [yaml.clone(), format!("\u{feff}{yaml}"), b64(&yaml), wrapped, unpadded] {
        let parsed = Kubeconfig::parse(&input, Intake::default()).unwrap();
        assert_eq!(parsed.server().to_string(), "https://10.0.0.1:6443/");
        let Credential::Token(token) = parsed.credential() else { panic!("a token is expected") };
        assert_eq!(token.expose_secret(), "0123", "never retyped");
    }
    let json = r#"{"current-context":"a","contexts":[{"name":"a","context":{"cluster":"a","user":"a"}}],
        "clusters":[{"name":"a","cluster":{"server":"https://k.example/k8s/clusters/c-1"}}],"users":[{"name":"a","user":{"token":"t","client-key-data":""}}]}"#;
    let parsed = Kubeconfig::parse(json, Intake::default()).unwrap();
    assert_eq!((parsed.trust(), parsed.server().path()), (&Trust::System, "/k8s/clusters/c-1"));
}

#[test]
fn the_stored_form_round_trips_and_debug_is_redacted() {
    let (ca, cert, key) = pki();
    let user = format!("    client-certificate-data: {}\n    client-key-data: {}", b64(&cert), b64(&key));
    let yaml = file(&format!("    certificate-authority-data: {}\n    tls-server-name: kubernetes", b64(&ca)), &user);
    let one = Kubeconfig::parse(&yaml, Intake::default()).unwrap();
    let two = Kubeconfig::from_bytes(&one.to_bytes()).unwrap();
    assert_eq!(one.to_bytes(), two.to_bytes());
    assert_eq!(two.tls_server_name(), Some("kubernetes"));
    assert_eq!(two.ca_pem(), Some(ca.as_str()));
    let shown = format!("{two:?} {:?}", Kubeconfig::parse(&good(), Intake::default()).unwrap());
    assert!(!shown.contains("PRIVATE") && !shown.contains("0123"), "{shown}");
    assert!(
        Kubeconfig::from_bytes(b"{\"v\":1,\"server\":\"https://a\",\"token\":\"hunter2\",\"x\":1}")
            .is_err_and(|e| !e.chain().contains("hunter2"))
    );
}

#[test]
fn what_would_act_is_refused_by_name() {
    let (ca, ..) = pki();
    let ca = format!("    certificate-authority-data: {}", b64(&ca));
    for (cluster, user, needle) in [
        (ca.as_str(), "    exec: {command: id}", "exec is refused"),
        (&ca, "    auth-provider: {name: gcp}", "auth-provider is refused"),
        (&ca, "    tokenFile: /etc/passwd", "tokenFile is refused"),
        (&ca, "    token: t\n    as: system:masters", "as is refused"),
        (&ca, "    token: t\n    as-groups: [a]", "as-groups is refused"),
        (&ca, "    username: a\n    password: b", "basic authentication"),
        (&ca, "    client-certificate: /a\n    client-key: /b", "--raw --flatten --minify"),
        ("    certificate-authority: /ca.crt", "    token: t", "--raw --flatten --minify"),
        ("    proxy-url: http://evil", "    token: t", "proxy-url is refused"),
        ("    insecure-skip-tls-verify: true", "    token: t", "insecure-skip-tls-verify is refused"),
        ("    insecure-skip-tls-verify: maybe", "    token: t", "true or false"),
        ("    whatever: 1", "    token: t", "unknown key \"whatever\""),
        (&ca, "    Token: t", "unknown key \"Token\""),
        (&ca, "    {}", "a token, or client-certificate-data"),
        (&ca, "    token: t\n    token: u", "a key stands twice"),
        (&ca, "    token: 'a b'", "token:"),
        ("    certificate-authority-data: aGVsbG8=", "    token: t", "certificate-authority-data"),
        ("    certificate-authority-data: '!'", "    token: t", "certificate-authority-data"),
        (&ca, "    client-certificate-data: aGVsbG8=", "client-key-data is missing"),
        ("    tls-server-name: 'a b'", "    token: t", "tls-server-name"),
    ] {
        let message = refused(&file(cluster, user));
        assert!(message.contains(needle), "{needle}: {message}");
        assert!(message.starts_with("kubeconfig: "), "{message}");
    }
    let insecure = file("    insecure-skip-tls-verify: true", "    token: t");
    assert_eq!(Kubeconfig::parse(&insecure, Intake { insecure: true }).unwrap().trust(), &Trust::Insecure);
}

#[test]
fn servers() {
    for (server, needle) in [
        ("http://10.0.0.1", "http is refused"),
        ("10.0.0.1:6443", "https"),
        ("ftp://a", "https"),
        ("https://u:hunter2@a", "user information"),
        ("http://u:hunter2@a", "user information"),
        ("https://u:hunter2@a?x", "user information"),
        ("https://u:hunter2@a/#x", "user information"),
        ("https://u:hunter2#x@a", "user information"),
        ("u:hunter2@a", "user information"),
        ("http://u:hunter2/@a", "http"),
        ("https://a:0", "1 to 65535"),
        ("https://a:65536", "1 to 65535"),
        ("https://a:99999999999", "1 to 65535"),
        ("https://a:+443", "1 to 65535"),
        ("https://[2001:db8::1]:65536", "1 to 65535"),
        ("https://a?x=1", "query"),
        ("https://", "https"),
        ("https://2852039166", "four decimal numbers"),
        ("https://0xa9fea9fe:6443", "four decimal numbers"),
        ("https://0251.0376.0251.0376", "four decimal numbers"),
        ("https://169.254.0xa9.0xfe", "four decimal numbers"),
        ("https://127.1", "four decimal numbers"),
        ("https://127.0.0.1.", "four decimal numbers"),
        ("https://010.0.0.1", "four decimal numbers"),
        ("https://1.2.3.4.5", "four decimal numbers"),
        ("https://name.0", "four decimal numbers"),
        ("https://[fe80::1%25eth0]", "https"),
        ("https://169.254.169.254%2f@a", ""),
        ("https://a\\@169.254.169.254", ""),
        ("//169.254.169.254", "https"),
        ("HTTPS+x://a", "https"),
        ("file:///etc/passwd", "https"),
        ("gopher://a", "https"),
        ("https://a b", "https"),
    ] {
        let message = refused(&good().replace("https://10.0.0.1:6443", server));
        assert!(message.contains(needle) && !message.contains("hunter2"), "{server}: {message}");
    }
}

#[test]
fn what_is_no_kubeconfig_gets_a_hint_and_no_echo() {
    for name in ["kubeconfig", "~/.kube/config", "/etc/rancher/k3s/k3s.yaml", "C:\\Users\\me\\config", "config.yaml"] {
        assert!(refused(name).contains("send the file's content"), "{name}: {}", refused(name));
    }
    for text in ["", "  \n", "hello world", "- a: b", "a: [", "secret: {hunter2: [}", &"x: ".repeat(400_000)] {
        let message = refused(text);
        assert!(message.starts_with("kubeconfig: ") && !message.contains("hunter2"), "{message}");
    }
    assert!(refused(&good().replace("current-context: me", "current-context: you")).contains("context \"you\""));
    assert!(refused(&good().replace("current-context: me\n", "")).contains("current-context is missing"));
    assert!(refused(&good().replace("name: c2", "name: c")).contains("stands twice"));
}

#[test]
fn literal_addresses_are_judged_before_anything_is_connected_to() {
    for server in [
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[::169.254.169.254]",
        "[fe80::1]",
        "0.0.0.0",
        "[::]",
        "127.0.0.1",
        "localhost",
        "LOCALHOST.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "10.0.0.1",
    ] {
        let text = good().replace("10.0.0.1:6443", &format!("{server}:6443"));
        let parsed = Kubeconfig::parse(&text, Intake::default()).unwrap();
        let none = AddressPolicy::parse("none").unwrap();
        assert!(parsed.check_address(&none).is_err(), "{server}");
        assert!(crate::client::connect(&parsed, &none).is_err(), "{server}");
    }
    let named = Kubeconfig::parse(&good().replace("10.0.0.1", "k8s.example"), Intake::default()).unwrap();
    assert!(named.check_address(&AddressPolicy::parse("none").unwrap()).is_ok(), "judged when it is resolved");
}

#[test]
fn hostile_files_are_refused_soon_and_without_an_echo() {
    let good = good();
    let user = |text: &str| good.replace("    token: 0123", text);
    let deep = |n: usize| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n));
    let raw = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let mut anchors = String::new();
    for n in 0..500 {
        writeln!(anchors, "a{n}: &a{n} [1]").unwrap();
    }
    for (what, text) in [
        ("two documents", format!("{good}\n---\n{good}")),
        ("a document after the end", format!("{good}\n...\n---\nhunter2: 1\n")),
        ("a list key twice", format!("{good}clusters: []\n")),
        ("current-context twice", format!("{good}current-context: other\n")),
        ("a merge key", user("    <<: {token: hunter2}")),
        ("a merge of an anchor", format!("x: &x {{token: hunter2}}\n{}", user("    <<: *x"))),
        ("an unknown alias", user("    token: *hunter2")),
        ("a cyclic alias", format!("x: &x [*x]\n{good}")),
        ("many anchors", format!("{anchors}{good}")),
        ("many aliases", format!("x: &x [1]\ny: [{}]\n{good}", "*x,".repeat(1000))),
        ("a foreign tag", user("    token: !!python/object/apply:os.system [hunter2]")),
        ("a local tag", user("    token: !hunter2 x")),
        ("a token that is a list", user("    token: [hunter2]")),
        ("a token that is a mapping", user("    token: {hunter2: 1}")),
        ("a token with a line break", user("    token: \"hunter2\\nx\"")),
        ("a token with a NUL", user("    token: \"hunter2\\0\"")),
        ("a token that is not ASCII", user("    token: hunter2\u{fc}")),
        ("a huge token", user(&format!("    token: {}", "h".repeat(70_000)))),
        ("a huge scalar elsewhere", format!("{good}x: {}\n", "h".repeat(600_000))),
        ("deep flow mappings", deep(5_000)),
        ("deep lists beside", format!("{good}x: {}{}\n", "[".repeat(500), "]".repeat(500))),
        ("deep block sequences", format!("{good}x:\n{}1\n", "- ".repeat(500))),
        (
            "very many keys",
            format!("{good}x: {{{}}}\n", (0..60_000).map(|n| format!("{n}: 1")).collect::<Vec<_>>().join(",")),
        ),
        ("no UTF-8", raw(&[b'a', b':', 0xff, 0xfe])),
        ("UTF-16", raw(&good.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>())),
        ("base64 of base64", raw(raw(good.as_bytes()).as_bytes())),
        ("base64 cut off", raw(good.as_bytes())[..=good.len() / 2 * 4 / 3].to_owned()),
        ("base64 of an archive", raw(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, b':'])),
        ("base64 of too much", raw("x: 1\n".repeat(80_000).as_bytes())),
        ("a NUL", good.replace("apiVersion", "api\0Version")),
        ("tabs", good.replace("    ", "\t")),
        ("a directive", format!("%YAML 9.9\n---\n{good}hunter2: [\n")),
        ("a comment that never ends", format!("#{}", "hunter2 ".repeat(40_000))),
        ("an open quote", user("    token: \"hunter2")),
        ("an open block", user("    token: |")),
    ] {
        let start = std::time::Instant::now();
        let message = match Kubeconfig::parse(&text, Intake::default()) {
            Err(error) => error.message().to_owned(),
            Ok(parsed) => panic!("{what}: {parsed:?}"),
        };
        assert!(message.starts_with("kubeconfig: ") && message.len() < 400, "{what}: {message}");
        assert!(!message.contains("hunter2") && !message.contains("hhhh"), "{what}: {message}");
        assert!(start.elapsed() < std::time::Duration::from_secs(5), "{what}: {:?}", start.elapsed());
    }
    // What is odd and harmless means what it says.
    for text in [good.replace('\n', "\r\n"), format!("# a note\n---\n{good}"), format!("x: &x [1, 2]\ny: *x\n{good}")] {
        let parsed = Kubeconfig::parse(&text, Intake::default()).unwrap();
        let Credential::Token(token) = parsed.credential() else { panic!("a token is expected") };
        assert_eq!(token.expose_secret(), "0123");
    }
}

#[test]
fn bombs_are_refused() {
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
    for (from, to) in [('a', 'b'), ('b', 'c'), ('c', 'd'), ('d', 'e'), ('e', 'f'), ('f', 'g')] {
        bomb.extend([format!(
            "{to}: &{to} [*{from},*{from},*{from},*{from},*{from},*{from},*{from},*{from},*{from}]\n"
        )]);
    }
    refused(&format!("{bomb}{}", good()));
    refused(&format!("x: {}{}\n{}", "[".repeat(2000), "]".repeat(2000), good()));
}

#[test]
fn a_loopback_server_reached_through_a_gateway_keeps_its_name() {
    let local = Kubeconfig::parse(&good().replace("10.0.0.1:6443", "127.0.0.1:6443"), Intake::default()).unwrap();
    assert!(local.is_loopback());
    let far = local.rerouted("host.docker.internal").unwrap();
    assert_eq!(
        (far.server().to_string().as_str(), far.tls_server_name()),
        ("https://host.docker.internal:6443/", Some("127.0.0.1"))
    );
    assert_eq!(local.rerouted("fd00::1").unwrap().host(), "fd00::1");
    let loopback = |server: &str| {
        let text = good().replace("10.0.0.1:6443", server);
        Kubeconfig::parse(&text, Intake::default()).unwrap().is_loopback()
    };
    assert!(loopback("localhost:6443") && loopback("[::1]:6443"));
    assert!(!loopback("localhost.example.com:6443") && !loopback("10.0.0.1:6443"));
}

#[test]
fn a_server_at_every_address_is_on_loopback_where_there_is_a_gateway() {
    for (written, host, shown) in [("0.0.0.0", "127.0.0.1", "0.0.0.0"), ("[::]", "::1", "::")] {
        let text = good().replace("10.0.0.1:6443", &format!("{written}:6443"));
        let far = Kubeconfig::parse(&text, Intake::default()).unwrap();
        let near = gateway::local(&far, Some("host.docker.internal")).unwrap();
        assert_eq!((near.host(), near.server().port_u16(), near.tls_server_name()), (host, Some(6443), Some(shown)));
        assert!(near.is_loopback() && near.check_address(&AddressPolicy::default()).is_ok());
        let refused = gateway::local(&far, None).unwrap().check_address(&AddressPolicy::default()).unwrap_err();
        assert!(refused.message().contains("unspecified"), "{}", refused.message());
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(?s).{0,300}") {
        let _ = Kubeconfig::parse(&text, Intake::default());
    }
}
