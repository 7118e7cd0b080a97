//! Prints what the builders make, as JSON for `kubectl apply -f -`:
//! `print install [URL]`, or `print project` with `{"tenant": .., "project": .., "apps": [..], "policy": {..}}` (as `kubectl get -o json` gives them) on
//! standard input.

use kubeop_core::policy::{PlatformPolicy, RawPolicy};
use kubeop_plan::install::{self, Home};
use kubeop_plan::{app, project};
use serde_json::{Value, json};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let items = match args.next().as_deref() {
        Some("install") => install(args.next())?,
        Some("project") => project(&serde_json::from_reader(std::io::stdin())?)?,
        _ => return Err("usage: print install [URL] | print project < input.json".into()),
    };
    println!("{}", json!({"apiVersion": "v1", "kind": "List", "items": items}));
    Ok(())
}

fn install(url: Option<String>) -> Result<Vec<Value>, Box<dyn Error>> {
    let options = install::Options {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        home: Home::Process(url),
        policy: RawPolicy::default(),
        metrics_server: None,
        mocks: false,
    };
    install::objects(&options)?.into_iter().map(|item| Ok(serde_json::to_value(item.object)?)).collect()
}

fn project(input: &Value) -> Result<Vec<Value>, Box<dyn Error>> {
    let raw: RawPolicy = serde_json::from_value(input.get("policy").cloned().unwrap_or_else(|| json!({})))?;
    let policy = PlatformPolicy::parse(&raw)?;
    let tenant = serde_json::from_value(input["tenant"].clone())?;
    let resource = serde_json::from_value(input["project"].clone())?;
    let around = project::Surroundings { tenant: &tenant, others: &[], live_quota: None, policy: &policy };
    let valid = project::validate(&resource, &around)?;
    let all = project::build(&valid);
    let mut items = vec![
        serde_json::to_value(all.namespace.wanted())?,
        serde_json::to_value(all.operator_binding.wanted())?,
        serde_json::to_value(all.resource_quota.wanted())?,
        serde_json::to_value(all.limit_range.wanted())?,
    ];
    for policy in &all.network_policies {
        items.push(serde_json::to_value(policy.wanted())?);
    }
    items.push(serde_json::to_value(all.service_account.wanted())?);
    for binding in &all.role_bindings {
        items.push(serde_json::to_value(binding.wanted())?);
    }
    for resource in input["apps"].as_array().into_iter().flatten() {
        let around = app::Surroundings {
            project: &valid.identity,
            project_uid: &valid.owner.uid,
            pod_security: valid.pod_security,
            suspended: valid.suspended,
            policy: &policy,
            issuer: None,
        };
        let valid = app::validate(&serde_json::from_value(resource.clone())?, &around)?;
        let all = app::build(&valid);
        for record in &all.dns_records {
            items.push(serde_json::to_value(record.wanted())?);
        }
        items.push(serde_json::to_value(all.deployment.wanted())?);
        if let Some(service) = &all.service {
            items.push(serde_json::to_value(service.wanted())?);
        }
        if let Some(ingress) = &all.ingress {
            items.push(serde_json::to_value(ingress.wanted())?);
        }
    }
    Ok(items)
}
