#!/usr/bin/env python3
"""Text of PDF files by several libraries, compared with what pdftotext reads.

    python3 benches/pdf.py                     # downloads Debian packages, takes 60 of their PDFs
    python3 benches/pdf.py --documents 30 --only ours,lopdf
    python3 benches/pdf.py --folder ~/papers   # your own

Each document is read by one process of each contender, in turns. Words are
compared as multisets (F1) and in order: the share of pdftotext's runs of five words
that the contender has too. Failed is what gave an error or no text where pdftotext
gave some; such a document counts 0. Time is the processor time of the process,
without that of the same program doing nothing; memory is its peak.

Contenders that are Rust libraries with Python wheels are run through those.
"""

import argparse
import collections
import gzip
import os
import pathlib
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOME = ROOT / "target" / "peers" / "pdf"
PACKAGES = """
r-cran-vcd r-cran-zoo r-cran-sandwich r-cran-strucchange r-cran-survival r-cran-lme4
r-cran-party r-cran-coin r-cran-multcomp r-cran-raster r-cran-sp r-cran-mcmc r-cran-rcpp
r-cran-data.table r-bioc-limma r-bioc-edger r-bioc-biobase siscone-doc-pdf why3-doc-pdf
debian-refcard ubuntu-packaging-guide-pdf ubuntu-packaging-guide-pdf-ru python-reportlab-doc
gri-pdf-doc live-manual-pdf auto-multiple-choice-doc-pdf camlidl-doc maint-guide fftw-docs
libfftw3-doc nauty-doc glpk-doc lp-solve-doc asymptote-doc units gnuplot-doc r-doc-pdf gap-doc
latexmk groff debmake-doc
""".split()
WHEELS = ["pdf-oxide==0.3.78", "pdf-inspector==1.25.2", "unpdf-markdown==0.51.0", "oxidize-pdf==0.23.0"]
PER_PACKAGE = 4
# Of processor time, for one document.
SECONDS = 60

CARGO = """[workspace]
[package]
name = "peers-pdf"
version = "0.0.0"
edition = "2024"
[dependencies]
pdf-extract = "0.12.1"
lopdf = { version = "0.47", default-features = false }
"""
MAIN = """fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let Some(path) = arguments.get(2) else { return };
    let bytes = std::fs::read(path).unwrap();
    let text = match arguments[1].as_str() {
        "pdf-extract" => pdf_extract::extract_text_from_mem(&bytes).unwrap(),
        _ => {
            let file = lopdf::Document::load_mem(&bytes).unwrap();
            let pages: Vec<u32> = file.get_pages().into_keys().collect();
            pages.iter().map(|page| file.extract_text(&[*page]).unwrap_or_default()).collect::<Vec<_>>().join("\\n")
        }
    };
    print!("{text}");
}
"""
PYTHON = {
    "pdf_oxide": "import pdf_oxide\ndef read(p):\n d = pdf_oxide.PdfDocument(p)\n return '\\n'.join(d.extract_text(i) for i in range(d.page_count()))",
    "pdf-inspector": "import pdf_inspector\ndef read(p): return pdf_inspector.extract_text(p)",
    "unpdf": "import unpdf\ndef read(p): return unpdf.to_text(p)",
    "oxidize-pdf": "import oxidize_pdf\ndef read(p):\n r = oxidize_pdf.PdfReader.open(p)\n return '\\n'.join(str(t) for t in r.extract_text())",
}


def contenders():
    ours = str(ROOT / "target" / "release" / "examples" / "extract")
    peer = str(HOME / "target" / "release" / "peers-pdf")
    python = str(HOME / "py" / "bin" / "python")
    found = {"ours (hayro)": [ours, "--here"], "lopdf": [peer, "lopdf"], "pdf-extract": [peer, "pdf-extract"]}
    for name, source in PYTHON.items():
        code = f"import sys\n{source}\nif len(sys.argv) > 1: sys.stdout.buffer.write(read(sys.argv[1]).encode('utf-8', 'replace'))"
        found[name] = [python, "-c", code]
    found["pdftotext"] = ["pdftotext", "-enc", "UTF-8"]
    return found


def build(only):
    run = lambda command, **more: subprocess.run(command, check=True, **more)
    run(["cargo", "build", "--release", "--workspace", "--example", "extract"], cwd=ROOT)
    (HOME / "src").mkdir(parents=True, exist_ok=True)
    (HOME / "Cargo.toml").write_text(CARGO)
    (HOME / "src" / "main.rs").write_text(MAIN)
    if not only or {"lopdf", "pdf-extract"} & only:
        run(["cargo", "build", "--release"], cwd=HOME)
    if not (HOME / "py" / "ready").exists():
        run([sys.executable, "-m", "venv", HOME / "py"])
        run([HOME / "py" / "bin" / "pip", "-q", "install", *WHEELS])
        (HOME / "py" / "ready").touch()


