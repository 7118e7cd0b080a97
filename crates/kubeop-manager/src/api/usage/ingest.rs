//! `POST /v1/usage/ingest`: an array of samples, one object, or NDJSON.
//!
//! Invariant: all or nothing; any bad element is named by index and field, and nothing is stored.

use crate::audit::digest::Digest;
use crate::auth::caller::{Caller, Deed};
use crate::auth::permission::IngestUsage;
use crate::http::answer::Found;
use crate::http::body::{INGEST_LIMIT, attempt, read_bytes};
use crate::http::error::ApiResult;
use crate::http::error::{ApiError, refuses};
use crate::http::params::NoQuery;
use aide::OperationInput;
use aide::generate::GenContext;
use aide::openapi::{MediaType, Operation, ReferenceOr, SchemaObject};
use axum::Json;
use axum::extract::{FromRequest, Request};
use jiff::Timestamp;
use kubeop_api::billing::{IngestResult, UsageSample};
use kubeop_api::samples;
use kubeop_core::id::{ProjectId, TenantId};
use kubeop_core::rfc3339;
use kubeop_core::usage::{Sample, check_batch};
use kubeop_core::{Error, Result};
use kubeop_store::{Conn, audit, project, tenant, usage};
use schemars::json_schema;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The media type of one sample a line.
const NDJSON: &str = "application/x-ndjson";

/// A batch as it was sent: each sample is read on its own, so that what a batch takes in memory is its bytes and its samples.
pub struct Batch(Vec<UsageSample>);

impl<S: Send + Sync> FromRequest<S> for Batch {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let attempt = attempt(&request);
        let (bytes, media_type) = read_bytes(request, INGEST_LIMIT, &["application/json", NDJSON]).await?;
        if let Some(attempt) = attempt {
            // A batch counts as it is written: it is too large to be put in order first.
            attempt.begin(&bytes).await?;
        }
        // A large batch takes a good part of a second, in which this thread would answer nobody else.
        let reading = tokio::task::spawn_blocking(move || {
            if media_type == NDJSON { samples::from_lines(&bytes) } else { samples::from_json(&bytes) }
        });
        Ok(Self(reading.await.map_err(Error::internal)??))
    }
}

impl OperationInput for Batch {
    refuses!(400, 404, 408, 409, 413, 415);

    fn operation_input(ctx: &mut GenContext, operation: &mut Operation) {
        Json::<Vec<UsageSample>>::operation_input(ctx, operation);
        let one = ctx.schema.subschema_for::<UsageSample>();
        if let Some(ReferenceOr::Item(body)) = &mut operation.request_body {
            if let Some(schema) = body.content.get_mut("application/json").and_then(|content| content.schema.as_mut()) {
                schema.json_schema = json_schema!({"oneOf": [schema.json_schema.clone(), one]});
            }
            body.description =
                Some("An array of samples or one sample; as `application/x-ndjson` one sample a line.".to_owned());
            let schema = Some(SchemaObject { json_schema: one, external_docs: None, example: None });
            body.content.insert(NDJSON.to_owned(), MediaType { schema, ..MediaType::default() });
        }
    }
}

/// Takes in a batch of usage.
pub async fn handle(caller: Caller<IngestUsage>, _: NoQuery, Batch(sent): Batch) -> ApiResult<Found<IngestResult>> {
    let now = caller.manager.clock.now();
    let accepted = sent.len();
    let samples = sent
        .into_iter()
        .enumerate()
        .map(|(index, sample)| read(&sample, now).map_err(|e| e.at(format!("[{index}]"))))
        .collect::<Result<Vec<_>>>()?;
    check_batch(&samples)?;
    let mut tx = caller.change().await?;
    check_owners(&mut tx.conn(), &samples).await?;
    let counts = usage::put(&mut tx, &samples, now).await?;
    let accepted = u64::try_from(accepted).unwrap_or(u64::MAX);
    let result = Found(IngestResult {
        accepted,
        created: counts.created,
        updated: counts.updated,
        // A sample that the batch holds twice changes nothing the second time.
        unchanged: accepted.saturating_sub(counts.created).saturating_sub(counts.updated),
    });
    let deed = Deed {
        verb: "ingest",
        kind: "usage",
        after: Some(batch_digest(&samples)),
        detail: format!("{accepted} samples"),
        ..Deed::default()
    };
    caller.commit_answered(tx, deed, &result).await?;
    Ok(result)
}

