__version__ = "0.1.0"
import sys

if sys.argv[:1] == ["-m"]:   # `python -m attnattack.x`: letters that the terminal lacks become question marks
    for stream in (sys.stdout, sys.stderr): stream.reconfigure(errors="replace")
