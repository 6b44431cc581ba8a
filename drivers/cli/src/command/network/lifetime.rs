//! How long the NAT keeps a mapping that nobody uses (RFC 5780 §4.6).

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use gimlet_machine::Rng;
use gimlet_stun::{BindingLifetime, LifetimeConfig, LifetimeEvent};
use gimlet_tokio::Plain;
use gimlet_udp::{Clock, Sockets};
use serde::Serialize;

use crate::failure::{Exit, Failure};
use crate::line::Line;
use crate::report::Report;

/// [`BindingLifetime`] for both readers. `null` is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Lifetime {
    at_least_s: Option<u64>,
    less_than_s: Option<u64>,
}

impl From<BindingLifetime> for Lifetime {
    fn from(found: BindingLifetime) -> Self {
        let seconds = |known: Option<Duration>| known.map(|known| known.as_secs());
        Self { at_least_s: seconds(found.at_least), less_than_s: seconds(found.less_than) }
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an unused mapping lives ")?;
        match (self.at_least_s, self.less_than_s) {
            (Some(known), Some(gone)) => write!(f, "between {known} and {gone} s"),
            (Some(known), None) => write!(f, "at least {known} s"),
            (None, Some(gone)) => write!(f, "less than {gone} s"),
            (None, None) => f.write_str(
                "for a time that this server cannot show: ask one that knows RESPONSE-PORT (RFC 5780)",
            ),
        }
    }
}

/// Watches mappings towards `server` from fresh sockets at `ours`, and tells what has become of each.
pub(super) async fn watch(
    ours: SocketAddr,
    server: SocketAddr,
    scatters: bool,
    report: &Report,
) -> Result<Lifetime, Failure> {
    let config = LifetimeConfig { scatters, ..LifetimeConfig::default() };
    let seed = gimlet_udp::seed().map_err(|error| Failure::local("draw a seed", &error))?;
    let fresh = vec![SocketAddr::new(ours.ip(), 0); config.waits.len() + 1];
    let sockets = Sockets::bind(fresh).map_err(|error| Failure::new(Exit::Local, error))?;
    let locals: Vec<SocketAddr> = sockets.local_addresses().collect();
    let clock = Clock::start();
    let lifetime = gimlet_stun::Lifetime::new(clock.now(), Rng::from_seed(seed), &config, &locals, server)
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    let lifetime = gimlet_tokio::spawn(Plain(lifetime), sockets, clock)
        .map_err(|error| Failure::local("drive the sockets", &error))?;
    let longest = config.waits.iter().max().copied().unwrap_or_default();
    report.say(&Line::notice(format_args!("waiting {} s at most for mappings to end", longest.as_secs())));
    loop {
        let event = lifetime.next_event().await.map_err(|stopped| Failure::new(Exit::Failed, stopped))?;
        match event {
            LifetimeEvent::Settled { wait, alive } => {
                report.say(&Line::MappingWaited { seconds: wait.as_secs(), alive });
            }
            LifetimeEvent::Finished(found) => {
                lifetime.abort();
                return Ok(found.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bounds_are_said_as_far_as_they_are_known() {
        let lifetime = |at_least: Option<u64>, less_than: Option<u64>| {
            Lifetime::from(BindingLifetime {
                at_least: at_least.map(Duration::from_secs),
                less_than: less_than.map(Duration::from_secs),
            })
        };
        assert_eq!(lifetime(Some(28), Some(35)).to_string(), "an unused mapping lives between 28 and 35 s");
        assert_eq!(lifetime(Some(305), None).to_string(), "an unused mapping lives at least 305 s");
        assert_eq!(lifetime(None, Some(10)).to_string(), "an unused mapping lives less than 10 s");
        assert!(lifetime(None, None).to_string().contains("RESPONSE-PORT"));
        let expected = json!({ "at_least_s": 28, "less_than_s": null });
        assert_eq!(serde_json::to_value(lifetime(Some(28), None)).unwrap(), expected);
    }
}
