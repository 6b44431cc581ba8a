//! What the agent did with datagrams, and what it had to drop.

gimlet_machine::counters! {
    /// Counts since the agent was made. All from `malformed` on are drops or refusals.
    pub struct IceCounters {
        /// Checks sent, retransmissions not included.
        checks_sent,
        /// Retransmissions of checks.
        retransmissions,
        /// Requests answered with success.
        requests_answered,
        /// Checks of ours answered with success.
        checks_answered,
        /// Requests for consent, and probes of the path in use.
        consent_requests,
        /// Answers that were late on the path in use.
        probes_missed,
        /// Changes of the selected path after the first selection.
        moves,
        /// Probes of a punch.
        probes_sent,
        /// Answers to probes of a punch.
        probes_answered,
        /// Hits for which a punch stopped.
        hits,
        /// Looked like STUN and was not (RFC 8489 §5, §14.7).
        malformed,
        /// Indications on a path of ours: they only keep NATs open.
        indications,
        /// Requests to us without an integrity attribute.
        requests_unsigned,
        /// Requests to us signed with another password.
        requests_forged,
        /// Authenticated requests refused with 400 or 420.
        requests_refused,
        /// Authenticated requests refused with 487 (RFC 8445 §7.3.1.1).
        role_conflicts_refused,
        /// Requests from somebody who has our password and is not the peer we were told of.
        requests_from_strangers,
        /// Requests on a socket that is no base of a candidate, remembered until it is.
        unknown_bases,
        /// Requests forgotten before the peer's credentials arrived.
        early_requests_forgotten,
        /// Nominations by a peer that does not control (RFC 8445 §7.3.1.5), that were outdated, or that
        /// came from an earlier generation.
        nominations_ignored,
        /// Answers to our checks that were not signed by the peer.
        answers_forged,
        /// Answers that took another way than the check (RFC 8445 §7.2.5.2.1).
        answers_asymmetric,
        /// Error answers to our checks.
        answers_refusing,
        /// Answers to checks that are over: answered before, given up, or of pairs that are gone.
        answers_late,
        /// Requests that went unanswered because too many answers were waiting, or too many
        /// unauthenticated ones had been given.
        answers_withheld,
        /// Peer-reflexive candidates that gave way to newer ones, or were not learned.
        peer_reflexive_dropped,
        /// Pairs that gave way to likelier ones, or were not formed.
        pairs_dropped,
        /// Hits on further sockets of a punch: there were enough.
        hits_ignored,
        /// Names that were not asked for, or whose addresses were not taken: too many, or of no use.
        names_refused,
        /// Names whose addresses nobody knew, or not in time.
        names_unresolved,
        /// Addresses for names that nobody waited for any more.
        names_late,
        /// Events that gave way because the owner did not take them.
        events_dropped,
    }
}
