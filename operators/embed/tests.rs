//! The model against what sentence-transformers says (`testdata/reference.py`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Reference {
    texts: Vec<Text>,
    odd: Vec<Vec<u32>>,
}

#[derive(Deserialize)]
struct Text {
    ids: Vec<u32>,
    vector: String,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("testdata/reference.json")).unwrap()
}

fn texts() -> Vec<String> {
    serde_json::from_str(include_str!("testdata/texts.json")).unwrap()
}

pub(super) fn files() -> ModelFiles {
    let directory = std::env::var_os("HIGHWATER_MODEL_DIR")
        .expect("HIGHWATER_MODEL_DIR is not set: run scripts/test, which fetches the model");
    ModelFiles::find(Some(directory.as_ref())).unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn vectors_are_those_of_the_reference() {
    let texts = texts();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let model = MiniLm::open(&files()).unwrap();
    let embedded = model.embed(&texts).unwrap();
    let reference = reference().texts;
    assert_eq!(embedded.vectors.len(), reference.len() * model.dimensions());
    assert!(embedded.truncated > 0, "no text is too long");
    for (at, expected) in reference.iter().enumerate() {
        let bytes = BASE64_STANDARD.decode(&expected.vector).unwrap();
        let expected: Vec<f32> = bytes
            .as_chunks()
            .0
            .iter()
            .map(|x| f32::from_le_bytes(*x))
            .collect();
        let found = &embedded.vectors[at * 384..][..384];
        let cosine = cosine(found, &expected);
        assert!(cosine > 0.999_99, "cosine {cosine} for {:?}", texts[at]);
    }
}

#[test]
fn a_vector_does_not_depend_on_the_texts_beside_it() {
    let texts = texts();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let model = MiniLm::open(&files()).unwrap().with_batch_tokens(256);
    let together = model.embed(&texts).unwrap().vectors;
    for (text, together) in texts.iter().zip(together.as_chunks::<384>().0) {
        let alone = model.embed(&[text]).unwrap().vectors;
        let apart = alone.iter().zip(together).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f32::max) < 1e-5, "{text:?}");
    }
}

#[test]
fn nothing_in_is_nothing_out() {
    let model = MiniLm::open(&files()).unwrap();
    assert_eq!(model.embed(&[]).unwrap(), Embedded::default());
}

#[test]
fn tokens_are_those_of_the_reference() {
    let tokens = Tokens::open(&files()).unwrap();
    let Reference {
        texts: expected,
        odd: expected_odd,
    } = reference();
    for (text, expected) in texts().iter().zip(expected) {
        assert_eq!(tokens.ids(text).unwrap(), expected.ids, "{text:?}");
        assert_eq!(
            tokens.count(text).unwrap() + tokens::AROUND,
            expected.ids.len()
        );
    }
    let odd: Vec<String> = serde_json::from_str(include_str!("testdata/odd.json")).unwrap();
    assert_eq!(odd.len(), expected_odd.len());
    for (text, expected) in odd.iter().zip(expected_odd) {
        assert_eq!(tokens.ids(text).unwrap(), expected, "{text:?}");
    }
}

#[test]
fn offsets_are_pieces_of_the_text() {
    let tokens = Tokens::open(&files()).unwrap();
    let text = "Crème brûlée, 你好!";
    let offsets = tokens.offsets(text).unwrap();
    let pieces: Vec<&str> = offsets.into_iter().map(|at| &text[at]).collect();
    assert!(pieces.iter().all(|piece| !piece.is_empty()), "{pieces:?}");
    assert_eq!(pieces.concat(), text.replace(' ', ""));
}

#[test]
fn a_damaged_file_is_named_with_both_hashes() {
    let folder = tempfile::tempdir().unwrap();
    for file in [&files::WEIGHTS, &files::TOKENIZER] {
        std::fs::copy(
            files().directory().join(file.name),
            folder.path().join(file.name),
        )
        .unwrap();
    }
    let path = folder.path().join(files::WEIGHTS.name);
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let files = ModelFiles::find(Some(folder.path())).unwrap();
    for error in [
        files.check().unwrap_err(),
        MiniLm::open(&files).unwrap_err(),
    ] {
        let said = error.to_string();
        assert!(matches!(error, ModelError::Damaged { .. }), "{said}");
        assert!(
            said.contains(super::files::WEIGHTS.sha256) && said.contains("model pull"),
            "{said}"
        );
    }
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let said = ModelFiles::find(Some(folder.path()))
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("model.safetensors") && said.contains("--model-dir"),
        "{said}"
    );
}
