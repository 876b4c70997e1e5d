"""What the page shows, made by pure functions: JPEG, HTML, tables."""
