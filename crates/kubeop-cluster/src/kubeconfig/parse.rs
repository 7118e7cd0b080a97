//! Text → closed kubeconfig: YAML, or base64 of it; the current context's cluster and user only.
//!
//! Invariant: no message quotes the input beyond names of keys, contexts and the server, since the rest is secret.

use super::file::{Context, Entry, File};
use super::{Credential, Kubeconfig, Trust};
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use kubeop_core::id::shorten;
use kubeop_core::{Error, Result};
use secrecy::SecretString;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};
use zeroize::Zeroizing;

/// What the place that takes a kubeconfig allows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Intake {
    /// Whether `insecure-skip-tls-verify` may be set (dev mode).
    pub insecure: bool,
}

/// The largest text accepted, before and after base64.
const MAX_BYTES: usize = 256 * 1024;

const FLATTEN: &str = "send `kubectl config view --raw --flatten --minify`, which holds the data itself";

const CLUSTER_KEYS: [&str; 6] = [
    "server",
    "tls-server-name",
    "certificate-authority-data",
    "insecure-skip-tls-verify",
    // Without effect on what we do: whether answers are compressed, and notes of other tools.
    "disable-compression",
    "extensions",
];
const USER_KEYS: [&str; 4] = ["token", "client-certificate-data", "client-key-data", "extensions"];

/// Keys that would make us act (run, read, connect elsewhere, become somebody), each with its answer.
const REFUSED: [(&str, &str); 14] = [
    ("certificate-authority", "a file path is not followed: "),
    ("client-certificate", "a file path is not followed: "),
    ("client-key", "a file path is not followed: "),
    ("tokenFile", "a file path is not followed; give the token itself"),
    ("exec", "programs are not run; give a token or a client certificate of a ServiceAccount or user for kubeOP"),
    (
        "auth-provider",
        "programs are not run; give a token or a client certificate of a ServiceAccount or user for kubeOP",
    ),
    ("proxy-url", "proxies are not used"),
    ("as", "impersonation is not used; give a credential that has the rights itself"),
    ("as-uid", "impersonation is not used; give a credential that has the rights itself"),
    ("as-groups", "impersonation is not used; give a credential that has the rights itself"),
    ("as-user-extra", "impersonation is not used; give a credential that has the rights itself"),
    ("username", "basic authentication is not used; give a token or a client certificate"),
    ("password", "basic authentication is not used; give a token or a client certificate"),
    ("impersonate", "impersonation is not used; give a credential that has the rights itself"),
];

impl Kubeconfig {
    /// Parses a kubeconfig: a YAML (or JSON) mapping, else base64 of one. Every problem is a 400 that names the key and what is allowed.
    pub fn parse(input: &str, allow: Intake) -> Result<Self> {
        if input.len() > MAX_BYTES * 2 {
            return Err(too_large());
        }
        let text = input.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Err(Error::invalid(
                "kubeconfig: the content of a kubeconfig file is needed, as YAML or base64 of it",
            ));
        }
        // A YAML mapping has a ':' and base64 has none, so the two cannot be confused.
        let yaml = if text.contains(':') { Zeroizing::new(text.to_owned()) } else { decode(text)? };
        if yaml.len() > MAX_BYTES {
            return Err(too_large());
        }
        let file = read(&yaml, text)?;
        assemble(&file, allow)
    }
}

fn too_large() -> Error {
    Error::invalid(format!("kubeconfig: at most {} KiB are allowed", MAX_BYTES / 1024))
}

/// What a text that is no kubeconfig is told; a single word or path is most likely a file's name.
fn not_a_kubeconfig(text: &str) -> Error {
    let one_word = !text.contains(char::is_whitespace) && text.len() <= 4096;
    let hint = if one_word { "; if it is the name of a file, send the file's content" } else { "" };
    Error::invalid(format!("kubeconfig: a YAML mapping or base64 of one is needed{hint}"))
}

fn decode(text: &str) -> Result<Zeroizing<String>> {
    let engine = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let joined: Zeroizing<String> = Zeroizing::new(text.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    let bytes = engine.decode(joined.as_bytes()).map_err(|_| not_a_kubeconfig(text))?;
    match String::from_utf8(bytes) {
        Ok(yaml) if yaml.contains(':') => Ok(Zeroizing::new(yaml)),
        _ => Err(not_a_kubeconfig(text)),
    }
}

fn read(yaml: &str, original: &str) -> Result<File> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_events: 100_000,
            max_aliases: 64,
            max_anchors: 64,
            max_documents: 1,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 10_000,
            max_replay_stack_depth: 4,
            max_alias_expansions_per_anchor: 64,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(yaml, options).map_err(|error| {
        // "C:\Users\me\config" holds a ':' too.
        if !original.contains(char::is_whitespace) && !original.starts_with('{') {
            return not_a_kubeconfig(original);
        }
        let place =
            error.location().map_or_else(String::new, |at| format!(" at line {}, column {}", at.line(), at.column()));
        let what = match &error {
            serde_saphyr::Error::DuplicateMappingKey { .. } => "a key stands twice",
            _ => "a kubeconfig in YAML is needed, found something else",
        };
        Error::invalid(format!("kubeconfig: {what}{place}"))
    })
}

