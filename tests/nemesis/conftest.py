"""Lets the tests of the nemesis import the helpers of the end-to-end tests."""

import pathlib
import sys

sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))
