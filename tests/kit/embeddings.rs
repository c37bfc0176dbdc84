//! A service with the interface of OpenAI's embeddings: real vectors of the real model
//! over real sockets, for who has the key; now and then it fails as such services do.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_operators::embed::{Embedder as _, MiniLm, ModelFiles};
use serde_json::{Value, json};

use super::outcome::CANARY;

/// The key that it wants.
pub(crate) const KEY: &str = CANARY;

/// The name of its model.
pub(crate) const MODEL: &str = "small-embedding-1";

/// What it was asked.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Requests, those among them that failed.
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    /// How often each text was sent back with a vector.
    pub(crate) texts: BTreeMap<String, u64>,
    /// Tokens of those, as it counts them.
    pub(crate) tokens: u64,
}

/// A running service; it ends with the process.
pub(crate) struct Embeddings {
    url: String,
    failing: Arc<AtomicU64>,
    asked: Arc<Mutex<Asked>>,
}

/// What all connections share.
struct Service {
    model: MiniLm,
    /// One in so many requests fails; none if zero.
    failing: Arc<AtomicU64>,
    asked: Arc<Mutex<Asked>>,
}

impl Embeddings {
    /// Of whose requests one in `failing` fails.
    pub(crate) fn start(failing: u64) -> Self {
        let files = ModelFiles::find(Some(&super::papers::model_dir())).expect("the model");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("its address"));
        let asked = Arc::default();
        let failing = Arc::new(AtomicU64::new(failing));
        let service = Arc::new(Service {
            model: MiniLm::open(&files).expect("the model"),
            failing: Arc::clone(&failing),
            asked: Arc::clone(&asked),
        });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let service = Arc::clone(&service);
                std::thread::spawn(move || service.serve(stream));
            }
        });
        Self {
            url,
            failing,
            asked,
        }
    }

    /// From now on no request fails.
    pub(crate) fn is_well(&self) {
        self.failing.store(0, Ordering::Relaxed);
    }

    /// Its address, up to and with `/v1`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    /// One request after the other, until the other side ends or is hung up on.
    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
        while let Some((key, request)) = read_request(&mut reader) {
            let number = {
                let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                asked.requests += 1;
                asked.requests
            };
            let failing = self.failing.load(Ordering::Relaxed);
            let fails = failing > 0 && number % failing == 0;
            let (status, body) = match (fails, key == format!("Bearer {KEY}")) {
                (true, _) => {
                    let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                    asked.failed += 1;
                    match asked.failed % 3 {
                        0 => return,
                        1 => (
                            "429 Too Many Requests\r\nretry-after: 0",
                            json!({"error": "slow down"}),
                        ),
                        _ => (
                            "500 Internal Server Error",
                            json!({"error": "a planned fault"}),
                        ),
                    }
                }
                (_, false) => (
                    "401 Unauthorized",
                    json!({"error": {"message": "no such key"}}),
                ),
                _ => ("200 OK", self.embed(&request)),
            };
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            if stream.write_all((head + &body).as_bytes()).is_err() {
                return;
            }
        }
    }

    /// The answer to a request, the last text first.
    fn embed(&self, request: &Value) -> Value {
        assert_eq!(request["model"], MODEL);
        let texts = request["input"].as_array().expect("texts").iter();
        let texts: Vec<&str> = texts.map(|text| text.as_str().expect("a text")).collect();
        let embedded = self.model.embed(&texts).expect("vectors");
        let vectors = embedded.vectors.chunks_exact(self.model.dimensions());
        let answers = vectors.enumerate().rev().map(|(index, vector)| {
            json!({"object": "embedding", "index": index, "embedding": numbers(request, vector)})
        });
        let answers: Vec<Value> = answers.collect();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        for text in texts {
            *asked.texts.entry(text.to_owned()).or_default() += 1;
        }
        asked.tokens += embedded.tokens as u64;
        let usage = json!({"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens});
        json!({"object": "list", "data": answers, "model": MODEL, "usage": usage})
    }
}

/// A vector in the form that was asked for.
fn numbers(request: &Value, vector: &[f32]) -> Value {
    use base64::Engine as _;
    if request["encoding_format"] != "base64" {
        return json!(vector);
    }
    let bytes: Vec<u8> = vector
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    json!(base64::engine::general_purpose::STANDARD.encode(bytes))
}

/// Who asks, and for what.
fn read_request(reader: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
    let (mut length, mut key) = (0, String::new());
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    assert_eq!(line, "POST /v1/embeddings HTTP/1.1\r\n");
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => key = value.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((key, serde_json::from_slice(&body).ok()?))
}
