//! Who is measured: the direct call, nginx, gateways started here, and peers that run already.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;
use tempfile::TempDir;

use crate::client::Connection;
use crate::payload;
use crate::process::{Process, pin};

/// The model whose provider speaks the client's format.
pub const PASSED: &str = "bench";
/// The model whose provider speaks Anthropic's. Who does not translate sees a name like any other.
pub const TRANSLATED: &str = "bench-claude";
/// The virtual key that clients of a gateway send.
const CLIENT_KEY: &str = "sk-bench-0123456789abcdef0123456789";
/// The key that the gateway sends upstream.
const UPSTREAM_KEY: &str = "upstream-key";
/// How long a contestant may take to become ready.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// A contestant by name, before it runs.
#[derive(Clone)]
pub struct Contestant {
    pub name: String,
    pub kind: Kind,
}

#[derive(Clone)]
pub enum Kind {
    /// The upstream itself: what everything else is measured against.
    Direct,
    Nginx,
    /// A switchboard binary, started here.
    Gateway {
        program: PathBuf,
    },
    /// Someone else's gateway that runs already. Without its process id there are no figures of CPU and memory.
    Peer {
        url: String,
        pid: Option<u32>,
        headers: Vec<String>,
    },
}

/// Where the load generator sends its calls, and how it introduces itself.
pub struct Endpoint {
    pub addr: SocketAddr,
    headers: String,
}

/// A contestant that takes calls. Its process, if it was started here, ends with this value.
pub struct Running {
    pub contestant: Contestant,
    pub endpoint: Arc<Endpoint>,
    /// From the start of the process to its readiness; zero when it was not started here.
    pub started_in: Duration,
    pub pid: Option<u32>,
    process: Option<Process>,
}

impl Contestant {
    /// True when the bench starts and stops the process.
    pub fn is_started_here(&self) -> bool {
        matches!(self.kind, Kind::Nginx | Kind::Gateway { .. })
    }

    /// Starts the contestant on `core` in front of `upstream`, with its files in `folder`, and waits until it is ready.
    pub async fn start(&self, upstream: SocketAddr, core: Option<usize>, folder: &Path) -> Result<Running> {
        let port = free_port()?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        match &self.kind {
            Kind::Direct => Ok(self.running(Endpoint::new(upstream, "", UPSTREAM_KEY, &[]), None, None)),
            Kind::Nginx => {
                let config = folder.join("nginx.conf");
                fs::write(&config, nginx_config(port, upstream, folder))?;
                let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
                let args = ["-p", path(folder)?, "-e", "error.log", "-c", path(&config)?];
                self.launch(Endpoint::new(addr, "", CLIENT_KEY, &[]), core, folder, program, &args).await
            }
            Kind::Gateway { program } => {
                let config = folder.join("switchboard.yaml");
                fs::write(&config, gateway_config(port, upstream, &folder.join("data")))?;
                let args = ["serve", "--config", path(&config)?];
                self.launch(Endpoint::new(addr, "", CLIENT_KEY, &[]), core, folder, path(program)?, &args).await
            }
            Kind::Peer { url, pid, headers } => {
                if let (Some(pid), Some(core)) = (pid, core) {
                    pin(*pid, core)?;
                }
                let rest = url.strip_prefix("http://").context("a peer's URL starts with http://")?;
                let (host, prefix) = rest.split_once('/').map_or((rest, ""), |(host, prefix)| (host, prefix));
                let addr = host.to_socket_addrs()?.next().with_context(|| format!("no address for {host}"))?;
                Ok(self.running(Endpoint::new(addr, prefix, CLIENT_KEY, headers), *pid, None))
            }
        }
    }

