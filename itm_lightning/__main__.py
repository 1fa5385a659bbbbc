"""``python -m itm_lightning`` is ``lightning``."""

import sys

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the current folder; main puts it last, so that it shadows no package
    from itm_lightning.cli import main

    main()
