//! Cases 52 to 64: relays, NATs and punching. They need servers and networks, and have tests of their own.

use super::Case;

const NO_TURN: (&str, &str) = (
    "`is` has no TURN client",
    "rice-proto leaves TURN to turn-client-proto, another crate with another interface",
);
const NO_DISCOVERY: (&str, &str) =
    ("`is` has no NAT behaviour discovery", "rice-proto has no NAT behaviour discovery");
const NO_PUNCH: (&str, &str) = (
    "`is` has no punching stage and no gathering: it knows nothing of NATs",
    "rice-proto has no punching stage: it knows nothing of its NAT",
);

pub(crate) const CASES: &[Case] = &[
    Case::named(52, "allocations of two families", "RFC 8656 §7", NO_TURN)
        .given(
            "Allocate with ADDITIONAL-ADDRESS-FAMILY; an answer with one family and ADDRESS-ERROR-CODE 440",
        )
        .requires("both are asked for in one request, and one will do"),
    Case::named(53, "refresh and release", "RFC 8656 §8", NO_TURN)
        .given("an allocation over its lifetime; a success that comes after its end; a release")
        .requires("refreshed a minute early; nothing is revived, another is asked for; LIFETIME 0"),
    Case::named(54, "permissions and channels", "RFC 8656 §9, §12", NO_TURN)
        .given("peers permitted and bound for hours; channels let go and asked for again")
        .requires(
            "refreshed with margin; numbers 0x4000 to 0x4FFF; five minutes of rest for number and peer",
        ),
    Case::named(55, "data that nobody asked for", "RFC 8656 §11, §12.6", NO_TURN)
        .given("ChannelData with an unknown number, cut short, from elsewhere; Data without a permission")
        .requires("dropped"),
    Case::named(56, "437 on anything", "RFC 8656 §6-§9", NO_TURN)
        .given("437 to Refresh, CreatePermission and ChannelBind; a server that starts again")
        .requires("everything comes back, once"),
    Case::named(57, "a symmetric peer reaches our relay", "RFC 8445 §7.3.1.3, RFC 8656 §11", NO_TURN)
        .given("a peer without TURN whose NAT picks another port for the relay")
        .requires("peer-reflexive through the relay, and connected"),
    Case::named(58, "the NAT forgets the way to the server", "RFC 8656 §3.7", NO_TURN)
        .given("an idle allocation whose NAT binding changes")
        .requires("noticed within 30 s and allocated anew"),
    Case::named(59, "three mappings times three filterings", "RFC 5780 §4.3-4.4", NO_DISCOVERY)
        .given("nine simulated NATs, without and with 10 % loss")
        .requires("all told right; with loss right or unknown, never wrong"),
    Case::named(60, "servers that lie or cannot", "RFC 5780 §7.4, §7.2", NO_DISCOVERY)
        .given("OTHER-ADDRESS on the server's own address; answers from where they were not asked for")
        .requires("filtering is unknown; such answers count for nothing"),
    Case::named(61, "every pair of edges", "RFC 4787 §4-§5", NO_PUNCH)
        .given("{open, three mappings} times {three filterings} on both sides, with and without a relay")
        .requires("with a relay all connect; without, those that an oracle calls possible"),
    Case::named(62, "one hard side", "RFC 4787 §4.1", NO_PUNCH)
        .given("300 seeds against a full-range, a block and a sequential symmetric NAT")
        .requires("97 % within 1024 probes and 6 s; 99 % within 128 probes; within 32 probes"),
    Case::named(63, "a victim's address", "RFC 8445 §19.5.1", NO_PUNCH)
        .given("a peer that names somebody else's address; 24 hours of retries")
        .requires("not one probe there; budget and rate are never exceeded"),
    Case::named(64, "a NAT that clashes", "RFC 4787 §4.1", NO_PUNCH)
        .given("a NAT that remaps a port on which something came in first")
        .requires("connected by the second round"),
];
