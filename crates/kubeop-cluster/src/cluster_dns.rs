//! The configuration of the cluster's CoreDNS, as far as our section in it goes.
//!
//! Invariant: a write carries the version that was read, and changes one key of one ConfigMap.

use crate::error::{Doing, is_conflict, is_gone};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::PostParams;
use kube::{Api, Client};
use kubeop_core::{Error, Result};
use kubeop_plan::dns_record::corefile::{self, Form};
use kubeop_plan::install::names::{DNS_CONFIG, DNS_COREFILE, DNS_CUSTOM, DNS_NAMESPACE, DNS_OVERRIDE};

/// How often a ConfigMap that keeps changing is read anew.
const TRIES: usize = 5;

/// CoreDNS as it is set up now.
#[derive(Clone, Debug)]
pub struct ClusterDns {
    /// The Corefile.
    pub corefile: String,
    /// Where our section goes.
    pub form: Form,
    /// The text that holds our section, or is to.
    pub text: String,
    map: ConfigMap,
}

/// Reads it; `None` where there is no ConfigMap `coredns` with a Corefile in `kube-system`.
pub async fn read(client: &Client) -> Result<Option<ClusterDns>> {
    let api = api(client);
    let Some(map) = api.get_opt(DNS_CONFIG).await.doing("reading CoreDNS' configuration")? else { return Ok(None) };
    let Some(corefile) = map.data.as_ref().and_then(|data| data.get(DNS_COREFILE)).cloned() else { return Ok(None) };
    // Distributions that bring CoreDNS' configuration back to theirs import additions from a ConfigMap that they leave alone.
    if corefile::imports_overrides(&corefile)
        && let Some(map) = api.get_opt(DNS_CUSTOM).await.doing("reading CoreDNS' additions")?
    {
        let text = map.data.as_ref().and_then(|data| data.get(DNS_OVERRIDE)).cloned().unwrap_or_default();
        return Ok(Some(ClusterDns { corefile, form: Form::Imported, text, map }));
    }
    Ok(Some(ClusterDns { text: corefile.clone(), corefile, form: Form::Corefile, map }))
}

/// Writes the text in the place it was read from; `false` if somebody else was there in between.
pub async fn write(client: &Client, dns: ClusterDns, text: String) -> Result<bool> {
    let key = match dns.form {
        Form::Corefile => DNS_COREFILE,
        Form::Imported => DNS_OVERRIDE,
    };
    put(client, dns.map, key, text).await
}

/// Takes our section out, wherever it is.
pub async fn withdraw(client: &Client) -> Result<()> {
    withdraw_from(client, DNS_CONFIG, DNS_COREFILE).await?;
    withdraw_from(client, DNS_CUSTOM, DNS_OVERRIDE).await
}

async fn withdraw_from(client: &Client, name: &str, key: &str) -> Result<()> {
    for _ in 0..TRIES {
        let map = api(client).get_opt(name).await.doing("reading CoreDNS' configuration")?;
        let text = map.as_ref().and_then(|map| map.data.as_ref()?.get(key)).cloned();
        let (Some(map), Some(text)) = (map, text) else { return Ok(()) };
        let rest = corefile::without(&text)
            .map_err(|refusal| Error::conflict(format!("ConfigMap {DNS_NAMESPACE}/{name}: {}", refusal.message)))?;
        if rest == text || put(client, map, key, rest).await? {
            return Ok(());
        }
    }
    Err(Error::unavailable(format!("ConfigMap {DNS_NAMESPACE}/{name} keeps changing")))
}

/// Replaces one key (an addition that says nothing is none); `false` if the ConfigMap changed meanwhile.
async fn put(client: &Client, mut map: ConfigMap, key: &str, text: String) -> Result<bool> {
    let name = map.metadata.name.clone().unwrap_or_default();
    let data = map.data.get_or_insert_default();
    if key == DNS_OVERRIDE && text.is_empty() {
        data.remove(key);
    } else {
        data.insert(key.to_owned(), text);
    }
    match api(client).replace(&name, &PostParams::default(), &map).await {
        Ok(_) => Ok(true),
        Err(error) if is_conflict(&error) || is_gone(&error) => Ok(false),
        Err(error) => Err(error).doing("writing CoreDNS' configuration"),
    }
}

fn api(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), DNS_NAMESPACE)
}
