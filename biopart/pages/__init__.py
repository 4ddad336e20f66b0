"""The one skin of all pages: a base template, macros, a stylesheet, and what fills them."""

from biopart.pages.rendering import BANNER, as_yaml, render, spelled, write_page

__all__ = ["BANNER", "as_yaml", "render", "spelled", "write_page"]
