"""Drives Debian's chromium through chromedriver, without a window and without any network but the loopback interface."""

import contextlib
import pathlib
import shutil
import tempfile

import pytest

try:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    MISSING = "" if shutil.which("chromium") and shutil.which("chromedriver") else "chromium and chromium-driver"
except ImportError:
    MISSING = "python3-selenium"

needs_browser = pytest.mark.skipif(bool(MISSING), reason=f"{MISSING} must be installed")
AUDIT = pathlib.Path(__file__).with_name("accessibility.js").read_text()
ARGUMENTS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
             "--disable-default-apps", "--force-color-profile=srgb", "--hide-scrollbars", "--lang=en",
             "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost")
NO_JAVASCRIPT = {"profile.managed_default_content_settings.javascript": 2}
NEEDS_A_NAME = {"image", "link", "button", "DisclosureTriangle", "heading", "table", "region", "textbox", "checkbox"}


class Browser:
    """A browser with one open page. The methods that run scripts also work with javascript=False, which stops only the
    scripts of the page."""

    def __init__(self, javascript=True):
        self.directory = tempfile.mkdtemp(prefix="imcb-browser-")
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for argument in (*ARGUMENTS, f"--user-data-dir={self.directory}"):
            options.add_argument(argument)
        if not javascript:
            options.add_experimental_option("prefs", NO_JAVASCRIPT)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        self.resize(1200)

    def destroy(self):
        self.driver.quit()
        shutil.rmtree(self.directory, ignore_errors=True)

    def open(self, url):
        self.driver.get(url)
        return self

    def run(self, script, *arguments):
        """Returns the value of the script."""
        return self.driver.execute_script(script, *arguments)

    def command(self, name, **parameters):
        """Runs a command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def resize(self, width, height=900, scale=1):
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale,
                     mobile=False)

    def set_scheme(self, scheme):
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def messages(self):
        """Returns the messages in the console since the last call. A violation of the page's policy is one of them."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def press(self, *keys):
        """Presses keys with this name, such as Tab, in the page."""
        for key in keys:
            code = {"Tab": 9, "Enter": 13}[key]
            for kind in ("keyDown", "keyUp"):
                self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                             **({"text": "\r"} if key == "Enter" and kind == "keyDown" else {}))

    def faults(self):
        """Returns a sentence for each fault of accessibility in the page as it is shown now."""
        return self.run(f"return (\n{AUDIT})") + self._unnamed()

    def _unnamed(self):
        """Asks for the names that a screen reader gets, and returns the nodes that need a name and have none."""
        nodes = self.command("Accessibility.getFullAXTree")["nodes"]
        return [f"{node['role']['value']} {node.get('backendDOMNodeId')} has no name" for node in nodes
                if not node["ignored"] and node["role"]["value"] in NEEDS_A_NAME
                and not node.get("name", {}).get("value", "").strip()]

    def screenshot(self):
        """Returns a PNG of the visible part of the page."""
        return self.driver.get_screenshot_as_png()


@contextlib.contextmanager
def browsing(**options):
    browser = Browser(**options)
    try:
        yield browser
    finally:
        browser.destroy()
