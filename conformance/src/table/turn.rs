//! TURN clients under judgement, and a server written by hand.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use data_encoding::HEXLOWER;
use gimlet_machine::{Buf, FourTuple, Input, Instant, Machine, Path, Rng, Verdict};
use gimlet_stun::{AddressFamily, Class, Key, Message, MessageWriter, Method, PasswordAlgorithm};
use gimlet_testkit::Checked;
use gimlet_turn::{Client, ClientConfig, ClientEvent, Families, LongTerm};
use stun_proto::agent::Transmit;
use stun_proto::types::TransportType;
use stun_proto::types::message::IntegrityAlgorithm;
use turn_client_proto::api::{TurnClientApi, TurnConfig, TurnEvent, TurnPollRet, TurnRecvRet};
use turn_client_proto::types::TurnCredentials;
use turn_client_proto::udp::TurnClientUdp;

use super::desk::{Transcript, address};
use super::{Bench, Finding, Implementation, ensure, wire};

pub(crate) const USERNAME: &str = "alice";
pub(crate) const PASSWORD: &str = "her password";
pub(crate) const REALM: &str = "home";
pub(crate) const SERVER: &str = "192.0.2.1:3478";
pub(crate) const RELAYED: &str = "192.0.2.1:50000";
const CLIENT: &str = "10.0.0.2:5000";
const MAPPED: &str = "198.51.100.7:61000";
/// How often a client may wake at one instant before the judge calls it a livelock.
const WAKES_MAX: usize = 10_000;

/// A TURN client under judgement. It asks for an allocation from the beginning.
pub(crate) trait Relaying {
    fn permit(&mut self, now: Duration, peer: IpAddr) -> Result<(), String>;
    fn bind_channel(&mut self, now: Duration, peer: SocketAddr) -> Result<(), String>;
    /// A datagram from the server, or from elsewhere; returns what a peer said in it.
    fn hear(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>>;
    fn wake(&mut self, now: Duration);
    fn deadline(&mut self, now: Duration) -> Option<Duration>;
    fn transmit(&mut self, now: Duration) -> Option<(SocketAddr, Vec<u8>)>;
    fn event(&mut self) -> Option<String>;
    fn relayed(&self) -> Vec<SocketAddr>;
}

struct Ours(Checked<Client>);

/// A client whose socket is not connected to anything: the canary.
struct Deaf;

impl Relaying for Deaf {
    fn permit(&mut self, _now: Duration, _peer: IpAddr) -> Result<(), String> {
        Ok(())
    }

    fn bind_channel(&mut self, _now: Duration, _peer: SocketAddr) -> Result<(), String> {
        Ok(())
    }

    fn hear(&mut self, _now: Duration, _from: SocketAddr, _bytes: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn wake(&mut self, _now: Duration) {}

    fn deadline(&mut self, _now: Duration) -> Option<Duration> {
        None
    }

    fn transmit(&mut self, _now: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        None
    }

    fn event(&mut self) -> Option<String> {
        None
    }

    fn relayed(&self) -> Vec<SocketAddr> {
        Vec::new()
    }
}

fn at(now: Duration) -> Instant {
    Instant::from_nanos(now.as_nanos() as u64)
}

impl Ours {
    fn new(families: Families) -> Result<Self, Finding> {
        let credentials = LongTerm::new(USERNAME.as_bytes(), PASSWORD.as_bytes())
            .ok_or_else(|| Finding::fails("the credentials are refused".into()))?;
        let flow = FourTuple::new(address(CLIENT), address(SERVER));
        let mut client = Client::new(Rng::from_u64(7), flow, credentials, ClientConfig::default());
        client
            .allocate(Instant::ZERO, families)
            .map_err(|error| Finding::fails(format!("allocate: {error:?}")))?;
        Ok(Self(Checked::new(client)))
    }
}

impl Relaying for Ours {
    fn permit(&mut self, now: Duration, peer: IpAddr) -> Result<(), String> {
        self.0.command(at(now), |client| client.permit(at(now), peer)).map_err(|error| format!("{error:?}"))
    }

