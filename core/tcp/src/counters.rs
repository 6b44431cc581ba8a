//! What became of everything.

use gimlet_machine::counters;

counters! {
    /// What a translator did, and with what it did nothing. Frames of no interest are not counted.
    pub struct Counters {
        /// Segments that passed with their numbers changed.
        translated,
        /// Frames that passed untouched because they cannot be read.
        malformed,
        /// Segments that passed untouched because their first fragment holds no whole header (RFC 3128), or
        /// because they are SYNs in fragments.
        fragments,
        /// ICMP errors whose quote was translated.
        quotes_translated,
        /// ICMP errors that passed untouched because their quote is of no known flow.
        quotes_unknown,
        /// ICMP errors that were dropped: their quote is of a handshake that they cannot be about.
        quotes_implausible,
        /// Segments of flows that nobody knows, which passed.
        unknown_passed,
        /// Segments of flows that nobody knows, whose ends were sent a RST.
        unknown_reset,

        /// SYNs that were answered.
        spoofed,
        /// Repeated SYNs that were answered again.
        respoofed,
        /// SYN-ACKs sent again because the client was silent.
        syn_acks_resent,
        /// SYNs sent again because the server was silent.
        syns_resent,
        /// Handshakes that joined both spaces.
        established,
        /// Handshakes that failed.
        aborted,
        /// Server answers that were learned.
        learned,

        /// SYNs that passed: to no allowed destination, or from no known client.
        not_allowed,
        /// SYNs that passed: the destination is not warm.
        cold,
        /// SYNs that passed: the destination is left alone for a while.
        unfit,
        /// SYNs that passed: data, options, or headers that are not answered for.
        unusual,
        /// SYNs that passed: a wrong checksum.
        bad_checksum,
        /// SYNs that passed: their source uses up its share.
        rate_limited,
        /// SYNs that passed: all handshakes, flows or early data that there may be are there.
        overload,
        /// SYNs that passed: an earlier one could not be remembered, and a repetition must not be answered.
        quiet,
        /// SYNs that passed: the owner drains.
        draining,
        /// SYNs that passed in the middle of a flow.
        reopened,

        /// Bytes of early data that were held.
        held,
        /// Bytes of early data that were held already.
        held_again,
        /// Bytes of early data that contradicted the first copy, which stays.
        conflicting,
        /// Bytes of early data beyond the window or the pool. Their client sends them again.
        refused,
        /// Frames with early data, sent on.
        flushed,
        /// Bytes of early data let go because the server's window did not open in time.
        let_go,

        /// Dropped: a client's segment that acknowledges what was never sent.
        bad_acknowledgement,
        /// Dropped: a client's segment with a number outside the window.
        out_of_window,
        /// Dropped: a client's first segment whose cookie is wrong.
        bad_cookie,
        /// Dropped: a RST that hits no number that it has to hit (RFC 5961).
        blind_resets,
        /// Dropped: a server's segment that has no place in a handshake.
        early_from_server,
        /// Dropped: a SYN from a server while it is to answer one.
        simultaneous,
        /// Dropped: a repeated SYN-ACK, which the client must not see.
        repeated_syn_acks,
        /// Repeated SYNs, of handshakes and of flows.
        repeated_syns,
        /// Dropped: a segment larger than what the server takes; the client was told the size.
        too_large,
        /// Dropped: something sent to a flow that failed; whoever sent it was told so.
        after_abort,

        /// RSTs sent to clients.
        resets_to_client,
        /// RSTs sent to servers.
        resets_to_server,
        /// Handshake acknowledgements repeated because the server did not get one.
        acknowledged_again,
        /// Data that went along with a SYN (Fast Open), and was taken.
        fast_opened,
        /// Data that went along with a SYN (Fast Open), and was not taken.
        fast_open_refused,
        /// First data that came before its SYN, which was made up from the cookie.
        syns_made_up,
        /// How often the table changed its secret because flows crowded in it.
        table_reseeded,
        /// Flows that found no place when it did.
        flows_lost,
        /// Slots that were damaged and have been discarded.
        slots_discarded,
        /// Frames to be sent that did not fit the queue.
        outbox_full,
        /// Events that nobody polled.
        events_lost,
    }
}
