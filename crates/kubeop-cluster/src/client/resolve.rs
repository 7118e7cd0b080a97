//! Name resolution that hands only allowed addresses to the connector.
//!
//! Invariant: one refused address among the answers refuses the name, so that a mixed answer cannot be tried until it works.

use crate::address::{AddressPolicy, check_server_address};
use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::{BoxError, Service};

#[derive(Clone)]
pub(super) struct Resolver {
    inner: GaiResolver,
    policy: Arc<AddressPolicy>,
}

impl Resolver {
    pub(super) fn new(policy: AddressPolicy) -> Self {
        Self { inner: GaiResolver::new(), policy: Arc::new(policy) }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let text = name.to_string();
        let found = self.inner.call(name);
        let policy = self.policy.clone();
        Box::pin(async move {
            let found = found.await.map_err(|e| {
                kubeop_core::Error::unavailable(format!("the name {text:?} cannot be resolved")).caused_by(e)
            })?;
            let addresses: Vec<SocketAddr> = found.collect();
            for address in &addresses {
                check_server_address(address.ip(), &policy).map_err(|e| e.at(&text))?;
            }
            Ok(addresses.into_iter())
        })
    }
}
