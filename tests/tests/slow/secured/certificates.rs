//! Certificates of a test's own: an authority, a broker's and a client's, and the wrong ones.

use std::fs;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use tempfile::TempDir;

/// Files in a directory that is removed with the value.
pub(super) struct Certificates {
    dir: TempDir,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

impl Certificates {
    /// The names that a broker on this machine has.
    const HERE: [&str; 2] = ["127.0.0.1", "localhost"];

    pub(super) fn make() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("taskhost-certificates-")
            .tempdir()
            .expect("a temporary directory");
        let here = Self { dir };
        let authority = here.authority("authority");
        // Nobody has anything that this one signed.
        let _ = here.authority("stranger");
        here.certificate("broker", &authority, &Self::HERE, false);
        here.certificate("expired", &authority, &Self::HERE, true);
        here.certificate("elsewhere", &authority, &["kafka.elsewhere.example"], false);
        here.certificate("client", &authority, &["taskhost"], false);
        here
    }

    /// A file: `<name>.crt`, `<name>.key`, or `<name>.pem` with both, as Kafka's key stores want them.
    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn authority(&self, name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        self.write(&format!("{name}.crt"), &authority.pem());
        authority
    }

    fn certificate(&self, name: &str, authority: &Authority, hosts: &[&str], expired: bool) {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).expect("host names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.not_before = date_time_ymd(2020, 1, 1);
        if expired {
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, authority).expect("a certificate");
        let (certificate, key) = (certificate.pem(), key.serialize_pem());
        self.write(&format!("{name}.crt"), &certificate);
        self.write(&format!("{name}.key"), &key);
        self.write(&format!("{name}.pem"), &(key + &certificate));
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).expect("the file");
    }
}
