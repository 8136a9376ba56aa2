"""Tests the status page in a browser: its plots, its refresh, its look in light and dark and on a phone, and whether it
can be used with a keyboard and a screen reader."""

import base64
import hashlib
import re

import pytest

from browser import browsing, needs_browser
from daemon import eventually
from status_site import PLOTTED, SENT, running

full = pytest.mark.full
REFRESHED = 20  # seconds; the page refreshes itself every 5
HOSTILE = "<img src=x onerror=alert(1)>\"'&amp;"


@pytest.fixture(scope="module")
def site():
    """A daemon that has received the sample and nothing else."""
    with running() as site:
        site.send_sample()
        yield site


@pytest.fixture
def fresh_site():
    with running() as site:
        yield site


@pytest.fixture(scope="module")
def shared_browser():
    with browsing() as browser:
        yield browser


@pytest.fixture
def browser(shared_browser):
    """A browser whose console must stay empty."""
    shared_browser.resize(1200)
    shared_browser.set_scheme("light")
    shared_browser.messages()
    yield shared_browser
    assert shared_browser.messages() == []
    shared_browser.open("about:blank")


def text_of(browser, selector="body"):
    return browser.run("return document.querySelector(arguments[0]).innerText", selector)


def open_sections(browser):
    browser.run("for (const section of document.querySelectorAll('details')) section.open = true")


def wait_refreshed(browser):
    before = text_of(browser, "#freshness")
    eventually(lambda: text_of(browser, "#freshness") != before, "a refresh", REFRESHED)


# The text, without a browser

def policy_hash(content):
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def test_is_complete_and_allows_nothing_else(site):
    status, headers, text = site.page()
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    policy = dict(directive.split(" ", 1) for directive in headers["Content-Security-Policy"].split("; "))
    (style,) = re.findall("(?s)<style>(.*?)</style>", text)
    (script,) = re.findall("(?s)<script>(.*?)</script>", text)
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert (policy["style-src"], policy["script-src"]) == (policy_hash(style), policy_hash(script))
    assert policy["connect-src"] == "'self'"
    addresses = re.findall(r"""(?:src|href|action|data|poster|srcset)=["']?([^"'\s>]+)""", text)
    assert all(re.fullmatch(r"/\S*|data:,|#\S+", address) for address in addresses), addresses
    assert not re.search(r"""(?i)<[^>]*\s(?:style|on\w+)=|@import|url\(|<(?:iframe|object|embed|form|base)\b""", text)


# The content

@full
@needs_browser
@pytest.mark.parametrize("plot", ["hour", "day"])
def test_plots_show_what_was_sent(site, browser, plot):
    browser.open(site.url)
    assert browser.run(PLOTTED, plot) == SENT
    described = browser.run("return document.getElementById(arguments[0]).textContent", f"{plot}-text")
    assert described.startswith("recorded 10, repeated 3, rejected 5")


@full
@needs_browser
def test_shows_counts_causes_and_refusals(site, browser):
    browser.open(site.url)
    rows = browser.run("return [...document.querySelectorAll('#counts tbody tr')].map(row => "
                       "[...row.cells].map(cell => cell.innerText.trim().toLowerCase()))")
    assert rows == [[name, *3 * [str(count)]] for name, count in SENT.items()]
    causes = text_of(browser, "#causes")
    refused = text_of(browser, "#refused")
    for name, remedy in (("sign_wrong", "token"), ("request_time_stale", "clock"), ("command_not_handled", "")):
        assert name in causes and remedy in causes
        assert name in refused
    assert refused.count("127.0.0.1") == 3


@full
@needs_browser
def test_shows_text_of_clients_as_text(fresh_site, browser):
    fresh_site.daemon.post(CallbackCommand=HOSTILE)
    fresh_site.daemon.post(SdkAppid=HOSTILE)
    fresh_site.daemon.post(path=f"/{HOSTILE.replace(' ', '+')}", curl=("--globoff",), headers=(f"User-Agent: {HOSTILE}",))
    browser.open(fresh_site.url)
    assert browser.run("return document.querySelectorAll('img').length") == 0
    assert "<img" in text_of(browser, "#refused")


# Refresh

@full
@needs_browser
def test_refresh_updates_figures_in_place(fresh_site, browser):
    browser.open(fresh_site.url)
    browser.resize(1200, 500)
    open_sections(browser)
    browser.run("""
        window.marked = document.querySelector("main").marked = document.querySelector("details").marked = true;
        scrollTo(0, 300);
        document.querySelector("summary").focus({preventScroll: true});
        """)
    # The sentence on the state becomes shorter. The browser scrolls along, so that what the reader sees stays in place.
    place = "return document.querySelector('#counts').getBoundingClientRect().bottom"
    before = browser.run(place)
    assert browser.run("return [scrollX, scrollY]") == [0, 300]
    fresh_site.send_sample()
    eventually(lambda: "10" in text_of(browser, "#counts"), "the new figures", REFRESHED)
    assert browser.run(PLOTTED, "hour") == SENT
    assert re.search(r"imcallbackd_callbacks_total\s[^_]*\srecorded 10\n", text_of(browser, "details"))
    assert abs(browser.run(place) - before) < 1
    assert browser.run("return document.activeElement === document.querySelector('summary')")
    assert browser.run("return [...document.querySelectorAll('details')].every(section => section.open)")
    assert browser.run("return [window.marked, document.querySelector('main').marked, "
                       "document.querySelector('details').marked]") == [True, True, True]


