//! Redis servers of a test's own: real, from the system's packages, in temporary folders, gone with the test. Beside them a
//! proxy that makes a server slow, and a cluster.
//!
//! The programs come from Debian's package `redis-server`; a test that lacks them fails and says so. A shell stands between
//! the test and the server. It does what it is told line by line, and when its input ends, because the test is over or its
//! process is dead, it stops the server and removes the folder.

#![allow(dead_code, reason = "the tests of the library and those of the gateway include this file and use parts of it")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

/// A server on a free port of 127.0.0.1.
#[derive(Debug)]
pub struct PrivateRedis {
    pub port: u16,
    pub folder: PathBuf,
    shell: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// `$1` is the folder, `$2` the port, and what follows are further arguments of the server.
const SHELL: &str = r#"
trap '' INT
folder=$1
port=$2
shift 2
pid=
stop() {
    [ -n "$pid" ] || return 0
    kill -CONT $pid 2>/dev/null
    kill -"$1" $pid 2>/dev/null
    wait $pid 2>/dev/null
    pid=
}
while read -r word; do
    case $word in
        start)
            redis-server "$@" --port "$port" --bind 127.0.0.1 --dir "$folder" --daemonize no >>"$folder/log" 2>&1 </dev/null &
            pid=$! ;;
        kill) stop KILL ;;
        pause) kill -STOP $pid ;;
        resume) kill -CONT $pid ;;
    esac
    echo done
done
stop KILL
rm -rf "$folder"
"#;

