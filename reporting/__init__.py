"""Reports: run directories in, comparisons of arms out, with what they can and cannot tell.

`runs` reads directories, `statistics` knows intervals, `summary` compares the arms of a study; `figures` and `page`
show it. Nothing here trains, and what a directory holds is taken as data only.
"""