@full
@needs_browser
def test_refresh_keeps_the_selection(site, browser):
    browser.open(site.url)
    selected = browser.run("""
        const range = document.createRange();
        range.selectNodeContents(document.querySelector("#refused td"));
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        return getSelection().toString();
        """)
    assert selected
    wait_refreshed(browser)
    assert browser.run("return getSelection().toString()") == selected


@full
@needs_browser
def test_says_when_the_daemon_does_not_answer(fresh_site):
    with browsing() as browser:
        browser.open(fresh_site.url)
        fresh_site.daemon.stop()
        eventually(lambda: "does not answer" in text_of(browser, "#freshness"), "the note", 2 * REFRESHED)
        assert "Callbacks" in text_of(browser)  # the last state stays
        fresh_site.start()
        eventually(lambda: "does not answer" not in text_of(browser, "#freshness"), "an answer", 2 * REFRESHED)


@full
@needs_browser
def test_announces_a_new_state(fresh_site, browser):
    """A screen reader reads what a refresh puts into an element with the role status."""
    browser.open(fresh_site.url)
    announced = "return document.querySelector('[role=status]').textContent"
    assert browser.run(announced) == ""
    fresh_site.daemon.post(Sign="0" * 64)
    eventually(lambda: "sign_wrong" in browser.run(announced), "the announcement", REFRESHED)


@full
@needs_browser
def test_works_without_javascript(site, browser):
    browser.open(site.url)
    with browsing(javascript=False) as plain:
        plain.open(site.url)
        assert plain.run(PLOTTED, "hour") == SENT
        assert "Reload the page" in text_of(plain, "#freshness")
        assert "Reload the page" not in text_of(browser, "#freshness")
        for selector in ("h1", "#counts", "#causes", "#refused"):
            assert text_of(plain, selector) == text_of(browser, selector)
        headings = "return [...document.querySelectorAll('h1, h2, summary')].map(heading => heading.innerText)"
        assert plain.run(headings) == browser.run(headings)
        assert plain.messages() == []


# Look and accessibility

LUMINANCE = """
const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number);
return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255;
"""


@full
@needs_browser
def test_follows_the_color_scheme(site, browser):
    browser.open(site.url)
    assert browser.run(LUMINANCE) > 0.8
    browser.set_scheme("dark")
    assert browser.run(LUMINANCE) < 0.2


OVERFLOWING = """
const width = document.documentElement.clientWidth;
const scrolls = (element) => element && (getComputedStyle(element).overflowX !== "visible" || scrolls(element.parentElement));
return [...document.body.querySelectorAll("*")]
  .filter((element) => element.getBoundingClientRect().right > width + 0.5 && !scrolls(element.parentElement))
  .map((element) => element.outerHTML.slice(0, 80))
  .concat(document.documentElement.scrollWidth > width ? [`the page is ${document.documentElement.scrollWidth} px wide`] : []);
"""


@full
@needs_browser
@pytest.mark.parametrize("width", [320, 360, 768, 1920])
def test_never_scrolls_sideways(site, browser, width):
    browser.resize(width, 740)
    browser.open(site.url)
    open_sections(browser)
    assert browser.run(OVERFLOWING) == []


@full
@needs_browser
@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_is_accessible(site, fresh_site, browser, scheme, width):
    browser.set_scheme(scheme)
    browser.resize(width)
    for url in (site.url, fresh_site.url):
        browser.open(url)
        open_sections(browser)
        assert browser.faults() == []


FOCUSED = """
const element = document.activeElement, style = getComputedStyle(element);
const order = [...document.querySelectorAll("*")].indexOf(element);
return {order, body: element === document.body, name: element.outerHTML.slice(0, 80),
        visible: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2};
"""


@full
@needs_browser
@pytest.mark.parametrize("width", [360, 1200])
def test_can_be_used_with_the_keyboard(site, browser, width):
    browser.resize(width)
    browser.open(site.url)
    reached = []
    for _ in range(100):
        browser.press("Tab")
        focused = browser.run(FOCUSED)
        if focused["body"] or reached and focused["order"] <= reached[-1]:
            break
        assert focused["visible"], focused
        reached.append(focused["order"])
    expected = browser.run("""
        const all = [...document.querySelectorAll("*")];
        return all.filter((element) => element.matches("a[href], summary") ||
            (element.scrollWidth > element.clientWidth && getComputedStyle(element).overflowX === "auto"))
            .filter((element) => element.checkVisibility()).map((element) => all.indexOf(element));
        """)
    assert set(expected) <= set(reached)


@full
@needs_browser
def test_keyboard_opens_the_figures(site, browser):
    browser.open(site.url)
    browser.run("document.querySelector('summary').focus()")
    browser.press("Enter")
    eventually(lambda: browser.run("return document.querySelector('details').open"), "the section")
    assert "imcallbackd_callbacks_total" in text_of(browser, "details")


FAULTY = """<!DOCTYPE html><body style="background: white; color: #777; font-size: 11px">
<h1>One</h1><h3>Two</h3><svg></svg><table><tr><th>x</th></tr></table><a href="/" tabindex="2"></a><b id="a"></b><b id="a"></b>
"""


@full
@needs_browser
def test_the_audit_finds_faults(browser):
    browser.open("data:text/html;base64," + base64.b64encode(FAULTY.encode()).decode())
    faults = "\n".join(browser.faults())
    for words in ("contrast of 4.48", "font size of 11", "in no landmark", "role img", "skips a level", "without a scope",
                  "no language", "no title", "cannot be scaled", "one main", "id is used twice", "positive tabindex",
                  "link ", "has no name"):
        assert words in faults, faults
