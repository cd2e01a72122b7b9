"""The study file: its records, its reader, and the example that `ldc init` writes."""
