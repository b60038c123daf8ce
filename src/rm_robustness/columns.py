"""Columns of text for a terminal."""


def aligned(cells: list[list[str]], left: int) -> list[str]:
    """Lay rows of texts out in columns, the first `left` of them to the left; a line each."""
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(
            text.ljust(width) if i < left else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
