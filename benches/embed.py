#!/usr/bin/env python3
"""all-MiniLM-L6-v2 in `paper-index` beside sentence-transformers and onnxruntime.

    python3 benches/embed.py                           # 2,000 chunks, 3 rounds
    python3 benches/embed.py --chunks 300 --rounds 1 --only ours,onnxruntime
    python3 benches/embed.py --python ENV/bin/python   # an environment that is there already

The same chunks of 20 to 200 words (from the documentation of Python's own modules) for
all, each contender a process of its own with two threads, one after the other in each
round. Seconds are those of embedding alone, without loading; CPU seconds are the kernel's
account of the process while it embeds. All vectors are compared with each other.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import struct
import subprocess
import sys

from usage import python_with

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PACKAGES = ["sentence-transformers==6.2.0", "onnxruntime==1.32.0", "onnx==1.23.2", "onnxscript"]

PEER = r'''
import json, pathlib, sys, time, resource
kind, model, chunks, out, threads = sys.argv[1:6]
threads = int(threads)
texts = json.loads(pathlib.Path(chunks).read_text())
import numpy as np
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
if kind == "sentence-transformers":
    import torch
    torch.set_num_threads(threads)
    from sentence_transformers import SentenceTransformer
    st = SentenceTransformer(model, device="cpu")
    st.encode(texts[:8], batch_size=8)
    began, used = time.perf_counter(), cpu()
    vectors = st.encode(texts, batch_size=32, normalize_embeddings=True)
    tokens = sum(min(len(ids), 256) for ids in st.tokenizer(texts)["input_ids"])
else:
    import onnxruntime as ort
    from tokenizers import Tokenizer
    path = pathlib.Path(out).parent / "model.onnx"
    if not path.exists():
        import torch
        from transformers import AutoModel
        bert = AutoModel.from_pretrained(model, attn_implementation="eager").eval()
        class Net(torch.nn.Module):
            def forward(self, ids, mask, types):
                return bert(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
        net = Net().eval()
        one = torch.ones(2, 8, dtype=torch.long)
        # Where nothing is masked, what masks would be left out of the graph.
        mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3])
        names = ["input_ids", "attention_mask", "token_type_ids"]
        axes = {0: torch.export.Dim("batch", min=1, max=4096), 1: torch.export.Dim("sequence", min=2, max=512)}
        torch.onnx.export(net, (one, mask, one * 0), str(path), input_names=names, output_names=["hidden"],
                          dynamic_shapes=(axes, axes, axes), dynamo=True, external_data=False)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(pathlib.Path(model) / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding()
    def embed(batch):
        encoded = tokenizer.encode_batch(batch)
        ids = np.array([one.ids for one in encoded], dtype=np.int64)
        mask = np.array([one.attention_mask for one in encoded], dtype=np.int64)
        hidden = session.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0})[0]
        summed = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        return summed / np.linalg.norm(summed, axis=1, keepdims=True), int(mask.sum())
    embed(texts[:8])
    began, used = time.perf_counter(), cpu()
    order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
    vectors, tokens = np.zeros((len(texts), 384), dtype=np.float32), 0
    for at in range(0, len(order), 32):
        places = order[at:at + 32]
        found, count = embed([texts[n] for n in places])
        vectors[places], tokens = found, tokens + count
took, used = time.perf_counter() - began, cpu() - used
pathlib.Path(out).write_bytes(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
print(json.dumps({"seconds": took, "cpu_seconds": used, "tokens": tokens}))
'''


def chunks(count):
    """Chunks of 20 to 200 words; the same whenever they are made."""
    dice, words = random.Random(11), []
    for name in sorted(sys.stdlib_module_names):
        if name.startswith("_") or name in ("antigravity", "this", "idlelib"):
            continue
        said = subprocess.run([sys.executable, "-m", "pydoc", name], capture_output=True, text=True, timeout=60)
        words += said.stdout.split()
        if len(words) > count * 130:
            break
    found, at = [], 0
    while len(found) < count:
        length = dice.randint(20, 200)
        if at + length > len(words):
            at = dice.randint(0, 200)
        found.append(" ".join(words[at:at + length]))
        at += length
    return found


def near(a, b):
    a, b = (struct.unpack(f"<{len(all) // 4}f", all) for all in (a, b))
    worst = 1.0
    for at in range(0, len(a), 384):
        worst = min(worst, sum(x * y for x, y in zip(a[at:at + 384], b[at:at + 384])))
    return worst


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--chunks", type=int, default=2000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--only", default="ours,onnxruntime,sentence-transformers")
    options.add_argument("--python")
    options.add_argument("--no-build", action="store_true")
    chosen = options.parse_args()
    if not chosen.no_build:
        build = ["cargo", "build", "--release", "--locked", "--workspace", "--example", "embed"]
        subprocess.run(build, cwd=ROOT, check=True)
    python = chosen.python or python_with(TARGET, "embed", PACKAGES)
    home = TARGET / "bench-embed"
    home.mkdir(parents=True, exist_ok=True)
    model = pathlib.Path(os.environ.get("HIGHWATER_MODEL_DIR", TARGET / "models/all-MiniLM-L6-v2"))
    texts = home / "chunks.json"
    texts.write_text(json.dumps(chunks(chosen.chunks)))
    peer = home / "peer.py"
    peer.write_text(PEER)
    taken, vectors = {}, {}
    for _ in range(chosen.rounds):
        for name in chosen.only.split(","):
            out = home / f"{name}.f32"
            threads = str(chosen.threads)
            command = [python, peer, name, model, texts, out, threads]
            if name == "ours":
                command = [TARGET / "release/examples/embed", model, texts, threads, out]
            env = {key: value for key, value in os.environ.items() if not key.startswith("OPENBLAS")}
            env["HF_HUB_OFFLINE"] = "1"
            with open(home / "log", "w+") as log:
                child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=env)
                said = child.stdout.read()
                _, status, usage = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(status)
                log.seek(0)
                if child.returncode:
                    sys.exit(f"{name} failed: {log.read()[-2000:]}")
            told = json.loads(said.splitlines()[-1])
            told["rss"] = usage.ru_maxrss / 1024
            # Ours tells how long it took to read and check the model, on one thread.
            told.setdefault("cpu_seconds", usage.ru_utime + usage.ru_stime - told.get("open_seconds", 0))
            taken.setdefault(name, []).append(told)
            vectors[name] = out.read_bytes()
    first = next(iter(vectors))
    print("| what | seconds | CPU seconds | chunks/s | tokens/s | tokens a CPU second | peak RSS | padding | worst cosine to the first |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, rounds in taken.items():
        seconds = statistics.median(one["seconds"] for one in rounds)
        cpu = statistics.median(one["cpu_seconds"] for one in rounds)
        tokens = rounds[0]["tokens"]
        print(f"| {name} | {seconds:.2f} | {cpu:.2f} | {chosen.chunks / seconds:.0f} | {tokens / seconds:.0f} | "
              f"{tokens / cpu:.0f} | {max(one['rss'] for one in rounds):.0f} MiB | "
              f"{100 * rounds[0].get('padding', 0) / tokens:.2f}% | {near(vectors[first], vectors[name]):.6f} |")


if __name__ == "__main__":
    main()
