//! quinn as its documentation shows it, on two single-threaded runtimes.

use std::sync::Arc;

use quinn::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig};

use crate::{Sample, Watch};

const CHUNK: usize = 256 * 1024;

/// Sends `bytes` one way on one stream.
pub fn bulk(bytes: u64) -> Sample {
    transfer(move |connection| async move {
        let mut stream = connection.open_uni().await.expect("a stream");
        let chunk = vec![7; CHUNK];
        for _ in 0..bytes / CHUNK as u64 {
            stream.write_all(&chunk).await.expect("written");
        }
        finish(stream).await;
    })
}

/// Sends `count` messages of 64 bytes, one write each.
pub fn messages(count: u64) -> Sample {
    batches(count / 20, 1)
}

/// The same, 256 in a write, as an application could do by itself.
pub fn batched_messages(count: u64) -> Sample {
    batches(count, 256)
}

fn batches(count: u64, batch: u64) -> Sample {
    let sample = transfer(move |connection| async move {
        let mut stream = connection.open_uni().await.expect("a stream");
        let chunk = vec![7; 68 * batch as usize];
        for _ in 0..count / batch {
            stream.write_all(&chunk).await.expect("written");
        }
        finish(stream).await;
    });
    // One write per message is slow: a twentieth of the messages is sent, and scaled up.
    let scale = if batch == 1 { 20 } else { 1 };
    Sample { wall: sample.wall * scale, cpu: sample.cpu * scale }
}

async fn finish(mut stream: quinn::SendStream) {
    stream.finish().expect("still open");
    stream.stopped().await.expect("acknowledged");
}

/// A message of 64 bytes there and back, `count` times.
pub fn ping(count: u64) -> Sample {
    run(
        |connection| async move {
            let (mut send, mut receive) = connection.accept_bi().await.expect("a stream");
            let mut message = [0; 64];
            while receive.read_exact(&mut message).await.is_ok() {
                send.write_all(&message).await.expect("written");
            }
        },
        move |connection| async move {
            let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
            let mut message = [7; 64];
            for _ in 0..count {
                send.write_all(&message).await.expect("written");
                receive.read_exact(&mut message).await.expect("answered");
            }
        },
    )
}

fn transfer<F: Future<Output = ()>>(client: impl FnOnce(Connection) -> F) -> Sample {
    let sink = |connection: Connection| async move {
        let mut stream = connection.accept_uni().await.expect("a stream");
        while stream.read_chunk(usize::MAX, true).await.expect("read").is_some() {}
        connection.closed().await;
    };
    run(sink, client)
}

fn run<S, C>(server: impl FnOnce(Connection) -> S + Send + 'static, client: impl FnOnce(Connection) -> C) -> Sample
where
    S: Future<Output = ()>,
    C: Future<Output = ()>,
{
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    let certificate: CertificateDer<'static> = certified.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let (tell, told) = std::sync::mpsc::channel();
    let trusted = certificate.clone();
    let thread = std::thread::spawn(move || {
        runtime().block_on(async {
            let config = ServerConfig::with_single_cert(vec![certificate], key.into()).expect("a configuration");
            let endpoint = Endpoint::server(config, "127.0.0.1:0".parse().expect("an address")).expect("a socket");
            tell.send(endpoint.local_addr().expect("bound")).expect("the client waits");
            let connection = endpoint.accept().await.expect("a client").await.expect("a connection");
            server(connection).await;
            endpoint.wait_idle().await;
        });
    });
    let address = told.recv().expect("the server is up");
    let sample = runtime().block_on(async {
        let mut roots = quinn::rustls::RootCertStore::empty();
        roots.add(trusted).expect("a good certificate");
        let mut endpoint = Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("a socket");
        endpoint.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots)).expect("roots"));
        let connection = endpoint.connect(address, "localhost").expect("a name").await.expect("a connection");
        let watch = Watch::start();
        client(connection.clone()).await;
        let sample = watch.stop();
        connection.close(0u32.into(), b"");
        endpoint.wait_idle().await;
        sample
    });
    thread.join().expect("the server ends well");
    sample
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
