//! Redis behind TLS, with an authority of the operator's own: a server, sentinels and the master they name, a cluster.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    HOUR, holds, id,
    servers::{PrivateRedis, Replica, replica, settings, usual},
    take,
};
use crate::{
    shared::{
        Shared, SharedError,
        settings::{RedisSettings, Sentinel},
    },
    telemetry::Metrics,
    types::{Clock, Tasks},
};

/// Certificates for 127.0.0.1 in a folder, each its own authority: the servers' `cert.pem` with `key.pem`, and `other.pem`.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let make = || rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let (made, other) = (make(), make());
        for (name, pem) in [
            ("cert.pem", made.cert.pem()),
            ("key.pem", made.signing_key.serialize_pem()),
            ("other.pem", other.cert.pem()),
            ("both.pem", other.cert.pem() + &made.cert.pem()),
        ] {
            std::fs::write(folder.path().join(name), pem).unwrap();
        }
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A server's arguments: TLS at this port, beside its other one.
    fn at(&self, port: u16) -> Vec<String> {
        let path = |name: &str| self.file(name).display().to_string();
        let (port, cert, key) = (port.to_string(), path("cert.pem"), path("key.pem"));
        let options = [
            ("--tls-port", &*port),
            ("--tls-cert-file", &cert),
            ("--tls-key-file", &key),
            ("--tls-ca-cert-file", &cert),
            ("--tls-auth-clients", "no"),
        ];
        options.into_iter().flat_map(|(option, value)| [option.to_owned(), value.to_owned()]).collect()
    }

    fn start(&self, port: u16, more: &[&str]) -> PrivateRedis {
        let options = self.at(port);
        let arguments: Vec<&str> = more.iter().copied().chain(options.iter().map(String::as_str)).collect();
        PrivateRedis::start_with(&arguments)
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn trusting(port: u16, ca_file: &Path) -> RedisSettings {
    RedisSettings { ca_file: Some(ca_file.to_owned()), ..settings(&format!("rediss://127.0.0.1:{port}"), 1_000) }
}

async fn counts(one: &Replica) {
    let mut hold = one.hold().unwrap();
    hold.take(&[take("a", HOUR, 5, 10)]).await.unwrap();
    hold.settle(&[(id("a"), 3)]);
    holds(one, [("a", HOUR)], [3]).await;
    assert_eq!(one.metrics.quota_takes_alone.get(), 0, "it was Redis that counted");
    assert_eq!(one.why_away(), None);
}

#[tokio::test]
async fn a_server_is_trusted_whose_certificate_is_from_an_authority_of_the_file_and_no_other() {
    let certificates = Certificates::make();
    let port = free_port();
    let _server = certificates.start(port, &["--save", "", "--appendonly", "no"]);
    for trusted in ["cert.pem", "both.pem"] {
        counts(
            &usual(&RedisSettings { prefix: trusted.to_owned(), ..trusting(port, &certificates.file(trusted)) }).await,
        )
        .await;
    }
    let other = trusting(port, &certificates.file("other.pem"));
    let public = RedisSettings { ca_file: None, ..other.clone() };
    for untrusted in [other, public] {
        let one = replica(&untrusted, Duration::from_secs(20)).await;
        let why = one.why_away().expect("it is away");
        assert!(!one.shared.is_up());
        assert!(why.contains("invalid peer certificate") && why.contains("`redis.ca_file`"), "{why}");
        // Calls go on all the same.
        one.hold().unwrap().take(&[take("a", HOUR, 5, 10)]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_and_the_master_they_name_are_trusted_by_the_same_file() {
    let certificates = Certificates::make();
    let (port, watching) = (free_port(), free_port());
    let _master = certificates.start(port, &["--save", "", "--appendonly", "no"]);
    let config = certificates.file("sentinel.conf");
    std::fs::write(&config, format!("sentinel monitor main 127.0.0.1 {port} 1\ntls-replication yes\n")).unwrap();
    let _watcher = certificates.start(watching, &[config.to_str().unwrap(), "--sentinel"]);
    let sentinel = Some(Sentinel { master: "main".to_owned(), user: None, password: None });
    let trusting =
        |file: &str| RedisSettings { sentinel: sentinel.clone(), ..trusting(watching, &certificates.file(file)) };
    counts(&usual(&trusting("cert.pem")).await).await;
    let one = replica(&trusting("other.pem"), Duration::from_secs(20)).await;
    assert!(!one.shared.is_up() && one.why_away().is_some(), "{:?}", one.why_away());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_of_a_cluster_are_trusted_by_the_file() {
    let certificates = Certificates::make();
    let port = free_port();
    let options = ["--save", "", "--cluster-enabled", "yes", "--tls-cluster", "yes", "--cluster-port"];
    let bus = free_port().to_string();
    let node = certificates.start(port, &[&options[..], &[&bus]].concat());
    assert_eq!(node.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "OK");
    for _ in 0..600 {
        if node.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok") {
            break;
        }
        Clock::Real.sleep(Duration::from_millis(20)).await;
    }
    let trusting = |file: &str| RedisSettings { cluster: true, ..trusting(port, &certificates.file(file)) };
    counts(&usual(&trusting("cert.pem")).await).await;
    let one = replica(&trusting("other.pem"), Duration::from_secs(20)).await;
    assert!(!one.shared.is_up() && one.why_away().is_some(), "{:?}", one.why_away());
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_told_at_the_start() {
    let certificates = Certificates::make();
    std::fs::write(certificates.file("empty.pem"), "no certificate").unwrap();
    for (file, words) in
        [("missing.pem", "No such file"), ("empty.pem", "no certificate in it"), ("key.pem", "no certificate in it")]
    {
        let settings = trusting(1, &certificates.file(file));
        let (tasks, metrics) = (Tasks::new(), std::sync::Arc::new(Metrics::new()));
        let opened = Shared::redis(&settings, Clock::Real, &tasks, metrics).await;
        let Err(SharedError::Redis(why)) = opened else { panic!("{file}: {opened:?}") };
        assert!(why.contains("`ca_file`") && why.contains(file) && why.contains(words), "{why}");
    }
}
