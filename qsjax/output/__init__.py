"""Results as files, folders and a page."""
