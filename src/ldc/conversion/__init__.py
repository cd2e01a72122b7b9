"""Models in other formats, made into folders that LDC reads."""
