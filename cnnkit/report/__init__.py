"""What a person sees: tables for the terminal, pictures, the live view of a training. No torch here."""