def documents(folder, count):
    if folder is None:
        folder = HOME / "packages"
        for package in PACKAGES:
            if (folder / package).exists():
                continue
            (folder / package).mkdir(parents=True)
            # A package that a release of Debian lacks is left out.
            if subprocess.run(["apt-get", "-qq", "download", package], cwd=folder, stderr=subprocess.DEVNULL).returncode == 0:
                archive = next(folder.glob(f"{package}_*.deb"))
                subprocess.run(["dpkg-deb", "-x", archive, folder / package], check=True)
                archive.unlink()
    groups = collections.defaultdict(list)
    for path in sorted(pathlib.Path(folder).rglob("*.pdf*")):
        if path.is_file() and path.suffix in (".pdf", ".gz"):
            groups[path.relative_to(folder).parts[0]].append(path)
    chance = random.Random(6)
    chosen = [path for paths in groups.values() for path in chance.sample(paths, min(PER_PACKAGE, len(paths)))]
    chance.shuffle(chosen)
    HOME.joinpath("documents").mkdir(parents=True, exist_ok=True)
    plain = []
    for number, path in enumerate(chosen):
        contents = path.read_bytes()
        if path.suffix == ".gz":
            contents = gzip.decompress(contents)
        if contents[:5] == b"%PDF-" and len(contents) < 5_000_000:
            copy = HOME / "documents" / f"{number}.pdf"
            copy.write_bytes(contents)
            plain.append((path, copy))
    return plain[:count]


def read(name, command, path):
    """Text, processor seconds, peak bytes."""
    arguments = [*command, str(path)] + (["-"] if name == "pdftotext" else [])
    return account(arguments)


def account(arguments):
    limit = lambda: resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(arguments, stdout=out, stderr=subprocess.DEVNULL, preexec_fn=limit)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        out.seek(0)
        text = out.read().decode("utf-8", "replace") if status == 0 else ""
    return text, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def words(text):
    text = unicodedata.normalize("NFKC", text)
    # Words divided at line ends, as one reader joins them and another does not.
    text = re.sub(r"(\w)[-\u2010\u00ad]\s*\n\s*(\w)", r"\1\2", text)
    return re.findall(r"\w+", text.lower())


def f1(reference, found):
    common = sum((collections.Counter(reference) & collections.Counter(found)).values())
    return 2 * common / max(1, len(reference) + len(found))


def order(reference, found, run=5):
    runs = lambda items: collections.Counter(tuple(items[at : at + run]) for at in range(len(items) - run + 1))
    wanted, have = runs(reference), runs(found)
    return sum((wanted & have).values()) / max(1, sum(wanted.values()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--only", type=lambda names: set(names.split(",")), default=set())
    parser.add_argument("--no-build", action="store_true")
    parser.add_argument("--each", action="store_true", help="also print every document")
    options = parser.parse_args()
    if not options.no_build:
        build(options.only)
    chosen = documents(options.folder, options.documents)
    print(len(chosen), "documents found", flush=True)
    entries = {n: c for n, c in contenders().items() if not options.only or n.split()[0] in options.only}
    nothing = {n: min(account(c if n != "pdftotext" else ["pdftotext", "-v"])[1] for _ in range(3)) for n, c in entries.items()}
    figures = {name: [] for name in entries}
    size = 0
    for source, path in chosen:
        reference = words(read("pdftotext", contenders()["pdftotext"], path)[0])
        if len(reference) < 50:
            continue
        size += path.stat().st_size
        for name, command in entries.items():
            text, seconds, peak = read(name, command, path)
            found = words(text)
            row = (f1(reference, found), order(reference, found), max(0, seconds - nothing[name]), peak, not found)
            figures[name].append(row)
            if options.each:
                print(f"{name:14} {row[0]:.3f} {row[1]:.3f} {row[2]:6.2f} s {row[3] >> 20:5} MiB  {source.name}", flush=True)
    count = len(next(iter(figures.values())))
    print(f"\n{count} documents, {size / 1e6:.1f} MB\n")
    print("| | words F1, mean | worst tenth | order, mean | failed | CPU s, all | peak MiB, largest |")
    print("|---|---|---|---|---|---|---|")
    for name, rows in figures.items():
        worst = sorted(row[0] for row in rows)[: max(1, count // 10)]
        print(
            f"| {name} | {statistics.mean(r[0] for r in rows):.4f} | {statistics.mean(worst):.4f} "
            f"| {statistics.mean(r[1] for r in rows):.4f} | {sum(r[4] for r in rows)} "
            f"| {sum(r[2] for r in rows):.1f} | {max(r[3] for r in rows) >> 20} |"
        )


if __name__ == "__main__":
    main()
