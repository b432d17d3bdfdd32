"""Where images come from: files, folders, URLs, ignore rules."""
