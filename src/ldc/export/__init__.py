"""The selected layers of a study as a configuration for the trainer that a user already has."""
