"""``python -m itm_lightning`` is ``lightning``."""

if __name__ == "__main__":
    from itm_lightning.cli import main

    main()
