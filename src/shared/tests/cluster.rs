//! Redis Cluster, of which a node is lost, and Sentinel, which names another master.

use std::time::Duration;

use super::{
    HOUR, MINUTE, Window, holds, id,
    servers::{PrivateCluster, PrivateRedis, Replica, sentinel, settings, usual},
    take,
};
use crate::{
    shared::settings::{RedisSettings, Sentinel},
    types::{Clock, Secret},
};

const ALL: [(&str, Window); 3] = [("a", HOUR), ("m", MINUTE), ("s", Window::Slots)];

async fn spend(one: &Replica, count: u64) {
    for _ in 0..count {
        let mut hold = one.hold().unwrap();
        hold.take(&ALL.map(|(name, window)| take(name, window, 2, 10_000))).await.unwrap();
        hold.settle(&[(id("a"), 1), (id("m"), 1)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_counts_and_survives_the_loss_of_the_node_with_the_counters() {
    let mut cluster = PrivateCluster::start(1);
    let urls = cluster.urls().iter().map(Secret::new).collect();
    let settings = RedisSettings { urls, cluster: true, ..settings("", 500) };
    let one = usual(&settings).await;
    spend(&one, 10).await;
    holds(&one, ALL, [10, 10, 0]).await;
    // What has not reached the replica when the master dies is lost; that is what a cluster promises.
    Clock::Real.sleep(Duration::from_millis(500)).await;
    let master = cluster.master_of("switchboard");
    cluster.nodes[master].kill();
    // No call fails, neither before the failover nor after it.
    for _ in 0..40 {
        spend(&one, 1).await;
        Clock::Real.sleep(Duration::from_millis(50)).await;
    }
    one.is_up(true).await;
    spend(&one, 10).await;
    holds(&one, ALL, [60, 60, 0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_are_asked_for_the_master_again_when_it_is_gone() {
    let mut master = PrivateRedis::start();
    let replica_of = ["--save", "", "--replicaof", "127.0.0.1", &master.port.to_string()];
    let standby = PrivateRedis::start_with(&replica_of);
    let watcher = sentinel(&master);
    let sentinel = Sentinel { master: "main".to_owned(), user: None, password: None };
    let settings = RedisSettings { sentinel: Some(sentinel), ..settings(&watcher.url(), 500) };
    for _ in 0..1_000 {
        let known = watcher.command(&["SENTINEL", "replicas", "main"]).contains(&standby.port.to_string());
        if known && standby.command(&["ROLE"]).contains("connected") {
            break;
        }
        Clock::Real.sleep(Duration::from_millis(20)).await;
    }
    let one = usual(&settings).await;
    spend(&one, 10).await;
    holds(&one, ALL, [10, 10, 0]).await;
    Clock::Real.sleep(Duration::from_millis(300)).await;
    master.kill();
    for _ in 0..40 {
        spend(&one, 1).await;
        Clock::Real.sleep(Duration::from_millis(50)).await;
    }
    one.is_up(true).await;
    holds(&one, ALL, [50, 50, 0]).await;
}