/// The digest of a batch: a line a sample, as they were sent, with tabs between hour (seconds since 1970), tenant, project, source and figures.
fn batch_digest(samples: &[Sample]) -> String {
    let mut digest = Digest::new();
    for sample in samples {
        let project = sample.project_id.map(|id| id.to_string()).unwrap_or_default();
        // Taking in text cannot fail.
        let _ = writeln!(
            digest,
            "{}\t{}\t{project}\t{}\t{}\t{}",
            sample.bucket.as_second(),
            sample.tenant_id,
            sample.source.escape_debug(),
            sample.cpu_milli,
            sample.mem_mib
        );
    }
    digest.finish()
}

fn read(sent: &UsageSample, now: Timestamp) -> Result<Sample> {
    let ts = rfc3339::parse(&sent.ts).map_err(|e| e.at("ts"))?;
    let tenant = TenantId::parse(&sent.tenant_id).map_err(|e| e.at("tenant_id"))?;
    let project = sent.project_id.as_deref().map(ProjectId::parse).transpose().map_err(|e| e.at("project_id"))?;
    let source = sent.source.as_deref().unwrap_or_default();
    Sample::new(ts, now, tenant, project, source, (sent.cpu_milli, sent.mem_mib))
}

/// Whose these projects are, or were: what another tenant had is not taken in because it was deleted. One that kubeOP never had is absent.
async fn owners(conn: &mut Conn<'_>, mut projects: Vec<ProjectId>) -> Result<BTreeMap<ProjectId, TenantId>> {
    let mut owners: BTreeMap<_, _> =
        project::owners(conn, &projects).await?.into_iter().map(|owner| (owner.project_id, owner.tenant_id)).collect();
    projects.retain(|id| !owners.contains_key(id));
    if !projects.is_empty() {
        let gone = audit::owners_on_record(conn, &projects).await?;
        owners.extend(gone.into_iter().map(|owner| (owner.project_id, owner.tenant_id)));
    }
    Ok(owners)
}

/// Every tenant existed in the hour, and every project that is or was known belongs to its tenant.
async fn check_owners(conn: &mut Conn<'_>, samples: &[Sample]) -> Result<()> {
    let tenants: BTreeSet<TenantId> = samples.iter().map(|sample| sample.tenant_id).collect();
    let tenants: Vec<_> = tenants.into_iter().collect();
    let periods: BTreeMap<_, _> =
        tenant::periods(conn, &tenants).await?.into_iter().map(|period| (period.id, period)).collect();
    let projects: BTreeSet<ProjectId> = samples.iter().filter_map(|sample| sample.project_id).collect();
    let projects: Vec<_> = projects.into_iter().collect();
    let owners = owners(conn, projects).await?;
    for (index, sample) in samples.iter().enumerate() {
        let Some(period) = periods.get(&sample.tenant_id) else {
            return Err(Error::not_found(format!("[{index}].tenant_id: there is no tenant {}", sample.tenant_id)));
        };
        if period.deleted_at.is_some_and(|gone| sample.bucket >= gone) {
            return Err(Error::invalid(format!(
                "[{index}].ts: tenant {} was deleted before the hour of {}",
                sample.tenant_id, sample.bucket
            )));
        }
        if let Some(project) = sample.project_id
            && owners.get(&project).is_some_and(|owner| *owner != sample.tenant_id)
        {
            return Err(Error::invalid(format!(
                "[{index}].project_id: project {project} is not of tenant {}",
                sample.tenant_id
            )));
        }
    }
    Ok(())
}
