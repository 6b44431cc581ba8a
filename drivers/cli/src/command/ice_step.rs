//! `gimlet ice-step`: one ICE agent in lock-step, for judges without sockets.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::failure::Failure;
use crate::ice::lines;
use crate::ice::step::Stepper;
use crate::report::Report;

/// Step one ICE agent through virtual time, a line at a time
///
/// Reads lines from standard input and answers each on standard output with lines that end with `.`.
/// There is no socket and no clock: the time is what the line says, datagrams are hexadecimal in both
/// directions, and the same input gives the same output, byte for byte.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "\
Examples:
  gimlet ice-step < session.txt
  printf 't=0 seed 00112233445566778899aabbccddeeff\\n' | gimlet ice-step",
    after_long_help = "\
Lines in:
  t=<µs> seed <64 or 32 hex digits>    first, once: everything the agent draws follows from it
  t=<µs> role controlling|controlled   before remote, cand, end and in; controlling if not said
  t=<µs> tiebreaker <number>           likewise; drawn from the seed if not said
  t=<µs> creds <ufrag> <pwd>           likewise: our own credentials
  t=<µs> local <ip:port>               a host candidate of ours
  t=<µs> remote <ufrag> <pwd>          the peer's credentials: checks begin
  t=<µs> cand <candidate attribute>    one of the peer's candidates (RFC 8839)
  t=<µs> end [local|remote]            no candidate follows, on both sides unless one is named
  t=<µs> in <local> <remote> <hex>     a datagram arrived at <local> from <remote>
  t=<µs> tick                          time passed

Lines out, for each line in; all events before all datagrams, again while there are more:
  event <what happened>                state, valid, selected, role, candidate, credentials, ...
  out <local> <remote> <hex>           a datagram leaves
  deadline <µs|none> <why>             when the agent wants to be asked again; always once, always last
  error <what>                         the line was refused and changed nothing; there is nothing else
  .                                    the answer ends

Examples:
  gimlet ice-step < session.txt

A session (answers are indented here, and long ones cut short):
  t=0 seed 00112233445566778899aabbccddeeff
      event credentials 2vBLXL/2 4IwnenYaEGkqSvKrcxEZB9zR
      deadline none idle
      .
  t=0 creds ours ourpasswordourpassword
      event credentials ours ourpasswordourpassword
      deadline none idle
      .
  t=0 local 192.0.2.1:1000
      event candidate candidate:zk6jQkh10UE 1 UDP 2130706431 192.0.2.1 1000 typ host
      deadline none idle
      .
  t=0 cand candidate:1 1 UDP 2130706431 192.0.2.2 2000 typ host
      deadline none idle
      .
  t=100 remote they theirpasswordtheirpassword
      event state checking
      out 192.0.2.1:1000 192.0.2.2:2000 0001...
      deadline 500100 check
      .
  t=99 tick
      error time runs backwards: it is 100 already
      ."
)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Done {
    event: &'static str,
    ok: bool,
}

pub(crate) fn run(_: &Args, report: &Report) -> Result<(), Failure> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut stepper = Stepper::default();
    let mut answer = String::new();
    loop {
        let line = lines::next(&mut input).map_err(|error| Failure::local("read a line", &error))?;
        let Some(line) = line else { break };
        answer.clear();
        stepper.answer(&line, &mut answer);
        let written = output.write_all(answer.as_bytes()).and_then(|()| output.flush());
        match written {
            // Whoever asked has heard enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written.map_err(|error| Failure::local("write an answer", &error))?,
        }
    }
    report.json(&Done { event: "done", ok: true });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ice::lines::Line;
    use clap::{Args as _, Command};

    #[test]
    fn the_session_in_the_help_is_true() {
        let mut help = Args::augment_args(Command::new("ice-step").term_width(0));
        let help = help.render_long_help().to_string();
        let (_, session) = help.split_once("A session").unwrap();
        let (mut stepper, mut answer, mut count) = (Stepper::default(), String::new(), 0);
        for told in session.lines().skip(1).map(|line| line.strip_prefix("  ").unwrap_or(line)) {
            let Some(expected) = told.strip_prefix("    ") else {
                assert_eq!(answer, "", "before {told}");
                stepper.answer(&Line::Text(told.to_owned()), &mut answer);
                continue;
            };
            let line = answer.lines().next().unwrap().to_owned();
            match expected.strip_suffix("...") {
                Some(start) => assert!(line.starts_with(start), "{line}"),
                None => assert_eq!(line, expected),
            }
            answer.drain(..=line.len());
            count += 1;
        }
        assert!(answer.is_empty() && count > 15, "{count} lines");
    }
}
