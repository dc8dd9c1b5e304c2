"""`python -m services.registry`."""

from libs.runtime.imports import preload

if __name__ == "__main__":
    preload()

    from libs.runtime.process import main
    from services.registry.service import lifespan

    main("registry", lifespan)
