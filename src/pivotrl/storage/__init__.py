"""Record files and folders that survive a kill."""