fn assemble(file: &File, allow: Intake) -> Result<Kubeconfig> {
    let context_name = file.current_context.as_deref().filter(|name| !name.is_empty()).ok_or_else(|| {
        Error::invalid("kubeconfig: current-context is missing; `kubectl config use-context` sets it")
    })?;
    let contexts = file.contexts.as_deref().unwrap_or_default();
    let context: &Context = one(contexts, "context", context_name, |c| &c.name)?
        .context
        .as_ref()
        .ok_or_else(|| Error::invalid(format!("kubeconfig: context {:?} is empty", shorten(context_name))))?;
    let empty = Entry::default();
    let clusters = file.clusters.as_deref().unwrap_or_default();
    let cluster = one(clusters, "cluster", &context.cluster, |c| &c.name)?.cluster.as_ref().unwrap_or(&empty);
    let users = file.users.as_deref().unwrap_or_default();
    let user = one(users, "user", &context.user, |u| &u.name)?.user.as_ref().unwrap_or(&empty);
    check_keys(cluster, &CLUSTER_KEYS, "cluster", &context.cluster)?;
    check_keys(user, &USER_KEYS, "user", &context.user)?;

    let at = |place: String| move |error: Error| error.at(format!("kubeconfig: {place}"));
    let in_cluster = at(format!("cluster {:?}", shorten(&context.cluster)));
    let server = cluster.text("server").ok_or_else(|| Error::invalid("server is missing")).map_err(in_cluster)?;
    Kubeconfig::new(
        server,
        cluster.text("tls-server-name").map(ToOwned::to_owned),
        trust(cluster, allow)?,
        credential(user, &context.user)?,
    )
    .map_err(at(format!("context {:?}", shorten(context_name))))
}

/// The one entry of that name.
fn one<'a, T>(list: &'a [T], what: &str, name: &str, name_of: impl Fn(&T) -> &String) -> Result<&'a T> {
    let mut found = list.iter().filter(|entry| name_of(entry) == name);
    match (found.next(), found.next()) {
        (Some(entry), None) => Ok(entry),
        (Some(_), Some(_)) => Err(Error::invalid(format!("kubeconfig: {what} {:?} stands twice", shorten(name)))),
        (None, _) => {
            Err(Error::invalid(format!("kubeconfig: {what} {:?} of the current context is missing", shorten(name))))
        }
    }
}

fn check_keys(entry: &Entry, known: &[&str], what: &str, name: &str) -> Result<()> {
    let place = || format!("kubeconfig: {what} {:?}", shorten(name));
    if let Some((key, why)) = REFUSED.iter().find(|(key, _)| entry.has(key)) {
        let hint = if why.ends_with(": ") { FLATTEN } else { "" };
        return Err(Error::invalid(format!("{key} is refused: {why}{hint}")).at(place()));
    }
    match entry.unknown(known) {
        Some(key) => {
            Err(Error::invalid(format!("unknown key {:?}; known are {}", shorten(key), known.join(", "))).at(place()))
        }
        None => Ok(()),
    }
}

fn trust(cluster: &Entry, allow: Intake) -> Result<Trust> {
    let insecure = match cluster.text("insecure-skip-tls-verify") {
        None | Some("false" | "False" | "FALSE") => false,
        Some("true" | "True" | "TRUE") => true,
        Some(_) => return Err(Error::invalid("kubeconfig: insecure-skip-tls-verify must be true or false")),
    };
    match (cluster.text("certificate-authority-data"), insecure) {
        (Some(_), true) => Err(Error::invalid(
            "kubeconfig: certificate-authority-data and insecure-skip-tls-verify exclude each other; remove the latter",
        )),
        (None, true) if allow.insecure => Ok(Trust::Insecure),
        (None, true) => Err(Error::invalid(
            "kubeconfig: insecure-skip-tls-verify is refused outside dev mode; give certificate-authority-data",
        )),
        (Some(data), false) => pem("certificate-authority-data", data).map(|pem| Trust::Ca(pem.to_string())),
        (None, false) => Ok(Trust::System),
    }
}

fn credential(user: &Entry, name: &str) -> Result<Credential> {
    let refuse = |why: &str| Err(Error::invalid(format!("kubeconfig: user {:?}: {why}", shorten(name))));
    match (user.text("token"), user.text("client-certificate-data"), user.text("client-key-data")) {
        (Some(token), None, None) => Ok(Credential::Token(SecretString::from(token.trim()))),
        (None, Some(certificate), Some(key)) => Ok(Credential::ClientCertificate {
            certificate: pem("client-certificate-data", certificate)?.to_string(),
            key: SecretString::from(pem("client-key-data", key)?.as_str()),
        }),
        (None, None, None) => refuse("a token, or client-certificate-data and client-key-data, is needed"),
        (None, Some(_), None) => refuse("client-key-data is missing beside client-certificate-data"),
        (None, None, Some(_)) => refuse("client-certificate-data is missing beside client-key-data"),
        (Some(_), _, _) => refuse("both a token and a client certificate are given; leave one"),
    }
}

/// The text inside a `*-data` field.
fn pem(key: &str, data: &str) -> Result<Zeroizing<String>> {
    let joined: Zeroizing<String> = Zeroizing::new(data.chars().filter(|c| !c.is_ascii_whitespace()).collect());
    base64::engine::general_purpose::STANDARD
        .decode(joined.as_bytes())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map(Zeroizing::new)
        .ok_or_else(|| Error::invalid(format!("kubeconfig: {key}: base64 of PEM is needed")))
}
