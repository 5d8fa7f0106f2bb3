"""`python -m fusegen` is `fusegen`, of this Python."""

from fusegen.cli import main

if __name__ == "__main__":
    main()
