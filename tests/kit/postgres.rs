//! A private PostgreSQL server for each test process, one database per test.
//!
//! A shell owns the server and waits for its standard input to end, which it
//! does when the test process ends, however it ends: nothing is left running
//! and nothing is left on disk, even after kill -9.

use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A role that must log in with a password; everybody else is trusted.
pub(crate) const LOCKED: &str = "locked";

/// Stops the server and removes its folder when its standard input ends.
const KEEPER: &str = r#"
trap '' INT TERM HUP
"$@" >"$KEEPER_LOG" 2>&1 </dev/null &
server=$!
cat >/dev/null
kill -QUIT "$server" 2>/dev/null
wait "$server" 2>/dev/null
rm -rf "$KEEPER_FOLDER"
"#;

/// The server of this test process.
struct Server {
    port: u16,
    /// Its standard input stays open until this process ends.
    keeper: Child,
}

/// One database of the server, new and empty; it goes with the server.
pub(crate) struct Database {
    name: String,
    port: u16,
}

impl Database {
    /// Creates a database on this process's server, which is started if needed.
    pub(crate) fn create() -> Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let port = SERVER.get_or_init(Server::start).port;
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let maintenance = Self {
            name: "postgres".to_owned(),
            port,
        };
        maintenance.sql(&format!("create database {name}"));
        Self { name, port }
    }

    /// The URL of the database, as the superuser.
    pub(crate) fn url(&self) -> String {
        self.url_as("postgres")
    }

    /// The URL of the database by the server's socket, which a process of another
    /// network reaches too.
    pub(crate) fn socket_url(&self) -> String {
        let folder = std::env::temp_dir();
        let (name, port) = (&self.name, self.port);
        format!(
            "postgres:///{name}?user=postgres&port={port}&host={}",
            folder.display()
        )
    }

    /// The URL of the database for `login`: a role, or `role:password`.
    pub(crate) fn url_as(&self, login: &str) -> String {
        format!("postgres://{login}@127.0.0.1:{}/{}", self.port, self.name)
    }

    /// The server's port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A program of the server's package (`pgbench`, `pg_dump`), which will find
    /// this database.
    pub(crate) fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(bin().join(name));
        command
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGDATABASE", &self.name);
        command
    }

    /// Runs statements, each in its own transaction, and returns what they
    /// print: one row a line, fields separated by `|`.
    pub(crate) fn sql(&self, statements: &str) -> String {
        let output = self.psql(statements);
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{problem}\nin: {statements:.2000}");
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()
    }

    fn psql(&self, statements: &str) -> Output {
        let mut psql = Command::new(bin().join("psql"))
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-f",
                "-",
                &self.url(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql of the PostgreSQL server package");
        // A writer of its own: psql may print more than a pipe holds.
        let mut input = psql.stdin.take().expect("psql reads statements");
        let statements = statements.to_owned();
        let writer = std::thread::spawn(move || input.write_all(statements.as_bytes()));
        let output = psql.wait_with_output().expect("psql ends");
        let _ = writer.join();
        output
    }
}

/// A server of a test's own, with a system identifier of its own; it can be
/// stopped and set back.
pub(crate) struct Cluster {
    server: Server,
    folder: PathBuf,
}

impl Cluster {
    /// Initialises and starts a new one.
    pub(crate) fn create() -> Self {
        let folder = Self::new_folder();
        initialise(&folder);
        Self::start(folder)
    }

    /// Its one database.
    pub(crate) fn database(&self) -> Database {
        Database {
            name: "postgres".to_owned(),
            port: self.server.port,
        }
    }

    /// Stops it in order and returns two copies of its state, for
    /// [`Cluster::start`].
    pub(crate) fn stop(self) -> [PathBuf; 2] {
        run(as_owner(&bin().join("pg_ctl"))
            .args(["stop", "-w", "-m", "fast", "-D"])
            .arg(&self.folder));
        [(); 2].map(|()| {
            let copy = Self::new_folder();
            run(Command::new("cp").arg("-a").arg(&self.folder).arg(&copy));
            copy
        })
    }

    /// Starts the server whose state is in `folder`, which goes when it ends.
    pub(crate) fn start(folder: PathBuf) -> Self {
        let server = Server::try_start(&folder).expect("a server that starts again");
        Self { server, folder }
    }

