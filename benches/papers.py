#!/usr/bin/env python3
"""`paper-index` on real documents: those of Debian's documentation packages.

    python3 benches/papers.py                        # 2,000 documents
    python3 benches/papers.py --documents 300        # the quick one

The packages are fetched once into target/bench-docs. Three runs: of everything, of
nothing new, and after one document in a hundred got another paragraph. CPU seconds are
the kernel's account of the process and of those that it started; what the model took is
measured on the workers, which do nothing else meanwhile.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

# HTML, text and PDF, by people who did not write them for us.
PACKAGES = [
    "debian-policy", "debian-faq", "developers-reference", "debian-reference-en", "maint-guide",
    "python3.11-doc", "postgresql-doc-15", "gnuplot-doc", "bash-doc", "libpoppler-glib-doc",
    "lp-solve-doc", "nauty-doc", "r-cran-lme4", "r-bioc-limma", "r-bioc-edger", "asymptote-doc", "gap-doc",
    "glpk-doc", "fftw-docs", "groff", "apache2-doc", "cmake-doc",
]
# Of what there is not enough of, HTML takes the place.
KINDS = {".txt": 0.35, ".pdf": 0.15, ".html": 0.5}


def fetch():
    """The documents of the packages, unpacked once."""
    home = TARGET / "bench-docs"
    for package in PACKAGES:
        folder = home / package
        if folder.exists():
            continue
        debs = home / "debs"
        debs.mkdir(parents=True, exist_ok=True)
        got = subprocess.run(["apt-get", "download", package], cwd=debs, capture_output=True)
        found = sorted(debs.glob(f"{package}_*.deb"))
        if got.returncode or not found:
            print(f"{package}: not to be had here, left out", file=sys.stderr)
            continue
        subprocess.run(["dpkg", "-x", found[-1], folder], check=True)
    return home


def choose(home, count):
    """As many of each kind as KINDS says, evenly over all that there are."""
    chosen = []
    files = sorted(path for path in home.rglob("*") if path.is_file() and not path.is_symlink())
    for kind, share in KINDS.items():
        plain = {kind, kind + ".gz"} if kind == ".txt" else {kind}
        of_kind = [path for path in files if "".join(path.suffixes[-2:]) in plain or path.suffix in plain]
        wanted = count - len(chosen) if kind == ".html" else int(count * share)
        wanted = min(wanted, len(of_kind))
        chosen += [of_kind[n * len(of_kind) // wanted] for n in range(wanted)]
    return chosen


def copy(paths, docs):
    shutil.rmtree(docs, ignore_errors=True)
    for number, path in enumerate(paths):
        to = docs / f"{number % 20:02}" / f"{number:05}-{path.name}"
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)


def change(docs):
    """One text or page in a hundred gets another paragraph."""
    files = sorted(path for path in docs.rglob("*") if path.suffix in (".html", ".txt"))
    for path in files[::100]:
        with open(path, "ab") as file:
            file.write(f"\n<p>A paragraph that was not there before: {random.random()}.</p>\n".encode())


def run(config, log):
    """One run: its report, wall and CPU seconds."""
    began = time.perf_counter()
    with open(log, "ab") as said:
        command = [TARGET / "release/paper-index", "run", config, "--json", "--progress", "never"]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said)
        told = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 3):
        sys.exit(f"paper-index ended with {child.returncode}; see {log}")
    report = json.loads(told.splitlines()[-1])
    return report, time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def row(name, report, wall, cpu):
    of, seconds = report["documents"][0], report["seconds"]
    embed = seconds.get("embed", 0.0)
    share = f"{100 * embed / cpu:.0f}%" if cpu else "-"
    tokens = of["tokens"] / wall
    print(f"| {name} | {of['new'] + of['changed']} | {of['quarantined']} | {of['chunks']} | {of['embedded']} | "
          f"{of['tokens']} | {wall:.1f} s | {cpu:.1f} s | {embed:.1f} s, {share} | {tokens:.0f} | "
          f"{report['peak_rss_bytes'] / 2**20:.0f} MiB |", flush=True)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--documents", type=int, default=2000)
    options.add_argument("--memory", default="1GiB")
    options.add_argument("--no-build", action="store_true")
    chosen = options.parse_args()
    if not chosen.no_build:
        subprocess.run(["cargo", "build", "--release", "--locked", "--bin", "paper-index"], cwd=ROOT, check=True)
    random.seed(7)
    home = TARGET / "bench-papers"
    shutil.rmtree(home, ignore_errors=True)
    docs = home / "docs"
    copy(choose(fetch(), chosen.documents), docs)
    model = os.environ.get("HIGHWATER_MODEL_DIR", TARGET / "models/all-MiniLM-L6-v2")
    config = home / "papers.toml"
    config.write_text(f'lake = "file:{home}/lake"\nmemory = "{chosen.memory}"\n[papers]\nmodel_dir = "{model}"\n'
                      f'[instances.debian]\nsource = "file:{docs}"\n')
    print("| run | documents read | set aside | chunks | embedded | tokens | wall | CPU, all | embedding | tokens/s | peak RSS |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    row("everything", *run(config, home / "log"))
    row("nothing new", *run(config, home / "log"))
    change(docs)
    row("1% changed", *run(config, home / "log"))


if __name__ == "__main__":
    main()
