"""The page in a real browser: it is quiet, loads nothing, sorts, fits a phone, and runs nothing of what it shows."""

import json
import re

import pytest
import run_samples as samples
from browser import Browser, Page, chromium

from vkdnw_pl.report.run_pages import runs_html
from vkdnw_pl.report.runs import read_runs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="there is no Chromium or Chrome here"),
]

COLUMN = "[...document.querySelectorAll('#metrics tbody tr')].filter(r => !r.hidden).map(r => r.cells[{}].textContent.trim())"
HEAD = "#metrics th[data-column='{}']"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(chromium(), tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Addresses of two pages: of runs of every kind, and of runs whose every text is hostile."""
    folder = tmp_path_factory.mktemp("pages")
    kinds = [
        samples.score_run(folder / "score-a", seeds=2, failures={5: "vkdnw: out of memory"}),
        samples.score_run(folder / "score-b", batch_size=64, runs=[{"started_at": "x"}]),
        samples.search_run(folder / "search-a", failing=True),
        samples.search_run(folder / "search-b", shift=3, strategy="random"),
        samples.fit_run(folder / "fit-a"),
        samples.fit_run(folder / "fit-b", top1=95.0, vkdnw=2.0),
    ]
    return {"kinds": _write(folder / "kinds.html", kinds), "hostile": _write(folder / "hostile.html", hostile(folder))}


def hostile(folder):
    """Runs in whose every text stands what would run if it were not escaped."""
    bad, name = samples.HOSTILE, samples.HOSTILE.replace("/", "_").replace("\x07", "")
    score = samples.score_run(
        folder / name,
        rows=[(bad, 0.5, 0.4, 0.3), ("aleph", 0.1, 0.2, 0.3)],
        dataset=bad,
        failures={2: bad},
        names=[*samples.archs(39), bad],
        status=bad,
        environment={"host": bad, bad: bad},
        runs=[{"started_at": bad, "stopped_by": bad}],
    )
    config = score / "config.yaml"
    config.write_text(config.read_text() + json.dumps({bad: bad})[1:-1] + "\n")
    search = samples.search_run(folder / "search")
    found = json.loads((search / "found.json").read_text())
    samples.write_json(
        search / "found.json", found | {"arch": bad + "\ud800", "accuracies": {bad: 1.0}, "top": [{"arch": bad}] * 2}
    )
    fit = samples.fit_run(folder / "fit", status="\ud800" + bad)
    return [score, samples.score_run(folder / "plain"), search, fit]


def _write(file, folders):
    file.write_text(runs_html(read_runs(folders), f"Report {samples.HOSTILE}"), encoding="utf-8")
    return file.as_uri()


@pytest.mark.parametrize("name", ["kinds", "hostile"])
def test_quiet_and_alone(browser, pages, name):
    page = Page(browser, pages[name])
    assert page.complaints == []
    own = [url for url in page.requests if not url.startswith("data:")]
    assert [url.rpartition("/")[2] for url in own] == [f"{name}.html"]
    assert page.evaluate("document.getElementById('theme').hidden") is False  # so the script ran


def test_hostile_texts_are_texts(browser, pages):
    page = Page(browser, pages["hostile"])
    assert page.evaluate("typeof window.__pwned") == "undefined"
    assert page.evaluate("document.querySelectorAll('script').length") == 1
    assert page.evaluate("document.querySelectorAll('img').length") == 0
    assert page.evaluate("document.querySelectorAll('style').length") == 1
    addresses = page.evaluate("[...document.querySelectorAll('[href]')].map(e => e.getAttribute('href'))")
    assert {re.sub(r"\w+$", "", one)[:11] for one in addresses} <= {"#", "#run-", "data:,", "data:image/"}
    text = page.evaluate("document.body.textContent")
    assert "<script>window.__pwned=1</script>" in text
    assert "{{ 7*7 }}" in text
    assert not re.search("[\u202e\x07]", text)
    handlers = "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => n.startsWith('on'))"
    assert page.evaluate(handlers) == []


def test_the_policy_would_stop_a_script(browser, pages):
    page = Page(browser, pages["kinds"])
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.__pwned = 1'}))"
    )
    assert page.evaluate("typeof window.__pwned") == "undefined"
    assert any("Content Security Policy" in str(text) for text in page.complaints)


def test_sort_by_mouse(browser, pages):
    page = Page(browser, pages["kinds"])
    assert page.evaluate(f"document.querySelector(\"{HEAD.format(2)}\").getAttribute('aria-sort')") == "none"
    page.click(HEAD.format(2) + " button")
    shown = page.evaluate(COLUMN.format(2))
    assert [text[:5] for text in shown] == ["0.750", "0.750", "0.600", "0.600", "0.500", "0.500", "n/a", "n/a"]
    assert page.evaluate(f"document.querySelector(\"{HEAD.format(2)}\").getAttribute('aria-sort')") == "descending"
    page.click(HEAD.format(2) + " button")
    shown = page.evaluate(COLUMN.format(2))
    assert [text[:5] for text in shown] == ["0.500", "0.500", "0.600", "0.600", "0.750", "0.750", "n/a", "n/a"]
    page.click(HEAD.format(1) + " button")
    assert page.evaluate(COLUMN.format(1))[:4] == ["aleph", "aleph", "macs", "macs"]
    states = "[...document.querySelectorAll('#metrics th[data-sort]')].map(h => h.getAttribute('aria-sort'))"
    assert page.evaluate(states) == ["none", "ascending", "none", "none", "none"]
    assert page.complaints == []


def test_sort_by_keyboard(browser, pages):
    page = Page(browser, pages["kinds"])
    page.evaluate(f'document.querySelector("{HEAD.format(3)} button").focus()')
    page.press("Enter")
    assert [text[:5] for text in page.evaluate(COLUMN.format(3))][:2] == ["0.900", "0.900"]
    page.press("Tab")
    assert page.evaluate("document.activeElement.closest('th').dataset.column") == "4"
    page.press("Enter")
    assert [text[:5] for text in page.evaluate(COLUMN.format(4))][:3] == ["0.950", "0.950", "0.850"]


def test_the_first_key_reaches_the_content(browser, pages):
    page = Page(browser, pages["kinds"])
    page.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") > 0


def test_filter(browser, pages):
    page = Page(browser, pages["kinds"])
    page.evaluate("document.querySelector('input[data-filter=metrics]').focus()")
    page.type("score-b AGG")
    assert page.evaluate(COLUMN.format(1)) == ["vkdnw_agg"]
    assert page.evaluate("document.getElementById('metrics-count').textContent") == "1 of 8 rows"


def test_time_is_sorted_by_seconds(browser, pages):
    page = Page(browser, pages["kinds"])
    times = "[...document.querySelectorAll('#content table')[0].tBodies[0].rows].map(r => r.cells[8].dataset.value)"
    page.evaluate("document.querySelector(\"th[data-column='8'] button\").click()")
    assert page.evaluate(times) == ["120.5"] * 5 + [""]


@pytest.mark.parametrize("name", ["kinds", "hostile"])
def test_fits_a_phone(browser, pages, name):
    page = Page(browser, pages[name], width=360, height=740)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


SMALL_TEXTS = """(() => {
  document.querySelectorAll('details').forEach(d => d.open = true);
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), small = [];
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, svg = element.closest('svg');
    if (!walk.currentNode.textContent.trim() || !element.getClientRects().length) continue;
    const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    const size = parseFloat(getComputedStyle(element).fontSize) * scale;
    if (size < 12) small.push(size + ' ' + walk.currentNode.textContent);
  }
  return small;
})()"""


@pytest.mark.parametrize("width", [1200, 390])
def test_no_text_is_small(browser, pages, width):
    page = Page(browser, pages["kinds"], width=width)
    assert page.evaluate("document.querySelectorAll('svg text').length") > 100
    assert page.evaluate(SMALL_TEXTS) == []


def test_a_long_name_is_one_line_and_copied_whole(browser, pages):
    page = Page(browser, pages["kinds"], width=390)
    cell = "document.querySelector('#searches ~ .scroll .long')"
    text = page.evaluate(f"{cell}.textContent")
    assert text == samples.archs(5)[4]
    assert page.evaluate(f"{cell}.scrollWidth > {cell}.clientWidth")
    assert page.evaluate(f"{cell}.title") == text
    line = page.evaluate(f"{cell}.clientHeight")
    page.evaluate(f"{cell}.focus()")
    assert page.evaluate(f"{cell}.clientHeight") > 1.5 * line  # a tap shows all of it


def test_colours(browser, pages):
    background = "getComputedStyle(document.body).backgroundColor"
    label = "getComputedStyle(document.querySelector('svg text')).fill"
    light = Page(browser, pages["kinds"]).evaluate(f"[{background}, {label}]")
    page = Page(browser, pages["kinds"], dark=True)
    dark = page.evaluate(f"[{background}, {label}]")
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] == "rgb(18, 22, 27)"
    assert light[1] != dark[1]
    page.click("#theme")  # auto -> light
    assert page.evaluate(f"[{background}, {label}]") == light
    page.click("#theme")
    assert page.evaluate(f"[{background}, {label}]") == dark


def test_paper_is_light(browser, pages):
    page = Page(browser, pages["kinds"], dark=True)
    ink = "getComputedStyle(document.querySelector('svg text')).fill"
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    dark = page.evaluate(ink)
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 35, 43)"
    assert page.evaluate(ink) != dark


def test_every_picture_and_table_has_a_name(browser, pages):
    page = Page(browser, pages["kinds"])
    assert page.evaluate("document.querySelectorAll('figure svg').length") > 10
    unnamed = "[...document.querySelectorAll('figure svg')].filter(s => !s.getAttribute('aria-label')).length"
    assert page.evaluate(unnamed) == 0
    assert (
        page.evaluate("[...document.querySelectorAll('table')].filter(t => !t.caption.textContent.trim()).length") == 0
    )
    assert page.evaluate("[...document.querySelectorAll('th')].filter(t => !t.scope).length") == 0
    broken = (
        "[...document.querySelectorAll('a[href^=\"#\"]')].filter(a => !document.getElementById(a.hash.slice(1))).length"
    )
    assert page.evaluate(broken) == 0
    twins = "(() => {const ids = [...document.querySelectorAll('[id]')].map(e => e.id); return ids.length - new Set(ids).size})()"
    assert page.evaluate(twins) == 0
