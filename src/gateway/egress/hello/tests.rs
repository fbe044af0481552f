use std::sync::Arc;

use proptest::prelude::*;
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use tokio::io::AsyncWriteExt as _;

use super::*;

/// What a TLS client says first to this host.
pub fn greeting_for(host: &str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("known versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut greeting = Vec::new();
    client.write_tls(&mut greeting).expect("written");
    greeting
}

fn name(text: &str) -> HostName {
    HostName::parse(text).expect("a good name")
}

async fn read_all(said: &[u8], host: &str) -> Result<Option<Vec<u8>>, Refusal> {
    let (mut inside, mut tool) = tokio::io::duplex(64 * 1024);
    tool.write_all(said).await.expect("it fits");
    drop(tool);
    read(&mut inside, &name(host)).await.map(|greeting| greeting.map(|bytes| bytes.to_vec()))
}

/// The same greeting with one more extension, at its end.
fn with_extension(greeting: &[u8], kind: u16, content: &[u8]) -> Vec<u8> {
    let mut message = unwrap_records(greeting).expect("a greeting");
    let more = 4 + content.len();
    // The extensions' length is found from the end: they are the rest of the message.
    let mut rest = &message[FIXED..];
    for length_bytes in [1, 2, 1] {
        take(&mut rest, length_bytes).expect("a piece");
    }
    let at = message.len() - rest.len();
    let length = u16::try_from(rest.len() - 2 + more).expect("short");
    message[at..at + 2].copy_from_slice(&length.to_be_bytes());
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&u16::try_from(content.len()).expect("short").to_be_bytes());
    message.extend_from_slice(content);
    let whole = [&[1, 0][..], &u16::try_from(message.len()).expect("short").to_be_bytes(), &message].concat();
    in_records(&whole, 16_000)
}

fn in_records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |piece: &[u8]| {
        let length = u16::try_from(piece.len()).expect("short").to_be_bytes();
        [&[22, 3, 1][..], &length, piece].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

#[tokio::test]
async fn a_greeting_for_the_host_passes_with_all_that_came_with_it() {
    let mut said = greeting_for("a.example");
    assert_eq!(read_all(&said, "a.example").await, Ok(Some(said.clone())));
    said.extend_from_slice(b"early data");
    assert_eq!(read_all(&said, "a.example").await, Ok(Some(said)));
    assert_eq!(read_all(b"", "a.example").await, Ok(None), "who says nothing breaks nothing");
}

#[tokio::test]
async fn a_greeting_in_many_records_and_pieces_is_still_read() {
    let greeting = greeting_for("a.example");
    let message = &greeting[RECORD_HEAD..];
    let said = in_records(message, 40);
    let (mut inside, mut tool) = tokio::io::duplex(3);
    let writing = said.clone();
    let writer = tokio::spawn(async move { tool.write_all(&writing).await });
    let read = read(&mut inside, &name("a.example")).await.expect("it passes").expect("something was said");
    writer.await.expect("no panic").expect("all was taken");
    assert_eq!(read, said);
}

#[tokio::test]
async fn a_greeting_for_somebody_else_or_for_nobody_is_refused() {
    assert_eq!(read_all(&greeting_for("b.example"), "a.example").await, Err(Refusal::WrongName));
    assert_eq!(read_all(&greeting_for("a.example.b.example"), "a.example").await, Err(Refusal::WrongName));
    // For an address no name is sent.
    assert_eq!(read_all(&greeting_for("127.0.0.1"), "a.example").await, Err(Refusal::WrongName));
}

#[tokio::test]
async fn a_greeting_that_hides_another_one_is_refused() {
    // Outer; key derivation, cipher, configuration; an empty key; one byte of payload.
    let hidden = [0, 0, 1, 0, 1, 7, 0, 0, 0, 1, 0];
    let said = with_extension(&greeting_for("a.example"), ECH, &hidden);
    assert_eq!(read_all(&said, "a.example").await, Err(Refusal::WrongName));
    let harmless = with_extension(&greeting_for("a.example"), 0x4444, &[0; 32]);
    assert_eq!(read_all(&harmless, "a.example").await, Ok(Some(harmless)));
}

#[tokio::test]
async fn what_is_not_tls_is_refused() {
    for said in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        b"\x16\x03\x01",
        &[0; 100],
        &[22; 100],
    ] {
        assert_eq!(read_all(said, "a.example").await, Err(Refusal::NotTls), "{said:?}");
    }
    let half = greeting_for("a.example");
    assert_eq!(read_all(&half[..half.len() - 1], "a.example").await, Err(Refusal::NotTls));
    // A greeting without end.
    let endless = in_records(&[&[1, 0, 0xff, 0xff][..], &vec![0; 60_000]].concat(), 1000);
    assert_eq!(read_all(&endless, "a.example").await, Err(Refusal::NotTls));
}

proptest! {
    #[test]
    fn whatever_is_said_is_read_without_a_panic(mut said in prop::collection::vec(any::<u8>(), 0..200), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        let _any = hides_another(&said);
        said = greeting_for("a.example");
        for (at, byte) in flips {
            let at = at.index(said.len());
            said[at] = byte;
        }
        let _any = hides_another(&said);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let _any = runtime.block_on(read_all(&said, "a.example"));
    }
}
