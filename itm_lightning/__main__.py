"""``python -m itm_lightning`` is ``lightning``."""

from itm_lightning.cli import main

if __name__ == "__main__":
    main()
