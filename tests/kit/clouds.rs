//! Azure and Google, as emulators have them, behind a gate that can fail.
//!
//! The gate (`tests/clouds/gateway.py`) owns the emulator and ends with its standard
//! input, which ends when the test process does, however it ends. What a bucket holds
//! is asked of the services' own clients (`tests/clouds/client.py`).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::objects::{BUCKET, Contents};
use super::oracle::python;

/// The key of the emulator's account, as it is published.
const AZURITE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Whose service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// `az://`, by Azurite.
    Azure,
    /// `gs://`, by fake-gcs-server.
    Google,
}

/// Both.
pub(crate) const BOTH: [Whose; 2] = [Whose::Azure, Whose::Google];

impl Whose {
    fn name(self) -> &'static str {
        match self {
            Self::Azure => "azure",
            Self::Google => "google",
        }
    }

    fn program(self) -> PathBuf {
        let (variable, near) = match self {
            Self::Azure => (
                "HIGHWATER_AZURITE",
                "target/clouds/node_modules/azurite/dist/src/blob/main.js",
            ),
            Self::Google => ("HIGHWATER_GCS_EMULATOR", "target/clouds/fake-gcs-server"),
        };
        let program = std::env::var_os(variable).map(PathBuf::from);
        let program = program.unwrap_or_else(|| super::root().join(near));
        assert!(
            program.exists(),
            "{} is not there: run scripts/test, which installs it, or set {variable}",
            program.display()
        );
        program
    }
}

/// One object as the service's own client has it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) content: Vec<u8>,
    pub(crate) kind: String,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) md5: Option<String>,
}

/// A running emulator.
pub(crate) struct Cloud {
    whose: Whose,
    port: u16,
    gate: Child,
    client: Mutex<Option<Client>>,
}

struct Client {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Cloud {
    /// This process's emulator, with the bucket of the tests in it.
    pub(crate) fn of(whose: Whose) -> &'static Self {
        static CLOUDS: [OnceLock<Cloud>; 2] = [OnceLock::new(), OnceLock::new()];
        CLOUDS[whose as usize].get_or_init(|| {
            let cloud = Self::start(whose);
            cloud.ask(&json!({"do": "create", "bucket": BUCKET}));
            cloud
        })
    }

    fn start(whose: Whose) -> Self {
        let mut gate = Command::new(python())
            .arg(super::root().join("tests/clouds/gateway.py"))
            .arg(whose.name())
            .arg(whose.program())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python of the tests: run scripts/test");
        let mut line = String::new();
        let told = gate.stdout.take().expect("what the gate says");
        BufReader::new(told).read_line(&mut line).expect("a line");
        let port = line.trim().parse();
        Self {
            whose,
            port: port.unwrap_or_else(|_| panic!("the emulator of {whose:?} did not start")),
            gate,
            client: Mutex::default(),
        }
    }

