"""CITATION.cff has the keys of the Citation File Format 1.2, and the paper as it was published."""

import re

import yaml
from support.paths import ROOT

# Of the format's schema: what a file must have and may have, and the same of a reference.
REQUIRED = {"authors", "cff-version", "message", "title"}
ALLOWED = REQUIRED | {
    *("abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords"),
    *("license", "license-url", "preferred-citation", "references", "repository"),
    *("repository-artifact", "repository-code", "type", "url", "version"),
}
REFERENCE_REQUIRED = {"authors", "title", "type"}
REFERENCE_ALLOWED = REFERENCE_REQUIRED | {
    *("collection-doi", "collection-title", "collection-type", "conference", "doi", "end"),
    *("identifiers", "month", "pages", "publisher", "start", "url", "volume", "year"),
}
PERSON = {"affiliation", "alias", "email", "family-names", "given-names", "orcid", "website"}
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_file_has_the_keys_of_the_format():
    assert CITATION["cff-version"] == "1.2.0" and CITATION["type"] in ("software", "dataset")
    assert REQUIRED <= CITATION.keys() <= ALLOWED
    assert all(set(author) == {"name"} for author in CITATION["authors"])
    paper = CITATION["preferred-citation"]
    assert REFERENCE_REQUIRED <= paper.keys() <= REFERENCE_ALLOWED
    assert all(author.keys() <= PERSON for author in paper["authors"])
    for entity in ("conference", "publisher"):
        assert set(paper[entity]) == {"name"}
    for identifier in paper["identifiers"]:
        assert identifier.keys() == {"type", "value", "description"}
        assert identifier["type"] in ("doi", "url", "swh", "other")


def test_the_paper_is_the_one_that_the_readme_names():
    paper = CITATION["preferred-citation"]
    assert len(paper["authors"]) == 8 and paper["year"] == 2025
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"({paper['url']})" in text and paper["title"] in text
    assert f"PMLR {paper['volume']}:{paper['start']}-{paper['end']}" in text
    [doi] = [entry["value"] for entry in paper["identifiers"]]
    arxiv = re.fullmatch(r"10\.48550/arXiv\.(\d+\.\d+)", doi)
    assert arxiv and f"https://arxiv.org/abs/{arxiv[1]}" in text
