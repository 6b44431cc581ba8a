//! STUN messages: parse, verify, build; beside `is` (the ICE agent of str0m) and `stun-types`.

use gimlet_peers::Table;
use gimlet_stun::{Class, Key, Message, MessageWriter, Method, TransactionId};
use is::Sha1HmacProvider as _;
use stun_types::attribute::{AttributeType, RawAttribute, Username};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, MessageClass, MessageIntegrityCredentials, MessageType, MessageWrite as _,
    MessageWriteExt as _, MessageWriteMutSlice, ShortTermCredentials,
};

const USERNAME: &str = "evtj:h6vY";
const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";
const PRIORITY: u32 = 0x6e00_01ff;
const TIE_BREAKER: u64 = 0x932f_f9b1_5126_3b36;
const ID: [u8; 12] = *b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae";

fn main() {
    let mut table = Table::new("STUN, per message");
    let plain = binding_success(false);
    let sealed = binding_success(true);
    assert_eq!((plain.len(), sealed.len()), (100, 108));
    parse(&mut table, &plain);
    verify(&mut table, &sealed);
    build(&mut table);
    table.run();
}

/// A binding success with MESSAGE-INTEGRITY, without which `is` does not take one: 100 bytes, or 108 with
/// FINGERPRINT.
fn binding_success(fingerprint: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let sealed = MessageWriter::new(&mut out, Class::Success, Method::BINDING, TransactionId(ID))
        .xor_mapped_address("192.0.2.1:32853".parse().expect("an address"))
        .software("forty characters of who has sent this ..")
        .integrity(&Key::short_term(PASSWORD.as_bytes()));
    if fingerprint { sealed.fingerprint().to_vec() } else { sealed.finish().to_vec() }
}

fn parse(table: &mut Table, bytes: &[u8]) {
    const WORK: &str = "parse a 100-byte binding success, read the mapped address";
    let message = bytes.to_vec();
    table.row(WORK, "gimlet", 1, move || Message::parse(&message).expect("valid").xor_mapped_address());
    let message = bytes.to_vec();
    table.row(WORK, "is", 1, move || is::stun::StunMessage::parse(&message).expect("valid").mapped_address());
    let message = bytes.to_vec();
    table.row(WORK, "stun-types", 1, move || {
        let message = stun_types::message::Message::from_bytes(&message).expect("valid");
        message
            .attribute::<stun_types::attribute::XorMappedAddress>()
            .map(|found| found.addr(message.transaction_id()))
            .ok()
    });
}

fn sha1_hmac(key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
    is::DefaultSha1HmacProvider.sha1_hmac(key, payloads)
}

fn verify(table: &mut Table, bytes: &[u8]) {
    const WORK: &str = "parse 108 bytes, verify MESSAGE-INTEGRITY and FINGERPRINT";
    let (message, key) = (bytes.to_vec(), Key::short_term(PASSWORD.as_bytes()));
    table.row(WORK, "gimlet", 1, move || {
        Message::parse(&message).expect("valid").verify(&key).expect("authentic")
    });
    let message = bytes.to_vec();
    table.row(WORK, "is (does not check FINGERPRINT)", 1, move || {
        let message = is::stun::StunMessage::parse(&message).expect("valid");
        assert!(message.verify(PASSWORD.as_bytes(), sha1_hmac));
    });
    let (message, key) = (bytes.to_vec(), ShortTermCredentials::new(PASSWORD.to_owned()).make_key());
    table.row(WORK, "stun-types", 1, move || {
        let message = stun_types::message::Message::from_bytes(&message).expect("valid");
        message.validate_integrity_with_key(&key).expect("authentic")
    });
}

fn build(table: &mut Table) {
    const WORK: &str = "build a binding request (USERNAME, PRIORITY, role, MESSAGE-INTEGRITY, FINGERPRINT)";
    let (mut out, key) = (Vec::with_capacity(256), Key::short_term(PASSWORD.as_bytes()));
    table.row(WORK, "gimlet", 1, move || {
        out.clear();
        MessageWriter::new(&mut out, Class::Request, Method::BINDING, TransactionId(ID))
            .username(USERNAME.as_bytes())
            .priority(PRIORITY)
            .ice_controlling(TIE_BREAKER)
            .integrity(&key)
            .fingerprint()
            .len()
    });
    let (mut out, id) = ([0; 256], is::stun::TransId::new());
    table.row(WORK, "is", 1, move || {
        let request =
            is::stun::StunMessage::binding_request(USERNAME, id, true, TIE_BREAKER, PRIORITY, false);
        request.to_bytes(Some(PASSWORD.as_bytes()), &mut out, sha1_hmac).expect("room")
    });
    let mut out = [0; 256];
    let credentials = MessageIntegrityCredentials::from(ShortTermCredentials::new(PASSWORD.to_owned()));
    let key = credentials.make_key(IntegrityAlgorithm::Sha1);
    table.row(WORK, "stun-types", 1, move || {
        let kind = MessageType::from_class_method(MessageClass::Request, BINDING);
        let mut request =
            stun_types::message::Message::builder(kind, 7.into(), MessageWriteMutSlice::new(&mut out));
        let username = Username::new(USERNAME).expect("short");
        let (priority, role) = (PRIORITY.to_be_bytes(), TIE_BREAKER.to_be_bytes());
        request.add_attribute(&username).expect("room");
        request.add_attribute(&RawAttribute::new(AttributeType::new(0x0024), &priority)).expect("room");
        request.add_attribute(&RawAttribute::new(AttributeType::new(0x802a), &role)).expect("room");
        request.add_message_integrity_with_key(&key, IntegrityAlgorithm::Sha1).expect("room");
        request.add_fingerprint().expect("room");
        request.finish()
    });
}
