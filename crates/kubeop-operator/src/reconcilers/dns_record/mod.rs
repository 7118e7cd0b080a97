//! DNSRecord: the record of a claimed host at the configured provider.
//!
//! Invariant: the claim stands by itself; a provider that fails or is not there never takes it away, nor holds its App up.

mod dereference;

use super::look_again;
use crate::context::Context;
use crate::failure::Blocked;
use crate::status;
use kube::Api;
use kube::runtime::controller::Action;
use kubeop_core::Result;
use kubeop_crds::DnsRecord;
use kubeop_crds::conditions::reason;
use kubeop_plan::Refusal;
use kubeop_plan::dns_record::{Entry, Progress, status as plan, validate};
use kubeop_plan::providers::DnsProvider;
use std::sync::Arc;

/// The five steps; an entry is built by validating it.
pub(crate) async fn reconcile(record: Arc<DnsRecord>, ctx: Arc<Context>) -> Result<Action> {
    if record.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let provider = match ctx.stores.configured_providers().map(|all| all.dns) {
        Ok(Some(provider)) => provider,
        Ok(None) => return report(&record, &ctx, &Progress::NoProvider).await,
        Err(error) => {
            let refusal = Refusal::new(reason::PROVIDERS_UNREADABLE, error.message());
            return report(&record, &ctx, &Progress::Refused(&refusal)).await;
        }
    };
    let around = dereference::dereference(&record, &ctx).await?;
    let applied = match validate(&record, &around) {
        Ok(entry) => publish(&ctx, provider, &entry).await.map(|()| entry),
        Err(refusal) => withdraw(&ctx, provider, &record.spec.host).await.and(Err(refusal.into())),
    };
    match applied {
        Ok(entry) => report(&record, &ctx, &Progress::Published(&entry)).await,
        Err(Blocked::Refused(refusal)) => report(&record, &ctx, &Progress::Refused(&refusal)).await,
        Err(Blocked::Failed(error)) => {
            let refusal = Refusal::new(reason::FAILED, error.message());
            report(&record, &ctx, &Progress::Refused(&refusal)).await?;
            Err(error)
        }
    }
}

async fn publish(ctx: &Context, provider: DnsProvider, entry: &Entry) -> std::result::Result<(), Blocked> {
    match provider {
        DnsProvider::ClusterZone => ctx.zone.publish(ctx, entry).await,
    }
}

async fn withdraw(ctx: &Context, provider: DnsProvider, host: &str) -> std::result::Result<(), Blocked> {
    match provider {
        DnsProvider::ClusterZone => ctx.zone.withdraw(ctx, host).await,
    }
}

/// The status step.
async fn report(record: &DnsRecord, ctx: &Context, progress: &Progress<'_>) -> Result<Action> {
    let api: Api<DnsRecord> = Api::all(ctx.client.clone());
    let after = plan::status(record, progress, ctx.clock.now());
    status::write(ctx, &api, record, record.status.as_ref(), &after).await?;
    Ok(match progress {
        Progress::Published(_) | Progress::NoProvider => Action::await_change(),
        Progress::Refused(refusal) => look_again(ctx, record, refusal.may_pass()),
    })
}
