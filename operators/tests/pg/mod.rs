//! A real PostgreSQL for tests: own folder, own port, gone when the test
//! process ends, however it ends.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls};

/// Where Debian keeps the server's programs; the newest version wins.
const DEBIAN: &str = "/usr/lib/postgresql";

/// A running server.
pub struct Pg {
    pub port: u16,
    pub folder: PathBuf,
    // Its standard input is the leash: when it closes, the server is stopped
    // and its folder removed.
    _leash: Child,
}

impl Pg {
    /// Starts a server; `settings` go to `postgresql.conf`, `hba` before the
    /// default rules of `pg_hba.conf`. `prepare` may add files to the folder.
    pub fn start(settings: &str, hba: &str, prepare: impl FnOnce(&Path)) -> Self {
        let bin = programs();
        let folder = tempfile::Builder::new()
            .prefix("highwater-pg-")
            .tempdir()
            .unwrap()
            .keep();
        let (data, root) = (folder.join("data"), is_root());
        own(&folder, root);
        run(as_postgres(root, &bin.join("initdb"))
            .args(["-A", "trust", "-U", "postgres", "-E", "UTF8"])
            .args(["--locale=C", "--no-sync", "-D"])
            .arg(&data));
        prepare(&folder);
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut conf = std::fs::OpenOptions::new()
            .append(true)
            .open(data.join("postgresql.conf"))
            .unwrap();
        writeln!(
            conf,
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{}'\nfsync = off\n{settings}",
            folder.display()
        )
        .unwrap();
        let rules = std::fs::read_to_string(data.join("pg_hba.conf")).unwrap();
        std::fs::write(data.join("pg_hba.conf"), format!("{hba}\n{rules}")).unwrap();
        own(&folder, root);
        let leash = Command::new("sh")
            .arg("-c")
            .arg("\"$@\" & pid=$!; cat > /dev/null; kill -QUIT $pid; wait $pid; rm -rf \"$FOLDER\"")
            .arg("sh")
            .args(as_postgres_line(root, &bin.join("postgres")))
            .arg("-D")
            .arg(&data)
            .env("FOLDER", &folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("server.log")).unwrap())
            .spawn()
            .unwrap();
        let pg = Self {
            port,
            folder,
            _leash: leash,
        };
        pg.wait();
        pg
    }

    fn wait(&self) {
        let started = Instant::now();
        while std::os::unix::net::UnixStream::connect(
            self.folder.join(format!(".s.PGSQL.{}", self.port)),
        )
        .is_err()
        {
            assert!(
                started.elapsed() < Duration::from_secs(60),
                "the server does not start"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A URL of `database` for the superuser.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// A connection to `database`.
    pub async fn client(&self, database: &str) -> Client {
        let started = Instant::now();
        loop {
            match tokio_postgres::connect(&self.url(database), NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                // It answers before it is ready, on a busy machine for long.
                Err(error) if started.elapsed() > Duration::from_secs(60) => panic!("{error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// A fresh database in which `sql` was run, and its URL.
    pub async fn database(&self, sql: &str) -> (Client, String) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.client("postgres")
            .await
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap();
        let client = self.client(&name).await;
        client.batch_execute(sql).await.unwrap();
        (client, self.url(&name))
    }
}

fn programs() -> PathBuf {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(DEBIAN)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .collect();
    versions.sort();
    versions.pop().map_or_else(PathBuf::new, |(_, bin)| bin)
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    String::from_utf8_lossy(&id.stdout).trim() == "0"
}

/// PostgreSQL refuses to run as root.
fn as_postgres_line(root: bool, program: &Path) -> Vec<String> {
    let mut line: Vec<String> = Vec::new();
    if root {
        line.extend(
            [
                "setpriv",
                "--reuid=postgres",
                "--regid=postgres",
                "--init-groups",
            ]
            .map(String::from),
        );
    }
    line.push(program.display().to_string());
    line
}

fn as_postgres(root: bool, program: &Path) -> Command {
    let line = as_postgres_line(root, program);
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]);
    command
}

fn own(folder: &Path, root: bool) {
    if root {
        run(Command::new("chown")
            .args(["-R", "postgres:postgres"])
            .arg(folder));
    }
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
