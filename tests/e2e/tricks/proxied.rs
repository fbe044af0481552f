//! What goes through the proxy: names, addresses, spellings, and requests that mean two things at once.

use std::sync::Arc;

use super::{
    Must, NAMES, PROBE, Trick,
    targets::{GREETING, Targets},
};
use crate::recorder::Recorder;

/// A request's way in: its bytes, and more once the proxy has agreed.
fn say(what: impl Into<String>, bytes: impl AsRef<[u8]>, must: Must, why: &'static str) -> Trick {
    let command = format!("{PROBE} proxy {}", hex(bytes.as_ref()));
    Trick { what: what.into(), command, must, why }
}

fn tunnel(what: impl Into<String>, authority: &str, more: impl AsRef<[u8]>, must: Must, why: &'static str) -> Trick {
    let open = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    let command = format!("{PROBE} proxy {} {}", hex(open.as_bytes()), hex(more.as_ref()));
    Trick { what: what.into(), command, must, why }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A plain request for a URL, as a proxy gets it.
fn get(url: &str, host: &str) -> String {
    format!("GET {url} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
}

/// All of them.
pub fn tricks(targets: &Targets, model: &Recorder) -> Vec<Trick> {
    let mut all = works(targets.allowed.port());
    all.extend(names(targets));
    all.extend(addresses(targets, model));
    all.extend(spellings(targets.allowed.port(), targets.bystander.port()));
    all.extend(forms(targets.allowed.port(), targets.bystander.port()));
    all.extend(smuggling(targets.allowed.port(), targets.bystander.port()));
    all.extend(tunnels(targets.allowed.port()));
    // And after all that it still works.
    all.extend(works(targets.allowed.port()));
    all
}

fn works(allowed: u16) -> Vec<Trick> {
    let why = "the template allows it";
    let must = || Must::Work(GREETING);
    let url = |host: &str| format!("http://{host}:{allowed}/");
    vec![
        say("the server that is allowed", get(&url("allowed.test"), &format!("allowed.test:{allowed}")), must(), why),
        tunnel("the same by a tunnel", &format!("allowed.test:{allowed}"), client_hello("allowed.test"), must(), why),
        say(
            "the same in capitals",
            get(&url("ALLOWED.Test"), &format!("ALLOWED.Test:{allowed}")),
            must(),
            "names have no case",
        ),
        say("a name below a wildcard", get(&url("a.wild.test"), &format!("a.wild.test:{allowed}")), must(), why),
    ]
}

fn names(targets: &Targets) -> Vec<Trick> {
    let (allowed, bystander) = (targets.allowed.port(), targets.bystander.port());
    let unlisted = "nobody allowed this name";
    let mut all = Vec::new();
    for (authority, why) in [
        (format!("forbidden.test:{allowed}"), unlisted),
        (format!("offered.test:{allowed}"), "it is offered, but this session didn't ask for it"),
        (format!("wild.test:{allowed}"), "a wildcard is for names below its own"),
        (format!("allowed.test.evil.test:{allowed}"), "a name that begins like one that is allowed"),
        (format!("evil-allowed.test:{allowed}"), "a name that ends like one that is allowed"),
        (format!("a.allowed.test:{allowed}"), "no wildcard was given"),
        (format!("*.wild.test:{allowed}"), "a pattern is no name"),
        (format!("allowed.test:{bystander}"), "another port is another server"),
        ("allowed.test:22".to_owned(), "another port is another server"),
        ("allowed.test".to_owned(), "no port is the usual port, which isn't allowed"),
        ("metadata.google.internal:80".to_owned(), unlisted),
    ] {
        all.extend(both(&authority, why));
    }
    let mut known = NAMES.iter().map(|(name, _)| *name).chain(["localhost"]).collect::<Vec<_>>();
    known.dedup();
    for name in known {
        let why = "it is allowed by name, and leads to an address that isn't public";
        let refuse = |trick| Trick { must: Must::Refuse("public"), ..trick };
        all.extend(both(&format!("{name}:{bystander}"), why).map(refuse));
    }
    all
}

/// Addresses are refused before anybody asks whose they are.
fn addresses(targets: &Targets, model: &Recorder) -> Vec<Trick> {
    let port = targets.bystander.port();
    let why = "an address is no name, in whatever spelling";
    let mut all = Vec::new();
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.0.1.",
        "0",
        "0.0.0.0",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0177.0.0.1",
        "0x7f.1",
        "127.0.1.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:0:0:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "::1",
        "[fe80::1%25lo]",
        "[fd00:ec2::254]",
        "169.254.169.254",
        "0xa9fea9fe",
        "10.0.0.1",
        "192.168.255.254",
        "100.64.0.1",
        "1.2.3.4.5",
        "%31%32%37.0.0.1",
        "①②⑦.0.0.1",
        "127。0。0。1",
    ] {
        all.extend(both(&format!("{host}:{port}"), why));
    }
    all.extend(both(&model.address.to_string(), "the model is for the gateway alone"));
    all
}

/// By a tunnel and by a plain request.
fn both(authority: &str, why: &'static str) -> [Trick; 2] {
    let request = format!("GET / HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    [
        tunnel(format!("CONNECT {authority}"), authority, request, Must::Fail, why),
        say(format!("GET http://{authority}/"), get(&format!("http://{authority}/"), authority), Must::Fail, why),
    ]
}

/// Authorities that one parser reads so and another otherwise.
fn spellings(allowed: u16, bystander: u16) -> Vec<Trick> {
    let two = "two parsers could read two hosts in it";
    let mut all = Vec::new();
    for authority in [
        format!("allowed.test@127.0.0.1:{bystander}"),
        format!("allowed.test:{allowed}@127.0.0.1:{bystander}"),
        format!("user:allowed.test@loopback.test:{bystander}"),
        format!("127.0.0.1:{bystander}@allowed.test:{allowed}"),
        format!("allowed.test:{allowed}#@127.0.0.1:{bystander}"),
        format!("allowed.test:{allowed}?@127.0.0.1:{bystander}"),
        format!("allowed.test\\@127.0.0.1:{bystander}"),
        format!("127.0.0.1:{bystander}\\@allowed.test:{allowed}"),
        format!("127.0.0.1:{bystander}%23allowed.test:{allowed}"),
        format!("127.0.0.1%00.allowed.test:{allowed}"),
        format!("allowed.test\0.evil.test:{allowed}"),
        format!("allowed.test\t127.0.0.1:{bystander}"),
        format!("allowed.test%0d%0ahost:%20evil.test:{allowed}"),
        format!("allowed.test\rhost: evil.test:{allowed}"),
        format!("[allowed.test]:{allowed}"),
        format!("allowed。test:{allowed}"),
        format!("xn--.test:{allowed}"),
        format!("allowed..test:{allowed}"),
        format!(".allowed.test:{allowed}"),
        format!("allowed.test:{allowed}:80"),
        format!("allowed.test:+{allowed}"),
        format!("allowed.test: {allowed}"),
        format!("allowed.test:{}", u64::from(allowed) + 65536),
        format!("allowed.test:0x{allowed:x}"),
        format!("allowed.test:-{allowed}"),
        format!(":{allowed}"),
        String::new(),
        format!("{}.test:{allowed}", "a".repeat(300)),
    ] {
        all.extend(both(&authority, two));
    }
    for authority in
        [format!("allowed.test.:{allowed}"), format!("allowed.test:0{allowed}"), format!("allowed%2etest:{allowed}")]
    {
        let why = "the same server in other words, if it is understood at all";
        all.extend(both(&authority, why).map(|trick| Trick { must: Must::StayInBounds, ..trick }));
    }
    all
}

/// Other ways of asking than those of a proxy.
fn forms(allowed: u16, bystander: u16) -> Vec<Trick> {
    let host = format!("allowed.test:{allowed}");
    let get_without_host = |line: &str| format!("{line}\r\nconnection: close\r\n\r\n");
    let mut all = vec![
        say("a path in place of a URL", get("/", &host), Must::Fail, "a proxy is asked for URLs"),
        say(
            "a path, and the bystander as host",
            get("/", &format!("127.0.0.1:{bystander}")),
            Must::Fail,
            "a proxy is asked for URLs",
        ),
        say(
            "a URL that is allowed, and another host",
            get(&format!("http://{host}/"), &format!("127.0.0.1:{bystander}")),
            Must::StayInBounds,
            "the URL counts; the server hears its own name or nothing",
        ),
        say(
            "a URL that isn't allowed, and a host that is",
            get(&format!("http://127.0.0.1:{bystander}/"), &host),
            Must::Fail,
            "the URL counts",
        ),
        say(
            "two hosts",
            format!("GET http://{host}/ HTTP/1.1\r\nhost: {host}\r\nhost: evil.test\r\nconnection: close\r\n\r\n"),
            Must::StayInBounds,
            "one of them, or neither",
        ),
        say(
            "a host by way of a header for proxies",
            format!(
                "GET http://{host}/ HTTP/1.1\r\nhost: {host}\r\nx-forwarded-host: evil.test\r\nproxy-authorization: Basic eDp5\r\nproxy-connection: keep-alive\r\nconnection: close\r\n\r\n"
            ),
            Must::StayInBounds,
            "what is for the proxy ends there",
        ),
        say(
            "a CONNECT to one and a host of another",
            format!("CONNECT 127.0.0.1:{bystander} HTTP/1.1\r\nhost: {host}\r\n\r\n"),
            Must::Fail,
            "the first line counts",
        ),
        say(
            "a CONNECT with a URL",
            format!("CONNECT http://{host}/ HTTP/1.1\r\nhost: {host}\r\n\r\n"),
            Must::Fail,
            "CONNECT takes a host and a port",
        ),
        say(
            "a CONNECT without a port",
            "CONNECT allowed.test HTTP/1.1\r\nhost: allowed.test\r\n\r\n",
            Must::Fail,
            "CONNECT takes a host and a port",
        ),
        say(
            "OPTIONS *",
            format!("OPTIONS * HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"),
            Must::Fail,
            "it names no server",
        ),
        say("HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Must::Fail, "the proxy speaks HTTP/1.1"),
        say("HTTP/0.9", format!("GET http://{host}/\r\n\r\n"), Must::Fail, "the proxy speaks HTTP/1.1"),
        say(
            "HTTP/1.0 and no host",
            get_without_host(&format!("GET http://{host}/ HTTP/1.0")),
            Must::StayInBounds,
            "the URL says enough",
        ),
        say("a TLS client", client_hello("allowed.test"), Must::Fail, "the proxy itself is asked in plain text"),
        say(
            "no end of headers",
            format!("GET http://{host}/ HTTP/1.1\r\n{}", "x: y\r\n".repeat(5_000)),
            Must::Fail,
            "heads are bounded",
        ),
    ];
    for scheme in ["https", "ftp", "file", "gopher", "ws", "unix", "HTTP+unix"] {
        let url = format!("{scheme}://{host}/etc/passwd");
        all.push(say(format!("a URL of {scheme}"), get(&url, &host), Must::Fail, "plain requests are for http"));
    }
    let redirect = format!("http://{host}/redirect");
    all.push(say(
        "a redirect to the bystander",
        get(&redirect, &host),
        Must::Work("302"),
        "the proxy follows nothing: who does asks again, and is refused",
    ));
    all
}

/// Requests that have another one in them.
fn smuggling(allowed: u16, bystander: u16) -> Vec<Trick> {
    let host = format!("allowed.test:{allowed}");
    let why = "the server that is allowed hears one request a connection, and each request is judged by itself";
    let hidden = format!("GET http://127.0.0.1:{bystander}/hidden HTTP/1.1\r\nhost: evil.test\r\n\r\n");
    let post =
        |headers: &str, body: &str| format!("POST http://{host}/ HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n\r\n{body}");
    let length = hidden.len();
    let chunked = format!("0\r\n\r\n{hidden}");
    [
        ("two lengths", post(&format!("content-length: 0\r\ncontent-length: {length}"), &hidden)),
        ("two lengths in one", post(&format!("content-length: 0, {length}"), &hidden)),
        ("a length with a sign", post(&format!("content-length: +{length}"), &hidden)),
        ("a length and chunks", post(&format!("content-length: {}\r\ntransfer-encoding: chunked", chunked.len()), &chunked)),
        ("chunks and a length", post("transfer-encoding: chunked\r\ncontent-length: 5", &chunked)),
        ("chunks, and something else", post("transfer-encoding: chunked, identity", &chunked)),
        ("something else, and chunks", post("transfer-encoding: x\r\ntransfer-encoding: chunked", &chunked)),
        ("chunks in other words", post("transfer-encoding:\x0bchunked\r\ncontent-length: 5", &chunked)),
        ("a chunk of a strange size", post("transfer-encoding: chunked", &format!("0x0\r\n\r\n{hidden}"))),
        ("a chunk with an extension", post("transfer-encoding: chunked", &format!("0;\n{hidden}\r\n\r\n"))),
        ("a header in two lines", post(&format!("x: y\r\n host: evil.test\r\ncontent-length: {length}"), "")),
        ("a header with a blank before its colon", post(&format!("content-length : {length}"), &hidden)),
        ("a bare line feed", format!("GET http://{host}/ HTTP/1.1\nhost: {host}\nx: y\n\n{hidden}")),
        ("a header with a zero byte", post("x: a\0b\r\ncontent-length: 0", &hidden)),
        ("a URL with the end of a line in it", format!("GET http://{host}/%0d%0ahost:%20evil.test HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")),
        ("a URL with a blank in it", format!("GET http://{host}/ HTTP/1.1 HTTP/1.1\r\nhost: {host}\r\n\r\n{hidden}")),
        ("one after the other", format!("GET http://{host}/ HTTP/1.1\r\nhost: {host}\r\n\r\n{hidden}")),
        ("a CONNECT after a GET", format!("GET http://{host}/ HTTP/1.1\r\nhost: {host}\r\n\r\nCONNECT 127.0.0.1:{bystander} HTTP/1.1\r\n\r\n")),
        ("a CONNECT with a body", format!("CONNECT 127.0.0.1:{bystander} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n{hidden}")),
        ("an upgrade", format!("GET http://{host}/ HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n{hidden}")),
        ("headers that take others out", format!("GET http://{host}/ HTTP/1.1\r\nhost: {host}\r\nconnection: close, host\r\n\r\n")),
    ]
    .map(|(what, bytes)| say(what, bytes, Must::StayInBounds, why))
    .into()
}

/// What is said inside of a tunnel that is allowed.
fn tunnels(allowed: u16) -> Vec<Trick> {
    let authority = format!("allowed.test:{allowed}");
    let cut = |what: &str, more: Vec<u8>, why| tunnel(what, &authority, more, Must::Cut, why);
    let request = format!("GET / HTTP/1.1\r\nhost: {authority}\r\n\r\n").into_bytes();
    let mut half = client_hello("allowed.test");
    half.truncate(100);
    half.extend_from_slice(&request.repeat(100));
    let one_of_many = "a server of many names is asked for the one that is allowed, and for no other";
    vec![
        cut("TLS with a server of another name", client_hello("evil.test"), one_of_many),
        cut("TLS with a server below that name", client_hello("a.allowed.test"), one_of_many),
        cut("TLS with an address", client_hello("127.0.0.1"), one_of_many),
        cut("plain text in a tunnel", request, "a tunnel is for TLS"),
        cut(
            "another proxy's language in a tunnel",
            b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n".to_vec(),
            "a tunnel is for TLS",
        ),
        cut("a shell in a tunnel", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "a tunnel is for TLS"),
        cut("the beginning of TLS and something else", half, "a tunnel is for TLS"),
    ]
}

/// The first message of TLS, for a server of this name.
fn client_hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows the usual versions")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = name.to_owned().try_into().expect("a host's name");
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).expect("a connection");
    let mut said = Vec::new();
    connection.write_tls(&mut said).expect("memory takes it");
    said
}
