"""What the page shows, made by pure functions: pictures, HTML, tables."""
