"""Transformations keep what they say: words, code, ids; and change what they say."""

import re
import unicodedata

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hash_seeds import printed
from support.paths import ROOT

from rm_robustness.evaluation.transformations import (
    HEADING,
    SENTENCE,
    TEMPLATE,
    TRANSFORMATIONS,
    changed_rows,
    transformed,
)

ANSWER = """Sure. Here is how Paris became the capital. It took long.

## History
- **Romans** built a town.
- Franks made it theirs.
- Kings stayed there.

1. Read the file README.md at https://example.org/Some.Path. Then print it.
2. Keep camelCase, the NATO and 3.14 as they are.

```python
# Print A. Then B.
print("a b")  # - **bold**
```
| Name | Size of it |
Where $x y$ and `some code` stand, Nothing changes there."""
PLAIN = "The quick brown foxes jumped over lazy animals.\nAnother sentence follows here."


def change(name: str, text: str, seed: int = 0) -> str:
    return TRANSFORMATIONS[name].change(text, seed)


EXPECTED = {  # of PLAIN, at seed 0
    "double_spaces": PLAIN.replace(" ", "  "),
    "non_breaking_spaces": PLAIN.replace(" ", "\u00a0"),
    "final_mark": PLAIN[:-1],
    "lower_case": PLAIN.replace("The", "the").replace("Another", "another"),
    "bold_sentence": PLAIN.replace(PLAIN[:47], f"**{PLAIN[:47]}**"),
    "heading": f"{HEADING}\n\n{PLAIN}",
    "bullets": "- " + PLAIN.replace("\n", "\n- "),
    "closing_sentence": f"{PLAIN}\n\n{SENTENCE}",
    "prompt_template": f"{TEMPLATE}\n\n{PLAIN}",
    "prompt_quoted": f'"{PLAIN}"',
    "line_breaks": PLAIN,
    "plain_text": PLAIN,
    "list_order": PLAIN,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_what_becomes_of_plain_sentences(name):
    assert change(name, PLAIN) == EXPECTED[name]


def test_a_typo_is_one_letter_beside_another_in_a_share_of_the_words():
    text = " ".join(["keyboard"] * 100)
    words = change("typos", text).split()
    wrong = [word for word in words if word != "keyboard"]
    assert len(words) == 100 and len(wrong) == 5 and len(set(wrong)) > 1
    rows = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for word in wrong:
        ((typed, meant),) = [two for two in zip(word, "keyboard", strict=True) if two[0] != two[1]]
        row = next(row for row in rows if meant in row)
        assert abs(row.index(typed) - row.index(meant)) == 1
        assert (word[0], word[-1]) == ("k", "d")
    assert change("typos", text, 1) != change("typos", text)
    assert change("typos", PLAIN) != PLAIN  # few words: one of them
    names = "Scarlett Johansson sang, camelCase_keyboard keyboard.py /keyboard print()"
    assert change("typos", names) == names


def test_code_ends_where_its_fence_ends_on_windows_too():
    text = "```\r\nA b\r\n```\r\nTwo words.\r\n"
    assert change("double_spaces", text) == text.replace("Two words", "Two  words")


def test_only_a_single_full_stop_at_the_end_is_removed():
    for text, other in (
        ("One. Two.\n", "One. Two\n"),
        ("mango .", "mango"),
        ("It is 5.", "It is 5"),
    ):
        assert change("final_mark", text) == other
    for text in ("Really?", "Well...", "a . .", ".", "x = `1.`", "see https://a.org/b."):
        assert change("final_mark", text) == text


def test_markdown_is_kept_where_it_stands():
    broken = change("line_breaks", ANSWER)
    assert broken.startswith("Sure.\nHere is how Paris became the capital.\nIt took long.\n\n## Hi")
    assert (
        "\n1. Read the file README.md at https://example.org/Some.Path. Then print it.\n" in broken
    )
    spaced = change("double_spaces", ANSWER)
    assert "some code" in spaced and "$x y$" in spaced and "| Name | Size of it |" in spaced
    plain = change("plain_text", ANSWER)
    assert "\nHistory\nRomans built a town.\nFranks made" in plain and "\n1. Read" in plain
    lower = change("lower_case", ANSWER)
    assert lower.startswith("sure. here is how paris") and "README.md" in lower
    assert "keep camelCase, the NATO and 3.14" in lower and "Some.Path" in lower
    for name in ("bullets", "bold_sentence"):
        assert change(name, "# A heading. One more.\ntwo") == "# A heading. One more.\ntwo"


def test_items_of_a_list_change_places_with_what_is_below_them():
    text = "Fruit:\n\n- apples\n  - red\n- pears\n- plums\n\nAll are sweet."
    other = change("list_order", text)
    assert other != text and sorted(other.split("\n")) == sorted(text.split("\n"))
    assert "- apples\n  - red\n" in other
    assert (other.split("\n")[:2], other.split("\n")[-2:]) == (
        ["Fruit:", ""],
        ["", "All are sweet."],
    )
    assert len({change("list_order", text, seed) for seed in range(20)}) > 2


@pytest.mark.parametrize(
    "text",
    [
        "1. one\n2. two\n3. three",
        "- First, open it.\n- Then close it.",
        "The steps:\n- Open it.\n- Close it.",
        "- red,\n- green and\n- blue",
        "- red\n- blue\nwhich goes on",
        "- red\n- blue\n\n  which goes on",
        "- red\n- blue\n```\ncode\n```",
        "- only one",
        "Spelt:\n- c\n- a\n- t",
        "```\n- red\n- blue\n\n```",
    ],
)
def test_lists_whose_order_may_say_something_stay(text):
    assert change("list_order", text) == text


@pytest.mark.parametrize("name", TRANSFORMATIONS)
@pytest.mark.parametrize(
    "code", ["```\nA b. C d.\n- e\n```", "~~~py\nA b. C d.\n", "x\n\n    A b. C d."]
)
def test_a_text_of_code_alone_stays_within_what_is_added(name, code):
    assert code in change(name, code)


def code_of(text: str) -> list[str]:
    """Fenced code, line by line."""
    blocks, fence = [], ""
    for line in text.split("\n"):
        mark = re.match(r"[^`~]*(`{3,}|~{3,})[^`]*$", line)
        if fence and line.strip().startswith(fence) and not line.strip().strip("`~"):
            fence = ""
        elif fence:
            blocks[-1] += f"{line}\n"
        elif mark:
            fence = mark[1]
            blocks.append("")
    return blocks


def words_of(text: str) -> list[str]:
    """Words without case, width, spacing and Markdown."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"[*#\s.]|^\s*[-+]|(?<=\n)\s*[-+]", " ", text).split()


LINES = st.one_of(
    st.text(st.sampled_from("aB .,:!?-*#`$|>1\u00a0\u00dfI\u0130~_+@/("), max_size=14),
    st.sampled_from(
        [
            *(
                "Some words. More of them.",
                "- item one",
                "- item Two",
                "* star",
                "    indented Code",
            ),
            *(
                "```python",
                "```",
                "```\r",
                "~~~",
                "## Heading here",
                "**Bold.** After it.",
                "1. number",
                "",
            ),
            *(
                "- ```",
                "  nested words",
                "| a | b |",
                "see `x y` and $a b$",
                "https://a.b/C d",
                "- - x",
            ),
        ]
    ),
)
TEXTS = st.lists(LINES, min_size=1, max_size=8).map("\n".join).filter(str.strip)
ADDED = {"heading": HEADING, "closing_sentence": SENTENCE, "prompt_template": TEMPLATE}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS, seed=st.integers(0, 3))
def test_whatever_the_text_words_and_code_stay(name, text, seed):
    other = change(name, text, seed)
    assert other.strip() and change(name, text, seed) == other
    assert code_of(other) == code_of(text)
    if not name.endswith("typos"):
        kept = other.replace(ADDED.get(name, "\0"), "")
        if name == "prompt_quoted" and other != text:
            kept = other[1:-1]
        before, after = words_of(text), words_of(kept)
        if name == "list_order":
            before, after = sorted(before), sorted(after)
        assert after == before
    if name not in ("list_order", "typos", "prompt_typos"):
        assert change(name, other, seed) == other  # nothing more to change


def test_a_frame_keeps_rows_ids_and_the_other_part():
    prompt = "Explain these words carefully."
    frame = pd.DataFrame(
        {
            "prompt_id": ["p", "p", "q"],
            "response_id": ["a", "b", "c"],
            "prompt": [prompt, prompt, "x"],
            "response": [PLAIN, PLAIN, "`code`"],
            "gold": [1.0, 0.0, 1.0],
        },
        index=[4, 2, 7],
    )
    for name, (part, description, _) in TRANSFORMATIONS.items():
        other = transformed(frame, name, 0)
        same = [column for column in frame if column != part]
        pd.testing.assert_frame_equal(other[same], frame[same])
        assert other[part].iloc[0] == other[part].iloc[1]
        assert description.endswith(".")
    mask = changed_rows(frame, transformed(frame, "typos", 0))
    assert list(mask) == [True, True, False]
    assert list(changed_rows(frame, frame.assign(response=frame["response"] + " "))) == [False] * 3


def test_changes_do_not_depend_on_the_hash_seed():
    program = (
        "from rm_robustness.evaluation.transformations import TRANSFORMATIONS\n"
        "text = '- one apple\\n- many pears\\n- other plums'\n"
        "print([t.change(text, 3) for t in TRANSFORMATIONS.values()])"
    )
    assert len(printed(program)) == 1


@pytest.mark.timeout(60)
def test_long_texts_take_little_time():
    """No pattern goes back over a text again and again."""
    for text in ("\u4e00" * 20_000, "a" * 20_000, "$ " * 5_000, "**a " * 5_000, "- a\n" * 5_000):
        for name in TRANSFORMATIONS:
            change(name, text)


def test_the_document_has_every_transformation_as_it_describes_itself():
    text = (ROOT / "docs/TRANSFORMATIONS.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", text, re.M)
    assert listed == [(name, t.part, t.description) for name, t in TRANSFORMATIONS.items()]
