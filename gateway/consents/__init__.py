"""Customer consents: their states, their pages, who may use what."""
