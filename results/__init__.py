"""Records of training, their statistics, and the leaderboards made from them.

Imports neither torch nor any other package of this project, so that a report can be made wherever records lie.
"""
