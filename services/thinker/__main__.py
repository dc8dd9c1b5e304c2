"""`python -m services.thinker`."""

from libs.runtime.imports import preload

if __name__ == "__main__":
    preload()

    from libs.runtime.process import main
    from services.thinker.service import lifespan

    main("thinker", lifespan)
