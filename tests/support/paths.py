"""Where tests find the repository, and real data that some machines have beside it."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "data" / "paper" / "published_values.csv"
REAL = ROOT.parent / "shared" / "data"  # tests that want it are skipped without it
