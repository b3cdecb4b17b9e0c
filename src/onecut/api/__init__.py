"""HTTP in the EVS dialect. No rule lives here."""
