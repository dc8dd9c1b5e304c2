"""`perpetua up`: an embedded broker and the five services as separate processes, kept alive."""
