#!/usr/bin/env python3
"""Makes data/papers: a few short documents, one of each format that needs no tool.

    python3 data/make-papers.py
"""

import pathlib
import zipfile

HOME = pathlib.Path(__file__).parent / "papers"

NOTES = """\
---
title: Notes on watermarks
author: Ada Rivers
date: 2026-03-01
---

# Notes on watermarks

A watermark says how far a copy has come. Everything below it is in the copy, and nothing
above it is promised.

## Why rows get lost

A sync that asks for all rows newer than the newest it has seen loses every row that was
written earlier and committed later. The clock of a transaction is read when it begins, not
when it ends, so order of writing is not order of appearing.

## What helps

Read the bound and the rows in one snapshot, keep the bound below the oldest transaction
that is still open, and remove what you read twice by its key.
"""

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<title>Who may delete a file</title>
<meta name="author" content="Ben Harbour">
<meta name="date" content="2026-04-12">
<style>p { margin: 1em }</style>
</head>
<body>
<nav>Home | Contents</nav>
<h1>Who may delete a file</h1>
<p>No error path deletes a file. A request that failed may have been carried out, and what
looks like rubbish may be the only copy.</p>
<h2>The one place that deletes</h2>
<p>Garbage collection removes what no kept version names, what no open load names, and what
is older than the longest run could be. It writes down what it gives up before it removes
the first file.</p>
<script>console.log("not part of the text")</script>
</body>
</html>
"""

PAPER = r"""\documentclass{article}
\title{Backpressure by permits}
\author{Cleo Stone \and Dan Field}
\date{May 2026}
\begin{document}
\maketitle
\begin{abstract}
Memory that is paid for before it is used cannot run out.
\end{abstract}
\section{Permits}
A reader takes a permit for the bytes it is about to hold. The permit travels with the
batch and is given back when the batch is gone.
% a comment that no reader of the paper sees
\section{Deadlock}
Writers have a share of their own. A full reading side can then never starve the writing
side, and the bound $R + W \le M$ holds at every instant.
\end{document}
"""

PLAIN = """\
A short history of the lighthouse

The first light on the rock was a fire of coal. It burned for eighty years and was seen from
nine miles away on a clear night.

In the second year of the new tower a lens of ground glass was carried up its stairs, in
twenty-four pieces, by the crew of the supply boat. From then on the light was seen from
nineteen miles.
"""

PDF_PAGES = [
    ("Measuring a dataflow", [
        "A frontier moves when no worker can still send an earlier time.",
        "How far it lags behind the clock is what a user feels as delay.",
    ]),
    ("Noise", [
        "On a shared machine only ratios within one run can be trusted.",
        "Compare with a peer in the same minute and quote the median.",
    ]),
]

DOCX_TEXT = [
    ("Heading1", "The winter of the long ice"),
    (None, "The harbour was closed from December to April. Letters came over the hills, "
           "twice a week, on skis."),
    ("Heading1", "Spring"),
    (None, "When the ice broke, the first boat brought oranges and a piano."),
]


def pdf():
    """Two pages in Helvetica, uncompressed, with a table of objects."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        None,
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Title (Measuring a dataflow) /Author (Eve Lake) /CreationDate (D:20260601000000Z) >>",
    ]
    pages = []
    for heading, lines in PDF_PAGES:
        text = [f"BT /F1 18 Tf 72 760 Td ({heading}) Tj ET"]
        for number, line in enumerate(lines):
            text.append(f"BT /F1 11 Tf 72 {720 - 16 * number} Td ({line}) Tj ET")
        stream = "\n".join(text).encode()
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        content = len(objects)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % content
        )
        pages.append(len(objects))
    kids = b" ".join(b"%d 0 R" % page for page in pages)
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages))
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for place in places:
        out += b"%010d 00000 n \n" % place
    out += b"trailer << /Size %d /Root 1 0 R /Info 4 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1, table)
    return bytes(out)


def docx(path):
    """What a word processor writes, without what it need not."""
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    paragraphs = "".join(
        "<w:p>"
        + (f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else "")
        + f"<w:r><w:t>{text}</w:t></w:r></w:p>"
        for style, text in DOCX_TEXT
    )
    parts = {
        "[Content_Types].xml": '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Default Extension="xml" ContentType="application/xml"/>'
        '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>',
        "_rels/.rels": '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>',
        "docProps/core.xml": '<?xml version="1.0"?><cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The winter of the long ice</dc:title><dc:creator>Fay North</dc:creator></cp:coreProperties>',
        "word/document.xml": f'<?xml version="1.0"?><w:document xmlns:w="{word}"><w:body>{paragraphs}</w:body></w:document>',
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            # One time for all, so that the file is the same whenever it is made.
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), text)


def main():
    (HOME / "field").mkdir(parents=True, exist_ok=True)
    (HOME / "watermarks.md").write_text(NOTES)
    (HOME / "deleting.html").write_text(PAGE)
    (HOME / "permits.tex").write_text(PAPER)
    (HOME / "measuring.pdf").write_bytes(pdf())
    (HOME / "field/lighthouse.txt").write_text(PLAIN)
    docx(HOME / "field/winter.docx")


if __name__ == "__main__":
    main()
