"""Looks at report pages in headless Chromium; see scripts/check-report. Standard library only.

The page is copied with a probe at its end that measures every figure and writes what it finds into the document, which
Chromium prints (`--dump-dom`); its log (`--enable-logging=stderr`) tells of errors and of requests.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

PROBE = """<script>
const found = [];
const width = document.documentElement.clientWidth;
for (const details of document.querySelectorAll("details")) details.open = true;
for (const figure of document.querySelectorAll("figure")) {
  const ink = figure.querySelectorAll(
    "svg polyline, svg polygon, svg circle, svg rect:not(.hover), svg path.whisker, svg path.diamond");
  const inked = [...ink].filter((mark) => {
    const box = mark.getBBox();
    return box.width + box.height > 0 && Number.isFinite(box.x + box.y);
  });
  const name = figure.querySelector("figcaption")?.textContent ?? "?";
  if (inked.length === 0) found.push("figure without ink: " + name);
  const box = figure.getBoundingClientRect();
  if (box.width < 50 || box.height < 50) found.push("figure of no size: " + name);
  if (box.right > width + 1) found.push("figure wider than the window: " + name);
}
for (const section of document.querySelectorAll("section")) {
  if (section.textContent.trim().length < 20) found.push("empty section: " + section.id);
}
if (document.documentElement.scrollWidth > width + 1) found.push("the page scrolls sideways");
for (const link of document.querySelectorAll("nav a")) {
  if (!document.querySelector(link.getAttribute("href"))) found.push("dead link: " + link.textContent);
}
const figures = document.querySelectorAll("figure").length;
const episodes = document.querySelectorAll(".episode").length;
const choices = document.querySelectorAll(".question input");
let chosen = 0;
for (const choice of choices) {
  const [question, which] = choice.id.split("-");
  choice.checked = true;
  const shown = [...document.querySelectorAll(".episode")].filter((one) => getComputedStyle(one).display !== "none");
  const wrong = shown.filter((one) => which !== "0" && !one.classList.contains(choice.id));
  if (wrong.length > 0) found.push("choice hides nothing: " + choice.id);
  if (which !== "0") chosen += shown.length;
  document.getElementById(question + "-0").checked = true;
}
if (episodes > 0 && chosen === 0) found.push("no choice shows an episode");
const verdict = document.createElement("pre");
verdict.id = "verdict";
verdict.textContent = JSON.stringify({ figures, episodes, found });
document.body.append(verdict);
</script>
"""

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--disable-dev-shm-usage", "--hide-scrollbars",
    # No request leaves the machine: one that is tried shows in the log.
    "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0",
]


def chromium(program: str, page: Path, *flags: str) -> subprocess.CompletedProcess:
    with tempfile.TemporaryDirectory() as profile:
        command = [program, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def check(program: str, page: Path) -> list[str]:
    text = page.read_text()
    problems = [f"asks for {url}" for url in re.findall(r'(?:src|href)="(?!#)([^"]*)"', text)]
    with tempfile.TemporaryDirectory() as folder:
        probed = Path(folder) / page.name
        probed.write_text(text.replace("</body>", PROBE + "</body>"))
        for name, width in [("desktop", 1200), ("phone", 500)]:
            seen = chromium(program, probed, f"--window-size={width},900", "--dump-dom")
            console = [line for line in seen.stderr.splitlines() if "CONSOLE" in line or "ERR_" in line]
            problems += [f"{name}: {line}" for line in console]
            verdict = re.search(r'<pre id="verdict">(.*?)</pre>', seen.stdout, re.S)
            if not verdict:
                problems.append(f"{name}: the page was not shown: {seen.stderr[-500:]}")
                continue
            told = json.loads(verdict[1].replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))
            problems += [f"{name}: {found}" for found in told["found"]]
            print(f"{page}: {name}: {told['figures']} figures, {told['episodes']} episodes, {len(problems)} problems")
            if told["figures"] == 0:
                problems.append(f"{name}: no figure at all")
    return problems


def pictures(program: str, page: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{page.parent.name}-{page.stem}"
    for name, width, height, flags in [
        ("desktop", 1200, 6000, []),
        ("dark", 1200, 6000, ["--blink-settings=preferredColorScheme=0"]),
        ("phone", 500, 9000, []),
    ]:
        shot = folder / f"{stem}-{name}.png"
        chromium(program, page, f"--window-size={width},{height}", f"--screenshot={shot}", *flags)
    chromium(program, page, f"--print-to-pdf={folder / f'{stem}-print.pdf'}", "--no-pdf-header-footer")


def main() -> int:
    program, pages = sys.argv[1], [Path(page).resolve() for page in sys.argv[2:]]
    if not pages:
        print("usage: scripts/check-report PAGE.html...", file=sys.stderr)
        return 2
    problems = [f"{page}: {problem}" for page in pages for problem in check(program, page)]
    if "SHOTS" in os.environ:
        for page in pages:
            pictures(program, page, Path(os.environ["SHOTS"]))
    for problem in problems:
        print(f"check-report: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