    fn bind_channel(&mut self, now: Duration, peer: SocketAddr) -> Result<(), String> {
        let bound = self.0.command(at(now), |client| client.bind_channel(at(now), peer));
        bound.map(drop).map_err(|error| format!("{error:?}"))
    }

    fn hear(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        let path = Path::Direct(FourTuple::new(address(CLIENT), from));
        let mut bytes = bytes.to_vec();
        match self.0.handle_input(at(now), Input::new(path, &mut bytes)) {
            Verdict::Pass { range, .. } => bytes.get(range).map(<[u8]>::to_vec),
            Verdict::Consumed | Verdict::NotMine => None,
        }
    }

    fn wake(&mut self, now: Duration) {
        self.0.handle_timeout(at(now));
    }

    fn deadline(&mut self, _now: Duration) -> Option<Duration> {
        self.0.poll_timeout().map(|deadline| Duration::from_nanos(deadline.at.as_nanos()))
    }

    fn transmit(&mut self, now: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        let mut storage = Vec::new();
        let transmit = self.0.poll_transmit(at(now), &mut Buf::new(&mut storage))?;
        Some((transmit.path.on_wire().remote, storage))
    }

    fn event(&mut self) -> Option<String> {
        self.0.poll_event().map(|event: ClientEvent| format!("{event:?}"))
    }

    fn relayed(&self) -> Vec<SocketAddr> {
        let families = [AddressFamily::V4, AddressFamily::V6];
        families.into_iter().filter_map(|family| self.0.inner().relayed(family)).collect()
    }
}

/// turn-client-proto, which is rice-proto's TURN client.
struct Theirs {
    client: TurnClientUdp,
    wait: Option<Duration>,
    events: VecDeque<TurnEvent>,
}

fn theirs(now: Duration) -> stun_proto::Instant {
    stun_proto::Instant::from_nanos(now.as_nanos() as i64 + 1_000_000_000)
}

impl Theirs {
    fn new(families: Families) -> Self {
        let mut config = TurnConfig::new(TurnCredentials::new(USERNAME, PASSWORD));
        config.add_supported_integrity(IntegrityAlgorithm::Sha256);
        if matches!(families, Families::Both) {
            config.add_address_family(stun_proto::types::AddressFamily::IPV6);
        }
        let client = TurnClientUdp::allocate(address(CLIENT), address(SERVER), config);
        let mut theirs = Self { client, wait: None, events: VecDeque::new() };
        theirs.poll(Duration::ZERO);
        theirs
    }

    fn poll(&mut self, now: Duration) {
        self.wait = match self.client.poll(theirs(now)) {
            TurnPollRet::WaitUntil(until) => {
                let nanos = until.as_nanos().max(0).cast_unsigned();
                Some(Duration::from_nanos(nanos).saturating_sub(Duration::from_secs(1)))
            }
            TurnPollRet::AllocateTcpSocket { .. } | TurnPollRet::TcpClose { .. } | TurnPollRet::Closed => {
                None
            }
        };
        self.events.extend(std::iter::from_fn(|| self.client.poll_event()));
    }
}

impl Relaying for Theirs {
    fn permit(&mut self, now: Duration, peer: IpAddr) -> Result<(), String> {
        let made = self.client.create_permission(TransportType::Udp, peer, theirs(now));
        self.poll(now);
        made.map_err(|error| format!("{error:?}"))
    }

    fn bind_channel(&mut self, now: Duration, peer: SocketAddr) -> Result<(), String> {
        let bound = self.client.bind_channel(TransportType::Udp, peer, theirs(now));
        self.poll(now);
        bound.map_err(|error| format!("{error:?}"))
    }

