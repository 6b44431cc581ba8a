//! One ICE agent, stepped line by line: no socket, no clock, no entropy, so that the same lines give
//! the same answer, byte for byte.
//!
//! Each line names its time, and each is answered by lines that end with `.`. What a line causes is
//! written in the order of [`gimlet_machine::pump`]: what is due is done, then all events, then all
//! datagrams, and over again until the agent is quiet; last its deadline. A line that is refused
//! changes nothing, and its answer is only `error <what>`.
//!
//! ```text
//! t=<µs> seed <64 or 32 hex digits>     first, once: everything that the agent draws follows from it
//! t=<µs> role controlling|controlled    ┐
//! t=<µs> tiebreaker <number>            ├ in any order with `local`, before the session begins
//! t=<µs> creds <ufrag> <pwd>            ┘ with remote, cand, end or in
//! t=<µs> local <ip:port>                a host candidate of ours, at any time before the end
//! t=<µs> remote <ufrag> <pwd>           the peer's credentials: checks begin
//! t=<µs> cand <candidate attribute>     one of the peer's candidates
//! t=<µs> end [local|remote]             no candidate follows; on both sides unless one is named
//! t=<µs> in <local> <remote> <hex>      a datagram arrived
//! t=<µs> tick                           time passed
//! ```

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::net::SocketAddr;

use data_encoding::HEXLOWER_PERMISSIVE;
use gimlet_ice::{Agent, Candidate, CandidateError, Config, Credentials, Event, Role};
use gimlet_machine::{Buf, FourTuple, Input, Instant, Io, Machine as _, Path, Rng, Transmit, Verdict, pump};

use super::lines::Line;
use super::word::{Ends, Told, candidate, credentials, datagram, hex};

/// The latest time that a line may have: what fits nanoseconds.
const MICROS_MAX: u64 = u64::MAX / 1_000;

/// What a line asks for.
#[derive(Debug)]
enum Ask {
    Seed([u8; 32]),
    Role(Role),
    Tiebreaker(u64),
    Creds(Credentials),
    Local(SocketAddr),
    Remote(Credentials),
    Cand(Box<Candidate>),
    End { local: bool, remote: bool },
    In { path: FourTuple, bytes: Vec<u8> },
    Tick,
}

/// What the agent is made of.
#[derive(Clone, Debug)]
struct Settings {
    seed: [u8; 32],
    config: Config,
    local: Vec<SocketAddr>,
}

/// An agent and where it stands in its session.
#[derive(Debug)]
struct Session {
    settings: Settings,
    agent: Agent,
    /// Whether anything of the peer was heard: from then on the settings stand.
    begun: bool,
}

/// Answers lines.
#[derive(Debug, Default)]
pub(crate) struct Stepper {
    now: Instant,
    session: Option<Box<Session>>,
}

impl Stepper {
    /// Appends the answer to `line`.
    pub(crate) fn answer(&mut self, line: &Line, out: &mut String) {
        let refused = match line {
            Line::Text(text) => self.step(text, out).err(),
            Line::Damaged(what) => Some((*what).to_owned()),
        };
        if let Some(what) = refused {
            say(out, format_args!("error {what}"));
        }
        out.push_str(".\n");
    }

    fn step(&mut self, line: &str, out: &mut String) -> Result<(), String> {
        let (now, ask) = parse(line)?;
        if now < self.now {
            return Err(format!("time runs backwards: it is {} already", self.now.as_micros()));
        }
        let session = match (&mut self.session, ask) {
            (None, Ask::Seed(seed)) => {
                let settings = Settings { seed, config: Config::default(), local: Vec::new() };
                let agent = settings.agent(now).map_err(|error| error.to_string())?;
                tell_credentials(&agent, out);
                self.session.insert(Box::new(Session { settings, agent, begun: false }))
            }
            (None, _) => return Err("the first line is `t=<µs> seed <hex>`".to_owned()),
            (Some(session), ask) => {
                session.act(now, ask, out)?;
                session
            }
        };
        self.now = now;
        session.drain(now, out);
        Ok(())
    }
}

