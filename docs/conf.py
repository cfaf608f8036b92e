"""How the site is built: `uv run --group docs sphinx-build -W docs docs/_build`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import bayescale

project = "bayescale"
author = "The bayescale developers"
copyright = author
version = release = bayescale.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "bayescale_pages"]
exclude_patterns = ["_build", "jupyter_execute"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

html_theme = "furo"
html_title = "bayescale"
html_static_path = ["_static"]
html_show_sourcelink = False

myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Notebooks are committed without outputs: what the pages show was computed by this build.
nb_execution_mode = "auto"
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"  # warnings of optional packages, with the paths of whoever built the site

# Docstrings name code in single backticks.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True
