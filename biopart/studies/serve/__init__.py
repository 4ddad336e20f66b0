"""A local page: drop a recording, see its night, take the files."""

from biopart.studies.serve.app import make_app
from biopart.studies.serve.jobs import Jobs
from biopart.studies.serve.server import serve

__all__ = ["Jobs", "make_app", "serve"]
