//! `model.safetensors` in the form in which the forward pass reads it.
//!
//! The file is read once from front to back, hashed on the way, and each tensor
//! goes straight to its place: 91 MB stay, and 2.4 MB more while loading. The
//! hash is of the very bytes that are used.

use std::collections::HashMap;
use std::io::{self, Read};

use pulp::Arch;
use serde::Deserialize;

use super::linear::Packed;
use super::{HEADS, HIDDEN, INNER, LAYERS, POSITIONS, VOCABULARY};

/// Why `model.safetensors` is not this model's.
#[derive(Debug, thiserror::Error)]
pub(super) enum WeightsError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("its header is not that of safetensors: {0}")]
    Header(#[from] serde_json::Error),
    #[error("it has no tensor {0} of f32 in the shape of all-MiniLM-L6-v2")]
    Tensor(String),
}

/// Scale and shift of a layer norm.
#[derive(Debug)]
pub(super) struct Norm {
    pub(super) scale: Vec<f32>,
    pub(super) shift: Vec<f32>,
}

/// One of the six layers.
#[derive(Debug)]
pub(super) struct Layer {
    /// Queries (divided by the square root of their length), keys, values.
    pub(super) qkv: Packed<HIDDEN>,
    pub(super) output: Packed<HIDDEN>,
    pub(super) attention_norm: Norm,
    pub(super) up: Packed<HIDDEN>,
    pub(super) down: Packed<INNER>,
    pub(super) inner_norm: Norm,
}

/// The model.
#[derive(Debug)]
pub(super) struct Weights {
    /// `[word][HIDDEN]`
    pub(super) words: Vec<f32>,
    /// `[position][HIDDEN]`, with the embedding of the only token type added.
    pub(super) positions: Vec<f32>,
    pub(super) norm: Norm,
    pub(super) layers: Vec<Layer>,
}

/// Longest header that is read: the real one has 11 KB.
const HEADER_BYTES: u64 = 1 << 20;
const FILE_BYTES: u64 = super::super::files::WEIGHTS.bytes;

impl Weights {
    /// Reads the file to its end.
    pub(super) fn read(arch: Arch, file: &mut dyn Read) -> Result<Self, WeightsError> {
        let mut tensors = Tensors::read(file)?;
        let mut layers = Vec::with_capacity(LAYERS);
        for layer in 0..LAYERS {
            layers.push(tensors.layer(arch, &format!("encoder.layer.{layer}"))?);
        }
        let mut positions =
            tensors.take("embeddings.position_embeddings.weight", POSITIONS * HIDDEN)?;
        let kinds = tensors.take("embeddings.token_type_embeddings.weight", 2 * HIDDEN)?;
        for row in positions.chunks_exact_mut(HIDDEN) {
            for (position, kind) in row.iter_mut().zip(&kinds) {
                *position += kind;
            }
        }
        Ok(Self {
            words: tensors.take("embeddings.word_embeddings.weight", VOCABULARY * HIDDEN)?,
            positions,
            norm: tensors.norm("embeddings.LayerNorm")?,
            layers,
        })
    }
}

/// Where the header says that a tensor is; offsets count from the header's end.
#[derive(Deserialize)]
struct Info {
    dtype: String,
    data_offsets: (u64, u64),
}

/// The tensors of a file that nobody has taken yet.
struct Tensors(HashMap<String, Vec<f32>>);

impl Tensors {
    /// The format: the length of a JSON header, the header, the numbers.
    fn read(file: &mut dyn Read) -> Result<Self, WeightsError> {
        let mut bytes = [0; 8];
        file.read_exact(&mut bytes)?;
        let mut header = Vec::new();
        file.take(u64::from_le_bytes(bytes).min(HEADER_BYTES))
            .read_to_end(&mut header)?;
        let mut infos: HashMap<String, serde_json::Value> = serde_json::from_slice(&header)?;
        infos.remove("__metadata__");
        let mut tensors = Vec::with_capacity(infos.len());
        for (name, info) in infos {
            tensors.push((name, serde_json::from_value::<Info>(info)?));
        }
        tensors.sort_by_key(|(_, info)| info.data_offsets);
        let mut all = HashMap::new();
        for (
            name,
            Info {
                dtype,
                data_offsets: (start, end),
            },
        ) in tensors
        {
            let bytes = end.saturating_sub(start);
            if dtype == "F32" && !name.starts_with("pooler.") {
                all.insert(name, read_floats(file, bytes)?);
            } else {
                io::copy(&mut file.take(bytes), &mut io::sink())?;
            }
        }
        Ok(Self(all))
    }

    fn take(&mut self, name: &str, len: usize) -> Result<Vec<f32>, WeightsError> {
        let tensor = self.0.remove(name).filter(|tensor| tensor.len() == len);
        tensor.ok_or_else(|| WeightsError::Tensor(name.to_owned()))
    }

    fn norm(&mut self, name: &str) -> Result<Norm, WeightsError> {
        Ok(Norm {
            scale: self.take(&format!("{name}.weight"), HIDDEN)?,
            shift: self.take(&format!("{name}.bias"), HIDDEN)?,
        })
    }

    fn linear<const K: usize>(
        &mut self,
        arch: Arch,
        name: &str,
        outputs: usize,
    ) -> Result<Packed<K>, WeightsError> {
        let weights = self.take(&format!("{name}.weight"), outputs * K)?;
        let bias = self.take(&format!("{name}.bias"), outputs)?;
        Ok(Packed::new(arch, weights.as_chunks().0, &bias))
    }

    fn qkv(&mut self, arch: Arch, name: &str) -> Result<Packed<HIDDEN>, WeightsError> {
        let (mut weights, mut bias) = (Vec::new(), Vec::new());
        for part in ["query", "key", "value"] {
            weights.extend(self.take(&format!("{name}.{part}.weight"), HIDDEN * HIDDEN)?);
            bias.extend(self.take(&format!("{name}.{part}.bias"), HIDDEN)?);
        }
        let scale = 1.0 / ((HIDDEN / HEADS) as f32).sqrt();
        let queries = weights[..HIDDEN * HIDDEN]
            .iter_mut()
            .chain(&mut bias[..HIDDEN]);
        queries.for_each(|x| *x *= scale);
        Ok(Packed::new(arch, weights.as_chunks().0, &bias))
    }

    fn layer(&mut self, arch: Arch, name: &str) -> Result<Layer, WeightsError> {
        Ok(Layer {
            qkv: self.qkv(arch, &format!("{name}.attention.self"))?,
            output: self.linear(arch, &format!("{name}.attention.output.dense"), HIDDEN)?,
            attention_norm: self.norm(&format!("{name}.attention.output.LayerNorm"))?,
            up: self.linear(arch, &format!("{name}.intermediate.dense"), INNER)?,
            down: self.linear(arch, &format!("{name}.output.dense"), HIDDEN)?,
            inner_norm: self.norm(&format!("{name}.output.LayerNorm"))?,
        })
    }
}

fn read_floats(file: &mut dyn Read, bytes: u64) -> io::Result<Vec<f32>> {
    // A header that lies about lengths is met by the end of the file, not by memory.
    let mut floats = Vec::with_capacity((bytes.min(FILE_BYTES) / 4) as usize);
    let mut left = file.take(bytes);
    let mut part = Vec::with_capacity(1 << 16);
    while left.by_ref().take(1 << 16).read_to_end(&mut part)? > 0 {
        floats.extend(part.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)));
        part.clear();
    }
    Ok(floats)
}
