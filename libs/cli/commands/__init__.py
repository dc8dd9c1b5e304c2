"""The commands, by what they are about. Each takes `--json`; each error says the cause and the cure."""
