//! The keeper of admission's certificate and configuration.

use crate::harness::{World, admin, fresh};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use kubeop_cluster::{bootstrap, status};
use kubeop_plan::install::{WebhookTarget, names, webhook};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Answers reviews as `kubeop-admission` does: canaries are denied in the known way, all else is allowed.
async fn answer(stream: TcpStream, client: Client) -> Option<()> {
    let secrets: Api<Secret> = Api::namespaced(client, "kubeop-system");
    let data = secrets.get_opt(names::TLS_SECRET).await.ok()??.data?;
    let chain = CertificateDer::pem_slice_iter(&data["tls.crt"].0).collect::<Result<_, _>>().ok()?;
    let key = PrivateKeyDer::from_pem_slice(&data["tls.key"].0).ok()?;
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).ok()?;
    let mut tls = TlsAcceptor::from(Arc::new(config)).accept(stream).await.ok()?;
    let mut seen = Vec::new();
    loop {
        let (head, body) = loop {
            let text = String::from_utf8_lossy(&seen).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length: usize = head
                    .lines()
                    .find_map(|l| l.to_lowercase().strip_prefix("content-length: ").map(|n| n.parse().unwrap()))?;
                if body.len() >= length {
                    break (head.to_owned(), body.to_owned());
                }
            }
            if tls.read_buf(&mut seen).await.ok()? == 0 {
                return None;
            }
        };
        seen.clear();
        let review: Value = serde_json::from_str(&body).ok()?;
        let uid = &review["request"]["uid"];
        let nonce =
            review["request"]["object"]["metadata"]["labels"]["app.kubeop.io/canary"].as_str().unwrap_or_default();
        let response = if head.starts_with("POST /canary") {
            json!({"uid": uid, "allowed": false, "status": {"message": format!("kubeop canary {nonce}")}})
        } else {
            json!({"uid": uid, "allowed": true})
        };
        let body =
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}).to_string();
        let reply = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        tls.write_all(reply.as_bytes()).await.ok()?;
        tls.flush().await.ok()?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_gets_a_certificate_and_fails_closed_only_after_it_answered() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = WebhookTarget::Url(format!("https://{}", listener.local_addr().unwrap()));
    // Registered by hand with the canary alone closing, so that no other test meets a webhook that fails closed: its own name is out of reach.
    let mut wanted = webhook::build(&target);
    for hook in wanted.webhooks.iter_mut().flatten().filter(|hook| hook.name == names::WEBHOOK_PROJECTS) {
        let only = json!({"matchLabels": {"kubernetes.io/metadata.name": world.namespace("web")}});
        hook.namespace_selector = Some(serde_json::from_value(only).unwrap());
    }
    let api: Api<ValidatingWebhookConfiguration> = Api::all(world.client.clone());
    bootstrap::remove_webhook(&world.client).await.unwrap();
    api.patch(names::WEBHOOK, &PatchParams::apply("kubeop").force(), &Patch::Apply(&wanted)).await.unwrap();

    let trusted = |config: &ValidatingWebhookConfiguration| {
        config.webhooks.iter().flatten().all(|hook| hook.client_config.ca_bundle.is_some())
    };
    let policy = |config: &ValidatingWebhookConfiguration, name: &str| {
        config.webhooks.iter().flatten().find(|hook| hook.name == name).unwrap().failure_policy.clone().unwrap()
    };
    let config = world.until::<ValidatingWebhookConfiguration>(None, names::WEBHOOK, trusted).await;
    assert_eq!(policy(&config, names::WEBHOOK_PROJECTS), "Ignore", "nobody has answered yet");
    assert_eq!(policy(&config, names::WEBHOOK_CANARY), "Fail");
    let answer_before = status::canary(&world.client, fresh()).await.unwrap();
    assert!(matches!(answer_before, status::Canary::Failing(_)), "{answer_before:?}");

    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, admin()));
        }
    });
    world
        .until::<ValidatingWebhookConfiguration>(None, names::WEBHOOK, |config| {
            policy(config, names::WEBHOOK_PROJECTS) == "Fail"
        })
        .await;
    assert_eq!(status::canary(&world.client, fresh()).await.unwrap(), status::Canary::Ours);

    let secret: Secret = world.get(Some("kubeop-system"), names::TLS_SECRET).await.unwrap();
    let leaf = String::from_utf8(secret.data.unwrap()["tls.crt"].0.clone()).unwrap();
    assert_eq!(kubeop_cluster::certificate::Facts::read(&leaf).unwrap().names, ["127.0.0.1"]);

    // Installing again leaves what the operator decided.
    let live = api.get(names::WEBHOOK).await.unwrap();
    let again = webhook::keep_live(wanted.clone(), &live);
    api.patch(names::WEBHOOK, &PatchParams::apply("kubeop").force(), &Patch::Apply(&again)).await.unwrap();
    let config = api.get(names::WEBHOOK).await.unwrap();
    assert!(trusted(&config) && policy(&config, names::WEBHOOK_PROJECTS) == "Fail");

    bootstrap::remove_webhook(&world.client).await.unwrap();
    serving.abort();
    world.clean().await;
}
