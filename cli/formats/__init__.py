"""The report formats, their templates and the JSON schema."""
