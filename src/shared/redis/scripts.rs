//! The scripts, and how one is run: by the hash of its text, and with its text where the server does not know it.

use std::sync::LazyLock;

use redis::{Cmd, RedisError, ServerErrorKind, Value, aio::ConnectionLike};

/// A script, whole.
#[derive(Debug)]
pub(super) struct Script {
    text: String,
    hash: String,
}

/// A script is its own text after what it begins with.
macro_rules! scripts {
    ($($name:ident = $($file:literal)+),* $(,)?) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($(include_str!($file)),+).to_owned()));)*
    };
}

scripts!(
    TAKE = "scripts/base.lua" "scripts/rolling.lua" "scripts/take.lua",
    CLOSE = "scripts/base.lua" "scripts/rolling.lua" "scripts/counting.lua" "scripts/close.lua",
    SETTLE = "scripts/base.lua" "scripts/rolling.lua" "scripts/counting.lua" "scripts/settle.lua",
    REGISTER = "scripts/base.lua" "scripts/rolling.lua" "scripts/counting.lua" "scripts/register.lua",
    ADD = "scripts/base.lua" "scripts/rolling.lua" "scripts/counting.lua" "scripts/add.lua",
    PUT = "scripts/base.lua" "scripts/rolling.lua" "scripts/counting.lua" "scripts/put.lua",
    REBUILD = "scripts/base.lua" "scripts/rebuild.lua",
    READ = "scripts/base.lua" "scripts/rolling.lua" "scripts/read.lua",
    BEAT = "scripts/base.lua" "scripts/rolling.lua" "scripts/counting.lua" "scripts/beat.lua",
);

impl Script {
    fn new(text: String) -> Self {
        let hash = redis::Script::new(&text).get_hash().to_owned();
        Self { text, hash }
    }

    /// Runs the script. All keys have one hash tag, so any of them finds the node.
    ///
    /// # Errors
    /// Whatever the server or the connection says.
    pub(super) async fn run(
        &self,
        link: &mut impl ConnectionLike,
        keys: &[&[u8]],
        arguments: &[&[u8]],
    ) -> Result<Value, RedisError> {
        let command = |name: &str, script: &str| {
            let mut command = Cmd::new();
            command.arg(name).arg(script).arg(keys.len());
            for part in keys.iter().chain(arguments) {
                command.arg(*part);
            }
            command
        };
        let answer = link.req_packed_command(&command("EVALSHA", &self.hash)).await.and_then(Value::extract_error);
        match answer {
            Err(error) if error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript) => {
                link.req_packed_command(&command("EVAL", &self.text)).await?.extract_error()
            }
            answer => answer,
        }
    }
}

/// An answer: its status, the server's moment, and what follows.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: i64,
    pub(super) now: u64,
    pub(super) rest: Vec<Value>,
}

/// What scripts answer.
pub(super) const OK: i64 = 0;
pub(super) const SHORT: i64 = 1;
pub(super) const LATE: i64 = 2;
pub(super) const OTHER_EPOCH: i64 = 3;
pub(super) const GONE: i64 = 4;

impl Answer {
    /// `None`: no script of ours answers like this.
    pub(super) fn of(value: Value) -> Option<Self> {
        let Value::Array(mut parts) = value else { return None };
        if parts.len() < 2 {
            return None;
        }
        let rest = parts.split_off(2);
        match parts[..] {
            [Value::Int(status), Value::Int(now)] => Some(Self { status, now: u64::try_from(now).ok()?, rest }),
            _ => None,
        }
    }

    /// The number at `index` of the rest; 0 where there is none.
    pub(super) fn number(&self, index: usize) -> i64 {
        match self.rest.get(index) {
            Some(Value::Int(number)) => *number,
            _ => 0,
        }
    }

    pub(super) fn amount(&self, index: usize) -> u64 {
        u64::try_from(self.number(index)).unwrap_or_default()
    }

    pub(super) fn text(&self, index: usize) -> &[u8] {
        match self.rest.get(index) {
            Some(Value::BulkString(text)) => text,
            _ => &[],
        }
    }
}
