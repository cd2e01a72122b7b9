"""The commands of the command line. Each imports its backend when called, so that help and planning stay fast."""
