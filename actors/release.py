"""The project's name and version, for the package's metadata (setup.cfg reads it here), the daemon and the command line.

Not asked of the installed metadata: reading that takes milliseconds, and after an upgrade it would be the next daemon's.
"""

from __future__ import annotations

from typing import Final

NAME: Final = "shimyard"
VERSION: Final = "0.1.0"
