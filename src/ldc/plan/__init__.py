"""From a study to its runs, their keys and the banks they share. Pure: no torch, no model, no text is touched."""
