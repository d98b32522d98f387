"""NOUNS: frozen values that every other room speaks about. No behaviour beyond derivation."""
