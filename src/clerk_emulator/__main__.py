"""Run the command line with `python -m clerk_emulator`."""

from clerk_emulator.cli import main

if __name__ == "__main__":
    main()
