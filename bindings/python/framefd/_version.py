"""The version of the package, and of the library that it needs at least."""

VERSION = "0.1.0"
