"""`python -m services.scheduler`."""

from libs.runtime.imports import preload

if __name__ == "__main__":
    preload()

    from libs.runtime.process import main
    from services.scheduler.service import lifespan

    main("scheduler", lifespan)
