"""Reads the examples in README.md, README.zh-CN.md and the manual pages, for the tests that run these examples. An
example is a block of code: commands, a configuration or SQL."""

import pathlib
import re
import textwrap

TOP = pathlib.Path(__file__).resolve().parents[2]
READMES = (TOP / "README.md", TOP / "README.zh-CN.md")
PAGES = sorted((TOP / "src").rglob("*.[578]"))


def read(name):
    """Returns the text of a README or of a manual page."""
    (path,) = [path for path in (*READMES, *PAGES) if path.name == name]
    return path.read_text()


def literal(text):
    """Returns the literal blocks of a manual page or of a part of one."""
    found = re.findall(r"(?ms)^\.Bd -literal.*?\n(.*?)^\.Ed$", text)
    return [example.replace(r"\e", "\\") for example in found]


def examples(name, language=r"\w+"):
    """Returns the examples of a README in one language, or all examples of a manual page."""
    text = read(name)
    if name.endswith(".md"):
        return [textwrap.dedent(example) for example in re.findall(rf"(?m)^ *```{language}\n((?:.*\n)*?) *```$", text)]
    return literal(text)


def example(name, words):
    """Returns the only example of this document that contains these words."""
    found = [text for text in examples(name) if words in text]
    assert len(found) == 1, (name, words, found)
    return found[0]
