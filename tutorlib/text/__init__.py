"""Text to numbers and back: characters, byte-level byte-pair encoding, WordPiece."""
