"""Synthetic RM-Bench of the demo: two answers that differ by one subtle error, in three styles.

It has the format of the published files, with the tasks of the synthetic world as domains. The
error is one wrong item, one swap in an order or a count that is off by one; everything else is the
same in both answers, so neither style nor length reveals the right one. The talk is that of the
best training responder, as in RM-Bench it is that of a strong model: a reward model may have learnt
to prefer it, right or wrong. Prompts come from the world's grammar by another stream of random
numbers; "list" prompts are left out, because training has seen a third of these few.
"""

import random
from pathlib import Path

from ...files import write_json
from .responders import TRAIN_STYLE, seeded
from .tasks import NUMBERS, Task, draw_prompt, gold, parse, pick

ALDER = TRAIN_STYLE.share(0, 2)
KINDS = {
    "chat": ("pick", "odd"),
    "math": ("count", "add", "compare"),
    "code": ("alphabet", "scale", "reverse"),
    "safety-refuse": ("except",),
    "safety-response": ("except",),
}


def write(seed: int, prompts: int, folder: Path) -> None:
    """Write `{domain}_filtered.json` for each of the five domains, `prompts` rows each.

    A row has id, prompt, chosen and rejected, the last two with three texts each: concise (the
    items), detailed (talk around them) and markdown (the talk around a list). In all nine
    comparisons the gold of the chosen text is above that of the rejected one. In `safety-refuse`
    the error is an item that the prompt excludes, in `safety-response` one off the topic in place
    of an item that is allowed. The files depend on the arguments alone.
    """
    seen: set[str] = set()
    for domain in KINDS:
        rows = [{"id": i, **_example(seed, domain, i, seen)} for i in range(prompts)]
        write_json(rows, folder / f"{domain}_filtered.json")


def _example(seed: int, domain: str, i: int, seen: set[str]) -> dict[str, str | list[str]]:
    """Draw a prompt that is not in `seen`, and both answers to it in three styles."""
    rng = seeded(seed, "subtle", domain, i)
    while True:
        prompt = draw_prompt(rng)
        task = parse(prompt)
        if prompt in seen or task.kind not in KINDS[domain]:
            continue
        items = _items(rng, task)
        wrong, number = _mistake(rng, domain, task, items)
        talk = _talk(rng, task.what)
        chosen = _styles(items, task.number, talk)
        rejected = _styles(wrong, number, talk)
        # Talk costs a little gold too: use pairs whose order no style reverses.
        if min(gold(prompt, y) for y in chosen) > max(gold(prompt, y) for y in rejected):
            seen.add(prompt)
            return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _items(rng: random.Random, task: Task) -> list[str]:
    """Draw a right answer: `need` of the right items, in their order."""
    places = pick(rng, range(len(task.right)), task.need)
    return [task.right[i] for i in sorted(places)]


def _mistake(
    rng: random.Random, domain: str, task: Task, items: list[str]
) -> tuple[list[str], str]:
    """Introduce one error into an answer; returns its items and its number."""
    if task.number:
        step = 1 if rng.random() < 0.5 else -1
        return items, NUMBERS[NUMBERS.index(task.number) + step]
    wrong = list(items)
    if task.order and task.kind != "add":
        a, b = pick(rng, range(len(items)), 2)
        wrong[a], wrong[b] = items[b], items[a]
        return wrong, ""
    # The first two lures of an "except" prompt are the words that it excludes.
    lures = {"safety-refuse": task.lures[:2], "safety-response": task.lures[2:]}
    swaps = [(a, lure) for a in range(len(items)) for lure in lures.get(domain, task.lures)]
    nearest = min(abs(len(items[a]) - len(lure)) for a, lure in swaps)
    alike = [(a, lure) for a, lure in swaps if abs(len(items[a]) - len(lure)) == nearest]
    ((a, lure),) = pick(rng, alike, 1)
    wrong[a] = lure
    return wrong, ""


def _talk(rng: random.Random, what: str) -> tuple[str, str, str, str]:
    """Draw the phrases around an answer: filler, opening, filler, ending."""
    before, after = pick(rng, ALDER.fillers, 2)
    (opening,), (ending,) = pick(rng, ALDER.openings, 1), pick(rng, ALDER.endings, 1)
    before, opening, after, ending = (
        phrase.replace("{what}", what) for phrase in (before, opening, after, ending)
    )
    return before, opening, after, ending


def _styles(items: list[str], number: str, talk: tuple[str, str, str, str]) -> list[str]:
    """Write one answer in the three styles: concise, detailed plain, detailed markdown."""
    before, opening, after, ending = talk
    number = f" {number}" if number else ""
    concise = f"{number} {' , '.join(items)} .".strip()
    # Spaces around everything, as the world writes: its words are then the words of its models.
    bullets = " ,\n - ".join(items)
    return [
        concise,
        f"{before} {opening} {concise} {after} {ending}",
        f"{before} {opening}{number}\n - {bullets} .\n {after} {ending}",
    ]
