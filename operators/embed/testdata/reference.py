"""Makes `reference.json`: what sentence-transformers says of 50 texts.

    pip install sentence-transformers==6.2.0
    python reference.py MODEL_DIRECTORY

For each text the ids of its tokens (untruncated, with [CLS] and [SEP]) and its
vector: 384 little-endian f32 in base64. `texts.json` holds the texts.
"""

import base64
import json
import pathlib
import sys

import numpy
from sentence_transformers import SentenceTransformer

here = pathlib.Path(__file__).parent
texts = json.loads((here / "texts.json").read_text())
model = SentenceTransformer(sys.argv[1], device="cpu")
assert model.max_seq_length == 256
vectors = model.encode(texts, batch_size=1, normalize_embeddings=True).astype("<f4")
tokenizer = model.tokenizer
odd = json.loads((here / "odd.json").read_text())
reference = {
    "texts": [
        {
            "ids": tokenizer(text, truncation=False, verbose=False)["input_ids"],
            "vector": base64.b64encode(vector.tobytes()).decode(),
        }
        for text, vector in zip(texts, vectors)
    ],
    "odd": [tokenizer(text, truncation=False, verbose=False)["input_ids"] for text in odd],
}
assert numpy.allclose(numpy.linalg.norm(vectors, axis=1), 1, atol=1e-5)
lines = json.dumps(reference, separators=(",", ":")).replace('},{', '},\n{').replace('],[', '],\n[')
(here / "reference.json").write_text(lines + "\n")
