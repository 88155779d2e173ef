"""``python -m two_stream``: the command ``two-stream`` where it isn't installed."""

from two_stream.cli import main

if __name__ == "__main__":
    main()
