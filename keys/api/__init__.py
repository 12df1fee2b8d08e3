"""The REST API, version 1 (spec API): mounted under `/v1/`, for keys alone; a session never counts here."""
