"""What a study needs from elsewhere: whether it is here, whether it is available, and how to fetch it."""
