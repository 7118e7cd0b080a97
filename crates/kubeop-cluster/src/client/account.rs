//! A client that is one of kubeOP's `ServiceAccounts`, by a token asked for with the registered credential (TokenRequest) and renewed in time.
//!
//! Invariant: the registered credential travels only in the token request; renewal happens in the path of a request, so it lives exactly as long
//! as the client does and an idle client asks for nothing.

use crate::address::AddressPolicy;
use crate::error::Doing;
use crate::kubeconfig::Kubeconfig;
use arc_swap::ArcSwapOption;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client, api::PostParams};
use kubeop_core::name::SYSTEM_NAMESPACE;
use kubeop_core::{Error, Result};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tower::{BoxError, Service};

/// How long a token is asked for.
const LIFE: Duration = Duration::from_hours(1);
/// How often a token that the server refused may be replaced.
const REPLACE_EVERY: Duration = Duration::from_secs(5);

/// The `ServiceAccounts` of kubeOP's own processes, all in `kubeop-system`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceAccountName {
    /// Writes custom resources and issues credentials.
    Manager,
    /// Reconciles.
    Operator,
    /// Answers admission reviews.
    Admission,
}

impl ServiceAccountName {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manager => "kubeop-manager",
            Self::Operator => "kubeop-operator",
            Self::Admission => "kubeop-admission",
        }
    }
}

/// A client that acts as one of kubeOP's `ServiceAccounts`. The first token is asked for here, so that a missing ServiceAccount is told at once.
pub async fn as_service_account(
    kubeconfig: &Kubeconfig,
    policy: &AddressPolicy,
    registered: Client,
    name: ServiceAccountName,
) -> Result<Client> {
    let tokens =
        Tokens(Arc::new(Source { registered, name, current: ArcSwapOption::empty(), renewing: Mutex::new(()) }));
    tokens.header().await?;
    super::build(super::base(kubeconfig, policy)?, policy.clone(), Some(&tokens))
}

/// Where the tokens of one client come from; clones share the current one.
#[derive(Clone)]
pub(super) struct Tokens(Arc<Source>);

struct Source {
    registered: Client,
    name: ServiceAccountName,
    current: ArcSwapOption<Token>,
    renewing: Mutex<()>,
}

struct Token {
    header: HeaderValue,
    taken: Instant,
    renew: Instant,
    dead: Instant,
}

impl Tokens {
    /// A header that is good for at least a moment.
    async fn header(&self) -> Result<HeaderValue> {
        let now = Instant::now();
        match self.0.current.load_full() {
            Some(token) if now < token.renew => Ok(token.header.clone()),
            // Still good: one request renews it, the others go on; if renewing fails, the next one tries again.
            Some(token) if now < token.dead => {
                let Ok(_only) = self.0.renewing.try_lock() else { return Ok(token.header.clone()) };
                match self.request().await {
                    Ok(header) => Ok(header),
                    Err(error) => {
                        tracing::warn!(account = self.0.name.as_str(), error = %error.chain(), "token not renewed");
                        Ok(token.header.clone())
                    }
                }
            }
            _ => {
                let _only = self.0.renewing.lock().await;
                match self.0.current.load_full() {
                    Some(token) if Instant::now() < token.renew => Ok(token.header.clone()),
                    _ => self.request().await,
                }
            }
        }
    }

    /// The server refused this token (its ServiceAccount was made anew, or the signing key changed): the next request asks for another.
    fn refused(&self, header: &HeaderValue) {
        if let Some(token) = self.0.current.load_full()
            && token.header == *header
            && token.taken.elapsed() >= REPLACE_EVERY
        {
            self.0.current.store(None);
        }
    }

    async fn request(&self) -> Result<HeaderValue> {
        let asked = Instant::now();
        let accounts: Api<ServiceAccount> = Api::namespaced(self.0.registered.clone(), SYSTEM_NAMESPACE);
        let seconds = i64::try_from(LIFE.as_secs()).unwrap_or(3600);
        let request = TokenRequest {
            spec: TokenRequestSpec { expiration_seconds: Some(seconds), ..TokenRequestSpec::default() },
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(self.0.name.as_str(), &PostParams::default(), &request)
            .await
            .doing(format_args!("asking for a token of ServiceAccount {SYSTEM_NAMESPACE}/{}", self.0.name.as_str()))?;
        let token = answer.status.map(|status| status.token).unwrap_or_default();
        let mut header = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Error::unavailable("the API server issued a token that no header can carry"))?;
        header.set_sensitive(true);
        // The server writes the granted life back; its clock and ours are never compared.
        let granted = answer.spec.expiration_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(LIFE.as_secs());
        let life = Duration::from_secs(granted).min(LIFE);
        let token =
            Token { header: header.clone(), taken: asked, renew: asked + life * 3 / 4, dead: asked + life * 19 / 20 };
        self.0.current.store(Some(Arc::new(token)));
        Ok(header)
    }
}

/// Puts our name and, for `ServiceAccounts`, the current token on each request.
#[derive(Clone)]
pub(super) struct Authorized<S> {
    inner: S,
    tokens: Option<Tokens>,
}

impl<S> Authorized<S> {
    pub(super) fn new(inner: S, tokens: Option<Tokens>) -> Self {
        Self { inner, tokens }
    }
}

impl<S, Q, B> Service<Request<Q>> for Authorized<S>
where
    S: Service<Request<Q>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send + 'static,
    Q: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        // The instance that was polled ready serves this call; a clone takes its place.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let tokens = self.tokens.clone();
        Box::pin(async move {
            let agent = HeaderValue::from_static(concat!("kubeop/", env!("CARGO_PKG_VERSION")));
            request.headers_mut().entry(header::USER_AGENT).or_insert(agent);
            let Some(tokens) = tokens else { return inner.call(request).await };
            let header = tokens.header().await?;
            request.headers_mut().insert(header::AUTHORIZATION, header.clone());
            let answer = inner.call(request).await?;
            if answer.status() == StatusCode::UNAUTHORIZED {
                tokens.refused(&header);
            }
            Ok(answer)
        })
    }
}
