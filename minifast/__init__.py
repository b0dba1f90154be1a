"""minifast: lesson 3 of fast.ai's 2019 course, rebuilt from scratch to be read in an afternoon.

Nothing is imported here: a lesson's own imports tell which file to open next.
"""

__version__ = "0.1.0"
