"""Output for people: tables for the terminal, pictures, pages and the live view of a training. No torch here."""
