"""``python -m services.cli`` is ``so101``."""

from services.cli import app

app(prog_name="so101")
