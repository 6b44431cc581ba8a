//! The identity file: who this machine is to others.
//!
//! ```text
//!   # Gimlet identity of peer 7x2k…: whoever can read this file can be that peer.
//!   gimlet-identity-1 OBQXG43XN5ZGI…
//! ```
//!
//! A comment, then one line with the Ed25519 secret in base32. It is readable by its owner only from
//! the moment it exists. A running node holds a lock on it, because two nodes with one
//! identity would take each other's connections away.

use std::env;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use data_encoding::BASE32_NOPAD;
use gimlet_node::Identity;

use crate::failure::{Exit, Failure};
use crate::files;

const HEADER: &str = "gimlet-identity-1";

/// An identity file is two lines; anything longer is something else. Bytes.
const FILE_MAX: u64 = 4_096;

/// An identity, and where it comes from.
#[derive(Debug)]
pub(crate) struct Owned {
    pub(crate) identity: Identity,
    pub(crate) origin: Origin,
    /// Holds the lock.
    _file: Option<File>,
}

/// Where an identity comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Read from a file.
    File(PathBuf),
    /// Written to a file just now.
    Created(PathBuf),
    /// For this run only, because nobody asked for another.
    Temporary,
    /// For this run only, because the default file is in use by another process.
    InUse(PathBuf),
}

/// `$XDG_CONFIG_HOME/gimlet/identity`, or `~/.config/gimlet/identity`.
pub(crate) fn default_path() -> Result<PathBuf, Failure> {
    // The XDG base directory specification: relative paths are to be ignored.
    let config = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let config = config.or_else(|| env::home_dir().map(|home| home.join(".config")));
    let config = config.ok_or_else(|| {
        Failure::new(Exit::Local, "there is no home directory to keep an identity in")
            .remedy("name a file with --identity FILE")
    })?;
    Ok(config.join("gimlet").join("identity"))
}

/// For commands that others have to find again (`serve`, `join`): the file, created if it is missing.
/// If the default file is in use, a temporary identity stands in.
pub(crate) fn lasting(file: Option<&Path>) -> Result<Owned, Failure> {
    let path = file.map_or_else(default_path, |path| Ok(path.to_owned()))?;
    let created = match create(&path, false) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(Failure::file("write the identity to", &path, &error)),
    };
    let (identity, handle) = read(&path)?;
    if let Err(TryLockError::WouldBlock) = handle.try_lock() {
        if file.is_none() {
            return Ok(Owned { identity: fresh()?, origin: Origin::InUse(path), _file: None });
        }
        let cause = format!("the identity {} is in use by another gimlet", path.display());
        return Err(Failure::new(Exit::Local, cause)
            .remedy("stop that one, or name another file with --identity FILE"));
    }
    let origin = if created { Origin::Created(path) } else { Origin::File(path) };
    Ok(Owned { identity, origin, _file: Some(handle) })
}

/// For commands that come and go (`send`, `pipe`): the file if one is named, created if it is missing;
/// else a temporary identity, which cannot get in the way of a `join` on the same machine.
pub(crate) fn passing(file: Option<&Path>) -> Result<Owned, Failure> {
    match file {
        Some(path) => lasting(Some(path)),
        None => Ok(Owned { identity: fresh()?, origin: Origin::Temporary, _file: None }),
    }
}

/// Draws a new identity.
pub(crate) fn fresh() -> Result<Identity, Failure> {
    let secret = gimlet_udp::seed().map_err(|error| Failure::local("draw a secret", &error))?;
    Ok(Identity::from_secret(secret))
}

/// Writes a new identity to `path`: whole or not at all, readable by the owner only from the first
/// moment on. Without `force` an existing file is left alone ([`io::ErrorKind::AlreadyExists`]).
pub(crate) fn create(path: &Path, force: bool) -> io::Result<Identity> {
    if !force && fs::symlink_metadata(path).is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let identity = Identity::from_secret(gimlet_udp::seed()?);
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
    let draft = folder.join(format!(".{name}.{}", std::process::id()));
    let written = write_private(&draft, &text(&identity)).and_then(|()| {
        if force { fs::rename(&draft, path) } else { files::publish(&draft, folder, [name]).map(drop) }
    });
    if written.is_err() {
        // The draft holds a secret that nobody uses.
        let _ = fs::remove_file(&draft);
    }
    written.map(|()| identity)
}

fn text(identity: &Identity) -> String {
    format!(
        "# Gimlet identity of peer {}: whoever can read this file can be that peer.\n{HEADER} {}\n",
        identity.peer_id(),
        BASE32_NOPAD.encode(&identity.secret())
    )
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Reads an identity, and refuses one that others can read.
fn read(path: &Path) -> Result<(Identity, File), Failure> {
    let open = || -> io::Result<(String, File)> {
        let mut file = File::open(path)?;
        let mut text = String::new();
        (&mut file).take(FILE_MAX).read_to_string(&mut text)?;
        Ok((text, file))
    };
    let (text, file) = open().map_err(|error| Failure::file("read the identity", path, &error))?;
    refuse_readable_by_others(path, &file)?;
    let identity = parse(&text).ok_or_else(|| {
        Failure::new(
            Exit::Local,
            format_args!("{} is not an identity file, or it is damaged", path.display()),
        )
        .remedy("restore it from a copy, or replace it with `gimlet init --force`, which makes a new peer id")
    })?;
    Ok((identity, file))
}

fn parse(text: &str) -> Option<Identity> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    let secret = BASE32_NOPAD.decode(line.strip_prefix(HEADER)?.trim().as_bytes()).ok()?;
    Some(Identity::from_secret(secret.try_into().ok()?))
}

#[cfg(unix)]
fn refuse_readable_by_others(path: &Path, file: &File) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = file.metadata().map_err(|error| Failure::file("look at", path, &error))?.permissions().mode();
    let others = mode & 0o077;
    if others == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Local,
        format_args!("others can read the identity {} (mode {:03o})", path.display(), mode & 0o777),
    )
    .remedy(format_args!(
        "chmod 600 {}; if others may have read it, make a new one with `gimlet init --force`",
        path.display()
    )))
}

#[cfg(not(unix))]
fn refuse_readable_by_others(_path: &Path, _file: &File) -> Result<(), Failure> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_being_written_down_and_is_never_replaced_unasked() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("new/identity");
        let made = create(&path, false).unwrap();
        assert_eq!(read(&path).unwrap().0.peer_id(), made.peer_id());
        assert_eq!(create(&path, false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let replaced = create(&path, true).unwrap();
        assert_ne!(replaced.peer_id(), made.peer_id());
        assert_eq!(read(&path).unwrap().0.peer_id(), replaced.peer_id());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_it_and_any_other_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("identity");
        create(&path, false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let failure = read(&path).unwrap_err();
        assert!(failure.exit == Exit::Local && failure.to_string().contains("chmod 600"), "{failure}");
    }

    #[test]
    fn an_identity_in_use_is_not_used_twice() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("identity");
        let first = lasting(Some(&path)).unwrap();
        assert_eq!(first.origin, Origin::Created(path.clone()));
        assert!(lasting(Some(&path)).unwrap_err().cause.contains("in use"));
        drop(first);
        assert_eq!(lasting(Some(&path)).unwrap().origin, Origin::File(path));
    }

    #[test]
    fn damaged_files_are_not_identities() {
        let good = text(&Identity::from_secret([7; 32]));
        assert!(parse(&good).is_some());
        for bad in [
            "",
            "# only a comment",
            &good[..good.len() - 4],
            &format!("{good}{good}"),
            "gimlet-identity-2 AAAA",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
