"""Results for people: tables, figures and a self-contained page."""
