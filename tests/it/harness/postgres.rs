//! A PostgreSQL server of a test's own: real, from the system's packages, in a temporary folder, gone with the test.
//!
//! The programs come from Debian's package `postgresql`; a test that lacks them fails and says so. A shell stands between the test and the server. It does what it is told line by line, and when its input ends,
//! because the test is over or its process is dead, it stops the server and removes the folder.

#![allow(dead_code, reason = "the tests of the library and those of the gateway include this file and use parts of it")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

/// A server on a free port of 127.0.0.1. Anybody on this machine may connect as `switchboard`.
#[derive(Debug)]
pub struct PrivatePostgres {
    port: u16,
    bin: PathBuf,
    shell: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// `$1` is the folder of the programs, `$2` that of the data, `$3` the port.
const SHELL: &str = r#"
trap '' INT
pid=
family() { echo "$pid $(cat /proc/$pid/task/$pid/children 2>/dev/null)"; }
stop() {
    [ -n "$pid" ] || return 0
    kill -CONT $(family) 2>/dev/null
    kill -"$1" $pid 2>/dev/null
    wait $pid 2>/dev/null
    pid=
}
while read -r word; do
    case $word in
        start)
            # Room for the tests of a whole process; what is lost in a crash of the machine does not matter.
            "$1/postgres" -D "$2/data" -k "$2" -p "$3" -c listen_addresses=localhost -c fsync=off \
                -c max_connections=200 -c shared_buffers=32MB >>"$2/log" 2>&1 </dev/null &
            pid=$! ;;
        stop) stop QUIT ;;
        pause) kill -STOP $(family) ;;
        resume) kill -CONT $(family) ;;
    esac
    echo done
done
stop QUIT
rm -rf "$2"
"#;

impl PrivatePostgres {
    /// Makes a server and waits until it answers. Blocks for about two seconds.
    ///
    /// # Panics
    /// When PostgreSQL is not installed, and says what to install.
    pub fn start() -> Self {
        Self::start_with("", &[])
    }

    /// As [`PrivatePostgres::start`], with more lines in `postgresql.conf` and more files beside it.
    pub fn start_with(config: &str, files: &[(&str, &str)]) -> Self {
        let bin = programs().expect(
            "these tests need PostgreSQL's programs: install Debian's package `postgresql`, or put `initdb` and \
             `postgres` on the PATH",
        );
        let folder = tempfile::Builder::new().prefix("switchboard-postgres-").tempdir().unwrap().keep();
        let user = unprivileged();
        if let Some((user, group)) = user {
            chown(&folder, Some(user), Some(group)).unwrap();
        }
        let run = |program: &str| {
            let mut command = Command::new(program);
            command.current_dir(&folder);
            if let Some((user, group)) = user {
                command.gid(group).uid(user);
            }
            command
        };
        let made = run(bin.join("initdb").to_str().unwrap())
            .args(["--username=switchboard", "--auth=trust", "--no-sync", "--no-locale", "--encoding=UTF8", "-D"])
            .arg(folder.join("data"))
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        fs::OpenOptions::new()
            .append(true)
            .open(folder.join("data/postgresql.conf"))
            .and_then(|mut file| file.write_all(config.as_bytes()))
            .unwrap();
        for (name, text) in files {
            let path = folder.join("data").join(name);
            fs::write(&path, text).unwrap();
            // The server refuses a key that others can read.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = user {
                chown(&path, Some(user), Some(group)).unwrap();
            }
        }
        // Free a moment ago, and nobody else is likely to be given it at once.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut shell = run("sh")
            .args(["-c", SHELL, "sh"])
            .args([&bin, &folder])
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (shell.stdin.take(), BufReader::new(shell.stdout.take().unwrap()));
        let mut server = Self { port, bin, shell, input, output };
        server.restart();
        server
    }

    /// `postgres://switchboard@127.0.0.1:PORT/DATABASE`. The database `postgres` is always there.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://switchboard@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database.
    pub fn create_database(&self, name: &str) -> String {
        let made = Command::new(self.bin.join("createdb"))
            .args(["-h", "127.0.0.1", "-U", "switchboard", "-p"])
            .args([&self.port.to_string(), name])
            .output()
            .unwrap();
        assert!(made.status.success(), "createdb: {}", String::from_utf8_lossy(&made.stderr));
        self.url(name)
    }

    /// Starts the stopped server again, at the same address, and waits until it answers.
    pub fn restart(&mut self) {
        self.tell("start");
        for _ in 0..600 {
            let ready = Command::new(self.bin.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p"])
                .arg(self.port.to_string())
                .status();
            if ready.unwrap().success() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("the server does not start");
    }

    /// Ends the server at once; its port refuses connections until [`PrivatePostgres::restart`].
    pub fn stop(&mut self) {
        self.tell("stop");
    }

    /// Freezes the server: connections stay open and are even made, and nothing is answered.
    pub fn pause(&mut self) {
        self.tell("pause");
    }

    /// Lets a frozen server go on.
    pub fn resume(&mut self) {
        self.tell("resume");
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.input.as_mut().unwrap(), "{word}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n", "the shell around the server is gone");
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.shell.wait();
    }
}

/// The folder of `initdb` and `postgres`: on the PATH, or the newest where Debian keeps them.
fn programs() -> Option<PathBuf> {
    let has_all =
        |folder: &Path| ["initdb", "postgres", "createdb", "pg_isready"].iter().all(|p| folder.join(p).exists());
    let found = Command::new("sh").args(["-c", "command -v initdb"]).output().ok()?;
    let initdb = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
    initdb.parent().filter(|folder| has_all(folder)).map(Path::to_owned).or_else(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(Result::ok);
        let mut found: Vec<PathBuf> =
            versions.map(|version| version.path().join("bin")).filter(|bin| has_all(bin)).collect();
        found.sort_by_key(|bin| bin.parent().and_then(|p| p.file_name()?.to_str()?.parse::<u32>().ok()));
        found.pop()
    })
}

/// The user and group to run the server as, which refuses to run as root: `postgres`, or `nobody`.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let found = ["postgres", "nobody"].iter().find_map(|name| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map_while(|id| id.parse::<u32>().ok());
        Some((ids.next()?, ids.next()?))
    });
    Some(found.expect("run the tests as another user than root, or add the user `postgres`"))
}