impl Settings {
    /// An agent for a session that has not begun. The same settings make the same agent.
    fn agent(&self, now: Instant) -> Result<Agent, CandidateError> {
        let mut agent = Agent::new(now, Rng::from_seed(self.seed), self.config.clone());
        for address in &self.local {
            agent.add_local_candidate(now, Candidate::host(*address))?;
        }
        Ok(agent)
    }
}

impl Session {
    fn act(&mut self, now: Instant, ask: Ask, out: &mut String) -> Result<(), String> {
        let in_words = |error: CandidateError| error.to_string();
        match ask {
            Ask::Seed(_) => return Err("the seed is set already: it comes once".to_owned()),
            Ask::Role(role) => self.set(now, |settings| settings.config.role = role)?,
            Ask::Tiebreaker(tiebreaker) => {
                self.set(now, |settings| settings.config.tiebreaker = Some(tiebreaker))?;
            }
            Ask::Creds(ours) => {
                self.set(now, |settings| settings.config.credentials = Some(ours))?;
                tell_credentials(&self.agent, out);
            }
            Ask::Local(address) => self.add_local(now, address, out)?,
            Ask::Remote(theirs) => {
                self.agent.set_remote_credentials(now, theirs).map_err(|error| error.to_string())?;
                self.begun = true;
            }
            Ask::Cand(theirs) => {
                self.agent.add_remote_candidate(now, *theirs).map_err(in_words)?;
                self.begun = true;
            }
            Ask::End { local, remote } => {
                if local {
                    self.agent.end_of_local_candidates(now);
                }
                if remote {
                    self.agent.end_of_remote_candidates(now);
                }
                self.begun = true;
            }
            Ask::In { path, mut bytes } => {
                let verdict = self.agent.handle_input(now, Input::new(Path::Direct(path), &mut bytes));
                if verdict == Verdict::NotMine {
                    say(out, format_args!("event not-mine {} {}", path.local, path.remote));
                }
                self.begun = true;
            }
            Ask::Tick => self.agent.handle_timeout(now),
        }
        Ok(())
    }

    /// Changes the settings while nothing depends on them.
    fn set(&mut self, now: Instant, change: impl FnOnce(&mut Settings)) -> Result<(), String> {
        if self.begun {
            return Err("role, tiebreaker and creds come before remote, cand, end and in".to_owned());
        }
        let mut settings = self.settings.clone();
        change(&mut settings);
        self.agent = settings.agent(now).map_err(|error| error.to_string())?;
        self.settings = settings;
        Ok(())
    }

    fn add_local(&mut self, now: Instant, address: SocketAddr, out: &mut String) -> Result<(), String> {
        let known = self.settings.local.contains(&address);
        let added = self.agent.add_local_candidate(now, Candidate::host(address));
        added.map_err(|error| error.to_string())?;
        if !known {
            // Bounded: the agent takes `Limits::local_candidates_max`.
            self.settings.local.push(address);
            let own = self.agent.local_candidates().find(|candidate| candidate.address == address);
            if let Some(own) = own {
                say(out, format_args!("event candidate {own}"));
            }
        }
        Ok(())
    }

    /// Writes what the agent has to say, and when it wants to be asked again.
    fn drain(&mut self, now: Instant, out: &mut String) {
        let deadline = pump(&mut self.agent, now, &mut Page { out: &mut *out, storage: Vec::new() });
        match deadline {
            // Upwards: a tick at that time must not come early.
            Some(deadline) => {
                say(
                    out,
                    format_args!("deadline {} {}", deadline.at.as_nanos().div_ceil(1_000), deadline.why),
                );
            }
            None => say(out, format_args!("deadline none idle")),
        }
    }
}

/// Where the agent's output is written.
struct Page<'a> {
    out: &'a mut String,
    storage: Vec<u8>,
}

impl Io<Agent> for Page<'_> {
    fn buf(&mut self) -> Option<Buf<'_>> {
        Some(Buf::new(&mut self.storage))
    }

    fn transmit(&mut self, transmit: Transmit<Path>) {
        say(self.out, format_args!("out {} {}", Ends(&transmit.path), hex(&self.storage)));
    }

    fn event(&mut self, _: &mut Agent, _: Instant, event: Event) {
        say(self.out, format_args!("event {}", Told(event)));
    }
}

