//! Whose word this machine takes for who a TURN server is.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::failure::{Exit, Failure};

/// The authorities in `file` or, without one, those that the system trusts.
pub(crate) fn roots(file: Option<&Path>) -> Result<RootCertStore, Failure> {
    let certificates = match file {
        Some(file) => read(file).map_err(|error| {
            let cause = format_args!("cannot read certificates from {}: {error}", file.display());
            Failure::new(Exit::Local, cause).remedy("name a file in PEM format with --turn-ca")
        })?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    // What the system trusts may hold what we cannot read.
    let (usable, _) = roots.add_parsable_certificates(certificates);
    if usable == 0 {
        let cause = match file {
            Some(file) => format!("{} holds no certificate", file.display()),
            None => "this machine trusts nobody to sign certificates".to_owned(),
        };
        return Err(Failure::new(Exit::Local, cause).remedy("name a file with --turn-ca"));
    }
    Ok(roots)
}

fn read(file: &Path) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_file_iter(file)?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_no_authority() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        assert!(roots(Some(&file)).is_err(), "it is not there");
        std::fs::write(&file, "nothing of the kind").unwrap();
        assert!(roots(Some(&file)).is_err());
        std::fs::write(&file, include_str!("../../../core/node/src/relay_stream/relay.example.pem")).unwrap();
        assert_eq!(roots(Some(&file)).unwrap().len(), 1);
    }
}
