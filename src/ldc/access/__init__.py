"""What a study needs from elsewhere: whether it is here, whether it may be had, and how it comes to the cache."""
