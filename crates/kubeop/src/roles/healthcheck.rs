//! `kubeop healthcheck`: the health check of containers whose image holds nothing but `kubeop`.
//!
//! Invariant: success means that every address answered 200; each question is bounded.

use crate::cli::HealthcheckArgs;
use crate::config::address;
use anyhow::{Context, bail, ensure};
use http::Uri;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::time::Instant;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(3);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(500);

type Http = Client<HttpConnector, Empty<&'static [u8]>>;

/// Asks until all answer, or the time is over.
pub(crate) async fn run(args: HealthcheckArgs) -> anyhow::Result<()> {
    let http: Http = Client::builder(TokioExecutor::new()).build_http();
    let end = Instant::now() + Duration::from_secs(args.wait);
    let urls = if args.urls.is_empty() { vec![own(&args.http_addr)?] } else { args.urls };
    for url in urls {
        ensure!(url.scheme_str() == Some("http"), "{url}: an http:// URL is needed");
        while let Err(error) = ask(&http, &url).await {
            if Instant::now() + PAUSE > end {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
        println!("{url}: ok");
    }
    Ok(())
}

/// The manager that listens at this address of `KUBEOP_HTTP_ADDR`, as a process beside it reaches it.
fn own(http_addr: &str) -> anyhow::Result<Uri> {
    let mut address = address("KUBEOP_HTTP_ADDR", http_addr)?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{address}/readyz").parse().with_context(|| format!("KUBEOP_HTTP_ADDR: {address}"))
}

async fn ask(http: &Http, url: &Uri) -> anyhow::Result<()> {
    let answer = tokio::time::timeout(LIMIT, http.get(url.clone()))
        .await
        .with_context(|| format!("{url} does not answer within {} s", LIMIT.as_secs()))?
        .with_context(|| format!("{url} does not answer"))?;
    if answer.status() == http::StatusCode::OK { Ok(()) } else { bail!("{url} answers {}", answer.status()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use tokio::net::TcpListener;

    fn args(urls: &[&str]) -> HealthcheckArgs {
        let urls = urls.iter().map(|url| url.parse().unwrap()).collect();
        HealthcheckArgs { urls, http_addr: ":1".to_owned(), wait: 0 }
    }

    #[test]
    fn the_manager_is_asked_where_it_listens() {
        for (given, asked) in [
            (":8080", "http://127.0.0.1:8080/readyz"),
            ("0.0.0.0:80", "http://127.0.0.1:80/readyz"),
            ("[::]:9", "http://[::1]:9/readyz"),
            ("192.0.2.1:9", "http://192.0.2.1:9/readyz"),
        ] {
            assert_eq!(own(given).unwrap(), asked);
        }
        assert!(own("8080").unwrap_err().to_string().contains("KUBEOP_HTTP_ADDR"));
    }

    #[tokio::test]
    async fn only_200_of_all_is_success() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = |path: &str| format!("http://{}{path}", listener.local_addr().unwrap());
        let (good, bad) = (at("/readyz"), at("/none"));
        let app = Router::new().route("/readyz", get(async || "ok"));
        tokio::spawn(async { axum::serve(listener, app).await });
        run(args(&[&good, &good])).await.unwrap();
        let refused = run(args(&[&good, &bad])).await.unwrap_err();
        assert!(refused.to_string().contains("404"), "{refused}");
        let silent = run(args(&["http://127.0.0.1:1/readyz"])).await.unwrap_err();
        assert!(silent.to_string().contains("does not answer"), "{silent}");
        assert!(run(args(&["https://127.0.0.1/readyz"])).await.is_err());
        let nobody = run(args(&[])).await.unwrap_err();
        assert!(nobody.to_string().contains("http://127.0.0.1:1/readyz does not answer"), "{nobody}");
    }
}
