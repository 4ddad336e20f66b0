"""Questions to a frozen encoder."""
