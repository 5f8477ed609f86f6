"""Looking at recorded episodes: a self-contained HTML page, or Rerun."""
