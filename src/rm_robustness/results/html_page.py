"""The HTML document around every page: one look, light or dark, without scripts or downloads."""

from html import escape
from string import Template

PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'$policy">
<title>$title</title>
<style>
:root { color-scheme: light dark; --text: #1f2328; --soft: #59636e; --line: #d1d9e0;
  --page: #ffffff; --band: #f6f8fa; --up: #00694b; --down: #a83f00; --unsure: #5b4a8a; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e8eb; --soft: #9aa4af; --line: #3a424b; --page: #15181c; --band: #1e2328;
    --up: #4cc79c; --down: #f2904f; --unsure: #b9a7ef; }
}
* { box-sizing: border-box; } html { scroll-padding-top: 1rem; }
body { margin: 2rem auto; padding: 0 1.5rem; max-width: 75rem; background: var(--page);
  color: var(--text); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
h3 { font-size: 1.05rem; margin-top: 1.8rem; }
p, li { max-width: 48rem; } ul { padding-left: 1.2rem; }
a { color: inherit; }
code { padding: .1em .3em; border-radius: 4px; background: var(--band); font-size: .9em; }
pre { overflow: auto; padding: 1rem; border-radius: 6px; background: var(--band); }
pre code { padding: 0; } td code { white-space: nowrap; }
.table { overflow: auto; max-height: 90vh; width: fit-content; max-width: 100%; margin: 1.5rem 0;
  border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: separate; border-spacing: 0; font-size: .92rem; }
th, td { padding: .45rem .9rem; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
tbody tr:last-child td { border-bottom: 0; }
tbody tr:hover td { background: var(--band); }
thead th { position: sticky; top: 0; background: var(--band); vertical-align: bottom; z-index: 1; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--page); }
thead th:first-child { z-index: 2; background: var(--band); }
tbody tr:hover td:first-child { background: var(--band); }
.number { padding-right: 1.6rem; text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
th.number { white-space: normal; }
.up, .down { display: inline-block; width: 1.1rem; margin-right: -1.1rem; text-align: center;
  font-weight: 700; }
.up { color: var(--up); } .down { color: var(--down); }
.number small { display: block; color: var(--soft); }
.mark { display: inline-block; width: 1.35em; height: 1.35em; border: 1.5px solid;
  border-radius: 50%; font-size: .8em; font-weight: 700; line-height: 1.2em; text-align: center;
  vertical-align: .1em; }
.supported { color: var(--up); } .contradicted { color: var(--down); border-radius: 3px; }
.inconclusive { color: var(--unsure); border-style: dashed; }
.not-measured { color: var(--soft); border-style: dotted; }
td .mark { margin-right: .45em; } :is(h2, h3, h4) .mark { margin-right: .55em; }
td:has(> .mark) { white-space: nowrap; }
$style</style>
</head>
<body>
$body</body>
</html>
""")


def document(body: str, title: str, style: str = "", *, images: bool = False) -> str:
    """An HTML page of a body that is safe HTML already; `images` are files beside it."""
    policy = "; img-src 'self'" if images else ""
    return PAGE.substitute(title=escape(title), body=body, style=style, policy=policy)
