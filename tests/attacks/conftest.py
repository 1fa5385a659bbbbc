"""Fixtures of the attacks."""

from tests.layouts import hub_cache  # noqa: F401
