#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
//! An endpoint that answers over real sockets, well or badly.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use highwater::cancel::Cancel;
use highwater::run::Secret;
use highwater::store::pace::RetryPolicy;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::*;
use crate::embed::{EmbedError, Embedder as _, Part};

/// What the server does with one request.
#[derive(Debug, Clone)]
enum Does {
    /// Answers as it should.
    Well,
    /// Answers with this status, header and body.
    Says(u16, &'static str, String),
    /// Reads the request and hangs up.
    HangsUp,
    /// Announces an answer, sends half of it and hangs up.
    BreaksOff,
    /// Answers well, but later than this.
    After(Duration),
}

/// What the server was asked: when, by which key, for what.
#[derive(Debug, Clone)]
struct Asked {
    at: Instant,
    key: String,
    body: Value,
}

struct Server {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// Does one thing after the other, then answers well.
    fn that(plan: Vec<Does>) -> Self {
        Self::refusing("", plan)
    }

    /// The same, but for good it refuses whatever holds this text, if it is any.
    fn refusing(text: &'static str, plan: Vec<Does>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, plan) = (Arc::clone(&asked), Arc::new(Mutex::new(plan.into_iter())));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, plan) = (Arc::clone(&seen), Arc::clone(&plan));
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    while let Some(request) = read_request(&mut reader) {
                        seen.lock().unwrap().push(request.clone());
                        let does = match holds(&request.body, text) {
                            true => Does::Says(400, "x-a: b", "not this one".to_owned()),
                            false => plan.lock().unwrap().next().unwrap_or(Does::Well),
                        };
                        if !answer(&stream, &request.body, does) {
                            break;
                        }
                    }
                });
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// Whether a request asks for this text, among others.
fn holds(request: &Value, text: &str) -> bool {
    let texts = request["input"].as_array().unwrap();
    !text.is_empty() && texts.iter().any(|one| one == text)
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
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
            "content-length" => length = value.parse().unwrap(),
            "authorization" => key = value.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        at: Instant::now(),
        key,
        body: serde_json::from_slice(&body).unwrap(),
    })
}

/// A vector that tells its text: the length, the first byte, a constant.
fn vector_of(text: &str) -> [f32; 3] {
    let first = text.bytes().next().unwrap_or_default();
    [text.len() as f32, f32::from(first), 0.5]
}

/// A whole answer, the last text first.
fn well(request: &Value) -> Value {
    use base64::Engine as _;
    let texts = request["input"].as_array().unwrap();
    let embeddings = texts.iter().enumerate().rev().map(|(index, text)| {
        let vector = vector_of(text.as_str().unwrap());
        let numbers = match request["encoding_format"].as_str() {
            Some("base64") => {
                let bytes: Vec<u8> = vector
                    .iter()
                    .flat_map(|number| number.to_le_bytes())
                    .collect();
                json!(base64::engine::general_purpose::STANDARD.encode(bytes))
            }
            _ => json!(vector),
        };
        json!({ "object": "embedding", "index": index, "embedding": numbers })
    });
    let embeddings: Vec<Value> = embeddings.collect();
    let tokens = 10 * texts.len();
    json!({ "data": embeddings, "model": "m", "usage": { "prompt_tokens": tokens, "total_tokens": tokens } })
}

