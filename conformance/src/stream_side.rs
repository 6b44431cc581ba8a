//! The half of a test server that listens for TCP, and on port 443 for TLS. What comes out of a stream is given to
//! the server as if it had been a datagram, and what the server says is framed (RFC 8656 §12.5).

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read as _, Write as _};
use std::sync::Arc;

use gimlet_machine::{Answer, FourTuple, Request, Rng, SocketId};
use gimlet_sim::seeded_provider;
use gimlet_stun::{Frame, Framer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

/// A certificate for relay.example and 127.0.0.1, signed by itself, and its key. Good from 2020 to 2119.
pub const PEM: &[u8] = include_bytes!("../../core/node/src/relay_stream/relay.example.pem");

/// Where TLS is spoken.
const TLS_PORT: u16 = 443;

/// The connections of one server.
#[derive(Debug)]
pub(crate) struct StreamSide {
    tls: Arc<ServerConfig>,
    streams: BTreeMap<FourTuple, Stream>,
    requests: VecDeque<Request>,
}

#[derive(Debug)]
struct Stream {
    id: SocketId,
    framer: Framer,
    tls: Option<ServerConnection>,
}

impl StreamSide {
    pub(crate) fn new(rng: &Rng) -> Self {
        let certificate = CertificateDer::from_pem_slice(PEM).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(PEM).expect("its key");
        let tls = ServerConfig::builder_with_provider(seeded_provider(rng.fork("tls")))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider has TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key);
        let mut tls = tls.expect("the key fits");
        tls.send_tls13_tickets = 0;
        Self { tls: Arc::new(tls), streams: BTreeMap::new(), requests: VecDeque::new() }
    }

    /// What the server is to hear, each with the flow that it came on.
    pub(crate) fn handle_answer(&mut self, answer: Answer<'_>) -> Vec<(FourTuple, Vec<u8>)> {
        let flow_of = |id| self.streams.iter().find(|(_, it)| it.id == id).map(|(flow, _)| *flow);
        match answer {
            Answer::Connected { id, flow } => {
                let tls = (flow.local.port() == TLS_PORT).then(|| {
                    ServerConnection::new(Arc::clone(&self.tls)).expect("the configuration is complete")
                });
                self.streams.insert(flow, Stream { id, framer: Framer::new(), tls });
                Vec::new()
            }
            Answer::Received { id, bytes } => {
                let Some(flow) = flow_of(id) else { return Vec::new() };
                let stream = self.streams.get_mut(&flow).expect("it was found");
                let (said, back) = stream.hear(bytes);
                self.write(id, back);
                said.into_iter().map(|frame| (flow, frame)).collect()
            }
            Answer::Closed { id, .. } => {
                self.streams.retain(|_, stream| stream.id != id);
                Vec::new()
            }
            Answer::Bound { .. } | Answer::Written { .. } => Vec::new(),
        }
    }

    /// Sends what the server said, if it is for one of our streams.
    pub(crate) fn send(&mut self, flow: FourTuple, datagram: &[u8]) -> bool {
        let Some(stream) = self.streams.get_mut(&flow) else { return false };
        let mut frame = datagram.to_vec();
        frame.resize(frame.len().next_multiple_of(4), 0);
        let (id, bytes) = (stream.id, stream.seal(frame));
        self.write(id, bytes);
        true
    }

    fn write(&mut self, id: SocketId, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.requests.push_back(Request::Write { id, bytes: bytes.into() });
        }
    }

    pub(crate) fn poll_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }
}

impl Stream {
    /// The frames that end in `bytes`, as datagrams, and what TLS has to say to that.
    fn hear(&mut self, bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let (mut plain, mut back) = (bytes.to_vec(), Vec::new());
        if let Some(tls) = &mut self.tls {
            plain.clear();
            let mut rest = bytes;
            while !rest.is_empty() {
                tls.read_tls(&mut rest).expect("there is room");
                if let Ok(state) = tls.process_new_packets() {
                    let from = plain.len();
                    plain.resize(from + state.plaintext_bytes_to_read(), 0);
                    tls.reader().read_exact(&mut plain[from..]).expect("it was announced");
                }
            }
            back = flush(tls);
        }
        let (mut rest, mut frames) = (&plain[..], Vec::new());
        loop {
            match self.framer.poll(&mut rest).expect("our client frames well") {
                Some(Frame::Message(message)) => frames.push(message.to_vec()),
                Some(Frame::ChannelData(data)) => {
                    let mut datagram = Vec::new();
                    data.write(&mut datagram);
                    frames.push(datagram);
                }
                None => return (frames, back),
            }
        }
    }

    fn seal(&mut self, frame: Vec<u8>) -> Vec<u8> {
        let Some(tls) = &mut self.tls else { return frame };
        tls.writer().write_all(&frame).expect("a frame is short");
        flush(tls)
    }
}

fn flush(tls: &mut ServerConnection) -> Vec<u8> {
    let mut out = Vec::new();
    while tls.wants_write() {
        tls.write_tls(&mut out).expect("memory takes it");
    }
    out
}