    fn hear(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        let transmit = Transmit::new(bytes.to_vec(), TransportType::Udp, from, address(CLIENT));
        let data = match self.client.recv(transmit, theirs(now)) {
            TurnRecvRet::PeerData(data) => Some(data.data().to_vec()),
            TurnRecvRet::Handled | TurnRecvRet::Ignored(_) | TurnRecvRet::PeerIcmp { .. } => None,
        };
        self.poll(now);
        data
    }

    fn wake(&mut self, now: Duration) {
        self.poll(now);
    }

    fn deadline(&mut self, now: Duration) -> Option<Duration> {
        self.wait.map(|wait| if wait <= now { now + Duration::from_millis(1) } else { wait })
    }

    fn transmit(&mut self, now: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        let transmit = self.client.poll_transmit(theirs(now))?;
        Some((transmit.to, transmit.data.as_ref().to_vec()))
    }

    fn event(&mut self) -> Option<String> {
        self.events.pop_front().map(|event| format!("{event:?}"))
    }

    fn relayed(&self) -> Vec<SocketAddr> {
        self.client.relayed_addresses().map(|(_, address)| address).collect()
    }
}

/// A request that the client sent.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) at: Duration,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Asked {
    /// # Panics
    ///
    /// If what was sent is no STUN message, which is a failure of the case.
    pub(crate) fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).unwrap_or_else(|error| panic!("it sent what is not STUN: {error}"))
    }
}

/// A client, the server's part played by hand, and a clock that the judge owns.
pub(crate) struct Counter {
    pub(crate) client: Box<dyn Relaying>,
    pub(crate) now: Duration,
    pub(crate) asked: VecDeque<Asked>,
    pub(crate) told: Vec<String>,
    transcript: Transcript,
}

/// What a server of the time of RFC 5389 knows: MD5 and SHA-1.
pub(crate) fn key() -> Key {
    let (name, realm, password) = (USERNAME.as_bytes(), REALM.as_bytes(), PASSWORD.as_bytes());
    Key::long_term(name, realm, password, PasswordAlgorithm::Md5)
}

impl Counter {
    pub(crate) fn open(bench: &Bench, families: Families) -> Result<Self, Finding> {
        let client: Box<dyn Relaying> = match bench.who {
            Implementation::Gimlet => Box::new(Ours::new(families)?),
            Implementation::Deaf => Box::new(Deaf),
            Implementation::RiceProto => Box::new(Theirs::new(families)),
            Implementation::Is => return Err(Finding::not_applicable("`is` has no TURN client")),
        };
        let transcript = bench.transcript.clone();
        transcript.add(|| format!("a new TURN client: {USERNAME}, `{PASSWORD}`, server {SERVER}"));
        let mut counter =
            Self { client, now: Duration::ZERO, asked: VecDeque::new(), told: Vec::new(), transcript };
        counter.drain();
        Ok(counter)
    }

    /// With an allocation of ten minutes.
    pub(crate) fn allocated(bench: &Bench) -> Result<Self, Finding> {
        let mut counter = Self::challenged(bench, Families::V4)?;
        let request = counter.next(Method::ALLOCATE)?;
        counter.grant(&request);
        ensure!(counter.client.relayed() == [address(RELAYED)], "it has no allocation after a success");
        Ok(counter)
    }

    /// With a challenge that it is about to answer.
    pub(crate) fn challenged(bench: &Bench, families: Families) -> Result<Self, Finding> {
        let mut counter = Self::open(bench, families)?;
        let first = counter.next(Method::ALLOCATE)?;
        counter.challenge(&first, 401, b"one");
        Ok(counter)
    }

    fn log(&self, text: impl FnOnce() -> String) {
        let now = self.now;
        self.transcript.add(|| format!("t={:.3} s  {}", now.as_secs_f64(), text()));
    }