/// Whether the connection is still of use.
fn answer(mut stream: &TcpStream, request: &Value, does: Does) -> bool {
    let (status, header, body) = match does {
        Does::HangsUp => return false,
        Does::After(time) => {
            std::thread::sleep(time);
            (200, "x-a: b", well(request).to_string())
        }
        Does::Well | Does::BreaksOff => (200, "x-a: b", well(request).to_string()),
        Does::Says(status, header, ref body) => (status, header, body.clone()),
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\n{header}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let whole = format!("{head}{body}");
    match does {
        Does::BreaksOff => {
            let _ = stream.write_all(&whole.as_bytes()[..whole.len() - body.len() / 2]);
            false
        }
        _ => stream.write_all(whole.as_bytes()).is_ok(),
    }
}

fn options(server: &Server) -> EndpointOptions {
    EndpointOptions {
        api_key: Some(Secret::new("canary-key")),
        normalize: false,
        timeout: Duration::from_secs(2),
        retries: RetryPolicy {
            attempts: 8,
            first_pause: Duration::from_millis(5),
            longest_pause: Duration::from_millis(50),
            ..RetryPolicy::default()
        },
        ..EndpointOptions::new(&server.url, "m")
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

const TEXTS: [&str; 5] = ["a", "bb", "ccc", "dddd", "eeeee"];

#[track_caller]
fn assert_right(vectors: &Vectors, texts: &[&str]) {
    let expected: Vec<_> = texts.iter().map(|text| vector_of(text)).collect();
    let found: Vec<_> = vectors.rows().collect();
    assert_eq!(found, expected);
}

#[test]
fn each_text_gets_its_vector() {
    let runtime = runtime();
    for encoding in [Encoding::Base64, Encoding::Float] {
        let server = Server::that(Vec::new());
        let options = EndpointOptions {
            batch_texts: 2,
            price_per_million_tokens: 20.0,
            encoding,
            ..options(&server)
        };
        let endpoint = Endpoint::new(options, runtime.handle().clone()).unwrap();
        assert_eq!(endpoint.dimensions(), None);
        assert_right(&endpoint.embed(&TEXTS).unwrap(), &TEXTS);
        assert!(endpoint.embed(&[]).unwrap().is_empty());
        assert_eq!(endpoint.dimensions(), Some(3));
        let usage = endpoint.usage();
        assert_eq!((usage.requests, usage.tokens), (3, 50));
        assert!((usage.cost - 0.001).abs() < 1e-12);
        let asked = server.asked();
        let sizes: Vec<_> = asked
            .iter()
            .map(|asked| asked.body["input"].as_array().unwrap().len())
            .collect();
        assert_eq!(sizes, [2, 2, 1]);
        assert!(
            asked
                .iter()
                .all(|asked| asked.key == "Bearer canary-key" && asked.body["model"] == "m")
        );
    }
}

#[test]
fn vectors_have_length_one_if_wanted() {
    let (runtime, server) = (runtime(), Server::that(Vec::new()));
    let options = EndpointOptions {
        normalize: true,
        ..options(&server)
    };
    let endpoint = Endpoint::new(options, runtime.handle().clone()).unwrap();
    let vectors = endpoint.embed(&TEXTS).unwrap();
    for (row, text) in vectors.rows().zip(TEXTS) {
        let length = vector_of(text).iter().map(|x| x * x).sum::<f32>().sqrt();
        for (found, raw) in row.iter().zip(vector_of(text)) {
            assert!((found - raw / length).abs() < 1e-6);
        }
    }
}

#[test]
fn what_passes_is_asked_again() {
    let runtime = runtime();
    let nan = r#"{"data":[{"index":0,"embedding":[NaN,1,2]}]}"#;
    let nan_base64 = r#"{"data":[{"index":0,"embedding":"AADAfwAAgD8AAIA/"}]}"#;
    let says = |status, body: &str| Does::Says(status, "x-a: b", body.to_owned());
    for fault in [
        says(429, "slow down"),
        says(500, ""),
        says(503, "{}"),
        says(200, &well(&json!({ "input": ["a"] })).to_string()[..40]),
        says(200, r#"{"data":[]}"#),
        says(200, nan),
        says(200, nan_base64),
        Does::HangsUp,
        Does::BreaksOff,
        Does::After(Duration::from_secs(4)),
    ] {
        let server = Server::that(vec![fault.clone(), fault.clone()]);
        let endpoint = Endpoint::new(options(&server), runtime.handle().clone()).unwrap();
        let vectors = endpoint
            .embed(&["a"])
            .unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_right(&vectors, &["a"]);
        assert_eq!(server.asked().len(), 3, "{fault:?}");
    }
}

#[test]
fn the_service_says_when_it_wants_to_be_asked_again() {
    let runtime = runtime();
    let server = Server::that(vec![Does::Says(429, "retry-after: 1", String::new())]);
    let endpoint = Endpoint::new(options(&server), runtime.handle().clone()).unwrap();
    endpoint.embed(&["a"]).unwrap();
    let asked = server.asked();
    assert!(asked[1].at - asked[0].at >= Duration::from_secs(1));
}

#[test]
fn what_does_not_pass_is_one_error_without_the_key() {
    let runtime = runtime();
    let says = |status, body: &str| Does::Says(status, "x-a: b", body.to_owned());
    // What may be the text's fault is asked of another one, too.
    for (fault, requests) in [
        (says(401, "who is canary-key?"), 1),
        (says(400, "no model m; canary-key"), 2),
        (says(404, ""), 1),
        (says(413, ""), 2),
        (says(302, ""), 2),
        (says(500, "canary-key"), 8),
        (Does::HangsUp, 8),
    ] {
        let server = Server::that(vec![fault.clone(); 8]);
        let endpoint = Endpoint::new(options(&server), runtime.handle().clone()).unwrap();
        let error = endpoint.embed(&["a"]).unwrap_err();
        assert_eq!(error.passes(), requests == 8, "{error}");
        assert_eq!(server.asked().len(), requests, "{error}");
        let shown = format!("{error} {error:?} {endpoint:?}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}

#[test]
fn too_large_a_batch_is_sent_in_halves() {
    let runtime = runtime();
    let server = Server::that(vec![Does::Says(413, "x-a: b", String::new()); 2]);
    let endpoint = Endpoint::new(options(&server), runtime.handle().clone()).unwrap();
    assert_right(&endpoint.embed(&TEXTS).unwrap(), &TEXTS);
    assert_eq!(server.asked().len(), 2 + 3);
}

/// What a window comes to: the parts, and how it ended.
fn parts(
    endpoint: &Endpoint,
    texts: &[&str],
    until: &Cancel,
    mut each: impl FnMut(&Part),
) -> (Vec<Part>, Result<(), EmbedError>) {
    let mut parts = Vec::new();
    let ended = endpoint.embed_in_parts(texts, until, &mut |part| {
        each(&part);
        parts.push(part);
    });
    (parts, ended)
}

/// Texts of the parts: how many have a vector, by part; `None` for one that was refused.
fn counts(parts: &[Part]) -> Vec<Option<usize>> {
    let count = |part: &Part| match part {
        Part::Made(embedded) => Some(embedded.vectors.len() / 3),
        Part::Refused(why) => {
            assert!(why.contains("not this one"), "{why}");
            None
        }
        Part::Wasted(tokens) => panic!("{tokens} tokens of no part"),
    };
    parts.iter().map(count).collect()
}

/// The one text that the service never takes is found; all others get their vectors, and
/// no text that was answered is asked for again.
#[test]
fn a_text_that_is_refused_stands_alone() {
    let runtime = runtime();
    for (batch_texts, expected) in [
        (5, vec![Some(2), None, Some(2)]),
        (2, vec![Some(2), None, Some(1), Some(1)]),
        (1, vec![Some(1), Some(1), None, Some(1), Some(1)]),
    ] {
        let server = Server::refusing("ccc", Vec::new());
        let options = EndpointOptions {
            batch_texts,
            ..options(&server)
        };
        let endpoint = Endpoint::new(options, runtime.handle().clone()).unwrap();
        let (parts, ended) = parts(&endpoint, &TEXTS, &Cancel::new(), |_| ());
        ended.unwrap();
        assert_eq!(counts(&parts), expected);
        let tokens = parts.iter().map(|part| match part {
            Part::Made(embedded) => embedded.tokens as u64,
            _ => 0,
        });
        assert_eq!(tokens.sum::<u64>(), endpoint.usage().tokens);
        let texts = server.asked().into_iter().flat_map(|asked| {
            let refused = holds(&asked.body, "ccc");
            let texts = asked.body["input"].as_array().unwrap().clone();
            texts.into_iter().filter(move |_| !refused)
        });
        let mut texts: Vec<String> = texts
            .map(|text| text.as_str().unwrap().to_owned())
            .collect();
        texts.sort();
        assert_eq!(texts, ["a", "bb", "dddd", "eeeee", WORD]);
        // Whoever wants all or nothing hears why.
        let error = endpoint.embed(&TEXTS).unwrap_err();
        assert!(error.to_string().contains("not this one"), "{error}");
    }
}

/// A word is refused, too: it is not the text, and no text is told to be refused.
#[test]
fn a_service_that_refuses_everything_refuses_no_text() {
    let runtime = runtime();
    let fault = Does::Says(400, "x-a: b", "no such model".to_owned());
    let server = Server::that(vec![fault; 100]);
    let endpoint = Endpoint::new(options(&server), runtime.handle().clone()).unwrap();
    let (parts, ended) = parts(&endpoint, &TEXTS, &Cancel::new(), |_| ());
    assert!(parts.is_empty(), "{parts:?}");
    let error = ended.unwrap_err();
    assert!(error.to_string().contains("no such model"), "{error}");
    // Five texts, two, one, and the word.
    assert_eq!(server.asked().len(), 4);
}

#[test]
fn what_was_answered_before_an_error_is_told() {
    let (runtime, server) = (
        runtime(),
        Server::that(vec![Does::Well, Does::Says(401, "x-a: b", String::new())]),
    );
    let options = EndpointOptions {
        batch_texts: 2,
        ..options(&server)
    };
    let endpoint = Endpoint::new(options, runtime.handle().clone()).unwrap();
    let (parts, ended) = parts(&endpoint, &TEXTS, &Cancel::new(), |_| ());
    assert!(matches!(
        ended,
        Err(EmbedError::Endpoint(EndpointError::Refused { .. }))
    ));
    assert_eq!(counts(&parts), [Some(2)]);
    assert_eq!(server.asked().len(), 2);
}

/// Answers of no use are paid for, and told as what they are.
#[test]
fn all_tokens_are_told_whatever_they_were_for() {
    let runtime = runtime();
    let useless = || {
        let body = r#"{"data":[],"usage":{"total_tokens":9}}"#;
        Does::Says(200, "x-a: b", body.to_owned())
    };
    let server = Server::that(vec![useless(), useless()]);
    let endpoint = Endpoint::new(options(&server), runtime.handle().clone()).unwrap();
    let (made, ended) = parts(&endpoint, &["a"], &Cancel::new(), |_| ());
    ended.unwrap();
    let [Part::Made(embedded)] = made.as_slice() else {
        panic!("{made:?}");
    };
    assert_eq!((embedded.tokens, endpoint.usage().tokens), (28, 28));

    let server = Server::that((0..8).map(|_| useless()).collect());
    let endpoint = Endpoint::new(options(&server), runtime.handle().clone()).unwrap();
    let (wasted, ended) = parts(&endpoint, &["a"], &Cancel::new(), |_| ());
    assert!(ended.unwrap_err().passes());
    assert_eq!(wasted, [Part::Wasted(72)]);
}

/// Neither a rate nor a pause is waited for when the run is to end, and nothing more is
/// asked.
#[test]
fn who_is_asked_to_end_waits_for_nothing() {
    let runtime = runtime();
    let busy = Does::Says(429, "retry-after: 100", String::new());
    for (requests_per_minute, plan) in [(Some(1), Vec::new()), (None, vec![Does::Well, busy])] {
        let server = Server::that(plan);
        let options = EndpointOptions {
            batch_texts: 2,
            requests_per_minute,
            ..options(&server)
        };
        let endpoint = Endpoint::new(options, runtime.handle().clone()).unwrap();
        let (until, began) = (Cancel::new(), Instant::now());
        let later = until.clone();
        let (parts, ended) = parts(&endpoint, &TEXTS, &until, |_| {
            let later = later.clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(500));
                later.cancel();
            });
        });
        assert!(matches!(
            ended,
            Err(EmbedError::Endpoint(EndpointError::Stopped))
        ));
        assert_eq!(counts(&parts), [Some(2)]);
        assert!(began.elapsed() < Duration::from_secs(20));
        assert!(server.asked().len() <= 2);
    }
}

#[test]
fn vectors_of_another_length_are_refused() {
    let (runtime, server) = (runtime(), Server::that(Vec::new()));
    let options = EndpointOptions {
        dimensions: Some(384),
        ..options(&server)
    };
    let endpoint = Endpoint::new(options, runtime.handle().clone()).unwrap();
    let error = endpoint.embed(&["a"]).unwrap_err();
    assert!(
        matches!(
            error,
            EndpointError::Dimensions {
                expected: 384,
                found: 3,
                ..
            }
        ),
        "{error}"
    );
}

/// A lower bound only: that nothing is asked sooner than the rate allows.
#[test]
fn rates_are_kept() {
    let runtime = runtime();
    for (requests, tokens) in [(Some(240), None), (None, Some(2_400))] {
        let server = Server::that(Vec::new());
        let options = EndpointOptions {
            batch_texts: 1,
            requests_per_minute: requests,
            tokens_per_minute: tokens,
            ..options(&server)
        };
        let endpoint = Endpoint::new(options, runtime.handle().clone()).unwrap();
        endpoint.embed(&TEXTS).unwrap();
        let asked = server.asked();
        // Four more requests at four a second; 40 more tokens at 40 a second.
        assert!(asked[4].at - asked[0].at >= Duration::from_millis(700));
    }
}

/// Two services may have one name for two models. No secret gets into a name, whatever the
/// address is.
#[test]
fn a_name_says_where_the_model_is_and_no_secret() {
    for (url, name) in [
        ("https://api.example/v1", "m at api.example/v1"),
        ("https://API.example:443/v1/", "m at api.example/v1"),
        ("http://localhost:8080", "m at localhost:8080"),
        ("https://user:canary@a/v1?key=canary#canary", "m at a/v1"),
        ("canary", "m"),
    ] {
        assert_eq!(Endpoint::name_of("m", url), name, "{url}");
    }
    let (runtime, server) = (runtime(), Server::that(Vec::new()));
    let endpoint = Endpoint::new(options(&server), runtime.handle().clone()).unwrap();
    assert_eq!(endpoint.model(), Endpoint::name_of("m", &server.url));
    assert_ne!(endpoint.model(), "m");
}

#[test]
fn addresses_that_are_none_are_refused() {
    let runtime = runtime();
    for url in [
        "",
        "localhost",
        "ftp://a/v1",
        "https://user:canary@a/v1",
        "https://a/v1?key=canary",
    ] {
        let error =
            Endpoint::new(EndpointOptions::new(url, "m"), runtime.handle().clone()).unwrap_err();
        assert!(
            matches!(error, EndpointError::Url { .. }) && !error.to_string().contains("canary"),
            "{error}"
        );
    }
}
