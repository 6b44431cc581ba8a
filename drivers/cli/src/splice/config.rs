//! What a translator is told, in a file and on the command line.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use gimlet_tcp::{Allow, Block, Config, Limits, Rate, Role, Secret, Unknown};
use serde::Deserialize;

use crate::failure::{Exit, Failure};

/// The format of the file, for `--help`.
pub(crate) const FORMAT: &str = "\
The configuration file (TOML); everything but `secret` and `allow` may be left out:
  secret = \"00112233445566778899aabbccddeeff\"   32 hexadecimal digits, the same at both boxes of a pair
  table = \"/dev/shm/gimlet-near\"                flows survive a restart here
  warm-for = 60                                 seconds for which an answer of a server is believed
  unknown = \"pass\"                              or \"reset\": flows that nobody knows, after a restart without a table
  clients = [\"10.0.0.0/8\"]                      who is served; everybody if left out

  [[allow]]                                     may be repeated
  servers = \"192.0.2.0/24\"
  ports = \"8000-8999\"                           or \"80\"; all if left out
  idempotent = true                             what a client says first may reach the server twice: needed for
                                                --fast-open, false if left out
  [limits]
  flows = 65536                                 64 bytes each, in a table that is at most half full
  half-open = 65536
  early-data = 16384                            bytes held for one client
  pool = 67108864                               bytes held for all
  burst = 1000                                  SYNs of one network answered at once,
  per-second = 500                              and then per second";

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct File {
    secret: Option<String>,
    table: Option<PathBuf>,
    warm_for: Option<u64>,
    unknown: Option<UnknownWord>,
    clients: Vec<String>,
    allow: Vec<AllowEntry>,
    limits: LimitsEntry,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum UnknownWord {
    Pass,
    Reset,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct AllowEntry {
    servers: String,
    ports: Option<String>,
    #[serde(default)]
    idempotent: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct LimitsEntry {
    flows: Option<usize>,
    half_open: Option<usize>,
    early_data: Option<u16>,
    pool: Option<usize>,
    burst: Option<u32>,
    per_second: Option<u32>,
}

/// Options of a translator.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// What it is told; the format is below
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Servers to speed up: an address or a block of them, and a port, a range of ports or `*`. May be repeated
    #[arg(long, value_name = "SERVERS:PORTS")]
    allow: Vec<Destinations>,
    /// Where flows survive a restart: a file, best in memory
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
}

/// What a translator is told, and where its table is.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) config: Config,
    pub(crate) table: Option<PathBuf>,
}

impl Options {
    /// What the file and the command line say.
    pub(crate) fn read(&self, role: Role) -> Result<Told, Failure> {
        let mut told = parse(role, &self.text()?).map_err(|error| {
            let path = self.config.as_deref().unwrap_or(Path::new("the command line"));
            Failure::new(Exit::Usage, format!("{}: {error}", path.display()))
                .remedy("see `gimlet splice --help`")
        })?;
        told.table = self.table.clone().or(told.table);
        Ok(told)
    }

    /// The file, and the destinations of the command line behind it, as [`parse`] takes it.
    pub(crate) fn text(&self) -> Result<String, Failure> {
        let mut text = String::new();
        if let Some(path) = &self.config {
            text = fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
        }
        for Destinations { servers, ports } in &self.allow {
            let _ = write!(text, "\n[[allow]]\nservers = \"{servers}\"\nports = \"{ports}\"\n");
        }
        Ok(text)
    }
}

/// What a text in the [`FORMAT`] says.
pub(crate) fn parse(role: Role, text: &str) -> Result<Told, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    file.told(role)
}

impl File {
    fn told(self, role: Role) -> Result<Told, String> {
        let mut config = Config::new(role);
        config.secret = self.secret.as_deref().map(parse_secret).transpose()?;
        config.allowed = self.allow.iter().map(AllowEntry::parse).collect::<Result<_, _>>()?;
        config.clients = self.clients.iter().map(|text| parse_block(text)).collect::<Result<_, _>>()?;
        if let Some(seconds) = self.warm_for {
            config.warm_for = Duration::from_secs(seconds);
        }
        config.unknown = match self.unknown {
            None | Some(UnknownWord::Pass) => Unknown::Pass,
            Some(UnknownWord::Reset) => Unknown::Reset,
        };
        let LimitsEntry { flows, half_open, early_data, pool, burst, per_second } = self.limits;
        let usual = Limits::default();
        config.limits = Limits {
            flows: flows.unwrap_or(usual.flows),
            half_open: half_open.unwrap_or(usual.half_open),
            early_data: early_data.unwrap_or(usual.early_data),
            pool: pool.unwrap_or(usual.pool),
            rate: Rate {
                burst: burst.unwrap_or(usual.rate.burst),
                per_second: per_second.unwrap_or(usual.rate.per_second),
            },
        };
        Ok(Told { config, table: self.table })
    }
}

impl AllowEntry {
    fn parse(&self) -> Result<Allow, String> {
        let servers = parse_block(&self.servers)?;
        let ports = self.ports.as_deref().map_or(Ok(ALL_PORTS), parse_ports)?;
        Ok(Allow { servers, ports, idempotent: self.idempotent })
    }
}

/// Every port.
const ALL_PORTS: RangeInclusive<u16> = 1..=u16::MAX;

/// `192.0.2.0/24:80`, `[2001:db8::]/32:8000-8999`, `192.0.2.1:*`; as the file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Destinations {
    servers: String,
    ports: String,
}

