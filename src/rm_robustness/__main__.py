"""`python -m rm_robustness COMMAND`: the command line without its console script."""

from .cli.main import main

if __name__ == "__main__":
    main()
