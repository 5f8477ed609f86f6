"""HTTP API, dashboard, supervisor, CLI."""