    pub(crate) fn drain(&mut self) {
        loop {
            let mut quiet = true;
            while let Some(event) = self.client.event() {
                self.log(|| format!("event: {event}"));
                self.told.push(event);
                quiet = false;
            }
            while let Some((to, bytes)) = self.client.transmit(self.now) {
                self.log(|| {
                    let method = Message::parse(&bytes).map(|message| message.method());
                    format!("out to {to}: {method:?} {}: {}", wire::describe(&bytes), HEXLOWER.encode(&bytes))
                });
                self.asked.push_back(Asked { at: self.now, to, bytes });
                quiet = false;
            }
            if quiet {
                return;
            }
        }
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.wait_until(self.now + Duration::from_secs(seconds));
    }

    fn wait_until(&mut self, end: Duration) {
        let mut wakes = 0;
        while let Some(deadline) = self.client.deadline(self.now).filter(|deadline| *deadline <= end) {
            wakes = if deadline <= self.now { wakes + 1 } else { 0 };
            assert!(wakes < WAKES_MAX, "it asks to be woken at {:?} again and again", self.now);
            self.now = self.now.max(deadline);
            self.client.wake(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// The next request of `method`, within ten minutes; what else is asked meanwhile is answered well.
    pub(crate) fn next(&mut self, method: Method) -> Result<Asked, Finding> {
        let patience = self.now + Duration::from_secs(600);
        loop {
            while let Some(asked) = self.asked.pop_front() {
                if asked.message().method() == method {
                    return Ok(asked);
                }
                self.grant(&asked);
            }
            if self.now >= patience {
                return Err(Finding::fails(format!("{method:?} is not asked for within ten minutes")));
            }
            // To when it wants to be woken and no further: an answer has to come before a retransmission.
            let pause = self.now + Duration::from_secs(10);
            let next = self.client.deadline(self.now).unwrap_or(pause).min(pause);
            self.wait_until(next.max(self.now + Duration::from_millis(1)));
        }
    }

    pub(crate) fn hear(&mut self, from: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
        self.log(|| format!("in from {from}: {}: {}", wire::describe(bytes), HEXLOWER.encode(bytes)));
        let data = self.client.hear(self.now, from, bytes);
        if let Some(data) = &data {
            self.log(|| format!("data of a peer: {}", HEXLOWER.encode(data)));
        }
        self.drain();
        data
    }

    /// The server answers a request, with a signature if there is a key.
    pub(crate) fn answer(
        &mut self,
        request: &Asked,
        class: Class,
        sign: Option<&Key>,
        write: impl FnOnce(MessageWriter<'_>) -> MessageWriter<'_>,
    ) {
        let message = request.message();
        let mut out = Vec::new();
        let writer = write(MessageWriter::new(&mut out, class, message.method(), message.transaction_id()));
        match sign {
            Some(key) => writer.integrity(key).finish(),
            None => writer.finish(),
        };
        self.hear(request.to, &out);
    }

    /// 401 or 438 with this nonce.
    pub(crate) fn challenge(&mut self, request: &Asked, code: u16, nonce: &[u8]) {
        self.answer(request, Class::Error, None, |writer| {
            writer.error_code(code, "").realm(REALM.as_bytes()).nonce(nonce)
        });
    }

    pub(crate) fn refuse(&mut self, request: &Asked, code: u16) {
        self.answer(request, Class::Error, Some(&key()), |writer| writer.error_code(code, "no"));
    }

    /// Success with whatever the method asks for; ten minutes.
    pub(crate) fn grant(&mut self, request: &Asked) {
        self.grant_for(request, 600);
    }

    pub(crate) fn grant_for(&mut self, request: &Asked, seconds: u64) {
        let (method, lifetime) = (request.message().method(), Duration::from_secs(seconds));
        self.answer(request, Class::Success, Some(&key()), |writer| {
            if method == Method::ALLOCATE {
                let writer = writer.xor_relayed_address(address(RELAYED));
                writer.xor_mapped_address(address(MAPPED)).lifetime(lifetime)
            } else if method == Method::REFRESH {
                writer.lifetime(lifetime)
            } else {
                writer
            }
        });
    }
}
