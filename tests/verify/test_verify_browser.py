"""The report in a browser, opened from disk: nothing runs off the page, and the formulas are drawn as formulas."""

import re
import shutil
import subprocess

import pytest

from scratchgen.verify import page
from scratchgen.verify.findings import findings
from scratchgen.verify.ledger import Ledger

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LOOK = """<script>
  const formulas = [...document.querySelectorAll("math")];
  const fraction = document.querySelector("mfrac");
  const [above, below] = [...fraction.children].map(part => part.getBoundingClientRect());
  const held = formulas.every(m => m.getBoundingClientRect().height > 10 && m.closest(".formula"));
  const seen = [innerWidth, document.documentElement.scrollWidth, formulas.length, held, above.bottom <= below.top];
  parent.postMessage(seen.join(), "*");
</script>"""
FRAME = """<script>onmessage = message => document.title = message.data</script>
<iframe src="index.html" style="border: 0; height: 2000px; width: {width}px"></iframe>"""
"""A window of Chromium's cannot be as narrow as a phone; a frame in it can."""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_its_formulas_are_drawn(width, tmp_path):
    ledger = Ledger.load()
    facts = {"backend": "numpy", "seconds": 1.0, "examples": "30", "date": "today", "versions": {}}
    html = page.render(findings(ledger, [], [], [], facts), ledger)
    (tmp_path / "index.html").write_text(html.replace("</body>", LOOK + "</body>"), "utf-8")
    (tmp_path / "frame.html").write_text(FRAME.format(width=width), "utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
               "--disable-background-networking", "--disable-component-update", "--window-size=1400,2000",
               f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom",
               str(tmp_path / "frame.html")]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    inner, scroll, formulas, held, stacked = re.search(r"<title>(.*?)</title>", shown)[1].split(",")
    assert int(inner) == width
    assert int(scroll) <= width
    assert int(formulas) == len(ledger.formulas())
    assert held == "true"
    assert stacked == "true"
