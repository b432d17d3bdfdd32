"""Where images come from: files, folders, addresses, ignore rules."""
