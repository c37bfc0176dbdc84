//! A service with the interface of OpenAI's embeddings: real vectors of the real model
//! over real sockets, for who has the key. It fails as such services do, by a plan, and
//! counts what it is paid for.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_operators::embed::endpoint::WORD;
use highwater_operators::embed::{Embedder as _, MiniLm, ModelFiles};
use serde_json::{Value, json};

use super::outcome::CANARY;

/// The key that it wants.
pub(crate) const KEY: &str = CANARY;

/// The name of its model.
pub(crate) const MODEL: &str = "small-embedding-1";

/// What it does with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Does {
    /// Answers as it should.
    Well,
    /// Wants to be asked again.
    TooMany,
    /// Fails.
    Fails,
    /// Reads the request and hangs up.
    HangsUp,
    /// Embeds, which is paid for, and hangs up.
    Loses,
    /// Embeds, which is paid for, and answers with a vector too few.
    Lies,
    /// No longer knows the key.
    Refuses,
}

/// What it was asked.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Requests, those among them that failed, and those that were refused for a text.
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) refused: u64,
    /// How often each text was embedded, and so paid for.
    pub(crate) texts: BTreeMap<String, u64>,
    /// How often a word was, which tells whether a text is refused or the service fails.
    pub(crate) words: u64,
    /// Texts among those whose answer was of no use: they are paid for once more.
    pub(crate) in_vain: u64,
    /// Tokens of all answers, as it counts them, and those of answers that were lost.
    pub(crate) tokens: u64,
    pub(crate) lost_tokens: u64,
}

impl Asked {
    /// How often texts were paid for that had been paid for before.
    pub(crate) fn again(&self) -> u64 {
        self.texts.values().map(|times| times - 1).sum()
    }
}

/// What it does, and what it was asked; shared by all connections.
#[derive(Debug, Default)]
struct State {
    plan: VecDeque<Does>,
    /// Texts that hold this are refused for good, if it is any.
    never: String,
    asked: Asked,
}

/// A running service; it ends with the process.
pub(crate) struct Embeddings {
    url: String,
    state: Arc<Mutex<State>>,
}

/// What all connections share.
struct Service {
    model: MiniLm,
    state: Arc<Mutex<State>>,
}

impl Embeddings {
    /// Which does one thing after the other, request by request, then answers well.
    pub(crate) fn start(plan: &[Does]) -> Self {
        let files = ModelFiles::find(Some(&super::papers::model_dir())).expect("the model");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("its address"));
        let state = Arc::new(Mutex::new(State {
            plan: plan.iter().copied().collect(),
            ..State::default()
        }));
        let service = Arc::new(Service {
            model: MiniLm::open(&files).expect("the model"),
            state: Arc::clone(&state),
        });
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let service = Arc::clone(&service);
                std::thread::spawn(move || service.serve(stream));
            }
        });
        Self { url, state }
    }

    /// From now on it refuses each request with a text that holds `never`.
    pub(crate) fn never_takes(&self, never: &str) {
        never.clone_into(&mut lock(&self.state).never);
    }

    /// From now on it does this, request by request, then answers well.
    pub(crate) fn does(&self, plan: &[Does]) {
        lock(&self.state).plan = plan.iter().copied().collect();
    }

    /// Its address, up to and with `/v1`.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Looks at what it was asked so far.
    pub(crate) fn asked<T>(&self, look: impl FnOnce(&Asked) -> T) -> T {
        look(&lock(&self.state).asked)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    /// One request after the other, until the other side ends or is hung up on.
    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
        while let Some((key, request)) = read_request(&mut reader) {
            let Some((status, body)) = self.answer(&key, &request) else {
                return;
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

    /// Status and body; nothing where it hangs up.
    fn answer(&self, key: &str, request: &Value) -> Option<(&'static str, Value)> {
        let does = self.begins(request);
        let known = key == format!("Bearer {KEY}");
        let error = |message: &str| json!({"error": {"message": message}});
        match does {
            Some(Does::HangsUp) => None,
            Some(Does::TooMany) => Some((
                "429 Too Many Requests\r\nretry-after: 0",
                error("slow down"),
            )),
            Some(Does::Fails) => Some(("500 Internal Server Error", error("a planned fault"))),
            Some(does) if !known || does == Does::Refuses => {
                Some(("401 Unauthorized", error("no such key")))
            }
            None => Some(("400 Bad Request", error("the text is not acceptable"))),
            Some(does) => self.embed(request, does).map(|body| ("200 OK", body)),
        }
    }

    /// Takes the next thing of the plan; nothing where the request is refused for a text.
    fn begins(&self, request: &Value) -> Option<Does> {
        let mut state = lock(&self.state);
        state.asked.requests += 1;
        let never = state.never.as_str();
        let is_refused = !never.is_empty() && texts(request).any(|text| text.contains(never));
        if is_refused {
            state.asked.refused += 1;
            return None;
        }
        let does = state.plan.pop_front().unwrap_or(Does::Well);
        state.asked.failed += u64::from(does != Does::Well);
        Some(does)
    }

    /// The answer to a request, the last text first; nothing where it is lost.
    fn embed(&self, request: &Value, does: Does) -> Option<Value> {
        assert_eq!(request["model"], MODEL);
        let texts: Vec<&str> = texts(request).collect();
        let embedded = self.model.embed(&texts).expect("vectors");
        let tokens = embedded.tokens as u64;
        let mut state = lock(&self.state);
        let asked = &mut state.asked;
        for text in &texts {
            match *text == WORD {
                true => asked.words += 1,
                false => *asked.texts.entry((*text).to_owned()).or_default() += 1,
            }
        }
        asked.in_vain += match does {
            Does::Well => 0,
            _ => texts.len() as u64,
        };
        match does {
            Does::Loses => {
                asked.lost_tokens += tokens;
                return None;
            }
            _ => asked.tokens += tokens,
        }
        let vectors = embedded.vectors.chunks_exact(self.model.dimensions());
        let vectors = vectors.enumerate().skip(usize::from(does == Does::Lies));
        let answers = vectors.rev().map(|(index, vector)| {
            json!({"object": "embedding", "index": index, "embedding": numbers(request, vector)})
        });
        let answers: Vec<Value> = answers.collect();
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        Some(json!({"object": "list", "data": answers, "model": MODEL, "usage": usage}))
    }
}

/// The texts of a request.
fn texts(request: &Value) -> impl Iterator<Item = &str> {
    let texts = request["input"].as_array().expect("texts").iter();
    texts.map(|text| text.as_str().expect("a text"))
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
