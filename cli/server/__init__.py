"""The HTTP server of `aidetect serve`: the cloud API that existing clients speak, and an API of its own."""
