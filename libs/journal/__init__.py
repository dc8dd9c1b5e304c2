"""The journal: one append at a time under an expected sequence, and folding what others appended."""