    async fn launch(
        &self,
        endpoint: Endpoint,
        core: Option<usize>,
        folder: &Path,
        program: &str,
        args: &[&str],
    ) -> Result<Running> {
        let log = folder.join("output.log");
        let begin = Instant::now();
        let process = Process::start(core, &log, program, args)?;
        let mut running = self.running(endpoint, Some(process.pid()), Some(process));
        while !running.is_ready().await {
            if running.process.as_mut().is_none_or(Process::has_ended) || begin.elapsed() > START_DEADLINE {
                let said = fs::read_to_string(&log).unwrap_or_default();
                bail!("{} did not get ready; it said: {}", self.name, said.trim());
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        running.started_in = begin.elapsed();
        Ok(running)
    }

    fn running(&self, endpoint: Endpoint, pid: Option<u32>, process: Option<Process>) -> Running {
        let (contestant, endpoint) = (self.clone(), Arc::new(endpoint));
        Running { contestant, endpoint, started_in: Duration::ZERO, pid, process }
    }
}

impl Running {
    pub fn name(&self) -> &str {
        &self.contestant.name
    }

    /// A gateway says itself when it is ready; nginx is when it accepts a connection.
    async fn is_ready(&self) -> bool {
        if !matches!(self.contestant.kind, Kind::Gateway { .. }) {
            return tokio::net::TcpStream::connect(self.endpoint.addr).await.is_ok();
        }
        let mut connection = Connection::new(&self.endpoint);
        let request = b"GET /readyz HTTP/1.1\r\nhost: bench\r\n\r\n";
        connection.call(request, |_| {}).await.is_ok() && connection.status() == 200
    }

    /// Fails unless what `upstream` saw is what this contestant should have sent.
    pub fn check_forwarded(&self, seen: &[u8], model: &str) -> Result<()> {
        if !matches!(self.contestant.kind, Kind::Gateway { .. }) {
            return Ok(());
        }
        let seen = String::from_utf8_lossy(seen);
        ensure!(seen.contains(UPSTREAM_KEY), "the upstream key did not arrive");
        ensure!(!seen.contains(CLIENT_KEY), "the client's key reached the upstream");
        ensure!(seen.contains("bench-model"), "the model was not replaced");
        let is_translated = seen.starts_with("POST /v1/messages ") && seen.contains("anthropic-version: ");
        ensure!(is_translated == (model == TRANSLATED), "the request is in another format than its provider's");
        Ok(())
    }

    /// Fails when a stream holds usage that the client did not ask for.
    pub fn check_stream(&self, body: &[u8]) -> Result<()> {
        let is_gateway = matches!(self.contestant.kind, Kind::Gateway { .. });
        ensure!(!is_gateway || memmem::find(body, b"completion_tokens").is_none(), "usage was not hidden");
        Ok(())
    }
}

impl Endpoint {
    fn new(addr: SocketAddr, prefix: &str, key: &str, extra: &[String]) -> Self {
        let prefix = prefix.trim_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        // The headers that the official Python library sends, but for the encoding: the load generator does not unpack,
        // and a gateway that compresses would be measured at zlib.
        let mut headers = format!(
            "POST {slash}{prefix}/v1/chat/completions HTTP/1.1\r\nhost: {addr}\r\naccept: application/json\r\n\
             accept-encoding: identity\r\nconnection: keep-alive\r\nuser-agent: OpenAI/Python 2.8.1\r\n\
             x-stainless-lang: python\r\nx-stainless-package-version: 2.8.1\r\nx-stainless-os: Linux\r\n\
             x-stainless-arch: x64\r\nx-stainless-runtime: CPython\r\nx-stainless-runtime-version: 3.12.3\r\n\
             x-stainless-async: false\r\nx-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n\
             content-type: application/json\r\n"
        );
        if !extra.iter().any(|header| header.to_ascii_lowercase().starts_with("authorization:")) {
            headers.push_str(&format!("authorization: Bearer {key}\r\n"));
        }
        for header in extra {
            headers.push_str(&format!("{header}\r\n"));
        }
        Self { addr, headers }
    }

    /// A chat completion request of about `bytes` bytes of body, ready to be sent.
    pub fn request(&self, model: &str, bytes: usize, stream: bool) -> Arc<Vec<u8>> {
        self.around(payload::request_body(model, bytes, stream))
    }

    /// A chat completion request with an image of about `bytes` bytes.
    pub fn image(&self, model: &str, bytes: usize) -> Arc<Vec<u8>> {
        self.around(payload::image_body(model, bytes))
    }

    fn around(&self, body: Vec<u8>) -> Arc<Vec<u8>> {
        let mut request = format!("{}content-length: {}\r\n\r\n", self.headers, body.len()).into_bytes();
        request.extend(body);
        Arc::new(request)
    }
}

fn gateway_config(port: u16, upstream: SocketAddr, data: &Path) -> String {
    format!(
        "listen: 127.0.0.1:{port}\n\
         data_dir: {}\n\
         providers:\n  bench: {{ kind: openai_compatible, base_url: \"http://{upstream}/v1\", api_key: {UPSTREAM_KEY} }}\n\
         \x20 claude: {{ kind: anthropic, base_url: \"http://{upstream}\", api_key: {UPSTREAM_KEY} }}\n\
         models:\n  {PASSED}: {{ targets: [bench/bench-model] }}\n\
         \x20 {TRANSLATED}: {{ targets: [claude/bench-model] }}\n\
         keys:\n  - {{ name: bench, value: {CLIENT_KEY}, models: [\"*\"] }}\n",
        data.display()
    )
}

/// A reverse proxy at its best: bodies stay in memory, connections are kept on both sides, nothing is logged.
fn nginx_config(port: u16, upstream: SocketAddr, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    client_body_buffer_size 256k;
    client_max_body_size 64m;
    upstream provider {{
        server {upstream};
        keepalive 1024;
        keepalive_requests 1000000000;
        keepalive_timeout 600s;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Authorization \"Bearer {UPSTREAM_KEY}\";
            proxy_buffering off;
            proxy_read_timeout 600s;
        }}
    }}
}}
"
    )
}

/// The folder of one contestant's files.
pub fn folder() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("switchboard-overhead-").tempdir()?)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}
