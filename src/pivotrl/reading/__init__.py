"""Parts shared by readers, and the steps of every import."""
