//! A profile as an extension of a candidate attribute: `x-gimlet-nat hard:block.40000.40511:40321`.

use gimlet_ice::Profile;
use gimlet_stun::PortModel;

/// The extension's name. A receiver ignores what it does not know (RFC 8839 §5.1).
const NAME: &str = "x-gimlet-nat";

/// What follows a candidate attribute.
pub(in super::super) fn write(profile: &Profile) -> String {
    let mapping = match profile.dependent {
        Some(true) => "hard",
        Some(false) => "easy",
        None => "unknown",
    };
    let model = match profile.port_model {
        Some(PortModel::Preserving) => "preserving".to_owned(),
        Some(PortModel::Sequential { delta }) => format!("sequential.{delta}"),
        Some(PortModel::Block { first, last }) => format!("block.{first}.{last}"),
        Some(PortModel::Random) => "random".to_owned(),
        None => "unknown".to_owned(),
    };
    let newest = profile.newest_port.unwrap_or_default();
    format!(" {NAME} {mapping}:{model}:{newest}")
}

/// What a candidate attribute tells of the NAT, if anything: without the outside address.
pub(in super::super) fn read(attribute: &str) -> Option<Profile> {
    let mut words = attribute.split(' ').skip_while(|word| *word != NAME).skip(1);
    let mut fields = words.next()?.split(':');
    let dependent = match fields.next()? {
        "hard" => Some(true),
        "easy" => Some(false),
        "unknown" => None,
        _ => return None,
    };
    let mut model = fields.next()?.split('.');
    let port_model = match (model.next()?, model.next(), model.next()) {
        ("preserving", None, None) => Some(PortModel::Preserving),
        ("sequential", Some(delta), None) => Some(PortModel::Sequential { delta: delta.parse().ok()? }),
        ("block", Some(first), Some(last)) => {
            Some(PortModel::Block { first: first.parse().ok()?, last: last.parse().ok()? })
        }
        ("random", None, None) => Some(PortModel::Random),
        ("unknown", None, None) => None,
        _ => return None,
    };
    let newest_port = Some(fields.next()?.parse().ok()?).filter(|port| *port != 0);
    Some(Profile { dependent, supposed: false, port_model, newest_port, outside: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_survives_the_line() {
        let models = [
            None,
            Some(PortModel::Preserving),
            Some(PortModel::Sequential { delta: -2 }),
            Some(PortModel::Block { first: 40_000, last: 40_511 }),
            Some(PortModel::Random),
        ];
        for port_model in models {
            for dependent in [None, Some(true), Some(false)] {
                for newest_port in [None, Some(40_321)] {
                    let profile =
                        Profile { dependent, supposed: false, port_model, newest_port, outside: Vec::new() };
                    let line = format!("candidate:1 1 udp 1 192.0.2.1 9 typ host{}", write(&profile));
                    assert_eq!(read(&line), Some(profile));
                }
            }
        }
    }

    #[test]
    fn what_is_no_profile_is_none() {
        for line in
            ["candidate:1 1 udp 1 192.0.2.1 9 typ srflx", "x-gimlet-nat", "x-gimlet-nat hard:block.1:2"]
        {
            assert_eq!(read(line), None, "{line}");
        }
        for line in
            ["x-gimlet-nat hard:sequential.x:2", "x-gimlet-nat hard:random:70000", "x-gimlet-nat no:random:1"]
        {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
