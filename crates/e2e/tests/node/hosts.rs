//! The stand-ins for outside providers in packets: a pod resolves an app's host through the cluster's DNS, and trusts the issuer alone.

use anyhow::{Result, ensure};
use e2e::kubectl::Kubectl;
use e2e::node::{self, Node, PATIENCE};
use e2e::scenario;
use e2e::wait::{Seen, until};
use serde_json::json;

const POD: &str = "mocks-client";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs a node: cargo xtask test starts one"]
async fn a_pod_reaches_an_app_by_name_with_tls_of_the_own_issuer() -> Result<()> {
    let node = Node::take().await?;
    let platform = node.platform().await?;
    let (api, admin) = (&platform.api, node.kubectl()?);
    let untouched = corefile(&admin).await?;
    let home = scenario::home(api, &platform.cluster, "mocks").await?;
    let host = format!("{}.example", home.tenant_name);
    scenario::app(api, &home.project, "web", &host).await?;
    node::rolled_out(&admin, &home.namespace, "web").await?;
    let name = format!("{}.web", home.namespace);
    for resource in [format!("dnsrecord/{host}"), format!("certificate.platform.kubeop.io/{name}")] {
        admin.stdout(&format!("wait --for=condition=Ready {resource} --timeout=120s")).await?;
    }
    println!("{}", admin.stdout("get dnsrecords,certificates.platform.kubeop.io -o wide").await?);

    // A pod that trusts the issuer's CA and nobody else.
    let ca = admin.stdout("-n kubeop-system get secret kubeop-issuer-ca -o jsonpath={.data.tls\\.crt}").await?;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": POD, "namespace": "default"}, "data": {"ca.crt": ca}});
    node::apply(&admin, &secret.to_string()).await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD, "namespace": "default"},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "tool", "image": node.fact("/images/webtool")?, "args": ["sleep"],
                "env": [{"name": "SSL_CERT_FILE", "value": "/trusted/ca.crt"}, {"name": "SSL_CERT_DIR", "value": "/none"}],
                "volumeMounts": [{"name": "trusted", "mountPath": "/trusted"}],
            }],
            "volumes": [{"name": "trusted", "secret": {"secretName": POD}}],
        },
    });
    node::apply(&admin, &pod.to_string()).await?;
    node::running(&admin, "default", POD).await?;
    // The kubelet looks at a pod's ConfigMaps when the pod changes, else every now and then.
    let mark =
        format!("-n kube-system annotate pod -l k8s-app=kube-dns --overwrite example.com/look={}", home.tenant_name);
    admin.stdout(&mark).await?;
    for scheme in ["http", "https"] {
        until(&format!("{scheme}://{host}/ from a pod"), PATIENCE, async || {
            let told = tool(&admin, &format!("get {scheme}://{host}/ 5s")).await?;
            Ok(Seen::when(told.contains("OK 200") && told.contains("Welcome to nginx!"), (), told))
        })
        .await?;
    }
    println!("{}", tool(&admin, &format!("dns {host}")).await?);
    // Names beside it are nobody's, the cluster's own answer as before, and another name proves nothing.
    ensure!(tool(&admin, &format!("dns other.{host}")).await?.contains("FAIL"), "a name beneath the host resolves");
    ensure!(tool(&admin, "dns kubernetes.default.svc.cluster.local").await?.contains("OK"), "the cluster's names");
    let foreign = tool(&admin, &format!("get https://{}/ 5s", node.fact("/ingress/address")?)).await?;
    ensure!(foreign.contains("FAIL"), "the ingress controller's own certificate is trusted: {foreign}");
    let (status, _) = node.ingress(&host).await?;
    ensure!(status == 200, "plain HTTP from outside answers {status}");

    admin.stdout(&format!("-n default delete pod/{POD} secret/{POD} --now")).await?;
    platform.delete_tenant(&home.tenant).await?;
    until("CoreDNS' configuration as it was", PATIENCE, async || {
        let now = corefile(&admin).await?;
        Ok(Seen::when(now == untouched, (), now))
    })
    .await?;
    platform.uninstall().await
}

async fn tool(kubectl: &Kubectl, words: &str) -> Result<String> {
    let ran = kubectl.run(&format!("-n default exec {POD} -- /bin/webtool {words}")).await?;
    Ok(format!("{}{}", ran.stdout, ran.stderr))
}

async fn corefile(kubectl: &Kubectl) -> Result<String> {
    kubectl.stdout("-n kube-system get configmap coredns -o jsonpath={.data.Corefile}").await
}
