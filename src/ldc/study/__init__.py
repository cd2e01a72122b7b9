"""The study file: records, reading, and the example that `ldc init` writes."""
