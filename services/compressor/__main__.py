"""`python -m services.compressor`."""

from libs.runtime.imports import preload

if __name__ == "__main__":
    preload()

    from libs.runtime.process import main
    from services.compressor.service import lifespan

    main("compressor", lifespan)
