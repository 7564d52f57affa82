"""Configuration of the documentation site, on top of Rubin Observatory's own (documenteer). Nothing is downloaded."""

import sys
import warnings
from pathlib import Path

from documenteer.conf.guide import *
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

import api_documents

# The theme calls what Sphinx 9 will remove.
warnings.filterwarnings("ignore", module="pydata_sphinx_theme")

# Of documenteer's extensions only those that are used.
extensions = ["myst_parser", "sphinx_click", "sphinx_copybutton", "sphinx_design"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

html_theme_options["navbar_end"] = ["theme-switcher"]
html_theme_options["footer_items"] = ["copyright"]
html_static_path.append("_static/autoingest.css")
html_css_files.append("autoingest.css")


def setup(app: Sphinx) -> None:
    """Render the descriptions of the interfaces where a page asks for them."""
    renderers = {"<!-- openapi -->": api_documents.render_requests, "<!-- asyncapi -->": api_documents.render_events}

    def render(app: Sphinx, page: str, source: list[str]) -> None:
        for mark, renderer in renderers.items():
            if mark in source[0]:
                source[0] = source[0].replace(mark, renderer())

    app.connect("source-read", render)
