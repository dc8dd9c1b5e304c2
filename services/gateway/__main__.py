"""`python -m services.gateway`."""

from libs.runtime.imports import preload

if __name__ == "__main__":
    preload()

    from libs.runtime.process import main
    from services.gateway.service import lifespan

    main("gateway", lifespan)