impl FromStr for Destinations {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (servers, ports) = text
            .rsplit_once(':')
            .ok_or("destinations are SERVERS:PORTS, such as 192.0.2.0/24:80 or [2001:db8::1]:8000-8999")?;
        let ports = if ports == "*" { ALL_PORTS } else { parse_ports(ports)? };
        let servers = servers.replace(['[', ']'], "");
        parse_block(&servers)?;
        Ok(Self { servers, ports: format!("{}-{}", ports.start(), ports.end()) })
    }
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("`{text}` is neither a port nor a range of ports, such as 8000-8999");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) =
        (first.trim().parse().map_err(|_| wrong())?, last.trim().parse().map_err(|_| wrong())?);
    if first <= last { Ok(first..=last) } else { Err(wrong()) }
}

fn parse_block(text: &str) -> Result<Block, String> {
    let wrong = || format!("`{text}` is neither an address nor a block of them, such as 192.0.2.0/24");
    let (address, prefix) =
        text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.trim().parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Ok(most), |prefix| prefix.trim().parse().map_err(|_| wrong()))?;
    Block::new(address, prefix).ok_or_else(wrong)
}

fn parse_secret(text: &str) -> Result<Secret, String> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok();
    let bytes = bytes.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    bytes.map(Secret::new).ok_or_else(|| {
        "a secret is 32 hexadecimal digits: `head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n'`".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in the help is a configuration.
    #[test]
    fn the_format_that_the_help_shows_is_the_format_that_is_read() {
        let example: String = FORMAT.lines().skip(1).fold(String::new(), |text, line| {
            // What stands to the right of two spaces is a remark.
            let line = line.trim_start();
            text + line.split_once("  ").map_or(line, |(setting, _)| setting) + "\n"
        });
        let example = example.replace("--fast-open, false if left out\n", "");
        let told = parse(Role::Near, &example).unwrap_or_else(|error| panic!("{error}\n{example}"));
        let Told { config, table } = told;
        assert_eq!(table, Some(PathBuf::from("/dev/shm/gimlet-near")));
        assert_eq!((config.limits, config.unknown), (Limits::default(), Unknown::Pass));
        assert_eq!(
            config.secret,
            Some(Secret::new(*b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"))
        );
        let [allow] = &config.allowed[..] else { panic!("{:?}", config.allowed) };
        assert_eq!((allow.ports.clone(), allow.idempotent), (8_000..=8_999, true));
        assert!(allow.servers.contains("192.0.2.200".parse().unwrap()));
        assert_eq!(config.clients.len(), 1);
    }

    #[test]
    fn destinations_of_the_command_line_come_behind_the_file() {
        let allow = |text: &str| text.parse::<Destinations>();
        let options = Options {
            config: None,
            allow: ["192.0.2.0/24:80", "[2001:db8::1]:8000-8999", "192.0.2.1:*"]
                .map(|it| allow(it).unwrap())
                .into(),
            table: Some("here".into()),
        };
        let told = options.read(Role::Single).unwrap();
        let [v4, v6, all] = &told.config.allowed[..] else { panic!("{:?}", told.config) };
        assert!(v4.servers.contains("192.0.2.9".parse().unwrap()) && v4.ports == (80..=80));
        assert!(v6.servers.contains("2001:db8::1".parse().unwrap()) && v6.ports == (8_000..=8_999));
        assert_eq!((all.ports.clone(), told.table), (ALL_PORTS, Some("here".into())));
        assert_eq!(
            parse(Role::Single, &options.text().unwrap()).unwrap().config.allowed,
            told.config.allowed
        );
        for wrong in ["", "192.0.2.1", "192.0.2.1:x", "192.0.2.1:9-8", "192.0.2.0/33:80", "name:80"] {
            assert!(allow(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        for (text, word) in [
            ("secret = \"0011\"", "32 hexadecimal"),
            ("clients = [\"10.0.0.0/40\"]", "10.0.0.0/40"),
            ("[[allow]]\nservers = \"192.0.2.1\"\nports = \"a\"", "range of ports"),
        ] {
            let error = parse(Role::Near, text).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        assert!(parse(Role::Near, "sceret = \"x\"").unwrap_err().contains("sceret"));
    }
}
