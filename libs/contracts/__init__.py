"""What crosses a process boundary: structs, subjects, streams and limits. Imports nothing of ours."""
