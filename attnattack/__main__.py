"`python -m attnattack` and `accelerate launch -m attnattack` are the command"
import sys
from attnattack.cli import main

if __name__ == "__main__": sys.exit(main())