fn tell_credentials(agent: &Agent, out: &mut String) {
    let Credentials { ufrag, pwd } = agent.local_credentials();
    say(out, format_args!("event credentials {ufrag} {pwd}"));
}

fn say(out: &mut String, line: std::fmt::Arguments<'_>) {
    // A `String` takes everything.
    let _ = writeln!(out, "{line}");
}

fn parse(line: &str) -> Result<(Instant, Ask), String> {
    let line = line.trim();
    let (time, rest) = line.split_once(' ').unwrap_or((line, ""));
    let micros = time.strip_prefix("t=").and_then(|digits| number(digits, MICROS_MAX));
    let micros = micros.ok_or_else(|| "a line begins with `t=<µs>`".to_owned())?;
    let rest = rest.trim_start();
    let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let ask = parse_ask(verb, rest.trim_start())?;
    Ok((Instant::from_micros(micros), ask))
}

/// What follows each verb.
const USAGE: [(&str, &str); 10] = [
    ("seed", "64 hexadecimal digits, or 32"),
    ("role", "controlling or controlled"),
    ("tiebreaker", "a number of 64 bits"),
    ("creds", "a username fragment and a password"),
    ("local", "an address as 192.0.2.1:1000 or [2001:db8::1]:1000"),
    ("remote", "a username fragment and a password"),
    ("cand", "a candidate attribute"),
    ("end", "nothing, local or remote"),
    ("in", "two addresses and a datagram in hexadecimal"),
    ("tick", "nothing"),
];

fn parse_ask(verb: &str, rest: &str) -> Result<Ask, String> {
    let Some((_, usage)) = USAGE.iter().find(|(known, _)| *known == verb) else {
        let known = USAGE.map(|(verb, _)| verb).join(", ");
        return Err(format!("the time is followed by one of: {known}"));
    };
    // One more than any verb takes.
    let words: Vec<&str> = rest.split_ascii_whitespace().take(4).collect();
    let ask = match (verb, words.as_slice()) {
        ("seed", [digits]) => seed(digits).map(Ask::Seed),
        ("role", ["controlling"]) => Some(Ask::Role(Role::Controlling)),
        ("role", ["controlled"]) => Some(Ask::Role(Role::Controlled)),
        ("tiebreaker", [digits]) => number(digits, u64::MAX).map(Ask::Tiebreaker),
        ("creds", [ufrag, pwd]) => Some(Ask::Creds(credentials(ufrag, pwd)?)),
        ("local", [address]) => address.parse().ok().map(Ask::Local),
        ("remote", [ufrag, pwd]) => Some(Ask::Remote(credentials(ufrag, pwd)?)),
        ("cand", [_, ..]) => Some(Ask::Cand(Box::new(candidate(rest)?))),
        ("end", []) => Some(Ask::End { local: true, remote: true }),
        ("end", ["local"]) => Some(Ask::End { local: true, remote: false }),
        ("end", ["remote"]) => Some(Ask::End { local: false, remote: true }),
        ("in", [local, remote]) => arrived(local, remote, "")?,
        ("in", [local, remote, digits]) => arrived(local, remote, digits)?,
        ("tick", []) => Some(Ask::Tick),
        (_, _) => None,
    };
    ask.ok_or_else(|| format!("`{verb}` is followed by {usage}"))
}

/// A datagram between two addresses, if they are addresses.
fn arrived(local: &str, remote: &str, digits: &str) -> Result<Option<Ask>, String> {
    let Some((local, remote)) = local.parse().ok().zip(remote.parse().ok()) else { return Ok(None) };
    Ok(Some(Ask::In { path: FourTuple::new(local, remote), bytes: datagram(digits)? }))
}

/// 32 bytes, or 16 followed by zeros.
fn seed(digits: &str) -> Option<[u8; 32]> {
    let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
    let mut seed = [0; 32];
    match bytes.len() {
        len @ (16 | 32) => seed[..len].copy_from_slice(&bytes),
        _ => return None,
    }
    Some(seed)
}

/// Decimal digits only: no sign.
fn number(digits: &str, max: u64) -> Option<u64> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|number| plain && *number <= max)
}
