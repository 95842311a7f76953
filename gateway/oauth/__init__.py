"""The authorization server: pushed requests, login and consent, tokens and what proves their sender."""
