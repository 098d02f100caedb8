"""The records that every law takes, their fields' facts, and the checks of what users give."""
