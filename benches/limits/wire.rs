//! One kept connection, written and read byte by byte: a client that costs next to nothing.

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

/// A connection to the server.
pub struct Wire {
    stream: BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

/// A request with this token.
pub fn request(token: &str) -> String {
    format!("GET /v1/me HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n\r\n")
}

impl Wire {
    pub async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("the server doesn't listen")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(64 * 1024, stream), line: String::new(), body: Vec::new() })
    }

    /// Sends one request, or several.
    pub async fn send(&mut self, requests: &str) -> anyhow::Result<()> {
        Ok(self.stream.get_mut().write_all(requests.as_bytes()).await?)
    }

    /// Reads one answer, and says its status.
    pub async fn answer(&mut self) -> anyhow::Result<u16> {
        let (mut status, mut length) = (None, 0);
        loop {
            self.line.clear();
            if self.stream.read_line(&mut self.line).await? == 0 {
                bail!("the server closed the connection");
            }
            let line = self.line.trim_end();
            if line.is_empty() {
                break;
            }
            if status.is_none() {
                status = Some(line.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?);
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().context("no length")?;
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body).await?;
        status.context("no head")
    }

    /// Sends one request and reads its answer.
    pub async fn ask(&mut self, request: &str) -> anyhow::Result<u16> {
        self.send(request).await?;
        self.answer().await
    }
}
