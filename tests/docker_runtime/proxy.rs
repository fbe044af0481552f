//! A unix socket in front of the engine's that can come, go, and keep answers back.

use std::path::Path;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
};

const ENGINE: &str = "/var/run/docker.sock";

/// What is kept back.
#[derive(Clone, Copy)]
pub enum Withhold {
    Nothing,
    /// Requests whose head has this text reach the engine; their answers reach nobody.
    AnswersTo(&'static str),
}

/// A listening proxy.
pub struct Proxy {
    address: String,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Where a proxy of this folder listens.
    pub fn address_in(folder: &Path) -> String {
        format!("unix://{}", folder.join("engine.sock").display())
    }

    pub async fn start(folder: &Path, withhold: Withhold) -> Self {
        let listener = UnixListener::bind(folder.join("engine.sock")).expect("the place is free");
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(relay(client, withhold));
            }
        });
        Self { address: Self::address_in(folder), task }
    }

    pub fn address(&self) -> String {
        self.address.clone()
    }

    /// Breaks every connection and leaves a socket where nobody listens, as a killed engine does.
    pub async fn stop(self) {
        self.task.abort();
        let _aborted = self.task.await;
        let path = self.address.trim_start_matches("unix://");
        std::fs::remove_file(path).expect("it was there");
    }
}

async fn relay(mut client: UnixStream, withhold: Withhold) {
    let Ok(mut engine) = UnixStream::connect(ENGINE).await else { return };
    let mut head = vec![0; 64 * 1024];
    let Ok(length) = client.read(&mut head).await else { return };
    let head = &head[..length];
    if engine.write_all(head).await.is_err() {
        return;
    }
    match withhold {
        Withhold::AnswersTo(path) if String::from_utf8_lossy(head).contains(path) => {
            let (mut from_client, _to_client) = client.split();
            let (_from_engine, mut to_engine) = engine.split();
            let _ends_with_the_client = tokio::io::copy(&mut from_client, &mut to_engine).await;
        }
        _ => {
            let _ends_with_either = tokio::io::copy_bidirectional(&mut client, &mut engine).await;
        }
    }
}
