//! The NAT's behaviour (RFC 5780), in words and in JSON.

use std::fmt;
use std::net::SocketAddr;

use gimlet_machine::Rng;
use gimlet_stun::{Behaviour, Discovery, DiscoveryConfig, DiscoveryEvent, LOCALS_MAX, PortModel};
use gimlet_tokio::Plain;
use gimlet_udp::{Clock, Sockets};
use serde::Serialize;

use crate::failure::{Exit, Failure};

/// What is known of the NAT. `null` is unknown, never "no".
#[derive(Debug, Serialize)]
pub(super) struct Known {
    mapping: Option<&'static str>,
    filtering: Option<&'static str>,
    hairpin: Option<bool>,
    port_model: Option<Ports>,
    #[serde(skip)]
    behaviour: Behaviour,
}

/// [`PortModel`] for programs.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Ports {
    Preserving,
    Sequential { delta: i32 },
    Block { first: u16, last: u16 },
    Random,
}

impl From<Behaviour> for Known {
    fn from(behaviour: Behaviour) -> Self {
        let ports = |model| match model {
            PortModel::Preserving => Ports::Preserving,
            PortModel::Sequential { delta } => Ports::Sequential { delta },
            PortModel::Block { first, last } => Ports::Block { first, last },
            PortModel::Random => Ports::Random,
        };
        Self {
            mapping: behaviour.mapping.map(gimlet_stun::Mapping::name),
            filtering: behaviour.filtering.map(gimlet_stun::Filtering::name),
            hairpin: behaviour.hairpinning,
            port_model: behaviour.port_model.map(ports),
            behaviour,
        }
    }
}

impl Known {
    pub(super) fn endpoint_dependent(&self) -> Option<bool> {
        self.behaviour.endpoint_dependent
    }

    /// Whether a socket that gets the same outside port twice has kept its mapping.
    pub(super) fn scatters(&self) -> bool {
        match self.behaviour.port_model {
            Some(PortModel::Sequential { .. } | PortModel::Block { .. } | PortModel::Random) => true,
            Some(PortModel::Preserving) | None => false,
        }
    }
}

impl fmt::Display for Known {
    /// One line for each thing that is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Behaviour { mapping, filtering, hairpinning, port_model, .. } = self.behaviour;
        if mapping.is_some() || filtering.is_some() {
            write!(f, "\n{}", self.behaviour)?;
        }
        match hairpinning {
            Some(true) => {
                f.write_str("\nhairpinning: machines behind this NAT reach each other through it")?;
            }
            Some(false) => {
                f.write_str("\nno hairpinning: machines behind this NAT reach each other only inside")?;
            }
            None => {}
        }
        port_model.map_or(Ok(()), |model| write!(f, "\noutside ports: {model}"))
    }
}

/// Asks `servers`, all of one family, from fresh sockets at `ours`. It ends by itself, after half a
/// minute at worst.
pub(super) async fn discover(ours: SocketAddr, servers: &[SocketAddr]) -> Result<Known, Failure> {
    let seed = gimlet_udp::seed().map_err(|error| Failure::local("draw a seed", &error))?;
    let fresh = [SocketAddr::new(ours.ip(), 0); LOCALS_MAX];
    let sockets = Sockets::bind(fresh).map_err(|error| Failure::new(Exit::Local, error))?;
    let locals: Vec<SocketAddr> = sockets.local_addresses().collect();
    let clock = Clock::start();
    let config = DiscoveryConfig::default();
    let discovery = Discovery::new(clock.now(), Rng::from_seed(seed), config, &locals, servers)
        .map_err(|error| Failure::new(Exit::Failed, error))?;
    let discovery = gimlet_tokio::spawn(Plain(discovery), sockets, clock)
        .map_err(|error| Failure::local("drive the sockets", &error))?;
    loop {
        let event = discovery.next_event().await.map_err(|stopped| Failure::new(Exit::Failed, stopped))?;
        match event {
            DiscoveryEvent::Learnt { .. } => {}
            DiscoveryEvent::Finished(behaviour) => {
                discovery.abort();
                return Ok(behaviour.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gimlet_stun::{Filtering, Mapping};
    use serde_json::json;

    #[test]
    fn programs_get_null_for_what_is_unknown_and_people_get_nothing() {
        let known = Known::from(Behaviour::default());
        let expected = json!({ "mapping": null, "filtering": null, "hairpin": null, "port_model": null });
        assert_eq!(serde_json::to_value(&known).unwrap(), expected);
        assert_eq!(known.to_string(), "");
    }

    #[test]
    fn what_is_known_is_said_in_rfc_4787s_words() {
        let known = Known::from(Behaviour {
            mapping: Some(Mapping::EndpointIndependent),
            filtering: Some(Filtering::AddressAndPortDependent),
            hairpinning: Some(false),
            port_model: Some(PortModel::Sequential { delta: 2 }),
            ..Behaviour::default()
        });
        let expected = json!({
            "mapping": "endpoint-independent",
            "filtering": "address and port-dependent",
            "hairpin": false,
            "port_model": { "kind": "sequential", "delta": 2 },
        });
        assert_eq!(serde_json::to_value(&known).unwrap(), expected);
        let text = known.to_string();
        assert!(text.contains("address and port-dependent filtering (port-restricted cone)"), "{text}");
        assert!(text.contains("\noutside ports: sequential, +2 each time"), "{text}");
    }
}
