"""One module a report format, with its templates and schema."""
