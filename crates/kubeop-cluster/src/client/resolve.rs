//! Name resolution that hands only allowed addresses to the connector.
//!
//! Invariant: one refused address among the answers refuses the name, so that a mixed answer cannot be tried until it works; the addresses that
//! were judged are the ones that are connected to, since nothing resolves the name again.

use crate::address::{AddressPolicy, check_server_address};
use futures::future::BoxFuture;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use tower::{BoxError, Service};

#[derive(Clone)]
pub(super) struct Resolver<R = GaiResolver> {
    inner: R,
    policy: Arc<AddressPolicy>,
}

impl Resolver {
    pub(super) fn new(policy: AddressPolicy) -> Self {
        Self { inner: GaiResolver::new(), policy: Arc::new(policy) }
    }
}

impl<R> Service<Name> for Resolver<R>
where
    R: Service<Name>,
    R::Response: Iterator<Item = SocketAddr>,
    R::Error: Into<BoxError>,
    R::Future: Send + 'static,
{
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let text = name.to_string();
        let found = self.inner.call(name);
        let policy = Arc::clone(&self.policy);
        Box::pin(async move {
            let found = found.await.map_err(|e| {
                let cause: BoxError = e.into();
                kubeop_core::Error::unavailable(format!("the name {text:?} cannot be resolved")).caused_by(cause)
            })?;
            let addresses: Vec<SocketAddr> = found.collect();
            for address in &addresses {
                check_server_address(address.ip(), &policy).map_err(|e| e.at(&text))?;
            }
            Ok(addresses.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Answers with the next list each time it is asked.
    #[derive(Clone)]
    struct Changing(Arc<(AtomicUsize, Vec<Vec<&'static str>>)>);

    impl Service<Name> for Changing {
        type Response = std::vec::IntoIter<SocketAddr>;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Self::Response, BoxError>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Name) -> Self::Future {
            let asked = self.0.0.fetch_add(1, Ordering::Relaxed);
            let list: Vec<SocketAddr> =
                self.0.1[asked].iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect();
            std::future::ready(Ok(list.into_iter()))
        }
    }

    async fn resolve(resolver: &mut Resolver<Changing>) -> Result<Vec<String>, String> {
        match resolver.call("rebind.example".parse().unwrap()).await {
            Ok(found) => Ok(found.map(|address| address.ip().to_string()).collect()),
            Err(error) => Err(error.downcast_ref::<kubeop_core::Error>().unwrap().message().to_owned()),
        }
    }

    #[tokio::test]
    async fn a_name_that_changes_its_mind_is_judged_each_time_by_the_addresses_that_are_used() {
        let lists = vec![
            vec!["203.0.113.9"],
            vec!["169.254.169.254"],
            vec!["203.0.113.9", "127.0.0.1"],
            vec!["::ffff:169.254.169.254"],
            vec!["203.0.113.10", "2001:db8::1"],
        ];
        let inner = Changing(Arc::new((AtomicUsize::new(0), lists)));
        let policy = Arc::new(AddressPolicy::parse("10.0.0.0/8").unwrap());
        let mut resolver = Resolver { inner, policy };
        assert_eq!(resolve(&mut resolver).await.unwrap(), ["203.0.113.9"]);
        assert!(resolve(&mut resolver).await.unwrap_err().contains("metadata"));
        assert!(resolve(&mut resolver).await.unwrap_err().contains("KUBEOP_ALLOW_PRIVATE_SERVERS"));
        let refused = resolve(&mut resolver).await.unwrap_err();
        assert!(refused.starts_with("rebind.example: server address 169.254.169.254"), "{refused}");
        assert_eq!(resolve(&mut resolver).await.unwrap(), ["203.0.113.10", "2001:db8::1"]);
    }
}
