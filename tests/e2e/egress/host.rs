//! A host that tools ask for something, on this machine: plain http, or https as `registry.test`. It keeps the heads of what it was asked.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// The certificate of `registry.test` and all names below it, signed by itself and good for nothing else.
pub const CERTIFICATE: &str = include_str!("../../fixtures/egress/certificate.pem");
const KEY: &str = include_str!("../../fixtures/egress/key.pem");

/// A host. Its threads end with the test's process.
#[derive(Debug, Clone)]
pub struct Host {
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Host {
    pub fn plain() -> Self {
        Self::serve(None)
    }

    pub fn tls() -> Self {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("known versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("they belong together");
        Self::serve(Some(Arc::new(config)))
    }

    fn serve(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let host = Self { address, heads: Arc::default() };
        let serving = host.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (host, tls) = (serving.clone(), tls.clone());
                std::thread::spawn(move || {
                    let _tool_may_break_off = match tls {
                        None => host.answer(stream),
                        Some(config) => {
                            let connection = ServerConnection::new(config).expect("a good configuration");
                            host.answer(StreamOwned::new(connection, stream))
                        }
                    };
                });
            }
        });
        host
    }

    fn answer(&self, stream: impl Read + Write) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).push(head);
        let stream = stream.get_mut();
        if let Some(place) = path.strip_prefix("/redirect-to/") {
            write!(
                stream,
                "HTTP/1.1 302 Found\r\nLocation: http://{place}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )?;
        } else if path == "/endless" {
            write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            stream.write_all(b"on and on\n")?;
            stream.flush()?;
            // Until somebody ends it.
            stream.read_exact(&mut [0])?;
        } else {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")?;
        }
        stream.flush()
    }

    /// The heads of what it was asked so far.
    pub fn asked(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This name and its port.
    pub fn under(&self, name: &str) -> String {
        format!("{name}:{}", self.address.port())
    }
}
