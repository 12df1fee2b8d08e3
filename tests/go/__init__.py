"""The Go project's own code as the judge of our notes and proofs."""
