//! `greenroom healthcheck`: asks a running server for `/healthz`, so that an image needs no curl.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use http::Uri;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::settings::SettingsArgs;

/// Deadline for the whole question.
const DEADLINE: Duration = Duration::from_secs(3);
/// `HTTP/1.1 200 `: as much of the answer as is looked at.
const STATUS_LINE: usize = 13;

/// Arguments of `greenroom healthcheck`.
#[derive(Debug, Args)]
pub(super) struct HealthcheckArgs {
    /// What to ask, http only [default: /healthz on the configured address]
    #[arg(long)]
    url: Option<Uri>,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Asks; a healthy server is a success.
pub(super) async fn run(args: HealthcheckArgs) -> anyhow::Result<()> {
    let url = match args.url {
        Some(url) => url,
        None => of(args.settings.load()?.server.address)?,
    };
    let status = tokio::time::timeout(DEADLINE, ask(&url))
        .await
        .with_context(|| format!("{url} did not answer within {} s", DEADLINE.as_secs()))??;
    ensure!(status == 200, "{url} answered {status}");
    Ok(())
}

/// `/healthz` on an address to listen on: one that means "everywhere" is asked on loopback.
fn of(address: SocketAddr) -> anyhow::Result<Uri> {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    Ok(format!("http://{}/healthz", SocketAddr::new(ip, address.port())).parse()?)
}

async fn ask(url: &Uri) -> anyhow::Result<u16> {
    if url.scheme_str() != Some("http") {
        bail!("{url} is not an http:// address");
    }
    let authority = url.authority().context("the address has no host")?;
    let host = authority.host().trim_matches(['[', ']']);
    let mut stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80)))
        .await
        .with_context(|| format!("{url} can't be reached"))?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0_u8; STATUS_LINE];
    stream.read_exact(&mut answer).await.context("the answer is not HTTP")?;
    let text = std::str::from_utf8(&answer)?;
    text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.trim_end().parse().ok()).context("the answer is not HTTP")
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn server_that_answers(answer: &'static str) -> Uri {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has free ports");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("somebody connects");
            let mut request = [0_u8; 1024];
            let length = stream.read(&mut request).await.expect("a request comes");
            assert!(request[..length].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.expect("the answer is read");
            std::future::pending::<()>().await;
        });
        of(address).expect("an address is a good URL")
    }

    async fn check(url: Uri) -> anyhow::Result<()> {
        run(HealthcheckArgs { url: Some(url), settings: SettingsArgs::default() }).await
    }

    #[tokio::test]
    async fn only_a_200_is_healthy() {
        assert!(check(server_that_answers("HTTP/1.1 200 OK\r\n\r\n").await).await.is_ok());
        let error = check(server_that_answers("HTTP/1.1 503 Service Unavailable\r\n\r\n").await).await;
        assert!(error.expect_err("not healthy").to_string().ends_with("answered 503"));
        assert!(check(server_that_answers("SSH-2.0-OpenSSH").await).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_is_not_healthy() {
        let error = check(server_that_answers("").await).await.expect_err("not healthy");
        assert!(error.to_string().contains("within 3 s"), "{error}");
    }

    #[test]
    fn everywhere_is_asked_on_loopback() {
        let url = |address: &str| of(address.parse().expect("an address")).expect("a URL").to_string();
        assert_eq!(url("0.0.0.0:8080"), "http://127.0.0.1:8080/healthz");
        assert_eq!(url("[::]:1"), "http://[::1]:1/healthz");
        assert_eq!(url("10.0.0.1:80"), "http://10.0.0.1:80/healthz");
    }
}
