"""Fixtures of the sources' tests."""

from tests.layouts import hub_cache  # noqa: F401