impl PrivateRedis {
    /// A server that keeps nothing on the disk. Waits until it answers.
    ///
    /// # Panics
    /// When Redis is not installed, and says what to install.
    pub fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"])
    }

    /// A server that keeps everything on the disk, so that what it has survives [`PrivateRedis::kill`].
    pub fn start_durable() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"])
    }

    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_at(free_port(), arguments)
    }

    fn start_at(port: u16, arguments: &[&str]) -> Self {
        let there = Command::new("redis-server").arg("--version").output();
        assert!(
            there.is_ok_and(|output| output.status.success()),
            "these tests need Redis: install Debian's package `redis-server`, or put `redis-server` and `redis-cli` on the PATH"
        );
        let folder = tempfile::Builder::new().prefix("switchboard-redis-").tempdir().unwrap().keep();
        let mut shell = Command::new("sh")
            .args(["-c", SHELL, "sh"])
            .arg(&folder)
            .arg(port.to_string())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (shell.stdin.take(), BufReader::new(shell.stdout.take().unwrap()));
        let mut server = Self { port, folder, shell, input, output };
        server.restart();
        server
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Starts the killed server again, at the same address, and waits until it answers.
    pub fn restart(&mut self) {
        self.tell("start");
        for _ in 0..600 {
            let answer = self.try_command(&["PING"]).unwrap_or_default();
            // A sentinel and a node of a cluster that is not there yet answer as well.
            if answer.contains("PONG") {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("no answer from redis-server: {}", std::fs::read_to_string(self.folder.join("log")).unwrap_or_default());
    }

    /// Ends the server at once, as `kill -9` does.
    pub fn kill(&mut self) {
        self.tell("kill");
    }

    /// Freezes the server: it keeps its connections and answers nothing.
    pub fn pause(&mut self) {
        self.tell("pause");
    }

    pub fn resume(&mut self) {
        self.tell("resume");
    }

    /// Everything is forgotten.
    pub fn flush(&self) {
        assert_eq!(self.command(&["FLUSHALL"]), "OK");
    }

    /// Runs `redis-cli` with `arguments`, and gives what it printed.
    pub fn command(&self, arguments: &[&str]) -> String {
        self.try_command(arguments).unwrap()
    }

    fn try_command(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.input.as_mut().unwrap(), "{word}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n");
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.shell.wait();
    }
}

/// A proxy before a server. Each piece of an answer waits as long as it is told, and connections can be cut.
#[derive(Debug)]
pub struct SlowProxy {
    pub port: u16,
    shared: Arc<ProxyState>,
}

#[derive(Debug, Default)]
struct ProxyState {
    delay: AtomicU64,
    over: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl SlowProxy {
    pub fn to(server: &PrivateRedis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, target) = (listener.local_addr().unwrap().port(), server.address());
        let shared = Arc::new(ProxyState::default());
        let state = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                if state.over.load(Relaxed) {
                    return;
                }
                let Ok(server) = TcpStream::connect(target) else { continue };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                state.open.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                forward(client.try_clone().unwrap(), server.try_clone().unwrap(), None);
                forward(server, client, Some(state.clone()));
            }
        });
        Self { port, shared }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// From now on answers come this much later.
    pub fn slow(&self, delay: Duration) {
        self.shared.delay.store(u64::try_from(delay.as_millis()).unwrap(), Relaxed);
    }

    /// Breaks all connections.
    pub fn cut(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for SlowProxy {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, slow: Option<Arc<ProxyState>>) {
    thread::spawn(move || {
        let mut buffer = [0; 16_384];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if let Some(state) = &slow {
                thread::sleep(Duration::from_millis(state.delay.load(Relaxed)));
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}

/// Nodes of a cluster: three masters, and as many replicas as asked for.
#[derive(Debug)]
pub struct PrivateCluster {
    pub nodes: Vec<PrivateRedis>,
}

impl PrivateCluster {
    /// Makes the cluster and waits until all nodes say that it is whole.
    pub fn start(replicas_each: usize) -> Self {
        let arguments = [
            "--save",
            "",
            "--appendonly",
            "no",
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            "1000",
            "--cluster-replica-validity-factor",
            "0",
            "--repl-diskless-sync-delay",
            "0",
        ];
        let count = 3 * (1 + replicas_each);
        let nodes: Vec<_> = (0..count).map(|_| PrivateRedis::start_at(free_cluster_port(), &arguments)).collect();
        let addresses: Vec<String> = nodes.iter().map(|node| node.address().to_string()).collect();
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(&addresses)
            .args(["--cluster-replicas", &replicas_each.to_string(), "--cluster-yes"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
        let cluster = Self { nodes };
        for _ in 0..600 {
            let whole = |node: &PrivateRedis| node.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
            let linked = |node: &PrivateRedis| {
                let role = node.command(&["ROLE"]);
                !role.starts_with("slave") || role.contains("connected")
            };
            if cluster.nodes.iter().all(|node| whole(node) && linked(node)) {
                return cluster;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("the cluster did not form");
    }

    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(PrivateRedis::url).collect()
    }

    /// The place in `nodes` of the master that has the keys with this hash tag.
    pub fn master_of(&self, tag: &str) -> usize {
        let asked = &self.nodes[0];
        let slot = asked.command(&["CLUSTER", "KEYSLOT", &format!("{{{tag}}}")]);
        let slot: u32 = slot.trim_start_matches("(integer) ").parse().unwrap();
        for line in asked.command(&["CLUSTER", "NODES"]).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let has = |range: &&str| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                matches!((first.parse::<u32>(), last.parse::<u32>()), (Ok(first), Ok(last)) if (first..=last).contains(&slot))
            };
            if words.len() > 8 && words[8..].iter().any(has) {
                let port: u16 = words[1].split(['@', ':']).nth(1).unwrap().parse().unwrap();
                return self.nodes.iter().position(|node| node.port == port).unwrap();
            }
        }
        panic!("nobody has slot {slot}");
    }
}

/// A sentinel that watches `master`, by the name `main`.
pub fn sentinel(master: &PrivateRedis) -> PrivateRedis {
    let folder = tempfile::Builder::new().prefix("switchboard-sentinel-").tempdir().unwrap().keep();
    let file = folder.join("sentinel.conf");
    let config = format!(
        "sentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n",
        master.port
    );
    std::fs::write(&file, config).unwrap();
    PrivateRedis::start_with(&[file.to_str().unwrap(), "--sentinel"])
}

/// Free a moment ago, and nobody else is likely to be given it at once.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A node listens for others 10,000 ports higher.
fn free_cluster_port() -> u16 {
    loop {
        let port = 20_000 + free_port() % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}