    /// What its URLs begin with.
    pub(crate) fn scheme(&self) -> &'static str {
        match self.whose {
            Whose::Azure => "az",
            Whose::Google => "gs",
        }
    }

    /// Options of a place here, and the variables that go with them.
    pub(crate) fn options(&self) -> Vec<(&'static str, String)> {
        match self.whose {
            Whose::Azure => vec![("USE_EMULATOR", "true".to_owned())],
            Whose::Google => vec![
                ("ENDPOINT", self.endpoint()),
                ("ALLOW_HTTP", "true".to_owned()),
                ("SKIP_SIGNATURE", "true".to_owned()),
            ],
        }
    }

    /// What the environment of a process must say that asks here.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        match self.whose {
            Whose::Azure => vec![("AZURITE_BLOB_STORAGE_URL", self.endpoint())],
            Whose::Google => Vec::new(),
        }
    }

    /// What `deltalake` needs to get here.
    pub(crate) fn reader_options(&self) -> Value {
        match self.whose {
            Whose::Azure => json!({"azure_storage_use_emulator": "true"}),
            Whose::Google => json!({"google_service_account_key": json!({
                "gcs_base_url": self.endpoint(), "disable_oauth": true,
                "client_email": "", "private_key": "", "private_key_id": "",
            }).to_string(), "allow_http": "true"}),
        }
    }

    /// The account's key, where there is one.
    pub(crate) fn key() -> &'static str {
        AZURITE_KEY
    }

    /// The address.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The next `times` requests of this method whose address contains `text` go wrong:
    /// a status, `"cut"` or `"flip"`.
    pub(crate) fn fail(&self, method: &str, text: &str, action: Value, times: u64) {
        let rule = json!({"method": method, "contains": text, "action": action, "times": times});
        self.http("POST", "/_gate/faults", &rule.to_string());
    }

    /// How many requests of this method came whose address contains `text`.
    pub(crate) fn count(&self, method: &str, text: &str) -> usize {
        let seen = self.http("GET", "/_gate/seen", "");
        let seen: Vec<(String, String)> = serde_json::from_str(&seen).expect("what the gate saw");
        seen.iter()
            .filter(|(asked, path)| asked == method && path.contains(text))
            .count()
    }

    fn http(&self, method: &str, path: &str, body: &str) -> String {
        let mut line = TcpStream::connect(("127.0.0.1", self.port)).expect("the gate");
        let length = body.len();
        write!(
            line,
            "{method} {path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("a request");
        let mut answer = String::new();
        line.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        body.to_owned()
    }

    /// Writes an object as the service's own client does.
    pub(crate) fn put(&self, key: &str, content: &[u8]) {
        self.put_with(key, content, None, &[]);
    }

    /// The same with a content type and metadata.
    pub(crate) fn put_with(
        &self,
        key: &str,
        content: &[u8],
        kind: Option<&str>,
        metadata: &[(&str, &str)],
    ) {
        let metadata: BTreeMap<_, _> = metadata.iter().copied().collect();
        self.ask(&json!({"do": "put", "bucket": BUCKET, "key": key,
            "content": STANDARD.encode(content), "type": kind, "metadata": metadata}));
    }

    /// Removes an object.
    pub(crate) fn remove(&self, key: &str) {
        self.ask(&json!({"do": "remove", "bucket": BUCKET, "key": key}));
    }

    /// Everything below a prefix, without it.
    pub(crate) fn seen(&self, prefix: &str) -> BTreeMap<String, Seen> {
        let found = self.ask(&json!({"do": "all", "bucket": BUCKET, "prefix": prefix}));
        let found = found.as_object().expect("objects").clone();
        let each = found.into_iter().map(|(key, one)| {
            let text = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
            let seen = Seen {
                content: STANDARD.decode(text("content")).expect("a content"),
                kind: text("type"),
                metadata: serde_json::from_value(one["metadata"].clone()).expect("metadata"),
                md5: one["md5"].as_str().map(str::to_owned),
            };
            (key[prefix.len()..].to_owned(), seen)
        });
        each.collect()
    }

    /// The contents alone.
    pub(crate) fn contents(&self, prefix: &str) -> Contents {
        let seen = self.seen(prefix).into_iter();
        seen.map(|(key, seen)| (key, seen.content)).collect()
    }

    fn ask(&self, question: &Value) -> Value {
        let mut client = self.client.lock().expect("the client");
        let client = client.get_or_insert_with(|| Client::start(self.whose, self.port));
        writeln!(client.ask, "{question}").expect("a question");
        let mut line = String::new();
        client.answers.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("the client of {:?} failed at {question:.300}", self.whose))
    }
}

impl Client {
    fn start(whose: Whose, port: u16) -> Self {
        let mut child = Command::new(python())
            .arg(super::root().join("tests/clouds/client.py"))
            .arg(whose.name())
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python of the tests: run scripts/test");
        Self {
            ask: child.stdin.take().expect("its questions"),
            answers: BufReader::new(child.stdout.take().expect("its answers")),
            child,
        }
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        drop(self.gate.stdin.take());
        let _ = self.gate.wait();
    }
}
