//! A kubeconfig with everything embedded, in the shape kind writes: nothing in it refers to another file.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::certificates::Pair;

/// The text of a kubeconfig for one cluster and one user.
pub(crate) fn text(cluster: &str, server: &str, authority: &str, user: &str, client: &Pair) -> String {
    let (authority, certificate, key) =
        (STANDARD.encode(authority), STANDARD.encode(&client.certificate), STANDARD.encode(&client.key));
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {cluster}
  cluster:
    certificate-authority-data: {authority}
    server: {server}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: {cluster}
  context:
    cluster: {cluster}
    user: {user}
current-context: {cluster}
preferences: {{}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_embedded() {
        let client = Pair { certificate: "cert".into(), key: "key".into() };
        let text = text("kubeop-test", "https://127.0.0.1:1", "ca", "admin", &client);
        for line in [
            "    certificate-authority-data: Y2E=",
            "    client-certificate-data: Y2VydA==",
            "    client-key-data: a2V5",
            "    server: https://127.0.0.1:1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
