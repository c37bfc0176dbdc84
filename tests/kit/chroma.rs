//! A private ChromaDB server: own folder, own port, gone when the test process ends,
//! however it ends.
//!
//! As with PostgreSQL a shell owns the server and waits for its standard input to end.
//! Stopping it is always kill -9: the folder alone is what the next start finds.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Says the server's number, and kills it when its standard input ends.
const KEEPER: &str = r#"
trap '' INT TERM HUP
"$@" >"$KEEPER_LOG" 2>&1 </dev/null &
server=$!
echo "$server"
cat >/dev/null
kill -KILL "$server" 2>/dev/null
wait "$server" 2>/dev/null
"#;

/// Where its collections are.
const COLLECTIONS: &str = "/api/v2/tenants/default_tenant/databases/default_database/collections";

/// How long a server may take to start: it is a Python program, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server, running or killed; its folder goes with it.
pub(crate) struct ChromaServer {
    folder: tempfile::TempDir,
    port: u16,
    keeper: Option<Child>,
}

impl ChromaServer {
    /// Starts a server on an empty folder.
    pub(crate) fn start() -> Self {
        for _ in 0..5 {
            let folder = tempfile::Builder::new()
                .prefix("highwater-chroma-")
                .tempdir();
            let mut server = Self {
                folder: folder.expect("a folder for ChromaDB"),
                port: free_port(),
                keeper: None,
            };
            if server.try_restart() {
                return server;
            }
        }
        panic!("ChromaDB did not start five times over; its log is printed above");
    }

    /// The server's URL; the same after a restart.
    pub(crate) fn url(&self) -> String {
        format!("chroma://127.0.0.1:{}", self.port)
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills the server as kill -9 does. Its folder stays.
    pub(crate) fn kill(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            keeper.wait().expect("the shell that keeps the server");
        }
    }

    /// Starts it again on the same port and folder.
    pub(crate) fn restart(&mut self) {
        self.kill();
        assert!(self.try_restart(), "ChromaDB did not start again");
    }

    /// Removes all that it holds; only while it is killed.
    pub(crate) fn empty(&self) {
        assert!(self.keeper.is_none(), "kill the server first");
        std::fs::remove_dir_all(self.contents()).expect("its folder");
    }

    fn contents(&self) -> PathBuf {
        self.folder.path().join("contents")
    }

    fn try_restart(&mut self) -> bool {
        let log = self.folder.path().join("log");
        let mut keeper = Command::new("sh");
        keeper
            .args(["-c", KEEPER, "keeper"])
            .arg(program())
            .args([
                "run",
                "--host",
                "127.0.0.1",
                "--port",
                &self.port.to_string(),
            ])
            .arg("--path")
            .arg(self.contents())
            .env("KEEPER_LOG", &log)
            .env("ANONYMIZED_TELEMETRY", "False")
            .env("RUST_LOG", "warn");
        let mut keeper = keeper
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut number = String::new();
        let said = keeper.stdout.take().expect("what it says");
        BufReader::new(said)
            .read_line(&mut number)
            .expect("the server's number");
        self.keeper = Some(keeper);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if self.answers() {
                return true;
            }
            let runs = Path::new("/proc").join(number.trim()).join("exe").exists();
            if !runs {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        eprintln!("{}", std::fs::read_to_string(&log).unwrap_or_default());
        self.kill();
        false
    }

    /// How many points a collection has; `None` where there is no such collection.
    pub(crate) fn points(&self, collection: &str) -> Option<u64> {
        let found = self.described(collection)?;
        let id = found["id"].as_str()?;
        self.get(&format!("{COLLECTIONS}/{id}/count"))?
            .trim()
            .parse()
            .ok()
    }

    /// What a collection says of itself; `None` where there is no such collection.
    pub(crate) fn says(&self, collection: &str) -> Option<serde_json::Value> {
        Some(self.described(collection)?["metadata"].clone())
    }

    fn described(&self, collection: &str) -> Option<serde_json::Value> {
        let found = self.get(&format!("{COLLECTIONS}/{collection}"))?;
        serde_json::from_str(&found).ok()
    }

    fn answers(&self) -> bool {
        self.get("/api/v2/heartbeat").is_some()
    }

    /// The body of an answer that is a success.
    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        // HTTP/1.0: a body without chunks, that ends with the connection.
        let asked = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(asked.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?;
        (status == "200").then(|| body.to_owned())
    }
}

impl Drop for ChromaServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Where `scripts/test` puts the program.
fn program() -> PathBuf {
    let told = std::env::var_os("HIGHWATER_CHROMA").map(PathBuf::from);
    let near = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../chroma/bin/chroma");
    told.or_else(|| near.exists().then_some(near)).expect(
        "a ChromaDB server: run scripts/test, or set HIGHWATER_CHROMA to the program `chroma`",
    )
}
