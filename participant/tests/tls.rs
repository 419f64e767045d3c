//! The agent's connections to a database: encrypted, verified, with a password that nobody prints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use votum_participant::database::Database;
use votum_participant::{AgentConfig, ParticipantConfig, Tls, databases};
use votum_proto::runtime::Seams;
use votum_tests::eventually::{Found, eventually};
use votum_tests::postgres::{Options, Server};

const PASSWORD: &str = "correct horse battery staple";

/// A server with a certificate for 127.0.0.1, and a role that needs its password there.
struct World {
    server: Server,
    authority: PathBuf,
    another_authority: PathBuf,
    password: PathBuf,
}

/// Writes a file that only the server's user may read.
fn put(server: &Server, name: &str, content: &str) -> PathBuf {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let path = server.dir().join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let owner = std::fs::metadata(server.dir()).unwrap();
    std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    path
}

fn authority() -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.self_signed(&key).unwrap().pem(), Issuer::new(params, key))
}

impl World {
    async fn new() -> Self {
        let server = Server::start(Options::default()).await.unwrap();
        let (authority, issuer) = authority();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let certificate = put(&server, "server.crt", &certificate.pem());
        let key = put(&server, "server.key", &key.serialize_pem());
        let hba = server.dir().join("data/pg_hba.conf");
        let before = std::fs::read_to_string(&hba).unwrap();
        std::fs::write(&hba, format!("hostssl all guarded 127.0.0.1/32 scram-sha-256\n{before}")).unwrap();
        let admin = server.client("postgres").await.unwrap();
        for statement in [
            format!("ALTER SYSTEM SET ssl_cert_file = '{}'", certificate.display()),
            format!("ALTER SYSTEM SET ssl_key_file = '{}'", key.display()),
            "ALTER SYSTEM SET ssl = on".to_owned(),
            format!("CREATE ROLE guarded LOGIN PASSWORD '{PASSWORD}'"),
            "SELECT pg_reload_conf()".to_owned(),
        ] {
            admin.batch_execute(&statement).await.unwrap();
        }
        let on = "SELECT current_setting('ssl') = 'on'";
        eventually("ssl is on", async || {
            let client = server.client("postgres").await?;
            let found = client.query_one(on, &[]).await?.get::<_, bool>(0);
            Ok(if found { Found::Yes(()) } else { Found::NotYet("it is off".into()) })
        })
        .await
        .unwrap();
        let authority = put(&server, "authority.pem", &authority);
        let another_authority = put(&server, "another.pem", &self::authority().0);
        let password = put(&server, "password", &format!("{PASSWORD}\n"));
        Self { server, authority, another_authority, password }
    }

    fn database(&self, host: &str, tls: Tls, authority: Option<&Path>) -> Arc<dyn Database> {
        let connection = format!("host={host} port={} user=guarded dbname=postgres", self.server.port());
        let participant = ParticipantConfig {
            tls,
            tls_ca_file: authority.map(Path::to_owned),
            password_file: Some(self.password.clone()),
            ..ParticipantConfig::new("bank".parse().unwrap(), connection)
        };
        let config = AgentConfig::embedded(vec![participant]);
        databases(&config, &Seams::production()).unwrap().into_values().next().unwrap()
    }

    /// How many encrypted connections the guarded role has.
    async fn encrypted(&self) -> i64 {
        let query = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                     WHERE usename = 'guarded' AND ssl";
        self.server.client("postgres").await.unwrap().query_one(query, &[]).await.unwrap().get(0)
    }
}

#[tokio::test]
async fn connections_are_encrypted_verified_and_authenticated_by_a_password_from_a_file() {
    let world = World::new().await;

    let verified = world.database("127.0.0.1", Tls::VerifyFull, Some(&world.authority));
    verified.condition().await.unwrap();
    assert!(world.encrypted().await >= 1, "the connection that stands is not encrypted");
    let required = world.database("127.0.0.1", Tls::Require, None);
    required.condition().await.unwrap();

    let impostor = world.database("127.0.0.1", Tls::VerifyFull, Some(&world.another_authority));
    let refused = impostor.condition().await.expect_err("a certificate of another authority was accepted");
    assert!(!format!("{refused} {refused:?}").contains(PASSWORD));
    let misnamed = world.database("localhost", Tls::VerifyFull, Some(&world.authority));
    misnamed.condition().await.expect_err("a certificate for another name was accepted");

    std::fs::write(&world.password, "wrong").unwrap();
    let unknown = world.database("127.0.0.1", Tls::Require, None);
    let refused = unknown.condition().await.expect_err("a wrong password was accepted");
    assert_eq!(refused.sqlstate, "28P01");
}