    fn new_folder() -> PathBuf {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = home().join(format!("cluster-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }
}

impl Server {
    fn start() -> Self {
        let template = template();
        for attempt in 1..=5 {
            let folder = template.with_file_name(format!("{}-{attempt}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            run(Command::new("cp").arg("-a").arg(&template).arg(&folder));
            if let Some(server) = Self::try_start(&folder) {
                return server;
            }
        }
        panic!("PostgreSQL did not start five times over; its log is printed above");
    }

    fn try_start(folder: &Path) -> Option<Self> {
        let port = free_port();
        let log = folder.with_extension("log");
        let mut server = as_owner(&bin().join("postgres"));
        server.arg("-D").arg(folder).args(["-p", &port.to_string()]);
        // A short path: the name of a socket has little room.
        server.arg("-k").arg(std::env::temp_dir());
        let mut keeper = Command::new("sh");
        keeper
            .args(["-c", KEEPER, "keeper"])
            .arg(server.get_program())
            .args(server.get_args());
        keeper
            .env("KEEPER_LOG", &log)
            .env("KEEPER_FOLDER", folder)
            .env("LC_ALL", "C.UTF-8");
        let mut keeper = keeper.stdin(Stdio::piped()).spawn().expect("a shell");
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            if accepts(port) {
                let _ = fs::remove_file(&log);
                return Some(Self { port, keeper });
            }
            std::thread::sleep(Duration::from_millis(20));
            if fs::read_to_string(&log).is_ok_and(|log| log.lines().any(is_fatal)) {
                break;
            }
        }
        eprintln!("{}", fs::read_to_string(&log).unwrap_or_default());
        let _ = fs::remove_file(&log);
        drop(keeper.stdin.take());
        let _ = keeper.wait();
        None
    }
}

/// Whether a line of the log says that the server will not start; a probe that
/// came too early is refused in the same words.
fn is_fatal(line: &str) -> bool {
    line.contains("FATAL") && !line.contains("starting up")
}

/// Whether a PostgreSQL server is up at `port` and takes queries.
fn accepts(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok() && {
        let probe = Database {
            name: "postgres".to_owned(),
            port,
        };
        probe.psql("select 1").status.success()
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// A cluster that was initialised once and is copied for each process.
fn template() -> PathBuf {
    let home = home();
    let lock = File::create(home.join("template.lock")).expect("a lock file");
    lock.lock().expect("the lock of the template");
    let version = bin()
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default()
        .to_owned();
    let template = home.join(format!("template-2-{}", version.to_string_lossy()));
    if !template.exists() {
        let fresh = home.join("template-new");
        let _ = fs::remove_dir_all(&fresh);
        initialise(&fresh);
        fs::rename(&fresh, &template).expect("the template in its place");
    }
    template
}

/// A new cluster with the settings of tests.
fn initialise(folder: &Path) {
    run(as_owner(&bin().join("initdb"))
        .args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "-D",
        ])
        .arg(folder));
    append(&folder.join("postgresql.conf"), SETTINGS);
    fs::write(folder.join("pg_hba.conf"), ACCESS).expect("the access rules");
}

const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
max_wal_size = '4GB'
autovacuum = off
max_prepared_transactions = 8
";

const ACCESS: &str = "\
local all all trust
host all locked 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
";

fn append(path: &Path, text: &str) {
    let mut file = File::options()
        .append(true)
        .open(path)
        .expect("the server's settings");
    file.write_all(text.as_bytes())
        .expect("the server's settings");
}

/// Where clusters live: under the build's folder if the server's user can get
/// there (root's own home is closed to it), else under the system's.
fn home() -> PathBuf {
    let near = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("postgres");
    let far = std::env::temp_dir().join("highwater-test-postgres");
    for home in [&near, &far] {
        fs::create_dir_all(home).expect("a folder for PostgreSQL");
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(home));
        }
        let probe = as_owner(Path::new("test")).arg("-w").arg(home).status();
        if probe.is_ok_and(|status| status.success()) {
            return home.clone();
        }
    }
    panic!(
        "the user postgres can write neither {} nor {}",
        near.display(),
        far.display()
    );
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id");
    id.stdout.trim_ascii() == b"0"
}

/// The command as the user who may run a server: PostgreSQL refuses root.
fn as_owner(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
        .arg(program);
    command
}

/// The folder of the server's programs, the newest there is.
fn bin() -> &'static Path {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(|| {
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        versions
            .map(|version| version.path().join("bin"))
            .filter(|bin| bin.join("initdb").exists())
            .max()
            .expect("a PostgreSQL server under /usr/lib/postgresql: run scripts/test, or `apt-get install postgresql`")
    })
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {problem}");
}
